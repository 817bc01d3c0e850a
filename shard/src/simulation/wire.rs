//! What clients send, as bytes. Put together by hand where the encoder of the broker could hide its own mistakes.

use crate::codec::{Connect, Packet, Protocol, Will, encode};

#[cfg(test)]
pub(crate) fn connect_bytes(client_id: &str, clean: bool, keep_alive: u16) -> Vec<u8> {
    connect_with(client_id, clean, keep_alive, None)
}

pub(crate) fn connect_with(client_id: &str, clean: bool, keep_alive: u16, will: Option<Will<'_>>) -> Vec<u8> {
    connect_as(client_id, clean, keep_alive, will, None)
}

#[cfg(test)]
pub(crate) fn connect_by(client_id: &str, clean: bool, user_name: &str, password: Option<&str>) -> Vec<u8> {
    connect_as(client_id, clean, 0, None, Some((user_name, password)))
}

pub(crate) fn connect_as(
    client_id: &str,
    clean: bool,
    keep_alive: u16,
    will: Option<Will<'_>>,
    user: Option<(&str, Option<&str>)>,
) -> Vec<u8> {
    let protocol = Protocol::V311;
    let connect = Connect {
        protocol,
        clean_session: clean,
        keep_alive,
        client_id,
        will,
        user_name: user.map(|(name, _)| name),
        password: user.and_then(|(_, password)| password).map(str::as_bytes),
    };
    let mut bytes = Vec::new();
    encode(&Packet::Connect(connect), &mut bytes);
    bytes
}

/// SUBSCRIBE, byte by byte: not the encoder's own output.
pub(crate) fn subscribe_bytes(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend_from_slice(&length(filter).to_be_bytes());
        body.extend_from_slice(filter.as_bytes());
        body.push(*qos);
    }
    framed(0x82, &body)
}

pub(crate) fn unsubscribe_bytes(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        body.extend_from_slice(&length(filter).to_be_bytes());
        body.extend_from_slice(filter.as_bytes());
    }
    framed(0xa2, &body)
}

/// PUBLISH; `id` only with QoS above 0.
pub(crate) fn publish_bytes(topic: &str, payload: &[u8], qos: u8, retain: bool, id: u16) -> Vec<u8> {
    let mut body = length(topic).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    framed(0x30 | (qos << 1) | u8::from(retain), &body)
}

pub(crate) fn ack_bytes(first: u8, id: u16) -> Vec<u8> {
    framed(first, &id.to_be_bytes())
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let low = (left % 128) as u8;
        left /= 128;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

fn length(text: &str) -> u16 {
    u16::try_from(text.len()).expect("topics of the simulation are short")
}
