//! One connection as the shard's thread sees it: a socket, where it is on its way to being closed, and the
//! registrations that say when to look at it again.
//!
//! ```text
//!            Effect::Close                output written            EOF, or the deadline
//!   Open ─────────────────▶ Flushing ───────────────────▶ Draining ─────────────────────▶ gone, Event::Closed
//!     └── EOF, error, write timeout ──────────────────────────────────────────────────────▶ gone, Event::Closed
//! ```
//! While it drains, the write side is shut and what still arrives is thrown away, so that a refused client can read its
//! CONNACK: closing over unread bytes would reset the connection and take the CONNACK with it. A connection owns no
//! buffer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use glommio::io::{PollState, PollableFd};
use ringmq_shard::shard::{ClientId, ConnId};
use ringmq_shard::time::Instant;

use super::ready::{Direction, Fired, ReadyList};
use crate::transport::Transport;

/// A connection of one shard.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: PollableFd<Transport>,
    pub(crate) peer: SocketAddr,
    /// Whose, once a CONNECT was accepted: for the log.
    pub(crate) client: Option<ClientId>,
    read_poll: PollState,
    write_poll: PollState,
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
    /// The output waits for room; it is not written before the registration fires.
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
    Hot {
        /// Turns in a row that found nothing.
        quiet_turns: u8,
    },
    /// The ring says when there is something.
    Armed,
    /// Nobody, until the shard resumes it: back-pressure. Also while flushing.
    Held,
}

impl Connection {
    /// Takes the socket onto this thread's executor.
    pub(crate) fn new(socket: Transport, peer: SocketAddr, generation: u32) -> io::Result<Connection> {
        Ok(Connection {
            socket: PollableFd::new(socket).map_err(io::Error::from)?,
            peer,
            client: None,
            read_poll: PollState::new(),
            write_poll: PollState::new(),
            progress_at: Instant::default(),
            generation,
            drained_bytes: 0,
            unanswered_bytes: 0,
            ticket: 0,
            phase: Phase::Open,
            reading: Reading::Hot { quiet_turns: 0 },
            write_blocked: false,
            write_watched: false,
        })
    }

    /// Gives the socket up, for another shard. Registrations are taken back.
    pub(crate) fn into_socket(self) -> Transport {
        self.socket.into_inner()
    }

    pub(crate) fn transport(&self) -> &Transport {
        self.socket.get_ref()
    }

    /// More was sent than acknowledgements are: the client's own acknowledgements are likely on their way.
    pub(crate) fn owes_an_answer(&self) -> bool {
        self.unanswered_bytes >= UNANSWERED_BYTES
    }

    /// Asks the ring to say when there is something to read.
    pub(crate) fn arm_read(&mut self, conn: ConnId, ready: &Arc<ReadyList>) {
        let waker = ready.waker(Fired {
            conn,
            generation: self.generation,
            direction: Direction::Read,
        });
        self.read_poll = PollState::new();
        let poll = self
            .socket
            .poll_readable(&mut Context::from_waker(&waker), &mut self.read_poll);
        self.reading = Reading::Armed;
        answered_at_once(&poll, &waker);
    }

    /// Asks the ring to say when there is room to write.
    pub(crate) fn arm_write(&mut self, conn: ConnId, ready: &Arc<ReadyList>) {
        let waker = ready.waker(Fired {
            conn,
            generation: self.generation,
            direction: Direction::Write,
        });
        self.write_poll = PollState::new();
        let poll = self
            .socket
            .poll_writable(&mut Context::from_waker(&waker), &mut self.write_poll);
        self.write_blocked = true;
        answered_at_once(&poll, &waker);
    }

    /// A registration fired: it is spent, and its memory goes.
    pub(crate) fn disarm(&mut self, direction: Direction) {
        match direction {
            Direction::Read => self.read_poll = PollState::new(),
            Direction::Write => {
                self.write_poll = PollState::new();
                self.write_blocked = false;
            }
        }
    }
}

/// A registration that is answered at once, or refused, fires like one that is answered later: the read or write that
/// follows says what is the matter.
fn answered_at_once<T>(poll: &Poll<T>, waker: &Waker) {
    if poll.is_ready() {
        waker.wake_by_ref();
    }
}

/// Some small PUBLISH, or a hundred acknowledgements.
const UNANSWERED_BYTES: u32 = 512;

/// What an idle connection costs beside its registration and the shard's own state.
const _: () = assert!(size_of::<Option<Connection>>() <= 128);
