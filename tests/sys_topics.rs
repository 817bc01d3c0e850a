//! `$SYS/broker/…` tells what happened: each counter agrees with what was sent.

mod common;

use common::wire;
use common::*;

const FLAGS: [&str; 2] = ["--sys-interval", "1"];

#[test]
fn messages_are_counted_by_qos_and_direction() {
    each_broker_with(&FLAGS, |broker| {
        let mut sys = broker.sys();
        let mut publisher = broker.connect("pub");
        // One gets what was published, the other all with QoS 1 at most.
        let mut subscribers = [
            broker.connect("sub"),
            broker.connect(&broker.id_on(broker.shards - 1, "sub")),
        ];
        for (subscriber, qos) in subscribers.iter_mut().zip([2, 1]) {
            subscriber.subscribe("t", qos);
        }
        for (qos, count) in [(0, 3), (1, 4), (2, 5_u8)] {
            for n in 0..count {
                publisher.publish("t", [n], qos);
                subscribers[0].expect_message("t", [n], qos);
                subscribers[1].expect_message("t", [n], qos.min(1));
            }
        }
        for subscriber in &mut subscribers {
            subscriber.expect_silence();
        }
        sys.settle();
        for (name, value) in [
            ("publish/qos0/received", 3),
            ("publish/qos1/received", 4),
            ("publish/qos2/received", 5),
            ("publish/messages/received", 12),
            ("publish/qos1/sent", 4 + 4 + 5),
            ("publish/qos2/sent", 5),
            ("publish/messages/dropped", 0),
            ("messages/inflight", 0),
            ("messages/queued", 0),
        ] {
            sys.await_value(name, value);
        }
        // What `$SYS` itself sends to its watcher is QoS 0 too.
        assert!(sys.get("publish/qos0/sent") >= 6);
        let of_shards: u64 = (0..broker.shards)
            .map(|shard| sys.get(&format!("shard/{shard}/publish/received")))
            .sum();
        assert_eq!(of_shards, 12);
    });
}

#[test]
fn packets_and_bytes_are_those_that_were_sent() {
    each_broker_with(&FLAGS, |broker| {
        let mut sys = broker.sys();
        let mut client = broker.connect("pub");
        sys.settle();
        // Settling sends PINGREQ: two bytes each time, the last one after the counters were read.
        let (packets, bytes) = (sys.get("messages/received"), sys.get("bytes/received"));
        let publish = publish("t", "x".repeat(1_000)).qos(1, 1).encode();
        for _ in 0..10 {
            client.send(&publish);
            client.expect(&Packet::Puback(1));
        }
        let subscribe = wire::subscribe(7, &[("a", 0), ("b", 1)]);
        client.send(&subscribe);
        client.recv();
        client.ping();
        sys.settle();
        let sent = 10 * publish.len() + subscribe.len() + PINGREQ.len() * 2;
        sys.await_value("bytes/received", bytes + sent as u64);
        sys.await_value("messages/received", packets + 10 + 1 + 1 + 1);
    });
}

#[test]
fn connections_and_sessions_are_told_apart() {
    each_broker_with(&FLAGS, |broker| {
        // The watcher is one of them.
        let mut sys = broker.sys();
        let staying: Vec<Client> = (0..3).map(|n| broker.connect(&format!("clean-{n}"))).collect();
        for n in 0..2 {
            broker.resume(&format!("absent-{n}")).0.disconnect();
        }
        broker.connect("short").disconnect();
        let silent = broker.dial();
        let old = broker.connect("twice");
        let new = broker.connect("twice");
        let mut refused = broker.dial();
        refused.send(
            Connect {
                level: 9,
                ..Connect::new("x")
            }
            .encode(),
        );
        refused.recv();
        refused.expect_close();
        drop(refused);
        drop(old);
        sys.settle();
        for (name, value) in [
            ("clients/connected", 1 + 3 + 1),
            ("clients/active", 1 + 3 + 1),
            ("clients/disconnected", 2),
            ("clients/inactive", 2),
            ("clients/total", 5 + 2),
            ("connections", 5 + 1),
            ("connects/accepted", 1 + 3 + 2 + 1 + 2),
            ("connects/refused", 1),
            ("connections/takeovers", 1),
            ("connections/violations", 1),
            ("connections/timeouts", 0),
            ("connections/rejected", 0),
            ("connections/accepted", 1 + 3 + 2 + 1 + 1 + 2 + 1),
        ] {
            sys.await_value(name, value);
        }
        for client in staying.into_iter().chain([new]) {
            client.disconnect();
        }
        silent.vanish();
        sys.settle();
        sys.await_value("clients/connected", 1);
        sys.await_value("connections", 1);
        sys.await_value("clients/total", 3);
        assert!(sys.get("clients/maximum") >= 5);
    });
}

