//! A subscriber that stops reading or acknowledging: what it gets, by the operator's choice, and what nobody else notices.

mod common;

use std::time::{Duration, Instant};

use common::wire;
use common::*;

/// A small window and a small queue: the first two of a burst are in flight, four wait, the rest is too much.
const SMALL: [&str; 6] = [
    "--max-inflight",
    "2",
    "--max-queued-messages",
    "4",
    "--sys-interval",
    "1",
];

#[test]
fn drop_newest_keeps_what_came_first() {
    // The default.
    on_shards(&[1, 2, 3], &SMALL, |broker| {
        for qos in [1, 2] {
            let mut slow = broker.connect("sub");
            slow.subscribe("t", qos);
            publish_numbers(broker, 0..10, qos);
            // In the first round, and only then, four of them were dropped, and so on.
            broker.sys().await_value("dropped/queue_full", u64::from(qos) * 4);
            for n in 0..6_u8 {
                slow.expect_message("t", [n], qos);
            }
            publish_numbers(broker, 10..11, qos);
            slow.expect_message("t", [10], qos);
            slow.expect_silence();
            slow.disconnect();
        }
    });
}

#[test]
fn drop_oldest_keeps_what_came_last() {
    on_shards(&[1, 2, 3], &with(&["--slow-subscriber", "drop-oldest"]), |broker| {
        let mut slow = broker.connect("sub");
        slow.subscribe("t", 1);
        publish_numbers(broker, 0..10, 1);
        broker.sys().await_value("dropped/queue_full", 4);
        // What is in flight was sent and stays.
        for n in [0, 1, 6, 7, 8, 9_u8] {
            slow.expect_message("t", [n], 1);
        }
        publish_numbers(broker, 10..11, 1);
        slow.expect_message("t", [10], 1);
        slow.expect_silence();
    });
}

#[test]
fn disconnect_ends_the_connection_and_the_session_goes_on() {
    on_shards(&[1, 2, 3], &with(&["--slow-subscriber", "disconnect"]), |broker| {
        let (mut slow, _) = broker.resume("sub");
        slow.subscribe("t", 1);
        publish_numbers(broker, 0..6, 1);
        // So far it is within its limits.
        assert_eq!(slow.recv_publish().payload, [0]);
        assert_eq!(slow.recv_publish().payload, [1]);
        slow.expect_silence();
        publish_numbers(broker, 6..8, 1);
        slow.expect_close();
        let line = broker.await_log(|line| line.contains("reason=\"slow_subscriber\""));
        assert!(line.contains("client=\"sub\""), "{line}");
        assert!(line.contains(&format!("peer={}", slow.local_addr())), "{line}");

        // 6 found the queue full, and so did 7, when nobody was there to disconnect.
        let mut sys = broker.sys();
        sys.await_value("dropped/queue_full", 2);
        sys.await_value("clients/disconnected", 1);
        let (mut back, session_present) = broker.resume("sub");
        assert!(session_present);
        for n in 0..2_u8 {
            let got = back.recv_publish();
            assert_eq!((&got.payload[..], got.dup), (&[n][..], true));
            back.acknowledge(&got);
        }
        for n in 2..6_u8 {
            back.expect_message("t", [n], 1);
        }
        back.ping();
        publish_numbers(broker, 8..9, 1);
        back.expect_message("t", [8], 1);
        back.expect_silence();
    });
}

#[test]
fn disconnect_ends_a_clean_session_for_good() {
    on_shards(&[1, 2], &with(&["--slow-subscriber", "disconnect"]), |broker| {
        let mut slow = broker.connect("sub");
        slow.subscribe("t", 1);
        publish_numbers(broker, 0..7, 1);
        for n in 0..2_u8 {
            assert_eq!(slow.recv_publish().payload, [n]);
        }
        slow.expect_close();
        let (mut back, session_present) = broker.resume("sub");
        assert!(!session_present);
        back.expect_silence();
        // The one that was too much, and then all that the session held.
        let mut sys = broker.sys();
        sys.await_value("dropped/queue_full", 1);
        sys.await_value("dropped/session_ended", 6);
    });
}

