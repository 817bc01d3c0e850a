//! The bodies of the fuzz targets `decode` and `encode`, and the oracle of the property tests.

use super::*;

/// Checks what holds for any bytes at all; panics where it does not.
///
/// A decoded packet survives being encoded and decoded again, `frame_len` agrees with `decode`, and an answer that is
/// given to the first bytes of a stream does not change when the others arrive.
pub fn fuzz_decode(bytes: &[u8]) {
    let whole = decode(bytes, PACKET_BYTES_MAX);
    match &whole {
        Ok(Some(decoded)) => {
            assert_eq!(frame_len(bytes, PACKET_BYTES_MAX), Ok(Some(decoded.len)));
            assert_eq!(
                decode(&bytes[..decoded.len], PACKET_BYTES_MAX),
                whole,
                "the next packet does not matter"
            );
            assert_eq!(
                decode(&bytes[..decoded.len - 1], PACKET_BYTES_MAX),
                Ok(None),
                "a byte short is no packet"
            );
            check_fields(&decoded.packet);
            let mut encoded = Vec::new();
            encode(&decoded.packet, &mut encoded);
            let again = decode(&encoded, PACKET_BYTES_MAX)
                .expect("own output")
                .expect("own output is whole");
            assert_eq!(again.packet, decoded.packet);
            assert_eq!(again.len, encoded.len());
            assert!(encoded.len() <= decoded.len, "the shortest form is written");
        }
        Ok(None) => {
            assert!(
                frame_len(bytes, PACKET_BYTES_MAX)
                    .expect("same header")
                    .is_none_or(|len| len > bytes.len())
            );
        }
        Err(error) => match frame_len(bytes, PACKET_BYTES_MAX) {
            Ok(len) => assert!(len.expect("body was judged") <= bytes.len()),
            Err(header_error) => assert_eq!(header_error, *error),
        },
    }
    let half = decode(&bytes[..bytes.len() / 2], PACKET_BYTES_MAX);
    assert!(half == Ok(None) || half == whole, "an answer stands");
}

/// What types do not say about the fields of a decoded packet.
fn check_fields(packet: &Packet<'_>) {
    // [MQTT-1.5.3-2]
    let check_text = |text: &str| assert!(!text.contains('\0'), "{text:?}");
    match packet {
        Packet::Connect(connect) => {
            check_text(connect.client_id);
            if let Some(will) = &connect.will {
                check_text(will.topic);
            }
            connect.user_name.into_iter().for_each(check_text);
            // [MQTT-3.1.2-22]
            assert!(connect.user_name.is_some() || connect.password.is_none());
        }
        Packet::Publish(publish) => {
            check_text(publish.topic);
            // [MQTT-2.3.1-5]
            assert_eq!(publish.packet_id.is_some(), publish.qos != QoS::AtMostOnce);
        }
        Packet::Subscribe(subscribe) => {
            assert!(subscribe.filters.iter().count() > 0); // [MQTT-3.8.3-3]
            subscribe.filters.iter().for_each(|(filter, _)| check_text(filter));
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert!(unsubscribe.filters.iter().count() > 0); // [MQTT-3.10.3-2]
            unsubscribe.filters.iter().for_each(check_text);
        }
        Packet::SubAck(suback) => {
            let known = |code: &u8| matches!(code, 0..=2 | &SUBACK_FAILURE);
            assert!(suback.return_codes.iter().all(known)); // [MQTT-3.9.3-2]
        }
        _ => {}
    }
}

/// Packets of all types, with fields that the input chooses, survive being encoded and decoded; panics where one does not.
///
/// Beyond [`fuzz_decode`], the fields are known here before they are bytes, so a field that the encoder and the decoder
/// both get wrong in the same way shows; and packets follow each other in one buffer, as in an output.
pub fn fuzz_encode(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut stream = Vec::new();
    let mut lens = Vec::new();
    while !choices.is_empty() && stream.len() <= STREAM_BYTES_MAX {
        let before = stream.len();
        append_chosen(&mut choices, &mut stream);
        lens.push(stream.len() - before);
    }
    let mut rest = stream.as_slice();
    for len in lens {
        let decoded = decode(rest, PACKET_BYTES_MAX)
            .expect("own output")
            .expect("own output is whole");
        assert_eq!(decoded.len, len, "packets keep their borders");
        rest = &rest[len..];
    }
    assert_eq!(decode(rest, PACKET_BYTES_MAX), Ok(None));
}

