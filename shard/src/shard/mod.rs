//! One shard: events in, effects, outputs and batches for its peers out.
//!
//! Read [`Event`] and [`Effect`] first, then this file: [`Shard`] and what its caller does with it. A turn is: any number
//! of [`Shard::handle`] calls; then, for each [`Pass`] in order, [`Shard::poll_batch`] until it has no more, each batch
//! enqueued at its peer; then [`Shard::poll_effect`]; then [`Shard::poll_dirty`] and the writing. Acknowledgements are
//! in the outputs, so they leave after what they acknowledge.
//!
//! What the shard does is told in the order in which a client meets it: `receive` (bytes to packets), `authenticate`,
//! `connect`, `publish`, `route` (who gets it), `clients` (how it leaves), `subscribe`, `retained`, `depart` (how a connection and a
//! session end), `peers` (what other shards send, as `peer` and `packed` carry it), `inspect` (what an operator asks) and
//! `trace` (what an operator follows); `access` is asked along the way.

mod access;
mod authenticate;
mod clients;
mod connect;
mod connection;
mod depart;
mod event;
#[doc(hidden)]
pub mod fuzz;
mod inspect;
mod memory;
mod outgoing;
mod output;
mod packed;
mod peer;
mod peers;
mod publish;
mod rate;
mod receive;
mod retained;
mod route;
mod subscribe;
mod timers;
mod trace;

use std::collections::VecDeque;
use std::sync::Arc;

use authenticate::Authenticating;
use clients::{Clients, Deferred};
use connection::Phase;
use peer::Outboxes;
use subscribe::Subscribing;
use timers::{Timer, Timers};

pub use authenticate::{Admission, Credentials, UserName, Verified};
pub use event::{ClientId, ConnId, Effect, Event, Pass, ShardId};
pub use inspect::{ClientDetail, ClientPage, ClientQuery, ClientSummary, Kicked, Subscription};
pub use output::{Output, SpareBuffers};
pub use peer::PeerBatch;
pub use trace::{
    Followed, FollowedTopic, Listed, TRACES_MAX, TooManyTraces, Trace, TraceId, Traced, TracedEvent, TracedPacket,
};

use crate::access::Acl;
use crate::error::{AuthenticationError, CloseReason, SessionError};
use crate::hash::{Placement, Random};
use crate::limits::Limits;
use crate::router::{Registry, RetainStore};
use crate::session::SessionKey;
use crate::stats::Stats;
use crate::store::{Lsn, Storage, StoreError};
use crate::time::Instant;

/// Most shards of one broker: a filter's shards are the bits of one integer.
pub const SHARDS_MAX: u16 = 64;

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which one it is.
    pub id: ShardId,
    /// How many there are, 1..=[`SHARDS_MAX`].
    pub shards: u16,
    /// The same on all shards: decides homes and owners of retained messages. Clients must not know it.
    pub placement_seed: u64,
    /// This shard's own: keys its tables, makes Client Identifiers. Clients must not know it.
    pub seed: u64,
    /// The limits of its clients.
    pub limits: Limits,
    /// What its clients may publish and read; `None`: everything.
    pub acl: Option<Arc<Acl>>,
}

/// One shard of the broker.
///
/// Everything of a client (its connection, session, queue, Will) is on one shard, its home. Memory is bounded by
/// [`Limits`]. No call blocks, and none does more than a bounded amount of work beyond what its event carries.
pub struct Shard {
    id: ShardId,
    placement: Placement,
    random: Random,
    clients: Clients,
    registry: Registry,
    retained: RetainStore,
    outboxes: Outboxes,
    subscribing: Subscribing,
    authenticating: Authenticating,
    timers: Timers,
    effects: VecDeque<Effect>,
    /// Messages on other shards' behalf that wait for this shard's store: who asked, and their token.
    stored_waits: VecDeque<(Lsn, ShardId, u64)>,
    scans: VecDeque<retained::Scan>,
    routing: route::Scratch,
    /// Shards whose memory is nearly full, this one among them, as bits: messages name their publishers.
    pressed: u64,
    /// The last message routed here: [`Origin::sequence`](crate::message::Origin::sequence).
    sequence: u64,
    /// The last token given out, for anything that is answered later.
    last_token: u64,
}

