//! The fourteen control packets of MQTT 3.1.1 as plain values. Field order is that of the wire.

use std::fmt;
use std::num::NonZeroU16;

pub use super::filters::{SubscribeFilters, UnsubscribeFilters};

/// Quality of Service of an Application Message (section 4.3). Ordered: the lesser of two is `min`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum QoS {
    /// 0: sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// 1: acknowledged by PUBACK.
    AtLeastOnce = 1,
    /// 2: PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level of the two bits on the wire; `None` for 3, which is malformed [MQTT-3.3.1-4].
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// A Packet Identifier, 1..=65 535. Zero is malformed [MQTT-2.3.1-1], so it does not exist here.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The identifier, or `None` for zero.
    #[inline]
    #[must_use]
    pub const fn new(id: u16) -> Option<PacketId> {
        match NonZeroU16::new(id) {
            Some(id) => Some(PacketId(id)),
            None => None,
        }
    }

    /// The number on the wire.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Protocol name and level of a CONNECT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// `MQIsdp`, level 3: MQTT 3.1. Accepted, and served as 3.1.1.
    V31,
    /// `MQTT`, level 4: MQTT 3.1.1.
    V311,
}

/// A Control Packet, borrowed from the bytes it was decoded from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet<'a> {
    /// Client to server, once, first (3.1).
    Connect(Connect<'a>),
    /// The answer to CONNECT (3.2).
    ConnAck(ConnAck),
    /// An Application Message, in either direction (3.3).
    Publish(Publish<'a>),
    /// QoS 1: the message arrived (3.4).
    PubAck(PacketId),
    /// QoS 2, part 1: the message arrived (3.5).
    PubRec(PacketId),
    /// QoS 2, part 2: release the identifier (3.6).
    PubRel(PacketId),
    /// QoS 2, part 3: released (3.7).
    PubComp(PacketId),
    /// Topic Filters and the QoS asked for each (3.8).
    Subscribe(Subscribe<'a>),
    /// A return code per filter (3.9).
    SubAck(SubAck<'a>),
    /// Topic Filters to drop (3.10).
    Unsubscribe(Unsubscribe<'a>),
    /// The answer to UNSUBSCRIBE (3.11).
    UnsubAck(PacketId),
    /// Client to server: still here (3.12).
    PingReq,
    /// The answer to PINGREQ (3.13).
    PingResp,
    /// Client to server, last (3.14).
    Disconnect,
}

impl Packet<'_> {
    /// The packet's name, as the standard writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Packet::Connect(_) => "CONNECT",
            Packet::ConnAck(_) => "CONNACK",
            Packet::Publish(_) => "PUBLISH",
            Packet::PubAck(_) => "PUBACK",
            Packet::PubRec(_) => "PUBREC",
            Packet::PubRel(_) => "PUBREL",
            Packet::PubComp(_) => "PUBCOMP",
            Packet::Subscribe(_) => "SUBSCRIBE",
            Packet::SubAck(_) => "SUBACK",
            Packet::Unsubscribe(_) => "UNSUBSCRIBE",
            Packet::UnsubAck(_) => "UNSUBACK",
            Packet::PingReq => "PINGREQ",
            Packet::PingResp => "PINGRESP",
            Packet::Disconnect => "DISCONNECT",
        }
    }
}

/// CONNECT (3.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connect<'a> {
    /// Protocol name and level.
    pub protocol: Protocol,
    /// Clean Session: forget what was, keep nothing after.
    pub clean_session: bool,
    /// Keep Alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// Client Identifier; may be empty, which asks the server for one.
    pub client_id: &'a str,
    /// The Will, where the Will Flag is set.
    pub will: Option<Will<'a>>,
    /// User Name, where its flag is set.
    pub user_name: Option<&'a str>,
    /// Password, where its flag is set; bytes, not text.
    pub password: Option<&'a [u8]>,
}

/// The Will of a CONNECT (3.1.2.5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Will<'a> {
    /// Topic Name to publish to. UTF-8 without U+0000; not validated as a Topic Name here.
    pub topic: &'a str,
    /// The payload, 0..=65 535 bytes.
    pub message: &'a [u8],
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is published as Retained.
    pub retain: bool,
}

/// CONNACK (3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnAck {
    /// The server had a stored session and resumes it. Always false with a refusal [MQTT-3.2.2-4].
    pub session_present: bool,
    /// Accepted, or why not.
    pub code: ConnectReturnCode,
}

/// The return code of a CONNACK (table 3.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum ConnectReturnCode {
    /// 0x00
    Accepted = 0,
    /// 0x01
    UnacceptableProtocolVersion = 1,
    /// 0x02
    IdentifierRejected = 2,
    /// 0x03
    ServerUnavailable = 3,
    /// 0x04
    BadUserNameOrPassword = 4,
    /// 0x05
    NotAuthorized = 5,
}

/// PUBLISH (3.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publish<'a> {
    /// The sender has sent this packet before.
    pub dup: bool,
    /// Delivery level.
    pub qos: QoS,
    /// To a server: store. From a server: this is a stored one.
    pub retain: bool,
    /// Topic Name. UTF-8 without U+0000; not validated as a Topic Name here.
    pub topic: &'a str,
    /// Present exactly if `qos` is not 0 [MQTT-2.3.1-5].
    pub packet_id: Option<PacketId>,
    /// The Application Message; any bytes, also none.
    pub payload: &'a [u8],
}

/// SUBSCRIBE (3.8).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscribe<'a> {
    /// Repeated in the SUBACK [MQTT-2.3.1-7].
    pub packet_id: PacketId,
    /// At least one [MQTT-3.8.3-3].
    pub filters: SubscribeFilters<'a>,
}

/// UNSUBSCRIBE (3.10).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsubscribe<'a> {
    /// Repeated in the UNSUBACK [MQTT-2.3.1-7].
    pub packet_id: PacketId,
    /// At least one [MQTT-3.10.3-2].
    pub filters: UnsubscribeFilters<'a>,
}

/// SUBACK (3.9).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubAck<'a> {
    /// That of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One byte per filter, in its order [MQTT-3.9.3-1]: 0x00, 0x01, 0x02 (granted QoS) or 0x80 (failure).
    pub return_codes: &'a [u8],
}

/// The SUBACK return code of a refused filter.
pub const SUBACK_FAILURE: u8 = 0x80;
