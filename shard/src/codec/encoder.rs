//! Packets in, bytes out: everything here appends to a buffer and writes the shortest form.
//!
//! What is encoded is ours, so there are no errors: a string of more than 65 535 bytes or a packet over
//! [`REMAINING_LENGTH_MAX`] is a broken invariant of the caller, and panics. Nothing a client sends can get there:
//! topics, filters and payloads that were decoded fit into a packet of the same kind.

use super::packet::{ConnAck, Connect, ConnectReturnCode, Packet, PacketId, Protocol, Publish, QoS, SUBACK_FAILURE};
use super::packet::{Subscribe, Unsubscribe};
use super::{REMAINING_LENGTH_MAX, STRING_BYTES_MAX};

/// Appends `packet` to `out`.
///
/// # Panics
/// If a field is too long for the wire, or the packet contradicts itself (a Packet Identifier with QoS 0).
pub fn encode(packet: &Packet<'_>, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(connect) => encode_connect(out, connect),
        Packet::ConnAck(connack) => encode_connack(out, *connack),
        Packet::Publish(publish) => encode_publish(out, publish),
        Packet::PubAck(id) => encode_puback(out, *id),
        Packet::PubRec(id) => encode_pubrec(out, *id),
        Packet::PubRel(id) => encode_pubrel(out, *id),
        Packet::PubComp(id) => encode_pubcomp(out, *id),
        Packet::Subscribe(Subscribe { packet_id, filters }) => put_request(out, 0x82, *packet_id, filters.wire),
        Packet::SubAck(suback) => encode_suback(out, suback.packet_id, suback.return_codes),
        Packet::Unsubscribe(Unsubscribe { packet_id, filters }) => put_request(out, 0xA2, *packet_id, filters.wire),
        Packet::UnsubAck(id) => encode_unsuback(out, *id),
        Packet::PingReq => encode_pingreq(out),
        Packet::PingResp => encode_pingresp(out),
        Packet::Disconnect => encode_disconnect(out),
    }
}

/// A PUBLISH without its payload, for callers that share one payload between many packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublishHead<'a> {
    /// This packet was sent before [MQTT-3.3.1-1]; never with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// Delivery level.
    pub qos: QoS,
    /// Whether it is a stored message, sent because of a new subscription [MQTT-3.3.1-8].
    pub retain: bool,
    /// Topic Name, at most 65 535 bytes.
    pub topic: &'a str,
    /// Present exactly if `qos` is not 0 [MQTT-2.3.1-5].
    pub packet_id: Option<PacketId>,
    /// Bytes of payload that the caller appends.
    pub payload_len: usize,
}

/// Size of the whole PUBLISH in bytes: fixed header, variable header and payload.
#[inline]
#[must_use]
pub fn publish_len(head: &PublishHead<'_>) -> usize {
    let remaining_length = publish_remaining_length(head);
    1 + remaining_length_size(remaining_length) + remaining_length
}

/// Appends everything of a PUBLISH before the payload; the caller owes `head.payload_len` bytes.
///
/// # Panics
/// If the topic or the packet is too long for the wire, or `packet_id` or `dup` contradicts `qos`.
#[inline]
pub fn encode_publish_head(out: &mut Vec<u8>, head: &PublishHead<'_>) {
    assert_eq!(
        head.packet_id.is_some(),
        head.qos != QoS::AtMostOnce,
        "a Packet Identifier goes with QoS 1 and 2"
    );
    assert!(!head.dup || head.qos != QoS::AtMostOnce, "DUP goes with QoS 1 and 2");
    let first = 0x30 | u8::from(head.dup) << 3 | (head.qos as u8) << 1 | u8::from(head.retain);
    put_header(out, first, publish_remaining_length(head));
    put_string(out, head.topic);
    if let Some(id) = head.packet_id {
        out.extend_from_slice(&id.value().to_be_bytes());
    }
}

/// Appends a whole PUBLISH.
///
/// # Panics
/// As [`encode_publish_head`].
pub fn encode_publish(out: &mut Vec<u8>, publish: &Publish<'_>) {
    let &Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        payload,
    } = publish;
    let head = PublishHead {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        payload_len: payload.len(),
    };
    out.reserve(publish_len(&head));
    encode_publish_head(out, &head);
    out.extend_from_slice(payload);
}

/// Appends a PUBACK: 4 bytes.
#[inline]
pub fn encode_puback(out: &mut Vec<u8>, id: PacketId) {
    put_ack(out, 0x40, id);
}

/// Appends a PUBREC: 4 bytes.
#[inline]
pub fn encode_pubrec(out: &mut Vec<u8>, id: PacketId) {
    put_ack(out, 0x50, id);
}

/// Appends a PUBREL: 4 bytes.
#[inline]
pub fn encode_pubrel(out: &mut Vec<u8>, id: PacketId) {
    put_ack(out, 0x62, id);
}

/// Appends a PUBCOMP: 4 bytes.
#[inline]
pub fn encode_pubcomp(out: &mut Vec<u8>, id: PacketId) {
    put_ack(out, 0x70, id);
}

/// Appends an UNSUBACK: 4 bytes.
#[inline]
pub fn encode_unsuback(out: &mut Vec<u8>, id: PacketId) {
    put_ack(out, 0xB0, id);
}

/// Appends a PINGREQ: 2 bytes.
#[inline]
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xC0, 0x00]);
}

/// Appends a PINGRESP: 2 bytes.
#[inline]
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0x00]);
}

/// Appends a DISCONNECT: 2 bytes.
#[inline]
pub fn encode_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xE0, 0x00]);
}

