//! UNSUBSCRIBE and UNSUBACK, chapters 3.10 and 3.11.

mod common;

use common::wire::{self, packet, string};
use common::*;

/// [MQTT-3.10.1-1]
#[test]
fn flags_other_than_0010_close() {
    each_broker(|broker| {
        for flags in (0..16).filter(|flags| *flags != 0b0010) {
            let mut unsubscribe = wire::unsubscribe(1, &["t"]);
            unsubscribe[0] = 0xa0 | flags;
            broker.assert_closes(unsubscribe);
        }
    });
}

/// [MQTT-3.10.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2]
#[test]
fn topic_filter_is_utf_8() {
    each_broker(|broker| {
        for filter in ILL_FORMED {
            broker.assert_closes(packet(0xa2, &[&[0, 1], &string(filter)[..]].concat()));
        }
    });
}

/// [MQTT-3.10.3-2]
#[test]
fn without_a_filter_it_closes() {
    each_broker(|broker| {
        broker.assert_closes(packet(0xa2, &[0, 1]));
        broker.assert_closes(packet(0xa2, &[0, 1, 0]));
    });
}

/// [MQTT-3.10.4-1]
#[test]
fn only_the_identical_filter_is_deleted() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("a/+", 1);
        let mut publisher = broker.connect("pub");
        for other in ["a/b", "a/#", "#", "A/+", "a/+/", "a", "+/+", "/a/+"] {
            subscriber.unsubscribe(other);
            publisher.publish("a/b", other, 1);
            subscriber.expect_message("a/b", other, 1);
        }
        subscriber.unsubscribe("a/+");
        publisher.publish("a/b", "x", 1);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.10.4-2]
#[test]
fn nothing_new_comes_after_unsuback() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        let mut publisher = broker.connect("pub");
        for round in 0..20_u8 {
            subscriber.subscribe("t", 1);
            publisher.publish("t", [round], 1);
            subscriber.expect_message("t", [round], 1);
            subscriber.unsubscribe("t");
            publisher.publish("t", "too late", 1);
            subscriber.ping();
        }
        subscriber.expect_silence();
    });
}

/// [MQTT-3.10.4-3]
#[test]
fn deliveries_that_have_begun_are_completed() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        publisher.publish("t", "one", 1);
        publisher.publish("t", "two", 2);
        let one = subscriber.recv_publish();
        let two = subscriber.recv_publish();
        subscriber.unsubscribe("t");
        subscriber.send(wire::pubrec(two.packet_id()));
        subscriber.expect(&Packet::Pubrel(two.packet_id()));
        // What is unacknowledged is still owed on the next connection, subscribed or not.
        subscriber.vanish();
        let (mut subscriber, _) = broker.resume("sub");
        let mut owed = [subscriber.recv(), subscriber.recv()];
        owed.sort_by_key(|packet| matches!(packet, Packet::Pubrel(_)));
        assert_eq!(
            owed,
            [Packet::Publish(one.clone().dup()), Packet::Pubrel(two.packet_id())]
        );
        subscriber.send([wire::puback(one.packet_id()), wire::pubcomp(two.packet_id())].concat());
        subscriber.expect_silence();
    });
}

/// [MQTT-3.10.4-4] [MQTT-2.3.1-7]
#[test]
fn unsubscribe_gets_unsuback_with_its_identifier() {
    each_broker(|broker| {
        let mut client = broker.connect("sub");
        for id in [1, 0x0100, 0xffff] {
            client.subscribe("t", 0);
            client.send(wire::unsubscribe(id, &["t"]));
            client.expect(&Packet::Unsuback(id));
        }
    });
}

/// [MQTT-3.10.4-5]
#[test]
fn unsuback_comes_also_where_nothing_was_deleted() {
    each_broker(|broker| {
        let mut client = broker.connect("sub");
        client.unsubscribe("never/subscribed");
        client.subscribe("t", 0);
        client.unsubscribe("t");
        client.unsubscribe("t");
    });
}

/// [MQTT-3.10.4-6]
#[test]
fn several_filters_get_one_unsuback() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        for filter in ["a", "b", "c"] {
            subscriber.subscribe(filter, 1);
        }
        subscriber.send(wire::unsubscribe(9, &["a", "never", "c", "a"]));
        subscriber.expect(&Packet::Unsuback(9));
        let mut publisher = broker.connect("pub");
        for topic in ["a", "c", "b"] {
            publisher.publish(topic, "x", 1);
        }
        subscriber.expect_message("b", "x", 1);
        subscriber.expect_silence();
    });
}
