//! CONNECT.

use super::*;

/// The variable header up to Keep Alive 10, with `flags`.
fn with_flags(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(
        0x10,
        &[b"\x00\x04MQTT\x04", &[flags][..], b"\x00\x0A", payload].concat(),
    )
}

fn plain<'a>() -> Connect<'a> {
    Connect {
        protocol: Protocol::V311,
        clean_session: true,
        keep_alive: 10,
        client_id: "c",
        will: None,
        user_name: None,
        password: None,
    }
}

/// The payload's fields are Client Identifier, Will Topic, Will Message, User Name, Password [MQTT-3.1.3-1]
/// [MQTT-3.1.3-3], each there exactly if its flag says so [MQTT-3.1.2-9] [MQTT-3.1.2-19] [MQTT-3.1.2-21].
#[test]
fn connect_has_this_form() {
    let will = Will {
        topic: "w",
        message: b"\x00\xFF",
        qos: QoS::AtMostOnce,
        retain: false,
    };
    let cases: [(&[u8], Connect<'_>); 8] = [
        (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x0A\x00\x01c", plain()),
        (
            b"\x10\x0C\x00\x04MQTT\x04\x00\xFF\xFF\x00\x00",
            Connect {
                clean_session: false,
                keep_alive: 65_535,
                client_id: "",
                ..plain()
            },
        ),
        (
            b"\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x0A\x00\x01c",
            Connect {
                protocol: Protocol::V31,
                ..plain()
            },
        ),
        (
            b"\x10\x14\x00\x04MQTT\x04\x06\x00\x0A\x00\x01c\x00\x01w\x00\x02\x00\xFF",
            Connect {
                will: Some(will.clone()),
                ..plain()
            },
        ),
        (
            b"\x10\x12\x00\x04MQTT\x04\x36\x00\x0A\x00\x01c\x00\x01w\x00\x00",
            Connect {
                will: Some(Will {
                    message: b"",
                    qos: QoS::ExactlyOnce,
                    retain: true,
                    ..will.clone()
                }),
                ..plain()
            },
        ),
        (
            b"\x10\x10\x00\x04MQTT\x04\x82\x00\x0A\x00\x01c\x00\x01u",
            Connect {
                user_name: Some("u"),
                ..plain()
            },
        ),
        (
            b"\x10\x12\x00\x04MQTT\x04\xC2\x00\x0A\x00\x01c\x00\x00\x00\x01\xFF",
            Connect {
                user_name: Some(""),
                password: Some(b"\xFF"),
                ..plain()
            },
        ),
        (
            b"\x10\x1A\x00\x04MQTT\x04\xEE\x00\x0A\x00\x01c\x00\x01w\x00\x02\x00\xFF\x00\x01u\x00\x01p",
            Connect {
                will: Some(Will {
                    qos: QoS::AtLeastOnce,
                    retain: true,
                    ..will.clone()
                }),
                user_name: Some("u"),
                password: Some(b"p"),
                ..plain()
            },
        ),
    ];
    for (bytes, connect) in cases {
        assert_wire_form(bytes, &Packet::Connect(connect));
    }
}

/// Another protocol is not processed further [MQTT-3.1.2-1].
#[test]
fn protocol_name_is_compared_byte_by_byte() {
    assert_malformed(&[
        (
            b"\x10\x0D\x00\x04mqtt\x04\x02\x00\x0A\x00\x01c",
            CodecError::InvalidProtocolName,
        ),
        (
            b"\x10\x0C\x00\x03MQT\x04\x02\x00\x0A\x00\x01c",
            CodecError::InvalidProtocolName,
        ),
        (
            b"\x10\x0E\x00\x05MQTT\0\x04\x02\x00\x0A\x00\x01c",
            CodecError::InvalidProtocolName,
        ),
        (
            b"\x10\x0F\x00\x06MQISDP\x03\x02\x00\x0A\x00\x01c",
            CodecError::InvalidProtocolName,
        ),
        (b"\x10\x02\x00\x00", CodecError::InvalidProtocolName),
        (b"\x10\x04\x00\x02\xFF\xFF", CodecError::InvalidProtocolName),
    ]);
}

/// The name is right and the level is not: an error of its own, since it gets a CONNACK, and found before anything
/// that another level may lay out in another way [MQTT-3.1.2-2].
#[test]
fn unsupported_level_is_told_from_other_faults() {
    let unsupported = |level| CodecError::UnsupportedProtocolLevel { level };
    assert_malformed(&[
        // MQTT 5, with properties.
        (
            b"\x10\x13\x00\x04MQTT\x05\x02\x00\x0A\x05\x11\x00\x00\x00\x00\x00\x01c",
            unsupported(5),
        ),
        (b"\x10\x0D\x00\x04MQTT\x03\x02\x00\x0A\x00\x01c", unsupported(3)),
        (b"\x10\x0D\x00\x04MQTT\x00\x02\x00\x0A\x00\x01c", unsupported(0)),
        (b"\x10\x0F\x00\x06MQIsdp\x04\x02\x00\x0A\x00\x01c", unsupported(4)),
        // Bridges of Mosquitto, which try again without bit 7.
        (b"\x10\x0D\x00\x04MQTT\x84\x02\x00\x0A\x00\x01c", unsupported(0x84)),
        (b"\x10\x0F\x00\x06MQIsdp\x83\x02\x00\x0A\x00\x01c", unsupported(0x83)),
        // Nothing behind the level.
        (b"\x10\x07\x00\x04MQTT\x06", unsupported(6)),
    ]);
}

/// Which of the 256 Connect Flags are valid: the reserved one is 0 [MQTT-3.1.2-3], without Will Flag there is no Will
/// QoS [MQTT-3.1.2-13] and no Will Retain [MQTT-3.1.2-15], Will QoS is not 3 [MQTT-3.1.2-14], and there is no
/// password without a user name [MQTT-3.1.2-22].
#[test]
fn connect_flags_do_not_contradict_each_other() {
    // Upper bits: none, User Name, User Name and Password. Lower: Will with QoS and Retain. Clean Session in either.
    let valid: Vec<u8> = [0x00, 0x80, 0xC0]
        .iter()
        .flat_map(|credentials| [0x00, 0x04, 0x0C, 0x14, 0x24, 0x2C, 0x34].map(|will| credentials | will))
        .flat_map(|flags| [flags, flags | 0x02])
        .collect();
    assert_eq!(valid.len(), 42);
    for flags in 0..=u8::MAX {
        let bytes = with_flags(flags, &[]);
        // A valid byte goes on to the Client Identifier, which is not there.
        let error = if valid.contains(&flags) {
            CodecError::Truncated
        } else {
            CodecError::InvalidConnectFlags { flags }
        };
        assert_malformed(&[(&bytes, error)]);
    }
}

/// A field without its flag [MQTT-3.1.2-11] [MQTT-3.1.2-18] [MQTT-3.1.2-20] is left over, one that the flags promise
/// is missing [MQTT-3.1.2-9] [MQTT-3.1.2-19] [MQTT-3.1.2-21].
#[test]
fn fields_and_flags_of_connect_agree() {
    let cases: [(u8, &[u8], CodecError); 8] = [
        (0x02, b"\x00\x01c\x00", CodecError::TrailingBytes { count: 1 }),
        (0x02, b"\x00\x01c\x00\x01u", CodecError::TrailingBytes { count: 3 }),
        (
            0x82,
            b"\x00\x01c\x00\x01u\x00\x01p",
            CodecError::TrailingBytes { count: 3 },
        ),
        (0x82, b"\x00\x01c", CodecError::Truncated),
        (0xC2, b"\x00\x01c\x00\x01u", CodecError::Truncated),
        (0x06, b"\x00\x01c", CodecError::Truncated),
        (0x06, b"\x00\x01c\x00\x01w", CodecError::Truncated),
        (0x06, b"\x00\x01c\x00\x01w\x00\x02m", CodecError::Truncated),
    ];
    for (flags, payload, error) in cases {
        assert_malformed(&[(&with_flags(flags, payload), error)]);
    }
}

/// However short the body of a CONNECT says it is, a field then runs past its end.
#[test]
fn connect_shortened_anywhere_is_malformed() {
    let body = b"\x00\x04MQTT\x04\xEE\x00\x0A\x00\x01c\x00\x01w\x00\x02\x00\xFF\x00\x01u\x00\x01p";
    for len in 0..body.len() {
        assert_malformed(&[(&frame(0x10, &body[..len]), CodecError::Truncated)]);
    }
}