impl Shard {
    /// A shard without connections.
    ///
    /// # Panics
    /// If `config.shards` is not in 1..=[`SHARDS_MAX`], or `config.id` is not below it.
    #[must_use]
    pub fn new(config: ShardConfig, store: Box<dyn Storage>) -> Shard {
        assert!((1..=SHARDS_MAX).contains(&config.shards), "1 to {SHARDS_MAX} shards");
        assert!(config.id.0 < config.shards, "shards count from 0");
        let (retained_max, retained_bytes_max) = retained_share(&config.limits, config.shards);
        let retained = RetainStore::new(retained_max, retained_bytes_max);
        Shard {
            id: config.id,
            placement: Placement::new(config.shards, config.placement_seed),
            random: Random::new(config.seed),
            registry: Registry::new(config.seed.rotate_left(32)),
            retained,
            outboxes: Outboxes::new(config.id, config.shards),
            clients: Clients::new(config, store),
            subscribing: Subscribing::default(),
            authenticating: Authenticating::default(),
            timers: Timers::default(),
            effects: VecDeque::new(),
            stored_waits: VecDeque::new(),
            scans: VecDeque::new(),
            routing: route::Scratch::default(),
            pressed: 0,
            sequence: 0,
            last_token: 0,
        }
    }

    /// A new connection that anyone may come in on. See [`Shard::open_as`].
    pub fn open(&mut self, now: Instant) -> ConnId {
        self.open_as(now, Admission::Open)
    }

    /// A new connection: a fresh socket, or one that moved here ([`Effect::Move`]), whose bytes come next.
    pub fn open_as(&mut self, now: Instant, admission: Admission) -> ConnId {
        let conn = self.clients.open(now, admission);
        self.set_connection_timer(now + self.clients.limits.connect_timeout, conn);
        conn
    }

    /// Takes an event in.
    pub fn handle(&mut self, now: Instant, event: Event<'_>) {
        self.clients.access.begin(now);
        match event {
            Event::Bytes { conn, bytes } => self.on_bytes(now, conn, bytes),
            Event::Closed { conn } => self.on_closed(now, conn),
            Event::Peer(batch) => self.on_batch(now, batch),
            Event::Authenticated { conn, ticket, verdict } => self.on_authenticated(now, conn, ticket, verdict),
            Event::Entered { conn, ticket, room } => self.on_entered(now, conn, ticket, room),
            Event::Acl(acl) => self.on_acl(acl),
            Event::Limits(limits) => self.on_limits(*limits),
            Event::Identified { conn, user_name } => self.on_identified(conn, user_name),
            Event::Durable(lsn) => self.on_durable(lsn),
            Event::Tick => self.on_tick(now),
            Event::Shutdown => self.on_shutdown(now),
        }
        self.conclude(now);
    }

    /// Does what an event made necessary.
    fn conclude(&mut self, now: Instant) {
        self.run_scans();
        self.run_deferred(now);
        debug_assert!(self.clients.deferred.is_empty());
        self.announce_pressure();
    }

