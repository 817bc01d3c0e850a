//! Retained messages: storing them at their owner, and finding them for a SUBSCRIBE without a gap and without going back.
//!
//! The owner of a topic is one shard, so its stores have one order. A publisher's shard sends the store to the owner before
//! it sends the live message to anybody (the first [`Pass`]), and each shard's answer to a subscriber's shard follows every
//! live message that it had sent there. So of a retained message that the subscriber's shard finds in a reply:
//!
//! - If its publisher's shard had routed it before that shard answered (`sequence <= through`), its live copy has arrived:
//!   either it is among the held messages, and leaves there, once; or it was delivered before the SUBSCRIBE, or never,
//!   because that shard had no route then. Held messages of the same topic and shard that are older leave before it: they
//!   came by the route of an earlier subscription, whose withdrawal was on its way.
//! - Else its live copy is still on its way here, since the route was confirmed by all; that copy is the one to deliver.
//!
//! In neither case does an older value of a topic follow a newer one of the same publisher. Where a limit has dropped the live
//! copy of the newer one, two SUBSCRIBE packets of one session that wait at once may have found one each: what the one sends makes void
//! what is older among the replies to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Shard;
use super::event::{Pass, ShardId};
use super::peer::{PeerEntry, RetainedReply};
use crate::access::Right;
use crate::codec::QoS;
use crate::error::DropReason;
use crate::message::{Origin, SharedMessage};
use crate::router::SetOutcome;
use crate::session::{Held, Queued, SessionKey};
use crate::store::{Lsn, Record, StoreError};
use crate::topic::TopicFilter;

/// A search for the retained messages that match some filters, done in pieces.
#[derive(Debug)]
pub(super) struct Scan {
    to: ShardId,
    token: u64,
    filters: Arc<[Arc<str>]>,
    /// The filter that is being looked for.
    at: usize,
    /// The last message looked at for it.
    after: Option<SharedMessage>,
    through: u64,
}

/// What the shards have answered to a SUBSCRIBE.
#[derive(Debug)]
pub(super) struct Replies {
    /// Shards that have not finished.
    awaited: u16,
    /// Per shard: what it had routed when it answered.
    through: Vec<u64>,
    messages: Vec<(u16, SharedMessage)>,
}

impl Shard {
    /// Stores a message with RETAIN 1 of a topic that this shard owns, or removes the one that is there
    /// [MQTT-3.3.1-5] [MQTT-3.3.1-10].
    pub(super) fn store_retained(&mut self, message: SharedMessage) -> Result<Lsn, StoreError> {
        let lsn = if self.clients.volatile {
            Lsn(0)
        } else {
            self.clients
                .store
                .append(Record::Retained { message: &message })
                .inspect_err(|_| self.clients.stats.drop_message(DropReason::StoreFailed))?
        };
        if self.retained.set(message) == SetOutcome::Full {
            self.clients.stats.drop_message(DropReason::RetainedFull);
        }
        Ok(lsn)
    }

    /// Asks every shard for the retained messages of a SUBSCRIBE whose routes are confirmed.
    pub(super) fn request_retained(&mut self, token: u64) {
        let pending = self
            .subscribing
            .pending
            .get_mut(&token)
            .expect("asked for by its last route");
        if pending.filters.is_empty() {
            let session = pending.session;
            self.subscribing.pending.remove(&token);
            self.clients.remove_pending_subscribe(session);
            return;
        }
        let shards = self.outboxes.peer_count() + 1;
        let through = vec![0; usize::from(shards)];
        pending.replies = Some(Replies {
            awaited: shards,
            through,
            messages: Vec::new(),
        });
        let filters = Arc::clone(&pending.filters);
        for peer in self.outboxes.peers() {
            let entry = PeerEntry::RetainedRequest {
                token,
                filters: Arc::clone(&filters),
            };
            self.outboxes.push(Pass::Confirmations, peer, entry);
        }
        self.begin_scan(self.id, token, filters);
        self.run_scans();
    }

    /// Begins to look for another shard, or for this one.
    pub(super) fn begin_scan(&mut self, to: ShardId, token: u64, filters: Arc<[Arc<str>]>) {
        let through = if to == self.id { u64::MAX } else { self.sequence };
        self.scans.push_back(Scan {
            to,
            token,
            filters,
            at: 0,
            after: None,
            through,
        });
    }

