//! The sessions of one shard and their connections: where messages leave to clients.
//!
//! A message for a session goes into its connection's output if everything before it has left and there is room in the
//! in-flight window and in the output; else it waits in the session's queue, from which [`Clients::pump`] moves it on.
//! What must happen to others (a slow subscriber's end, a publisher held back) is noted as [`Deferred`], and done by
//! the shard once the delivery at hand is over.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use ahash::RandomState;
use indexmap::IndexSet;
use slab::Slab;

use super::ShardConfig;
use super::access::{Access, Displaced};
use super::authenticate::Admission;
use super::connection::{Connection, Gate, Gated, GatedPacket, Phase, conn_id};
use super::event::{ClientId, ConnId, ShardId};
use super::memory::Memory;
use super::outgoing::{Outgoing, SendFlags, append_message};
use super::output::SpareBuffers;
use super::trace::Tracing;
use crate::access::Right;
use crate::codec::{ConnAck, ConnectReturnCode, Packet, PacketId, QoS, encode};
use crate::error::DropReason;
use crate::hash::table_hasher;
use crate::limits::{Limits, SlowSubscriber};
use crate::message::SharedMessage;
use crate::router::GroupRef;
use crate::session::{Held, Holding, Queued, SentState, Session, SessionKey};
use crate::stats::Stats;
use crate::store::{Lsn, Record, Storage, StoreError};
use crate::time::Instant;

pub(super) struct Clients {
    pub(super) limits: Limits,
    pub(super) own: ShardId,
    pub(super) sessions: Slab<Session>,
    pub(super) by_client: HashMap<ClientId, u32, RandomState>,
    pub(super) connections: Slab<Connection>,
    /// Connections whose output got bytes. Each once: `Connection::dirty`.
    pub(super) dirty: VecDeque<ConnId>,
    /// Connections with packets that wait for a store. Ordered, so that a replay walks it alike.
    pub(super) gated: BTreeSet<ConnId>,
    /// Messages whose storage on other shards is awaited, by token.
    pub(super) awaited: BTreeMap<u64, Awaited>,
    pub(super) spare: SpareBuffers,
    pub(super) stats: Stats,
    pub(super) memory: Memory,
    pub(super) store: Box<dyn Storage>,
    pub(super) deferred: VecDeque<Deferred>,
    pub(super) access: Access,
    /// Messages for members of shared groups who may not read them. Empty between two events.
    pub(super) displaced: VecDeque<Displaced>,
    /// Nothing is ever read back: no records, no waiting.
    pub(super) volatile: bool,
    pub(super) tracing: Tracing,
    hasher: RandomState,
    generations: u32,
}

/// A token's open answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    pub(super) answers: u16,
    /// Whose acknowledgement waits: connection and generation.
    pub(super) conn: (ConnId, u32),
}

/// What a delivery makes necessary elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deferred {
    /// The operator chose to disconnect subscribers that do not keep up.
    DisconnectSlow(SessionKey),
    /// The store refused a Packet Identifier for this session's next message.
    DisconnectUnbound(SessionKey),
    /// Do not read this publisher of another shard for a while.
    Slow(ShardId, SessionKey, Duration),
    /// This connection is not read until then: connection and generation.
    Paused(ConnId, u32, Instant),
    /// Do not read this publisher of another shard.
    Hold(ShardId, SessionKey),
    /// Read it again.
    Release(ShardId, SessionKey),
    /// The client whose answers waited may be read again: connection and generation.
    ReadAgain(ConnId, u32),
    /// The session's patience for held-back publishers ends then.
    Patience(SessionKey, Instant),
}

/// How one session gets a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// Place in the table of sessions.
    pub(super) session: u32,
    /// As granted.
    pub(super) qos: QoS,
    /// A SUBSCRIBE that the message matches still waits for its retained messages, which go first.
    pub(super) hold: bool,
    /// Through which shared group, if through one.
    pub(super) group: Option<GroupRef>,
}

