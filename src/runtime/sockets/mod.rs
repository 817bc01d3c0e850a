//! The sockets of one shard: read, written and closed on the shard's behalf.
//!
//! Reads go into one scratch buffer that all connections share. The ring reports each arrival: then the connection is
//! *hot*, and one of the next turns reads it. A read that comes back short has taken all there was, and whatever arrives
//! after it is reported anew; after a full one, or when the other side has ended, the connection stays hot. So a message
//! that arrives alone costs one report and one read. Here: the table and reading; [`hot`] is the order of reading,
//! [`write`] and [`close`] have the rest.
//!
//! A turn reads for a bounded time, so that what was read is answered soon however many connections are hot. Where
//! one read makes work for much longer (a message for thousands of subscribers), reads become smaller.

mod close;
mod hot;
mod write;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use ringmq_shard::shard::{Admission, ConnId, Event, PeerBatch, Shard};
use ringmq_shard::time::Instant;

use super::clock::Clock;
use super::connection::{Connection, Phase, Reading};
use super::deadlines::Deadlines;
use super::mesh::Port;
use super::ring::{Fired, GENERATION_MAX, Ring, Watch};
use super::users::Place;
use crate::error::MqttError;
use crate::listener::Acceptor;
use crate::logging::LogLimiter;
use crate::transport::{Peer, Transport};
use hot::{Entry, HotList, Lane};

/// All connections of one shard.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// By [`ConnId`].
    table: Vec<Option<Connection>>,
    /// Entries in `table`.
    count: usize,
    /// What counts among the connections of a user; empty where those are not limited.
    places: HashMap<ConnId, Place>,
    hot: HotList,
    ring: Ring,
    /// What the ring reported and no turn has looked at.
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
    /// Reads that found nothing: what was reported had been taken by an earlier read.
    pub(crate) reads_empty: u64,
    pub(crate) writes: u64,
    /// Reports of the ring: something to read, or room to write.
    pub(crate) polls: u64,
    pub(crate) write_timeouts: u64,
    /// TLS handshakes that were completed.
    pub(crate) handshakes: u64,
    /// Those among them that continued an earlier session.
    pub(crate) handshakes_resumed: u64,
    /// Connections that ended because of TLS, in the handshake or after it.
    pub(crate) tls_failures: u64,
    /// Connections that ended because a proxy's header was missing or malformed.
    pub(crate) proxy_failures: u64,
    /// Connections that ended because of WebSocket, in the request or after it.
    pub(crate) websocket_failures: u64,
}

impl Sockets {
    pub(crate) fn new(ring: Ring, write_timeout: Duration, open: Arc<AtomicUsize>) -> Sockets {
        Sockets {
            table: Vec::new(),
            count: 0,
            places: HashMap::new(),
            hot: HotList::default(),
            ring,
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

    /// Where a connection comes from.
    pub(crate) fn peer(&self, conn: ConnId) -> Option<Peer> {
        let connection = self.table.get(conn.index())?.as_ref()?;
        Some(connection.peer)
    }

    /// Another patience with connections that take nothing. Where one is watched already, it counts when that time is over.
    pub(crate) fn set_write_timeout(&mut self, write_timeout: Duration) {
        self.write_timeout = write_timeout;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Submits what the turn made, and sees what the ring has to report.
    ///
    /// # Errors
    /// The kernel refuses the ring for good.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        self.ring.look(&mut self.fired)
    }

    /// Sleeps until the ring reports something or the bell rings, for at most `timeout`.
    ///
    /// # Errors
    /// The kernel refuses the ring for good.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ring.wait(timeout, &mut self.fired)
    }

    pub(crate) fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        earliest(self.deadlines.next(), self.log.next())
    }

