//! What the access control list says about the clients of this shard, and what follows from a no.
//!
//! It is asked when a client publishes (and again when it releases a QoS 2 message), when it subscribes, and whenever a message
//! is about to leave to it: live, out of the queue, retained, or sent again. So a list that takes the place of another counts from
//! the next message on, also for what waits already.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Shard;
use super::authenticate::UserName;
use super::clients::{Clients, Deferred, done};
use super::connection::Gate;
use super::event::{ClientId, ConnId, Effect};
use super::trace::shortened;
use crate::access::{Acl, Right, Who};
use crate::codec::{Packet, PacketId};
use crate::error::{Denial, ProtocolError};
use crate::limits::DeniedPublish;
use crate::message::SharedMessage;
use crate::router::GroupRef;
use crate::session::{Acknowledged, Identity, SentState, Session, SessionKey, SubscriptionKey};
use crate::stats::Stats;
use crate::store::Record;
use crate::time::Instant;
use crate::topic::{Subscription, TopicName};

/// The list in force, and who is to be told about what it denied.
#[derive(Debug)]
pub(super) struct Access {
    /// `None`: everybody may do everything.
    acl: Option<Arc<Acl>>,
    /// Which list it is: what sessions found out about another is void. Never 0.
    version: u32,
    /// Denials to tell, some of each kind and second.
    told: VecDeque<Effect>,
    /// Per [`Denial`]: told in this second.
    told_in_window: [u32; Denial::ALL.len()],
    /// Per [`Denial`]: not told since one was.
    untold: [u64; Denial::ALL.len()],
    window_start: Instant,
}

/// A message that was chosen for a member of a shared group who may not read it.
#[derive(Debug)]
pub(super) struct Displaced {
    member: SessionKey,
    group: GroupRef,
    message: SharedMessage,
}

impl Access {
    pub(super) fn new(acl: Option<Arc<Acl>>) -> Access {
        Access {
            acl,
            version: 1,
            told: VecDeque::new(),
            told_in_window: [0; Denial::ALL.len()],
            untold: [0; Denial::ALL.len()],
            window_start: Instant::default(),
        }
    }

    /// Whether there is nothing to ask.
    #[inline]
    pub(super) fn is_open_to(&self, session: &Session) -> bool {
        self.acl.is_none() && session.identity.own.is_none()
    }

    /// The list that says what the session's client may do; `None`: there is none, and everything is allowed. Two comparisons then.
    #[inline]
    fn list_for<'a>(&'a self, session: &'a mut Session) -> Option<(&'a Acl, &'a Session)> {
        if session.identity.own.is_some() {
            let session = &*session;
            return session.identity.own.as_deref().map(|own| (own, session));
        }
        let acl = self.acl.as_deref()?;
        self.identify(acl, session);
        Some((acl, session))
    }

    /// Whether the session's client may do this.
    #[inline]
    pub(super) fn allows(&self, session: &mut Session, right: Right, topic: TopicName<'_>) -> bool {
        let list = self.list_for(session);
        list.is_none_or(|(acl, session)| acl.allows(who(session), right, topic))
    }

    /// Whether the client may read the message that is next in the session's queue.
    #[inline]
    pub(super) fn allows_next(&self, session: &mut Session) -> bool {
        let Some((acl, session)) = self.list_for(session) else {
            return true;
        };
        let next = session.outbound.front();
        next.is_none_or(|next| acl.allows(who(session), Right::Read, next.message.topic()))
    }

    /// Whether the client may read the message in flight with this identifier.
    pub(super) fn allows_sent(&self, session: &mut Session, id: PacketId) -> bool {
        let Some((acl, session)) = self.list_for(session) else {
            return true;
        };
        let message = session.outbound.in_flight(id).and_then(|sent| sent.message.as_ref());
        message.is_none_or(|message| acl.allows(who(session), Right::Read, message.topic()))
    }

    /// The messages in flight of this session that its client may not read.
    fn unreadable(&self, session: &mut Session) -> Vec<PacketId> {
        let Some((acl, session)) = self.list_for(session) else {
            return Vec::new();
        };
        let unreadable = |message: &SharedMessage| !acl.allows(who(session), Right::Read, message.topic());
        session
            .outbound
            .unfinished()
            .filter(|(_, sent)| sent.message.as_ref().is_some_and(unreadable))
            .map(|(id, _)| id)
            .collect()
    }

    fn grants(&self, session: &mut Session, wanted: Subscription<'_>, steps: &mut usize) -> bool {
        let list = self.list_for(session);
        list.is_none_or(|(acl, session)| acl.grants(who(session), wanted, steps))
    }

    /// Finds out what the broker's list has for the session's client, once per list.
    #[inline]
    fn identify(&self, acl: &Acl, session: &mut Session) {
        let identity = &mut session.identity;
        if identity.list != self.version {
            identity.rights = acl.rights(&session.client_id, identity.user_name.as_deref());
            identity.list = self.version;
        }
    }

    /// Counts a denial, and tells it unless many were told in this second.
    fn deny(
        &mut self,
        stats: &mut Stats,
        (client, user_name): (&ClientId, Option<&UserName>),
        denial: Denial,
        topic: &str,
    ) {
        let kind = denial as usize;
        stats.denied[kind] += 1;
        if self.told_in_window[kind] >= TOLD_PER_SECOND {
            self.untold[kind] += 1;
            return;
        }
        self.told_in_window[kind] += 1;
        self.told.push_back(Effect::Denied {
            client: ClientId::clone(client),
            user_name: user_name.map(UserName::clone),
            denial,
            topic: shortened(topic),
            untold: std::mem::take(&mut self.untold[kind]),
        });
    }

    pub(super) fn poll_told(&mut self) -> Option<Effect> {
        self.told.pop_front()
    }

    /// Another event: perhaps in another second.
    #[inline]
    pub(super) fn begin(&mut self, now: Instant) {
        if now.since(self.window_start).as_secs() >= 1 {
            self.window_start = now;
            self.told_in_window = [0; Denial::ALL.len()];
        }
    }
}