    /// What the caller must do next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front().or_else(|| self.clients.access.poll_told())
    }

    /// The next batch of this pass, and its peer. All batches of a pass are enqueued before the next pass begins.
    pub fn poll_batch(&mut self, pass: Pass) -> Option<(ShardId, PeerBatch)> {
        self.outboxes.poll(pass)
    }

    /// A connection whose output got bytes since it was last polled. It may have closed meanwhile.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        loop {
            let conn = self.clients.dirty.pop_front()?;
            if let Some(connection) = self.clients.connections.get_mut(conn.index()) {
                connection.dirty = false;
                if self.is_tracing() {
                    self.tell_sent(conn);
                }
                return Some(conn);
            }
        }
    }

    /// What waits to be written.
    ///
    /// # Panics
    /// If there is no such connection.
    #[must_use]
    pub fn output(&self, conn: ConnId) -> &Output {
        &self.clients.connections[conn.index()].output
    }

    /// The socket took the first `bytes` of the output. What waited for the room follows; then the connection is dirty
    /// again.
    ///
    /// # Panics
    /// If there is no such connection, or less waits.
    pub fn written(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        if self.is_tracing() {
            self.tell_written(conn, bytes);
        }
        self.clients.written(conn, bytes);
        if !self.clients.deferred.is_empty() || !self.clients.displaced.is_empty() {
            self.run_deferred(now);
        }
    }

    /// False while slow subscribers hold this client's publishing back, for a moment when it fills the memory, while the
    /// client does not take the answers to what it has sent, or while it sends more than it should before it is known who
    /// it is: its socket must not be read.
    #[must_use]
    pub fn may_read(&self, conn: ConnId) -> bool {
        let paused = |connection: &connection::Connection| connection.paused;
        !self.clients.connections.get(conn.index()).is_some_and(paused) && self.may_go_on(conn)
    }

    /// False if not even what was read from this client already may be handled. What it published before a pause may: it is
    /// one read, and keeping it would take the memory that the pause is to save.
    pub(crate) fn may_go_on(&self, conn: ConnId) -> bool {
        let Some(connection) = self.clients.connections.get(conn.index()) else {
            return true;
        };
        match connection.phase {
            Phase::Connected { session } => {
                !connection.must_wait() && self.clients.sessions[session as usize].held_by == 0
            }
            // The end of the socket is worth hearing of, so reading goes on until a second packet of this size would wait.
            Phase::Authenticating { .. } => connection.tail.len() <= self.clients.limits.connect_bytes_max,
            Phase::Opening | Phase::Closing => true,
        }
    }

    /// When to say [`Event::Tick`] at the latest; in the past if bounded work was left over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.scans.is_empty() {
            self.timers.next()
        } else {
            Some(Instant::default())
        }
    }

    /// Publishes as the broker itself, QoS 0: `$SYS`.
    pub fn publish(&mut self, now: Instant, topic: &str, payload: &[u8], retain: bool) {
        self.publish_own(now, topic, payload, retain);
        self.run_deferred(now);
    }

    /// Counters and gauges, as of now. O(1).
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.clients.connections.len() as u64,
            sessions: self.clients.sessions.len() as u64,
            retained: self.retained.len() as u64,
            retained_bytes: self.retained.bytes() as u64,
            memory_bytes: self.clients.memory.used() as u64,
            ..self.clients.stats
        }
    }

    /// This shard's replica of all routes, in text and ordered: for comparing replicas when nothing is under way.
    #[must_use]
    pub fn routes(&self) -> Vec<(String, Vec<u16>)> {
        self.registry.routes(self.id)
    }

    /// Whether nothing is under way: no batch waits, no subscription is pending, nothing is held back.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.outboxes.is_empty()
            && self.subscribing.is_empty()
            && self.scans.is_empty()
            && self.authenticating.len() == 0
            && self.clients.awaited.is_empty()
    }

    /// Checks what should hold between calls.
    ///
    /// # Panics
    /// If something does not.
    pub fn check_invariants(&self) {
        self.registry.check_invariants();
        let mut subscriptions = 0;
        for (index, session) in &self.clients.sessions {
            session.outbound.check_invariants();
            assert_eq!(
                self.clients
                    .by_client
                    .get(&session.client_id)
                    .map(|index| *index as usize),
                Some(index)
            );
            assert!(session.held.is_empty() || session.pending_subscribes > 0);
            subscriptions += session.subscriptions.len() as u64;
        }
        assert_eq!(subscriptions, self.clients.stats.subscriptions);
        let authenticating =
            |connection: &connection::Connection| matches!(connection.phase, Phase::Authenticating { .. });
        let waiting = self
            .clients
            .connections
            .iter()
            .filter(|(_, it)| authenticating(it))
            .count();
        assert_eq!(waiting, self.authenticating.len());
        let served = |connection: &connection::Connection| connection.session().is_some();
        let connected = self.clients.connections.iter().filter(|(_, it)| served(it)).count();
        assert_eq!(connected as u64, self.clients.stats.connected);
        assert_eq!(self.clients.by_client.len(), self.clients.sessions.len());
        let queued: usize = self
            .clients
            .sessions
            .iter()
            .map(|(_, session)| session.outbound.queued() + session.held.len())
            .sum();
        assert_eq!(queued as u64, self.clients.stats.queued);
        let mut charged = 0;
        for (_, session) in &self.clients.sessions {
            assert_eq!(session.charged, session.memory_bytes());
            assert_eq!(
                session.held_bytes,
                session.held.iter().map(|held| held.message.size()).sum::<usize>()
            );
            charged += session.charged;
        }
        for (_, connection) in &self.clients.connections {
            assert_eq!(connection.charged, connection.memory_bytes());
            charged += connection.charged;
        }
        assert_eq!(charged, self.clients.memory.used());
        self.clients.tracing.check_invariants(&self.clients.connections);
        let inflight: usize = self
            .clients
            .sessions
            .iter()
            .map(|(_, session)| session.outbound.unacknowledged())
            .sum();
        assert_eq!(inflight as u64, self.clients.stats.inflight);
    }

    /// Whether a turn's end has taken everything: no batch, effect or output is new.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.outboxes.is_empty() && self.effects.is_empty() && self.clients.dirty.is_empty()
    }

    /// Other limits take the place of those in force. O(1): each is asked for where something would grow.
    fn on_limits(&mut self, limits: Limits) {
        let shards = self.placement.shards();
        let (retained_max, retained_bytes_max) = retained_share(&limits, shards);
        self.retained.set_limits(retained_max, retained_bytes_max);
        self.clients.set_limits(limits, shards);
    }

    fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Keeps one timer per connection alive: a later deadline waits until the earlier one fires.
    fn set_connection_timer(&mut self, at: Instant, conn: ConnId) {
        let connection = &mut self.clients.connections[conn.index()];
        let (index, generation) = (conn.0, connection.generation);
        if connection.timer_at == Instant::default() || at < connection.timer_at {
            connection.timer_at = at;
            self.timers.set(at, Timer::Connection { index, generation });
        }
    }

    fn on_tick(&mut self, now: Instant) {
        // A timer that is set meanwhile is never due already, so this ends.
        while let Some((at, timer)) = self.timers.poll(now) {
            match timer {
                Timer::Connection { index, generation } => self.on_connection_timer(now, at, ConnId(index), generation),
                Timer::SessionExpiry { index, generation } => {
                    self.on_session_expiry(now, SessionKey { index, generation });
                }
                Timer::Pause { index, generation } => self.on_pause_over(now, ConnId(index), generation),
                Timer::Expiry { index, generation } => self.on_expired(now, ConnId(index), generation),
                Timer::Rate { index, generation } => self.on_paid(now, ConnId(index), generation),
                Timer::Holding { index, generation } => self.on_patience_over(now, SessionKey { index, generation }),
            }
        }
    }

    fn on_connection_timer(&mut self, now: Instant, at: Instant, conn: ConnId, generation: u32) {
        let connect_timeout = self.clients.limits.connect_timeout;
        let Some(connection) = self.clients.live_connection((conn, generation)) else {
            return;
        };
        if connection.timer_at != at {
            return;
        }
        connection.timer_at = Instant::default();
        match connection.phase {
            Phase::Opening => self.close(now, conn, CloseReason::ConnectTimeout),
            Phase::Authenticating { .. } => self.close(now, conn, AuthenticationError::TimedOut.into()),
            Phase::Connected { session } if !connection.silence_max.is_zero() => {
                // Less than a tick of silence is granted, so the next deadline lies ahead.
                let silence_max = connection.silence_max;
                let heard = if fault!(DeafKeepAlive) {
                    Instant::default()
                } else {
                    connection.last_received
                };
                let deadline = heard + silence_max;
                let over_rate = connection.over_rate;
                if over_rate || self.clients.session(session).held_by > 0 {
                    // It could not be heard: patience begins when it is read again.
                    self.set_connection_timer(now + silence_max.max(connect_timeout), conn);
                } else if fault!(NoKeepAlive) {
                    self.set_connection_timer(now + silence_max, conn);
                } else if deadline > now {
                    self.set_connection_timer(deadline, conn);
                } else {
                    let seconds = self.clients.connections[conn.index()].keep_alive;
                    self.close(now, conn, CloseReason::KeepAliveTimeout { seconds });
                }
            }
            Phase::Connected { .. } | Phase::Closing => {}
        }
    }

    /// Does what deliveries made necessary. Each can make more necessary, of other sessions; a session is disconnected
    /// once, and a publisher held or released once per subscriber, so this ends.
    fn run_deferred(&mut self, now: Instant) {
        loop {
            self.give_displaced(now);
            let Some(deferred) = self.clients.deferred.pop_front() else {
                break;
            };
            match deferred {
                Deferred::DisconnectSlow(key) => {
                    let Some(session) = self.clients.resolve(key) else {
                        continue;
                    };
                    let (conn, queued) = (session.conn, session.outbound.queued());
                    if let Some(conn) = conn {
                        self.close(now, conn, SessionError::SlowSubscriber { queued }.into());
                    }
                }
                Deferred::DisconnectUnbound(key) => {
                    if let Some(conn) = self.clients.resolve(key).and_then(|session| session.conn) {
                        self.close(now, conn, CloseReason::Store(StoreError::Failed));
                    }
                }
                Deferred::Hold(shard, publisher) => {
                    self.outboxes
                        .push(Pass::Messages, shard, peer::PeerEntry::Hold { publisher });
                }
                Deferred::Slow(shard, publisher, pause) => {
                    let millis = u32::try_from(pause.as_millis()).expect("a second at most");
                    self.outboxes
                        .push(Pass::Messages, shard, peer::PeerEntry::Slow { publisher, millis });
                }
                Deferred::Paused(conn, generation, until) => self.set_pause_timer(until, conn, generation),
                Deferred::Release(shard, publisher) => self.release_publisher(now, shard, publisher),
                Deferred::ReadAgain(conn, generation) => {
                    if self.clients.live_connection((conn, generation)).is_some() {
                        self.read_again(now, conn);
                    }
                }
                Deferred::Patience(key, until) => {
                    let SessionKey { index, generation } = key;
                    self.timers.set(until, Timer::Holding { index, generation });
                }
            }
        }
    }

    fn on_patience_over(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.clients.resolve(key) else {
            return;
        };
        let (conn, queued) = (session.conn, session.outbound.queued());
        match &session.holding {
            Some(holding) if holding.until <= now => {
                if let Some(conn) = conn {
                    self.close(now, conn, SessionError::SlowSubscriber { queued }.into());
                }
            }
            _ => {}
        }
    }
}

/// Messages and bytes that one shard may retain.
fn retained_share(limits: &Limits, shards: u16) -> (usize, usize) {
    let share = |of_broker: usize| of_broker.div_ceil(usize::from(shards));
    (share(limits.retained_max), share(limits.retained_bytes_max))
}

#[cfg(test)]
mod tests;
