//! The turn: everything one shard's thread does, over and over, in one task.
//!
//! ```text
//!  control ─┐
//!  inbox ───┼─▶ Shard::handle ─▶ batches to peers, pass by pass ─▶ effects ─▶ writes ─┐
//!  sockets ─┘        ▲                                                               │
//!  time ────────────▶┘◀───── again, while that made something to send (bounded) ◀────┘
//! ```
//! Batches leave before anything is written, so an acknowledgement never overtakes what it acknowledges. Between two
//! turns the ring is asked what else arrived, which costs a system call only if it has something to say. When a turn
//! finds nothing the thread sleeps in the ring, until a socket, a peer, the process or time wakes it. It never returns to
//! the executor that it runs on before the shard ends: that would be several system calls for each sleep.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use ringmq_shard::access::Acl;
use ringmq_shard::error::{AuthenticationError, CloseReason, CodecError, Denial};
use ringmq_shard::limits::Limits;
use ringmq_shard::shard::{
    Admission, ClientId, ConnId, Credentials, Effect, Event, Pass, PeerBatch, Shard, ShardId, UserName, Verified,
};
use ringmq_shard::time::Instant;
use tracing::{debug, info};

use super::clock::{Clock, Now};
use super::mesh::Port;
use super::question::Question;
use super::report::{Reports, ShardReport, TurnTimes};
use super::ring::Ring;
use super::sockets::{Arrival, Sockets, earliest};
use super::trace::Traces;
use super::users::Users;
use crate::auth::{Authenticator, Job};
use crate::listener::Acceptor;
use crate::logging::ACCESS;
use crate::sys::SysTopics;

/// What the process, or another shard, tells a shard.
#[derive(Debug)]
pub(crate) enum Control {
    /// A socket to open: fresh from the shard that accepts, or moved here by the shard that read its CONNECT.
    Open(Box<Arrival>),
    /// Whether a client is who it says, as this shard has asked.
    Verdict {
        conn: ConnId,
        ticket: u64,
        verdict: Result<Verified, AuthenticationError>,
    },
    /// An operator wants to know, or to do, something.
    Ask(Box<Question>),
    /// What can change while the broker runs is this from here on.
    Reload(Box<ShardSettings>),
    /// Close every connection, and end.
    Shutdown,
}

/// What a shard is told when settings were read again: all of it takes its place between two events.
#[derive(Clone, Debug)]
pub(crate) struct ShardSettings {
    pub(crate) limits: Limits,
    /// `None`: there was no list, and there is none.
    pub(crate) acl: Option<Arc<Acl>>,
    pub(crate) connections_max: usize,
    pub(crate) write_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) spin: Duration,
    pub(crate) sys_interval: Option<Duration>,
    /// Dropped once it is in force.
    pub(crate) applied: flume::Sender<()>,
}

/// How a shard's thread runs.
#[derive(Clone, Debug)]
pub(crate) struct ExecutorConfig {
    pub(crate) id: ShardId,
    pub(crate) write_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    /// How long turns go on without work before the thread sleeps.
    pub(crate) spin: Duration,
    pub(crate) sys_interval: Option<Duration>,
    pub(crate) clock: Clock,
    /// Open connections of the whole broker.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) reports: Arc<Reports>,
    /// Of the whole broker.
    pub(crate) users: Arc<Users>,
    /// `None`: no listener asks who a client is.
    pub(crate) authenticator: Option<Arc<Authenticator>>,
    /// How long a shard waits for a verdict.
    pub(crate) connect_timeout: Duration,
}

/// One shard and what drives it.
pub(crate) struct Executor {
    config: ExecutorConfig,
    shard: Shard,
    port: Port<PeerBatch, Control>,
    sockets: Sockets,
    acceptor: Acceptor,
    /// Empty between turns; kept for its memory.
    dirty: Vec<ConnId>,
    /// When turns began to find nothing.
    idle_since: Option<Duration>,
    /// When the next report is due.
    report_at: Option<Instant>,
    /// On shard 0 only.
    sys: Option<SysTopics>,
    /// The broker stops; connections have until then.
    stopping: Option<Instant>,
    turns: u64,
    sleeps: u64,
    turn_times: TurnTimes,
    traces: Traces,
}