fn memory_share(limits: &Limits, shards: u16) -> usize {
    limits.memory_bytes_max / usize::from(shards)
}

impl Clients {
    pub(super) fn new(config: ShardConfig, store: Box<dyn Storage>) -> Clients {
        let ShardConfig { limits, seed, acl, .. } = config;
        Clients {
            memory: Memory::new(memory_share(&limits, config.shards), seed),
            limits,
            own: config.id,
            sessions: Slab::new(),
            by_client: HashMap::with_hasher(table_hasher(seed)),
            connections: Slab::new(),
            dirty: VecDeque::new(),
            gated: BTreeSet::new(),
            awaited: BTreeMap::new(),
            spare: SpareBuffers::default(),
            stats: Stats::default(),
            volatile: store.is_volatile(),
            store,
            deferred: VecDeque::new(),
            access: Access::new(acl),
            displaced: VecDeque::new(),
            tracing: Tracing::default(),
            hasher: table_hasher(!seed),
            generations: 0,
        }
    }

    pub(super) fn set_limits(&mut self, limits: Limits, shards: u16) {
        self.memory.set_share(memory_share(&limits, shards));
        self.limits = limits;
    }

    pub(super) fn open(&mut self, now: Instant, admission: Admission) -> ConnId {
        let generation = self.next_generation();
        conn_id(self.connections.insert(Connection::new(now, generation, admission)))
    }

    pub(super) fn add_session(&mut self, client_id: ClientId, clean: bool) -> u32 {
        let generation = self.next_generation();
        let session = Session::new(ClientId::clone(&client_id), generation, clean);
        let index = u32::try_from(self.sessions.insert(session)).expect("sessions are limited");
        self.by_client.insert(client_id, index);
        index
    }

    fn next_generation(&mut self) -> u32 {
        self.generations = self.generations.wrapping_add(1);
        self.generations
    }

    pub(super) fn session(&mut self, index: u32) -> &mut Session {
        &mut self.sessions[index as usize]
    }

    pub(super) fn key(&self, index: u32) -> SessionKey {
        SessionKey {
            index,
            generation: self.sessions[index as usize].generation,
        }
    }

    /// The session that a key means, unless it has ended.
    pub(super) fn resolve(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions
            .get_mut(key.index as usize)
            .filter(|session| session.generation == key.generation)
    }

    /// The connection, unless another took its place or it is closing.
    pub(super) fn live_connection(&mut self, (conn, generation): (ConnId, u32)) -> Option<&mut Connection> {
        self.connections
            .get_mut(conn.index())
            .filter(|connection| connection.generation == generation && connection.phase != Phase::Closing)
    }

