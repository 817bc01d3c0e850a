//! What holds for all packets, and for all bytes.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::fuzz::fuzz_decode;
use super::*;

/// What a packet of any type is made of; [`Parts::packet`] borrows one from it.
#[derive(Clone, Debug)]
struct Parts {
    /// 1..=14, as in table 2.1.
    packet_type: u8,
    packet_id: PacketId,
    qos: QoS,
    flags: [bool; 3],
    keep_alive: u16,
    code: ConnectReturnCode,
    /// Topic Name, Client Identifier.
    text: String,
    will: Option<(String, Vec<u8>)>,
    user_name: Option<String>,
    /// Payload, password.
    bytes: Vec<u8>,
    return_codes: Vec<u8>,
    /// The payload of a SUBSCRIBE, and that of an UNSUBSCRIBE.
    filters: (Vec<u8>, Vec<u8>),
}

impl Parts {
    fn packet(&self) -> Packet<'_> {
        let &Parts {
            packet_id,
            qos,
            flags: [dup, retain, other],
            keep_alive,
            code,
            ..
        } = self;
        match self.packet_type {
            1 => Packet::Connect(Connect {
                protocol: if dup { Protocol::V31 } else { Protocol::V311 },
                clean_session: other,
                keep_alive,
                client_id: &self.text,
                will: self.will.as_ref().map(|(topic, message)| Will {
                    topic,
                    message,
                    qos,
                    retain,
                }),
                user_name: self.user_name.as_deref(),
                password: (other && self.user_name.is_some()).then_some(&self.bytes),
            }),
            2 => {
                let session_present = other && code == ConnectReturnCode::Accepted;
                Packet::ConnAck(ConnAck { session_present, code })
            }
            3 => Packet::Publish(Publish {
                dup: dup && qos != QoS::AtMostOnce,
                qos,
                retain,
                topic: &self.text,
                packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
                payload: &self.bytes,
            }),
            4 => Packet::PubAck(packet_id),
            5 => Packet::PubRec(packet_id),
            6 => Packet::PubRel(packet_id),
            7 => Packet::PubComp(packet_id),
            8 => Packet::Subscribe(Subscribe {
                packet_id,
                filters: SubscribeFilters::check(&self.filters.0).unwrap(),
            }),
            9 => Packet::SubAck(SubAck {
                packet_id,
                return_codes: &self.return_codes,
            }),
            10 => Packet::Unsubscribe(Unsubscribe {
                packet_id,
                filters: UnsubscribeFilters::check(&self.filters.1).unwrap(),
            }),
            11 => Packet::UnsubAck(packet_id),
            12 => Packet::PingReq,
            13 => Packet::PingResp,
            14 => Packet::Disconnect,
            packet_type => unreachable!("{packet_type} is no packet type"),
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&self.packet(), &mut out);
        out
    }
}

/// Text without U+0000, mostly short; sometimes long enough for a second byte of Remaining Length.
fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        proptest::char::range('\u{1}', '\u{7F}'),
        proptest::char::range('\u{80}', char::MAX)
    ];
    prop_oneof![9 => vec(character, 0..24), 1 => vec(proptest::char::range('a', 'z'), 0..400)]
        .prop_map(|characters| characters.into_iter().collect())
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn code() -> impl Strategy<Value = ConnectReturnCode> {
    select(vec![
        ConnectReturnCode::Accepted,
        ConnectReturnCode::IdentifierRejected,
        ConnectReturnCode::NotAuthorized,
    ])
}

/// The same filters as payload of a SUBSCRIBE and of an UNSUBSCRIBE, written without the encoder.
fn filters() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    vec((text(), qos()), 1..5).prop_map(|filters| {
        let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
        for (filter, qos) in filters {
            let string = [&(filter.len() as u16).to_be_bytes()[..], filter.as_bytes()].concat();
            unsubscribe.extend_from_slice(&string);
            subscribe.extend_from_slice(&string);
            subscribe.push(qos as u8);
        }
        (subscribe, unsubscribe)
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = (1u8..=14, 1u16.., qos(), any::<[bool; 3]>(), any::<u16>(), code());
    let texts = (
        text(),
        option::of((text(), vec(any::<u8>(), 0..40))),
        option::of(text()),
    );
    let payloads = (
        prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..20_000)],
        vec(select(vec![0, 1, 2, 0x80]), 1..10),
    );
    (numbers, texts, payloads, filters()).prop_map(
        |(
            (packet_type, packet_id, qos, flags, keep_alive, code),
            (text, will, user_name),
            (bytes, return_codes),
            filters,
        )| {
            let packet_id = id(packet_id);
            Parts {
                packet_type,
                packet_id,
                qos,
                flags,
                keep_alive,
                code,
                text,
                will,
                user_name,
                bytes,
                return_codes,
                filters,
            }
        },
    )
}

