//! Bytes in, packets out.
//!
//! A packet is a fixed header, which `header` reads, and a body of as many bytes as that says, which `Fields` cuts
//! up. Whether the bytes end in the middle of a packet is asked once, between the two: inside the body a field
//! that runs out is an error. The decoder takes every packet type from anyone; what a client may send is the
//! session's to say.
//!
//! ```text
//! byte   0          1 ..= 4            then, as many bytes as Remaining Length says
//!        type·flags Remaining Length   variable header, payload
//! ```

mod connect;
mod fields;
mod header;

pub(super) use fields::Fields;
use header::{Header, Kind};

use super::CodecError;
use super::encoder::PublishHead;
use super::packet::{ConnAck, ConnectReturnCode, Packet, Publish, QoS, SUBACK_FAILURE, SubAck, Subscribe};
use super::packet::{SubscribeFilters, Unsubscribe, UnsubscribeFilters};

/// A packet and the bytes it took.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decoded<'a> {
    /// The packet, borrowed from the bytes.
    pub packet: Packet<'a>,
    /// Size of the frame in bytes, fixed header included: where the next packet begins.
    pub len: usize,
}

/// Decodes the packet at the start of `bytes`; `Ok(None)` if more bytes are needed.
///
/// Takes packets of up to `packet_bytes_max` bytes, fixed header included. Type, flags, Remaining Length and, where a
/// type has only one, its size are checked as soon as their bytes are there, before the body. Borrows and allocates
/// nothing; O(1) in the payload of a PUBLISH, O(bytes) in everything else. An answer other than `Ok(None)` does not
/// change when more bytes arrive.
///
/// # Errors
/// The connection closes; after an error the stream has no next packet.
#[inline]
pub fn decode(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<Decoded<'_>>, CodecError> {
    decode_for::<true>(bytes, packet_bytes_max)
}

/// As [`decode`], for packets that are looked at once more. A function of its own: with a second caller the compiler no longer
/// inlines that one on the path of each packet, which costs a small PUBLISH two fifths of its time (55 and 77 ns).
///
/// # Errors
/// Those of [`decode`].
#[cold]
pub fn decode_again(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<Decoded<'_>>, CodecError> {
    decode_for::<false>(bytes, packet_bytes_max)
}

#[inline]
fn decode_for<const FIRST: bool>(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<Decoded<'_>>, CodecError> {
    let Some(header) = Header::read(bytes, packet_bytes_max)? else {
        return Ok(None);
    };
    let Some(body) = bytes.get(header.body_at..header.frame_len) else {
        return Ok(None);
    };
    let mut fields = Fields::new(body);
    let packet = match header.kind {
        Kind::Publish { dup, qos, retain } => publish::<FIRST>(fields, dup, qos, retain)?,
        Kind::PubAck => Packet::PubAck(fields.packet_id()?),
        Kind::PubRec => Packet::PubRec(fields.packet_id()?),
        Kind::PubRel => Packet::PubRel(fields.packet_id()?),
        Kind::PubComp => Packet::PubComp(fields.packet_id()?),
        Kind::UnsubAck => Packet::UnsubAck(fields.packet_id()?),
        Kind::PingReq => Packet::PingReq,
        Kind::PingResp => Packet::PingResp,
        Kind::Disconnect => Packet::Disconnect,
        Kind::Connect => Packet::Connect(connect::decode(fields)?),
        Kind::ConnAck => connack(fields)?,
        Kind::Subscribe => subscribe(fields)?,
        Kind::SubAck => suback(fields)?,
        Kind::Unsubscribe => unsubscribe(fields)?,
    };
    Ok(Some(Decoded {
        packet,
        len: header.frame_len,
    }))
}

