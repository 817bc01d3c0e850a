//! SUBSCRIBE and UNSUBSCRIBE (sections 3.8 to 3.11), and the routes that follow from them.
//!
//! ```text
//! SUBSCRIBE ─► local routes ─► RouteAdded to every peer ─► all confirmed: SUBACK ─► RetainedRequest to every shard
//!              live messages are held from here on ........................................ ─► all replies: retained
//!                                                                                          messages, then the held ones
//! ```
//! So a message that is published after the SUBACK finds its route on every shard, and one that was retained before is in
//! a reply. The replies are put together in `retained`.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Shard;
use super::connection::Gate;
use super::event::{ConnId, Pass};
use super::peer::{GroupMembers, PeerEntry};
use super::retained::Replies;
use crate::codec::{Packet, PacketId, QoS, SUBACK_FAILURE, SubAck, Subscribe, Unsubscribe};
use crate::error::{CloseReason, ProtocolError};
use crate::router::{FilterId, GroupId, GroupRef, Member};
use crate::session::{SessionKey, SubscriptionKey};
use crate::store::{Lsn, Record};
use crate::time::Instant;
use crate::topic::{Subscription, TopicError, TopicFilter, TopicLimits};

/// Subscriptions and announcements that wait for other shards.
#[derive(Debug, Default)]
pub(super) struct Subscribing {
    /// SUBSCRIBE packets that are not done, by token.
    pub(super) pending: BTreeMap<u64, PendingSubscribe>,
    /// Routes that not every peer has confirmed, by token.
    announced: BTreeMap<u64, Announced>,
    /// The same routes, by what was subscribed to.
    unconfirmed: BTreeMap<SubscriptionKey, u64>,
}

/// A SUBSCRIBE that is not done.
#[derive(Debug)]
pub(super) struct PendingSubscribe {
    pub(super) session: SessionKey,
    /// Where the SUBACK goes: connection and generation.
    conn: (ConnId, u32),
    packet_id: PacketId,
    return_codes: SmallVec<[u8; 8]>,
    lsn: Lsn,
    /// Routes not confirmed yet.
    routes_awaited: u32,
    /// The plain filters that were granted.
    pub(super) filters: Arc<[Arc<str>]>,
    /// Those of them that the client has unsubscribed from meanwhile, by index.
    pub(super) withdrawn: Vec<usize>,
    /// Retained messages, once the SUBACK has left.
    pub(super) replies: Option<Replies>,
}

/// A route that waits for confirmations.
#[derive(Debug)]
struct Announced {
    key: SubscriptionKey,
    confirmations: u16,
    /// Tokens of the SUBSCRIBE packets that wait for it.
    waiters: Vec<u64>,
}

impl Subscribing {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.announced.is_empty()
    }
}

