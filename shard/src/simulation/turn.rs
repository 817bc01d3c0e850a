//! A shard's turn as its process would run it: events in, batches out, then effects and writing. Between two batches, and
//! before the writing, others may run.

use super::network::Place;
use super::world::{Node, World};
use crate::codec::decode;
use crate::error::{CloseReason, SessionError};
use crate::shard::{ConnId, Effect, Event, Followed, FollowedTopic, Pass, Trace, TraceId};
use crate::store::{Lsn, Storage};

/// Something that a shard's process can hand to it.
#[derive(Clone, Copy, Debug)]
enum Input {
    /// The next batch of the inbox.
    Batch,
    /// Bytes of this socket.
    Read(usize),
    /// This socket broke, or has been closed.
    Closed(usize),
    /// A socket that moved here.
    Arrival,
    /// The store gets on with its work.
    Sync,
    /// The store says how far it has got.
    Durable,
    Tick,
}

impl Node {
    /// Somebody follows all topics in every other hundred turns, and one client in every other seventy: nothing may come of that but
    /// records, and outputs must be such that they can be read again.
    fn follow(&mut self, client: &str) {
        self.turns += 1;
        let everything = Followed::Topic(FollowedTopic::new("#").expect("a Topic Filter"));
        let follow = [(100, everything), (70, Followed::Client(client.into()))];
        for (id, (turns, followed)) in (0..).map(TraceId).zip(follow) {
            let trace = Trace {
                id,
                followed,
                payload_bytes_max: 8,
                records_max: 1_000,
            };
            match self.turns % (2 * turns) {
                0 => drop(self.shard.end_trace(id)),
                begins if begins == turns => self.shard.trace(trace).expect("there are two at most"),
                _ => {}
            }
        }
        while self.shard.poll_traced().is_some() {}
        self.shard.begin_traced_second().for_each(drop);
    }
}

impl World {
    /// Some of a turn.
    pub(super) fn turn(&mut self, at: usize) {
        if !self.nodes[at].in_turn {
            for _ in 0..self.dice.pick(&[1, 1, 2, 3, 8]) {
                let inputs = self.inputs(at);
                if inputs.is_empty() {
                    break;
                }
                let input = self.dice.pick(&inputs);
                self.input(at, input);
            }
            self.nodes[at].in_turn = true;
            self.collect(at);
        }
        while let Some((to, batch)) = self.nodes[at].leaving.pop_front() {
            let to = &mut self.nodes[to.index()];
            to.inbox.push_back(batch);
            to.enqueued += 1;
            if self.dice.chance(self.plan.setup.slow_leave) {
                self.counts.split_turns += 1;
                if self.dice.chance(30) {
                    self.nodes[at].pauses_until = self.counts.events + self.dice.between(10, 300) as u64;
                }
                return;
            }
        }
        self.end_turn(at);
    }

    /// Whether a turn would do anything.
    pub(super) fn has_work(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let writable = |socket: &usize| {
            let room = self.plan.setup.pipe_bytes > self.sockets[*socket].to_client.len();
            match self.sockets[*socket].place {
                Place::At(_, conn) => room && !node.shard.output(conn).is_empty(),
                _ => false,
            }
        };
        node.in_turn || !self.inputs(at).is_empty() || node.conns.values().any(writable)
    }

    fn inputs(&self, at: usize) -> Vec<Input> {
        let node = &self.nodes[at];
        let mut inputs = Vec::new();
        if !node.inbox.is_empty() {
            inputs.push(Input::Batch);
        }
        for socket in node.conns.values() {
            let (of, number) = (&self.sockets[*socket], *socket);
            let Place::At(_, conn) = of.place else { continue };
            if of.closing {
                if of.cut || self.settling || node.shard.output(conn).is_empty() {
                    inputs.push(Input::Closed(number));
                }
            } else if !of.to_broker.is_empty() && node.shard.may_read(conn) {
                inputs.push(Input::Read(number));
            } else if of.cut {
                inputs.push(Input::Closed(number));
            }
        }
        if !node.arrivals.is_empty() {
            inputs.push(Input::Arrival);
        }
        if let Some(store) = &node.store {
            if store.is_behind() {
                inputs.push(Input::Sync);
            }
            if store.durable().0 > node.told {
                inputs.push(Input::Durable);
            }
        }
        if node.shard.next_deadline().is_some_and(|at| at <= self.instant()) {
            inputs.push(Input::Tick);
        }
        inputs
    }