#[test]
fn backpressure_stops_the_publisher_and_loses_nothing() {
    let flags = with(&["--slow-subscriber", "backpressure", "--backpressure-timeout", "3600"]);
    on_shards(&[1, 2, 3], &flags, |broker| {
        let mut slow = broker.connect("sub");
        slow.subscribe("t", 1);
        let mut witness = broker.connect("witness");
        witness.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        // As many as it takes: two in flight, and half of the queue.
        send_numbers(&mut publisher, 0..4);
        for n in 0..4_u8 {
            witness.expect_message("t", [n], 1);
        }
        let mut acknowledged = await_held(&mut publisher);
        send_numbers(&mut publisher, 4..40);
        publisher.send(PINGREQ);

        // Who publishes to others is read all the while.
        let mut other = broker.connect(&broker.id_on(broker.shards - 1, "other"));
        let mut listener = broker.connect(&broker.id_on(0, "listener"));
        listener.subscribe("o", 1);
        for n in 0..20_u8 {
            other.publish("o", [n], 1);
            listener.expect_message("o", [n], 1);
        }
        assert_eq!(publisher.recv_within(QUIET), None, "from a connection that is not read");

        for n in 0..40_u8 {
            slow.expect_message("t", [n], 1);
            if n >= 4 {
                witness.expect_message("t", [n], 1);
            }
        }
        let mut answered = 0;
        while acknowledged < 40 || answered < 1 {
            match publisher.recv() {
                Packet::Puback(_) => acknowledged += 1,
                Packet::Pingresp => answered += 1,
                other => panic!("{other:?}"),
            }
        }
        publisher.drain();
        publish_numbers(broker, 40..41, 1);
        slow.expect_message("t", [40], 1);
        slow.expect_silence();
        let mut sys = broker.sys();
        sys.settle();
        assert_eq!(sys.get("publish/messages/dropped"), 0);
    });
}

#[test]
fn backpressure_ends_with_the_patience() {
    let flags = with(&["--slow-subscriber", "backpressure", "--backpressure-timeout", "2"]);
    on_shards(&[1, 2, 3], &flags, |broker| {
        let (mut slow, _) = broker.resume("sub");
        slow.subscribe("t", 1);
        let mut witness = broker.connect("witness");
        witness.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        // The queue is at its mark and not full: another policy would do nothing at all.
        send_numbers(&mut publisher, 0..4);
        publisher.send(PINGREQ);
        for n in 0..4_u8 {
            witness.expect_message("t", [n], 1);
        }
        for n in 0..2_u8 {
            assert_eq!(slow.recv_publish().payload, [n]);
        }
        slow.expect_close();
        let line = broker.await_log(|line| line.contains("reason=\"slow_subscriber\""));
        assert!(line.contains("client=\"sub\""), "{line}");

        // The publisher is read again, and the session goes on as an offline one.
        publisher.drain();
        send_numbers(&mut publisher, 4..6);
        publisher.drain();
        for n in 4..6_u8 {
            witness.expect_message("t", [n], 1);
        }
        let (mut back, session_present) = broker.resume("sub");
        assert!(session_present);
        for n in 0..6_u8 {
            let got = back.recv_publish();
            assert_eq!((&got.payload[..], got.dup), (&[n][..], n < 2));
            back.acknowledge(&got);
        }
        back.expect_silence();
        let mut sys = broker.sys();
        sys.settle();
        assert_eq!(sys.get("publish/messages/dropped"), 0);
    });
}

