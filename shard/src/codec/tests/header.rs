//! The fixed header: type, flags, Remaining Length.

use super::*;

/// Of the 256 first bytes these are the valid ones; every other ends the connection at once, on that byte alone
/// [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1].
#[test]
fn every_first_byte_is_judged_alone() {
    const FIXED: [u8; 13] = [
        0x10, 0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0,
    ];
    const PUBLISH: [u8; 10] = [0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D];
    for first in 0..=u8::MAX {
        let expected = match (first >> 4, first & 0x0F) {
            _ if FIXED.contains(&first) || PUBLISH.contains(&first) => Ok(None),
            (packet_type @ (0 | 15), _) => Err(CodecError::InvalidPacketType { packet_type }),
            (3, 8 | 9) => Err(CodecError::DupWithQoS0),
            (3, _) => Err(CodecError::InvalidQoS),
            (packet_type, flags) => Err(CodecError::InvalidFlags { packet_type, flags }),
        };
        assert_eq!(decode(&[first], PACKET_BYTES_MAX), expected, "{first:#04x}");
    }
}

/// Both QoS bits set close the connection, whatever DUP and RETAIN are [MQTT-3.3.1-4].
#[test]
fn publish_with_qos_3_is_malformed() {
    for first in [0x36, 0x37, 0x3E, 0x3F] {
        assert_malformed(&[(&[first], CodecError::InvalidQoS)]);
    }
}

/// DUP is 0 with QoS 0 [MQTT-3.3.1-2].
#[test]
fn publish_with_dup_and_qos_0_is_malformed() {
    assert_malformed(&[
        (&[0x38, 0x03, 0x00, 0x01, b'a'], CodecError::DupWithQoS0),
        (&[0x39, 0x03, 0x00, 0x01, b'a'], CodecError::DupWithQoS0),
    ]);
}

#[test]
fn remaining_length_takes_one_to_four_bytes() {
    let cases: [(&[u8], usize); 8] = [
        (&[0x30, 0x00], 2),
        (&[0x30, 0x7F], 2 + 127),
        (&[0x30, 0x80, 0x01], 3 + 128),
        (&[0x30, 0xFF, 0x7F], 3 + 16_383),
        (&[0x30, 0x80, 0x80, 0x01], 4 + 16_384),
        (&[0x30, 0xFF, 0xFF, 0x7F], 4 + 2_097_151),
        (&[0x30, 0x80, 0x80, 0x80, 0x01], 5 + 2_097_152),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 5 + 268_435_455),
    ];
    for (header, len) in cases {
        assert_eq!(frame_len(header, PACKET_BYTES_MAX), Ok(Some(len)), "{header:02X?}");
        for cut in 0..header.len() {
            assert_eq!(
                frame_len(&header[..cut], PACKET_BYTES_MAX),
                Ok(None),
                "{:02X?}",
                &header[..cut]
            );
        }
    }
}

#[test]
fn publish_of_two_mebibytes_is_a_packet() {
    let mut bytes = vec![0x30, 0x80, 0x80, 0x80, 0x01, 0x00, 0x01, b'a'];
    bytes.resize(5 + 2_097_152, b'x');
    let Packet::Publish(publish) = whole(&bytes) else {
        panic!("not a PUBLISH")
    };
    assert_eq!(publish.payload.len(), 2_097_152 - 3);
    assert_wire_form(&bytes, &whole(&bytes));
}

/// The fourth byte of Remaining Length may not announce a fifth; nobody waits for that one.
#[test]
fn fifth_byte_of_remaining_length_is_refused_unseen() {
    assert_eq!(decode(&[0x30, 0x80, 0x80, 0x80], PACKET_BYTES_MAX), Ok(None));
    assert_malformed(&[
        (&[0x30, 0x80, 0x80, 0x80, 0x80], CodecError::MalformedRemainingLength),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], CodecError::MalformedRemainingLength),
        (
            &[0x40, 0x82, 0x80, 0x80, 0x80, 0x00],
            CodecError::MalformedRemainingLength,
        ),
    ]);
}

/// Unlike MQTT 5, 3.1.1 does not ask for the shortest form.
#[test]
fn longer_form_of_remaining_length_is_accepted() {
    let cases: [&[u8]; 4] = [
        &[0x40, 0x02, 0x12, 0x34],
        &[0x40, 0x82, 0x00, 0x12, 0x34],
        &[0x40, 0x82, 0x80, 0x00, 0x12, 0x34],
        &[0x40, 0x82, 0x80, 0x80, 0x00, 0x12, 0x34],
    ];
    for bytes in cases {
        assert_eq!(whole(bytes), Packet::PubAck(id(0x1234)));
    }
}

#[test]
fn limit_counts_the_whole_packet_and_needs_only_the_header() {
    let publish = [0x30, 0x05, 0x00, 0x01, b'a', b'x', b'y'];
    assert!(decode(&publish, 7).unwrap().is_some());
    for bytes in [&publish[..], &publish[..2]] {
        assert_eq!(decode(bytes, 6), Err(CodecError::PacketTooLarge { limit: 6, got: 7 }));
        assert_eq!(
            frame_len(bytes, 6),
            Err(CodecError::PacketTooLarge { limit: 6, got: 7 })
        );
    }
    assert_eq!(
        decode(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F], 1 << 20),
        Err(CodecError::PacketTooLarge {
            limit: 1 << 20,
            got: 268_435_460
        })
    );
}

/// A type with one size is refused in any other, before the body comes.
#[test]
fn packet_of_fixed_size_is_refused_on_its_header() {
    for first in [0x20, 0x40, 0x50, 0x62, 0x70, 0xB0] {
        assert_malformed(&[
            (&[first, 0x00], CodecError::Truncated),
            (&[first, 0x01], CodecError::Truncated),
            (&[first, 0x03], CodecError::TrailingBytes { count: 1 }),
            (&[first, 0x83, 0x01], CodecError::TrailingBytes { count: 129 }),
        ]);
    }
    for first in [0xC0, 0xD0, 0xE0] {
        assert_malformed(&[
            (&[first, 0x01], CodecError::TrailingBytes { count: 1 }),
            (
                &[first, 0xFF, 0xFF, 0xFF, 0x7F],
                CodecError::TrailingBytes { count: 268_435_455 },
            ),
        ]);
    }
}
