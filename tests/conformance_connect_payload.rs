//! CONNECT's payload and the flags that announce it, chapters 3.1.2.5 to 3.1.3: identifier, will, user name, password.

mod common;

use common::wire::{packet, string};
use common::*;

/// [MQTT-3.1.2-9] [MQTT-3.1.2-11]
#[test]
fn will_flag_and_will_fields_go_together() {
    each_broker(|broker| {
        let with_will = Connect::new("pub").will(publish("will", "gone"));
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x04,
                ..with_will.clone()
            }
            .encode(),
        );
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x04,
                ..Connect::new("pub")
            }
            .encode(),
        );
        let mut topic_only = Connect {
            flip_flags: 0x04,
            ..Connect::new("pub")
        }
        .encode();
        topic_only.extend(string("will"));
        topic_only[1] += 6;
        broker.assert_closes_new(topic_only);
        assert!(!broker.connect_as(&with_will).1);
    });
}

/// [MQTT-3.1.2-11] [MQTT-3.1.2-13]
#[test]
fn will_qos_without_will_closes() {
    each_broker(|broker| {
        for flip_flags in [0x08, 0x10, 0x18] {
            broker.assert_closes_new(
                Connect {
                    flip_flags,
                    ..Connect::new("pub")
                }
                .encode(),
            );
        }
    });
}

/// [MQTT-3.1.2-11] [MQTT-3.1.2-15]
#[test]
fn will_retain_without_will_closes() {
    each_broker(|broker| {
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x20,
                ..Connect::new("pub")
            }
            .encode(),
        );
    });
}

/// [MQTT-3.1.2-14]
#[test]
fn will_qos_3_closes() {
    each_broker(|broker| {
        for qos in 0..=2 {
            broker.connect_as(&Connect::new("pub").will(publish("will", "gone").qos(qos, 1)));
        }
        let connect = Connect::new("pub").will(publish("will", "gone"));
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x18,
                ..connect
            }
            .encode(),
        );
    });
}

/// [MQTT-3.1.2-18] [MQTT-3.1.2-19]
#[test]
fn user_name_flag_and_user_name_go_together() {
    each_broker(|broker| {
        let with_user = Connect {
            user: Some(b"me".to_vec()),
            ..Connect::new("pub")
        };
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x80,
                ..with_user.clone()
            }
            .encode(),
        );
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x80,
                ..Connect::new("pub")
            }
            .encode(),
        );
        broker.connect_as(&with_user);
        broker.connect_as(&Connect {
            user: Some(Vec::new()),
            ..with_user
        });
    });
}

/// [MQTT-3.1.2-20] [MQTT-3.1.2-21]
#[test]
fn password_flag_and_password_go_together() {
    each_broker(|broker| {
        let with_user = Connect {
            user: Some(b"me".to_vec()),
            ..Connect::new("pub")
        };
        let with_both = Connect {
            password: Some(b"\x00\xff".to_vec()),
            ..with_user.clone()
        };
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x40,
                ..with_both.clone()
            }
            .encode(),
        );
        broker.assert_closes_new(
            Connect {
                flip_flags: 0x40,
                ..with_user
            }
            .encode(),
        );
        broker.connect_as(&with_both);
    });
}

/// [MQTT-3.1.2-22]
#[test]
fn password_without_user_name_closes() {
    each_broker(|broker| {
        broker.assert_closes_new(
            Connect {
                password: Some(b"secret".to_vec()),
                ..Connect::new("pub")
            }
            .encode(),
        );
    });
}

/// The will that is published shows which field was taken for what. [MQTT-3.1.3-1]
#[test]
fn payload_fields_are_read_in_their_order() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("#", 1);
        let connect =
            b"\x10\x27\x00\x04MQTT\x04\xcc\x00\x3c\x00\x03pub\x00\x04will\x00\x04gone\x00\x02me\x00\x06secret";
        let mut client = broker.dial();
        client.send(connect);
        client.expect(&Packet::Connack {
            session_present: false,
            code: 0,
        });
        client.vanish();
        subscriber.expect_message("will", "gone", 1);
    });
}

/// [MQTT-3.1.3-2]
#[test]
fn session_belongs_to_the_client_identifier() {
    each_broker(|broker| {
        let (mut client, _) = broker.resume("sub");
        client.subscribe("t", 1);
        client.disconnect();
        for other in ["Sub", "sub ", "su", "subs"] {
            assert!(!broker.resume(other).1, "{other} has no session");
        }
        assert!(broker.resume("sub").1);
    });
}

/// [MQTT-3.1.3-3]
#[test]
fn missing_client_identifier_closes() {
    each_broker(|broker| {
        broker.assert_closes_new(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x3c"));
        broker.assert_closes_new(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x3c\x00"));
        broker.assert_closes_new(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x02a"));
    });
}

/// [MQTT-3.1.3-4] [MQTT-1.5.3-1] [MQTT-1.5.3-2]
#[test]
fn client_identifier_is_utf_8() {
    each_broker(|broker| {
        for id in ILL_FORMED {
            broker.assert_closes_new(
                Connect {
                    id: id.to_vec(),
                    ..Connect::new("")
                }
                .encode(),
            );
        }
        broker.connect("gerät-1/café");
    });
}

/// [MQTT-3.1.3-5]
#[test]
fn letters_and_digits_up_to_23_bytes_are_accepted() {
    each_broker(|broker| {
        for id in [
            "0",
            "z",
            "abcdefghijklmnopqrstuvw",
            "ABCDEFGHIJKLMNOPQRSTUVW",
            "xyzXYZ01234567890123456",
        ] {
            assert!(id.len() == 1 || id.len() == 23);
            broker.connect(id).ping();
        }
    });
}

/// [MQTT-3.1.3-6]
#[test]
fn empty_client_identifiers_are_made_unique() {
    each_broker(|broker| {
        let mut clients: Vec<Client> = (0..5).map(|_| broker.connect("")).collect();
        for (n, client) in (0_u8..).zip(&mut clients) {
            client.subscribe(&format!("to/{n}"), 0);
        }
        for (n, client) in (0_u8..).zip(&mut clients) {
            client.publish(&format!("to/{n}"), [n], 0);
            client.expect_message(&format!("to/{n}"), [n], 0);
        }
    });
}

/// [MQTT-3.1.3-8] [MQTT-3.1.3-9] [MQTT-3.2.2-4] [MQTT-3.2.2-5]
#[test]
fn empty_client_identifier_with_clean_session_0_is_refused_with_2() {
    each_broker(|broker| {
        let mut client = broker.dial();
        client.send(Connect::resume("").encode());
        client.expect(&Packet::Connack {
            session_present: false,
            code: 2,
        });
        client.expect_close();
    });
}

/// [MQTT-3.1.3-10]
#[test]
fn will_topic_is_utf_8() {
    each_broker(|broker| {
        for topic in ILL_FORMED {
            let mut body = b"\x00\x04MQTT\x04\x06\x00\x3c\x00\x03pub".to_vec();
            body.extend([string(topic), string("gone")].concat());
            broker.assert_closes_new(packet(0x10, &body));
        }
    });
}

/// [MQTT-3.1.3-11]
#[test]
fn user_name_is_utf_8() {
    each_broker(|broker| {
        for user in ILL_FORMED {
            broker.assert_closes_new(
                Connect {
                    user: Some(user.to_vec()),
                    ..Connect::new("pub")
                }
                .encode(),
            );
        }
    });
}
