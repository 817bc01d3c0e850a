//! A plain model of the specification, which watches the edge of the broker: the packets that shards are handed, the
//! packets that they write, and how connections end. It panics where the broker breaks a promise.
//!
//! Time is a count of observations. What a shard does with a packet it does when it is handed the packet; when that
//! reaches another shard is known as an interval: from there until that shard has emptied its inbox up to everything
//! that the turn sent. So for each message and session there are three answers: it must be delivered (the subscription stood
//! and was acknowledged before the interval, and stands after it), it may be, or it must not.
//!
//! `connection` follows connections, sessions and Wills, `inbound` what clients send, `delivery` who must get a message, `outbound`
//! what clients get, `quiet` looks at everything when nothing is under way, and `records` at what a restart would find then.

mod connection;
mod delivery;
mod inbound;
mod model;
mod outbound;
mod quiet;
mod records;

use std::collections::{BTreeMap, VecDeque};

use model::{Conn, Message, Session};

use super::setup::Setup;
use super::store::SimStore;
use crate::codec::Packet;
use crate::hash::home;

/// A message that may not have arrived on a shard yet.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// It has, once the shard took so many batches out of its inbox.
    until: u64,
    message: usize,
    from: u64,
}

/// See the module's head.
pub(super) struct Oracle {
    setup: Setup,
    placement_seed: u64,
    stores: Vec<Option<SimStore>>,
    /// When each store last refused records; `u64::MAX`: it does.
    failing: Vec<u64>,
    /// Simulated time, in milliseconds.
    pub(super) now: u64,
    /// The number of this observation.
    at: u64,
    conns: Vec<Conn>,
    sessions: Vec<Session>,
    /// Live sessions by Client Identifier.
    current: BTreeMap<String, usize>,
    messages: Vec<Message>,
    /// Messages by payload; empty ones are not in it.
    numbers: BTreeMap<Vec<u8>, usize>,
    windows: Vec<VecDeque<Window>>,
    /// Batches that each shard has taken out of its inbox.
    taken_by: Vec<u64>,
    /// Per shard: routed in the turn that is not over.
    fresh: Vec<Vec<(usize, u64)>>,
    /// Shards that may not have got a message yet.
    open_windows: BTreeMap<usize, usize>,
    /// Messages owed to groups: group, filter, message, when.
    group_owed: Vec<(String, usize)>,
    /// Per group (as clients write it): when a member left, a connection or the group, or its session ended.
    departures: BTreeMap<String, Vec<(u64, bool)>>,
    forbidden: u64,
    /// Deliveries that were owed and did not come: some limit's doing, if it was counted.
    missing: Vec<String>,
    /// The broker closes its connections.
    pub(super) stopping: bool,
}

impl Oracle {
    pub(super) fn new(setup: &Setup, placement_seed: u64, stores: Vec<Option<SimStore>>) -> Oracle {
        let shards = usize::from(setup.shards);
        Oracle {
            setup: setup.clone(),
            placement_seed,
            stores,
            failing: vec![0; shards],
            now: 1_000,
            at: 1,
            conns: Vec::new(),
            sessions: Vec::new(),
            current: BTreeMap::new(),
            messages: Vec::new(),
            numbers: BTreeMap::new(),
            windows: vec![VecDeque::new(); shards],
            taken_by: vec![0; shards],
            fresh: vec![Vec::new(); shards],
            open_windows: BTreeMap::new(),
            group_owed: Vec::new(),
            departures: BTreeMap::new(),
            forbidden: 0,
            missing: Vec::new(),
            stopping: false,
        }
    }

    /// The broker begins at this time; the sockets so far belonged to an earlier one.
    pub(super) fn begins_at(&mut self, now: u64, sockets: usize) {
        self.now = now;
        let gone = Conn {
            over: true,
            ..Conn::default()
        };
        self.conns = vec![gone; sockets];
    }

    /// A shard was handed a packet.
    pub(super) fn packet_in(&mut self, socket: usize, packet: &Packet<'_>) {
        self.at += 1;
        if let Packet::Connect(connect) = packet {
            return self.connecting(socket, connect);
        }
        let conn = &self.conns[socket];
        let Some(session) = conn.session.filter(|_| !conn.over) else {
            return;
        };
        match packet {
            Packet::Publish(publish) => self.on_publish(socket, session, publish),
            Packet::PubRel(id) => self.on_pubrel(socket, session, id.value()),
            Packet::PubAck(id) => self.on_puback(session, id.value()),
            Packet::PubRec(id) => self.on_pubrec(socket, session, id.value()),
            Packet::PubComp(id) => self.on_pubcomp(session, id.value()),
            Packet::Subscribe(subscribe) => self.on_subscribe(socket, session, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(socket, session, unsubscribe),
            Packet::PingReq => self.conns[socket].replies.push_back(model::Reply::PingResp),
            _ => {}
        }
    }

    /// A shard wrote a packet to its socket.
    pub(super) fn packet_out(&mut self, socket: usize, packet: &Packet<'_>) {
        self.at += 1;
        self.check_out(socket, packet);
    }

    /// All batches of a shard's turn are in the inboxes, which have had so many.
    pub(super) fn turn_left(&mut self, shard: usize, enqueued: &[u64]) {
        for (message, from) in std::mem::take(&mut self.fresh[shard]) {
            for (to, until) in enqueued.iter().enumerate() {
                if to != shard {
                    *self.open_windows.entry(message).or_default() += 1;
                    let until = *until;
                    self.windows[to].push_back(Window { until, message, from });
                }
            }
            self.settle_message(message);
        }
        // Nothing may be left in an inbox that is through already.
        for to in 0..enqueued.len() {
            self.close_windows(to);
        }
    }

    /// A shard has taken so many batches out of its inbox.
    pub(super) fn taken(&mut self, shard: usize, taken: u64) {
        self.at += 1;
        self.taken_by[shard] = taken;
        self.close_windows(shard);
    }

    /// A shard's store begins or ceases to refuse records.
    pub(super) fn store_fails(&mut self, shard: usize, fails: bool) {
        self.at += 1;
        self.failing[shard] = if fails { u64::MAX } else { self.at };
    }

    fn close_windows(&mut self, shard: usize) {
        while let Some(window) = self.windows[shard].front().copied() {
            if window.until > self.taken_by[shard] {
                break;
            }
            self.windows[shard].pop_front();
            self.arrived(shard, window.message, window.from);
            let open = self.open_windows.get_mut(&window.message).expect("was opened");
            *open -= 1;
            self.settle_message(window.message);
        }
    }

    fn settle_message(&mut self, message: usize) {
        if self.open_windows.get(&message).is_none_or(|open| *open == 0) {
            self.messages[message].settled = Some(self.at);
        }
    }

    /// The shard where everything of a client is.
    fn home(&self, client: &str) -> usize {
        home(client, self.setup.shards, self.placement_seed).index()
    }

    /// Whether the client has a session that outlives its connection.
    pub(super) fn has_session(&self, client: &str) -> bool {
        self.current
            .get(client)
            .is_some_and(|session| !self.sessions[*session].clean)
    }
}