fn who(session: &Session) -> Who<'_> {
    Who {
        rights: session.identity.rights,
        client_id: &session.client_id,
        user_name: session.identity.user_name.as_deref(),
    }
}

impl Clients {
    /// Counts that this session's client is denied something.
    fn deny(&mut self, index: u32, denial: Denial, topic: &str) {
        let session = &self.sessions[index as usize];
        let client = (&session.client_id, session.identity.user_name.as_ref());
        self.access.deny(&mut self.stats, client, denial, topic);
    }

    /// Counts that a message does not leave to this session.
    #[cold]
    pub(super) fn deny_delivery(&mut self, index: u32, topic: TopicName<'_>) {
        self.deny(index, Denial::Delivery, topic.as_str());
        self.tell_dropped(index, topic, NOT_ALLOWED);
    }

    /// A message for a member of a shared group who may not read it goes to another one, once the delivery at hand is over.
    pub(super) fn displace(&mut self, index: u32, group: GroupRef, message: SharedMessage) {
        let member = self.key(index);
        self.displaced.push_back(Displaced { member, group, message });
    }

    /// The message that is next in the queue does not leave to this session.
    pub(super) fn refuse_next(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        let queued = session.outbound.pop().expect("it was looked at");
        self.stats.queued -= 1;
        done(&mut *self.store, self.volatile, session, queued.message_id);
        self.deny_delivery(index, queued.message.topic());
        if let Some(group) = queued.group {
            self.displace(index, group, queued.message);
        }
    }

    /// Brings the exchanges of messages in flight to their ends that must not be sent again; returns which, in ascending order.
    pub(super) fn withhold_unreadable(&mut self, index: u32, conn: ConnId) -> Vec<PacketId> {
        let mut unreadable = self.access.unreadable(&mut self.sessions[index as usize]);
        for id in &unreadable {
            self.withhold(index, conn, *id);
        }
        unreadable.sort_unstable();
        unreadable
    }

    /// A message in flight that its client may not read any more is not sent (again).
    ///
    /// QoS 1 is over. Of QoS 2 the client may have the message from an earlier connection, and would take the next one with this
    /// identifier for the same: so the exchange is brought to its end, as if PUBREC had come.
    pub(super) fn withhold(&mut self, index: u32, conn: ConnId, id: PacketId) {
        let session = &mut self.sessions[index as usize];
        let Some(sent) = session.outbound.in_flight(id) else {
            return;
        };
        let Some(message) = sent.message.clone() else { return };
        let state = sent.state;
        self.deny_delivery(index, message.topic());
        let session = &mut self.sessions[index as usize];
        if state == SentState::PubAck {
            if let Acknowledged::Done(message_id) = session.outbound.on_puback(id) {
                self.stats.inflight -= 1;
                done(&mut *self.store, self.volatile, session, message_id);
            }
        } else {
            let mut gate = Gate::default();
            if !self.volatile && !session.clean {
                let record = Record::Received {
                    client_id: &session.client_id,
                    packet_id: id,
                };
                match self.store.append(record) {
                    Ok(lsn) => gate.lsn = lsn,
                    Err(_) => {
                        let key = self.key(index);
                        self.deferred.push_back(Deferred::DisconnectUnbound(key));
                        return;
                    }
                }
            }
            let _ = session.outbound.on_pubrec(id);
            self.answer(conn, gate, &Packet::PubRel(id));
        }
        self.recharge_session(index);
    }
}