    /// Opens a connection: fresh, or one that moved here with what it had `received`.
    pub(crate) fn open(&mut self, shard: &mut Shard, now: Instant, from: Arrival) {
        self.generation = (self.generation + 1) & GENERATION_MAX;
        let connection = Connection::new(from.socket, from.peer, self.generation);
        let conn = shard.open_as(now, from.admission);
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
        self.watch(conn);
        if self.table[conn.index()]
            .as_ref()
            .is_some_and(|it| it.socket.holds_more())
        {
            // The ring knows only of what is in the socket.
            self.heat(conn);
        }
        self.settle(shard, now, conn);
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

    /// Gives a connection up: for another shard, or to close it by dropping it.
    pub(crate) fn take(&mut self, conn: ConnId) -> Option<(Transport, Peer)> {
        let connection = self.table.get_mut(conn.index())?.take()?;
        self.count -= 1;
        // Before the socket: whoever sees it closed finds room.
        self.leave(conn);
        // Until then, the kernel keeps the socket open.
        if connection.watched {
            self.ring.forget(connection.readable(conn));
        }
        if connection.write_blocked {
            self.ring.forget(connection.writable(conn));
        }
        Some((connection.socket, connection.peer))
    }

    /// The connection counts among those of its user, until it ends.
    pub(crate) fn enter(&mut self, conn: ConnId, place: Place) {
        self.places.insert(conn, place);
    }

    /// It does not count any longer.
    pub(crate) fn leave(&mut self, conn: ConnId) {
        self.places.remove(&conn);
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
            connection.reading = Reading::Hot;
            self.hot.push(conn, connection);
        }
    }

    /// Looks at what was reported: readable sockets become hot, writable ones are written; listeners are for the
    /// `acceptor`. True if there was any.
    pub(crate) fn take_fired(&mut self, shard: &mut Shard, now: Instant, acceptor: &mut Acceptor) -> bool {
        let mut fired = std::mem::take(&mut self.fired);
        let any = !fired.is_empty();
        self.counters.polls += fired.len() as u64;
        for Fired { watch, hung_up, last } in fired.drain(..) {
            match watch {
                Watch::Listener(number) => acceptor.on_waiting(number, last),
                Watch::Readable { conn, generation } => {
                    let Some(connection) = self.of_generation(conn, generation) else {
                        continue;
                    };
                    connection.watched &= !last;
                    connection.hung_up |= hung_up;
                    if connection.reading == Reading::Idle {
                        self.heat(conn);
                    }
                }
                Watch::Writable { conn, generation } => {
                    let Some(connection) = self.of_generation(conn, generation) else {
                        continue;
                    };
                    connection.write_blocked = false;
                    self.write(shard, now, conn);
                }
            }
        }
        self.fired = fired;
        any
    }

