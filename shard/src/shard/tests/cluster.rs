//! Several shards, their inboxes and their clients, in one thread; a seed decides whose turn it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Acl;
use crate::codec::{ConnAck, Packet, QoS, decode};
use crate::error::AuthenticationError;
use crate::hash::{Random, home};
use crate::limits::Limits;
use crate::shard::{
    Admission, ConnId, Credentials, Effect, Event, Kicked, Pass, PeerBatch, Shard, ShardConfig, ShardId, UserName,
    Verified,
};
use crate::simulation::store::SimStore;
pub(super) use crate::simulation::wire::*;
use crate::stats::Stats;
use crate::store::{MemoryStore, Storage};
use crate::time::Instant;

pub(super) const PLACEMENT_SEED: u64 = 42;

/// A client of the cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Client(usize);

#[derive(Debug)]
struct Socket {
    at: Option<(usize, ConnId)>,
    /// What the broker has written and the test has not looked at.
    received: Vec<u8>,
    /// The broker has ended the connection.
    closed: bool,
    /// Reads nothing: its output stays where it is.
    stalled: bool,
    /// Sent and not yet handed to the shard, which held the publisher back.
    unread: Vec<u8>,
}

/// The broker.
pub(super) struct Cluster {
    shards: Vec<Shard>,
    inboxes: Vec<VecDeque<PeerBatch>>,
    sockets: Vec<Socket>,
    pub(super) now: Instant,
    random: Random,
    pub(super) stores: Vec<SimStore>,
    /// Questions that the shards have asked and nobody has answered.
    asked: Vec<Asked>,
    /// Clients that want to be counted among those of their user, and of whom nobody has said whether there is room.
    entering: Vec<Entering>,
    /// What the broker told about denials: client, kind, topic.
    denied: Vec<String>,
}

/// Whether a client is who it says.
#[derive(Debug)]
struct Asked {
    at: usize,
    conn: ConnId,
    ticket: u64,
    credentials: Credentials,
}

/// Whether there is room for a client: `USER/CLIENT`.
#[derive(Debug)]
struct Entering {
    at: usize,
    conn: ConnId,
    ticket: u64,
    who: String,
}

/// What a client got, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Seen {
    ConnAck(bool, u8),
    Publish {
        topic: String,
        payload: Vec<u8>,
        qos: u8,
        retain: bool,
        dup: bool,
        id: u16,
    },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16),
    PingResp,
}

impl Seen {
    /// `topic=payload` of a PUBLISH.
    pub(super) fn text(&self) -> String {
        match self {
            Seen::Publish { topic, payload, .. } => format!("{topic}={}", String::from_utf8_lossy(payload)),
            other => format!("{other:?}"),
        }
    }
}

impl Cluster {
    pub(super) fn new(shards: u16) -> Cluster {
        Cluster::with_limits(shards, &Limits::default())
    }

    pub(super) fn with_limits(shards: u16, limits: &Limits) -> Cluster {
        Cluster::build(shards, limits, 1, |_| Box::new(MemoryStore))
    }

    /// With a store per shard that becomes durable only when the test says so.
    pub(super) fn with_slow_stores(shards: u16) -> Cluster {
        let stores: Vec<SimStore> = (0..shards).map(|_| SimStore::default()).collect();
        let of = stores.clone();
        let mut cluster = Cluster::build(shards, &Limits::default(), 1, |id| Box::new(of[id].clone()));
        cluster.stores = stores;
        cluster
    }

    pub(super) fn seeded(shards: u16, seed: u64) -> Cluster {
        Cluster::build(shards, &Limits::default(), seed, |_| Box::new(MemoryStore))
    }

    fn build(shards: u16, limits: &Limits, seed: u64, store: impl Fn(usize) -> Box<dyn Storage>) -> Cluster {
        let shard = |id: u16| {
            let limits = limits.clone();
            let config = ShardConfig {
                id: ShardId(id),
                shards,
                placement_seed: PLACEMENT_SEED,
                seed: u64::from(id),
                limits,
                acl: None,
            };
            Shard::new(config, store(usize::from(id)))
        };
        Cluster {
            shards: (0..shards).map(shard).collect(),
            inboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            sockets: Vec::new(),
            now: Instant::from_millis(1_000),
            random: Random::new(seed),
            stores: Vec::new(),
            asked: Vec::new(),
            entering: Vec::new(),
            denied: Vec::new(),
        }
    }

