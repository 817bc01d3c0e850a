//! Sessions, chapters 3.1.2.4, 4.1, 4.5 and 2.3: what is kept, for how long, and for whom.

mod common;

use std::thread;
use std::time::Duration;

use common::wire;
use common::*;

/// [MQTT-3.1.2-4] [MQTT-4.1.0-1]
#[test]
fn subscriptions_of_a_stored_session_are_kept() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("a/+", 1);
        subscriber.subscribe("b", 2);
        subscriber.subscribe("c", 2);
        subscriber.unsubscribe("c");
        subscriber.disconnect();
        let (mut subscriber, session_present) = broker.resume("sub");
        assert!(session_present);
        let mut publisher = broker.connect("pub");
        for (topic, qos) in [("a/x", 1), ("c", 2), ("b", 2)] {
            publisher.publish(topic, "x", qos);
            if topic != "c" {
                subscriber.expect_message(topic, "x", qos);
            }
        }
        subscriber.expect_silence();
    });
}

/// [MQTT-3.1.2-5] [MQTT-4.5.0-1]
#[test]
fn qos_1_and_2_are_stored_for_absent_clients() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t/#", 2);
        subscriber.disconnect();
        let mut publisher = broker.connect("pub");
        for n in 0..10_u8 {
            publisher.publish("t/1", [n], 1);
            publisher.publish("t/2", [n], 2);
        }
        let (mut subscriber, _) = broker.resume("sub");
        for n in 0..10_u8 {
            subscriber.expect_message("t/1", [n], 1);
            subscriber.expect_message("t/2", [n], 2);
        }
        subscriber.disconnect();
        broker.resume("sub").0.expect_silence();
    });
}

/// Every session that matched when the message was acknowledged has it, connected or not. [MQTT-4.5.0-1]
#[test]
fn acknowledged_message_is_in_every_matching_session() {
    each_broker(|broker| {
        let ids: Vec<String> = (0..broker.shards)
            .flat_map(|shard| ["x", "y", "z"].map(|prefix| broker.id_on(shard, prefix)))
            .collect();
        for id in &ids {
            let (mut subscriber, _) = broker.resume(id);
            subscriber.subscribe("t/+", 1);
            if id.starts_with('x') {
                subscriber.vanish();
            } else {
                subscriber.disconnect();
            }
        }
        broker.connect("pub").publish("t/1", "x", 1);
        for id in &ids {
            broker.resume(id).0.expect_message("t/1", "x", 1);
        }
    });
}

/// [MQTT-3.1.2-6]
#[test]
fn clean_session_discards_the_stored_one() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 1);
        broker.connect("pub").publish("t", "unacknowledged", 1);
        subscriber.recv_publish();
        subscriber.disconnect();
        let mut publisher = broker.connect("pub");
        publisher.publish("t", "waiting", 1);
        broker.connect("sub").expect_silence();
        publisher.publish("t", "later", 1);
        let (mut subscriber, session_present) = broker.resume("sub");
        assert!(!session_present);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.1.2-6]
#[test]
fn clean_session_ends_with_its_connection() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        for vanish in [false, true] {
            let mut subscriber = broker.connect("sub");
            subscriber.subscribe("t", 1);
            if vanish {
                subscriber.vanish();
            } else {
                subscriber.disconnect();
            }
            publisher.publish("t", "x", 1);
            let (mut subscriber, session_present) = broker.resume("sub");
            assert!(!session_present);
            publisher.publish("t", "y", 1);
            subscriber.expect_silence();
        }
    });
}

/// Retained messages of others too. [MQTT-3.1.2-7]
#[test]
fn retained_messages_stay_when_sessions_end() {
    each_broker(|broker| {
        let (mut stored, _) = broker.resume("sub");
        stored.subscribe("t", 1);
        broker.connect("pub").retain("t", "x", 1);
        stored.expect_message("t", "x", 1);
        stored.disconnect();
        broker.connect("sub").disconnect();
        let mut later = broker.connect("later");
        later.subscribe("t", 1);
        later.expect_retained("t", "x", 1);
    });
}

