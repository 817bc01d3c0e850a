//! The turn: everything one shard's thread does, over and over, in one task.
//!
//! ```text
//!  control ─┐
//!  inbox ───┼─▶ Shard::handle ─▶ batches to peers, pass by pass ─▶ effects ─▶ writes ─┐
//!  sockets ─┘        ▲                                                               │
//!  time ────────────▶┘◀───── again, while that made something to send (bounded) ◀────┘
//! ```
//! Batches leave before anything is written, so an acknowledgement never overtakes what it acknowledges. While turns
//! find work the task does not return to the executor except to let the ring take and give registrations, at most
//! once in [`REAP_INTERVAL`]: a pass through the executor costs several system calls. When a turn finds nothing, all
//! sockets are given to the ring, and the task waits for one of its bells: a socket, a peer, the process, or time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use glommio::timer::Timer;
use ringmq_shard::error::{AuthenticationError, CloseReason};
use ringmq_shard::shard::{
    Admission, ClientId, ConnId, Credentials, Effect, Event, Pass, PeerBatch, Shard, ShardId, UserName,
};
use ringmq_shard::time::Instant;
use tracing::{debug, info};

use super::clock::{Clock, Now};
use super::mesh::Port;
use super::ready::ReadyList;
use super::reap::Reaper;
use super::report::{Reports, ShardReport};
use super::sockets::{Arrival, Sockets, earliest};
use crate::auth::{Authenticator, Job};
use crate::sys::SysTopics;

/// What the process, or another shard, tells a shard.
#[derive(Debug)]
pub(crate) enum Control {
    /// A socket to open: fresh from the listener, or moved here by the shard that read its CONNECT.
    Open(Box<Arrival>),
    /// Whether a client is who it says, as this shard has asked.
    Verdict {
        conn: ConnId,
        ticket: u64,
        verdict: Result<UserName, AuthenticationError>,
    },
    /// Close every connection, and end.
    Shutdown,
}

/// How a shard's thread runs.
#[derive(Clone, Debug)]
pub(crate) struct ExecutorConfig {
    pub(crate) id: ShardId,
    pub(crate) write_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) sys_interval: Option<Duration>,
    pub(crate) clock: Clock,
    /// Open connections of the whole broker.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) reports: Arc<Reports>,
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
    reaper: Reaper,
    /// Empty between turns; kept for its memory.
    dirty: Vec<ConnId>,
    /// Rings when time has come, and for which instant. Never later than the next deadline while the task waits.
    timer: Option<(Instant, Timer)>,
    /// When the executor was last entered.
    reaped_at: Duration,
    /// When the next report is due.
    report_at: Option<Instant>,
    /// On shard 0 only.
    sys: Option<SysTopics>,
    /// The broker stops; connections have until then.
    stopping: Option<Instant>,
    turns: u64,
    sleeps: u64,
}

impl Executor {
    /// On the thread whose executor it will run on.
    pub(crate) fn new(
        config: ExecutorConfig,
        shard: Shard,
        port: Port<PeerBatch, Control>,
    ) -> std::io::Result<Executor> {
        let ready = ReadyList::new(Arc::clone(port.bell()));
        let sockets = Sockets::new(ready, config.write_timeout, Arc::clone(&config.open));
        let sys = (config.id == ShardId(0)).then(|| SysTopics::new(port.mesh().shards()));
        Ok(Executor {
            shard,
            port,
            sockets,
            reaper: Reaper::new()?,
            dirty: Vec::new(),
            timer: None,
            reaped_at: Duration::ZERO,
            report_at: config.sys_interval.map(|_| Instant::default()),
            sys,
            stopping: None,
            turns: 0,
            sleeps: 0,
            config,
        })
    }

