//! What goes into a shard and what comes out of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::authenticate::{Admission, Credentials, UserName, Verified};
use crate::access::Acl;
use crate::error::{AuthenticationError, CloseReason, Denial};
use crate::limits::Limits;
use crate::shard::PeerBatch;
use crate::store::Lsn;

/// A shard of the broker, 0-based.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an index into a list of all shards.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection of one shard. The number is reused, but only after [`Event::Closed`] or [`Effect::Move`] gave it back.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId(pub u32);

impl ConnId {
    /// As an index into a table of connections: small and dense.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A Client Identifier, shared between its session and whoever reports on it.
pub type ClientId = Arc<str>;

/// What happened to a shard.
#[derive(Debug)]
pub enum Event<'a> {
    /// `bytes` arrived on the connection. Ignored after [`Effect::Close`] or [`Effect::Move`].
    Bytes {
        /// Where.
        conn: ConnId,
        /// In order, cut anywhere.
        bytes: &'a [u8],
    },
    /// The socket is gone, or its close is finished; the [`ConnId`] is free for reuse from here on.
    /// Without an earlier [`Effect::Close`] this is an abnormal end, and the Will is published.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// A peer's batch came out of this shard's inbox.
    Peer(PeerBatch),
    /// The verdict that [`Effect::Authenticate`] asked for. Ignored if the connection no longer waits for it.
    Authenticated {
        /// As asked.
        conn: ConnId,
        /// As asked: tells this connection from a later one with its number.
        ticket: u64,
        /// Who it is, or why it is refused.
        verdict: Result<Verified, AuthenticationError>,
    },
    /// What [`Effect::Enter`] asked for. Ignored if the connection no longer waits for it.
    Entered {
        /// As asked.
        conn: ConnId,
        /// As asked.
        ticket: u64,
        /// Whether there is room.
        room: Result<(), AuthenticationError>,
    },
    /// What clients may do is this from here on.
    Acl(Arc<Acl>),
    /// The limits of clients are these from here on. Nothing that is there already is dropped for it: what is over a
    /// limit stays, and nothing more is let in until it is below. A time that runs already ends as it was set.
    Limits(Box<Limits>),
    /// Who the client is was proved below MQTT, before any byte of it came: what it says about itself does not count. Ignored
    /// once it has said CONNECT.
    Identified {
        /// Which connection.
        conn: ConnId,
        /// Who it is.
        user_name: UserName,
    },
    /// The store says that every record up to here is durable.
    Durable(Lsn),
    /// Time passed: deadlines are looked at, and bounded work that was left over goes on.
    Tick,
    /// The broker stops: every connection is closed, no Will is published.
    Shutdown,
}

/// What the caller must do, beside writing outputs and enqueueing outboxes.
#[derive(Debug)]
pub enum Effect {
    /// A CONNECT was accepted: for the log.
    Connected {
        /// Where.
        conn: ConnId,
        /// Whose.
        client: ClientId,
        /// Whether an earlier session of the client goes on.
        session_present: bool,
    },
    /// Find out whether this client is who it says, and say [`Event::Authenticated`]. It need not be soon, or ever: the connect
    /// timeout goes on.
    Authenticate {
        /// Which.
        conn: ConnId,
        /// Repeated in the answer.
        ticket: u64,
        /// What the client says.
        credentials: Credentials,
    },
    /// It is known who the client is: count it among those of its user, in the whole broker, until [`Effect::Close`] or the end of
    /// its socket, if there is room for it, and say [`Event::Entered`]. Only where there is such a limit.
    Enter {
        /// Which.
        conn: ConnId,
        /// Repeated in the answer.
        ticket: u64,
        /// Empty if the broker is to give one: then it is one that nobody else has.
        client: ClientId,
        /// Whose.
        user_name: UserName,
        /// How many Client Identifiers there may be, this one included.
        limit: usize,
    },
    /// Write what waits in the connection's output, shut down the write side, drain for a bounded time, close, then
    /// say [`Event::Closed`].
    Close {
        /// Which.
        conn: ConnId,
        /// Whose, as far as it was known.
        client: Option<ClientId>,
        /// Why: for the log.
        reason: CloseReason,
    },
    /// The client's home is another shard: hand it the socket and `received`; open it there with
    /// [`Shard::open_as`](crate::shard::Shard::open_as) and feed it `received` first. The [`ConnId`] is free already.
    Move {
        /// Which.
        conn: ConnId,
        /// Where to.
        home: ShardId,
        /// Who may come in on it.
        admission: Admission,
        /// All bytes that this connection has sent so far.
        received: Bytes,
    },
    /// A client was denied something: for the log. Some of each kind and second; the statistics count all.
    Denied {
        /// Whose.
        client: ClientId,
        /// As whom it came.
        user_name: Option<UserName>,
        /// What.
        denial: Denial,
        /// On which topic or filter, cut to a length that a line can have.
        topic: Box<str>,
        /// Denials of this kind since the one that was told before it.
        untold: u64,
    },
    /// [`Shard::may_read`](crate::shard::Shard::may_read) is true again for this connection.
    ResumeReading {
        /// Which.
        conn: ConnId,
    },
}

/// The order in which a turn's outboxes leave; each pass for all peers before the next begins.
///
/// A retained message must reach its owner before a subscriber sees it live (else a new subscription could be given an
/// older value than its client has seen), and a confirmation must not overtake what it confirms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pass {
    /// Stores of retained messages, to their owners.
    Retained,
    /// Messages and routes.
    Messages,
    /// Route confirmations, retained requests and replies, durable notices.
    Confirmations,
}

impl Pass {
    /// All passes, in order.
    pub const ALL: [Pass; 3] = [Pass::Retained, Pass::Messages, Pass::Confirmations];
}
