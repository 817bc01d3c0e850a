//! What a trace tells: owned, and of bounded size whatever a packet holds.

use super::TraceId;
use crate::codec::{ConnAck, Connect, Packet, PacketId, PublishHead, QoS};
use crate::error::CloseReason;
use crate::shard::{ClientId, ConnId};

/// Something that happened to what a trace follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Traced {
    /// For whom.
    pub trace: TraceId,
    /// Where; `u32::MAX` for a client that is not connected.
    pub conn: ConnId,
    /// Whose.
    pub client: ClientId,
    /// What.
    pub event: TracedEvent,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TracedEvent {
    /// The client sent a packet.
    Received(TracedPacket),
    /// A packet was handed to the client's socket.
    Sent(TracedPacket),
    /// A message goes no further: the client's own, or one for it.
    Dropped {
        /// Shortened.
        topic: Box<str>,
        /// A [`DropReason`](crate::error::DropReason)'s label, or `not_allowed`.
        reason: &'static str,
    },
    /// The connection is closed.
    Closed(CloseReason),
}

/// What is told of a packet. Texts are shortened to 200 bytes, lists to their first 16.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TracedPacket {
    /// CONNECT, without the password.
    Connect {
        /// As asked.
        clean_session: bool,
        /// As asked, in seconds.
        keep_alive: u16,
        /// As claimed.
        user_name: Option<Box<str>>,
        /// Where the Will would go.
        will_topic: Option<Box<str>>,
    },
    /// CONNACK.
    ConnAck(ConnAck),
    /// PUBLISH.
    Publish {
        /// The Topic Name.
        topic: Box<str>,
        /// As in the packet.
        qos: QoS,
        /// As in the packet.
        retain: bool,
        /// As in the packet.
        dup: bool,
        /// For QoS 1 and 2.
        packet_id: Option<PacketId>,
        /// All of it.
        payload_bytes: usize,
        /// Its first bytes, as many as were asked for.
        payload: Box<[u8]>,
    },
    /// SUBSCRIBE: Topic Filters, with the QoS asked for.
    Subscribe(PacketId, Listed<(Box<str>, QoS)>),
    /// SUBACK: return codes.
    SubAck(PacketId, Listed<u8>),
    /// UNSUBSCRIBE: Topic Filters.
    Unsubscribe(PacketId, Listed<Box<str>>),
    /// A packet of which its name and Packet Identifier say all.
    Other(&'static str, Option<PacketId>),
}

/// The first entries of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed<T> {
    /// At most 16.
    pub first: Vec<T>,
    /// How many there are.
    pub count: usize,
}

impl<T> Listed<T> {
    fn new(entries: impl Iterator<Item = T>, count: usize) -> Listed<T> {
        Listed {
            first: entries.take(LISTED_MAX).collect(),
            count,
        }
    }
}

impl TracedPacket {
    pub(super) fn new(packet: &Packet<'_>, payload_bytes_max: usize) -> TracedPacket {
        match packet {
            Packet::Connect(connect) => TracedPacket::connect(connect),
            Packet::ConnAck(connack) => TracedPacket::ConnAck(*connack),
            Packet::Publish(publish) => {
                let head = PublishHead {
                    dup: publish.dup,
                    qos: publish.qos,
                    retain: publish.retain,
                    topic: publish.topic,
                    packet_id: publish.packet_id,
                    payload_len: publish.payload.len(),
                };
                TracedPacket::publish(&head, publish.payload, payload_bytes_max)
            }
            Packet::Subscribe(subscribe) => {
                let filters = subscribe.filters.iter().map(|(filter, qos)| (shortened(filter), qos));
                TracedPacket::Subscribe(subscribe.packet_id, Listed::new(filters, subscribe.filters.len()))
            }
            Packet::SubAck(suback) => {
                let codes = suback.return_codes.iter().copied();
                TracedPacket::SubAck(suback.packet_id, Listed::new(codes, suback.return_codes.len()))
            }
            Packet::Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.filters.iter().map(shortened);
                TracedPacket::Unsubscribe(unsubscribe.packet_id, Listed::new(filters, unsubscribe.filters.len()))
            }
            Packet::PubAck(id)
            | Packet::PubRec(id)
            | Packet::PubRel(id)
            | Packet::PubComp(id)
            | Packet::UnsubAck(id) => TracedPacket::Other(packet.name(), Some(*id)),
            Packet::PingReq | Packet::PingResp | Packet::Disconnect => TracedPacket::Other(packet.name(), None),
        }
    }

    pub(super) fn connect(connect: &Connect<'_>) -> TracedPacket {
        TracedPacket::Connect {
            clean_session: connect.clean_session,
            keep_alive: connect.keep_alive,
            user_name: connect.user_name.map(shortened),
            will_topic: connect.will.as_ref().map(|will| shortened(will.topic)),
        }
    }

    pub(super) fn publish(head: &PublishHead<'_>, payload: &[u8], payload_bytes_max: usize) -> TracedPacket {
        TracedPacket::Publish {
            topic: shortened(head.topic),
            qos: head.qos,
            retain: head.retain,
            dup: head.dup,
            packet_id: head.packet_id,
            payload_bytes: head.payload_len,
            payload: payload[..payload_bytes_max.min(payload.len())].into(),
        }
    }

    /// The packet's name, as the standard writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            TracedPacket::Connect { .. } => "CONNECT",
            TracedPacket::ConnAck(_) => "CONNACK",
            TracedPacket::Publish { .. } => "PUBLISH",
            TracedPacket::Subscribe(..) => "SUBSCRIBE",
            TracedPacket::SubAck(..) => "SUBACK",
            TracedPacket::Unsubscribe(..) => "UNSUBSCRIBE",
            TracedPacket::Other(name, _) => name,
        }
    }
}

/// As much of a text as a line can have.
pub(in crate::shard) fn shortened(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].into()
}

/// So much of a text is told.
const TEXT_BYTES_MAX: usize = 200;
/// Entries of a list that are told.
const LISTED_MAX: usize = 16;
