//! The broker around the shards: inboxes, sockets, stores and time, in one thread. It keeps the contract of a shard's
//! caller and uses all the freedom that leaves: anything may be late, and a socket may take any number of bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::client::{Client, World};
use crate::limits::{DeniedPublish, Limits, SharedStrategy, SlowSubscriber};
use crate::shard::{ConnId, Effect, Event, Pass, PeerBatch, Shard, ShardConfig, ShardId};
use crate::stats::Stats;
use crate::store::{Lsn, MemoryStore, Record, Storage, StoreError};
use crate::time::Instant;
use crate::topic::TopicLimits;

pub(super) const CLIENTS: usize = 4;

pub(super) struct Broker {
    nodes: Vec<Node>,
    sockets: [Socket; CLIENTS],
    limits: Limits,
    now: Instant,
    /// Sockets opened so far: each goes to the next shard, and has its own number.
    opened: usize,
    world: World,
    /// Of what clients got; see [`Broker::finish`].
    digest: u64,
}

/// One shard and what belongs to it.
struct Node {
    shard: Shard,
    inbox: VecDeque<PeerBatch>,
    /// Sockets on their way here, with what they had sent: beside the inbox, in any order to it.
    moving: VecDeque<(usize, Vec<u8>)>,
    /// Connections that the shard has closed and that the process has not finished closing.
    closing: VecDeque<ConnId>,
    store: Option<SlowStore>,
}