/// Size of the frame at the start of `bytes`, fixed header included, as soon as its header is complete.
///
/// For callers that need the size before the packet is whole. `Ok(None)` if the header is not complete.
///
/// # Errors
/// Those that [`decode`] finds in a header; the connection closes.
#[inline]
pub fn frame_len(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<usize>, CodecError> {
    Ok(Header::read(bytes, packet_bytes_max)?.map(|header| header.frame_len))
}

/// Decodes the PUBLISH at the start of `bytes` up to its payload, which need not be there; and where that begins. The counterpart of
/// [`encode_publish_head`](super::encode_publish_head). `Ok(None)` if more bytes are needed, or it is another packet.
///
/// # Errors
/// Those of [`decode`]; and `Truncated`, if the bytes end before the payload.
pub fn decode_publish_head(bytes: &[u8]) -> Result<Option<(PublishHead<'_>, usize)>, CodecError> {
    let Some(header) = Header::read(bytes, usize::MAX)? else {
        return Ok(None);
    };
    let Kind::Publish { dup, qos, retain } = header.kind else {
        return Ok(None);
    };
    let there = header.frame_len.min(bytes.len());
    let mut fields = Fields::new(&bytes[header.body_at..there]);
    let topic = fields.string()?;
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(fields.packet_id()?),
    };
    let payload_at = there - fields.rest().len();
    let head = PublishHead {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        payload_len: header.frame_len - payload_at,
    };
    Ok(Some((head, payload_at)))
}

/// Section 3.3.2 and 3.3.3. The payload is what is left, so nothing can trail.
#[inline]
fn publish<const FIRST: bool>(
    mut fields: Fields<'_>,
    dup: bool,
    qos: QoS,
    retain: bool,
) -> Result<Packet<'_>, CodecError> {
    // [MQTT-3.3.2-1]
    let topic = fields.string()?;
    // [MQTT-2.3.1-1], [MQTT-2.3.1-5]
    let packet_id = if qos == QoS::AtMostOnce {
        None
    } else {
        Some(fields.packet_id()?)
    };
    Ok(Packet::Publish(Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        payload: fields.rest(),
    }))
}

/// Section 3.2.2.
fn connack(mut fields: Fields<'_>) -> Result<Packet<'_>, CodecError> {
    let flags = fields.byte()?;
    let session_present = match flags {
        0 => false,
        1 => true,
        _ => return Err(CodecError::InvalidConnAckFlags { flags }),
    };
    let code = match fields.byte()? {
        0 => ConnectReturnCode::Accepted,
        1 => ConnectReturnCode::UnacceptableProtocolVersion,
        2 => ConnectReturnCode::IdentifierRejected,
        3 => ConnectReturnCode::ServerUnavailable,
        4 => ConnectReturnCode::BadUserNameOrPassword,
        5 => ConnectReturnCode::NotAuthorized,
        code => return Err(CodecError::InvalidReturnCode { code }),
    };
    // [MQTT-3.2.2-4]
    if session_present && code != ConnectReturnCode::Accepted {
        return Err(CodecError::InvalidConnAckFlags { flags });
    }
    Ok(Packet::ConnAck(ConnAck { session_present, code }))
}

/// Sections 3.8.2 and 3.8.3.
#[inline(never)]
fn subscribe(mut fields: Fields<'_>) -> Result<Packet<'_>, CodecError> {
    let packet_id = fields.packet_id()?;
    let filters = SubscribeFilters::check(fields.rest())?;
    Ok(Packet::Subscribe(Subscribe { packet_id, filters }))
}

/// Sections 3.9.2 and 3.9.3.
#[inline(never)]
fn suback(mut fields: Fields<'_>) -> Result<Packet<'_>, CodecError> {
    let packet_id = fields.packet_id()?;
    let return_codes = fields.rest();
    if return_codes.is_empty() {
        return Err(CodecError::NoReturnCodes);
    }
    // [MQTT-3.9.3-2]
    match return_codes.iter().find(|&&code| code > 2 && code != SUBACK_FAILURE) {
        Some(&code) => Err(CodecError::InvalidReturnCode { code }),
        None => Ok(Packet::SubAck(SubAck {
            packet_id,
            return_codes,
        })),
    }
}

/// Sections 3.10.2 and 3.10.3.
#[inline(never)]
fn unsubscribe(mut fields: Fields<'_>) -> Result<Packet<'_>, CodecError> {
    let packet_id = fields.packet_id()?;
    let filters = UnsubscribeFilters::check(fields.rest())?;
    Ok(Packet::Unsubscribe(Unsubscribe { packet_id, filters }))
}