    /// Gives a message to one session. Returns the number of the record that keeps it, 0 if there is none.
    ///
    /// # Errors
    /// The store refused the record; the session does not get the message.
    pub(super) fn deliver(&mut self, now: Instant, to: Grant, out: &mut Outgoing<'_>) -> Result<Lsn, StoreError> {
        let qos = to.qos.min(out.qos);
        if qos == QoS::AtMostOnce && self.sessions[to.session as usize].conn.is_none() {
            // For a session without connection only QoS 1 and 2 are stored [MQTT-3.1.2-5].
            return Ok(Lsn(0));
        }
        let session = &mut self.sessions[to.session as usize];
        if !self.access.allows(session, Right::Read, out.topic) {
            self.deny_delivery(to.session, out.topic);
            if let Some(group) = to.group {
                self.displace(to.session, group, out.shared());
            }
            return Ok(Lsn(0));
        }
        if self.memory.is_tight(out.size()) && !self.admit(now, to.session, qos, out) {
            return Ok(Lsn(0));
        }
        let session = &mut self.sessions[to.session as usize];
        if qos == QoS::AtMostOnce
            && let Some(conn) = session.conn
        {
            let connection = &mut self.connections[conn.index()];
            let nothing_ahead = session.outbound.qos0_may_overtake() && connection.gated_messages == 0;
            if !to.hold && nothing_ahead && !connection.awaits_connack() {
                if connection.output.len() >= self.limits.output_bytes_max {
                    self.drop_message(to.session, out.topic, DropReason::OutputFull);
                } else {
                    out.append(&mut connection.output, &mut self.spare, qos, None);
                    self.stats.count_sent(qos);
                    mark_dirty(connection, conn, &mut self.dirty, &mut self.memory);
                }
                return Ok(Lsn(0));
            }
        }
        let ready = session.conn.is_some_and(|conn| {
            let connection = &self.connections[conn.index()];
            !connection.awaits_connack() && connection.output.len() < self.limits.output_bytes_max
        });
        let direct = ready
            && !to.hold
            && qos > QoS::AtMostOnce
            && session.outbound.queued() == 0
            && session.outbound.has_room(self.limits.inflight_max);
        if !direct && !self.make_room(to.session, out) {
            return Ok(Lsn(0));
        }
        let session = &mut self.sessions[to.session as usize];
        let (mut lsn, mut message_id) = (Lsn(0), 0);
        if !self.volatile && !session.clean && qos > QoS::AtMostOnce {
            message_id = session.next_message_id();
            let message = &out.shared();
            let record = Record::Queued {
                client_id: &session.client_id,
                message_id,
                qos,
                message,
            };
            let appended = self.store.append(record);
            if appended.is_err() {
                self.drop_message(to.session, out.topic, DropReason::StoreFailed);
            }
            lsn = appended?;
        }
        let session = &mut self.sessions[to.session as usize];
        if direct {
            let queued = Queued {
                message: out.shared(),
                message_id,
                group: to.group,
                qos,
                retain: false,
            };
            self.transmit(to.session, queued, Some(out));
        } else if to.hold {
            session.held.push(Held {
                message: out.shared(),
                message_id,
                qos,
            });
            session.held_bytes += out.size();
            self.stats.queued += 1;
        } else {
            let queued = Queued {
                message: out.shared(),
                message_id,
                group: to.group,
                qos,
                retain: false,
            };
            session.outbound.push(queued);
            self.stats.queued += 1;
            if ready {
                self.pump(to.session);
            } else if let Some(conn) = session.conn {
                self.connections[conn.index()].blocked = true;
            }
        }
        self.recharge_session(to.session);
        if self.limits.slow_subscriber == SlowSubscriber::Backpressure {
            self.hold_back(now, to.session, out);
        }
        Ok(lsn)
    }

    /// Whether the session's queue takes the message; makes room, or notes what must happen, as the operator chose.
    fn make_room(&mut self, index: u32, out: &Outgoing<'_>) -> bool {
        let size = out.size();
        let policy = if self.sessions[index as usize].conn.is_some() {
            self.limits.slow_subscriber
        } else {
            SlowSubscriber::DropNewest
        };
        // Publishers that are held back have what was read from their sockets under way; it finds room beyond the limit.
        let (more_messages, more_bytes) = if policy == SlowSubscriber::Backpressure {
            (usize::MAX, HELD_BACK_BYTES_FACTOR)
        } else {
            (1, 1)
        };
        loop {
            let session = &mut self.sessions[index as usize];
            let waiting = session.outbound.queued_live() + session.held.len();
            let bytes = session.outbound.queued_bytes();
            let fits = waiting < self.limits.queued_messages_max.saturating_mul(more_messages)
                && (waiting == 0 || bytes + size <= self.limits.queued_bytes_max.saturating_mul(more_bytes));
            if fits {
                return true;
            }
            match policy {
                SlowSubscriber::DropOldest if session.outbound.queued() > 0 => {
                    let oldest = session.outbound.pop().expect("the queue is not empty");
                    self.stats.queued -= 1;
                    done(&mut *self.store, self.volatile, session, oldest.message_id);
                    self.drop_message(index, oldest.message.topic(), DropReason::QueueFull);
                    self.recharge_session(index);
                }
                SlowSubscriber::Disconnect => {
                    let key = SessionKey {
                        index,
                        generation: session.generation,
                    };
                    self.deferred.push_back(Deferred::DisconnectSlow(key));
                    self.drop_message(index, out.topic, DropReason::QueueFull);
                    return false;
                }
                _ => {
                    if !fault!(UncountedDrop) {
                        self.drop_message(index, out.topic, DropReason::QueueFull);
                    }
                    return false;
                }
            }
        }
    }