/// Each QoS 0 message is either delivered, in order, or counted; QoS 1 waits, and comes as soon as the client reads.
#[test]
fn client_that_does_not_read_loses_qos_0_only() {
    let flags = [
        "--max-output-bytes",
        "20000",
        "--write-timeout",
        "3600",
        "--sys-interval",
        "1",
    ];
    on_shards(&[1, 2, 3], &flags, |broker| {
        let mut slow = broker.connect("sub");
        slow.subscribe("t/#", 1);
        let mut witnesses = witnesses(broker, "t/#");
        let mut publisher = broker.connect("pub");
        let mut sys = broker.sys_only(&["uptime", "dropped/output_full", "publish/messages/dropped"]);
        let deadline = Instant::now() + PATIENCE * 3;
        let mut sent = 0_u32;
        // The system's own buffers come first, and how much they take is its own affair.
        loop {
            assert!(Instant::now() < deadline, "nothing is dropped after {sent} messages");
            for _ in 0..60 {
                let payload = numbered(sent);
                publisher.publish("t/0", &payload, 0);
                sent += 1;
                for witness in &mut witnesses {
                    witness.expect_message("t/0", &payload, 0);
                }
            }
            sys.settle();
            if sys.get("dropped/output_full") > 0 {
                break;
            }
        }
        for n in 0..3_u8 {
            publisher.publish("t/1", [n], 1);
            for witness in &mut witnesses {
                witness.expect_message("t/1", [n], 1);
            }
        }
        sys.settle();
        let dropped = sys.get("dropped/output_full");
        assert_eq!(sys.get("publish/messages/dropped"), dropped);

        let (mut received, mut last, mut kept) = (0, None, 0_u8);
        while kept < 3 {
            let got = slow.recv_publish();
            if got.topic == "t/1" {
                assert_eq!(got.payload, [kept]);
                kept += 1;
            } else {
                let number = u32::from_be_bytes(*got.payload.first_chunk().expect("a number"));
                assert!(last < Some(number), "{number} after {last:?}");
                assert_eq!(got.payload, numbered(number));
                last = Some(number);
                received += 1;
            }
            slow.acknowledge(&got);
        }
        assert_eq!(received + dropped, u64::from(sent));
        slow.expect_silence();
        publisher.publish("t/0", "again", 0);
        slow.expect_message("t/0", "again", 0);
    });
}

fn with<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], flags].concat()
}

/// A subscriber on every shard.
fn witnesses(broker: &Broker, filter: &str) -> Vec<Client> {
    (0..broker.shards)
        .map(|shard| {
            let mut witness = broker.connect(&broker.id_on(shard, "witness"));
            witness.subscribe(filter, 2);
            witness
        })
        .collect()
}

/// Publishes each number by itself. A subscriber on every shard sees it before the next: then every other session of
/// its shard was given it too.
fn publish_numbers(broker: &Broker, numbers: std::ops::Range<u8>, qos: u8) {
    let mut witnesses = witnesses(broker, "t");
    let mut publisher = broker.connect("pub");
    for n in numbers {
        publisher.publish("t", [n], qos);
        for witness in &mut witnesses {
            witness.expect_message("t", [n], qos);
        }
    }
    for client in witnesses.into_iter().chain([publisher]) {
        client.disconnect();
    }
}

/// Sends each number to `t` with QoS 1, and waits for nothing.
fn send_numbers(publisher: &mut Client, numbers: std::ops::Range<u8>) {
    for n in numbers {
        let id = publisher.fresh_id();
        publisher.send(publish("t", [n]).qos(1, id).encode());
    }
}

/// Waits until the broker no longer reads from this publisher; gives the number of PUBACK until then.
fn await_held(publisher: &mut Client) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    let mut acknowledged = 0;
    loop {
        assert!(Instant::now() < deadline, "the publisher is still read");
        publisher.send(wire::PINGREQ);
        loop {
            match publisher.recv_within(Duration::from_secs(1)) {
                Some(Some(Packet::Puback(_))) => acknowledged += 1,
                Some(Some(Packet::Pingresp)) => break,
                None => return acknowledged,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn numbered(number: u32) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(30_000, b'x');
    payload
}
