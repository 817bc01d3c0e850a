//! MQTT 3.1.1 on the wire, written for the tests alone: a mistake in the broker's codec must not be repeated here.
//!
//! Encoding gives whatever bytes a test asks for, valid or not. Parsing is strict: it knows what a server may send, and
//! refuses every bit that the standard reserves.

use std::fmt;

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connack { session_present: bool, code: u8 },
    Publish(Publish),
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
    Suback { id: u16, codes: Vec<u8> },
    Unsuback(u16),
    Pingresp,
}

/// A PUBLISH, in either direction. `id` is there exactly when `qos` is not 0, unless a test wants otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub id: Option<u16>,
    pub payload: Vec<u8>,
}

/// A PUBLISH with QoS 0, to be refined.
pub fn publish(topic: &str, payload: impl AsRef<[u8]>) -> Publish {
    let payload = payload.as_ref().to_vec();
    Publish {
        dup: false,
        qos: 0,
        retain: false,
        topic: topic.to_owned(),
        id: None,
        payload,
    }
}

impl Publish {
    pub fn qos(self, qos: u8, id: u16) -> Publish {
        Publish {
            qos,
            id: (qos > 0).then_some(id),
            ..self
        }
    }

    pub fn retain(self) -> Publish {
        Publish { retain: true, ..self }
    }

    pub fn dup(self) -> Publish {
        Publish { dup: true, ..self }
    }

    /// The Packet Identifier of a PUBLISH that has one.
    pub fn packet_id(&self) -> u16 {
        self.id.expect("a PUBLISH with QoS 1 or 2")
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = string(&self.topic);
        body.extend(self.id.iter().flat_map(|id| id.to_be_bytes()));
        body.extend(&self.payload);
        packet(
            0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain),
            &body,
        )
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Publish {
            dup,
            qos,
            retain,
            topic,
            id,
            payload,
        } = self;
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(40)]);
        let len = payload.len();
        write!(
            f,
            "Publish({topic:?} qos {qos} dup {dup} retain {retain} id {id:?} {len} bytes {shown:?})"
        )
    }
}

/// A CONNECT under construction; `Connect::new` is the plainest that is valid.
#[derive(Clone, Debug)]
pub struct Connect {
    pub protocol: &'static str,
    pub level: u8,
    pub clean: bool,
    pub keep_alive: u16,
    pub id: Vec<u8>,
    pub will: Option<Publish>,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    /// These bits are turned over in the flags byte, whatever the fields say.
    pub flip_flags: u8,
}

impl Connect {
    pub fn new(id: &str) -> Connect {
        Connect {
            protocol: "MQTT",
            level: 4,
            clean: true,
            keep_alive: 60,
            id: id.as_bytes().to_vec(),
            will: None,
            user: None,
            password: None,
            flip_flags: 0,
        }
    }

    /// Clean Session 0.
    pub fn resume(id: &str) -> Connect {
        Connect {
            clean: false,
            ..Connect::new(id)
        }
    }

    pub fn will(self, will: Publish) -> Connect {
        Connect {
            will: Some(will),
            ..self
        }
    }

    pub fn user(self, name: &str, password: &str) -> Connect {
        Connect {
            user: Some(name.into()),
            password: Some(password.into()),
            ..self
        }
    }

    pub fn keep_alive(self, keep_alive: u16) -> Connect {
        Connect { keep_alive, ..self }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = string(self.protocol);
        let will = self
            .will
            .as_ref()
            .map_or(0, |will| 0x04 | will.qos << 3 | u8::from(will.retain) << 5);
        let flags = u8::from(self.clean) << 1
            | will
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.user.is_some()) << 7;
        body.extend([self.level, flags ^ self.flip_flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(string(&self.id));
        if let Some(will) = &self.will {
            body.extend(string(&will.topic));
            body.extend(string(&will.payload));
        }
        body.extend(self.user.iter().chain(&self.password).flat_map(string));
        packet(0x10, &body)
    }
}

pub fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(string(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(filters.iter().flat_map(string));
    packet(0xa2, &body)
}

pub fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &id.to_be_bytes())
}

