//! One connection as the shard's thread sees it: a socket, where it is on its way to being closed, and who looks at it
//! next.
//!
//! ```text
//!            Effect::Close                output written            EOF, or the deadline
//!   Open ─────────────────▶ Flushing ───────────────────▶ Draining ─────────────────────▶ gone, Event::Closed
//!     └── EOF, error, write timeout ──────────────────────────────────────────────────────▶ gone, Event::Closed
//! ```
//! While it drains, the write side is shut and what still arrives is thrown away, so that a refused client can read its
//! CONNACK: closing over unread bytes would reset the connection and take the CONNACK with it. A connection owns no
//! buffer.

use ringmq_shard::shard::{ClientId, ConnId};
use ringmq_shard::time::Instant;

use super::ring::Watch;
use crate::transport::{Peer, Transport};

/// A connection of one shard.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Transport,
    pub(crate) peer: Peer,
    /// Whose, once a CONNECT was accepted: for the log.
    pub(crate) client: Option<ClientId>,
    /// When the output last moved, while it waits for room.
    pub(crate) progress_at: Instant,
    /// Tells this connection from an earlier one with the same [`ConnId`].
    pub(crate) generation: u32,
    /// Bytes thrown away while draining.
    pub(crate) drained_bytes: u32,
    /// Bytes written since something was last read.
    pub(crate) unanswered_bytes: u32,
    /// Of this connection's entry in the list of hot ones.
    pub(crate) ticket: u32,
    pub(crate) phase: Phase,
    pub(crate) reading: Reading,
    /// The ring reports what arrives. False: the registration is spent, and is made anew before anyone waits for it.
    pub(crate) watched: bool,
    /// The other side has ended, or the socket failed: it is read until a read says so, for the ring may not say it
    /// again.
    pub(crate) hung_up: bool,
    /// The output waits for room; it is not written before the ring says that there is.
    pub(crate) write_blocked: bool,
    /// A write deadline is in the table of deadlines; it stays there until it is looked at.
    pub(crate) write_watched: bool,
}

/// How far a connection is from its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The shard reads and writes.
    Open,
    /// The shard closed it: the rest of the output is written.
    Flushing,
    /// Written and shut; waiting for the client to end its side.
    Draining,
}

/// Who looks at the socket next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    /// One of the next turns reads it.
    Hot,
    /// The ring says when there is something.
    Idle,
    /// Nobody, until the shard resumes it: back-pressure. Also while flushing.
    Held,
}

impl Connection {
    /// A socket that nobody watches so far.
    pub(crate) fn new(socket: Transport, peer: Peer, generation: u32) -> Connection {
        Connection {
            socket,
            peer,
            client: None,
            progress_at: Instant::default(),
            generation,
            drained_bytes: 0,
            unanswered_bytes: 0,
            ticket: 0,
            phase: Phase::Open,
            reading: Reading::Idle,
            watched: false,
            hung_up: false,
            write_blocked: false,
            write_watched: false,
        }
    }

    /// The header of its proxy was taken: what the connection is behind it.
    pub(crate) fn behind_header(self) -> Connection {
        let socket = match self.socket {
            Transport::Proxied(stream) => stream.into_inner(),
            socket => socket,
        };
        Connection { socket, ..self }
    }

    pub(crate) fn readable(&self, conn: ConnId) -> Watch {
        let generation = self.generation;
        Watch::Readable { conn, generation }
    }

    pub(crate) fn writable(&self, conn: ConnId) -> Watch {
        let generation = self.generation;
        Watch::Writable { conn, generation }
    }

    /// More was sent than acknowledgements are: the client's own acknowledgements are likely on their way.
    pub(crate) fn owes_an_answer(&self) -> bool {
        self.unanswered_bytes >= UNANSWERED_BYTES
    }
}

/// Some small PUBLISH, or a hundred acknowledgements.
const UNANSWERED_BYTES: u32 = 512;

/// What an idle connection costs beside the shard's own state.
const _: () = assert!(size_of::<Option<Connection>>() <= 96);