/// The expiry of sessions counts from the end of the connection: long after it, this one is still there.
/// [MQTT-4.1.0-1] [MQTT-4.1.0-2]
#[test]
fn session_lasts_at_least_as_long_as_its_connection() {
    each_broker_with(&["--session-expiry", "1"], |broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        publisher.publish("t", "unacknowledged", 1);
        let first = subscriber.recv_publish();
        // Meanwhile others come and go, and their sessions do expire.
        let mut expired = (0..10).map(|_| {
            let (short, session_present) = broker.resume("short");
            short.disconnect();
            thread::sleep(Duration::from_millis(1_200));
            !session_present
        });
        expired.next();
        assert!(expired.any(|expired| expired), "no session ever expires");
        subscriber.ping();
        subscriber.vanish();
        let (mut subscriber, session_present) = broker.resume("sub");
        assert!(session_present);
        assert_eq!(subscriber.recv_publish(), first.dup());
        publisher.publish("t", "x", 1);
        subscriber.expect_message("t", "x", 1);
    });
}

/// Whatever was unacknowledged, whichever client publishes meanwhile. [MQTT-2.3.1-4] [MQTT-4.4.0-1]
#[test]
fn resumed_identifiers_are_not_given_to_new_messages() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        for n in 0..4_u8 {
            publisher.publish("t", [n], 1 + n % 2);
        }
        let old: Vec<Publish> = (0..4).map(|_| subscriber.recv_publish()).collect();
        subscriber.vanish();
        publisher.publish("t", "waiting", 2);
        let (mut subscriber, _) = broker.resume("sub");
        publisher.publish("t", "new", 1);
        let mut ids: Vec<u16> = old.iter().map(Publish::packet_id).collect();
        for want in &old {
            assert_eq!(subscriber.recv_publish(), want.clone().dup());
        }
        for payload in ["waiting", "new"] {
            let got = subscriber.recv_publish();
            assert_eq!((got.payload.as_slice(), got.dup), (payload.as_bytes(), false));
            ids.push(got.packet_id());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6, "of six messages in flight: {ids:?}");
    });
}

/// The old connection is closed, and its messages are the new one's. [MQTT-3.1.4-2] [MQTT-3.1.2-4] [MQTT-4.4.0-1]
#[test]
fn takeover_carries_the_session_over() {
    each_broker(|broker| {
        let (mut old, _) = broker.resume("sub");
        old.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        publisher.publish("t", "one", 1);
        publisher.publish("t", "two", 2);
        let sent = [old.recv_publish(), old.recv_publish()];
        old.send(wire::pubrec(sent[1].packet_id()));
        old.expect(&Packet::Pubrel(sent[1].packet_id()));
        let (mut new, session_present) = broker.resume("sub");
        assert!(session_present);
        old.expect_close();
        let mut owed = [new.recv(), new.recv()];
        owed.sort_by_key(|packet| matches!(packet, Packet::Pubrel(_)));
        assert_eq!(
            owed,
            [
                Packet::Publish(sent[0].clone().dup()),
                Packet::Pubrel(sent[1].packet_id())
            ]
        );
        new.send([wire::puback(sent[0].packet_id()), wire::pubcomp(sent[1].packet_id())].concat());
        publisher.publish("t", "three", 2);
        new.expect_message("t", "three", 2);
        new.expect_silence();
    });
}

/// Extensions that a client must know would show here: none of this needs one. [MQTT-7.0.0-2]
#[test]
fn plain_client_needs_no_extension() {
    each_broker(|broker| {
        let mut client = broker.dial();
        client.send(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c");
        client.expect(&Packet::Connack {
            session_present: false,
            code: 0,
        });
        client.send(b"\x82\x06\x00\x01\x00\x01t\x02");
        client.expect(&Packet::Suback { id: 1, codes: vec![2] });
        client.send(b"\x30\x04\x00\x01tx");
        client.expect_message("t", "x", 0);
        client.send(b"\xa2\x05\x00\x02\x00\x01t");
        client.expect(&Packet::Unsuback(2));
        client.send(b"\xe0\x00");
        client.expect_close();
    });
}