pub fn pubrec(id: u16) -> Vec<u8> {
    packet(0x50, &id.to_be_bytes())
}

pub fn pubrel(id: u16) -> Vec<u8> {
    packet(0x62, &id.to_be_bytes())
}

pub fn pubcomp(id: u16) -> Vec<u8> {
    packet(0x70, &id.to_be_bytes())
}

pub const PINGREQ: &[u8] = &[0xc0, 0x00];
pub const DISCONNECT: &[u8] = &[0xe0, 0x00];

/// A Control Packet: first byte, Remaining Length, body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(remaining_length(body.len()));
    bytes.extend(body);
    bytes
}

/// The Remaining Length in its one to four bytes.
pub fn remaining_length(mut len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(len % 128).expect("below 128");
        len /= 128;
        bytes.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            return bytes;
        }
    }
}

/// A length-prefixed field; the bytes need not be UTF-8.
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let len = u16::try_from(bytes.len()).expect("a field of at most 65,535 bytes");
    [&len.to_be_bytes(), bytes].concat()
}

/// Takes the first whole packet off `received`, or leaves it alone and gives `None`.
///
/// # Panics
/// If these bytes can be no packet from a server.
pub fn take_packet(received: &mut Vec<u8>) -> Option<Packet> {
    let (mut body_len, mut header) = (0, 1);
    loop {
        let byte = *received.get(header)?;
        body_len |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
        assert!(
            header <= 4,
            "Remaining Length longer than 4 bytes: {:02x?}",
            &received[..5]
        );
    }
    if received.len() < header + body_len {
        return None;
    }
    assert_eq!(
        received[1..header],
        remaining_length(body_len),
        "Remaining Length in its shortest form"
    );
    let bytes: Vec<u8> = received.drain(..header + body_len).collect();
    Some(parse(bytes[0], &bytes[header..]).unwrap_or_else(|| {
        panic!(
            "no packet that a server may send: {:02x?}",
            &bytes[..bytes.len().min(64)]
        )
    }))
}

fn parse(first: u8, body: &[u8]) -> Option<Packet> {
    let id = || match body {
        [high, low] if body != [0, 0] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    };
    Some(match first {
        0x20 => match body {
            [flags @ (0 | 1), code @ 0..=5] => Packet::Connack {
                session_present: *flags == 1,
                code: *code,
            },
            _ => return None,
        },
        0x30..=0x3f => Packet::Publish(parse_publish(first & 0x0f, body)?),
        0x40 => Packet::Puback(id()?),
        0x50 => Packet::Pubrec(id()?),
        0x62 => Packet::Pubrel(id()?),
        0x70 => Packet::Pubcomp(id()?),
        0x90 => {
            let (id, codes) = body.split_first_chunk::<2>()?;
            if codes.is_empty() || !codes.iter().all(|code| [0, 1, 2, 0x80].contains(code)) {
                return None;
            }
            Packet::Suback {
                id: u16::from_be_bytes(*id),
                codes: codes.to_vec(),
            }
        }
        0xb0 => Packet::Unsuback(id()?),
        0xd0 if body.is_empty() => Packet::Pingresp,
        _ => return None,
    })
}

fn parse_publish(flags: u8, body: &[u8]) -> Option<Publish> {
    let (qos, dup, retain) = (flags >> 1 & 0b11, flags & 0b1000 != 0, flags & 1 != 0);
    if qos == 3 {
        return None;
    }
    let (len, rest) = body.split_first_chunk::<2>()?;
    let (topic, mut rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let mut id = None;
    if qos > 0 {
        let (bytes, after) = rest.split_first_chunk::<2>()?;
        id = Some(u16::from_be_bytes(*bytes)).filter(|id| *id != 0);
        id?;
        rest = after;
    }
    let topic = String::from_utf8(topic.to_vec()).ok()?;
    Some(Publish {
        dup,
        qos,
        retain,
        topic,
        id,
        payload: rest.to_vec(),
    })
}
