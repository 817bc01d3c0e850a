//! CONNECT, chapter 3.1: what comes first, what is refused and how, and who is disconnected. Its payload has a file of
//! its own.

mod common;

use common::wire::{self, packet};
use common::*;

/// [MQTT-3.1.0-1]
#[test]
fn first_packet_other_than_connect_closes() {
    each_broker(|broker| {
        broker.assert_closes_new(PINGREQ);
        broker.assert_closes_new(DISCONNECT);
        broker.assert_closes_new(publish("t", "x").encode());
        broker.assert_closes_new(wire::subscribe(1, &[("#", 0)]));
        broker.assert_closes_new(wire::pubrel(1));
        broker.assert_closes_new([0x20, 0x02, 0x00, 0x00]);
    });
}

/// [MQTT-3.1.0-2]
#[test]
fn second_connect_closes() {
    each_broker(|broker| {
        for connect in [
            Connect::new("offender"),
            Connect::new("another"),
            Connect::resume("offender"),
        ] {
            broker.assert_closes(connect.encode());
        }
    });
}

/// The rest of the stream belongs to nobody, so the retained message in it must not be stored. [MQTT-3.1.2-1]
#[test]
fn wrong_protocol_name_goes_no_further() {
    each_broker(|broker| {
        for protocol in ["", "mqtt", "MQTT ", "MQTTS", "AMQP"] {
            let connect = Connect {
                protocol,
                ..Connect::new("pub")
            };
            let stored = publish("stored", "x").retain();
            broker.assert_closes_new([connect.encode(), stored.encode()].concat());
        }
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("stored", 0);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.1.2-2] [MQTT-3.2.2-4] [MQTT-3.2.2-5]
#[test]
fn unsupported_protocol_level_is_refused_with_1() {
    each_broker(|broker| {
        for level in [0, 2, 3, 6, 0x7f, 0xff] {
            let mut client = broker.dial();
            client.send(
                Connect {
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

/// A CONNECT of MQTT 5 has properties, so all but its beginning is unreadable here. [MQTT-3.1.2-2]
#[test]
fn mqtt_5_client_is_refused_with_1() {
    each_broker(|broker| {
        let mut client = broker.dial();
        client.send(b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a\x00\x01a");
        client.expect(&Packet::Connack {
            session_present: false,
            code: 1,
        });
        client.expect_close();
    });
}

/// [MQTT-3.1.2-3] [MQTT-3.1.4-1]
#[test]
fn reserved_connect_flag_closes() {
    each_broker(|broker| {
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x01,
                ..Connect::new("pub")
            }
            .encode(),
        );
    });
}

/// [MQTT-3.1.4-1] [MQTT-3.2.2-6]
#[test]
fn malformed_connect_closes_without_connack() {
    each_broker(|broker| {
        let valid = Connect::new("pub").encode();
        let mut trailing = [&valid[..], b"x"].concat();
        trailing[1] += 1;
        broker.assert_closes_new(trailing);
        let mut flags = valid;
        flags[0] = 0x11;
        broker.assert_closes_new(flags);
        broker.assert_closes_new([0x10, 0x00]);
        broker.assert_closes_new(packet(0x10, b"\x00\x04MQTT"));
        broker.assert_closes_new(packet(0x10, b"\x00\x04MQTT\x04\x02\x00"));
        broker.assert_closes_new(packet(0x10, b"\xff\xffMQTT\x04\x02\x00\x3c\x00\x01a"));
    });
}

/// [MQTT-3.1.4-2]
#[test]
fn same_client_identifier_disconnects_the_existing_client() {
    each_broker(|broker| {
        for connect in [Connect::new("sub"), Connect::resume("sub")] {
            let (mut first, _) = broker.connect_as(&connect);
            let (mut second, _) = broker.connect_as(&connect);
            first.expect_close();
            let (mut third, _) = broker.connect_as(&connect);
            second.expect_close();
            third.ping();
            third.disconnect();
        }
    });
}

/// [MQTT-3.1.4-4] [MQTT-3.1.2-19] [MQTT-3.1.2-21]
#[test]
fn accepted_connect_gets_connack_0() {
    each_broker(|broker| {
        let everything = Connect {
            user: Some(b"me".to_vec()),
            password: Some(b"secret".to_vec()),
            ..Connect::new("pub").will(publish("will", "gone").qos(2, 1).retain())
        };
        for connect in [Connect::new("a"), Connect::new("b").keep_alive(0), everything] {
            let mut client = broker.dial();
            client.send(connect.encode());
            client.expect(&Packet::Connack {
                session_present: false,
                code: 0,
            });
            client.disconnect();
        }
    });
}

/// A client need not wait for CONNACK; what it sent early also moves with it to its home shard.
#[test]
fn packets_right_behind_connect_are_processed() {
    each_broker(|broker| {
        for shard in 0..broker.shards {
            let mut client = broker.dial();
            let connect = Connect::new(&broker.id_on(shard, "eager")).encode();
            let hello = publish("hello", "x").qos(1, 9).encode();
            client.send([connect, wire::subscribe(8, &[("hello", 0)]), hello].concat());
            client.expect(&Packet::Connack {
                session_present: false,
                code: 0,
            });
            // The message may come before the SUBACK, and an acknowledgement waits for nothing but its own packet.
            let rest = [client.recv(), client.recv(), client.recv()];
            assert!(rest.contains(&Packet::Suback { id: 8, codes: vec![0] }), "{rest:?}");
            assert!(rest.contains(&Packet::Publish(publish("hello", "x"))), "{rest:?}");
            assert!(rest.contains(&Packet::Puback(9)), "{rest:?}");
        }
    });
}

/// [MQTT-3.1.4-5]
#[test]
fn nothing_behind_a_refused_connect_is_processed() {
    each_broker(|broker| {
        let refused = [
            Connect {
                level: 9,
                ..Connect::new("pub")
            },
            Connect::resume(""),
        ];
        for (connect, code) in refused.into_iter().zip([1, 2]) {
            let mut client = broker.dial();
            let stored = publish("stored", "x").qos(1, 1).retain();
            client.send([connect.encode(), stored.encode(), Connect::new("pub").encode()].concat());
            client.expect(&Packet::Connack {
                session_present: false,
                code,
            });
            client.expect_close();
        }
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("stored", 0);
        subscriber.expect_silence();
    });
}