/// Appends a CONNACK: 4 bytes.
///
/// # Panics
/// If a refusal says that a session is present [MQTT-3.2.2-4].
pub fn encode_connack(out: &mut Vec<u8>, connack: ConnAck) {
    let ConnAck { session_present, code } = connack;
    assert!(
        !session_present || code == ConnectReturnCode::Accepted,
        "no session is present in a refusal"
    );
    out.extend_from_slice(&[0x20, 0x02, u8::from(session_present), code as u8]);
}

/// Appends a SUBACK with one return code per filter, in the order of the filters [MQTT-3.9.3-1].
///
/// # Panics
/// If there is no return code, or too many for a packet; in debug builds also if one is none [MQTT-3.9.3-2].
pub fn encode_suback(out: &mut Vec<u8>, id: PacketId, return_codes: &[u8]) {
    assert!(!return_codes.is_empty(), "a SUBSCRIBE has at least one filter");
    debug_assert!(return_codes.iter().all(|&code| code <= 2 || code == SUBACK_FAILURE));
    put_request(out, 0x90, id, return_codes);
}

/// Appends a CONNECT.
///
/// # Panics
/// If a field is too long for the wire, or there is a password without a user name [MQTT-3.1.2-22].
pub fn encode_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let Connect {
        protocol,
        clean_session,
        keep_alive,
        client_id,
        will,
        user_name,
        password,
    } = connect;
    assert!(
        user_name.is_some() || password.is_none(),
        "a password goes with a user name"
    );
    let (name, level) = match protocol {
        Protocol::V31 => ("MQIsdp", 3),
        Protocol::V311 => ("MQTT", 4),
    };
    let mut flags = u8::from(*clean_session) << 1 | u8::from(user_name.is_some()) << 7;
    flags |= u8::from(password.is_some()) << 6;
    let mut remaining_length = 2 + name.len() + 1 + 1 + 2 + 2 + client_id.len();
    if let Some(will) = will {
        flags |= 0b0100 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
        remaining_length += 2 + will.topic.len() + 2 + will.message.len();
    }
    remaining_length += user_name.map_or(0, |user_name| 2 + user_name.len());
    remaining_length += password.map_or(0, |password| 2 + password.len());

    put_header(out, 0x10, remaining_length);
    put_string(out, name);
    out.extend_from_slice(&[level, flags]);
    out.extend_from_slice(&keep_alive.to_be_bytes());
    // [MQTT-3.1.3-1]
    put_string(out, client_id);
    if let Some(will) = will {
        put_string(out, will.topic);
        put_binary(out, will.message);
    }
    if let Some(user_name) = user_name {
        put_string(out, user_name);
    }
    if let Some(password) = password {
        put_binary(out, password);
    }
}

/// Appends a SUBSCRIBE.
///
/// # Panics
/// If there is no filter [MQTT-3.8.3-3], or one, or the packet, is too long for the wire.
pub fn encode_subscribe(out: &mut Vec<u8>, id: PacketId, filters: &[(&str, QoS)]) {
    assert!(!filters.is_empty(), "a SUBSCRIBE has at least one filter");
    put_header(
        out,
        0x82,
        2 + filters.iter().map(|(filter, _)| 2 + filter.len() + 1).sum::<usize>(),
    );
    out.extend_from_slice(&id.value().to_be_bytes());
    for &(filter, qos) in filters {
        put_string(out, filter);
        out.push(qos as u8);
    }
}

/// Appends an UNSUBSCRIBE.
///
/// # Panics
/// If there is no filter [MQTT-3.10.3-2], or one, or the packet, is too long for the wire.
pub fn encode_unsubscribe(out: &mut Vec<u8>, id: PacketId, filters: &[&str]) {
    assert!(!filters.is_empty(), "an UNSUBSCRIBE has at least one filter");
    put_header(
        out,
        0xA2,
        2 + filters.iter().map(|filter| 2 + filter.len()).sum::<usize>(),
    );
    out.extend_from_slice(&id.value().to_be_bytes());
    for filter in filters {
        put_string(out, filter);
    }
}

/// A packet that is a Packet Identifier and nothing else.
#[inline]
fn put_ack(out: &mut Vec<u8>, first: u8, id: PacketId) {
    let [high, low] = id.value().to_be_bytes();
    out.extend_from_slice(&[first, 0x02, high, low]);
}

/// A packet that is a Packet Identifier and a payload.
fn put_request(out: &mut Vec<u8>, first: u8, id: PacketId, payload: &[u8]) {
    put_header(out, first, 2 + payload.len());
    out.extend_from_slice(&id.value().to_be_bytes());
    out.extend_from_slice(payload);
}

/// Type and flags, and the Remaining Length in its shortest form.
#[inline]
fn put_header(out: &mut Vec<u8>, first: u8, remaining_length: usize) {
    assert!(
        remaining_length <= REMAINING_LENGTH_MAX,
        "packet is too long for the wire"
    );
    let mut left = remaining_length;
    out.push(first);
    while left >= 0x80 {
        out.push((left & 0x7F) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[inline]
fn put_string(out: &mut Vec<u8>, text: &str) {
    put_binary(out, text.as_bytes());
}

#[inline]
fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    assert!(
        bytes.len() <= STRING_BYTES_MAX,
        "field is too long for its two-byte length"
    );
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[inline]
fn publish_remaining_length(head: &PublishHead<'_>) -> usize {
    let packet_id_len = if head.packet_id.is_some() { 2 } else { 0 };
    2 + head.topic.len() + packet_id_len + head.payload_len
}

/// Bytes the shortest form of a Remaining Length takes: 1..=4.
#[inline]
fn remaining_length_size(remaining_length: usize) -> usize {
    match remaining_length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