/// A client's side of its present connection, and the way there.
#[derive(Default)]
struct Socket {
    /// Which of all sockets it is; 0: none.
    number: usize,
    place: Place,
    /// Written by the client, and not read by the broker.
    unread: Vec<u8>,
    /// Takes only what [`Broker::take_bytes`] says.
    stalled: bool,
    client: Client,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Place {
    /// Closed, or never opened.
    #[default]
    Nowhere,
    Moving,
    At(usize, ConnId),
}

impl Broker {
    /// `kind` chooses the number of shards, their stores and policies, `seed` where clients and topics live.
    pub(super) fn new(kind: u8, seed: u8) -> Broker {
        let flag = |bit: u8| kind & 1 << bit != 0;
        let shards = [1, 2, 3, 2][usize::from(kind & 0b11)];
        let limits = Limits {
            session_expiry: Duration::from_secs(if flag(2) { 60 } else { 0 }),
            shared_strategy: if flag(3) {
                SharedStrategy::Sticky
            } else {
                SharedStrategy::RoundRobin
            },
            slow_subscriber: match kind >> 4 & 0b11 {
                0 => SlowSubscriber::DropNewest,
                1 => SlowSubscriber::DropOldest,
                2 => SlowSubscriber::Disconnect,
                _ => SlowSubscriber::Backpressure,
            },
            keep_alive_max: Duration::from_secs(if flag(6) { 10 } else { 0 }),
            ..SMALL
        };
        let node = |id: u16| {
            let store = flag(7).then(SlowStore::default);
            let config = ShardConfig {
                id: ShardId(id),
                shards,
                placement_seed: u64::from(seed),
                seed: u64::from(id),
                limits: limits.clone(),
                acl: None,
            };
            let storage: Box<dyn Storage> = match &store {
                Some(store) => Box::new(store.clone()),
                None => Box::new(MemoryStore),
            };
            Node {
                shard: Shard::new(config, storage),
                inbox: VecDeque::new(),
                moving: VecDeque::new(),
                closing: VecDeque::new(),
                store,
            }
        };
        Broker {
            nodes: (0..shards).map(node).collect(),
            sockets: Default::default(),
            limits: limits.clone(),
            now: Instant::from_millis(1_000),
            opened: 0,
            world: World::default(),
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// The client writes; if it has no connection, it opens one first.
    pub(super) fn write(&mut self, client: usize, bytes: &[u8]) {
        if self.sockets[client].place == Place::Nowhere {
            let at = self.opened % self.nodes.len();
            self.opened += 1;
            let conn = self.nodes[at].shard.open(self.now);
            self.sockets[client] = Socket {
                number: self.opened,
                place: Place::At(at, conn),
                ..Socket::default()
            };
        }
        let unread = &mut self.sockets[client].unread;
        if unread.len() + bytes.len() <= UNREAD_BYTES_MAX {
            unread.extend_from_slice(bytes);
        }
    }

    /// The client acknowledges whatever asks for it.
    pub(super) fn answer(&mut self, client: usize) {
        if self.sockets[client].place == Place::Nowhere {
            return;
        }
        while let Some(answer) = self.sockets[client].client.next_answer() {
            self.write(client, &answer);
        }
    }

    /// The broker reads up to `len` bytes from the client, if it reads from it at all.
    pub(super) fn deliver(&mut self, client: usize, len: usize) {
        let socket = &mut self.sockets[client];
        let Place::At(at, conn) = socket.place else { return };
        let len = len.min(socket.unread.len());
        if len == 0 || !self.nodes[at].shard.may_read(conn) {
            return;
        }
        let bytes: Vec<u8> = socket.unread.drain(..len).collect();
        socket.client.on_sent(&bytes, &mut self.world);
        self.handle(at, Event::Bytes { conn, bytes: &bytes });
    }

    /// A shard takes the next batch out of its inbox.
    pub(super) fn take_batch(&mut self, at: usize) {
        let at = at % self.nodes.len();
        if let Some(batch) = self.nodes[at].inbox.pop_front() {
            self.handle(at, Event::Peer(batch));
        }
    }

    /// A shard takes over the next socket that moves to it.
    pub(super) fn take_socket(&mut self, at: usize) {
        let at = at % self.nodes.len();
        let Some((number, received)) = self.nodes[at].moving.pop_front() else {
            return;
        };
        let conn = self.nodes[at].shard.open(self.now);
        let owner = self.sockets.iter_mut().find(|socket| socket.number == number);
        let lives = owner.is_some_and(|socket| {
            let lives = socket.place == Place::Moving;
            if lives {
                socket.place = Place::At(at, conn);
            }
            lives
        });
        self.handle(at, Event::Bytes { conn, bytes: &received });
        if !lives && !self.nodes[at].closing.contains(&conn) {
            self.handle(at, Event::Closed { conn });
        }
    }

    /// The process finishes the close of a connection.
    pub(super) fn end_closing(&mut self, at: usize) {
        let at = at % self.nodes.len();
        if let Some(conn) = self.nodes[at].closing.pop_front() {
            let bytes = b"\xC0\x00";
            self.handle(at, Event::Bytes { conn, bytes });
            self.handle(at, Event::Closed { conn });
        }
    }

    pub(super) fn tick(&mut self, at: usize) {
        let at = at % self.nodes.len();
        self.handle(at, Event::Tick);
    }

    /// Time passes; shards notice when they have their turns.
    pub(super) fn pass_time(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// The client stops reading, or reads on.
    pub(super) fn stall(&mut self, client: usize) {
        let socket = &mut self.sockets[client];
        socket.stalled = !socket.stalled;
        let len = if socket.stalled { 0 } else { usize::MAX };
        self.take_bytes(client, len);
    }

    /// The client's socket takes up to `len` bytes.
    pub(super) fn take_bytes(&mut self, client: usize, len: usize) {
        if let Place::At(at, conn) = self.sockets[client].place {
            self.send(at, conn, len);
            self.end_turn(at);
        }
    }

    /// The client's end of the connection vanishes.
    pub(super) fn cut(&mut self, client: usize) {
        let socket = std::mem::take(&mut self.sockets[client]);
        if let Place::At(at, conn) = socket.place {
            self.handle(at, Event::Closed { conn });
        }
    }

    /// Everything that a shard's store was given becomes durable.
    pub(super) fn sync_store(&mut self, at: usize) {
        let at = at % self.nodes.len();
        if let Some(store) = &self.nodes[at].store {
            let lsn = store.sync();
            self.handle(at, Event::Durable(lsn));
        }
    }

    /// A shard's store begins to refuse records, or takes them again.
    pub(super) fn break_store(&mut self, at: usize) {
        let at = at % self.nodes.len();
        if let Some(store) = &self.nodes[at].store {
            let mut state = store.state.borrow_mut();
            state.refuses = !state.refuses;
        }
    }

    /// A shard publishes for the broker.
    pub(super) fn publish(&mut self, at: usize, topic: &str) {
        let at = at % self.nodes.len();
        self.world.published.insert((topic.to_owned(), b"own".to_vec()));
        self.nodes[at].shard.publish(self.now, topic, b"own", true);
        self.end_turn(at);
    }

    /// Turns until nobody has anything to do at this time.
    pub(super) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut idle = true;
            for at in 0..self.nodes.len() {
                let node = &self.nodes[at];
                let due = node.shard.next_deadline().is_some_and(|deadline| deadline <= self.now);
                let unsynced = node.store.as_ref().is_some_and(SlowStore::has_unsynced);
                if node.inbox.is_empty() && node.moving.is_empty() && node.closing.is_empty() && !due && !unsynced {
                    continue;
                }
                idle = false;
                self.take_batch(at);
                self.take_socket(at);
                self.end_closing(at);
                self.sync_store(at);
                if due {
                    self.tick(at);
                }
            }
            if idle {
                return;
            }
        }
        panic!("the broker does not settle");
    }

    /// One event, and the end of the turn.
    fn handle(&mut self, at: usize, event: Event<'_>) {
        self.nodes[at].shard.handle(self.now, event);
        self.end_turn(at);
    }

    /// What a shard's caller owes it.
    fn end_turn(&mut self, at: usize) {
        while !self.nodes[at].shard.is_flushed() {
            for pass in Pass::ALL {
                while let Some((to, batch)) = self.nodes[at].shard.poll_batch(pass) {
                    assert_ne!(to.index(), at, "a shard is not its own peer");
                    self.nodes[to.index()].inbox.push_back(batch);
                }
            }
            while let Some(effect) = self.nodes[at].shard.poll_effect() {
                self.on_effect(at, effect);
            }
            while let Some(conn) = self.nodes[at].shard.poll_dirty() {
                self.send_unless_stalled(at, conn);
            }
        }
        self.nodes[at].shard.check_invariants();
    }

    fn on_effect(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Connected { .. } | Effect::ResumeReading { .. } | Effect::Denied { .. } => {}
            Effect::Authenticate { .. } | Effect::Enter { .. } => {
                unreachable!("these connections are open to everyone")
            }
            Effect::Close { conn, .. } => {
                self.send_unless_stalled(at, conn);
                if let Some(socket) = self.socket_of(at, conn) {
                    socket.place = Place::Nowhere;
                }
                self.nodes[at].closing.push_back(conn);
            }
            Effect::Move {
                conn, home, received, ..
            } => {
                assert_ne!(home.index(), at, "a socket moves to another shard");
                let socket = self.socket_of(at, conn).expect("only a live socket moves");
                socket.place = Place::Moving;
                let number = socket.number;
                self.nodes[home.index()].moving.push_back((number, received.to_vec()));
            }
        }
    }