/// Appends one packet and checks it on its own.
fn append_chosen(choices: &mut Choices<'_>, stream: &mut Vec<u8>) {
    let start = stream.len();
    let (kind, flags) = (choices.byte(), choices.byte());
    let qos = QoS::from_bits(flags & 0b11).unwrap_or(QoS::AtLeastOnce);
    let flag = |bit: u8| flags & 1 << bit != 0;
    let id = choices.packet_id();
    match kind % 14 {
        0 => {
            let will = flag(2).then(|| Will {
                topic: choices.text(),
                message: choices.binary(usize::from(u16::MAX)),
                qos,
                retain: flag(3),
            });
            let user_name = flag(4).then(|| choices.text());
            let connect = Connect {
                protocol: if flag(6) { Protocol::V31 } else { Protocol::V311 },
                clean_session: flag(7),
                keep_alive: id.value(),
                client_id: choices.text(),
                will,
                user_name,
                password: (flag(4) && flag(5)).then(|| choices.binary(usize::from(u16::MAX))),
            };
            append(stream, &Packet::Connect(connect));
        }
        1 => {
            let (code, session_present) = match flags {
                0..0x80 => (ConnectReturnCode::Accepted, flag(0)),
                0x80..0xA0 => (ConnectReturnCode::UnacceptableProtocolVersion, false),
                0xA0..0xC0 => (ConnectReturnCode::IdentifierRejected, false),
                0xC0..0xD0 => (ConnectReturnCode::ServerUnavailable, false),
                0xD0..0xE0 => (ConnectReturnCode::BadUserNameOrPassword, false),
                0xE0.. => (ConnectReturnCode::NotAuthorized, false),
            };
            append(stream, &Packet::ConnAck(ConnAck { session_present, code }));
        }
        2 => {
            let packet_id = (qos != QoS::AtMostOnce).then_some(id);
            let publish = Publish {
                dup: flag(2) && packet_id.is_some(),
                qos,
                retain: flag(3),
                topic: choices.text(),
                packet_id,
                payload: choices.binary(LONG_BYTES),
            };
            let head = PublishHead {
                dup: publish.dup,
                qos,
                retain: publish.retain,
                topic: publish.topic,
                packet_id,
                payload_len: publish.payload.len(),
            };
            append(stream, &Packet::Publish(publish));
            assert_eq!(publish_len(&head), stream.len() - start);
        }
        3 => append(stream, &Packet::PubAck(id)),
        4 => append(stream, &Packet::PubRec(id)),
        5 => append(stream, &Packet::PubRel(id)),
        6 => append(stream, &Packet::PubComp(id)),
        7 => {
            let filters: Vec<(&str, QoS)> = (0..1 + flags / 32).map(|_| (choices.text(), choices.qos())).collect();
            encode_subscribe(stream, id, &filters);
            let Packet::Subscribe(subscribe) = appended(&stream[start..]) else {
                panic!("a SUBSCRIBE was encoded");
            };
            assert_eq!(subscribe.packet_id, id);
            assert!(subscribe.filters.iter().eq(filters.iter().copied()));
        }
        8 => {
            let codes = [0, 1, 2, SUBACK_FAILURE];
            let return_codes: Vec<u8> = (0..1 + flags / 16)
                .map(|_| codes[usize::from(choices.byte() % 4)])
                .collect();
            let suback = SubAck {
                packet_id: id,
                return_codes: &return_codes,
            };
            append(stream, &Packet::SubAck(suback));
        }
        9 => {
            let filters: Vec<&str> = (0..1 + flags / 32).map(|_| choices.text()).collect();
            encode_unsubscribe(stream, id, &filters);
            let Packet::Unsubscribe(unsubscribe) = appended(&stream[start..]) else {
                panic!("an UNSUBSCRIBE was encoded");
            };
            assert_eq!(unsubscribe.packet_id, id);
            assert!(unsubscribe.filters.iter().eq(filters.iter().copied()));
        }
        10 => append(stream, &Packet::UnsubAck(id)),
        11 => append(stream, &Packet::PingReq),
        12 => append(stream, &Packet::PingResp),
        _ => append(stream, &Packet::Disconnect),
    }
    let encoded = &stream[start..];
    let cut = usize::from(id.value()) % encoded.len();
    assert_eq!(
        decode(&encoded[..cut], PACKET_BYTES_MAX),
        Ok(None),
        "a part is no packet"
    );
    let too_large = CodecError::PacketTooLarge {
        limit: encoded.len() - 1,
        got: encoded.len(),
    };
    assert_eq!(decode(encoded, encoded.len() - 1), Err(too_large));
    assert_eq!(frame_len(encoded, encoded.len()), Ok(Some(encoded.len())));
}

