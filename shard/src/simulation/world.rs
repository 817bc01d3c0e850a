//! Shards, sockets and clients, and the scheduler that lets one of them go on at a time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::client::{Client, Link};
use super::dice::Dice;
use super::network::{Place, Socket};
use super::oracle::Oracle;
use super::plan::{Action, Plan};
use super::report::Counts;
use super::setup::{Restart, Setup, StoreKind};
use super::store::SimStore;
use super::trace::Trace;
use crate::shard::{PeerBatch, Shard, ShardConfig, ShardId};
use crate::store::{MemoryStore, Storage};
use crate::time::Instant;

/// Everything of one run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) sockets: Vec<Socket>,
    pub(super) clients: Vec<Client>,
    /// What each client still has to do in this phase.
    pub(super) scripts: Vec<VecDeque<usize>>,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    /// Nothing new goes wrong and nobody waits any more: everything must settle.
    pub(super) settling: bool,
    /// Restarts that are still to come.
    pub(super) restarts: VecDeque<Restart>,
    /// The phase that goes on, and how many events there were before it.
    pub(super) phase: (u8, u64),
}

/// A shard with what its process keeps for it.
pub(super) struct Node {
    pub(super) shard: Shard,
    pub(super) inbox: VecDeque<PeerBatch>,
    /// Batches ever put into the inbox, and taken out.
    pub(super) enqueued: u64,
    pub(super) taken: u64,
    /// Batches of a turn that is not over.
    pub(super) leaving: VecDeque<(ShardId, PeerBatch)>,
    /// The turn is not over: effects and outputs wait for the batches.
    pub(super) in_turn: bool,
    /// Stuck in the middle of its turn until so many events have passed.
    pub(super) pauses_until: u64,
    /// Sockets that moved here.
    pub(super) arrivals: VecDeque<(usize, Bytes)>,
    /// Sockets by connection.
    pub(super) conns: BTreeMap<u32, usize>,
    pub(super) store: Option<SimStore>,
    /// Up to where the shard was told that its store is durable.
    pub(super) told: u64,
    /// Turns that were written.
    pub(super) turns: u64,
}

impl World {
    pub(super) fn new(plan: Plan, seed: u64, trace: bool) -> World {
        let mut dice = Dice::new(seed);
        let (nodes, oracle) = broker(&mut dice, &plan.setup);
        World {
            oracle,
            restarts: plan.setup.restarts.iter().copied().collect(),
            phase: (0, 0),
            clients: plan.clients.iter().cloned().map(Client::new).collect(),
            scripts: vec![VecDeque::new(); plan.clients.len()],
            plan,
            dice,
            now: 1_000,
            nodes,
            sockets: Vec::new(),
            trace: Trace::new(trace),
            counts: Counts::default(),
            settling: false,
        }
    }