    /// Goes on looking, for a bounded time.
    pub(super) fn run_scans(&mut self) {
        let mut budget = SCAN_TOPICS_MAX;
        while budget > 0 {
            let Some(mut scan) = self.scans.pop_front() else { return };
            let mut messages = Vec::new();
            while budget > 0 && scan.at < scan.filters.len() {
                let piece = budget.min(SCAN_TOPICS_MIN);
                budget -= piece;
                let at = u16::try_from(scan.at).expect("a packet has fewer filters");
                let filter = TopicFilter::from_checked(&scan.filters[scan.at]);
                let after = scan.after.as_ref().map(|message| message.topic().as_str());
                let found = |message: &SharedMessage| messages.push((at, SharedMessage::clone(message)));
                scan.after = self.retained.scan(filter, after, piece, found);
                if scan.after.is_none() {
                    scan.at += 1;
                }
            }
            let done = scan.at == scan.filters.len();
            let reply = RetainedReply {
                token: scan.token,
                through: scan.through,
                messages,
                done,
            };
            let to = scan.to;
            if !done {
                // The others get their turn before this one goes on.
                self.scans.push_back(scan);
            }
            if to == self.id {
                self.on_retained_reply(self.id, reply);
            } else if done || !reply.messages.is_empty() {
                self.outboxes
                    .push(Pass::Confirmations, to, PeerEntry::RetainedReply(Box::new(reply)));
            }
        }
    }

    /// A part of what a shard found.
    pub(super) fn on_retained_reply(&mut self, from: ShardId, reply: RetainedReply) {
        // Gone: its session has ended.
        let Some(pending) = self.subscribing.pending.get_mut(&reply.token) else {
            return;
        };
        let replies = pending.replies.as_mut().expect("was made with the request");
        replies.through[from.index()] = reply.through;
        replies.messages.extend(reply.messages);
        if !reply.done {
            return;
        }
        replies.awaited -= 1;
        let (over, session) = (replies.awaited == 0, pending.session);
        if over && !(fault!(LeakPending) && self.clients.resolve(session).is_none()) {
            self.finish_subscribe(reply.token);
        }
    }

    /// Everything has been answered: the retained messages leave, then what was held behind them.
    fn finish_subscribe(&mut self, token: u64) {
        let Some(pending) = self.subscribing.pending.remove(&token) else {
            return;
        };
        let (key, filters) = (pending.session, pending.filters);
        let Some(session) = self.clients.resolve(key) else {
            return;
        };
        let mut held = std::mem::take(&mut session.held);
        let replies = pending.replies.expect("was made with the request");
        let granted: Vec<Option<QoS>> = filters
            .iter()
            .enumerate()
            .map(|(at, filter)| {
                let void = pending.withdrawn.contains(&at);
                if void {
                    None
                } else {
                    self.registry.settle(TopicFilter::from_checked(filter), key.index)
                }
            })
            .collect();
        // A SUBSCRIBE that is repeated finds what an earlier one found. What has not left yet is not queued again, so a client
        // cannot grow its queue by asking: it holds each retained message once per QoS.
        let mut waiting: BTreeSet<(Origin, QoS)> = session
            .outbound
            .replayed()
            .map(|queued| (queued.message.origin, queued.qos))
            .collect();
        let live: BTreeSet<Origin> = held.iter().map(|held| held.message.origin).collect();
        let others_wait = session.pending_subscribes > 1;
        let mut left = Vec::new();
        for (filter, message) in replies.messages {
            let origin = message.origin;
            let arrives_live = origin.sequence > replies.through[origin.shard.index()] || live.contains(&origin);
            // Unsubscribed meanwhile: nothing is owed.
            let Some(granted) = granted[usize::from(filter)] else {
                continue;
            };
            let arrives_live = arrives_live && !fault!(RetainedTwice);
            if arrives_live || !waiting.insert((origin, granted.min(message.qos))) {
                continue;
            }
            if !held.is_empty() {
                let older = |held: &Held| {
                    let of = held.message.origin;
                    of.shard == origin.shard && of.sequence < origin.sequence && held.message.topic() == message.topic()
                };
                held.retain(|held| {
                    let goes_first = older(held) || fault!(HeldBeforeRetained);
                    if goes_first {
                        self.release_held(key.index, held);
                    }
                    !goes_first
                });
            }
            if others_wait {
                left.push(SharedMessage::clone(&message));
            }
            self.queue_retained(key, message, granted);
        }
        self.clients.session(key.index).hold(held);
        self.clients.remove_pending_subscribe(key);
        self.forget_older(key, &left);
        self.release_settled(key);
        self.clients.pump(key.index);
    }