    /// Sends a QoS 1 or 2 message: window, identifier, output. `out` is the same message while it is being routed.
    /// False if the store refuses its identifier: the message goes back to the front of the queue, and the connection
    /// closes; without a working store its client cannot come back before the message can be sent.
    fn transmit(&mut self, index: u32, queued: Queued, out: Option<&mut Outgoing<'_>>) -> bool {
        let session = &mut self.sessions[index as usize];
        let conn = session.conn.expect("only a connected session sends");
        let connection = &mut self.connections[conn.index()];
        let (qos, retain, message_id) = (queued.qos, queued.retain, queued.message_id);
        let message = out.is_none().then(|| SharedMessage::clone(&queued.message));
        let mut gate = Gate::default();
        if qos == QoS::ExactlyOnce && !self.volatile && !session.clean {
            let bound = Record::Bound {
                client_id: &session.client_id,
                message_id,
                packet_id: session.outbound.next_id(),
            };
            let Ok(lsn) = self.store.append(bound) else {
                session.outbound.push_front(queued);
                self.stats.queued += 1;
                let key = self.key(index);
                self.deferred.push_back(Deferred::DisconnectUnbound(key));
                return false;
            };
            gate.lsn = lsn;
        }
        let id = session.outbound.send(queued);
        self.stats.inflight += 1;
        // Messages leave in the order of their identifiers, in which they are sent again [MQTT-4.6.0-1].
        let waits = gate.lsn > self.store.durable() || connection.gated_messages > 0;
        if waits && !fault!(SendUnbound) {
            let packet = GatedPacket::Publish(id);
            connection.gated.push_back(Gated { gate, packet });
            connection.gated_messages += 1;
            self.gated.insert(conn);
            return true;
        }
        match (out, message) {
            (Some(out), _) => out.append(&mut connection.output, &mut self.spare, qos, Some(id)),
            (None, Some(message)) => {
                let flags = SendFlags {
                    dup: false,
                    qos,
                    retain,
                    packet_id: Some(id),
                };
                append_message(&mut connection.output, &mut self.spare, &message, flags);
            }
            (None, None) => unreachable!("one of the two was made above"),
        }
        self.stats.count_sent(qos);
        mark_dirty(connection, conn, &mut self.dirty, &mut self.memory);
        true
    }

    /// Moves what waits in the session's queue to its connection, as far as window and output have room.
    pub(super) fn pump(&mut self, index: u32) {
        let output_bytes_max = self.output_bytes_max();
        loop {
            let session = &mut self.sessions[index as usize];
            let Some(conn) = session.conn else { return };
            let connection = &mut self.connections[conn.index()];
            if connection.awaits_connack() {
                return;
            }
            connection.blocked = false;
            let Some(front) = session.outbound.front() else { break };
            if connection.output.len() >= output_bytes_max {
                connection.blocked = true;
                break;
            }
            let qos = front.qos;
            if !self.access.allows_next(session) {
                // Taken back since it was queued, or its client came as somebody else.
                self.refuse_next(index);
                continue;
            }
            if qos == QoS::AtMostOnce {
                if connection.gated_messages > 0 {
                    // They are older: release() goes on here.
                    break;
                }
                let queued = session.outbound.pop().expect("front() was there");
                self.stats.queued -= 1;
                let flags = SendFlags {
                    dup: false,
                    qos: queued.qos,
                    retain: queued.retain,
                    packet_id: None,
                };
                append_message(&mut connection.output, &mut self.spare, &queued.message, flags);
                self.stats.count_sent(QoS::AtMostOnce);
                mark_dirty(connection, conn, &mut self.dirty, &mut self.memory);
                continue;
            }
            if !session.outbound.has_room(self.limits.inflight_max) {
                break;
            }
            let queued = session.outbound.pop().expect("front() was there");
            self.stats.queued -= 1;
            if fault!(ForgetQueued) {
                continue;
            }
            if fault!(DoneWhenSent) {
                done(&mut *self.store, self.volatile, session, queued.message_id);
            }
            if !self.transmit(index, queued, None) {
                break;
            }
        }
        self.recharge_session(index);
        self.let_go_when_low(index);
    }

