//! Strings, wherever a packet has one.

use super::*;

/// A packet with a string put into one of its fields.
type Field = (&'static str, fn(&[u8]) -> Vec<u8>);

/// Every field of every packet that is a string: Client Identifier [MQTT-3.1.3-4], Will Topic [MQTT-3.1.3-10], User
/// Name [MQTT-3.1.3-11], Topic Name, Topic Filters.
const FIELDS: [Field; 7] = [
    ("Client Identifier", |text| {
        frame(0x10, &[b"\x00\x04MQTT\x04\x02\x00\x0A", &string(text)[..]].concat())
    }),
    ("Will Topic", |text| {
        frame(
            0x10,
            &[
                b"\x00\x04MQTT\x04\x06\x00\x0A\x00\x01c",
                &string(text)[..],
                b"\x00\x01m",
            ]
            .concat(),
        )
    }),
    ("User Name", |text| {
        frame(
            0x10,
            &[b"\x00\x04MQTT\x04\x82\x00\x0A\x00\x01c", &string(text)[..]].concat(),
        )
    }),
    ("Topic Name", |text| {
        frame(0x30, &[&string(text)[..], b"payload"].concat())
    }),
    ("Topic Filter to subscribe", |text| {
        frame(0x82, &[b"\x00\x01", &string(text)[..], b"\x01"].concat())
    }),
    ("second Topic Filter to subscribe", |text| {
        frame(0x82, &[b"\x00\x01\x00\x01a\x01", &string(text)[..], b"\x01"].concat())
    }),
    ("Topic Filter to unsubscribe", |text| {
        frame(0xA2, &[b"\x00\x01", &string(text)[..]].concat())
    }),
];

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

#[track_caller]
fn assert_malformed_everywhere(text: &[u8], error: CodecError) {
    for (field, packet) in FIELDS {
        assert_eq!(
            decode(&packet(text), PACKET_BYTES_MAX),
            Err(error),
            "{field}: {text:02X?}"
        );
    }
}

/// Well-formed UTF-8, without surrogates and overlong forms [MQTT-1.5.3-1] [MQTT-3.1.3-4] [MQTT-3.1.3-10]
/// [MQTT-3.1.3-11] [MQTT-3.3.2-1] [MQTT-3.8.3-1] [MQTT-3.10.3-1].
#[test]
fn ill_formed_utf8_is_malformed_in_every_field() {
    let cases: [&[u8]; 10] = [
        b"a\xFFb",
        b"\x80",
        b"a/b/c/d/e/f/g/h/\xC3",
        b"\xC0\x80",
        b"\xE0\x80\xAF",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xED\xA0\xBD\xED\xB8\x80",
        b"\xF4\x90\x80\x80",
        b"\xF8\x88\x80\x80\x80",
    ];
    for text in cases {
        assert_malformed_everywhere(text, CodecError::InvalidUtf8);
    }
}

/// U+0000 closes, wherever it stands [MQTT-1.5.3-2] [MQTT-4.7.3-2].
#[test]
fn nul_is_malformed_in_every_field_and_place() {
    for len in 1..=40 {
        for at in 0..len {
            let mut text = vec![b'x'; len];
            text[at] = 0;
            assert_malformed_everywhere(&text, CodecError::NulInString);
        }
    }
    assert_malformed_everywhere("ü\0é".as_bytes(), CodecError::NulInString);
}

/// U+FEFF is a character: first, last or alone it stays [MQTT-1.5.3-3].
#[test]
fn byte_order_mark_is_kept() {
    let cases: [(&[u8], &str); 3] = [
        (b"\x30\x06\x00\x04\xEF\xBB\xBFa", "\u{FEFF}a"),
        (b"\x30\x06\x00\x04a\xEF\xBB\xBF", "a\u{FEFF}"),
        (b"\x30\x05\x00\x03\xEF\xBB\xBF", "\u{FEFF}"),
    ];
    for (bytes, topic) in cases {
        let Packet::Publish(publish) = whole(bytes) else {
            panic!("not a PUBLISH")
        };
        assert_eq!(publish.topic, topic);
    }
}

/// Control characters and non-characters are no reason to close; wildcards and empty topics are judged elsewhere.
#[test]
fn other_characters_are_accepted_in_every_field() {
    for text in [
        "",
        "\u{1}\t\u{7F}\u{9F}",
        "\u{FFFF}\u{FDD0}",
        "ü/é/日本/\u{10FFFF}",
        "#/+/a#",
        "/",
    ] {
        for (field, packet) in FIELDS {
            assert!(
                decode(&packet(text.as_bytes()), PACKET_BYTES_MAX).unwrap().is_some(),
                "{field}: {text:?}"
            );
        }
    }
}

/// 65 535 bytes are the most a string can have [MQTT-4.7.3-3].
#[test]
fn longest_string_is_a_string() {
    let topic = "/".repeat(65_535);
    let bytes = [b"\x30\x81\x80\x04\xFF\xFF", topic.as_bytes()].concat();
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: &topic,
        packet_id: None,
        payload: b"",
    };
    assert_wire_form(&bytes, &Packet::Publish(publish));
}