impl Shard {
    /// SUBSCRIBE from a client.
    ///
    /// # Errors
    /// A Topic Filter is none: the connection closes, and no filter of the packet was added.
    pub(super) fn on_subscribe(
        &mut self,
        conn: ConnId,
        index: u32,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), CloseReason> {
        let limits = self.clients.limits.topic.clone();
        let mut wanted: SmallVec<[(Option<Subscription<'_>>, QoS); 8]> = SmallVec::new();
        for (text, qos) in subscribe.filters.iter() {
            match Subscription::parse(text, &limits) {
                Ok(subscription) => wanted.push((Some(subscription), qos)),
                // A policy of ours, not an error of the packet.
                Err(TopicError::TooManyLevels { .. } | TopicError::TooLong { .. }) => wanted.push((None, qos)),
                Err(error) => return Err(ProtocolError::InvalidTopicFilter(error).into()),
            }
        }
        let token = self.next_token();
        let mut pending = PendingSubscribe {
            session: self.clients.key(index),
            conn: (conn, self.clients.connections[conn.index()].generation),
            packet_id: subscribe.packet_id,
            return_codes: SmallVec::new(),
            lsn: Lsn(0),
            routes_awaited: 0,
            filters: Arc::new([]),
            withdrawn: Vec::new(),
            replies: None,
        };
        let mut filters = Vec::new();
        let mut steps = 0;
        for (subscription, qos) in wanted {
            let within = subscription.filter(|wanted| self.has_room_for(index, *wanted));
            self.clients.stats.filters_refused += u64::from(within.is_none());
            let granted = within.filter(|wanted| self.is_granted(index, *wanted, &mut steps));
            let Some(subscription) = granted else {
                pending.return_codes.push(SUBACK_FAILURE);
                continue;
            };
            match self.record_subscribed(index, subscription, qos) {
                Ok(lsn) => pending.lsn = pending.lsn.max(lsn),
                Err(_) => {
                    pending.return_codes.push(SUBACK_FAILURE);
                    continue;
                }
            }
            pending.return_codes.push(qos as u8);
            let waits = match subscription.group {
                None => {
                    filters.push(Arc::from(subscription.filter.as_str()));
                    self.add_filter(index, subscription.filter, qos, token)
                }
                Some(name) => self.add_membership(index, subscription.filter, name, qos, token),
            };
            pending.routes_awaited += u32::from(waits);
        }
        pending.filters = filters.into();
        self.clients.add_pending_subscribe(index);
        self.subscribing.pending.insert(token, pending);
        self.routes_confirmed(token, 0);
        Ok(())
    }

    /// Whether the session has room for another subscription, or has this one.
    fn has_room_for(&mut self, index: u32, subscription: Subscription<'_>) -> bool {
        let session = &self.clients.sessions[index as usize];
        session.subscriptions.len() < self.clients.limits.subscriptions_max
            || self
                .key_of(subscription)
                .is_some_and(|key| session.subscriptions.contains(&key))
    }

    fn key_of(&self, subscription: Subscription<'_>) -> Option<SubscriptionKey> {
        match subscription.group {
            None => self.registry.find(subscription.filter).map(SubscriptionKey::Filter),
            Some(name) => self
                .registry
                .find_group(subscription.filter, name)
                .map(SubscriptionKey::Group),
        }
    }

    fn record_subscribed(
        &mut self,
        index: u32,
        subscription: Subscription<'_>,
        qos: QoS,
    ) -> Result<Lsn, crate::store::StoreError> {
        let session = &self.clients.sessions[index as usize];
        if self.clients.volatile || session.clean {
            return Ok(Lsn(0));
        }
        let (group, filter) = (subscription.group, subscription.filter.as_str());
        self.clients.store.append(Record::Subscribed {
            client_id: &session.client_id,
            group,
            filter,
            qos,
        })
    }

    /// Adds a plain subscription; returns whether its route must be confirmed first.
    fn add_filter(&mut self, index: u32, filter: TopicFilter<'_>, qos: QoS, token: u64) -> bool {
        let added = self.registry.subscribe(filter, index, qos);
        let key = SubscriptionKey::Filter(added.id);
        if added.new {
            self.clients.session(index).subscriptions.insert(key);
            self.clients.stats.subscriptions += 1;
        }
        if !added.first_on_shard {
            return self.wait_for(key, token);
        }
        let filter: Arc<str> = filter.as_str().into();
        let Some(announcement) = self.announce(key, token) else {
            return false;
        };
        for peer in self.outboxes.peers() {
            let entry = PeerEntry::RouteAdded {
                filter: Arc::clone(&filter),
                token: announcement,
            };
            self.outboxes.push(Pass::Messages, peer, entry);
        }
        true
    }

    /// Adds a membership in a shared group; returns whether its route must be confirmed first.
    fn add_membership(&mut self, index: u32, filter: TopicFilter<'_>, name: &str, qos: QoS, token: u64) -> bool {
        let joined = self.registry.join(filter, name, Member { session: index, qos }, true);
        let key = SubscriptionKey::Group(joined.id);
        if !joined.new {
            return self.wait_for(key, token);
        }
        self.clients.session(index).subscriptions.insert(key);
        self.clients.stats.subscriptions += 1;
        let announcement = if joined.first_on_shard {
            self.announce(key, token)
        } else {
            None
        };
        self.announce_members(joined.id, announcement.unwrap_or(0));
        announcement.is_some() || self.wait_for(key, token)
    }

    /// Begins to wait for every peer's confirmation, if there are peers.
    fn announce(&mut self, key: SubscriptionKey, waiter: u64) -> Option<u64> {
        let confirmations = self.outboxes.peer_count();
        if confirmations == 0 {
            return None;
        }
        let announcement = self.next_token();
        self.subscribing.announced.insert(
            announcement,
            Announced {
                key,
                confirmations,
                waiters: vec![waiter],
            },
        );
        self.subscribing.unconfirmed.insert(key, announcement);
        Some(announcement)
    }

    /// Waits for an announcement that others began, if it is not confirmed.
    fn wait_for(&mut self, key: SubscriptionKey, waiter: u64) -> bool {
        let Some(announcement) = self.subscribing.unconfirmed.get(&key) else {
            return false;
        };
        let announced = self
            .subscribing
            .announced
            .get_mut(announcement)
            .expect("unconfirmed routes are announced");
        announced.waiters.push(waiter);
        true
    }

    /// Tells every peer how many members this shard has in a group.
    pub(super) fn announce_members(&mut self, group: GroupId, token: u64) {
        if self.outboxes.peer_count() == 0 {
            return;
        }
        let entry = self.registry.group(group);
        let (online, offline) = entry.local_members();
        let (name, filter): (Arc<str>, Arc<str>) = ((*entry.name).into(), self.registry.text(entry.filter).into());
        let group = self.registry.group_ref(group);
        for peer in self.outboxes.peers() {
            let (name, filter) = (Arc::clone(&name), Arc::clone(&filter));
            let members = GroupMembers {
                filter,
                name,
                group,
                online,
                offline,
                token,
            };
            self.outboxes
                .push(Pass::Messages, peer, PeerEntry::GroupMembers(Box::new(members)));
        }
    }

    /// One peer has the route.
    pub(super) fn on_route_confirmed(&mut self, announcement: u64) {
        // Unknown: withdrawn before it was confirmed.
        let Some(announced) = self.subscribing.announced.get_mut(&announcement) else {
            return;
        };
        announced.confirmations -= 1;
        if announced.confirmations == 0 || fault!(SkipConfirmation) {
            self.end_announcement(announcement);
        }
    }

    fn end_announcement(&mut self, announcement: u64) {
        let Some(announced) = self.subscribing.announced.remove(&announcement) else {
            return;
        };
        self.subscribing.unconfirmed.remove(&announced.key);
        for token in announced.waiters {
            self.routes_confirmed(token, 1);
        }
    }

    /// So many routes of a SUBSCRIBE were confirmed; after the last, SUBACK and the retained messages.
    fn routes_confirmed(&mut self, token: u64, routes: u32) {
        let Some(pending) = self.subscribing.pending.get_mut(&token) else {
            return;
        };
        pending.routes_awaited -= routes;
        if pending.routes_awaited > 0 {
            return;
        }
        let (conn, gate) = (
            pending.conn,
            Gate {
                lsn: if fault!(GrantTooEarly) { Lsn(0) } else { pending.lsn },
                token: 0,
            },
        );
        let (packet_id, return_codes) = (pending.packet_id, std::mem::take(&mut pending.return_codes));
        if self.clients.live_connection(conn).is_some() {
            let packet = Packet::SubAck(SubAck {
                packet_id,
                return_codes: &return_codes,
            });
            self.clients.answer(conn.0, gate, &packet);
        }
        self.request_retained(token);
    }

    /// UNSUBSCRIBE from a client.
    ///
    /// # Errors
    /// A Topic Filter is none: the connection closes, and no filter of the packet was removed.
    pub(super) fn on_unsubscribe(
        &mut self,
        now: Instant,
        conn: ConnId,
        index: u32,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Result<(), CloseReason> {
        // The limits may have been wider when it was granted.
        let limits = TopicLimits {
            levels_max: u16::MAX,
            bytes_max: u16::MAX,
        };
        let mut unwanted: SmallVec<[Subscription<'_>; 8]> = SmallVec::new();
        for text in unsubscribe.filters.iter() {
            match Subscription::parse(text, &limits) {
                Ok(subscription) => unwanted.push(subscription),
                // Such a filter was never granted.
                Err(TopicError::TooManyLevels { .. } | TopicError::TooLong { .. }) => {}
                Err(error) => return Err(ProtocolError::InvalidTopicFilter(error).into()),
            }
        }
        let mut lsn = Lsn(0);
        let mut left = Vec::new();
        for subscription in unwanted {
            let Some(key) = self.key_of(subscription) else { continue };
            if !self.clients.sessions[index as usize].subscriptions.contains(&key) {
                continue;
            }
            let session = &self.clients.sessions[index as usize];
            if !self.clients.volatile && !session.clean {
                let (group, filter) = (subscription.group, subscription.filter.as_str());
                let record = Record::Unsubscribed {
                    client_id: &session.client_id,
                    group,
                    filter,
                };
                lsn = lsn.max(self.clients.store.append(record)?);
            }
            self.clients.session(index).subscriptions.remove(&key);
            self.withdraw_pending(index, subscription);
            left.extend(self.remove_subscription(index, key));
        }
        left.sort_unstable();
        self.give_away(now, index, Some(&left), false, false);
        if !self.clients.sessions[index as usize].held.is_empty() {
            // What waited for a filter that is gone must not be overtaken by what comes through others.
            self.release_settled(self.clients.key(index));
            self.clients.pump(index);
        }
        self.clients
            .answer(conn, Gate { lsn, token: 0 }, &Packet::UnsubAck(unsubscribe.packet_id));
        Ok(())
    }

    /// What the session's pending SUBSCRIBE packets asked for this filter is void; a later one for it counts anew.
    fn withdraw_pending(&mut self, index: u32, subscription: Subscription<'_>) {
        if self.clients.sessions[index as usize].pending_subscribes == 0 || subscription.group.is_some() {
            return;
        }
        let key = self.clients.key(index);
        for pending in self
            .subscribing
            .pending
            .values_mut()
            .filter(|pending| pending.session == key)
        {
            let same = |filter: &Arc<str>| **filter == *subscription.filter.as_str();
            let void = pending
                .filters
                .iter()
                .enumerate()
                .filter(|(_, filter)| same(filter))
                .map(|(at, _)| at);
            pending.withdrawn.extend(void);
        }
    }

    /// Takes a subscription that the session no longer lists out of the routes. The group that it left thereby, if others are in
    /// it: what came through it may go to them.
    pub(super) fn remove_subscription(&mut self, index: u32, key: SubscriptionKey) -> Option<GroupRef> {
        self.clients.stats.subscriptions -= 1;
        match key {
            SubscriptionKey::Filter(filter) => {
                self.remove_filter(index, filter);
                None
            }
            SubscriptionKey::Group(group) => {
                self.registry.leave(group, index);
                let left = self.registry.group(group);
                let (last_on_shard, has_members) = (left.local_members() == (0, 0), left.has_members());
                let left = self.registry.group_ref(group);
                self.announce_members(group, 0);
                if last_on_shard {
                    self.withdraw_announcement(key);
                }
                self.registry.remove_group_if_unused(group);
                has_members.then_some(left)
            }
        }
    }

    fn remove_filter(&mut self, index: u32, filter: FilterId) {
        if fault!(KeepSubscriber) || !self.registry.unsubscribe(filter, index).last_on_shard {
            return;
        }
        if self.outboxes.peer_count() > 0 {
            let text: Arc<str> = self.registry.text(filter).into();
            let pass = if fault!(WithdrawTooLate) {
                Pass::Confirmations
            } else {
                Pass::Messages
            };
            for peer in self.outboxes.peers().filter(|_| !fault!(LeaveRoute)) {
                self.outboxes.push(
                    pass,
                    peer,
                    PeerEntry::RouteRemoved {
                        filter: Arc::clone(&text),
                    },
                );
            }
            self.withdraw_announcement(SubscriptionKey::Filter(filter));
        }
        self.registry.remove_if_unused(filter);
    }

    /// Nobody needs the confirmations of this route any more.
    fn withdraw_announcement(&mut self, key: SubscriptionKey) {
        if let Some(announcement) = self.subscribing.unconfirmed.get(&key).copied() {
            self.end_announcement(announcement);
        }
    }

    /// Gives what came to a session through these groups (sorted; `None`: all) to other members: what waits, and if it `leaves` also what
    /// was sent and its client had not acknowledged. What nobody can take is dropped. One pass, however many groups there are.
    pub(super) fn give_away(&mut self, now: Instant, index: u32, of: Option<&[GroupRef]>, leaves: bool, ends: bool) {
        if of.is_some_and(<[GroupRef]>::is_empty) {
            return;
        }
        let session = &mut self.clients.sessions[index as usize];
        let (waiting, in_flight) = (session.outbound.queued(), session.outbound.unacknowledged());
        let is_theirs = |group| of.is_none_or(|of| of.binary_search(&group).is_ok());
        let taken = session.outbound.take_shared(is_theirs, leaves, ends);
        self.clients.stats.queued -= (waiting - session.outbound.queued()) as u64;
        self.clients.stats.inflight -= (in_flight - session.outbound.unacknowledged()) as u64;
        self.clients.recharge_session(index);
        for queued in taken {
            if !fault!(LoseRedispatch) {
                let group = queued.group.and_then(|group| self.registry.resolve(group));
                self.redispatch(now, group, &queued.message);
            }
            let session = &self.clients.sessions[index as usize];
            super::clients::done(
                &mut *self.clients.store,
                self.clients.volatile,
                session,
                queued.message_id,
            );
        }
    }
}
