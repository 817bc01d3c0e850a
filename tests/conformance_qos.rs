//! QoS 0, 1 and 2 in both directions, chapters 4.3, 4.4 and 4.6: what the broker owes as a Receiver and as a Sender.

mod common;

use std::collections::HashSet;

use common::wire;
use common::*;

/// [MQTT-4.3.2-2]
#[test]
fn acknowledged_qos_1_identifier_is_a_new_message() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        for repeat in [publish("t", "x").qos(1, 3), publish("t", "x").qos(1, 3).dup()] {
            publisher.send(repeat.encode());
            publisher.expect(&Packet::Puback(3));
            subscriber.expect_message("t", "x", 1);
        }
    });
}

/// [MQTT-4.3.3-2]
#[test]
fn repeated_qos_2_publish_is_delivered_once() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        publisher.send(publish("t", "first").qos(2, 3).encode());
        publisher.expect(&Packet::Pubrec(3));
        for payload in ["first", "second"] {
            publisher.send(publish("t", payload).qos(2, 3).dup().encode());
            publisher.expect(&Packet::Pubrec(3));
        }
        publisher.send(wire::pubrel(3));
        publisher.expect(&Packet::Pubcomp(3));
        subscriber.expect_message("t", "first", 2);
        // The identifier is free again, so this is another message.
        publisher.send(publish("t", "third").qos(2, 3).encode());
        publisher.expect(&Packet::Pubrec(3));
        publisher.send(wire::pubrel(3));
        publisher.expect(&Packet::Pubcomp(3));
        subscriber.expect_message("t", "third", 2);
        subscriber.expect_silence();
    });
}

/// A client that missed the PUBCOMP asks again. [MQTT-4.3.3-2] [MQTT-4.4.0-1]
#[test]
fn pubrel_gets_pubcomp_even_where_nothing_is_held() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        publisher.send(wire::pubrel(77));
        publisher.expect(&Packet::Pubcomp(77));
        publisher.send([wire::pubrel(77), wire::pubrel(78)].concat());
        publisher.expect(&Packet::Pubcomp(77));
        publisher.expect(&Packet::Pubcomp(78));
    });
}

/// [MQTT-4.3.3-2] [MQTT-3.1.2-4]
#[test]
fn unreleased_qos_2_identifier_is_remembered_across_connections() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        let (mut publisher, _) = broker.resume("pub");
        publisher.send(publish("t", "x").qos(2, 9).encode());
        publisher.expect(&Packet::Pubrec(9));
        publisher.vanish();
        let (mut publisher, _) = broker.resume("pub");
        publisher.send(publish("t", "x").qos(2, 9).dup().encode());
        publisher.expect(&Packet::Pubrec(9));
        publisher.send(wire::pubrel(9));
        publisher.expect(&Packet::Pubcomp(9));
        subscriber.expect_message("t", "x", 2);
        subscriber.expect_silence();
    });
}

/// [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
#[test]
fn first_delivery_has_its_qos_and_no_dup() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        for qos in 0..=2 {
            publisher.publish("t", [qos], qos);
            subscriber.expect_message("t", [qos], qos);
        }
    });
}

/// [MQTT-4.3.2-1] [MQTT-4.4.0-1]
#[test]
fn qos_1_is_sent_again_until_puback() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 1);
        broker.connect("pub").publish("t", "x", 1);
        let first = subscriber.recv_publish();
        for _ in 0..2 {
            subscriber.vanish();
            subscriber = broker.resume("sub").0;
            assert_eq!(subscriber.recv_publish(), first.clone().dup());
        }
        subscriber.send(wire::puback(first.packet_id()));
        subscriber.disconnect();
        broker.resume("sub").0.expect_silence();
    });
}

/// [MQTT-4.3.3-1] [MQTT-4.4.0-1] [MQTT-2.3.1-6]
#[test]
fn after_pubrec_pubrel_is_sent_again_and_publish_is_not() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 2);
        broker.connect("pub").publish("t", "x", 2);
        let first = subscriber.recv_publish();
        let id = first.packet_id();
        subscriber.vanish();
        let (mut subscriber, _) = broker.resume("sub");
        assert_eq!(subscriber.recv_publish(), first.dup());
        subscriber.send(wire::pubrec(id));
        subscriber.expect(&Packet::Pubrel(id));
        for _ in 0..2 {
            subscriber.vanish();
            subscriber = broker.resume("sub").0;
            subscriber.expect(&Packet::Pubrel(id));
            subscriber.expect_silence();
        }
        subscriber.send(wire::pubcomp(id));
        subscriber.disconnect();
        broker.resume("sub").0.expect_silence();
    });
}

/// Five unacknowledged PUBLISH, and one PUBREL for the first of them. [MQTT-4.4.0-1] [MQTT-3.3.1-1]
#[test]
fn unacknowledged_packets_are_sent_again_in_order_with_their_identifiers() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        let qoses = [2, 1, 2, 1, 1];
        for (n, qos) in (0_u8..).zip(qoses) {
            publisher.publish("t", [n], qos);
        }
        let sent: Vec<Publish> = qoses.iter().map(|_| subscriber.recv_publish()).collect();
        subscriber.send(wire::pubrec(sent[0].packet_id()));
        subscriber.expect(&Packet::Pubrel(sent[0].packet_id()));
        subscriber.vanish();
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.expect(&Packet::Pubrel(sent[0].packet_id()));
        for publish in &sent[1..] {
            assert_eq!(subscriber.recv_publish(), publish.clone().dup());
        }
        subscriber.expect_silence();
    });
}

