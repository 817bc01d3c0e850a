//! Takes the inboxes between shards (`src/runtime/mesh.rs`) and what wakes a shard (`src/runtime/doorbell.rs`) through
//! every order of events that C++11's memory model allows: nobody may sleep while there is work for them.
//!
//! ```sh
//! cargo run --manifest-path tests/models/Cargo.toml      # some ten seconds; exit status 101 if a model fails
//! ```
//! The files are the broker's own; only the parts below them (`sync`) are the checker's. A shard that sleeps for ever
//! is a deadlock to it, and it prints the order of events that led there. Threads are preempted a bounded number of times
//! ([`PREEMPTIONS`]), which finds what is known of such faults at a cost that does not explode. Two of the models have
//! their fences taken away, to show that the checker notices.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Plain, Ordering::SeqCst};
use std::time::Instant;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use ringmq_shard::shard::ShardId;

#[path = "../../../src/runtime/doorbell.rs"]
mod doorbell;
#[path = "../../../src/runtime/mesh.rs"]
#[expect(dead_code, reason = "the files are whole; a model uses of them what it is about")]
mod mesh;
mod sync;

use doorbell::Doorbell;
use mesh::{Mesh, Port};

fn main() {
    check("a ring ends the sleep", || rings(1));
    check("two rings end the sleep", || rings(2));
    check("batches wake their reader", batches);
    check("what the process says wakes a shard", control);
    check("a full inbox lets its filler go on", full_inbox);
    check("two shards fill each other's inboxes", both_full);
    must_fail("a ring ends the sleep, without fences", || rings(1));
    must_fail("a full inbox lets its filler go on, without fences", full_inbox);
}

/// Work appears, with nothing but the bell to order it, and the sleeper finds it.
fn rings(ringers: usize) {
    let bell = Arc::new(Doorbell::new().unwrap());
    let work: Arc<Vec<AtomicBool>> = Arc::new((0..ringers).map(|_| AtomicBool::new(false)).collect());
    let threads: Vec<_> = (0..ringers)
        .map(|n| {
            let (bell, work) = (Arc::clone(&bell), Arc::clone(&work));
            thread::spawn(move || {
                work[n].store(true, Ordering::Relaxed);
                bell.ring();
            })
        })
        .collect();
    let all_is_there = || work.iter().all(|work| work.load(Ordering::Relaxed));
    while !all_is_there() {
        bell.about_to_sleep();
        if all_is_there() {
            bell.awake();
            break;
        }
        bell.descriptor().sleep();
        bell.awake();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(bell.descriptor().sounded() <= ringers, "a ring wakes once at most");
}

/// One shard sends, the other takes and sleeps in between; nothing is lost and the order stays.
fn batches() {
    let mesh = Mesh::<u32, ()>::new(2).unwrap();
    let mut sender = mesh.port(ShardId(0));
    let reader = thread::spawn({
        let mut port = mesh.port(ShardId(1));
        move || {
            for expected in 0..2 {
                assert_eq!(next(&mut port), expected);
            }
            assert_eq!(port.depth(), 0);
        }
    });
    sender.send(ShardId(1), 1, 0);
    sender.send(ShardId(1), 1, 1);
    reader.join().unwrap();
}

/// A peer and the process bring work at once.
fn control() {
    let mesh = Mesh::<u32, u32>::new(2).unwrap();
    let process = thread::spawn({
        let mesh = Arc::clone(&mesh);
        move || mesh.control(ShardId(1), 7)
    });
    let peer = thread::spawn({
        let mut port = mesh.port(ShardId(0));
        move || port.send(ShardId(1), 1, 5)
    });
    let mut port = mesh.port(ShardId(1));
    let mut got = (None, None);
    while got != (Some(5), Some(7)) {
        let found = (port.receive(), port.receive_control());
        got = (got.0.or(found.0), got.1.or(found.1));
        if found == (None, None) {
            rest(&mut port);
        }
    }
    process.join().unwrap();
    peer.join().unwrap();
}

/// A shard that may not read for an inbox over its mark sleeps, and goes on once that is empty.
fn full_inbox() {
    let mesh = Mesh::<u32, ()>::new(2).unwrap();
    let filler = thread::spawn({
        let mut port = mesh.port(ShardId(0));
        move || {
            port.send(ShardId(1), OVER_THE_MARK, 1);
            while !port.may_read() {
                rest(&mut port);
            }
        }
    });
    assert_eq!(next(&mut mesh.port(ShardId(1))), 1);
    filler.join().unwrap();
}

/// Both are over their marks, and both go on taking.
fn both_full() {
    let mesh = Mesh::<u32, ()>::new(2).unwrap();
    let shard = |own: u16, other: u16| {
        let mut port = mesh.port(ShardId(own));
        move || {
            port.send(ShardId(other), OVER_THE_MARK, 1);
            let mut got = None;
            while got.is_none() || !port.may_read() {
                let found = port.receive();
                if found.is_none() {
                    rest(&mut port);
                }
                got = got.or(found);
            }
        }
    };
    let other = thread::spawn(shard(1, 0));
    shard(0, 1)();
    other.join().unwrap();
}

fn next<C>(port: &mut Port<u32, C>) -> u32 {
    loop {
        if let Some(batch) = port.receive() {
            return batch;
        }
        rest(port);
    }
}

/// As a shard's turns do when they found nothing.
fn rest<T, C>(port: &mut Port<T, C>) {
    if port.may_sleep() {
        port.bell().descriptor().sleep();
        port.bell().awake();
    }
}

fn check(name: &str, model: impl Fn() + Sync + Send + 'static) {
    // Only those whose names contain the argument.
    if std::env::args().nth(1).is_some_and(|part| !name.contains(&part)) {
        return;
    }
    let begun = Instant::now();
    let orders = explore(model);
    println!("ok    {name}: {orders} orders, {:.1} s", begun.elapsed().as_secs_f32());
}

fn must_fail(name: &str, model: impl Fn() + Sync + Send + 'static) {
    sync::FENCES.set(false);
    let failed = catch_unwind(AssertUnwindSafe(|| explore(model))).is_err();
    sync::FENCES.set(true);
    assert!(failed, "not noticed: {name}");
    println!("ok    {name}: noticed");
}

/// The number of orders that the model was taken through.
fn explore(model: impl Fn() + Sync + Send + 'static) -> usize {
    let orders = Arc::new(Plain::new(0));
    let counted = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, SeqCst);
        model();
    });
    orders.load(SeqCst)
}

/// Times that one order may take a thread away from its core where it did not wait.
const PREEMPTIONS: usize = 4;
/// More than any inbox holds before its fillers stop reading.
const OVER_THE_MARK: usize = 1 << 20;
