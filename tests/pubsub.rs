//! Publish and subscribe as most people use it, with rumqttc: every pair of QoS, wildcards, large messages, many clients.

mod common;

use common::rumq::{QOS, message};
use common::*;
use rumqttc::QoS;

#[test]
fn every_pair_of_qos_delivers_at_the_lesser_one() {
    each_broker(|broker| {
        let mut publisher = broker.rumq("pub");
        for granted in QOS {
            let mut subscriber = broker.rumq("sub");
            subscriber.subscribe("t", granted);
            for qos in QOS {
                for n in 0..10_u8 {
                    publisher.publish("t", [n], qos);
                }
                for n in 0..10_u8 {
                    let lesser = if (qos as u8) < granted as u8 { qos } else { granted };
                    subscriber.expect(&message("t", [n], lesser));
                }
            }
            subscriber.expect_silence();
        }
    });
}

#[test]
fn megabyte_arrives_whole() {
    each_broker(|broker| {
        let mut subscriber = broker.rumq("sub");
        subscriber.subscribe("big/#", QoS::ExactlyOnce);
        let mut publisher = broker.rumq("pub");
        let payload: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect();
        for qos in QOS {
            publisher.publish("big/one", &payload, qos);
            subscriber.expect(&message("big/one", &payload, qos));
        }
        publisher.retain("big/kept", &payload, QoS::AtLeastOnce);
        subscriber.expect(&message("big/kept", &payload, QoS::AtLeastOnce));
        let mut later = broker.rumq("later");
        later.subscribe("big/kept", QoS::AtLeastOnce);
        assert!(later.recv().payload == payload);
    });
}

#[test]
fn wildcards_choose_topics() {
    each_broker(|broker| {
        let mut subscriber = broker.rumq("sub");
        subscriber.subscribe("house/+/light", QoS::AtLeastOnce);
        subscriber.subscribe("garden/#", QoS::AtLeastOnce);
        let mut publisher = broker.rumq("pub");
        for (topic, wanted) in [
            ("house/1/light", true),
            ("house/1/2/light", false),
            ("house/light", false),
            ("garden", true),
            ("gardens", false),
            ("garden/a/b/c", true),
            ("house//light", true),
        ] {
            publisher.publish(topic, topic, QoS::AtLeastOnce);
            if wanted {
                subscriber.expect(&message(topic, topic, QoS::AtLeastOnce));
            }
        }
        subscriber.expect_silence();
        subscriber.unsubscribe("garden/#");
        publisher.publish("garden", "x", QoS::AtLeastOnce);
        subscriber.expect_silence();
    });
}

#[test]
fn wildcards_leave_out_dollar_topics() {
    each_broker(|broker| {
        let mut everything = broker.rumq("sub");
        everything.subscribe("#", QoS::AtMostOnce);
        let mut own = broker.rumq("own");
        own.subscribe("$app/#", QoS::AtMostOnce);
        let mut publisher = broker.rumq("pub");
        publisher.publish("$app/state", "x", QoS::AtLeastOnce);
        publisher.publish("state", "y", QoS::AtLeastOnce);
        own.expect(&message("$app/state", "x", QoS::AtMostOnce));
        everything.expect(&message("state", "y", QoS::AtMostOnce));
        own.expect_silence();
    });
}

#[test]
fn publisher_receives_its_own_messages() {
    each_broker(|broker| {
        let mut client = broker.rumq("pub");
        client.subscribe("t", QoS::ExactlyOnce);
        for qos in QOS {
            client.publish("t", "x", qos);
            client.expect(&message("t", "x", qos));
        }
    });
}

/// Each of 300 clients, spread over all shards, hears every other one once.
#[test]
fn many_clients_hear_each_other() {
    on_shards(&[1, 2, 3, 8], &[], |broker| {
        let mut clients: Vec<Client> = (0..300).map(|n| broker.connect(&format!("client-{n}"))).collect();
        for client in &mut clients {
            client.subscribe("all", 0);
        }
        for client in &mut clients {
            client.publish("all", "hello", 0);
        }
        for client in &mut clients {
            for _ in 0..300 {
                client.expect_message("all", "hello", 0);
            }
        }
    });
}

/// One message to a thousand subscribers at once.
#[test]
fn one_message_reaches_a_thousand_subscribers() {
    each_broker(|broker| {
        let mut subscribers: Vec<Client> = (0..1_000).map(|n| broker.connect(&format!("client-{n}"))).collect();
        for (n, subscriber) in subscribers.iter_mut().enumerate() {
            let filter = ["news/today", "news/+", "#", "news/#"][n % 4];
            subscriber.subscribe(filter, 1);
        }
        broker.rumq("pub").publish("news/today", "x", QoS::AtLeastOnce);
        for subscriber in &mut subscribers {
            subscriber.expect_message("news/today", "x", 1);
        }
    });
}