#[test]
fn what_waits_and_what_is_kept_are_gauges() {
    each_broker_with(&[&FLAGS[..], &["--max-inflight", "3"]].concat(), |broker| {
        let mut sys = broker.sys();
        let (mut subscriber, _) = broker.resume("sub");
        for filter in ["t", "u", "v/#"] {
            subscriber.subscribe(filter, 1);
        }
        let mut publisher = broker.connect("pub");
        for n in 0..8_u8 {
            publisher.publish("t", [n], 1);
        }
        sys.settle();
        sys.await_value("subscriptions/count", 1 + 3);
        sys.await_value("messages/inflight", 3);
        sys.await_value("messages/queued", 5);

        for n in 0..8_u8 {
            subscriber.expect_message("t", [n], 1);
        }
        subscriber.unsubscribe("u");
        subscriber.disconnect();
        for n in 0..4_u8 {
            publisher.publish("t", [n], 1);
        }
        sys.settle();
        sys.await_value("subscriptions/count", 1 + 2);
        sys.await_value("messages/inflight", 0);
        sys.await_value("messages/queued", 4);

        // A clean session of the same client ends the old one, and what waited is lost.
        broker.connect("sub").disconnect();
        sys.settle();
        sys.await_value("subscriptions/count", 1);
        sys.await_value("messages/queued", 0);
        sys.await_value("dropped/session_ended", 4);
        sys.await_value("publish/messages/dropped", 4);
    });
}

#[test]
fn retained_messages_are_counted_and_weighed() {
    each_broker_with(&FLAGS, |broker| {
        let mut sys = broker.sys();
        sys.settle();
        // `$SYS` keeps its own; how long their values are changes.
        let own = sys.get("retained messages/count");
        let mut publisher = broker.connect("pub");
        for n in 0..10 {
            publisher.retain(&format!("r/{n}"), "x".repeat(100_000), 1);
        }
        publisher.retain("r/0", "y".repeat(100_000), 1);
        sys.settle();
        sys.await_value("retained messages/count", own + 10);
        sys.await_that("retained messages/bytes", |bytes| {
            (1_000_000..1_050_000).contains(&bytes)
        });
        for n in 0..9 {
            publisher.retain(&format!("r/{n}"), "", 1);
        }
        sys.settle();
        sys.await_value("retained messages/count", own + 1);
        sys.await_that("retained messages/bytes", |bytes| (100_000..150_000).contains(&bytes));
    });
}

#[test]
fn clients_read_the_brokers_topics_and_do_not_write_them() {
    each_broker_with(&FLAGS, |broker| {
        let mut sys = broker.sys();
        let mut publisher = broker.connect("pub");
        for qos in 0..3 {
            publisher.retain("$SYS/broker/version", "forged", qos);
        }
        sys.settle();
        sys.await_value("dropped/forbidden", 3);
        let version = concat!("RingMQ ", env!("CARGO_PKG_VERSION"));
        assert_eq!(sys.text("version"), version);
        let mut late = broker.connect("sub");
        late.subscribe("$SYS/broker/version", 0);
        late.expect_retained("$SYS/broker/version", version, 0);
        late.expect_silence();
    });
}

#[test]
fn interval_of_zero_turns_them_off() {
    each_broker_with(&["--sys-interval", "0"], |broker| {
        let mut client = broker.connect("sub");
        client.subscribe("$SYS/#", 0);
        assert_eq!(client.recv_within(std::time::Duration::from_secs(2)), None);
    });
}

/// What a limit refuses, or closes, is no violation.
#[test]
fn what_limits_refuse_is_counted() {
    let flags = [&FLAGS[..], &["--max-subscriptions", "2", "--max-inbound-qos2", "1"]].concat();
    each_broker_with(&flags, |broker| {
        let mut client = broker.connect("sub");
        client.send(wire::subscribe(1, &[("a", 0), ("b", 0), ("c", 0), ("d", 0)]));
        let codes = vec![0, 0, 0x80, 0x80];
        client.expect(&Packet::Suback { id: 1, codes });
        client.send(publish("t", "held").qos(2, 1).encode());
        client.expect(&Packet::Pubrec(1));
        client.send(publish("t", "one too many").qos(2, 2).encode());
        client.expect_close();
        let mut sys = broker.sys();
        sys.await_value("subscriptions/refused", 2);
        sys.await_value("connections/limited", 1);
        assert_eq!(sys.get("connections/violations"), 0);
    });
}