impl Shard {
    /// Another list takes the place of the one in force. It counts from here on, for all clients but those with one of their own.
    pub(super) fn on_acl(&mut self, acl: Arc<Acl>) {
        let access = &mut self.clients.access;
        access.acl = Some(acl);
        access.version = access.version.wrapping_add(1).max(1);
    }

    /// Whether the client may publish this; if not, that is counted.
    ///
    /// # Errors
    /// It may not, and the operator chose to close the connection then.
    pub(super) fn may_publish(&mut self, index: u32, topic: TopicName<'_>) -> Result<bool, ProtocolError> {
        let session = &mut self.clients.sessions[index as usize];
        if self.clients.access.allows(session, Right::Write, topic) {
            return Ok(true);
        }
        self.refuse_publish(index, topic)
    }

    #[cold]
    fn refuse_publish(&mut self, index: u32, topic: TopicName<'_>) -> Result<bool, ProtocolError> {
        self.clients.deny(index, Denial::Publish, topic.as_str());
        self.clients.tell_dropped(index, topic, NOT_ALLOWED);
        self.after_denied_publish()
    }

    /// Whether a client that is about to be accepted may have a Will for this topic; if not, that is counted.
    ///
    /// # Errors
    /// It may not, and the operator chose to close the connection then.
    pub(super) fn may_have_will(
        &mut self,
        client_id: &ClientId,
        identity: &Identity,
        topic: TopicName<'_>,
    ) -> Result<bool, ProtocolError> {
        let clients = &mut self.clients;
        let user_name = identity.user_name.as_deref();
        let (acl, rights) = match (&identity.own, &clients.access.acl) {
            (Some(own), _) => (own, identity.rights),
            (None, Some(acl)) => (acl, acl.rights(client_id, user_name)),
            (None, None) => return Ok(true),
        };
        let who = Who {
            rights,
            client_id,
            user_name,
        };
        if acl.allows(who, Right::Write, topic) {
            return Ok(true);
        }
        let client = (client_id, identity.user_name.as_ref());
        clients
            .access
            .deny(&mut clients.stats, client, Denial::Publish, topic.as_str());
        self.after_denied_publish()
    }

    fn after_denied_publish(&self) -> Result<bool, ProtocolError> {
        match self.clients.limits.denied_publish {
            DeniedPublish::Drop => Ok(false),
            DeniedPublish::Close => Err(ProtocolError::PublishDenied),
        }
    }

    /// Whether the client may subscribe to this; if not, that is counted. `steps` counts what the whole packet has cost.
    pub(super) fn is_granted(&mut self, index: u32, wanted: Subscription<'_>, steps: &mut usize) -> bool {
        let session = &mut self.clients.sessions[index as usize];
        let granted = self.clients.access.grants(session, wanted, steps);
        if !granted {
            self.clients.deny(index, Denial::Subscribe, wanted.filter.as_str());
        }
        granted
    }

    /// Gives messages that their members may not read to others of the group. A member who may not read what its group shares is
    /// none any more: what it is chosen for would be lost to the others.
    pub(super) fn give_displaced(&mut self, now: Instant) {
        while let Some(Displaced { member, group, message }) = self.clients.displaced.pop_front() {
            self.expel(now, member, group);
            let group = self.registry.resolve(group);
            self.redispatch(now, group, &message);
        }
    }

    fn expel(&mut self, now: Instant, member: SessionKey, group: GroupRef) {
        let Some(id) = self.registry.resolve(group) else { return };
        let key = SubscriptionKey::Group(id);
        let is_member = |session: &mut Session| session.subscriptions.remove(&key);
        if !self.clients.resolve(member).is_some_and(is_member) {
            return;
        }
        let session = &self.clients.sessions[member.index as usize];
        if !self.clients.volatile && !session.clean {
            let entry = self.registry.group(id);
            let record = Record::Unsubscribed {
                client_id: &session.client_id,
                group: Some(&entry.name),
                filter: self.registry.text(entry.filter),
            };
            // If it is lost, the member is expelled again after a restart.
            let _ = self.clients.store.append(record);
        }
        if let Some(left) = self.remove_subscription(member.index, key) {
            self.give_away(now, member.index, Some(&[left]), false, false);
        }
    }
}

/// To whom follows a client whose messages go no further.
const NOT_ALLOWED: &str = "not_allowed";
/// Denials of one kind that are told each second; the others are counted only.
const TOLD_PER_SECOND: u32 = 10;