impl Executor {
    /// On the thread that it will run on.
    ///
    /// # Errors
    /// There is no ring.
    pub(crate) fn new(
        config: ExecutorConfig,
        shard: Shard,
        port: Port<PeerBatch, Control>,
        acceptor: Acceptor,
    ) -> io::Result<Executor> {
        let ring = Ring::new(Arc::clone(port.bell()))?;
        let sockets = Sockets::new(ring, config.write_timeout, Arc::clone(&config.open));
        let sys = (config.id == ShardId(0)).then(|| SysTopics::new(port.mesh().shards()));
        Ok(Executor {
            shard,
            port,
            sockets,
            acceptor,
            dirty: Vec::new(),
            idle_since: None,
            report_at: config.sys_interval.map(|_| Instant::default()),
            sys,
            stopping: None,
            turns: 0,
            sleeps: 0,
            turn_times: TurnTimes::default(),
            traces: Traces::new(config.id),
            config,
        })
    }

    /// Runs turns until the shard has ended.
    ///
    /// # Errors
    /// The kernel refuses the ring for good.
    pub(crate) fn run(mut self) -> io::Result<()> {
        self.acceptor.watch(self.sockets.ring());
        loop {
            let now = self.config.clock.now();
            let worked = self.turn(now.instant());
            if self.has_ended(now.instant()) {
                // What is not taken back keeps its socket open, until the kernel has taken the ring apart: after this process.
                return self.sockets.look();
            }
            if worked {
                let took = self.config.clock.now().elapsed() - now.elapsed();
                self.sockets.fit_reads(took);
                self.turn_times.add(took);
                self.idle_since = None;
                self.sockets.look()?;
            } else {
                self.rest(now)?;
            }
        }
    }

    /// There was nothing to do: spins for the time that the operator gave, and sleeps after it.
    fn rest(&mut self, now: Now) -> io::Result<()> {
        let idle_since = *self.idle_since.get_or_insert(now.elapsed());
        if now.elapsed() - idle_since < self.config.spin {
            std::hint::spin_loop();
            return self.sockets.look();
        }
        let timeout = self.next_deadline().map(|at| at.since(now.instant()));
        if timeout == Some(Duration::ZERO) || !self.port.may_sleep() {
            return self.sockets.look();
        }
        self.sleeps += 1;
        self.sockets.wait(timeout)?;
        self.port.bell().awake();
        Ok(())
    }

    /// One turn. True if it found something to do, so that the next may as well.
    fn turn(&mut self, now: Instant) -> bool {
        self.turns += 1;
        let mut worked = self.take_control(now);
        worked |= self.take_inbox(now);
        worked |= self.sockets.take_fired(&mut self.shard, now, &mut self.acceptor);
        worked |= self.accept(now);
        if self.port.may_read() {
            worked |= self.sockets.read(&mut self.shard, &self.port, self.config.clock, now);
        }
        worked |= self.take_time(now);
        worked |= self.flush(now);
        if self.shard.is_tracing() {
            self.traces.tell(&mut self.shard, &self.sockets, now);
        }
        worked
    }

    fn take_control(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(control) = self.port.receive_control() {
            any = true;
            match control {
                // The process ends: the socket closes by being dropped.
                Control::Open(_) if self.stopping.is_some() => {}
                Control::Open(arrival) => self.sockets.open(&mut self.shard, now, *arrival),
                Control::Verdict { conn, ticket, verdict } => {
                    self.shard.handle(now, Event::Authenticated { conn, ticket, verdict });
                }
                Control::Ask(question) => {
                    // What was acknowledged before the question was asked is in the inbox by now, and must count in the answer.
                    self.take_inbox(now);
                    self.answer(*question, now);
                }
                Control::Reload(settings) => self.reload(*settings, now),
                Control::Shutdown => {
                    self.stopping = Some(now + self.config.shutdown_timeout);
                    self.acceptor.close(self.sockets.ring());
                    self.shard.handle(now, Event::Shutdown);
                }
            }
        }
        any
    }

    fn reload(&mut self, settings: ShardSettings, now: Instant) {
        if let Some(acl) = settings.acl {
            self.shard.handle(now, Event::Acl(acl));
        }
        self.config.connect_timeout = settings.limits.connect_timeout;
        self.shard.handle(now, Event::Limits(Box::new(settings.limits)));
        self.acceptor.set_connections_max(settings.connections_max);
        self.sockets.set_write_timeout(settings.write_timeout);
        self.config.shutdown_timeout = settings.shutdown_timeout;
        self.config.spin = settings.spin;
        if self.config.sys_interval != settings.sys_interval {
            self.config.sys_interval = settings.sys_interval;
            self.report_at = settings.sys_interval.map(|_| now);
        }
        drop(settings.applied);
    }