    fn input(&mut self, at: usize, input: Input) {
        let now = self.instant();
        match input {
            Input::Batch => {
                let batch = self.nodes[at].inbox.pop_front().expect("was looked for");
                self.trace.note(self.now, || format!("shard {at} ◄ {batch:?}"));
                self.nodes[at].shard.handle(now, Event::Peer(batch));
                self.observe(at, None, &[]);
                self.nodes[at].taken += 1;
                let taken = self.nodes[at].taken;
                self.oracle.taken(at, taken);
            }
            Input::Read(socket) => self.read(at, socket),
            Input::Closed(socket) => {
                let Place::At(_, conn) = self.sockets[socket].place else {
                    return;
                };
                self.trace
                    .note(self.now, || format!("shard {at}: socket {socket} is gone"));
                if !self.sockets[socket].closing {
                    self.oracle.lost(socket);
                }
                self.nodes[at].shard.handle(now, Event::Closed { conn });
                self.nodes[at].conns.remove(&conn.0);
                self.sockets[socket].place = Place::Gone;
                self.observe(at, None, &[]);
            }
            Input::Arrival => {
                let (socket, received) = self.nodes[at].arrivals.pop_front().expect("was looked for");
                self.place(at, socket);
                let frames = self.sockets[socket].tap_in(&received);
                self.hand_over(at, socket, &received, &frames);
            }
            Input::Sync => {
                let count = self.dice.between(1, 10);
                if let Some(store) = &self.nodes[at].store {
                    store.sync_some(if self.settling { usize::MAX / 2 } else { count });
                }
            }
            Input::Durable => {
                let lsn = self.nodes[at].store.as_ref().map_or(Lsn(0), Storage::durable);
                self.nodes[at].told = lsn.0;
                self.trace
                    .note(self.now, || format!("shard {at}: durable up to {}", lsn.0));
                self.nodes[at].shard.handle(now, Event::Durable(lsn));
                self.observe(at, None, &[]);
            }
            Input::Tick => {
                let due = self.nodes[at].shard.next_deadline();
                self.trace
                    .note(self.now, || format!("shard {at}: a deadline is due: {due:?}"));
                self.nodes[at].shard.handle(now, Event::Tick);
                self.observe(at, None, &[]);
                self.oracle.ticked(at);
            }
        }
        self.nodes[at].shard.check_invariants();
    }

    /// Makes the socket a connection of this shard.
    pub(super) fn place(&mut self, at: usize, socket: usize) {
        let now = self.instant();
        let conn = self.nodes[at].shard.open(now);
        self.nodes[at].conns.insert(conn.0, socket);
        self.sockets[socket].place = Place::At(at, conn);
        self.oracle.opened(socket, at);
    }

    fn read(&mut self, at: usize, socket: usize) {
        let of = &self.sockets[socket];
        let (waiting, whole) = (of.to_broker.len(), of.packet_end());
        let one_packet = self.plan.setup.one_packet;
        let count = match self.dice.below(4) {
            _ if one_packet && self.dice.chance(80) => whole,
            0 => waiting,
            1 => whole,
            _ => self.dice.between(1, waiting.min(200)),
        };
        let count = if one_packet { count.min(whole) } else { count };
        if count < whole {
            self.counts.split_packets += 1;
        }
        let (bytes, frames) = self.sockets[socket].read(count);
        self.hand_over(at, socket, &bytes, &frames);
    }

    fn hand_over(&mut self, at: usize, socket: usize, bytes: &[u8], frames: &[Vec<u8>]) {
        let Place::At(_, conn) = self.sockets[socket].place else {
            return;
        };
        for frame in frames {
            self.trace.packet(self.now, socket, at, "►", frame);
        }
        let now = self.instant();
        self.nodes[at].shard.handle(now, Event::Bytes { conn, bytes });
        let progress = self.sockets[socket].unfinished() >= 1_024;
        self.oracle.heard(socket, !frames.is_empty(), progress);
        self.observe(at, Some(socket), frames);
    }

    /// Tells the oracle what the shard was given and what it made of it, in the order in which it happened.
    pub(super) fn observe(&mut self, at: usize, socket: Option<usize>, frames: &[Vec<u8>]) {
        let mut effects = Vec::new();
        while let Some(effect) = self.nodes[at].shard.poll_effect() {
            effects.push(effect);
        }
        let conn = socket.map(|socket| self.sockets[socket].place);
        let moved =
            |effect: &Effect| matches!(effect, Effect::Move { conn: of, .. } if Some(Place::At(at, *of)) == conn);
        let mut frames = frames;
        // Packets come one at a time where memory is short or publishing has a rate, and the last was a PUBLISH that nobody took.
        let refused = |effect: &Effect| {
            matches!(effect, Effect::Close { conn: of, reason: CloseReason::Session(
                    SessionError::MemoryFull { .. } | SessionError::RateExceeded { .. }), .. }
                if Some(Place::At(at, *of)) == conn)
        };
        if effects.iter().any(refused)
            && let [handled @ .., _] = frames
        {
            frames = handled;
        }
        if let Some(socket) = socket {
            if effects.iter().any(moved) {
                frames = &[];
            } else if !self.oracle.is_connected(socket)
                && let [first, rest @ ..] = frames
            {
                // What CONNECT did comes before what followed it.
                self.packet_in(socket, first);
                frames = rest;
                let own = |effect: &Effect| match effect {
                    Effect::Connected { conn: of, .. } | Effect::Close { conn: of, .. } => {
                        Some(Place::At(at, *of)) == conn
                    }
                    _ => false,
                };
                let until = effects.iter().position(own).map_or(0, |at| at + 1);
                for effect in effects.drain(..until).collect::<Vec<_>>() {
                    self.on_effect(at, &effect);
                }
            }
            for frame in frames {
                self.packet_in(socket, frame);
            }
        }
        for effect in effects {
            self.on_effect(at, &effect);
        }
    }

