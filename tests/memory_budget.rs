//! `--max-memory`: what waits for all clients together is bounded, publishers are slowed first, and what is shed is counted.

mod common;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;

const MIB: u64 = 1024 * 1024;
const BUDGET_MIB: u64 = 24;

/// Twenty publishers flood ten subscribers that read nothing, each of which may hold 68 MiB by its own limits.
#[test]
fn flood_to_stopped_subscribers_stays_within_the_budget_and_harms_nobody_else() {
    let budget = (BUDGET_MIB * MIB).to_string();
    for qos in [0, 1] {
        let flags = ["--max-memory", &budget, "--sys-interval", "1"];
        attack(&flags, |broker| flood(broker, qos));
    }
}

fn flood(broker: &Broker, qos: u8) {
    let mut sys = broker.sys_only(&["memory/bytes", "publishers/slowed", "dropped/memory_full"]);
    let stopped: Vec<Client> = (0..10)
        .map(|n| {
            let mut client = broker.connect(&format!("stopped{n}"));
            client.subscribe("flood", qos);
            client
        })
        .collect();
    let before = broker.rss_bytes();
    let mut most = 0;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for n in 0..20 {
            let mut publisher = broker.connect(&format!("loud{n}")).into_stream();
            let mut acknowledgements = publisher.try_clone().expect("a descriptor is left");
            let over = &over;
            scope.spawn(move || {
                let packet = publish("flood", vec![b'x'; 4_000]).qos(qos, 1).encode();
                publisher
                    .set_write_timeout(Some(Duration::from_millis(100)))
                    .expect("not zero");
                // What a time-out leaves unwritten of a packet would make the rest of the stream nonsense.
                let mut rest = &packet[..];
                while !over.load(Ordering::Relaxed) {
                    match publisher.write(rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(error) => assert!(is_time_out(&error), "a publisher is closed: {error}"),
                    }
                    if rest.is_empty() {
                        rest = &packet;
                    }
                }
            });
            scope.spawn(move || {
                acknowledgements
                    .set_read_timeout(Some(Duration::from_millis(100)))
                    .expect("not zero");
                while !over.load(Ordering::Relaxed) {
                    let _ = acknowledgements.read(&mut [0; 4_096]);
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(6);
        while Instant::now() < until {
            most = most.max(broker.rss_bytes());
            thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
    });
    // Beside the budget: what is under way between shards, reads, spare buffers and what the allocator keeps.
    let grown = most.saturating_sub(before);
    assert!(grown < (BUDGET_MIB + BUDGET_MIB / 2 + 24) * MIB, "{} MiB", grown / MIB);
    sys.await_that("publishers/slowed", |times| times > 0);
    sys.await_that("dropped/memory_full", |messages| messages > 0);
    assert!(sys.get("memory/bytes") <= BUDGET_MIB * MIB);
    drop(stopped);
    // $SYS itself and the control clients have something under way now and then.
    sys.await_that("memory/bytes", |bytes| bytes < 64 * 1024);
}

fn is_time_out(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}
