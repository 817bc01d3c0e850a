//! What can be wrong with what a client does, and what it sees then.
//!
//! [`CodecError`]: these bytes are no packet. [`ProtocolError`]: a packet, but not allowed. [`SessionError`]: allowed,
//! but this session cannot. None of them ends more than one connection, and [`CloseReason`] says how that one ends.

use std::fmt;

use thiserror::Error;

pub use crate::codec::CodecError;
use crate::codec::{ConnectReturnCode, PacketId};
use crate::store::StoreError;
use crate::topic::TopicError;

/// A well-formed packet that the specification or the broker's policy forbids here.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ProtocolError {
    /// The first packet was not CONNECT [MQTT-3.1.0-1].
    #[error("{packet} before CONNECT")]
    NotConnected {
        /// What came instead.
        packet: &'static str,
    },
    /// A second CONNECT on one connection [MQTT-3.1.0-2].
    #[error("a second CONNECT")]
    SecondConnect,
    /// A packet that only a server sends.
    #[error("{packet} from a client")]
    ServerPacket {
        /// Which.
        packet: &'static str,
    },
    /// An empty Client Identifier with Clean Session 0 [MQTT-3.1.3-8], or one longer than the limit [MQTT-3.1.3-9].
    #[error("Client Identifier of {got} bytes refused (limit {limit}; an empty one needs Clean Session 1)")]
    InvalidClientId {
        /// Bytes received.
        got: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// A Topic Name that is none, in a PUBLISH or a Will [MQTT-4.7.3-1].
    #[error("invalid Topic Name: {0}")]
    InvalidTopicName(TopicError),
    /// A PUBLISH or a Will for a topic that the client may not write, where the operator closes the connection then.
    #[error("a message that the access control list denies")]
    PublishDenied,
    /// A Will for a topic that belongs to the broker.
    #[error("a Will for a topic of the broker itself")]
    ForbiddenWill,
    /// A Topic Filter that is none [MQTT-4.7.1-2].
    #[error("invalid Topic Filter: {0}")]
    InvalidTopicFilter(TopicError),
}

/// A client whose session cannot take what is allowed in principle.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SessionError {
    /// More QoS 2 messages without PUBREL than one client may hold here.
    #[error("more than {held_max} QoS 2 messages not released")]
    InboundWindowFull {
        /// The limit.
        held_max: u16,
    },
    /// The QoS 2 messages that wait for PUBREL hold too many bytes.
    #[error("QoS 2 messages not released hold more than {bytes_max} bytes")]
    InboundBytesFull {
        /// The limit.
        bytes_max: usize,
    },
    /// PUBACK for a QoS 2 message, or PUBREC or PUBCOMP for a QoS 1 message.
    #[error("{packet} for Packet Identifier {packet_id}, which waits for {expected}")]
    WrongAcknowledgement {
        /// What came.
        packet: &'static str,
        /// For which identifier.
        packet_id: PacketId,
        /// What the message waits for.
        expected: &'static str,
    },
    /// Every place for a session is taken.
    #[error("the limit of {limit} stored sessions is reached")]
    TooManySessions {
        /// The limit.
        limit: usize,
    },
    /// What the client would make the broker keep does not fit into memory.
    #[error("no memory for more of this client's bytes (a shard may hold {share})")]
    MemoryFull {
        /// Bytes that one shard may hold for all its clients.
        share: usize,
    },
    /// It has published as fast as it may, or faster, for as long as the operator looks on.
    #[error("published faster than its rate for {seconds} s")]
    RateExceeded {
        /// The patience.
        seconds: u64,
    },
    /// The queue was full and the operator chose to disconnect slow subscribers.
    #[error("the subscriber does not keep up: {queued} messages wait")]
    SlowSubscriber {
        /// Messages waiting.
        queued: usize,
    },
}

