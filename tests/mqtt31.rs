//! MQTT 3.1, the protocol before 3.1.1: name `MQIsdp`, level 3. Devices that speak it are still in the field.

mod common;

use common::*;

fn old(id: &str) -> Connect {
    Connect {
        protocol: "MQIsdp",
        level: 3,
        ..Connect::new(id)
    }
}

#[test]
fn old_clients_publish_and_subscribe_in_every_qos() {
    each_broker(|broker| {
        let (mut subscriber, session_present) = broker.connect_as(&old("sub"));
        assert!(!session_present);
        subscriber.subscribe("t", 2);
        let (mut publisher, _) = broker.connect_as(&old("pub"));
        for qos in 0..=2 {
            publisher.publish("t", [qos], qos);
            subscriber.expect_message("t", [qos], qos);
        }
    });
}

#[test]
fn old_and_new_clients_meet() {
    each_broker(|broker| {
        let (mut old_subscriber, _) = broker.connect_as(&old("sub"));
        old_subscriber.subscribe("t", 1);
        let mut new_subscriber = broker.connect("new");
        new_subscriber.subscribe("t", 1);
        let (mut publisher, _) = broker.connect_as(&old("pub").will(publish("t", "gone").qos(1, 1)));
        publisher.publish("t", "x", 1);
        publisher.vanish();
        for client in [&mut old_subscriber, &mut new_subscriber] {
            client.expect_message("t", "x", 1);
            client.expect_message("t", "gone", 1);
        }
    });
}

/// Bit 0 of CONNACK's flags was reserved then, so the session resumes without saying so.
#[test]
fn old_client_finds_its_session() {
    each_broker(|broker| {
        let resume = Connect {
            clean: false,
            ..old("sub")
        };
        let (mut subscriber, _) = broker.connect_as(&resume);
        subscriber.subscribe("t", 1);
        subscriber.disconnect();
        broker.connect("pub").publish("t", "missed", 1);
        let (mut subscriber, _) = broker.connect_as(&resume);
        subscriber.expect_message("t", "missed", 1);
    });
}

/// 3.1 has no empty identifiers, but a name of its own for every level.
#[test]
fn level_of_another_protocol_name_is_refused() {
    each_broker(|broker| {
        for (protocol, level) in [("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3)] {
            let mut client = broker.dial();
            client.send(
                Connect {
                    protocol,
                    level,
                    ..Connect::new("pub")
                }
                .encode(),
            );
            client.expect(&Packet::Connack {
                session_present: false,
                code: 1,
            });
            client.expect_close();
        }
    });
}
