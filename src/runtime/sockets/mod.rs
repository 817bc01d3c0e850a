//! The sockets of one shard: read, written and closed on the shard's behalf.
//!
//! Reads go into one scratch buffer that all connections share. A connection that had data is *hot*: the next turns
//! read it again without asking the ring first, because a registration costs more than a read that finds nothing.
//! After [`HOT_TURNS_MAX`] turns without data, or when the shard has nothing else to do, the ring is asked to say
//! when there is something. Here: the table and reading; [`hot`] is the order of reading, [`write`] and [`close`] have
//! the rest.
//!
//! A turn reads for a bounded time, so that what was read is answered soon however many connections are hot. Where
//! one read makes work for much longer (a message for thousands of subscribers), reads become smaller.

mod close;
mod hot;
mod write;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringmq_shard::shard::{Admission, ConnId, Event, PeerBatch, Shard};
use ringmq_shard::time::Instant;
use tracing::debug;

use super::clock::Clock;
use super::connection::{Connection, Phase, Reading};
use super::deadlines::Deadlines;
use super::mesh::Port;
use super::ready::{Direction, Fired, ReadyList};
use crate::error::MqttError;
use crate::logging::LogLimiter;
use crate::transport::Transport;
use hot::{Entry, HotList, Lane};

/// All connections of one shard.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// By [`ConnId`].
    table: Vec<Option<Connection>>,
    /// Entries in `table`.
    count: usize,
    hot: HotList,
    ready: Arc<ReadyList>,
    /// Empty between turns; kept for its memory.
    fired: Vec<Fired>,
    scratch: Box<[u8]>,
    /// Bytes of `scratch` that one read may fill: `READ_BYTES_MIN..=SCRATCH_BYTES`.
    read_bytes: usize,
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
            hot: HotList::default(),
            ready,
            fired: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            read_bytes: SCRATCH_BYTES,
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
        let conn = shard.open_as(now, from.admission);
        if self.table.len() <= conn.index() {
            self.table.resize_with(conn.index() + 1, || None);
        }
        let slot = &mut self.table[conn.index()];
        assert!(
            slot.is_none(),
            "the shard gives a number away once until it is told that the connection closed"
        );
        // What a client sends first is often there already.
        self.hot.push(conn, slot.insert(connection));
        self.count += 1;
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
            self.hot.push(conn, connection);
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
            let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
                continue;
            };
            if connection.generation != generation {
                continue;
            }
            connection.disarm(direction);
            match direction {
                Direction::Read if connection.reading == Reading::Armed => {
                    connection.reading = Reading::Hot { quiet_turns: 0 };
                    self.hot.push(conn, connection);
                }
                Direction::Read => {}
                Direction::Write => self.write(shard, now, conn),
            }
        }
        self.fired = fired;
        any
    }

    /// Reads hot connections, each once at most: all in front, the others for a bounded time. True if any had something
    /// or was not reached.
    pub(crate) fn read<C>(&mut self, shard: &mut Shard, port: &Port<PeerBatch, C>, clock: Clock, now: Instant) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let read_bytes = self.read_bytes;
        let mut any = false;
        for _ in 0..self.hot.len(Lane::Front) {
            // Acknowledgements make room for what waits: nobody is served by reading fewer of them.
            any |= self.read_next(Lane::Front, shard, port, now, &mut scratch[..read_bytes]);
        }
        let begun = clock.now().elapsed();
        for _ in 0..self.hot.len(Lane::Back) {
            if self.read_next(Lane::Back, shard, port, now, &mut scratch[..read_bytes]) {
                any = true;
                if clock.now().elapsed() - begun >= READ_TIME {
                    break;
                }
            }
        }
        self.scratch = scratch;
        any
    }

    fn read_next<C>(
        &mut self,
        lane: Lane,
        shard: &mut Shard,
        port: &Port<PeerBatch, C>,
        now: Instant,
        scratch: &mut [u8],
    ) -> bool {
        let Some(Entry { conn, ticket }) = self.hot.pop(lane) else {
            return false;
        };
        let Some(connection) = self.get_mut(conn).filter(|connection| connection.ticket == ticket) else {
            return false;
        };
        let Reading::Hot { quiet_turns } = connection.reading else {
            return false;
        };
        if connection.phase == Phase::Open && !shard.may_read(conn) {
            connection.reading = Reading::Held;
            return false;
        }
        let read = connection.transport().read(scratch);
        self.counters.reads += 1;
        match read {
            Ok(0) => self.end(shard, now, conn, None),
            Ok(bytes) => {
                // Whoever sent this may have been told of something that is in the inbox by now: that comes first.
                port.catch_up(|batch| shard.handle(now, Event::Peer(batch)));
                self.received(shard, now, conn, &scratch[..bytes]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.reads_empty += 1;
                self.cool(conn, quiet_turns + 1);
                return false;
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
        true
    }

    fn received(&mut self, shard: &mut Shard, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        if connection.phase == Phase::Draining {
            let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            connection.drained_bytes = connection.drained_bytes.saturating_add(count);
            if connection.drained_bytes > DRAIN_BYTES_MAX {
                return self.finish(shard, now, conn);
            }
        }
        connection.reading = Reading::Hot { quiet_turns: 0 };
        connection.unanswered_bytes = 0;
        self.hot.push(conn, connection);
        if connection.phase == Phase::Open {
            shard.handle(now, Event::Bytes { conn, bytes });
        }
    }

    /// Nothing to read: again in the next turn, or when the ring says so.
    fn cool(&mut self, conn: ConnId, quiet_turns: u8) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        if quiet_turns < HOT_TURNS_MAX {
            connection.reading = Reading::Hot { quiet_turns };
            self.hot.push(conn, connection);
        } else {
            self.arm_read(conn);
        }
    }

    /// The shard has nothing else to do: all hot connections wait for the ring.
    pub(crate) fn arm_hot(&mut self) {
        for lane in [Lane::Front, Lane::Back] {
            while let Some(Entry { conn, ticket }) = self.hot.pop(lane) {
                let is_hot = |connection: &&mut Connection| {
                    connection.ticket == ticket && matches!(connection.reading, Reading::Hot { .. })
                };
                if self.get_mut(conn).filter(is_hot).is_some() {
                    self.arm_read(conn);
                }
            }
        }
    }

    /// Fits the size of reads to how long the turn took that began with the last ones.
    pub(crate) fn fit_reads(&mut self, turn: Duration) {
        if turn > TURN_LONG {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        } else if turn < TURN_SHORT {
            self.read_bytes = (self.read_bytes * 2).min(SCRATCH_BYTES);
        }
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
    /// Who may come in on it.
    pub(crate) admission: Admission,
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
/// The least that a read takes, however much work it makes: some small messages.
const READ_BYTES_MIN: usize = 2 * 1024;
/// A turn that took longer halves the reads: what it delays is everyone.
const TURN_LONG: Duration = Duration::from_millis(4);
/// A turn that was shorter doubles them.
const TURN_SHORT: Duration = Duration::from_millis(1);
/// How long a turn reads hot connections that are not in front.
const READ_TIME: Duration = Duration::from_micros(500);
/// Turns without data after which a connection waits for the ring.
const HOT_TURNS_MAX: u8 = 3;
/// Bytes that a closing connection may still send before it is cut off.
const DRAIN_BYTES_MAX: u32 = 1024 * 1024;