    fn socket_of(&mut self, at: usize, conn: ConnId) -> Option<&mut Socket> {
        self.sockets
            .iter_mut()
            .find(|socket| socket.place == Place::At(at, conn))
    }

    fn send_unless_stalled(&mut self, at: usize, conn: ConnId) {
        if self.socket_of(at, conn).is_some_and(|socket| !socket.stalled) {
            self.send(at, conn, usize::MAX);
        }
    }

    /// The socket takes up to `len` bytes of the output.
    fn send(&mut self, at: usize, conn: ConnId, len: usize) {
        let mut left = len;
        let shard = &mut self.nodes[at].shard;
        let place = Place::At(at, conn);
        let socket = self.sockets.iter_mut().position(|socket| socket.place == place);
        while left > 0 && !shard.output(conn).is_empty() {
            let chunk = shard.output(conn).first_chunk();
            let taken = chunk.len().min(left);
            assert!(taken > 0, "an output that is not empty has a first chunk");
            left -= taken;
            if let Some(client) = socket {
                for byte in &chunk[..taken] {
                    self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                }
                self.digest ^= client as u64;
                self.sockets[client]
                    .client
                    .on_received(&chunk[..taken], &self.world, &self.limits);
            }
            shard.written(self.now, conn, taken);
        }
    }

    /// Nothing is beyond its limit.
    pub(super) fn check(&self) {
        let share = |of_broker: usize| of_broker.div_ceil(self.nodes.len()) as u64;
        for node in &self.nodes {
            let stats = node.shard.stats();
            assert!(stats.sessions <= self.limits.sessions_max as u64);
            assert!(stats.retained <= share(self.limits.retained_max));
            assert!(stats.retained_bytes <= share(self.limits.retained_bytes_max));
            assert!(stats.subscriptions <= stats.sessions * self.limits.subscriptions_max as u64);
            if self.limits.slow_subscriber != SlowSubscriber::Backpressure {
                assert!(
                    stats.queued <= stats.sessions * QUEUED_MAX,
                    "{} messages wait",
                    stats.queued
                );
            }
            assert!(stats.inflight <= stats.sessions * u64::from(self.limits.inflight_max));
        }
        for socket in &self.sockets {
            if let Place::At(at, conn) = socket.place {
                let waiting = self.nodes[at].shard.output(conn).len();
                assert!(waiting <= OUTPUT_BYTES_MAX, "{waiting} bytes wait for one client");
            }
        }
    }

    fn anybody_is_held_back(&self) -> bool {
        let held_back = |at: usize, conn| !self.nodes[at].shard.may_read(conn);
        let place = |socket: &Socket| matches!(socket.place, Place::At(at, conn) if held_back(at, conn));
        self.sockets.iter().any(place)
    }