proptest! {
    #[test]
    fn decode_undoes_encode(parts in parts()) {
        let bytes = parts.encoded();
        prop_assert_eq!(decode(&bytes, bytes.len()), Ok(Some(Decoded { packet: parts.packet(), len: bytes.len() })));
        prop_assert_eq!(frame_len(&bytes, bytes.len()), Ok(Some(bytes.len())));
        let too_large = CodecError::PacketTooLarge { limit: bytes.len() - 1, got: bytes.len() };
        prop_assert_eq!(decode(&bytes, bytes.len() - 1), Err(too_large));
    }

    /// A packet that is cut off anywhere is not a packet yet, and no error either.
    #[test]
    fn cut_packet_needs_more_bytes(parts in parts()) {
        let bytes = parts.encoded();
        for cut in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..cut], PACKET_BYTES_MAX), Ok(None));
        }
    }

    /// However a stream of packets arrives, the packets are the same.
    #[test]
    fn cuts_in_a_stream_change_nothing(stream in vec(parts(), 1..6), cuts in vec(any::<Index>(), 0..12)) {
        let bytes: Vec<u8> = stream.iter().flat_map(Parts::encoded).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();

        let mut expected = stream.iter();
        let mut decoded_len = 0;
        for received in cuts {
            while let Some(decoded) = decode(&bytes[decoded_len..received], PACKET_BYTES_MAX).unwrap() {
                prop_assert_eq!(Some(decoded.packet), expected.next().map(Parts::packet));
                decoded_len += decoded.len;
            }
        }
        prop_assert_eq!(decoded_len, bytes.len());
        prop_assert!(expected.next().is_none());
    }

    #[test]
    fn arbitrary_bytes_are_judged_alike(bytes in vec(any::<u8>(), 0..200)) {
        fuzz_decode(&bytes);
    }

    /// Nearly a packet: one with some bytes replaced, followed by others.
    #[test]
    fn damaged_packets_are_judged_alike(
        parts in parts(),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        tail in vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = parts.encoded();
        for (at, byte) in damage {
            let at = at.index(bytes.len().min(40));
            bytes[at] = byte;
        }
        bytes.extend_from_slice(&tail);
        fuzz_decode(&bytes);
    }

    /// A body of any bytes behind every valid first byte.
    #[test]
    fn arbitrary_bodies_are_judged_alike(
        first in select(vec![
            0x10, 0x20, 0x30, 0x32, 0x3D, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0,
        ]),
        body in vec(prop_oneof![0u8..6, any::<u8>()], 0..60),
    ) {
        fuzz_decode(&frame(first, &body));
    }
}

/// Inputs of every outcome, so that a plain test run goes through all of `fuzz_decode`.
#[test]
fn fuzz_corpus_replays() {
    let corpus: [&[u8]; 12] = [
        b"",
        b"\x30",
        b"\x30\x80\x80\x80\x80",
        b"\x30\xFF\xFF\xFF\x7F\x00",
        b"\x10\x1A\x00\x04MQTT\x04\xEE\x00\x0A\x00\x01c\x00\x01w\x00\x02\x00\xFF\x00\x01u\x00\x01p",
        b"\x10\x0D\x00\x04MQTT\x05\x02\x00\x0A\x00\x01c",
        b"\x32\x89\x00\x00\x03a/b\x00\x0Axy\xC0\x00",
        b"\x30\x04\x00\x03a/\xC0\x00",
        b"\x40\x03\x00\x01\x00",
        b"\x82\x12\x00\x0A\x00\x03a/b\x01\x00\x03c/#\x02\x00\x01+\x00",
        b"\xA2\x8C\x80\x80\x00\x00\x0A\x00\x03a/b\x00\x03c/#",
        b"\x90\x06\x00\x0A\x00\x01\x02\x80\xF0",
    ];
    for bytes in corpus {
        fuzz_decode(bytes);
    }
}