    /// Sends everything unfinished again after a CONNECT that resumed the session [MQTT-4.4.0-1], then what waits.
    pub(super) fn resume(&mut self, index: u32) {
        let Some(conn) = self.sessions[index as usize].conn else {
            return;
        };
        let withheld = self.withhold_unreadable(index, conn);
        let session = &mut self.sessions[index as usize];
        let connection = &mut self.connections[conn.index()];
        let unfinished = session.outbound.unfinished().filter(|_| !fault!(ForgetInFlight));
        for (id, sent) in unfinished.filter(|(id, _)| withheld.binary_search(id).is_err()) {
            match (&sent.message, sent.state) {
                (Some(message), state) => {
                    let qos = if state == SentState::PubAck {
                        QoS::AtLeastOnce
                    } else {
                        QoS::ExactlyOnce
                    };
                    // DUP is 1 on every re-delivery [MQTT-3.3.1-1].
                    let flags = SendFlags {
                        dup: !fault!(DropDup),
                        qos,
                        retain: sent.retain,
                        packet_id: Some(id),
                    };
                    append_message(&mut connection.output, &mut self.spare, message, flags);
                    self.stats.count_sent(qos);
                }
                (None, _) => {
                    encode(&Packet::PubRel(id), connection.output.append(&mut self.spare).buffer);
                    self.stats.packets_sent += 1;
                }
            }
            mark_dirty(connection, conn, &mut self.dirty, &mut self.memory);
        }
        self.pump(index);
    }

    /// Sends an acknowledgement, now or once what it promises is durable; never before an earlier one of this connection.
    pub(super) fn answer(&mut self, conn: ConnId, gate: Gate, packet: &Packet<'_>) {
        let output_bytes_max = self.output_bytes_max();
        let connection = &mut self.connections[conn.index()];
        if connection.phase == Phase::Closing {
            return;
        }
        if connection.gated.is_empty() && gate.token == 0 && gate.lsn <= self.store.durable() {
            let before = connection.output.len();
            encode(packet, connection.output.append(&mut self.spare).buffer);
            self.stats.packets_sent += 1;
            connection.answer_bytes += connection.output.len() - before;
            connection.sated |= connection.answer_bytes >= output_bytes_max;
            mark_dirty(connection, conn, &mut self.dirty, &mut self.memory);
            return;
        }
        let mut bytes = Vec::new();
        encode(packet, &mut bytes);
        connection.answer_bytes += bytes.len();
        connection.sated |= connection.answer_bytes >= output_bytes_max;
        connection.gated.push_back(Gated {
            gate,
            packet: GatedPacket::Bytes(bytes.into()),
        });
        self.gated.insert(conn);
    }

    /// Sends CONNACK 0, and with it everything the session has for its client.
    pub(super) fn accept(&mut self, conn: ConnId, lsn: Lsn, session_present: bool) {
        let packet = GatedPacket::ConnAck(session_present);
        let gate = Gate { lsn, token: 0 };
        self.connections[conn.index()].gated.push_back(Gated { gate, packet });
        self.gated.insert(conn);
        self.release(conn);
    }