    /// With an access control list, and a store per shard that becomes durable only when the test says so.
    pub(super) fn with_acl(shards: u16, acl: &str, limits: &Limits, slow_stores: bool) -> Cluster {
        let stores: Vec<SimStore> = (0..shards).map(|_| SimStore::default()).collect();
        let of = stores.clone();
        let mut cluster = Cluster::build(shards, limits, 1, |id| -> Box<dyn Storage> {
            if slow_stores {
                Box::new(of[id].clone())
            } else {
                Box::new(MemoryStore)
            }
        });
        if slow_stores {
            cluster.stores = stores;
        }
        cluster.set_acl(acl);
        cluster
    }

    /// Another list counts from here on.
    pub(super) fn set_acl(&mut self, acl: &str) {
        let acl = Arc::new(Acl::parse(acl).unwrap());
        for at in 0..self.shards.len() {
            self.shards[at].handle(self.now, Event::Acl(Arc::clone(&acl)));
            self.flush(at);
        }
    }

    /// Other limits count from here on.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        for at in 0..self.shards.len() {
            self.shards[at].handle(self.now, Event::Limits(Box::new(limits.clone())));
            self.flush(at);
        }
    }

    /// What the broker told about denials since it was asked last.
    pub(super) fn take_denied(&mut self) -> Vec<String> {
        std::mem::take(&mut self.denied)
    }

    /// A client that is known as this user.
    pub(super) fn connect_as(&mut self, user_name: &str, client_id: &str, clean: bool) -> Client {
        self.connect_with_list(user_name, client_id, clean, None)
    }

    /// A connection whose client will be known as this user, with a list of its own.
    pub(super) fn open_with_list(&mut self, user_name: &str, own: Option<&str>) -> Client {
        self.open_as(Admission::Known(Box::new(Verified {
            acl: own.map(|own| Arc::new(Acl::of_client(own.lines()).unwrap())),
            ..UserName::from(user_name).into()
        })))
    }

    /// A client that is known as this user, with a list of its own.
    pub(super) fn connect_with_list(
        &mut self,
        user_name: &str,
        client_id: &str,
        clean: bool,
        own: Option<&str>,
    ) -> Client {
        let client = self.open_with_list(user_name, own);
        self.send(client, &connect_bytes(client_id, clean, 0));
        self.settle();
        self.make_durable();
        self.settle();
        let seen = self.take_first(client);
        assert!(matches!(seen, Some(Seen::ConnAck(_, 0))), "{client_id}: {seen:?}");
        client
    }

    /// A Client Identifier that lives on this shard.
    pub(super) fn client_id_on(&self, shard: u16, name: &str) -> String {
        let shards = u16::try_from(self.shards.len()).unwrap();
        (0..)
            .map(|n| format!("{name}{n}"))
            .find(|id| home(id, shards, PLACEMENT_SEED) == ShardId(shard))
            .unwrap()
    }

    pub(super) fn home_of(&self, client_id: &str) -> usize {
        home(client_id, u16::try_from(self.shards.len()).unwrap(), PLACEMENT_SEED).index()
    }

    pub(super) fn shard(&mut self, at: usize) -> &mut Shard {
        &mut self.shards[at]
    }

    /// As an operator does.
    pub(super) fn kick(&mut self, at: usize, client_id: &str) -> Kicked {
        let kicked = self.shards[at].kick(self.now, client_id);
        self.flush(at);
        kicked
    }

    /// A topic whose retained message lives on this shard.
    pub(super) fn topic_on(&self, shard: u16) -> String {
        let shards = u16::try_from(self.shards.len()).unwrap();
        (0..)
            .map(|n| format!("topic/{n}"))
            .find(|topic| crate::hash::retained_owner(topic, shards, PLACEMENT_SEED) == ShardId(shard))
            .unwrap()
    }

    /// A new socket, given to shards in turn.
    pub(super) fn open(&mut self) -> Client {
        self.open_as(Admission::Open)
    }

    pub(super) fn open_as(&mut self, admission: Admission) -> Client {
        let at = self.sockets.len() % self.shards.len();
        let conn = self.shards[at].open_as(self.now, admission);
        let socket = Socket {
            at: Some((at, conn)),
            received: vec![],
            closed: false,
            stalled: false,
            unread: vec![],
        };
        self.sockets.push(socket);
        Client(self.sockets.len() - 1)
    }

    /// Opens a socket and sends CONNECT; the broker answers 0.
    pub(super) fn connect(&mut self, client_id: &str, clean: bool) -> Client {
        let client = self.open();
        self.send(client, &connect_bytes(client_id, clean, 0));
        self.settle();
        let seen = self.take_first(client);
        assert!(matches!(seen, Some(Seen::ConnAck(_, 0))), "{client_id}: {seen:?}");
        client
    }

    /// Answers the question about this user name that was asked first; a password that is the name is right.
    pub(super) fn answer(&mut self, user_name: &str) {
        let first = self
            .asked
            .iter()
            .position(|asked| &*asked.credentials.user_name == user_name);
        let asked = self.asked.remove(first.expect("it was asked about"));
        let right = asked.credentials.password.as_deref() == Some(user_name.as_bytes());
        let verdict = if right {
            Ok(asked.credentials.user_name.into())
        } else {
            Err(AuthenticationError::BadCredentials)
        };
        self.verdict(asked.at, asked.conn, asked.ticket, verdict);
    }

    /// Answers the question that was asked first: it is who it says, and stays so for so long.
    pub(super) fn verify(&mut self, expires_in: Option<Duration>) {
        let asked = self.asked.remove(0);
        let verified = Verified {
            expires_in,
            ..asked.credentials.user_name.into()
        };
        self.verdict(asked.at, asked.conn, asked.ticket, Ok(verified));
    }

    /// Answers one question that the seed picks; false if there is none.
    pub(super) fn answer_any(&mut self) -> bool {
        let count = self.asked.len() as u64;
        if count == 0 {
            return false;
        }
        let at = usize::try_from(self.random.next() % count).unwrap();
        let name = self.asked[at].credentials.user_name.to_string();
        self.asked.swap(0, at);
        self.answer(&name);
        true
    }

    /// Names that are asked about, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked
            .iter()
            .map(|asked| asked.credentials.user_name.to_string())
            .collect()
    }

    /// Forgets the questions, and gives one of the answers to none of them.
    pub(super) fn answer_stale(&mut self) {
        let asked = self.asked.remove(0);
        let verdict = Ok(Verified::from(UserName::from("somebody")));
        self.verdict(asked.at, asked.conn, asked.ticket + 1_000, verdict);
        self.asked.clear();
    }

    /// Who wants to be counted, in order: `USER/CLIENT`.
    pub(super) fn entering(&self) -> Vec<&str> {
        self.entering.iter().map(|entering| &*entering.who).collect()
    }

    /// Says to the first of them whether there is room.
    pub(super) fn enter(&mut self, has_room: bool) {
        let Entering { at, conn, ticket, .. } = self.entering.remove(0);
        let room = has_room.then_some(()).ok_or(AuthenticationError::TooManyOfUser);
        self.shards[at].handle(self.now, Event::Entered { conn, ticket, room });
        self.flush(at);
    }

    fn verdict(&mut self, at: usize, conn: ConnId, ticket: u64, verdict: Result<Verified, AuthenticationError>) {
        self.shards[at].handle(self.now, Event::Authenticated { conn, ticket, verdict });
        self.flush(at);
    }

    /// The transport has found out who the client is.
    pub(super) fn identify(&mut self, client: Client, user_name: &str) {
        if let Some((at, conn)) = self.sockets[client.0].at {
            let user_name = user_name.into();
            self.shards[at].handle(self.now, Event::Identified { conn, user_name });
            self.flush(at);
        }
    }

    /// Hands bytes to the client's shard, which runs a turn.
    pub(super) fn send(&mut self, client: Client, bytes: &[u8]) {
        let socket = &mut self.sockets[client.0];
        let Some((at, conn)) = socket.at else { return };
        if !self.shards[at].may_read(conn) {
            socket.unread.extend_from_slice(bytes);
            return;
        }
        self.shards[at].handle(self.now, Event::Bytes { conn, bytes });
        self.flush(at);
    }

    /// Ends the socket without DISCONNECT.
    pub(super) fn cut(&mut self, client: Client) {
        if let Some((at, conn)) = self.sockets[client.0].at.take() {
            self.shards[at].handle(self.now, Event::Closed { conn });
            self.flush(at);
        }
    }

    pub(super) fn stall(&mut self, client: Client, stalled: bool) {
        self.sockets[client.0].stalled = stalled;
        if let Some((at, conn)) = self.sockets[client.0].at
            && !stalled
        {
            self.write(at, conn);
            self.flush(at);
        }
    }

    /// One turn of one shard, which takes one batch from its inbox; false if it had nothing to do.
    pub(super) fn step(&mut self, at: usize) -> bool {
        if let Some(batch) = self.inboxes[at].pop_front() {
            self.shards[at].handle(self.now, Event::Peer(batch));
        } else if self.shards[at].next_deadline().is_some_and(|at| at <= self.now) {
            self.shards[at].handle(self.now, Event::Tick);
        } else {
            return false;
        }
        self.flush(at);
        true
    }

    /// Lets shards take turns, in an order that the seed decides, until nothing is left to do.
    pub(super) fn settle(&mut self) {
        loop {
            let first = usize::try_from(self.random.next() % self.shards.len() as u64).unwrap();
            let count = self.shards.len();
            if !(0..count).any(|n| self.step((first + n) % count)) {
                return;
            }
        }
    }

    /// Some turns in the order of the seed; other things may still be under way.
    pub(super) fn run_some(&mut self) {
        for _ in 0..self.random.next() % 4 {
            let at = usize::try_from(self.random.next() % self.shards.len() as u64).unwrap();
            self.step(at);
        }
    }

    pub(super) fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Time passes, in steps short enough that every deadline is met in time.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(100));
            self.settle();
        }
    }

    /// The store of every shard has everything that was appended.
    pub(super) fn make_durable(&mut self) {
        for at in 0..self.shards.len() {
            let Some(store) = self.stores.get(at) else { continue };
            let lsn = store.sync();
            self.shards[at].handle(self.now, Event::Durable(lsn));
            self.flush(at);
        }
    }

    pub(super) fn shutdown(&mut self) {
        for at in 0..self.shards.len() {
            self.shards[at].handle(self.now, Event::Shutdown);
            self.flush(at);
        }
    }

    /// The end of a turn, as the process does it.
    fn flush(&mut self, at: usize) {
        for pass in Pass::ALL {
            while let Some((to, batch)) = self.shards[at].poll_batch(pass) {
                self.inboxes[to.index()].push_back(batch);
            }
        }
        while let Some(effect) = self.shards[at].poll_effect() {
            match effect {
                Effect::Connected { .. } => {}
                Effect::Denied {
                    client,
                    denial,
                    topic,
                    untold,
                    ..
                } => {
                    let untold = if untold > 0 {
                        format!(" +{untold}")
                    } else {
                        String::new()
                    };
                    self.denied.push(format!("{client} {} {topic}{untold}", denial.label()));
                }
                Effect::Enter {
                    conn,
                    ticket,
                    client,
                    user_name,
                    ..
                } => {
                    let who = format!("{user_name}/{client}");
                    self.entering.push(Entering { at, conn, ticket, who });
                }
                Effect::Authenticate {
                    conn,
                    ticket,
                    credentials,
                } => self.asked.push(Asked {
                    at,
                    conn,
                    ticket,
                    credentials,
                }),
                Effect::Move {
                    conn,
                    home,
                    admission,
                    received,
                } => {
                    let socket = self
                        .sockets
                        .iter_mut()
                        .find(|socket| socket.at == Some((at, conn)))
                        .unwrap();
                    let moved = self.shards[home.index()].open_as(self.now, admission);
                    socket.at = Some((home.index(), moved));
                    self.shards[home.index()].handle(
                        self.now,
                        Event::Bytes {
                            conn: moved,
                            bytes: &received,
                        },
                    );
                    self.flush(home.index());
                }
                Effect::Close { conn, .. } => {
                    self.write(at, conn);
                    let socket = self
                        .sockets
                        .iter_mut()
                        .find(|socket| socket.at == Some((at, conn)))
                        .unwrap();
                    socket.at = None;
                    socket.closed = true;
                    self.shards[at].handle(self.now, Event::Closed { conn });
                }
                Effect::ResumeReading { conn } => {
                    let client = self
                        .sockets
                        .iter()
                        .position(|socket| socket.at == Some((at, conn)))
                        .unwrap();
                    let unread = std::mem::take(&mut self.sockets[client].unread);
                    self.send(Client(client), &unread);
                }
            }
        }
        while let Some(conn) = self.shards[at].poll_dirty() {
            self.write(at, conn);
        }
        if !self.shards[at].is_flushed() {
            self.flush(at);
        }
    }

    fn write(&mut self, at: usize, conn: ConnId) {
        let Some(socket) = self.sockets.iter_mut().find(|socket| socket.at == Some((at, conn))) else {
            return;
        };
        while !socket.stalled && !self.shards[at].output(conn).is_empty() {
            let chunk = self.shards[at].output(conn).first_chunk();
            let taken = chunk.len();
            socket.received.extend_from_slice(chunk);
            self.shards[at].written(self.now, conn, taken);
        }
    }

    /// A stalled client's socket takes so many bytes, wherever they end.
    pub(super) fn take_bytes(&mut self, client: Client, most: usize) {
        let (at, conn) = self.sockets[client.0].at.expect("it is connected");
        let chunk = self.shards[at].output(conn).first_chunk();
        let taken = most.min(chunk.len());
        self.sockets[client.0].received.extend_from_slice(&chunk[..taken]);
        self.shards[at].written(self.now, conn, taken);
        self.flush(at);
    }

    /// Everything the client got since it was asked last.
    pub(super) fn take(&mut self, client: Client) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(packet) = self.take_first(client) {
            seen.push(packet);
        }
        seen
    }

    fn take_first(&mut self, client: Client) -> Option<Seen> {
        let received = &mut self.sockets[client.0].received;
        let decoded = decode(received, usize::MAX).expect("the broker sends packets")?;
        let (seen, len) = (see(&decoded.packet), decoded.len);
        received.drain(..len);
        Some(seen)
    }

    /// The messages among what the client got, as `topic=payload`.
    pub(super) fn take_texts(&mut self, client: Client) -> Vec<String> {
        let seen = self.take(client);
        seen.iter()
            .filter(|seen| matches!(seen, Seen::Publish { .. }))
            .map(Seen::text)
            .collect()
    }

    pub(super) fn is_closed(&self, client: Client) -> bool {
        self.sockets[client.0].closed
    }

    pub(super) fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for shard in &self.shards {
            sum += &shard.stats();
        }
        sum
    }

    /// All replicas are equal, nothing is under way, nothing has leaked.
    pub(super) fn check_quiet(&self) {
        for shard in &self.shards {
            assert!(shard.is_quiet());
            assert_eq!(shard.routes(), self.shards[0].routes());
            shard.check_invariants();
        }
    }

    /// Bytes in the output of the client's connection.
    pub(super) fn waiting(&self, client: Client) -> usize {
        let (at, conn) = self.sockets[client.0].at.expect("it is connected");
        self.shards[at].output(conn).len()
    }

    /// Bytes that the client has sent and its shard does not want yet.
    pub(super) fn unread(&self, client: Client) -> usize {
        self.sockets[client.0].unread.len()
    }

    /// SUBSCRIBE packets that are not done, on all shards.
    pub(super) fn pending_subscribes(&self) -> usize {
        self.shards.iter().map(|shard| shard.subscribing.pending.len()).sum()
    }

    /// Deadlines that are kept on all shards, those that no longer mean anything included.
    pub(super) fn timers(&self) -> usize {
        self.shards.iter().map(|shard| shard.timers.len()).sum()
    }

    pub(super) fn routes(&self) -> Vec<(String, Vec<u16>)> {
        self.shards[0].routes()
    }
}

fn see(packet: &Packet<'_>) -> Seen {
    match packet {
        Packet::ConnAck(ConnAck { session_present, code }) => Seen::ConnAck(*session_present, *code as u8),
        Packet::Publish(publish) => Seen::Publish {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            id: publish.packet_id.map_or(0, crate::codec::PacketId::value),
        },
        Packet::PubAck(id) => Seen::PubAck(id.value()),
        Packet::PubRec(id) => Seen::PubRec(id.value()),
        Packet::PubRel(id) => Seen::PubRel(id.value()),
        Packet::PubComp(id) => Seen::PubComp(id.value()),
        Packet::SubAck(suback) => Seen::SubAck(suback.packet_id.value(), suback.return_codes.to_vec()),
        Packet::UnsubAck(id) => Seen::UnsubAck(id.value()),
        Packet::PingResp => Seen::PingResp,
        other => panic!("a server never sends {other:?}"),
    }
}

/// The level as the standard's number.
pub(super) fn qos(level: u8) -> QoS {
    QoS::from_bits(level).unwrap()
}
