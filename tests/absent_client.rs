//! What waits for a client that is away: up to a number and a size, the first ones first.

mod common;

use common::*;

#[test]
fn messages_for_an_absent_client_are_bounded_by_number() {
    each_broker_with(&["--max-queued-messages", "20", "--sys-interval", "1"], |broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 1);
        subscriber.disconnect();
        let mut publisher = broker.connect("pub");
        for n in 0..50_u8 {
            publisher.publish("t", [n], 1);
        }
        broker.sys().await_value("dropped/queue_full", 30);
        let (mut subscriber, _) = broker.resume("sub");
        for n in 0..20_u8 {
            subscriber.expect_message("t", [n], 1);
        }
        subscriber.expect_silence();
    });
}

#[test]
fn messages_for_an_absent_client_are_bounded_by_bytes() {
    each_broker_with(&["--max-queued-bytes", "100000"], |broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 1);
        subscriber.disconnect();
        let mut publisher = broker.connect("pub");
        for n in 0..40_u8 {
            publisher.publish("t", [n; 9_000], 1);
        }
        // What arrives on the same shard behind them shows that all of them were looked at.
        let mut neighbour = broker.connect(&broker.id_on(0, "neighbour"));
        neighbour.subscribe("behind", 0);
        publisher.publish("behind", "x", 0);
        neighbour.expect_message("behind", "x", 0);
        let (mut subscriber, _) = broker.resume("sub");
        let mut kept = 0;
        while let Some(Some(Packet::Publish(got))) = subscriber.recv_within(QUIET) {
            assert!(got.payload == [kept; 9_000], "{got:?}");
            subscriber.acknowledge(&got);
            kept += 1;
        }
        assert!((10..=11).contains(&kept), "{kept} messages of 9,001 bytes in 100,000");
    });
}
