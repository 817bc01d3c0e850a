//! Every packet type except CONNECT.

use super::*;

/// RETAIN, DUP, QoS and Packet Identifier as sections 3.3.1 and 3.3.2 place them; the topic comes first
/// [MQTT-3.3.2-1], and only QoS 1 and 2 have an identifier [MQTT-2.3.1-5].
#[test]
fn publish_has_this_form() {
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a/b",
        packet_id: None,
        payload: b"\x00\xFFx",
    };
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    let cases: [(&[u8], Publish<'_>); 7] = [
        (b"\x30\x08\x00\x03a/b\x00\xFFx", publish.clone()),
        (
            b"\x31\x05\x00\x03a/b",
            Publish {
                retain: true,
                payload: b"",
                ..publish.clone()
            },
        ),
        (
            b"\x30\x02\x00\x00",
            Publish {
                topic: "",
                payload: b"",
                ..publish.clone()
            },
        ),
        (
            b"\x32\x0A\x00\x03a/b\x00\x0A\x00\xFFx",
            Publish {
                qos: one,
                packet_id: Some(id(10)),
                ..publish.clone()
            },
        ),
        (
            b"\x3B\x0A\x00\x03a/b\xFF\xFF\x00\xFFx",
            Publish {
                dup: true,
                qos: one,
                retain: true,
                packet_id: Some(id(65_535)),
                ..publish.clone()
            },
        ),
        (
            b"\x34\x07\x00\x03a/b\x01\x00",
            Publish {
                qos: two,
                packet_id: Some(id(256)),
                payload: b"",
                ..publish.clone()
            },
        ),
        (
            b"\x3C\x0A\x00\x03a/b\x00\x01\x00\xFFx",
            Publish {
                dup: true,
                qos: two,
                packet_id: Some(id(1)),
                ..publish.clone()
            },
        ),
    ];
    for (bytes, publish) in cases {
        assert_wire_form(bytes, &Packet::Publish(publish));
    }
}

#[test]
fn publish_borrows_topic_and_payload() {
    let bytes = b"\x32\x09\x00\x03a/b\x00\x0Axy";
    let Packet::Publish(publish) = whole(bytes) else {
        panic!("not a PUBLISH")
    };
    assert!(std::ptr::eq(publish.topic.as_bytes(), &raw const bytes[4..7]));
    assert!(std::ptr::eq(publish.payload, &raw const bytes[9..]));
}

#[test]
fn publish_field_past_the_end_is_malformed() {
    assert_malformed(&[
        (b"\x30\x00", CodecError::Truncated),
        (b"\x30\x01\x00", CodecError::Truncated),
        (b"\x30\x04\x00\x03a/", CodecError::Truncated),
        (b"\x30\x04\xFF\xFFa/", CodecError::Truncated),
        (b"\x32\x05\x00\x03a/b", CodecError::Truncated),
        (b"\x34\x06\x00\x03a/b\x01", CodecError::Truncated),
        // The next packet's bytes are not this one's.
        (b"\x30\x04\x00\x03a/\xC0\x00\xC0\x00", CodecError::Truncated),
    ]);
}

/// SUBSCRIBE, UNSUBSCRIBE and PUBLISH with QoS 1 or 2 have a Packet Identifier that is not 0 [MQTT-2.3.1-1].
#[test]
fn packet_id_0_is_malformed() {
    let cases: [&[u8]; 10] = [
        b"\x32\x05\x00\x01a\x00\x00",
        b"\x34\x05\x00\x01a\x00\x00",
        b"\x82\x06\x00\x00\x00\x01a\x00",
        b"\xA2\x05\x00\x00\x00\x01a",
        b"\x40\x02\x00\x00",
        b"\x50\x02\x00\x00",
        b"\x62\x02\x00\x00",
        b"\x70\x02\x00\x00",
        b"\x90\x03\x00\x00\x00",
        b"\xB0\x02\x00\x00",
    ];
    for bytes in cases {
        assert_malformed(&[(bytes, CodecError::ZeroPacketId)]);
    }
}

