//! The will, with rumqttc.

mod common;

use common::rumq::{Message, QOS, message};
use common::*;
use rumqttc::QoS;

#[test]
fn will_tells_of_a_client_that_fails() {
    each_broker(|broker| {
        let mut watcher = broker.rumq("sub");
        watcher.subscribe("gone/#", QoS::ExactlyOnce);
        for qos in QOS {
            drop(broker.rumq_will("pub", "gone/pub", "failed", qos, false));
            watcher.expect(&message("gone/pub", "failed", qos));
        }
        watcher.expect_silence();
    });
}

#[test]
fn disconnect_keeps_the_will_quiet() {
    each_broker(|broker| {
        let mut watcher = broker.rumq("sub");
        watcher.subscribe("gone/#", QoS::ExactlyOnce);
        broker
            .rumq_will("pub", "gone/pub", "failed", QoS::AtLeastOnce, false)
            .disconnect();
        watcher.expect_silence();
    });
}

#[test]
fn retained_will_is_the_state_that_later_clients_see() {
    each_broker(|broker| {
        let mut client = broker.rumq_will("pub", "state/pub", "offline", QoS::AtLeastOnce, true);
        client.retain("state/pub", "online", QoS::AtLeastOnce);
        let mut watcher = broker.rumq("sub");
        watcher.subscribe("state/+", QoS::AtLeastOnce);
        watcher.expect(&Message {
            retain: true,
            ..message("state/pub", "online", QoS::AtLeastOnce)
        });
        drop(client);
        watcher.expect(&message("state/pub", "offline", QoS::AtLeastOnce));
        let mut later = broker.rumq("later");
        later.subscribe("state/+", QoS::AtLeastOnce);
        later.expect(&Message {
            retain: true,
            ..message("state/pub", "offline", QoS::AtLeastOnce)
        });
    });
}

/// A client that comes back as itself before the broker has noticed that it was gone.
#[test]
fn takeover_publishes_the_old_will_once() {
    each_broker(|broker| {
        let mut watcher = broker.rumq("sub");
        watcher.subscribe("gone/#", QoS::AtLeastOnce);
        let mut clients = vec![];
        for n in 0..5 {
            clients.push(broker.rumq_will("pub", "gone/pub", &format!("will {n}"), QoS::AtLeastOnce, false));
        }
        for n in 0..4 {
            watcher.expect(&message("gone/pub", format!("will {n}"), QoS::AtLeastOnce));
        }
        watcher.expect_silence();
        clients.pop().expect("the last of five").disconnect();
        watcher.expect_silence();
    });
}