    pub(super) fn instant(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    /// All phases, each with its checks at the end.
    pub(super) fn run(&mut self) {
        self.trace.note(self.now, || format!("{:?}", self.plan.setup));
        for phase in 0..self.plan.setup.phases {
            for (at, step) in self.plan.steps.iter().enumerate() {
                if step.phase == phase {
                    self.scripts[step.client].push_back(at);
                }
            }
            self.trace.note(self.now, || format!("── phase {phase} ──"));
            self.phase = (phase, self.counts.events);
            while self.scripts.iter().any(|script| !script.is_empty()) {
                self.go_on();
                self.restart_if_due(self.counts.events - self.phase.1);
            }
            self.restart_if_due(u64::MAX);
            self.settle();
            self.check_quiet();
        }
        self.finale();
    }

    /// Somebody does something.
    fn go_on(&mut self) {
        self.counts.events += 1;
        assert!(self.counts.events < EVENTS_MAX, "the run does not end");
        let shards = self.nodes.len();
        match self.dice.below(100) {
            0..=54 => {
                let weights = &self.plan.setup.weights[..shards];
                let at = self.dice.weighted(weights);
                if self.nodes[at].pauses_until <= self.counts.events {
                    self.turn(at);
                }
            }
            55..=92 => {
                let client = self.dice.below(self.clients.len());
                self.client_turn(client);
            }
            93..=97 => self.pass_time(),
            _ if self.plan.setup.store == StoreKind::Failing => {
                let at = self.dice.below(shards);
                let fails = self.dice.chance(30);
                self.set_failing(at, fails);
            }
            _ => {}
        }
    }

    fn set_failing(&mut self, at: usize, fails: bool) {
        let Some(store) = &self.nodes[at].store else { return };
        if store.fails() != fails {
            store.fail(fails);
            self.counts.store_failures += u64::from(fails);
            self.oracle.store_fails(at, fails);
            self.trace
                .note(self.now, || format!("shard {at}: its store fails: {fails}"));
        }
    }

    fn pass_time(&mut self) {
        // When everybody waits, time may jump; else it creeps.
        let all_wait = self
            .clients
            .iter()
            .zip(&self.scripts)
            .all(|(client, script)| script.is_empty() || client.sleeps_until > self.now);
        let most = if all_wait { 800 } else { 60 };
        self.now += self.dice.between(1, most) as u64;
        self.oracle.now = self.now;
    }

    /// Faults end, and everything that is under way arrives.
    pub(super) fn settle(&mut self) {
        self.settling = true;
        self.trace.note(self.now, || "── settling ──".to_owned());
        for at in 0..self.nodes.len() {
            self.set_failing(at, false);
        }
        for socket in 0..self.sockets.len() {
            let current = self.sockets[socket]
                .client
                .is_some_and(|client| self.clients[client].socket == Some(socket));
            if !current && !self.sockets[socket].cut {
                self.sockets[socket].cut(0);
            }
        }
        let until = self.counts.events + SETTLING_EVENTS_MAX;
        let mut idle = 0;
        while idle < 2 {
            idle += 1;
            self.settling_event(until);
            let first = self.dice.below(self.nodes.len());
            for n in 0..self.nodes.len() {
                let at = (first + n) % self.nodes.len();
                while self.has_work(at) {
                    self.settling_event(until);
                    self.turn(at);
                    idle = 0;
                    if self.dice.chance(30) {
                        break;
                    }
                }
            }
            for client in 0..self.clients.len() {
                if self.settle_client(client) {
                    idle = 0;
                }
            }
            if idle > 0 && self.held_back().next().is_some() {
                // Two clients that hold each other back: patience ends.
                self.now += 1_000;
                self.oracle.now = self.now;
                idle = 0;
            }
        }
        self.settling = false;
    }

    /// Counts what happens while everything settles, which may not go on for ever: neither may work make work, nor may
    /// somebody wait for something that never comes.
    fn settling_event(&mut self, until: u64) {
        self.counts.events += 1;
        assert!(
            self.counts.events < until,
            "the run does not settle: {}",
            self.under_way().join(", ")
        );
    }

    /// What keeps a run from settling.
    fn under_way(&self) -> Vec<String> {
        let unread = self.held_back().map(|socket| {
            let of = &self.sockets[socket];
            let (bytes, place) = (of.to_broker.len(), of.place);
            format!("{bytes} bytes of socket {socket} are not read ({place:?})")
        });
        let busy = (0..self.nodes.len()).filter(|at| self.has_work(*at));
        let busy = busy.map(|at| format!("shard {at} still has work"));
        let clients = self
            .clients
            .iter()
            .filter(|client| client.has_lost || client.owes_acknowledgements());
        let clients = clients.map(|client| format!("{} waits to go on", client.plan.id));
        unread.chain(busy).chain(clients).collect()
    }

    /// Sockets on which somebody has said something that a shard does not read.
    fn held_back(&self) -> impl Iterator<Item = usize> {
        let unread = |socket: &Socket| !socket.closing && !socket.cut && !socket.to_broker.is_empty();
        let placed = |socket: &Socket| matches!(socket.place, Place::At(..));
        let all = self.sockets.iter().enumerate();
        all.filter(move |(_, socket)| placed(socket) && unread(socket))
            .map(|(at, _)| at)
    }

    /// A client does what is left to do in a quiet system; false if that is nothing.
    fn settle_client(&mut self, client: usize) -> bool {
        let it = &mut self.clients[client];
        it.stalled = false;
        it.holds_back = false;
        it.loses = 0;
        if it.has_lost {
            // Only another connection gets what was not acknowledged.
            let clean = it.plan.clean;
            self.cut(client);
            self.connect(client, clean, 0, None, 1);
            return true;
        }
        let reads = it.socket.is_some_and(|socket| {
            let socket = &self.sockets[socket];
            !socket.to_client.is_empty() || socket.place == Place::Gone
        });
        if reads {
            self.client_reads(client);
        }
        let it = &mut self.clients[client];
        let acknowledges = it.owes_acknowledgements();
        it.acknowledge(usize::MAX);
        self.client_writes(client);
        reads || acknowledges
    }

    /// Everybody comes back, gets what is theirs, and leaves for good: nothing may be left.
    fn finale(&mut self) {
        for client in 0..self.clients.len() {
            let persistent = self.oracle.has_session(&self.clients[client].plan.id);
            if persistent && self.clients[client].link == Link::Down {
                self.connect(client, false, 0, None, 1);
            }
        }
        self.settle();
        self.check_quiet();
        self.oracle.check_complete(&self.stats());
        self.check_retained();
        for client in 0..self.clients.len() {
            self.connect(client, true, 0, None, 1);
        }
        self.settle();
        for client in 0..self.clients.len() {
            self.clients[client].disconnect();
            self.client_writes(client);
        }
        self.settle();
        self.check_quiet();
        let stats = self.stats();
        let left = (stats.sessions, stats.subscriptions, stats.queued, stats.inflight);
        assert_eq!(left, (0, 0, 0, 0), "something of a session is left");
        assert!(self.nodes[0].shard.routes().is_empty(), "routes are left");
        self.count_drops();
        self.counts.milliseconds += self.now - 1_000;
    }

    /// A client that nobody knows asks for everything that is retained.
    fn check_retained(&mut self) {
        let mut witness = self.plan.clients[0].clone();
        witness.id = "witness".to_owned();
        witness.clean = true;
        self.clients.push(Client::new(witness));
        self.scripts.push(VecDeque::new());
        let client = self.clients.len() - 1;
        self.connect(client, true, 0, None, 1);
        self.settle();
        self.clients[client].subscribe(&[("#", 2), ("$data/#", 2)]);
        self.client_writes(client);
        self.settle();
        self.check_quiet();
        let stats = self.stats();
        self.oracle.check_retained("witness", &stats);
    }

    fn check_quiet(&mut self) {
        for node in &self.nodes {
            assert!(
                node.shard.is_quiet() && node.shard.is_flushed(),
                "something is still under way"
            );
            assert_eq!(node.shard.routes(), self.nodes[0].shard.routes(), "the replicas differ");
            node.shard.check_invariants();
        }
        let stats = self.stats();
        self.oracle.check_quiet(&self.nodes[0].shard.routes(), &stats);
    }

    /// Adds what this broker dropped in its life.
    pub(super) fn count_drops(&mut self) {
        let stats = self.stats();
        self.counts.slowed += stats.slowed;
        self.counts.rate_limited += stats.rate_limited;
        for (sum, dropped) in self.counts.drops.iter_mut().zip(stats.dropped) {
            *sum += dropped;
        }
    }

    pub(super) fn stats(&self) -> crate::stats::Stats {
        let mut sum = crate::stats::Stats::default();
        for node in &self.nodes {
            sum += &node.shard.stats();
        }
        sum
    }

    /// What a client does next, by its script.
    pub(super) fn next_action(&self, client: usize) -> Option<&Action> {
        self.scripts[client].front().map(|at| &self.plan.steps[*at].action)
    }
}

impl Node {
    fn new(shard: Shard, store: Option<SimStore>) -> Node {
        Node {
            shard,
            inbox: VecDeque::new(),
            enqueued: 0,
            taken: 0,
            leaving: VecDeque::new(),
            in_turn: false,
            pauses_until: 0,
            arrivals: VecDeque::new(),
            conns: BTreeMap::new(),
            store,
            told: 0,
            turns: 0,
        }
    }
}

/// The shards of a broker that has just begun, and an oracle that knows nothing of an earlier one.
pub(super) fn broker(dice: &mut Dice, setup: &Setup) -> (Vec<Node>, Oracle) {
    let placement_seed = dice.seed();
    let node = |id: u16| {
        let store = (setup.store != StoreKind::Memory).then(SimStore::default);
        let storage: Box<dyn Storage> = match &store {
            Some(store) => Box::new(store.clone()),
            None => Box::new(MemoryStore),
        };
        let config = ShardConfig {
            id: ShardId(id),
            shards: setup.shards,
            placement_seed,
            seed: dice.seed(),
            limits: setup.limits.clone(),
            acl: None,
        };
        Node::new(Shard::new(config, storage), store)
    };
    let nodes: Vec<Node> = (0..setup.shards).map(node).collect();
    let stores = nodes.iter().map(|node| node.store.clone()).collect();
    (nodes, Oracle::new(setup, placement_seed, stores))
}

/// A run of the longest plan takes a tenth of this.
const EVENTS_MAX: u64 = 400_000;
/// Of twenty thousand seeds, none needs a tenth of this.
const SETTLING_EVENTS_MAX: u64 = 100_000;