#[test]
fn packets_of_fixed_size_have_this_form() {
    let cases: [(&[u8], Packet<'_>); 11] = [
        (&[0x40, 0x02, 0x00, 0x01], Packet::PubAck(id(1))),
        (&[0x50, 0x02, 0x01, 0x00], Packet::PubRec(id(256))),
        (&[0x62, 0x02, 0x12, 0x34], Packet::PubRel(id(0x1234))),
        (&[0x70, 0x02, 0xFF, 0xFF], Packet::PubComp(id(65_535))),
        (&[0xB0, 0x02, 0x00, 0x0A], Packet::UnsubAck(id(10))),
        (&[0xC0, 0x00], Packet::PingReq),
        (&[0xD0, 0x00], Packet::PingResp),
        (&[0xE0, 0x00], Packet::Disconnect),
        (&[0x20, 0x02, 0x00, 0x00], connack(false, ConnectReturnCode::Accepted)),
        (&[0x20, 0x02, 0x01, 0x00], connack(true, ConnectReturnCode::Accepted)),
        (
            &[0x20, 0x02, 0x00, 0x05],
            connack(false, ConnectReturnCode::NotAuthorized),
        ),
    ];
    for (bytes, packet) in cases {
        assert_wire_form(bytes, &packet);
    }
}

/// Table 3.1, and Session Present only where the connection is accepted [MQTT-3.2.2-4].
#[test]
fn connack_outside_its_tables_is_malformed() {
    let codes = [
        ConnectReturnCode::Accepted,
        ConnectReturnCode::UnacceptableProtocolVersion,
        ConnectReturnCode::IdentifierRejected,
        ConnectReturnCode::ServerUnavailable,
        ConnectReturnCode::BadUserNameOrPassword,
        ConnectReturnCode::NotAuthorized,
    ];
    for (byte, code) in (0u8..).zip(codes) {
        assert_wire_form(&[0x20, 0x02, 0x00, byte], &connack(false, code));
    }
    assert_malformed(&[
        (&[0x20, 0x02, 0x00, 0x06], CodecError::InvalidReturnCode { code: 6 }),
        (&[0x20, 0x02, 0x02, 0x00], CodecError::InvalidConnAckFlags { flags: 2 }),
        (
            &[0x20, 0x02, 0x81, 0x00],
            CodecError::InvalidConnAckFlags { flags: 0x81 },
        ),
        (&[0x20, 0x02, 0x01, 0x01], CodecError::InvalidConnAckFlags { flags: 1 }),
    ]);
}

/// A pair of Topic Filter and QoS for each subscription, in their order [MQTT-3.8.3-1].
#[test]
fn subscribe_has_this_form() {
    let bytes = b"\x82\x12\x00\x0A\x00\x03a/b\x01\x00\x03c/#\x02\x00\x01+\x00";
    let Packet::Subscribe(subscribe) = whole(bytes) else {
        panic!("not a SUBSCRIBE")
    };
    assert_eq!(subscribe.packet_id, id(10));
    assert_eq!(subscribe.filters.len(), 3);
    assert_eq!(subscribe.filters.iter().len(), 3);
    let filters = [
        ("a/b", QoS::AtLeastOnce),
        ("c/#", QoS::ExactlyOnce),
        ("+", QoS::AtMostOnce),
    ];
    assert!(subscribe.filters.iter().eq(filters));

    assert_wire_form(bytes, &Packet::Subscribe(subscribe));
    let mut encoded = Vec::new();
    encode_subscribe(&mut encoded, id(10), &filters);
    assert_eq!(encoded, bytes);
}

/// At least one filter [MQTT-3.8.3-3]; reserved bits of the QoS byte are 0, and it is not 3 [MQTT-3.8.3-4].
#[test]
fn subscribe_outside_its_form_is_malformed() {
    assert_malformed(&[
        (b"\x82\x00", CodecError::Truncated),
        (b"\x82\x01\x00", CodecError::Truncated),
        (b"\x82\x02\x00\x01", CodecError::NoFilters),
        (b"\x82\x03\x00\x01\x00", CodecError::Truncated),
        (b"\x82\x05\x00\x01\x00\x02a", CodecError::Truncated),
        (b"\x82\x05\x00\x01\x00\x01a", CodecError::Truncated),
        (b"\x82\x06\x00\x01\x00\x01a\x03", CodecError::InvalidQoS),
        (b"\x82\x06\x00\x01\x00\x01a\x04", CodecError::InvalidQoS),
        (b"\x82\x06\x00\x01\x00\x01a\x81", CodecError::InvalidQoS),
        // The last filter is as good a reason as the first.
        (b"\x82\x0A\x00\x01\x00\x01a\x01\x00\x01b\x03", CodecError::InvalidQoS),
        // One byte after the last filter is the length of another.
        (b"\x82\x07\x00\x01\x00\x01a\x01\x00", CodecError::Truncated),
    ]);
}

/// Topic Filters and nothing else, in their order [MQTT-3.10.3-1].
#[test]
fn unsubscribe_has_this_form() {
    let bytes = b"\xA2\x0C\x00\x0A\x00\x03a/b\x00\x03c/#";
    let Packet::Unsubscribe(unsubscribe) = whole(bytes) else {
        panic!("not an UNSUBSCRIBE")
    };
    assert_eq!(unsubscribe.packet_id, id(10));
    assert_eq!(unsubscribe.filters.len(), 2);
    assert_eq!(unsubscribe.filters.iter().len(), 2);
    assert!(unsubscribe.filters.iter().eq(["a/b", "c/#"]));

    assert_wire_form(bytes, &Packet::Unsubscribe(unsubscribe));
    let mut encoded = Vec::new();
    encode_unsubscribe(&mut encoded, id(10), &["a/b", "c/#"]);
    assert_eq!(encoded, bytes);
}

/// At least one filter [MQTT-3.10.3-2].
#[test]
fn unsubscribe_outside_its_form_is_malformed() {
    assert_malformed(&[
        (b"\xA2\x00", CodecError::Truncated),
        (b"\xA2\x02\x00\x01", CodecError::NoFilters),
        (b"\xA2\x03\x00\x01\x00", CodecError::Truncated),
        (b"\xA2\x05\x00\x01\x00\x02a", CodecError::Truncated),
        (b"\xA2\x06\x00\x01\x00\x01a\x00", CodecError::Truncated),
    ]);
}

/// Return codes are 0x00, 0x01, 0x02 and 0x80 [MQTT-3.9.3-2].
#[test]
fn suback_has_this_form() {
    let return_codes = [0x00, 0x01, 0x02, 0x80];
    assert_wire_form(
        &[0x90, 0x06, 0x00, 0x0A, 0x00, 0x01, 0x02, 0x80],
        &Packet::SubAck(SubAck {
            packet_id: id(10),
            return_codes: &return_codes,
        }),
    );
    assert_malformed(&[
        (&[0x90, 0x01, 0x00], CodecError::Truncated),
        (&[0x90, 0x02, 0x00, 0x01], CodecError::NoReturnCodes),
        (
            &[0x90, 0x04, 0x00, 0x01, 0x00, 0x03],
            CodecError::InvalidReturnCode { code: 0x03 },
        ),
        (
            &[0x90, 0x03, 0x00, 0x01, 0x81],
            CodecError::InvalidReturnCode { code: 0x81 },
        ),
    ]);
}

#[test]
fn publish_head_leaves_the_payload_to_the_caller() {
    let head = PublishHead {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "t",
        packet_id: Some(id(7)),
        payload_len: 200,
    };
    let mut out = Vec::new();
    encode_publish_head(&mut out, &head);
    assert_eq!(out, b"\x33\xCD\x01\x00\x01t\x00\x07");
    assert_eq!(publish_len(&head), out.len() + 200);
    // The sizes at which the Remaining Length grows by a byte: 5 bytes are not payload.
    for (payload_len, len) in [
        (122, 129),
        (123, 131),
        (16_378, 16_386),
        (16_379, 16_388),
        (2_097_147, 2_097_157),
    ] {
        assert_eq!(publish_len(&PublishHead { payload_len, ..head }), len);
    }
}

fn connack(session_present: bool, code: ConnectReturnCode) -> Packet<'static> {
    Packet::ConnAck(ConnAck { session_present, code })
}