    /// Runs turns until there is nothing to do, or the ring is due, or the shard has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.port.bell().awake();
        loop {
            let now = self.config.clock.now();
            let worked = self.turn(now.instant());
            if self.has_ended(now.instant()) {
                return Poll::Ready(());
            }
            if worked {
                let after = self.config.clock.now();
                self.sockets.fit_reads(after.elapsed() - now.elapsed());
                if !self.reap_is_due(after) {
                    continue;
                }
            } else if self.port.may_read() {
                self.sockets.arm_hot();
            }
            if !self.port.may_sleep(cx.waker()) {
                continue;
            }
            if self.sockets.has_fired() {
                self.port.bell().awake();
                continue;
            }
            if worked {
                self.reaper.arm(cx);
            } else if self.wait_until(self.next_deadline(), now, cx).is_ready() {
                self.port.bell().awake();
                continue;
            }
            self.sleeps += 1;
            self.reaped_at = now.elapsed();
            return Poll::Pending;
        }
    }

    /// One turn. True if it found something to do, so that the next may as well.
    fn turn(&mut self, now: Instant) -> bool {
        self.turns += 1;
        let mut worked = self.take_control(now);
        worked |= self.take_inbox(now);
        worked |= self.sockets.take_fired(&mut self.shard, now);
        if self.port.may_read() {
            worked |= self.sockets.read(&mut self.shard, &self.port, self.config.clock, now);
        }
        worked |= self.take_time(now);
        worked | self.flush(now)
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
                Control::Shutdown => {
                    self.stopping = Some(now + self.config.shutdown_timeout);
                    self.shard.handle(now, Event::Shutdown);
                }
            }
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
                self.sockets.close(&mut self.shard, now, conn, at);
            }
            Effect::Authenticate {
                conn,
                ticket,
                credentials,
            } => self.authenticate(conn, ticket, credentials, now),
            Effect::Move {
                conn,
                home,
                admission,
                received,
            } => self.move_to(conn, home, admission, received),
            Effect::ResumeReading { conn } => self.sockets.resume(conn),
        }
    }

    fn authenticate(&mut self, conn: ConnId, ticket: u64, credentials: Credentials, now: Instant) {
        let job = Job {
            shard: self.config.id,
            conn,
            ticket,
            credentials,
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
        let client = client.map(|client| &**client).unwrap_or_default();
        if !reason.is_abnormal() {
            debug!(client, %peer, reason = reason.label(), "connection closed: {reason}");
        } else if self.sockets.log.allows(reason.label(), now) {
            info!(client, %peer, reason = reason.label(), "connection closed: {reason}");
        }
    }

    /// Publishes this shard's numbers for whoever sums them; shard 0 puts the sums into `$SYS`, a moment later so that
    /// every shard's are of this interval.
    fn report(&mut self, now: Instant) {
        let Some(interval) = self.config.sys_interval else {
            return;
        };
        let interval_ms = u64::try_from(interval.as_millis()).expect("the configuration allows a day at most");
        let counters = self.sockets.counters;
        self.config.reports.put(
            self.config.id,
            ShardReport {
                stats: self.shard.stats(),
                sockets: counters,
                turns: self.turns,
                sleeps: self.sleeps,
                inbox: self.port.depth(),
            },
        );
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

    /// Registrations wait to be submitted or reaped, and that was not done for a while.
    fn reap_is_due(&self, now: Now) -> bool {
        now.elapsed() - self.reaped_at >= REAP_INTERVAL || glommio::executor().need_preempt()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let shard = earliest(self.shard.next_deadline(), self.sockets.next_deadline());
        earliest(shard, earliest(self.report_at, self.stopping))
    }

    /// Makes sure that the task is woken at `at`. Ready: that is now.
    ///
    /// A timer that would ring too early stays: it costs one idle turn, a new one a registration for each sleep.
    fn wait_until(&mut self, at: Option<Instant>, now: Now, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else {
            return Poll::Pending;
        };
        if at <= now.instant() {
            return Poll::Ready(());
        }
        if self
            .timer
            .as_ref()
            .is_some_and(|(rings_at, _)| *rings_at <= at && *rings_at > now.instant())
        {
            return Poll::Pending;
        }
        let mut timer = Timer::new(at.since(now.instant()));
        let poll = Pin::new(&mut timer).poll(cx).map(drop);
        self.timer = Some((at, timer));
        poll
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.stopping
            .is_some_and(|until| self.sockets.is_empty() || until <= now)
    }
}

/// Between two passes through the executor while turns find work: long against what a pass costs (some
/// microseconds), short against what a client notices.
const REAP_INTERVAL: Duration = Duration::from_micros(100);
/// Batches taken from the inbox in one turn, so that sockets have their share.
const INBOX_BATCHES_MAX: usize = 256;
/// How often one turn writes what its own writes made.
const FLUSH_ROUNDS_MAX: usize = 4;
/// For a connection that the shard closed to take what waits for it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// After the start of an interval the sums are made, when all shards have reported.
const REPORT_DELAY_MS: u64 = 50;