/// Appends `packet`, and checks that it reads back as it is.
fn append(stream: &mut Vec<u8>, packet: &Packet<'_>) {
    let start = stream.len();
    encode(packet, stream);
    assert_eq!(appended(&stream[start..]), *packet);
}

/// The one packet that `encoded` is, which encodes to the same bytes again.
fn appended(encoded: &[u8]) -> Packet<'_> {
    let decoded = decode(encoded, encoded.len())
        .expect("own output")
        .expect("own output is whole");
    assert_eq!(decoded.len, encoded.len());
    let mut again = Vec::new();
    encode(&decoded.packet, &mut again);
    assert_eq!(again, encoded);
    decoded.packet
}

/// A fuzz input as a row of choices: what is missing at its end is 0, so every input is a valid one.
pub(crate) struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices { bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }

    /// The next `len` bytes, or as many as there are.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    fn packet_id(&mut self) -> PacketId {
        let id = u16::from_be_bytes([self.byte(), self.byte()]);
        PacketId::new(id).unwrap_or(PacketId::new(u16::MAX).expect("not 0"))
    }

    fn qos(&mut self) -> QoS {
        QoS::from_bits(self.byte() & 0b11).unwrap_or(QoS::ExactlyOnce)
    }

    /// Up to 239 bytes of the input, as far as they are text without U+0000; or very many of a constant.
    fn text(&mut self) -> &'a str {
        match self.byte() {
            len @ 0..LONG => {
                let bytes = self.take(usize::from(len));
                let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or(bytes);
                match std::str::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to there"),
                }
            }
            LONG.. => std::str::from_utf8(self.long(STRING_BYTES_MAX)).expect("ASCII"),
        }
    }

    /// Up to 239 bytes of the input, or up to `max` of a constant.
    fn binary(&mut self, max: usize) -> &'a [u8] {
        match self.byte() {
            len @ 0..LONG => self.take(usize::from(len)),
            LONG.. => self.long(max),
        }
    }

    /// Lengths near `max` and near those where the Remaining Length takes another byte.
    fn long(&mut self, max: usize) -> &'static [u8] {
        let (kind, less) = (self.byte(), usize::from(self.byte()));
        let most = [max, 0x80, 0x4000, 0x1_0000, 0x20_0000][usize::from(kind % 5)];
        &LONG_TEXT[..most.saturating_sub(less).min(max)]
    }
}

/// A length byte from here on stands for a long constant.
const LONG: u8 = 240;
/// Beyond the length from which a Remaining Length has four bytes.
const LONG_BYTES: usize = 0x20_0000;
static LONG_TEXT: [u8; LONG_BYTES] = [b'x'; LONG_BYTES];
/// No further packet is appended to this many bytes.
const STREAM_BYTES_MAX: usize = 256 * 1024;
