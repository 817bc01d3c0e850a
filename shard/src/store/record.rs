//! The changes of state that a restart must find again.

use crate::codec::{PacketId, QoS};
use crate::message::Message;

/// One change, borrowed from where it happened.
///
/// Replaying all records of a store in order gives the state that clients were promised: a session's subscriptions, its
/// waiting and unacknowledged messages with their identifiers, the QoS 2 messages it handed over but has not released,
/// and the retained messages. `message_id` names a message within one session and rises with each.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A session with Clean Session 0 began, or was resumed.
    SessionStarted {
        /// Whose.
        client_id: &'a str,
    },
    /// It ended: everything of it is void.
    SessionEnded {
        /// Whose.
        client_id: &'a str,
    },
    /// A subscription was added or replaced. Shared ones are written with their `$share/GROUP/` prefix.
    Subscribed {
        /// Whose.
        client_id: &'a str,
        /// The share name, if it is a shared subscription.
        group: Option<&'a str>,
        /// The Topic Filter.
        filter: &'a str,
        /// As granted.
        qos: QoS,
    },
    /// A subscription was removed.
    Unsubscribed {
        /// Whose.
        client_id: &'a str,
        /// The share name, if it is a shared subscription.
        group: Option<&'a str>,
        /// The Topic Filter.
        filter: &'a str,
    },
    /// A message with QoS > 0 was added to a session.
    Queued {
        /// Whose.
        client_id: &'a str,
        /// Its number in this session.
        message_id: u64,
        /// At which level it will be delivered.
        qos: QoS,
        /// The message.
        message: &'a Message,
    },
    /// An outbound QoS 2 message got its Packet Identifier: after a restart it must be this one again.
    Bound {
        /// Whose.
        client_id: &'a str,
        /// The message.
        message_id: u64,
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// The client answered PUBREC: the message is never sent again, only PUBREL.
    Received {
        /// Whose.
        client_id: &'a str,
        /// Which.
        packet_id: PacketId,
    },
    /// A message left the session: acknowledged, completed, or dropped by a limit.
    Done {
        /// Whose.
        client_id: &'a str,
        /// Its number in this session.
        message_id: u64,
    },
    /// An inbound QoS 2 message is held until PUBREL.
    Held {
        /// Whose.
        client_id: &'a str,
        /// Its Packet Identifier.
        packet_id: PacketId,
        /// The message.
        message: &'a Message,
    },
    /// PUBREL came: the message was routed, the identifier is free.
    Released {
        /// Whose.
        client_id: &'a str,
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// A retained message was stored, or with an empty payload removed.
    Retained {
        /// Topic, payload and QoS.
        message: &'a Message,
    },
}
