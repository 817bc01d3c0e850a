//! How fast one client may publish: slowed first, closed last, and nobody else notices.

mod common;

use std::time::{Duration, Instant};

use common::*;

/// `count` messages, sent at once.
fn burst(client: &mut Client, topic: &str, payload: &str, count: u16) {
    let bytes: Vec<u8> = (1..=count)
        .flat_map(|id| publish(topic, format!("{id}{payload}")).qos(1, id).encode())
        .collect();
    client.send(bytes);
}

#[test]
fn what_comes_too_fast_waits_and_arrives() {
    let flags = ["--max-publish-rate", "10", "--sys-interval", "1"];
    on_shards(&[1, 2, 3], &flags, |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let mut fast = broker.connect("fast");
        let mut other = broker.connect("other");
        let start = Instant::now();
        burst(&mut fast, "t", "", 40);
        // Nobody else waits, neither for what they do nor for what they get.
        other.publish("u", "x", 1);
        other.ping();
        for id in 1..=40 {
            subscriber.expect_message("t", id.to_string(), 1);
        }
        // Ten came at once and one was paid for later: 2.9 s on the broker's clock, which it looks at once in a turn and may so have
        // looked at before the burst was sent. An upper bound would be the machine's.
        assert!(start.elapsed() >= Duration::from_millis(2_500), "{:?}", start.elapsed());
        for id in 1..=40 {
            fast.expect(&Packet::Puback(id));
        }
        fast.ping();
        broker.sys().await_that("publishers/rate_limited", |times| times > 0);
    });
}

#[test]
fn bytes_have_a_rate_of_their_own() {
    each_broker_with(&["--max-publish-bytes-rate", "100000"], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let mut fast = broker.connect("fast");
        let payload = "x".repeat(50_000);
        let start = Instant::now();
        burst(&mut fast, "t", &payload, 6);
        for id in 1..=6 {
            subscriber.expect_message("t", format!("{id}{payload}"), 1);
        }
        // Two came at once and one was paid for later.
        assert!(start.elapsed() >= Duration::from_millis(1_200), "{:?}", start.elapsed());
    });
}

#[test]
fn who_is_too_fast_for_too_long_is_closed() {
    let flags = [
        "--max-publish-rate",
        "10",
        "--publish-rate-timeout",
        "1",
        "--sys-interval",
        "1",
    ];
    on_shards(&[1, 3], &flags, |broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", 1);
        let connect = Connect::new("eager").will(publish("will", "gone").qos(1, 0));
        let (mut eager, _) = broker.connect_as(&connect);
        let mut calm = broker.connect("calm");
        burst(&mut eager, "t", "", 1_000);
        for n in 0..10_u8 {
            calm.publish("u", [n], 1);
        }
        watcher.expect_message("will", "gone", 1);
        let line = broker.await_log(|line| line.contains("reason=\"rate_exceeded\""));
        assert!(line.contains("client=\"eager\""), "{line}");
        // What was acknowledged before the end can be read.
        eager.expect(&Packet::Puback(1));
        calm.ping();
        broker.sys().await_value("connections/limited", 1);
    });
}
