//! The fixed header (section 2.2): type, flags and Remaining Length.

use crate::codec::packet::QoS;
use crate::codec::{CodecError, REMAINING_LENGTH_MAX};

/// A complete and valid fixed header.
///
/// Invariant: `2 <= body_at <= 5`, and `body_at <= frame_len <= packet_bytes_max` of the call that made it.
pub(super) struct Header {
    /// Type and flags.
    pub(super) kind: Kind,
    /// Where the body begins, in bytes.
    pub(super) body_at: usize,
    /// Where it ends, and the next packet begins.
    pub(super) frame_len: usize,
}

/// What the first byte says, with the flags of the one type that has any.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Connect,
    ConnAck,
    /// Invariant: `!(dup && qos == QoS::AtMostOnce)`.
    Publish {
        dup: bool,
        qos: QoS,
        retain: bool,
    },
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
}

impl Header {
    /// Reads the header at the start of `bytes`; `Ok(None)` if more bytes are needed.
    ///
    /// Each byte is judged when it is there: a bad type does not wait for the Remaining Length, nor that for the body.
    #[inline]
    pub(super) fn read(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<Header>, CodecError> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let kind = Kind::of(first)?;
        let Some((remaining_length, size)) = remaining_length(rest)? else {
            return Ok(None);
        };
        let body_at = 1 + size;
        let frame_len = body_at + remaining_length;
        if frame_len > packet_bytes_max {
            return Err(CodecError::PacketTooLarge {
                limit: packet_bytes_max,
                got: frame_len,
            });
        }
        if let Some(expected) = kind.body_len() {
            if remaining_length < expected {
                return Err(CodecError::Truncated);
            }
            if remaining_length > expected {
                return Err(CodecError::TrailingBytes {
                    count: remaining_length - expected,
                });
            }
        }
        Ok(Some(Header {
            kind,
            body_at,
            frame_len,
        }))
    }
}

impl Kind {
    /// Splits the first byte into type and flags; flags other than those of table 2.2 are an error [MQTT-2.2.2-2].
    ///
    /// Also for MQTT 3.1, where a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE may have DUP set: it is served as 3.1.1.
    #[inline]
    fn of(first: u8) -> Result<Kind, CodecError> {
        let kind = match first {
            0x10 => Kind::Connect,
            0x20 => Kind::ConnAck,
            0x30..=0x3F => return Kind::of_publish(first),
            0x40 => Kind::PubAck,
            0x50 => Kind::PubRec,
            0x62 => Kind::PubRel, // [MQTT-3.6.1-1]
            0x70 => Kind::PubComp,
            0x82 => Kind::Subscribe, // [MQTT-3.8.1-1]
            0x90 => Kind::SubAck,
            0xA2 => Kind::Unsubscribe, // [MQTT-3.10.1-1]
            0xB0 => Kind::UnsubAck,
            0xC0 => Kind::PingReq,
            0xD0 => Kind::PingResp,
            0xE0 => Kind::Disconnect, // [MQTT-3.14.1-1]
            _ => return Err(reserved(first)),
        };
        Ok(kind)
    }

    /// The flags of a PUBLISH (section 3.3.1), from the upper bit down: DUP, QoS (two), RETAIN.
    #[inline]
    fn of_publish(first: u8) -> Result<Kind, CodecError> {
        let dup = first & 0b1000 != 0;
        // [MQTT-3.3.1-4]
        let qos = QoS::from_bits(first >> 1 & 0b11).ok_or(CodecError::InvalidQoS)?;
        // [MQTT-3.3.1-2]
        if dup && qos == QoS::AtMostOnce {
            return Err(CodecError::DupWithQoS0);
        }
        Ok(Kind::Publish {
            dup,
            qos,
            retain: first & 0b0001 != 0,
        })
    }

    /// The Remaining Length of a type that has only one; a packet that disagrees is refused before its body comes.
    #[inline]
    const fn body_len(self) -> Option<usize> {
        match self {
            Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp | Kind::UnsubAck | Kind::ConnAck => Some(2),
            Kind::PingReq | Kind::PingResp | Kind::Disconnect => Some(0),
            Kind::Publish { .. } | Kind::Connect | Kind::Subscribe | Kind::SubAck | Kind::Unsubscribe => None,
        }
    }
}

/// Which half of a refused first byte is wrong.
#[cold]
fn reserved(first: u8) -> CodecError {
    match first >> 4 {
        packet_type @ (0 | 15) => CodecError::InvalidPacketType { packet_type },
        packet_type => CodecError::InvalidFlags {
            packet_type,
            flags: first & 0x0F,
        },
    }
}

/// The Remaining Length and how many bytes it takes; `Ok(None)` if more bytes are needed.
///
/// Seven bits a byte, the lowest first; bit 7 says that another follows, up to four (section 2.2.3). Longer forms than
/// a value needs, such as `0x82 0x00`, are accepted: unlike MQTT 5, 3.1.1 does not ask for the shortest one.
#[inline]
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, CodecError> {
    // Nearly every packet of a busy broker is this short.
    match bytes.first() {
        Some(&byte) if byte < 0x80 => Ok(Some((usize::from(byte), 1))),
        _ => long_remaining_length(bytes),
    }
}

fn long_remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, CodecError> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(CodecError::MalformedRemainingLength)
    }
}

// Four times seven bits.
const _: () = assert!(REMAINING_LENGTH_MAX == (1 << 28) - 1);