    /// Takes what is older than these out of the replies to the session's other SUBSCRIBE packets. All that is older has been
    /// found: a topic's owner answers in one order, and it had the newer one already.
    fn forget_older(&mut self, key: SessionKey, left: &[SharedMessage]) {
        if left.is_empty() {
            return;
        }
        let newest: BTreeMap<(ShardId, &str), u64> = left
            .iter()
            .map(|message| {
                (
                    (message.origin.shard, message.topic().as_str()),
                    message.origin.sequence,
                )
            })
            .collect();
        let others = self.subscribing.pending.values_mut();
        for pending in others.filter(|pending| pending.session == key) {
            let Some(replies) = &mut pending.replies else { continue };
            replies.messages.retain(|(_, message)| {
                let topic = (message.origin.shard, message.topic().as_str());
                newest
                    .get(&topic)
                    .is_none_or(|sequence| message.origin.sequence >= *sequence)
            });
        }
    }

    /// Held messages that no SUBSCRIBE waits for any more take their places in the queue, in their order.
    pub(super) fn release_settled(&mut self, key: SessionKey) {
        let mut held = std::mem::take(&mut self.clients.session(key.index).held);
        let still_pending = self.pending_filters(key);
        held.retain(|held| {
            let topic = held.message.topic();
            let waits = still_pending
                .iter()
                .any(|filter| TopicFilter::from_checked(filter).matches(topic));
            if !waits {
                self.release_held(key.index, held);
            }
            waits
        });
        self.clients.session(key.index).hold(held);
        self.clients.recharge_session(key.index);
    }

    fn queue_retained(&mut self, key: SessionKey, message: SharedMessage, granted: QoS) {
        let qos = granted.min(message.qos);
        let session = &mut self.clients.sessions[key.index as usize];
        if qos == QoS::AtMostOnce && session.conn.is_none() {
            return;
        }
        if !self.clients.access.allows(session, Right::Read, message.topic()) {
            return self.clients.deny_delivery(key.index, message.topic());
        }
        let mut message_id = 0;
        if !self.clients.volatile && !session.clean && qos > QoS::AtMostOnce {
            message_id = session.next_message_id();
            let record = Record::Queued {
                client_id: &session.client_id,
                message_id,
                qos,
                message: &message,
            };
            if self.clients.store.append(record).is_err() {
                self.clients
                    .drop_message(key.index, message.topic(), DropReason::StoreFailed);
                return;
            }
        }
        session.outbound.push(Queued {
            message,
            message_id,
            group: None,
            qos,
            retain: true,
        });
        self.clients.stats.queued += 1;
    }

    /// A held message takes its place in the queue; it was counted as waiting already.
    fn release_held(&mut self, index: u32, held: &Held) {
        let session = &mut self.clients.sessions[index as usize];
        if (held.qos == QoS::AtMostOnce && session.conn.is_none()) || fault!(ForgetHeld) {
            self.clients.stats.queued -= 1;
            return;
        }
        session.outbound.push(Queued {
            message: SharedMessage::clone(&held.message),
            message_id: held.message_id,
            group: None,
            qos: held.qos,
            retain: false,
        });
    }

    /// The filters of this session's SUBSCRIBE packets that still wait, without those that were unsubscribed from.
    fn pending_filters(&mut self, key: SessionKey) -> Vec<Arc<str>> {
        if self.clients.session(key.index).pending_subscribes == 0 {
            return Vec::new();
        }
        let mut filters = Vec::new();
        for pending in self
            .subscribing
            .pending
            .values()
            .filter(|pending| pending.session == key)
        {
            let stands = |(at, _): &(usize, &Arc<str>)| !pending.withdrawn.contains(at);
            filters.extend(
                pending
                    .filters
                    .iter()
                    .enumerate()
                    .filter(stands)
                    .map(|(_, filter)| Arc::clone(filter)),
            );
        }
        filters
    }
}

/// Retained topics looked at per event: 10 to 100 microseconds, as measured with 10,000 and with a million topics.
const SCAN_TOPICS_MAX: usize = 128;
/// Retained topics looked at for one subscriber before others get their turn.
const SCAN_TOPICS_MIN: usize = 64;
