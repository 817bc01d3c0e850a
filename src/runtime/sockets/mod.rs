//! The sockets of one shard: read, written and closed on the shard's behalf.
//!
//! Reads go into one scratch buffer that all connections share. A connection that had data is *hot*: the next turns
//! read it again without asking the ring first, because a registration costs more than a read that finds nothing.
//! After [`HOT_TURNS_MAX`] turns without data, or when the shard has nothing else to do, the ring is asked to say
//! when there is something. Here: the table and reading; [`write`] and [`close`] have the rest.

mod close;
mod write;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringmq_shard::shard::{ConnId, Event, Shard};
use ringmq_shard::time::Instant;
use tracing::debug;

use super::connection::{Connection, Phase, Reading};
use super::deadlines::Deadlines;
use super::ready::{Direction, Fired, ReadyList};
use crate::error::MqttError;
use crate::logging::LogLimiter;
use crate::transport::Transport;

/// All connections of one shard.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// By [`ConnId`].
    table: Vec<Option<Connection>>,
    /// Entries in `table`.
    count: usize,
    /// What the next turn reads: number and generation. An entry whose connection is not hot is skipped.
    hot: Vec<(ConnId, u32)>,
    /// The previous `hot`, empty between turns; kept for its memory.
    hot_before: Vec<(ConnId, u32)>,
    ready: Arc<ReadyList>,
    /// Empty between turns; kept for its memory.
    fired: Vec<Fired>,
    scratch: Box<[u8]>,
    deadlines: Deadlines,
    /// Of the connection that was opened last.
    generation: u32,
    write_timeout: Duration,
    /// Open connections of the whole broker. Raised by the listener, lowered here.
    open: Arc<AtomicUsize>,
    pub(crate) log: LogLimiter,
    pub(crate) counters: SocketCounters,
}

/// What the sockets of a shard did since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketCounters {
    pub(crate) reads: u64,
    /// Reads that found nothing: the price of not asking the ring first.
    pub(crate) reads_empty: u64,
    pub(crate) writes: u64,
    /// Registrations with the ring, for reading and writing.
    pub(crate) polls: u64,
    pub(crate) write_timeouts: u64,
}

impl Sockets {
    pub(crate) fn new(ready: Arc<ReadyList>, write_timeout: Duration, open: Arc<AtomicUsize>) -> Sockets {
        Sockets {
            table: Vec::new(),
            count: 0,
            hot: Vec::new(),
            hot_before: Vec::new(),
            ready,
            fired: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            deadlines: Deadlines::default(),
            generation: 0,
            write_timeout,
            open,
            log: LogLimiter::default(),
            counters: SocketCounters::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn has_fired(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        earliest(self.deadlines.next(), self.log.next())
    }

    /// Opens a connection: fresh, or one that moved here with what it had `received`.
    pub(crate) fn open(&mut self, shard: &mut Shard, now: Instant, from: Arrival) {
        self.generation = self.generation.wrapping_add(1);
        let connection = match Connection::new(from.socket, from.peer, self.generation) {
            Ok(connection) => connection,
            Err(error) => {
                self.open.fetch_sub(1, Ordering::Relaxed);
                return debug!(peer = %from.peer, %error, "socket refused by the ring");
            }
        };
        let conn = shard.open(now);
        if self.table.len() <= conn.index() {
            self.table.resize_with(conn.index() + 1, || None);
        }
        let slot = &mut self.table[conn.index()];
        assert!(
            slot.is_none(),
            "the shard gives a number away once until it is told that the connection closed"
        );
        *slot = Some(connection);
        self.count += 1;
        // What a client sends first is often there already.
        self.hot.push((conn, self.generation));
        if !from.received.is_empty() {
            shard.handle(
                now,
                Event::Bytes {
                    conn,
                    bytes: &from.received,
                },
            );
        }
    }

    /// Gives a connection up, for another shard.
    pub(crate) fn take(&mut self, conn: ConnId) -> Option<(Transport, SocketAddr)> {
        let connection = self.table.get_mut(conn.index())?.take()?;
        self.count -= 1;
        let peer = connection.peer;
        Some((connection.into_socket(), peer))
    }

    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.table.get_mut(conn.index())?.as_mut()
    }

    /// The shard reads this connection again.
    pub(crate) fn resume(&mut self, conn: ConnId) {
        if let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut)
            && connection.phase == Phase::Open
            && connection.reading == Reading::Held
        {
            connection.reading = Reading::Hot { quiet_turns: 0 };
            self.hot.push((conn, connection.generation));
        }
    }