/// A client that is not let in.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AuthenticationError {
    /// No such user, or another password. Which of the two is nobody's business.
    #[error("bad user name or password")]
    BadCredentials,
    /// No user name where one is needed.
    #[error("no user name, and anonymous clients are not allowed here")]
    AnonymousNotAllowed,
    /// Too many others wait to be verified, or whoever verifies cannot.
    #[error("the client could not be verified now")]
    Unavailable,
    /// The verdict did not come within the connect timeout.
    #[error("the client was not verified in time")]
    TimedOut,
    /// As many clients of this user are connected as may be.
    #[error("the user has as many clients connected as it may have")]
    TooManyOfUser,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CloseReason {
    /// DISCONNECT: the client is done.
    #[error("the client disconnected")]
    Disconnect,
    /// The socket ended without DISCONNECT.
    #[error("the connection was lost")]
    ConnectionLost,
    /// Another connection came with this Client Identifier [MQTT-3.1.4-2].
    #[error("taken over by another connection with this Client Identifier")]
    SessionTakeover,
    /// Nothing received for 1.5 times the Keep Alive [MQTT-3.1.2-24].
    #[error("nothing received for 1.5 times the Keep Alive of {seconds} s")]
    KeepAliveTimeout {
        /// The Keep Alive in force.
        seconds: u16,
    },
    /// No complete CONNECT in time.
    #[error("no CONNECT in time")]
    ConnectTimeout,
    /// What was verified of the client held for a time, which is over.
    #[error("what was verified of the client has expired")]
    AuthorizationExpired,
    /// An operator ended the connection.
    #[error("closed by an operator")]
    Kicked,
    /// The broker stops.
    #[error("the broker stops")]
    Shutdown,
    /// The bytes were no packet.
    #[error("malformed packet: {0}")]
    Codec(#[from] CodecError),
    /// The packet was not allowed.
    #[error("protocol violation: {0}")]
    Protocol(#[from] ProtocolError),
    /// The client was not let in.
    #[error("{0}")]
    Authentication(#[from] AuthenticationError),
    /// The session could not.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// What had to be made durable could not be.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl CloseReason {
    /// The reason in metrics: lower case, words joined by `_`, one of a fixed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            CloseReason::Disconnect => "disconnect",
            CloseReason::ConnectionLost => "connection_lost",
            CloseReason::SessionTakeover => "takeover",
            CloseReason::KeepAliveTimeout { .. } => "keep_alive_timeout",
            CloseReason::ConnectTimeout => "connect_timeout",
            CloseReason::AuthorizationExpired => "authorization_expired",
            CloseReason::Kicked => "kicked",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Codec(error) => error.label(),
            CloseReason::Protocol(error) => match error {
                ProtocolError::NotConnected { .. } => "not_connected",
                ProtocolError::SecondConnect => "second_connect",
                ProtocolError::ServerPacket { .. } => "server_packet",
                ProtocolError::InvalidClientId { .. } => "invalid_client_id",
                ProtocolError::InvalidTopicName(_) => "invalid_topic_name",
                ProtocolError::InvalidTopicFilter(_) => "invalid_topic_filter",
                ProtocolError::ForbiddenWill => "forbidden_will",
                ProtocolError::PublishDenied => "publish_denied",
            },
            CloseReason::Authentication(error) => match error {
                AuthenticationError::BadCredentials => "bad_credentials",
                AuthenticationError::AnonymousNotAllowed => "anonymous_not_allowed",
                AuthenticationError::Unavailable => "authentication_unavailable",
                AuthenticationError::TimedOut => "authentication_timeout",
                AuthenticationError::TooManyOfUser => "too_many_of_user",
            },
            CloseReason::Session(error) => match error {
                SessionError::InboundWindowFull { .. } => "inbound_window_full",
                SessionError::InboundBytesFull { .. } => "inbound_bytes_full",
                SessionError::WrongAcknowledgement { .. } => "wrong_acknowledgement",
                SessionError::TooManySessions { .. } => "too_many_sessions",
                SessionError::SlowSubscriber { .. } => "slow_subscriber",
                SessionError::MemoryFull { .. } => "memory_full",
                SessionError::RateExceeded { .. } => "rate_exceeded",
            },
            CloseReason::Store(error) => error.label(),
        }
    }

    /// Whether the client is to blame, or its network: what an operator wants in the log at info.
    #[must_use]
    pub const fn is_abnormal(&self) -> bool {
        !matches!(
            self,
            CloseReason::Disconnect | CloseReason::ConnectionLost | CloseReason::Shutdown
        )
    }

    /// The return code of the CONNACK that a refused CONNECT gets; `None`: the connection closes without one
    /// [MQTT-3.2.2-6].
    #[must_use]
    pub const fn refusal(&self) -> Option<ConnectReturnCode> {
        match self {
            CloseReason::Codec(CodecError::UnsupportedProtocolLevel { .. }) => {
                Some(ConnectReturnCode::UnacceptableProtocolVersion)
            }
            CloseReason::Protocol(ProtocolError::InvalidClientId { .. }) => Some(ConnectReturnCode::IdentifierRejected),
            CloseReason::Protocol(ProtocolError::ForbiddenWill | ProtocolError::PublishDenied) => {
                Some(ConnectReturnCode::NotAuthorized)
            }
            CloseReason::Authentication(error) => Some(match error {
                AuthenticationError::BadCredentials => ConnectReturnCode::BadUserNameOrPassword,
                AuthenticationError::AnonymousNotAllowed => ConnectReturnCode::NotAuthorized,
                AuthenticationError::Unavailable
                | AuthenticationError::TimedOut
                | AuthenticationError::TooManyOfUser => ConnectReturnCode::ServerUnavailable,
            }),
            CloseReason::Session(SessionError::TooManySessions { .. }) | CloseReason::Store(_) => {
                Some(ConnectReturnCode::ServerUnavailable)
            }
            _ => None,
        }
    }
}

/// What the access control list denies. Each is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Denial {
    /// A PUBLISH or a Will: it is not routed.
    Publish,
    /// A Topic Filter in a SUBSCRIBE: refused with 0x80.
    Subscribe,
    /// A message for a subscriber: it does not leave.
    Delivery,
}