/// [MQTT-2.3.1-4] [MQTT-4.3.2-1]
#[test]
fn identifiers_in_flight_are_distinct() {
    each_broker_with(&["--max-inflight", "20"], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        for n in 0..20 {
            publisher.publish("t", [n], 1 + n % 2);
        }
        let ids: HashSet<u16> = (0..20).map(|_| subscriber.recv_publish().packet_id()).collect();
        assert_eq!(ids.len(), 20);
    });
}

/// The identifiers go round once while the first message stays unacknowledged. [MQTT-2.3.1-4]
#[test]
fn identifier_in_flight_is_not_used_again_after_65535_others() {
    on_shards(&[1, 2], &[], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        publisher.publish("t", "held", 1);
        let held = subscriber.recv_publish().packet_id();
        let batch = publish("t", "x").qos(1, 1).encode().repeat(10);
        for _ in 0..6_600 {
            publisher.send(&batch);
            for _ in 0..10 {
                publisher.expect(&Packet::Puback(1));
                let id = subscriber.recv_publish().packet_id();
                assert_ne!(id, held);
                subscriber.send(wire::puback(id));
            }
        }
    });
}

/// [MQTT-4.6.0-2]
#[test]
fn pubacks_come_in_the_order_of_the_publishes() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        let ids = [9, 2, 0xffff, 1, 300, 8, 7, 0x100];
        publisher.send(
            ids.map(|id| publish(&format!("t/{id}"), "x").qos(1, id).encode())
                .concat(),
        );
        for id in ids {
            publisher.expect(&Packet::Puback(id));
        }
    });
}

/// [MQTT-4.6.0-3]
#[test]
fn pubrecs_come_in_the_order_of_the_publishes() {
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        let ids = [9, 2, 0xffff, 1, 300, 8, 7, 0x100];
        publisher.send(
            ids.map(|id| publish(&format!("t/{id}"), "x").qos(2, id).encode())
                .concat(),
        );
        for id in ids {
            publisher.expect(&Packet::Pubrec(id));
        }
        publisher.send(ids.map(wire::pubrel).concat());
        for id in ids {
            publisher.expect(&Packet::Pubcomp(id));
        }
    });
}

/// Even where the client has sent its PUBRECs in an order of its own. [MQTT-4.6.0-4]
#[test]
fn pubrels_come_in_the_order_of_the_pubrecs() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        for n in 0..8_u8 {
            publisher.publish("t", [n], 2);
        }
        let mut ids: Vec<u16> = (0..8).map(|_| subscriber.recv_publish().packet_id()).collect();
        ids.rotate_left(3);
        ids.swap(0, 4);
        subscriber.send(ids.iter().flat_map(|id| wire::pubrec(*id)).collect::<Vec<u8>>());
        for id in ids {
            subscriber.expect(&Packet::Pubrel(id));
        }
    });
}

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6]
#[test]
fn messages_arrive_in_the_order_in_which_they_were_published() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("+", 2);
        for qos in 0..=2 {
            let mut publisher = broker.connect("pub");
            for n in 0..200_u16 {
                let id = n + 1;
                publisher.send(publish("t", n.to_be_bytes()).qos(qos, id).encode());
                if qos == 2 {
                    publisher.send(wire::pubrel(id));
                }
                // An order that depends on the topic, or on the size, would show.
                publisher.send(publish("other", vec![0; usize::from(n)]).encode());
            }
            let mut next = 0_u16;
            while next < 200 {
                let Packet::Publish(got) = subscriber.recv() else {
                    continue;
                };
                match got.qos {
                    1 => subscriber.send(wire::puback(got.packet_id())),
                    2 => subscriber.send([wire::pubrec(got.packet_id()), wire::pubcomp(got.packet_id())].concat()),
                    _ => {}
                }
                if got.topic == "t" {
                    assert_eq!(got.payload, next.to_be_bytes());
                    next += 1;
                }
            }
            subscriber.drain();
        }
    });
}

/// With room for one message in flight, the others wait in the session, and must not overtake. [MQTT-4.6.0-6]
#[test]
fn order_holds_through_an_in_flight_window_of_one() {
    each_broker_with(&["--max-inflight", "1"], |broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        for n in 0..20_u8 {
            publisher.publish("t", [n], 1);
        }
        for n in 0..20_u8 {
            let got = subscriber.recv_publish();
            assert_eq!((got.payload.as_slice(), got.dup), (&[n][..], false));
            if n == 10 {
                subscriber.vanish();
                subscriber = broker.resume("sub").0;
                assert_eq!(subscriber.recv_publish(), got.clone().dup());
            }
            subscriber.send(wire::puback(got.packet_id()));
        }
    });
}

/// Whatever the pieces are in which they arrive, bytes are one ordered stream. [MQTT-4.2.0-1]
#[test]
fn cut_of_the_stream_does_not_matter() {
    each_broker(|broker| {
        let packets = [
            Connect::new("pub").encode(),
            wire::subscribe(1, &[("t", 1)]),
            publish("t", "x".repeat(200)).qos(1, 2).encode(),
            wire::unsubscribe(3, &["other"]),
            PINGREQ.to_vec(),
        ];
        for piece in [1, 2, 7, 1_000] {
            let mut client = broker.dial();
            for bytes in packets.concat().chunks(piece) {
                client.send(bytes);
            }
            client.expect(&Packet::Connack {
                session_present: false,
                code: 0,
            });
            let mut seen: Vec<String> = (0..5)
                .map(|_| match client.recv() {
                    Packet::Publish(got) => format!("{} bytes", got.payload.len()),
                    other => format!("{other:?}"),
                })
                .collect();
            seen.sort();
            assert_eq!(
                seen,
                [
                    "200 bytes",
                    "Pingresp",
                    "Puback(2)",
                    "Suback { id: 1, codes: [1] }",
                    "Unsuback(3)"
                ]
            );
        }
    });
}
