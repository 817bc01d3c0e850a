//! PUBLISH, chapter 3.3: flags, Topic Name, Packet Identifier, overlapping subscriptions. Retained messages have a file
//! of their own.

mod common;

use common::wire::{self, packet, string};
use common::*;

/// [MQTT-3.3.1-1]
#[test]
fn dup_is_set_on_redelivery() {
    each_broker(|broker| {
        for qos in 1..=2 {
            let (mut subscriber, _) = broker.resume("sub");
            subscriber.subscribe("t", qos);
            broker.connect("pub").publish("t", "x", qos);
            let first = subscriber.recv_publish();
            assert!(!first.dup);
            subscriber.vanish();
            let (mut subscriber, _) = broker.resume("sub");
            assert_eq!(subscriber.recv_publish(), first.clone().dup());
            subscriber.acknowledge(&first);
            subscriber.disconnect();
        }
    });
}

/// [MQTT-3.3.1-2]
#[test]
fn dup_with_qos_0_closes() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 0);
        broker.assert_closes(publish("t", "x").dup().encode());
        subscriber.expect_silence();
    });
}

/// [MQTT-3.3.1-3] [MQTT-3.3.1-2]
#[test]
fn dup_is_not_passed_on() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        let mut publisher = broker.connect("pub");
        for (qos, granted) in [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)] {
            subscriber.subscribe("t", granted);
            publisher.send([publish("t", "x").qos(qos, 7).dup().encode(), wire::pubrel(7)].concat());
            subscriber.expect_message("t", "x", granted);
        }
    });
}

/// [MQTT-3.3.1-4]
#[test]
fn qos_3_closes() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("#", 0);
        for flags in [0x36, 0x37, 0x3e, 0x3f] {
            broker.assert_closes(packet(flags, &[string("t"), vec![0, 1], b"x".to_vec()].concat()));
        }
        subscriber.expect_silence();
    });
}

/// [MQTT-3.3.2-1]
#[test]
fn publish_without_a_whole_topic_name_closes() {
    each_broker(|broker| {
        broker.assert_closes([0x30, 0x00]);
        broker.assert_closes([0x30, 0x01, 0x00]);
        broker.assert_closes(packet(0x30, b"\x00\x05abcd"));
        broker.assert_closes(packet(0x30, b"\xff\xff"));
    });
}

/// [MQTT-3.3.2-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-4.7.3-2]
#[test]
fn topic_name_is_utf_8() {
    each_broker(|broker| {
        for topic in ILL_FORMED {
            broker.assert_closes(packet(0x30, &string(topic)));
        }
    });
}

/// [MQTT-3.3.2-2] [MQTT-4.7.1-1]
#[test]
fn wildcard_in_a_topic_name_closes() {
    each_broker(|broker| {
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b", "$SYS/#"] {
            for qos in 0..=2 {
                broker.assert_closes(publish(topic, "x").qos(qos, 1).encode());
            }
        }
    });
}

/// [MQTT-3.3.2-3]
#[test]
fn topic_name_arrives_as_published_and_matches_the_filter() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        for (filter, topic) in [
            ("a/b", "a/b"),
            ("+/b", "x/b"),
            ("c/#", "c"),
            ("c/#", "c/d/e"),
            ("/+/f", "/é/f"),
            ("//", "//"),
        ] {
            let mut subscriber = broker.connect("sub");
            subscriber.subscribe(filter, 0);
            for other in ["a", "b", "x/y/b", "d/c", "é", "/"] {
                publisher.publish(other, "not this one", 0);
            }
            publisher.publish(topic, "x", 0);
            subscriber.expect_message(topic, "x", 0);
        }
    });
}

/// [MQTT-2.3.1-1]
#[test]
fn packet_identifier_0_closes() {
    each_broker(|broker| {
        for qos in 1..=2 {
            broker.assert_closes(publish("t", "x").qos(qos, 0).encode());
        }
        broker.assert_closes(wire::subscribe(0, &[("t", 0)]));
        broker.assert_closes(wire::unsubscribe(0, &["t"]));
    });
}

/// [MQTT-2.3.1-1]
#[test]
fn missing_packet_identifier_closes() {
    each_broker(|broker| {
        broker.assert_closes(packet(0x32, &string("t")));
        broker.assert_closes(packet(0x34, &[string("t"), vec![1]].concat()));
        broker.assert_closes([0x82, 0x00]);
        broker.assert_closes([0xa2, 0x01, 0x00]);
    });
}

/// Two bytes that could be an identifier are payload. [MQTT-2.3.1-5] [MQTT-4.3.1-1]
#[test]
fn qos_0_has_no_packet_identifier() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        for payload in [&b"\x00\x01"[..], b"", b"\x00\x00\x01"] {
            publisher.publish("t", payload, 0);
            subscriber.expect_message("t", payload, 0);
        }
    });
}

/// [MQTT-2.3.1-6] [MQTT-3.3.4-1]
#[test]
fn answers_follow_the_qos_and_carry_the_identifier() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        for id in [1, 0x0100, 0x1234, 0xffff] {
            publisher.send(publish("t", "x").encode());
            publisher.send(publish("t", "x").qos(1, id).encode());
            publisher.expect(&Packet::Puback(id));
            publisher.send(publish("t", "x").qos(2, id).encode());
            publisher.expect(&Packet::Pubrec(id));
            publisher.send(wire::pubrel(id));
            publisher.expect(&Packet::Pubcomp(id));
        }
        publisher.expect_silence();
    });
}

/// [MQTT-3.3.5-1]
#[test]
fn overlapping_subscriptions_deliver_once_at_the_highest_qos() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        for filters in [[("a/b", 0), ("a/+", 2), ("#", 1)], [("a/b", 2), ("a/#", 0), ("+/b", 1)]] {
            let mut subscriber = broker.connect("sub");
            for (filter, qos) in filters {
                subscriber.subscribe(filter, qos);
            }
            for qos in 0..=2 {
                publisher.publish("a/b", [qos], qos);
                subscriber.expect_message("a/b", [qos], qos);
            }
            subscriber.expect_silence();
        }
    });
}

/// The topics of the broker itself are its own. [MQTT-3.3.5-2]
#[test]
fn publish_to_sys_is_acknowledged_or_closes_but_reaches_nobody() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("$SYS/#", 1);
        let mut intruder = broker.connect("pub");
        intruder.send(publish("$SYS/broker/clients/total", "lie").qos(1, 1).retain().encode());
        let answer = intruder.recv_or_close();
        assert!(matches!(answer, None | Some(Packet::Puback(1))), "{answer:?}");
        subscriber.expect_silence();
        let mut later = broker.connect("later");
        later.subscribe("$SYS/broker/clients/total", 1);
        later.expect_silence();
    });
}
