//! CONNECT: who it is, where it lives, which session it gets (section 3.1).

use std::time::Duration;

use super::Shard;
use super::clients::Clients;
use super::connection::Phase;
use super::event::{ClientId, ConnId, Effect};
use super::publish::belongs_to_broker;
use super::receive::Stop;
use crate::codec::Connect;
use crate::error::{CloseReason, ProtocolError, SessionError};
use crate::session::{Identity, SubscriptionKey, WillMessage};
use crate::store::{Lsn, Record};
use crate::time::Instant;
use crate::topic::TopicName;

impl Shard {
    /// Accepts the client, or returns why its CONNECT cannot be handled yet, or here.
    ///
    /// # Errors
    /// The connection closes, with the CONNACK that the reason asks for.
    pub(super) fn on_connect(
        &mut self,
        now: Instant,
        conn: ConnId,
        connect: &Connect<'_>,
    ) -> Result<Option<Stop>, CloseReason> {
        let limit = self.clients.limits.client_id_bytes_max;
        let refused = ProtocolError::InvalidClientId {
            got: connect.client_id.len(),
            limit,
        };
        if connect.client_id.len() > limit {
            return Err(refused.into());
        }
        if connect.client_id.is_empty() {
            // An empty one stands for a session that nobody can come back to [MQTT-3.1.3-8].
            if !connect.clean_session {
                return Err(refused.into());
            }
        } else {
            let home = self.placement.home(connect.client_id);
            if home != self.id {
                return Ok(Some(Stop::Move(home)));
            }
        }
        if self.is_tracing() {
            // A copy: if one packet is lent to a function that is not inlined, all packets must lie in memory, which costs a small
            // PUBLISH a sixth of its time.
            self.tell_connect(conn, &connect.clone());
        }
        if !self.admit(conn, connect)? {
            return Ok(Some(Stop::Verify));
        }
        let client_id: ClientId = if connect.client_id.is_empty() {
            self.generate_client_id()
        } else {
            connect.client_id.into()
        };
        let verified = self.clients.connections[conn.index()].admission.verified();
        let identity = Identity::new(&client_id, verified);
        let will = self.check_will(connect, &client_id, &identity)?;
        self.clients.stats.packets_received += 1;

        self.supersede(now, &client_id, conn);
        if let Some(&index) = self.clients.by_client.get(&client_id) {
            // The older connection goes, abnormally: its Will is published [MQTT-3.1.4-2].
            if let Some(old) = self.clients.session(index).conn {
                self.close(now, old, CloseReason::SessionTakeover);
            }
        }
        let (index, session_present) = self.take_session(now, &client_id, connect.clean_session)?;
        let recorded = if connect.clean_session || self.clients.volatile {
            Ok(Lsn(0))
        } else {
            self.clients
                .store
                .append(Record::SessionStarted { client_id: &client_id })
        };
        let lsn = match recorded {
            Ok(lsn) => lsn,
            Err(error) => {
                if !session_present {
                    // No connection will ever leave it, so nothing else would end it.
                    self.end_session(now, index);
                }
                return Err(error.into());
            }
        };

        let session = self.clients.session(index);
        session.identity = identity;
        session.conn = Some(conn);
        if fault!(ForgetInbound) {
            session.inbound = None;
        }
        session.will = will;
        let silence_max = self.clients.silence_max(connect.keep_alive);
        let connection = &mut self.clients.connections[conn.index()];
        connection.phase = Phase::Connected { session: index };
        self.clients.stats.connected += 1;
        connection.keep_alive = u16::try_from(silence_max.as_millis() / 1_500).unwrap_or(u16::MAX);
        connection.silence_max = silence_max;
        if !silence_max.is_zero() {
            self.set_connection_timer(now + silence_max, conn);
        }
        self.set_memberships_online(index, true);
        self.clients.stats.connects += 1;
        self.effects.push_back(Effect::Connected {
            conn,
            client: client_id,
            session_present,
        });
        self.clients.accept(conn, lsn, session_present);
        Ok(None)
    }