    fn accept(&mut self, now: Instant) -> bool {
        let Executor {
            acceptor,
            sockets,
            shard,
            port,
            config,
            ..
        } = self;
        let any = acceptor.accept(now, |to, arrival| {
            if to == config.id {
                sockets.open(shard, now, arrival);
            } else {
                port.mesh().control(to, Control::Open(Box::new(arrival)));
            }
        });
        if any {
            acceptor.watch(sockets.ring());
        }
        any
    }

    fn take_inbox(&mut self, now: Instant) -> bool {
        let mut batches = 0;
        while batches < INBOX_BATCHES_MAX
            && let Some(batch) = self.port.receive()
        {
            self.shard.handle(now, Event::Peer(batch));
            batches += 1;
        }
        batches > 0
    }

    fn take_time(&mut self, now: Instant) -> bool {
        if self.sockets.next_deadline().is_some_and(|at| at <= now) {
            self.sockets.expire(&mut self.shard, now);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report(now);
        }
        let due = self.shard.next_deadline().is_some_and(|at| at <= now);
        if due {
            self.shard.handle(now, Event::Tick);
        }
        due
    }

    /// Sends what the turn made: batches, then effects, then outputs; and again what that made.
    fn flush(&mut self, now: Instant) -> bool {
        for _ in 0..FLUSH_ROUNDS_MAX {
            for pass in Pass::ALL {
                while let Some((to, batch)) = self.shard.poll_batch(pass) {
                    self.port.send(to, batch.weight(), batch);
                }
            }
            while let Some(effect) = self.shard.poll_effect() {
                self.perform(effect, now);
            }
            while let Some(conn) = self.shard.poll_dirty() {
                self.dirty.push(conn);
            }
            if self.dirty.is_empty() {
                return false;
            }
            for conn in self.dirty.drain(..) {
                self.sockets.write(&mut self.shard, now, conn);
            }
        }
        true
    }