    /// Sends what no longer waits, in order.
    pub(super) fn release(&mut self, conn: ConnId) {
        let durable = self.store.durable();
        loop {
            let connection = &mut self.connections[conn.index()];
            let Some(next) = connection.gated.front() else {
                self.gated.remove(&conn);
                return;
            };
            if next.gate.lsn > durable || self.awaited.contains_key(&next.gate.token) {
                return;
            }
            let Some(Gated { packet, .. }) = connection.gated.pop_front() else {
                unreachable!("front() was there")
            };
            let index = connection.session();
            match packet {
                GatedPacket::ConnAck(session_present) => {
                    let accepted = ConnAck {
                        session_present,
                        code: ConnectReturnCode::Accepted,
                    };
                    encode(
                        &Packet::ConnAck(accepted),
                        connection.output.append(&mut self.spare).buffer,
                    );
                    self.stats.packets_sent += 1;
                    mark_dirty(connection, conn, &mut self.dirty, &mut self.memory);
                    if let Some(index) = index {
                        self.resume(index);
                    }
                }
                GatedPacket::Bytes(bytes) => {
                    connection
                        .output
                        .append(&mut self.spare)
                        .buffer
                        .extend_from_slice(&bytes);
                    self.stats.packets_sent += 1;
                    mark_dirty(connection, conn, &mut self.dirty, &mut self.memory);
                }
                GatedPacket::Publish(id) => {
                    connection.gated_messages -= 1;
                    let all_left = connection.gated_messages == 0;
                    let Some(index) = index else { continue };
                    self.send_gated(index, conn, id);
                    if all_left {
                        self.pump(index);
                    }
                }
            }
        }
    }

    fn send_gated(&mut self, index: u32, conn: ConnId, id: PacketId) {
        if !self.access.allows_sent(&mut self.sessions[index as usize], id) {
            return self.withhold(index, conn, id);
        }
        let connection = &mut self.connections[conn.index()];
        let Some(sent) = self.sessions[index as usize].outbound.in_flight(id) else {
            return;
        };
        let Some(message) = &sent.message else { return };
        let qos = if sent.state == SentState::PubAck {
            QoS::AtLeastOnce
        } else {
            QoS::ExactlyOnce
        };
        let flags = SendFlags {
            dup: false,
            qos,
            retain: sent.retain,
            packet_id: Some(id),
        };
        append_message(&mut connection.output, &mut self.spare, message, flags);
        self.stats.count_sent(qos);
        mark_dirty(connection, conn, &mut self.dirty, &mut self.memory);
    }

    /// The socket took bytes: there may be room for what waits.
    pub(super) fn written(&mut self, conn: ConnId, bytes: usize) {
        let output_bytes_max = self.output_bytes_max();
        let connection = &mut self.connections[conn.index()];
        connection.output.advance(bytes, &mut self.spare);
        let holds = connection.memory_bytes();
        self.memory.recharge(&mut connection.charged, holds);
        self.stats.bytes_sent += bytes as u64;
        connection.answer_bytes = connection.answer_bytes.saturating_sub(bytes);
        if connection.blocked
            && connection.output.len() <= output_bytes_max / 2
            && let Some(index) = connection.session()
        {
            self.pump(index);
        }
        self.read_again_when_low(conn);
    }

    /// A SUBSCRIBE of the session is not done yet.
    pub(super) fn add_pending_subscribe(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        session.pending_subscribes += 1;
        if let Some(conn) = session.conn
            && session.pending_subscribes >= PENDING_SUBSCRIBES_MAX
        {
            self.connections[conn.index()].sated = true;
        }
    }

    /// A SUBSCRIBE of the session is done.
    pub(super) fn remove_pending_subscribe(&mut self, key: SessionKey) {
        let Some(session) = self.resolve(key) else { return };
        session.pending_subscribes -= 1;
        if let Some(conn) = session.conn {
            self.read_again_when_low(conn);
        }
    }

    /// Reads from a sated client again once little of what it asked for is left to do.
    fn read_again_when_low(&mut self, conn: ConnId) {
        let output_bytes_max = self.output_bytes_max();
        let connection = &mut self.connections[conn.index()];
        if !connection.sated || connection.answer_bytes > output_bytes_max / 2 {
            return;
        }
        let pending = connection
            .session()
            .map_or(0, |index| self.sessions[index as usize].pending_subscribes);
        if pending <= PENDING_SUBSCRIBES_MAX / 2 {
            connection.sated = false;
            let again = Deferred::ReadAgain(conn, connection.generation);
            self.deferred.push_back(again);
        }
    }