    /// Looks at what fired: readable sockets become hot, writable ones are written. True if there was any.
    pub(crate) fn take_fired(&mut self, shard: &mut Shard, now: Instant) -> bool {
        let mut fired = std::mem::take(&mut self.fired);
        self.ready.take(&mut fired);
        let any = !fired.is_empty();
        for Fired {
            conn,
            generation,
            direction,
        } in fired.drain(..)
        {
            let Some(connection) = self
                .get_mut(conn)
                .filter(|connection| connection.generation == generation)
            else {
                continue;
            };
            connection.disarm(direction);
            match direction {
                Direction::Read if connection.reading == Reading::Armed => {
                    connection.reading = Reading::Hot { quiet_turns: 0 };
                    self.hot.push((conn, generation));
                }
                Direction::Read => {}
                Direction::Write => self.write(shard, now, conn),
            }
        }
        self.fired = fired;
        any
    }

    /// Reads each hot connection once. True if any had something.
    pub(crate) fn read(&mut self, shard: &mut Shard, now: Instant) -> bool {
        let mut any = false;
        let mut hot = std::mem::replace(&mut self.hot, std::mem::take(&mut self.hot_before));
        let mut scratch = std::mem::take(&mut self.scratch);
        for (conn, generation) in hot.drain(..) {
            let Some(connection) = self
                .get_mut(conn)
                .filter(|connection| connection.generation == generation)
            else {
                continue;
            };
            let Reading::Hot { quiet_turns } = connection.reading else {
                continue;
            };
            if connection.phase == Phase::Open && !shard.may_read(conn) {
                connection.reading = Reading::Held;
                continue;
            }
            let read = connection.transport().read(&mut scratch);
            self.counters.reads += 1;
            match read {
                Ok(0) => {
                    self.end(shard, now, conn, None);
                    any = true;
                }
                Ok(bytes) => {
                    self.received(shard, now, conn, &scratch[..bytes]);
                    any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.counters.reads_empty += 1;
                    self.cool(conn, quiet_turns + 1);
                }
                Err(source) => self.end(
                    shard,
                    now,
                    conn,
                    Some(MqttError::Io {
                        operation: "read",
                        source,
                    }),
                ),
            }
        }
        self.scratch = scratch;
        self.hot_before = hot;
        any
    }

    fn received(&mut self, shard: &mut Shard, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        connection.reading = Reading::Hot { quiet_turns: 0 };
        let (phase, generation) = (connection.phase, connection.generation);
        match phase {
            Phase::Open => shard.handle(now, Event::Bytes { conn, bytes }),
            Phase::Flushing => {}
            Phase::Draining => {
                connection.drained_bytes = connection
                    .drained_bytes
                    .saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                if connection.drained_bytes > DRAIN_BYTES_MAX {
                    return self.finish(shard, now, conn);
                }
            }
        }
        self.hot.push((conn, generation));
    }

    /// Nothing to read: again in the next turn, or when the ring says so.
    fn cool(&mut self, conn: ConnId, quiet_turns: u8) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        if quiet_turns < HOT_TURNS_MAX {
            connection.reading = Reading::Hot { quiet_turns };
            let generation = connection.generation;
            self.hot.push((conn, generation));
        } else {
            self.arm_read(conn);
        }
    }

    /// The shard has nothing else to do: all hot connections wait for the ring.
    pub(crate) fn arm_hot(&mut self) {
        let mut hot = std::mem::replace(&mut self.hot, std::mem::take(&mut self.hot_before));
        for (conn, generation) in hot.drain(..) {
            let is_hot = |connection: &&mut Connection| {
                connection.generation == generation && matches!(connection.reading, Reading::Hot { .. })
            };
            if self.get_mut(conn).filter(is_hot).is_some() {
                self.arm_read(conn);
            }
        }
        self.hot_before = hot;
    }

    fn arm_read(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        self.counters.polls += 1;
        connection.arm_read(conn, &self.ready);
    }
}

/// A socket that comes to a shard.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) socket: Transport,
    pub(crate) peer: SocketAddr,
    /// What the client has sent already, if another shard read it; else empty.
    pub(crate) received: bytes::Bytes,
}

/// The earlier of two instants that may be absent.
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// One read takes this much at most, so that no connection has more than its share of a turn.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Turns without data after which a connection waits for the ring.
const HOT_TURNS_MAX: u8 = 3;
/// Bytes that a closing connection may still send before it is cut off.
const DRAIN_BYTES_MAX: u32 = 1024 * 1024;
