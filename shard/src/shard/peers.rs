//! What other shards send, and what the store says.

use std::time::Duration;

use super::Shard;
use super::event::{Pass, ShardId};
use super::packed::Unpacker;
use super::peer::{PeerBatch, PeerEntry};
use crate::error::CloseReason;
use crate::router::RemoteMembers;
use crate::session::SessionKey;
use crate::store::{Lsn, StoreError};
use crate::time::Instant;
use crate::topic::TopicFilter;

impl Shard {
    /// A peer's batch, in its order.
    pub(super) fn on_batch(&mut self, now: Instant, batch: PeerBatch) {
        let PeerBatch {
            from, entries, packed, ..
        } = batch;
        let mut packed = Unpacker::new(&packed, from);
        for entry in entries {
            match entry {
                PeerEntry::Packed(message) => {
                    let (mut out, to) = packed.next(&message);
                    // Nobody waits for an answer; what the store refuses is counted there.
                    let _ = self.on_message(now, &mut out, to, 0);
                }
                PeerEntry::Routed(routed) => self.on_routed(now, from, &routed),
                PeerEntry::Retain { message, token } => {
                    let outcome = self.store_retained(message);
                    if token != 0 {
                        self.confirm_stored(from, token, outcome);
                    }
                }
                PeerEntry::RouteAdded { filter, token } => {
                    self.registry.add_remote(TopicFilter::from_checked(&filter), from);
                    let pass = if fault!(ConfirmTooEarly) {
                        Pass::Retained
                    } else {
                        Pass::Confirmations
                    };
                    self.outboxes.push(pass, from, PeerEntry::RouteConfirmed { token });
                }
                PeerEntry::RouteRemoved { filter } => {
                    self.registry.remove_remote(TopicFilter::from_checked(&filter), from);
                }
                PeerEntry::GroupMembers(entry) => {
                    let filter = TopicFilter::from_checked(&entry.filter);
                    let (group, online, offline) = (entry.group, entry.online, entry.offline);
                    let members = RemoteMembers {
                        shard: from,
                        group,
                        online,
                        offline,
                    };
                    self.registry.set_remote_members(filter, &entry.name, members);
                    if entry.token != 0 {
                        let confirmed = PeerEntry::RouteConfirmed { token: entry.token };
                        self.outboxes.push(Pass::Confirmations, from, confirmed);
                    }
                }
                PeerEntry::RouteConfirmed { token } => self.on_route_confirmed(token),
                PeerEntry::RetainedRequest { token, filters } => self.begin_scan(from, token, filters),
                PeerEntry::RetainedReply(reply) => self.on_retained_reply(from, *reply),
                PeerEntry::Stored { token, ok } => self.on_stored(now, token, ok),
                PeerEntry::Hold { publisher } => {
                    if let Some(session) = self.clients.resolve(publisher) {
                        session.held_by += 1;
                    }
                }
                PeerEntry::Pressure { on } => self.set_pressed(from, on),
                PeerEntry::Slow { publisher, millis } => {
                    self.clients.pause(now, publisher, Duration::from_millis(millis.into()));
                }
                PeerEntry::Release { publisher } => self.release_publisher(now, self.id, publisher),
            }
        }
    }

    /// Another shard has a message durable, or never will.
    fn on_stored(&mut self, now: Instant, token: u64, ok: bool) {
        let Some(awaited) = self.clients.awaited.get_mut(&token) else {
            return;
        };
        let conn = awaited.conn;
        awaited.answers -= 1;
        if awaited.answers == 0 || !ok {
            self.clients.awaited.remove(&token);
        }
        if self.clients.live_connection(conn).is_none() {
            return;
        }
        if ok {
            self.clients.release(conn.0);
        } else {
            // Without the acknowledgement the client sends the message again.
            self.close(now, conn.0, CloseReason::Store(StoreError::Failed));
        }
    }

    /// This shard's store has everything up to `lsn`.
    pub(super) fn on_durable(&mut self, lsn: Lsn) {
        while let Some((waits_for, to, token)) = self.stored_waits.front().copied() {
            if waits_for > lsn {
                break;
            }
            self.stored_waits.pop_front();
            self.outboxes
                .push(Pass::Confirmations, to, PeerEntry::Stored { token, ok: true });
        }
        let waiting: Vec<_> = self.clients.gated.iter().copied().collect();
        for conn in waiting {
            self.clients.release(conn);
        }
    }

    /// A subscriber that asked so has room again, or is gone.
    pub(super) fn release_publisher(&mut self, now: Instant, shard: ShardId, publisher: SessionKey) {
        if shard != self.id {
            self.outboxes
                .push(Pass::Messages, shard, PeerEntry::Release { publisher });
            return;
        }
        let Some(session) = self.clients.resolve(publisher) else {
            return;
        };
        session.held_by -= 1;
        if session.held_by > 0 {
            return;
        }
        if let Some(conn) = session.conn {
            self.read_again(now, conn);
        }
    }
}