impl Denial {
    /// All, in the order of their counters.
    pub const ALL: [Denial; 3] = [Denial::Publish, Denial::Subscribe, Denial::Delivery];

    /// The kind in metrics and `$SYS`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Denial::Publish => "publish",
            Denial::Subscribe => "subscribe",
            Denial::Delivery => "delivery",
        }
    }
}

/// Why a message did not reach a subscriber. Each is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum DropReason {
    /// QoS 0 for a connection whose output was over its limit.
    OutputFull,
    /// QoS 1 or 2 for a session whose queue was full; the newest or oldest went, as configured.
    QueueFull,
    /// A retained message beyond the limit was not stored; live delivery is not affected.
    RetainedFull,
    /// A shared group lost its last member while the message was on its way.
    NoMember,
    /// The store refused the record of a QoS 1 or 2 message.
    StoreFailed,
    /// A session ended or expired with messages waiting.
    SessionEnded,
    /// The shard's share of `--max-memory` was nearly used up, and the session held more than others; or it was used up.
    MemoryFull,
    /// A client published to a topic that belongs to the broker (`$…`).
    Forbidden,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [DropReason; 8] = [
        DropReason::OutputFull,
        DropReason::QueueFull,
        DropReason::RetainedFull,
        DropReason::NoMember,
        DropReason::StoreFailed,
        DropReason::SessionEnded,
        DropReason::MemoryFull,
        DropReason::Forbidden,
    ];

    /// The reason in metrics and `$SYS`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            DropReason::OutputFull => "output_full",
            DropReason::QueueFull => "queue_full",
            DropReason::RetainedFull => "retained_full",
            DropReason::NoMember => "no_member",
            DropReason::StoreFailed => "store_failed",
            DropReason::SessionEnded => "session_ended",
            DropReason::MemoryFull => "memory_full",
            DropReason::Forbidden => "forbidden",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
