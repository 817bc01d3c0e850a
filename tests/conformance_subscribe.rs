//! SUBSCRIBE and SUBACK, chapters 3.8 and 3.9.

mod common;

use common::wire::{self, packet, string};
use common::*;

/// [MQTT-3.8.1-1]
#[test]
fn flags_other_than_0010_close() {
    each_broker(|broker| {
        for flags in (0..16).filter(|flags| *flags != 0b0010) {
            let mut subscribe = wire::subscribe(1, &[("t", 0)]);
            subscribe[0] = 0x80 | flags;
            broker.assert_closes(subscribe);
        }
    });
}

/// [MQTT-3.8.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-4.7.3-2]
#[test]
fn topic_filter_is_utf_8() {
    each_broker(|broker| {
        for filter in ILL_FORMED {
            broker.assert_closes(packet(0x82, &[&[0, 1], &string(filter)[..], &[0]].concat()));
        }
    });
}

/// [MQTT-3.8.3-2]
#[test]
fn wildcards_are_supported() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("house/+/lamp", 1);
        subscriber.subscribe("garden/#", 1);
        let mut publisher = broker.connect("pub");
        for topic in ["house/1/lamp", "garden/tree/7"] {
            publisher.publish(topic, "on", 1);
            subscriber.expect_message(topic, "on", 1);
        }
    });
}

/// [MQTT-3.8.3-3]
#[test]
fn without_a_filter_and_its_qos_it_closes() {
    each_broker(|broker| {
        broker.assert_closes(packet(0x82, &[0, 1]));
        broker.assert_closes(packet(0x82, &[&[0, 1], &string("t")[..]].concat()));
        broker.assert_closes(packet(
            0x82,
            &[&[0, 1], &string("t")[..], &[0], &string("u")[..]].concat(),
        ));
    });
}

/// [MQTT-3.8.3-4]
#[test]
fn qos_3_and_reserved_bits_close() {
    each_broker(|broker| {
        for qos in [3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x81, 0xff] {
            broker.assert_closes(wire::subscribe(1, &[("t", qos)]));
            broker.assert_closes(wire::subscribe(1, &[("t", 0), ("u", qos)]));
        }
    });
}

/// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.3.1-7]
#[test]
fn subscribe_gets_suback_with_its_identifier() {
    each_broker(|broker| {
        let mut client = broker.connect("sub");
        for id in [1, 0x0100, 0xffff, 1] {
            client.send(wire::subscribe(id, &[("t", 1)]));
            client.expect(&Packet::Suback { id, codes: vec![1] });
        }
    });
}

/// [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
#[test]
fn suback_has_a_code_for_each_filter_in_its_place() {
    each_broker(|broker| {
        let mut client = broker.connect("sub");
        let names: Vec<String> = (0..60).map(|n| format!("t/{n}")).collect();
        let qoses: Vec<u8> = (0..60).map(|n| [2, 0, 1, 1, 0][n % 5]).collect();
        let filters: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(qoses.iter().copied()).collect();
        client.send(wire::subscribe(5, &filters));
        client.expect(&Packet::Suback { id: 5, codes: qoses });
    });
}

/// A refused filter takes nothing from its neighbours. [MQTT-3.9.3-1] [MQTT-3.9.3-2]
#[test]
fn filter_over_the_level_limit_fails_alone() {
    each_broker_with(&["--max-topic-levels", "3"], |broker| {
        let mut client = broker.connect("sub");
        client.send(wire::subscribe(5, &[("a/b/c", 1), ("a/b/c/d", 1), ("a/+/#", 2)]));
        client.expect(&Packet::Suback {
            id: 5,
            codes: vec![1, 0x80, 2],
        });
        broker.connect("pub").publish("a/b/c", "x", 2);
        client.expect_message("a/b/c", "x", 2);
    });
}

/// [MQTT-3.8.4-3]
#[test]
fn same_filter_again_replaces_the_qos() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        let mut publisher = broker.connect("pub");
        for qos in [2, 0, 1] {
            subscriber.subscribe("a/+", qos);
            publisher.publish("a/b", "x", 2);
            subscriber.expect_message("a/b", "x", qos);
        }
        subscriber.unsubscribe("a/+");
        publisher.publish("a/b", "x", 2);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.8.4-3]
#[test]
fn same_filter_again_gets_the_retained_messages_again() {
    each_broker(|broker| {
        broker.connect("pub").retain("a/b", "x", 1);
        let mut subscriber = broker.connect("sub");
        for _ in 0..3 {
            subscriber.subscribe("a/#", 1);
            subscriber.expect_retained("a/b", "x", 1);
        }
        subscriber.expect_silence();
    });
}

/// [MQTT-3.8.4-3]
#[test]
fn same_filter_again_interrupts_nothing() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        let mut next = 0_u16;
        while next < 300 {
            for n in next..next + 10 {
                publisher.send(publish("t", n.to_be_bytes()).qos(1, n + 1).encode());
            }
            subscriber.send(wire::subscribe(9, &[("t", 1)]));
            let mut subacks = 0;
            let upto = next + 10;
            while next < upto || subacks < 1 {
                match subscriber.recv() {
                    Packet::Publish(got) => {
                        assert_eq!((&got.payload[..], got.dup), (&next.to_be_bytes()[..], false));
                        subscriber.acknowledge(&got);
                        next += 1;
                    }
                    other => {
                        assert_eq!(other, Packet::Suback { id: 9, codes: vec![1] });
                        subacks += 1;
                    }
                }
            }
        }
    });
}

/// The retained messages show that each filter was handled as a subscription of its own. [MQTT-3.8.4-4] [MQTT-3.8.4-5]
#[test]
fn many_filters_are_as_many_subscriptions_with_one_suback() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        publisher.retain("a", "old a", 1);
        publisher.retain("b", "old b", 1);
        let mut subscriber = broker.connect("sub");
        subscriber.send(wire::subscribe(7, &[("a", 1), ("b", 0), ("c", 2)]));
        subscriber.expect(&Packet::Suback {
            id: 7,
            codes: vec![1, 0, 2],
        });
        let mut old = [subscriber.recv_publish(), subscriber.recv_publish()];
        old.sort_by_key(|got| got.qos);
        assert_eq!(old[0], publish("b", "old b").retain());
        assert_eq!(old[1], publish("a", "old a").qos(1, old[1].packet_id()).retain());
        for (topic, qos) in [("a", 1), ("b", 0), ("c", 2)] {
            publisher.publish(topic, "new", 2);
            subscriber.expect_message(topic, "new", qos);
        }
    });
}

/// [MQTT-3.8.4-6]
#[test]
fn delivered_qos_is_the_lesser_of_published_and_granted() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        for granted in 0..=2 {
            let mut subscriber = broker.connect("sub");
            subscriber.subscribe("t", granted);
            for qos in 0..=2 {
                publisher.publish("t", [qos, granted], qos);
                subscriber.expect_message("t", [qos, granted], qos.min(granted));
            }
        }
    });
}
