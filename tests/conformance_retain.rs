//! RETAIN, chapter 3.3.1.3: what is stored, replaced and removed, and how it is delivered.

mod common;

use common::*;

/// [MQTT-3.3.1-5] [MQTT-3.3.1-8] [MQTT-3.8.4-6]
#[test]
fn message_and_its_qos_are_kept_for_future_subscribers() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        for qos in 0..=2 {
            let topic = format!("t/{qos}");
            publisher.retain(&topic, "x", qos);
            // Where nothing waits for an acknowledgement, wait for what shows that the message was taken.
            publisher.ping();
            for granted in 0..=2 {
                let mut subscriber = broker.connect("sub");
                subscriber.subscribe(&topic, granted);
                subscriber.expect_retained(&topic, "x", qos.min(granted));
            }
        }
    });
}

/// [MQTT-3.3.1-6]
#[test]
fn new_subscription_gets_the_last_message_of_every_matching_topic() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        for n in 0..20 {
            publisher.retain(&format!("in/{n}"), "old", 1);
            publisher.retain(&format!("in/{n}"), format!("new {n}"), 1);
            publisher.retain(&format!("out/{n}"), "x", 1);
        }
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("in/+", 0);
        let mut got: Vec<Publish> = (0..20).map(|_| subscriber.recv_publish()).collect();
        got.sort_by(|a, b| a.topic.cmp(&b.topic));
        let mut want: Vec<Publish> = (0..20)
            .map(|n| publish(&format!("in/{n}"), format!("new {n}")).retain())
            .collect();
        want.sort_by(|a, b| a.topic.cmp(&b.topic));
        assert_eq!(got, want);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.3.1-7]
#[test]
fn retained_qos_0_replaces_an_older_one_of_any_qos() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        publisher.retain("t", "old", 2);
        publisher.retain("t", "new", 0);
        publisher.publish("other", "x", 1);
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        subscriber.expect_retained("t", "new", 0);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.3.1-8] [MQTT-3.3.1-9]
#[test]
fn retain_is_set_for_new_subscriptions_only() {
    each_broker(|broker| {
        let mut established = broker.connect("sub");
        established.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        for qos in 0..=2 {
            publisher.retain("t", [qos], qos);
            established.expect_message("t", [qos], qos);
        }
        let mut new = broker.connect("new");
        new.subscribe("t", 2);
        new.expect_retained("t", [2], 2);
    });
}

/// [MQTT-3.3.1-10] [MQTT-3.3.1-11]
#[test]
fn empty_payload_is_delivered_and_removes_the_retained_message() {
    each_broker(|broker| {
        for qos in 0..=2 {
            let mut established = broker.connect("sub");
            established.subscribe("t", 2);
            let mut publisher = broker.connect("pub");
            publisher.retain("t", "x", 1);
            established.expect_message("t", "x", 1);
            publisher.retain("t", "", qos);
            established.expect_message("t", "", qos);
            let mut new = broker.connect("new");
            new.subscribe("t", 2);
            new.expect_silence();
        }
    });
}

/// [MQTT-3.3.1-11]
#[test]
fn empty_payload_is_not_stored() {
    each_broker(|broker| {
        broker.connect("pub").retain("t", "", 1);
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("#", 1);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.3.1-12]
#[test]
fn without_retain_nothing_is_stored_replaced_or_removed() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        publisher.retain("kept", "x", 1);
        publisher.publish("kept", "y", 1);
        publisher.publish("kept", "", 1);
        publisher.publish("never", "z", 1);
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("#", 1);
        subscriber.expect_retained("kept", "x", 1);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.1.2-7]
#[test]
fn retained_messages_outlive_the_session_that_published_them() {
    each_broker(|broker| {
        let mut clean = broker.connect("pub");
        clean.retain("by/clean", "x", 1);
        clean.disconnect();
        let (mut stored, _) = broker.resume("pub");
        stored.retain("by/stored", "y", 1);
        stored.disconnect();
        broker.connect("pub").disconnect();
        for (topic, payload) in [("by/clean", "x"), ("by/stored", "y")] {
            let mut subscriber = broker.connect("sub");
            subscriber.subscribe(topic, 1);
            subscriber.expect_retained(topic, payload, 1);
        }
    });
}

/// Between PUBLISH and PUBREL the message belongs to nobody yet or to all; afterwards it is stored in any case.
/// [MQTT-3.3.1-5] [MQTT-4.3.3-2]
#[test]
fn retained_qos_2_is_stored_when_released_on_a_later_connection() {
    each_broker(|broker| {
        let (mut publisher, _) = broker.resume("pub");
        publisher.send(publish("t", "x").qos(2, 5).retain().encode());
        publisher.expect(&Packet::Pubrec(5));
        publisher.vanish();
        let (mut publisher, session_present) = broker.resume("pub");
        assert!(session_present);
        publisher.send(common::wire::pubrel(5));
        publisher.expect(&Packet::Pubcomp(5));
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        subscriber.expect_retained("t", "x", 2);
        subscriber.expect_silence();
    });
}