    fn of_generation(&mut self, conn: ConnId, generation: u32) -> Option<&mut Connection> {
        self.get_mut(conn)
            .filter(|connection| connection.generation == generation)
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
        let handshakes = self.hot.len(Lane::Handshakes);
        if handshakes > 0 {
            let begun = clock.now().elapsed();
            for _ in 0..handshakes {
                any |= self.read_next(Lane::Handshakes, shard, port, now, &mut scratch[..read_bytes]);
                if clock.now().elapsed() - begun >= HANDSHAKE_TIME {
                    // There are more, or there may be.
                    any = true;
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
        if connection.reading != Reading::Hot {
            return false;
        }
        if connection.phase == Phase::Open && !shard.may_read(conn) {
            connection.reading = Reading::Held;
            return false;
        }
        let read = match &mut connection.socket {
            Transport::Proxied(_) if connection.phase == Phase::Open => self.read_behind_header(now, conn, scratch),
            socket => socket.read(scratch),
        };
        let plain = self
            .get_mut(conn)
            .is_some_and(|connection| connection.socket.is_plain());
        self.counters.reads += 1;
        if !plain {
            self.settle(shard, now, conn);
        }
        match read {
            Ok(0) => self.end(shard, now, conn, None),
            Ok(bytes) => {
                // Whoever sent this may have been told of something that is in the inbox by now: that comes first.
                port.catch_up(|batch| shard.handle(now, Event::Peer(batch)));
                self.received(shard, now, conn, scratch, bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.reads_empty += 1;
                return self.cool(conn);
            }
            Err(error) => self.end(shard, now, conn, Some(MqttError::of_transport("read", error))),
        }
        true
    }

    /// Reads the header of a proxy, and what is behind it. Nothing but the header, if that is all there is.
    fn read_behind_header(&mut self, now: Instant, conn: ConnId, scratch: &mut [u8]) -> io::Result<usize> {
        let slot = &mut self.table[conn.index()];
        let Some(connection) = slot else {
            return Ok(0);
        };
        if let Transport::Proxied(stream) = &mut connection.socket {
            let Some(announced) = stream.receive()? else {
                return Ok(0);
            };
            connection.peer = announced.client.map_or(connection.peer, Peer::Tcp);
            stream.admit(announced, now)?;
            *slot = slot.take().map(Connection::behind_header);
        }
        match slot {
            Some(connection) => connection.socket.read(scratch),
            None => Ok(0),
        }
    }

    /// After a read: hands on what a handshake has found out, before any byte that came with it, and sees to what the stream
    /// wants to write by itself.
    fn settle(&mut self, shard: &mut Shard, now: Instant, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        if let Some(handshake) = connection.socket.take_handshake() {
            self.counters.handshakes += 1;
            self.counters.handshakes_resumed += u64::from(handshake.resumed);
            if let Some(user_name) = handshake.user_name {
                shard.handle(now, Event::Identified { conn, user_name });
            }
        }
        if connection.socket.wants_write() && !connection.write_blocked {
            self.arm_write(now, conn);
        }
    }

    /// One of the next turns reads it.
    fn heat(&mut self, conn: ConnId) {
        if let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) {
            connection.reading = Reading::Hot;
            self.hot.push(conn, connection);
        }
    }

    /// A read took `count` bytes into `scratch`.
    fn received(&mut self, shard: &mut Shard, now: Instant, conn: ConnId, scratch: &[u8], count: usize) {
        let bytes = &scratch[..count];
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
        let open = connection.phase == Phase::Open;
        connection.unanswered_bytes = 0;
        if count == scratch.len() || connection.hung_up {
            self.hot.push(conn, connection);
        } else {
            let _ = self.cool(conn);
        }
        if open {
            shard.handle(now, Event::Bytes { conn, bytes });
        }
    }

    /// Nothing more to read for now: the ring will say when there is. True: the stream itself has more, and is read again.
    fn cool(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.get_mut(conn) else {
            return false;
        };
        if connection.socket.holds_more() {
            self.heat(conn);
            return true;
        }
        connection.reading = Reading::Idle;
        // A read found nothing after all: what was reported was the failure of a registration.
        connection.hung_up = false;
        if !connection.watched {
            self.watch(conn);
        }
        false
    }

    fn watch(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        connection.watched = true;
        let watch = connection.readable(conn);
        self.ring.watch_readable(connection.socket.as_fd(), watch);
    }

    /// Fits the size of reads to how long the turn took that began with the last ones.
    pub(crate) fn fit_reads(&mut self, turn: Duration) {
        if turn > TURN_LONG {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        } else if turn < TURN_SHORT {
            self.read_bytes = (self.read_bytes * 2).min(SCRATCH_BYTES);
        }
    }
}

/// A socket that comes to a shard.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) socket: Transport,
    pub(crate) peer: Peer,
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
/// How long a turn spends on handshakes; the last one may take longer. With a certificate of ECDSA it is two or three.
const HANDSHAKE_TIME: Duration = Duration::from_micros(250);
/// Bytes that a closing connection may still send before it is cut off.
const DRAIN_BYTES_MAX: u32 = 1024 * 1024;
