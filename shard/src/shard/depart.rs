//! How a connection ends, and a session.

use super::Shard;
use super::connection::Phase;
use super::event::{ClientId, ConnId, Effect};
use super::timers::Timer;
use crate::codec::{ConnAck, ConnectReturnCode, Packet, encode};
use crate::error::{AuthenticationError, CloseReason, DropReason, SessionError};
use crate::router::GroupRef;
use crate::session::SessionKey;
use crate::store::Record;
use crate::time::Instant;
use crate::topic::TopicName;

impl Shard {
    /// Ends a connection: what waits in its output is still written, its session is left.
    pub(super) fn close(&mut self, now: Instant, conn: ConnId, reason: CloseReason) {
        if self.is_tracing() {
            // While it is known whose it is.
            self.tell_sent(conn);
        }
        let connection = &mut self.clients.connections[conn.index()];
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        if phase == Phase::Closing {
            return;
        }
        connection.tail = Vec::new();
        self.clients
            .memory
            .recharge(&mut connection.charged, connection.output.memory_bytes());
        connection.gated.clear();
        connection.gated_messages = 0;
        self.clients.gated.remove(&conn);
        self.count_close(&reason);
        let client = match phase {
            Phase::Connected { session } => Some(self.leave_session(now, session, &reason)),
            Phase::Opening => {
                self.refuse(conn, &reason);
                None
            }
            Phase::Authenticating { ticket } => {
                self.authenticating.end(ticket);
                self.refuse(conn, &reason);
                None
            }
            Phase::Closing => unreachable!("returned above"),
        };
        if self.is_tracing() {
            self.tell_sent(conn);
            self.tell_closed(conn, reason);
        }
        self.effects.push_back(Effect::Close { conn, client, reason });
    }

    /// The CONNACK of a refused CONNECT, where the specification has one [MQTT-3.2.2-5].
    fn refuse(&mut self, conn: ConnId, reason: &CloseReason) {
        let Some(code) = reason.refusal() else { return };
        debug_assert_ne!(code, ConnectReturnCode::Accepted);
        let connection = &mut self.clients.connections[conn.index()];
        let packet = Packet::ConnAck(ConnAck {
            session_present: false,
            code,
        });
        encode(&packet, connection.output.append(&mut self.clients.spare).buffer);
        self.clients.stats.packets_sent += 1;
        self.clients.stats.refused += 1;
        super::clients::mark_dirty(connection, conn, &mut self.clients.dirty, &mut self.clients.memory);
    }

    fn count_close(&mut self, reason: &CloseReason) {
        let stats = &mut self.clients.stats;
        match reason {
            CloseReason::Codec(_)
            | CloseReason::Protocol(_)
            | CloseReason::Session(SessionError::WrongAcknowledgement { .. }) => stats.violations += 1,
            CloseReason::Session(_) | CloseReason::Authentication(AuthenticationError::TooManyOfUser) => {
                stats.limited += 1;
            }
            CloseReason::KeepAliveTimeout { .. } | CloseReason::ConnectTimeout => stats.timeouts += 1,
            CloseReason::SessionTakeover => stats.takeovers += 1,
            _ => {}
        }
    }

    /// The socket is gone.
    pub(super) fn on_closed(&mut self, now: Instant, conn: ConnId) {
        let Some(connection) = self.clients.connections.get_mut(conn.index()) else {
            return;
        };
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        if self.is_tracing() && phase != Phase::Closing {
            self.tell_closed(conn, CloseReason::ConnectionLost);
        }
        match phase {
            Phase::Connected { session } => drop(self.leave_session(now, session, &CloseReason::ConnectionLost)),
            Phase::Authenticating { ticket } => self.authenticating.end(ticket),
            Phase::Opening | Phase::Closing => {}
        }
        let connection = &mut self.clients.connections[conn.index()];
        connection.output.clear(&mut self.clients.spare);
        self.clients.remove_connection(conn);
        self.clients.gated.remove(&conn);
    }