    fn perform(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Connected {
                conn,
                client,
                session_present,
            } => {
                if let Some(connection) = self.sockets.get_mut(conn) {
                    debug!(client = &*client, peer = %connection.peer, session_present, "connected");
                    connection.client = Some(client);
                }
            }
            Effect::Close { conn, client, reason } => {
                self.log_close(conn, client.as_ref(), reason, now);
                let at = self.stopping.unwrap_or(now + FLUSH_TIMEOUT);
                let in_order = reason == CloseReason::Disconnect;
                // Its user may connect another one before the socket is gone.
                self.sockets.leave(conn);
                self.sockets.close(&mut self.shard, now, conn, in_order, at);
            }
            Effect::Authenticate {
                conn,
                ticket,
                credentials,
            } => self.authenticate(conn, ticket, credentials, now),
            Effect::Enter {
                conn,
                ticket,
                client,
                user_name,
                limit,
            } => self.enter(conn, ticket, &client, &user_name, limit, now),
            Effect::Move {
                conn,
                home,
                admission,
                received,
            } => self.move_to(conn, home, admission, received),
            Effect::ResumeReading { conn } => self.sockets.resume(conn),
            Effect::Denied {
                client,
                user_name,
                denial,
                topic,
                untold,
            } => {
                let (client, user, denied) = (&*client, user_name.as_deref(), denial.label());
                // A wide filter is granted for what in it may be read: that the rest does not arrive is what was meant.
                if denial == Denial::Delivery {
                    debug!(target: ACCESS, client, user, denied, topic = &*topic, untold, "not allowed");
                } else {
                    info!(target: ACCESS, client, user, denied, topic = &*topic, untold, "not allowed");
                }
            }
        }
    }

    fn authenticate(&mut self, conn: ConnId, ticket: u64, credentials: Credentials, now: Instant) {
        // The number may be that of another connection by now.
        if !self.shard.awaits(conn, ticket) {
            return;
        }
        let Some(peer) = self.sockets.peer(conn) else {
            return;
        };
        let job = Job {
            shard: self.config.id,
            conn,
            ticket,
            credentials,
            address: peer.address(),
            until: std::time::Instant::now() + self.config.connect_timeout,
        };
        if !self
            .config
            .authenticator
            .as_ref()
            .is_some_and(|authenticator| authenticator.ask(job))
        {
            let verdict = Err(AuthenticationError::Unavailable);
            self.shard.handle(now, Event::Authenticated { conn, ticket, verdict });
        }
    }

    /// Counts the client among those of its user, if there is room for it.
    fn enter(
        &mut self,
        conn: ConnId,
        ticket: u64,
        client: &ClientId,
        user_name: &UserName,
        limit: usize,
        now: Instant,
    ) {
        // The number may be that of another connection by now.
        if !self.shard.awaits(conn, ticket) {
            return;
        }
        let Some(peer) = self.sockets.peer(conn) else {
            return;
        };
        let room = if let Some(place) = self.config.users.enter(user_name, client, limit) {
            self.sockets.enter(conn, place);
            Ok(())
        } else {
            if self.sockets.log.allows("connections_per_user", now) {
                let (client, user) = (&**client, &**user_name);
                info!(client, user, %peer, limit, "refused: its user has as many clients connected as it may have");
            }
            Err(AuthenticationError::TooManyOfUser)
        };
        self.shard.handle(now, Event::Entered { conn, ticket, room });
    }

    fn move_to(&mut self, conn: ConnId, home: ShardId, admission: Admission, received: Bytes) {
        if let Some((socket, peer)) = self.sockets.take(conn) {
            let arrival = Arrival {
                socket,
                peer,
                admission,
                received,
            };
            self.port.mesh().control(home, Control::Open(Box::new(arrival)));
        }
    }

    fn log_close(&mut self, conn: ConnId, client: Option<&ClientId>, reason: CloseReason, now: Instant) {
        let Some(peer) = self.sockets.get_mut(conn).map(|connection| connection.peer) else {
            return;
        };
        let hint = match reason {
            // The first byte of a handshake, 0x16, as a fixed header.
            CloseReason::Codec(CodecError::InvalidFlags {
                packet_type: 1,
                flags: 6,
            }) if client.is_none() => " (the client seems to speak TLS, and this listener plain MQTT)",
            // "PR" as a PUBREC of 82 bytes, or the carriage return that version 2 begins with.
            CloseReason::Codec(
                CodecError::TrailingBytes { count: 80 } | CodecError::InvalidPacketType { packet_type: 0 },
            ) if client.is_none() => " (if it is a PROXY header: this listener does not expect one)",
            _ => "",
        };
        let client = client.map(|client| &**client).unwrap_or_default();
        if !reason.is_abnormal() {
            debug!(client, %peer, reason = reason.label(), "connection closed: {reason}");
        } else if self.sockets.log.allows(reason.label(), now) {
            info!(client, %peer, reason = reason.label(), "connection closed: {reason}{hint}");
        }
    }

    /// Publishes this shard's numbers for whoever sums them; shard 0 puts the sums into `$SYS`, a moment later so that
    /// every shard's are of this interval.
    fn report(&mut self, now: Instant) {
        let Some(interval) = self.config.sys_interval else {
            return;
        };
        let interval_ms = u64::try_from(interval.as_millis()).expect("the configuration allows a day at most");
        self.config.reports.put(self.config.id, self.numbers());
        let sum_now = now.as_millis() % interval_ms >= REPORT_DELAY_MS;
        if let Some(sys) = &mut self.sys
            && sum_now
        {
            sys.publish(&mut self.shard, now, &self.config.reports);
        }
        let interval_start = now.as_millis() - now.as_millis() % interval_ms;
        let at = if self.sys.is_some() && !sum_now {
            interval_start + REPORT_DELAY_MS
        } else {
            interval_start + interval_ms
        };
        self.report_at = Some(Instant::from_millis(at));
    }

    /// This shard's numbers, as of now.
    fn numbers(&self) -> ShardReport {
        ShardReport {
            stats: self.shard.stats(),
            sockets: self.sockets.counters,
            turns: self.turns,
            sleeps: self.sleeps,
            inbox: self.port.depth(),
            turn_times: self.turn_times,
        }
    }

    fn answer(&mut self, question: Question, now: Instant) {
        let numbers = self.numbers();
        question.answer(&mut self.shard, &self.sockets, &mut self.traces, now, numbers);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let shard = earliest(self.shard.next_deadline(), self.sockets.next_deadline());
        let process = earliest(self.report_at, self.acceptor.next_deadline());
        let process = earliest(process, self.traces.next_deadline(&self.shard));
        earliest(shard, earliest(process, self.stopping))
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.stopping
            .is_some_and(|until| self.sockets.is_empty() || until <= now)
    }
}

/// Batches taken from the inbox in one turn, so that sockets have their share.
const INBOX_BATCHES_MAX: usize = 256;
/// How often one turn writes what its own writes made.
const FLUSH_ROUNDS_MAX: usize = 4;
/// For a connection that the shard closed to take what waits for it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// After the start of an interval the sums are made, when all shards have reported.
const REPORT_DELAY_MS: u64 = 50;