    fn packet_in(&mut self, socket: usize, frame: &[u8]) {
        let decoded = decode(frame, usize::MAX).expect("it was decoded before");
        self.oracle.packet_in(socket, &decoded.expect("it is whole").packet);
    }

    /// Notes an effect. Connections that close or move take nothing more from here on.
    fn on_effect(&mut self, at: usize, effect: &Effect) {
        match effect {
            Effect::Connected {
                conn,
                client,
                session_present,
            } => {
                let socket = self.nodes[at].conns[&conn.0];
                self.oracle.connected(socket, client, *session_present);
            }
            Effect::Close { conn, reason, .. } => {
                let socket = self.nodes[at].conns[&conn.0];
                self.trace
                    .note(self.now, || format!("shard {at} closes socket {socket}: {reason}"));
                *self.counts.closes.entry(reason.label()).or_default() += 1;
                self.oracle.closed(socket, reason);
                self.sockets[socket].closing = true;
            }
            Effect::Move {
                conn, home, received, ..
            } => {
                let socket = self.nodes[at].conns.remove(&conn.0).expect("it was open");
                self.trace
                    .note(self.now, || format!("socket {socket} moves from {at} to {home}"));
                self.sockets[socket].rewind();
                self.oracle.moves(socket);
                self.counts.moves += 1;
                self.nodes[home.index()].arrivals.push_back((socket, received.clone()));
            }
            Effect::ResumeReading { conn } => {
                let socket = self.nodes[at].conns[&conn.0];
                self.oracle.heard(socket, true, true);
            }
            Effect::Authenticate { .. } | Effect::Enter { .. } => {
                unreachable!("these connections are open to everyone")
            }
            Effect::Denied { .. } => unreachable!("there is no access control list"),
        }
    }

    /// The turn's batches so far, in the order in which they leave.
    pub(super) fn collect(&mut self, at: usize) {
        for pass in Pass::ALL {
            while let Some((to, batch)) = self.nodes[at].shard.poll_batch(pass) {
                self.trace
                    .note(self.now, || format!("shard {at} ► shard {to} {pass:?}: {batch:?}"));
                self.nodes[at].leaving.push_back((to, batch));
            }
        }
    }

    /// All batches have left: writing comes last. What writing leads to leaves at once.
    fn end_turn(&mut self, at: usize) {
        self.batches_left(at);
        let client = self.plan.clients.first().map_or("", |client| &client.id);
        self.nodes[at].follow(client);
        loop {
            while self.nodes[at].shard.poll_dirty().is_some() {}
            let sockets: Vec<usize> = self.nodes[at].conns.values().copied().collect();
            for socket in sockets {
                self.write(at, socket);
            }
            self.collect(at);
            while let Some((to, batch)) = self.nodes[at].leaving.pop_front() {
                self.nodes[to.index()].inbox.push_back(batch);
                self.nodes[to.index()].enqueued += 1;
            }
            self.batches_left(at);
            if self.nodes[at].shard.is_flushed() {
                break;
            }
        }
        self.nodes[at].in_turn = false;
    }

    fn batches_left(&mut self, at: usize) {
        let marks: Vec<u64> = self.nodes.iter().map(|node| node.enqueued).collect();
        self.oracle.turn_left(at, &marks);
    }

    fn write(&mut self, at: usize, socket: usize) {
        let Place::At(_, conn) = self.sockets[socket].place else {
            return;
        };
        loop {
            let room = self
                .plan
                .setup
                .pipe_bytes
                .saturating_sub(self.sockets[socket].to_client.len());
            let count = self.nodes[at].shard.output(conn).first_chunk().len().min(room);
            if count == 0 {
                return;
            }
            let count = if self.dice.chance(30) {
                self.dice.between(1, count)
            } else {
                count
            };
            self.write_some(at, socket, conn, count);
        }
    }

    fn write_some(&mut self, at: usize, socket: usize, conn: ConnId, count: usize) {
        let bytes = self.nodes[at].shard.output(conn).first_chunk()[..count].to_vec();
        for frame in self.sockets[socket].write(&bytes) {
            self.trace.packet(self.now, socket, at, "◄", &frame);
            let decoded = decode(&frame, usize::MAX).expect("it was decoded before");
            self.oracle.packet_out(socket, &decoded.expect("it is whole").packet);
        }
        let now = self.instant();
        self.nodes[at].shard.written(now, conn, count);
        self.observe(at, None, &[]);
    }
}