    /// The connection of a session ends. Its Will is published unless the client said goodbye [MQTT-3.1.2-8]; the session
    /// ends too, or waits for its client.
    fn leave_session(&mut self, now: Instant, index: u32, reason: &CloseReason) -> ClientId {
        let expiry = self.clients.limits.session_expiry;
        let key = self.clients.key(index);
        self.clients.stats.connected -= 1;
        let session = self.clients.session(index);
        session.conn = None;
        session.offline_since = now;
        let client_id = ClientId::clone(&session.client_id);
        let (clean, will) = (session.clean, session.will.take());
        let says_goodbye = matches!(reason, CloseReason::Disconnect | CloseReason::Shutdown);
        let loses_it = fault!(LoseWill) && *reason == CloseReason::SessionTakeover;
        let is_due = (!says_goodbye || fault!(WillAfterGoodbye)) && !loses_it;
        // Judged while it is known whose it is. The connection is closed already, whatever the operator chose.
        let will = will.filter(|will| {
            let topic = TopicName::from_checked(&will.topic);
            is_due && self.may_publish(index, topic).is_ok_and(|may| may)
        });
        self.clients.let_go(index);
        if clean {
            self.end_session(now, index);
        } else {
            self.set_memberships_online(index, false);
            // It keeps its place in its groups; it gives away only to somebody who is there.
            let groups = self.clients.session(index).groups();
            let mut takers: Vec<GroupRef> = groups
                .filter(|group| self.registry.group(*group).has_online())
                .map(|group| self.registry.group_ref(group))
                .collect();
            takers.sort_unstable();
            self.give_away(now, index, Some(&takers), true, false);
            self.set_expiry_timer(now + expiry, key);
        }
        if let Some(will) = will {
            self.publish_will(now, &client_id, &will);
        }
        client_id
    }

    /// Forgets a session that has no connection: subscriptions, messages, identifiers [MQTT-3.1.2-6].
    pub(super) fn end_session(&mut self, now: Instant, index: u32) {
        self.clients.let_go(index);
        let subscriptions = std::mem::take(&mut self.clients.session(index).subscriptions);
        for key in subscriptions {
            self.remove_subscription(index, key);
        }
        // Also of groups that it had left before, when it could still acknowledge what they had sent it.
        self.give_away(now, index, None, true, true);
        let mut session = self.clients.sessions.remove(index as usize);
        self.clients.memory.recharge(&mut session.charged, 0);
        debug_assert!(session.conn.is_none(), "a session ends after its connection");
        self.clients.by_client.remove(&session.client_id);
        let (queued, in_flight) = (
            session.outbound.queued() + session.held.len(),
            session.outbound.unacknowledged(),
        );
        self.clients.stats.queued -= queued as u64;
        self.clients.stats.inflight -= in_flight as u64;
        self.clients
            .stats
            .drop_messages(DropReason::SessionEnded, (queued + in_flight) as u64);
        if !session.clean && !self.clients.volatile {
            // If this record is lost, the session comes back after a restart and expires again.
            let _ = self.clients.store.append(Record::SessionEnded {
                client_id: &session.client_id,
            });
        }
    }

    /// Keeps one expiry timer per session, however often its client comes and goes.
    fn set_expiry_timer(&mut self, at: Instant, key: SessionKey) {
        let expires = !self.clients.limits.session_expiry.is_zero();
        let session = self.clients.session(key.index);
        if expires && !session.expiry_timer {
            session.expiry_timer = true;
            self.timers.set(
                at,
                Timer::SessionExpiry {
                    index: key.index,
                    generation: key.generation,
                },
            );
        }
    }

    /// A session may have waited long enough for its client.
    pub(super) fn on_session_expiry(&mut self, now: Instant, key: SessionKey) {
        let expiry = self.clients.limits.session_expiry;
        let Some(session) = self.clients.resolve(key) else {
            return;
        };
        session.expiry_timer = false;
        // Zero: sessions stay for ever, since the limits were set anew.
        if session.conn.is_some() || expiry.is_zero() {
            return;
        }
        let at = session.offline_since + expiry;
        if now >= at {
            self.end_session(now, key.index);
        } else {
            self.set_expiry_timer(at, key);
        }
    }

    /// The broker stops: no Will is published, no session ends.
    pub(super) fn on_shutdown(&mut self, now: Instant) {
        let all: Vec<ConnId> = self
            .clients
            .connections
            .iter()
            .map(|(index, _)| super::connection::conn_id(index))
            .collect();
        for conn in all {
            self.close(now, conn, CloseReason::Shutdown);
        }
    }
}