    /// The session that the client continues, or a new one [MQTT-3.1.2-4] [MQTT-3.1.2-6]; and whether it continues.
    fn take_session(&mut self, now: Instant, client_id: &ClientId, clean: bool) -> Result<(u32, bool), CloseReason> {
        match self.clients.by_client.get(client_id) {
            Some(&index) if !clean || fault!(ResumeClean) => return Ok((index, true)),
            Some(&index) => self.end_session(now, index),
            None => {}
        }
        let limit = self.clients.limits.sessions_max;
        if self.clients.sessions.len() >= limit {
            return Err(SessionError::TooManySessions { limit }.into());
        }
        Ok((self.clients.add_session(ClientId::clone(client_id), clean), false))
    }

    /// The Will to keep, if the client may publish it as things are; that is judged again when it is due.
    fn check_will(
        &mut self,
        connect: &Connect<'_>,
        client_id: &ClientId,
        identity: &Identity,
    ) -> Result<Option<Box<WillMessage>>, ProtocolError> {
        let Some(will) = &connect.will else { return Ok(None) };
        let topic = TopicName::new(will.topic, &self.clients.limits.topic).map_err(ProtocolError::InvalidTopicName)?;
        if belongs_to_broker(topic) {
            return Err(ProtocolError::ForbiddenWill);
        }
        if !self.may_have_will(client_id, identity, topic)? {
            return Ok(None);
        }
        Ok(Some(Box::new(WillMessage {
            topic: will.topic.into(),
            payload: will.message.into(),
            qos: will.qos,
            retain: will.retain,
        })))
    }

    /// A Client Identifier that no client has, whose home is here [MQTT-3.1.3-6].
    fn generate_client_id(&mut self) -> ClientId {
        loop {
            let id = format!("ringmq-{:016x}{:016x}", self.random.next(), self.random.next());
            if self.placement.home(&id) == self.id && !self.clients.by_client.contains_key(id.as_str()) {
                return id.into();
            }
        }
    }

    /// Tells the shared groups of a session that its client came or went.
    pub(super) fn set_memberships_online(&mut self, index: u32, online: bool) {
        let groups: Vec<_> = self.clients.session(index).groups().collect();
        for group in groups {
            self.registry.set_online(group, index, online);
            self.announce_members(group, 0);
        }
    }

    /// Publishes a Will, as if its client had.
    pub(super) fn publish_will(&mut self, now: Instant, client_id: &str, will: &WillMessage) {
        let topic = TopicName::from_checked(&will.topic);
        let mut out = super::outgoing::Outgoing::borrowed(topic, &will.payload, None, will.qos, will.retain);
        let sticky = self.sticky(client_id);
        // Nobody waits for an acknowledgement; what the store refused is counted.
        let _ = self.route(now, &mut out, sticky, None);
    }
}

impl Clients {
    /// 1.5 times the Keep Alive [MQTT-3.1.2-24], or what the operator grants at most. Zero: for ever.
    fn silence_max(&self, keep_alive: u16) -> Duration {
        // An instant is cut to the millisecond before it; one more makes sure that no deadline is early.
        let asked = match keep_alive {
            0 => Duration::ZERO,
            seconds => Duration::from_millis(u64::from(seconds) * 1_500 + 1),
        };
        let granted = self.limits.keep_alive_max * 3 / 2;
        match (asked.is_zero(), granted.is_zero()) {
            (_, true) => asked,
            (true, false) => granted,
            (false, false) => asked.min(granted),
        }
    }
}

impl crate::session::Session {
    /// The shared groups it is a member of.
    pub(super) fn groups(&self) -> impl Iterator<Item = crate::router::GroupId> + '_ {
        self.subscriptions.iter().filter_map(|key| match key {
            SubscriptionKey::Group(group) => Some(*group),
            SubscriptionKey::Filter(_) => None,
        })
    }
}