    /// Everybody reads, then everybody leaves: the broker must come to rest, and keep only what is meant to be kept.
    /// Returns a digest of what clients got.
    pub(super) fn finish(mut self) -> u64 {
        for node in &self.nodes {
            if let Some(store) = &node.store {
                store.state.borrow_mut().refuses = false;
            }
        }
        for client in 0..CLIENTS {
            self.sockets[client].stalled = false;
            self.take_bytes(client, usize::MAX);
        }
        // Each round, one more subscriber may lose patience with publishers that wait for it.
        for _ in 0..2 * CLIENTS {
            self.settle();
            self.pass_time(PATIENCE_MS);
        }
        self.settle();
        // Where memory is short, a publisher pauses after each read.
        let mut pauses = 0;
        while self.anybody_is_held_back() {
            assert!(pauses < PAUSES_MAX, "a publisher is held back for ever");
            pauses += 1;
            self.pass_time(PAUSE_MS);
            self.settle();
        }
        self.check_quiet();
        for client in 0..CLIENTS {
            self.cut(client);
        }
        self.settle();
        self.check_quiet();
        // Beyond every deadline there is.
        self.pass_time(2 * 24 * 3_600_000);
        self.settle();
        self.check_quiet();
        let mut sum = Stats::default();
        for node in &self.nodes {
            assert_eq!(node.shard.next_deadline(), None, "nobody is left to wait for");
            sum += &node.shard.stats();
        }
        assert_eq!((sum.connections, sum.connected), (0, 0));
        if !self.limits.session_expiry.is_zero() {
            assert_eq!(
                (sum.sessions, sum.subscriptions, sum.queued, sum.inflight),
                (0, 0, 0, 0)
            );
            assert_eq!(self.nodes[0].shard.routes(), []);
        }
        self.digest
    }

    /// Nothing is under way, and every shard knows the same routes.
    fn check_quiet(&self) {
        self.check();
        for node in &self.nodes {
            assert!(node.shard.is_quiet());
            assert_eq!(node.shard.routes(), self.nodes[0].shard.routes());
        }
    }
}

/// A store whose records become durable when the input says so, and that refuses them when it says so.
#[derive(Clone, Default)]
struct SlowStore {
    state: Rc<RefCell<SlowStoreState>>,
}

#[derive(Default)]
struct SlowStoreState {
    last: u64,
    durable: u64,
    refuses: bool,
}

impl SlowStore {
    fn sync(&self) -> Lsn {
        let mut state = self.state.borrow_mut();
        state.durable = state.last;
        Lsn(state.durable)
    }

    fn has_unsynced(&self) -> bool {
        let state = self.state.borrow();
        state.durable < state.last
    }
}

impl Storage for SlowStore {
    fn append(&mut self, _record: Record<'_>) -> Result<Lsn, StoreError> {
        let mut state = self.state.borrow_mut();
        if state.refuses {
            return Err(StoreError::Full);
        }
        state.last += 1;
        Ok(Lsn(state.last))
    }

    fn durable(&self) -> Lsn {
        Lsn(self.state.borrow().durable)
    }

    fn is_volatile(&self) -> bool {
        false
    }
}

/// Limits that a short script reaches.
const SMALL: Limits = Limits {
    memory_bytes_max: 64 * 1024,
    packet_bytes_max: 10_000,
    connect_bytes_max: 100,
    inflight_max: 3,
    inbound_qos2_max: 4,
    queued_messages_max: 6,
    queued_bytes_max: 20_000,
    output_bytes_max: 200,
    topic: TopicLimits {
        levels_max: 8,
        bytes_max: 64,
    },
    retained_max: 4,
    retained_bytes_max: 15_000,
    subscriptions_max: 5,
    sessions_max: 3,
    connections_per_user_max: 0,
    client_id_bytes_max: 40,
    connect_timeout: Duration::from_secs(10),
    keep_alive_max: Duration::ZERO,
    backpressure_timeout: Duration::from_secs(10),
    session_expiry: Duration::ZERO,
    publish_rate_max: 0,
    publish_bytes_rate_max: 0,
    publish_rate_patience: Duration::ZERO,
    slow_subscriber: SlowSubscriber::DropNewest,
    shared_strategy: SharedStrategy::RoundRobin,
    denied_publish: DeniedPublish::Drop,
};

/// What may wait for one client: the limit of messages and as much of answers, a packet over each, and everything in
/// flight again with a resumed session.
const OUTPUT_BYTES_MAX: usize =
    2 * (SMALL.output_bytes_max + SMALL.packet_bytes_max) + SMALL.inflight_max as usize * SMALL.packet_bytes_max;

/// What may wait for one session: its queue, live messages behind a SUBSCRIBE, and the retained ones of a few SUBSCRIBE packets.
const QUEUED_MAX: u64 = 200;

/// A client writes no more before some of it is read: a socket's receive buffer.
const UNREAD_BYTES_MAX: usize = 24 * 1024;

/// Longer than publishers wait for one subscriber.
const PATIENCE_MS: u64 = 11_000;

/// As long as memory makes a publisher pause at most.
const PAUSE_MS: u64 = 1_100;

/// More reads than what a script leaves in its sockets takes.
const PAUSES_MAX: u32 = 10_000;

/// More turns than any script can make necessary at one time.
const TURNS_MAX: usize = 20_000;