    /// Holds the publisher back if this subscriber's queue is over its mark, half of the limit.
    fn hold_back(&mut self, now: Instant, index: u32, out: &Outgoing<'_>) {
        let Some(publisher) = out.publisher else { return };
        let session = &mut self.sessions[index as usize];
        let over = session.outbound.queued_live() >= (self.limits.queued_messages_max / 2).max(1)
            || session.outbound.queued_bytes() >= (self.limits.queued_bytes_max / 2).max(1);
        let publishes_to_itself = out.origin.shard == self.own && publisher.index == index;
        if !over || session.conn.is_none() || publishes_to_itself {
            return;
        }
        let key = SessionKey {
            index,
            generation: session.generation,
        };
        let hasher = &self.hasher;
        let deferred = &mut self.deferred;
        let until = now + self.limits.backpressure_timeout;
        let holding = session.holding.get_or_insert_with(|| {
            deferred.push_back(Deferred::Patience(key, until));
            Box::new(Holding {
                publishers: IndexSet::with_hasher(hasher.clone()),
                until,
            })
        });
        if !holding.publishers.insert((out.origin.shard, publisher)) {
            return;
        }
        if out.origin.shard == self.own {
            // At once: the rest of what it has sent must wait too.
            if let Some(publisher) = self.resolve(publisher) {
                publisher.held_by += 1;
            }
        } else {
            self.deferred.push_back(Deferred::Hold(out.origin.shard, publisher));
        }
    }

    /// Lets held-back publishers go once the queue is down to a quarter of its limit.
    fn let_go_when_low(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        if session.holding.is_some()
            && session.outbound.queued_live() <= self.limits.queued_messages_max / 4
            && session.outbound.queued_bytes() <= self.limits.queued_bytes_max / 4
        {
            self.let_go(index);
        }
    }

    /// Lets held-back publishers go.
    pub(super) fn let_go(&mut self, index: u32) {
        if let Some(holding) = self.sessions[index as usize].holding.take() {
            let releases = holding
                .publishers
                .iter()
                .map(|(shard, publisher)| Deferred::Release(*shard, *publisher));
            self.deferred.extend(releases);
        }
    }
}

/// Times the byte limit that a queue may hold while its publishers are held back: beyond it messages are dropped and
/// counted, since memory is worth more.
const HELD_BACK_BYTES_FACTOR: usize = 4;

/// SUBSCRIBE packets of one session that may wait for other shards, and for retained messages, at a time: more than a client
/// sends in a row, and few enough that what they find fits in memory.
const PENDING_SUBSCRIBES_MAX: u16 = 64;

impl Connection {
    /// Nothing may leave before the CONNACK [MQTT-3.2.0-1].
    pub(super) fn awaits_connack(&self) -> bool {
        matches!(
            self.gated.front(),
            Some(Gated {
                packet: GatedPacket::ConnAck(_),
                ..
            })
        )
    }
}

/// The connection's output got bytes: they are counted, and written at the end of the turn.
#[inline]
pub(super) fn mark_dirty(connection: &mut Connection, conn: ConnId, dirty: &mut VecDeque<ConnId>, memory: &mut Memory) {
    let holds = connection.memory_bytes();
    memory.recharge(&mut connection.charged, holds);
    if !connection.dirty {
        connection.dirty = true;
        dirty.push_back(conn);
    }
}

/// Records that a message has left the session. Losing this record costs a repeated delivery at most, so nobody waits.
pub(super) fn done(store: &mut dyn Storage, volatile: bool, session: &Session, message_id: u64) {
    if !volatile && message_id != 0 {
        let _ = store.append(Record::Done {
            client_id: &session.client_id,
            message_id,
        });
    }
}
