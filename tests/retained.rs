//! Retained messages, with rumqttc.

mod common;

use std::collections::BTreeMap;

use common::rumq::{Message, QOS, message};
use common::*;
use rumqttc::QoS;

#[test]
fn latest_value_awaits_new_subscribers() {
    each_broker(|broker| {
        let mut publisher = broker.rumq("pub");
        for qos in QOS {
            publisher.retain("state", "old", qos);
            publisher.retain("state", "new", qos);
            // The acknowledgement of this one shows that the one before, which may have none, was taken.
            publisher.publish("other", "x", QoS::AtLeastOnce);
            let mut subscriber = broker.rumq("sub");
            subscriber.subscribe("state", QoS::ExactlyOnce);
            subscriber.expect(&Message {
                retain: true,
                ..message("state", "new", qos)
            });
            publisher.retain("state", "live", qos);
            subscriber.expect(&message("state", "live", qos));
        }
    });
}

#[test]
fn empty_payload_clears() {
    each_broker(|broker| {
        let mut publisher = broker.rumq("pub");
        publisher.retain("state", "x", QoS::AtLeastOnce);
        publisher.retain("state", "", QoS::AtLeastOnce);
        let mut subscriber = broker.rumq("sub");
        subscriber.subscribe("#", QoS::AtLeastOnce);
        subscriber.expect_silence();
    });
}

/// Whichever shards own them, and whichever filters ask.
#[test]
fn wildcard_subscription_gets_each_value_once() {
    on_shards(&[1, 2, 3, 8], &[], |broker| {
        let mut publisher = broker.rumq("pub");
        let mut want = BTreeMap::new();
        for n in 0..100 {
            let topic = format!("device/{n}/state");
            publisher.retain(&topic, format!("state {n}"), QoS::AtLeastOnce);
            want.insert(topic, format!("state {n}").into_bytes());
        }
        for filter in ["#", "device/#", "device/+/state", "+/+/+"] {
            let mut subscriber = broker.rumq("sub");
            subscriber.subscribe(filter, QoS::AtLeastOnce);
            let mut got = BTreeMap::new();
            for _ in 0..want.len() {
                let message = subscriber.recv();
                assert!(message.retain);
                assert_eq!(got.insert(message.topic, message.payload), None, "twice for {filter}");
            }
            assert_eq!(got, want, "for {filter}");
            subscriber.expect_silence();
        }
    });
}

#[test]
fn each_subscribe_gets_it_again() {
    each_broker(|broker| {
        broker.rumq("pub").retain("state", "x", QoS::AtLeastOnce);
        let mut subscriber = broker.rumq("sub");
        for _ in 0..3 {
            subscriber.subscribe("state", QoS::AtLeastOnce);
            subscriber.expect(&Message {
                retain: true,
                ..message("state", "x", QoS::AtLeastOnce)
            });
        }
    });
}
