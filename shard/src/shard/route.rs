//! Who gets a message: one match in this shard's replica of the routes, then local sessions and other shards.

use smallvec::SmallVec;

use super::Shard;
use super::clients::{Awaited, Grant};
use super::connection::Gate;
use super::event::{ConnId, Pass, ShardId};
use super::outgoing::Outgoing;
use super::peer::{PeerEntry, Recipients, RoutedMessage};
use crate::codec::QoS;
use crate::error::DropReason;
use crate::limits::SharedStrategy;
use crate::message::{Origin, SharedMessage};
use crate::router::{GroupId, GroupRef, Pick};
use crate::store::{Lsn, StoreError};
use crate::time::Instant;

/// Memory that routing uses again for each message.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    grants: Vec<Grant>,
    /// Per session: in which match it was seen last, and where in `grants` it is.
    seen: Vec<(u64, u32)>,
    matches: u64,
}

/// Shared groups of other shards that a message was chosen for.
type RemoteGroups = SmallVec<[(ShardId, GroupRef); 4]>;

impl Shard {
    /// Routes a message that was published here: to retained storage, local sessions and other shards. Returns what its
    /// acknowledgement waits for; `acknowledger` is whose that is.
    ///
    /// # Errors
    /// A store refused a record: the message must not be acknowledged, so that it is sent again.
    pub(super) fn route(
        &mut self,
        now: Instant,
        out: &mut Outgoing<'_>,
        sticky: Option<u32>,
        acknowledger: Option<(ConnId, u32)>,
    ) -> Result<Gate, StoreError> {
        self.sequence += 1;
        out.origin = Origin {
            shard: self.id,
            sequence: self.sequence,
        };
        let waits = !self.clients.volatile
            && out.qos > QoS::AtMostOnce
            && acknowledger.is_some()
            && !fault!(AcknowledgeTooEarly);
        let token = if waits { self.next_token() } else { 0 };
        let mut answers = 0;
        // What one store refuses does not keep the message from the others: a QoS 2 message is not routed again.
        let mut outcome = Ok(Lsn(0));
        if out.retain {
            let owner = self.placement.retained_owner(out.topic.as_str());
            if owner == self.id {
                outcome = self.store_retained(out.shared());
            } else {
                let entry = PeerEntry::Retain {
                    message: out.shared(),
                    token,
                };
                let pass = if fault!(RetainAfterMessages) {
                    Pass::Confirmations
                } else {
                    Pass::Retained
                };
                self.outboxes.push(pass, owner, entry);
                answers += 1;
            }
        }
        let mut groups = RemoteGroups::new();
        let (local, shards) = self.deliver_matching(now, out, Some((sticky, &mut groups)));
        merge(&mut outcome, local);
        answers += self.forward(out, shards, &groups, sticky, token);
        let lsn = outcome?;
        if token == 0 || answers == 0 {
            return Ok(Gate { lsn, token: 0 });
        }
        let conn = acknowledger.expect("a token is given only with one");
        self.clients.awaited.insert(token, Awaited { answers, conn });
        Ok(Gate { lsn, token })
    }

    /// Delivers to the local sessions whose filters match, each once at the highest QoS [MQTT-3.3.5-1], and with `groups`
    /// to the members that this shard chooses. Returns the last record written, and the shards with matching routes.
    pub(super) fn deliver_matching(
        &mut self,
        now: Instant,
        out: &mut Outgoing<'_>,
        mut groups: Option<(Option<u32>, &mut RemoteGroups)>,
    ) -> (Result<Lsn, StoreError>, u64) {
        let mut outcome = Ok(Lsn(0));
        let mut shards = 0;
        let filters: SmallVec<[_; 8]> = self.registry.matching(out.topic).into();
        let single = filters.len() == 1;
        self.routing.begin();
        for filter in &filters {
            shards |= self.registry.remote_shards(*filter);
            for subscriber in self.registry.subscribers(*filter) {
                let hold = subscriber.pending > 0 && !fault!(LiveOvertakesRetained);
                let grant = Grant {
                    session: subscriber.session,
                    qos: subscriber.qos,
                    hold,
                    group: None,
                };
                if single {
                    merge(&mut outcome, self.clients.deliver(now, grant, out));
                } else {
                    self.routing.add(grant);
                }
            }
        }
        let mut grants = std::mem::take(&mut self.routing.grants);
        for grant in grants.drain(..) {
            merge(&mut outcome, self.clients.deliver(now, grant, out));
        }
        self.routing.grants = grants;
        if let Some((sticky, remote)) = &mut groups {
            for filter in &filters {
                for at in 0..self.registry.groups(*filter).len() {
                    let group = self.registry.groups(*filter)[at];
                    if fault!(GroupToAll)
                        && let Some(Pick::Remote(shard, group)) = self.registry.group_mut(group).pick(self.id, *sticky)
                    {
                        remote.push((shard, group));
                    }
                    match self.registry.group_mut(group).pick(self.id, *sticky) {
                        Some(Pick::Local(member)) => {
                            let group = Some(self.registry.group_ref(group));
                            let grant = Grant {
                                session: member.session,
                                qos: member.qos,
                                hold: false,
                                group,
                            };
                            merge(&mut outcome, self.clients.deliver(now, grant, out));
                        }
                        Some(Pick::Remote(shard, group)) => remote.push((shard, group)),
                        None => {}
                    }
                }
            }
        }
        (outcome, shards)
    }

    /// Hands the message to other shards; returns to how many.
    fn forward(
        &mut self,
        out: &mut Outgoing<'_>,
        mut shards: u64,
        groups: &RemoteGroups,
        sticky: Option<u32>,
        token: u64,
    ) -> u16 {
        let plain = shards;
        for (shard, _) in groups {
            shards |= 1 << shard.0;
        }
        let mut count = 0;
        while shards != 0 {
            let shard = ShardId(u16::try_from(shards.trailing_zeros()).expect("a bit of a u64"));
            shards &= shards - 1;
            count += 1;
            self.clients.stats.messages_forwarded += 1;
            let theirs: SmallVec<[GroupRef; 4]> = groups
                .iter()
                .filter(|(of, _)| *of == shard)
                .map(|(_, group)| *group)
                .collect();
            let to = Recipients {
                plain: plain & (1 << shard.0) != 0,
                groups: &theirs,
                sticky,
            };
            self.outboxes.push_message(shard, out, to, token);
        }
        count
    }

    /// A message that another shard routed, with more to say than to whom.
    pub(super) fn on_routed(&mut self, now: Instant, from: ShardId, routed: &RoutedMessage) {
        let mut out = Outgoing::owned(&routed.message);
        out.publisher = routed.publisher;
        let outcome = self.on_message(now, &mut out, routed.recipients(), routed.hops);
        if routed.token != 0 {
            self.confirm_stored(from, routed.token, outcome);
        }
    }

    /// A message that another shard routed, for this shard's subscribers and for the groups it was chosen for.
    ///
    /// # Errors
    /// The store refused a record.
    pub(super) fn on_message(
        &mut self,
        now: Instant,
        out: &mut Outgoing<'_>,
        to: Recipients<'_>,
        hops: u8,
    ) -> Result<Lsn, StoreError> {
        let mut outcome = Ok(Lsn(0));
        if to.plain {
            merge(&mut outcome, self.deliver_matching(now, out, None).0);
        }
        for group in to.groups {
            let found = self.registry.resolve(*group);
            let Some(id) = found.or_else(|| self.registry.find_again(*group, out.topic)) else {
                // Its last member anywhere left while the message was on its way.
                self.pass_on(now, out, None, to.sticky, hops);
                continue;
            };
            match self.registry.group_mut(id).pick_local(to.sticky) {
                Some(member) => {
                    let grant = Grant {
                        session: member.session,
                        qos: member.qos,
                        hold: false,
                        group: Some(self.registry.group_ref(id)),
                    };
                    merge(&mut outcome, self.clients.deliver(now, grant, out));
                }
                None => self.pass_on(now, out, Some(id), to.sticky, hops),
            }
        }
        outcome
    }

    /// Sends a message for a group whose members here have left on to its members elsewhere.
    fn pass_on(&mut self, now: Instant, out: &mut Outgoing<'_>, group: Option<GroupId>, sticky: Option<u32>, hops: u8) {
        let pick = group.and_then(|group| self.registry.group_mut(group).pick(self.id, sticky));
        match (pick, group) {
            (Some(Pick::Remote(shard, group)), _) if hops < HOPS_MAX => {
                let to = Recipients {
                    plain: false,
                    groups: &[group],
                    sticky,
                };
                let entry = RoutedMessage {
                    hops: hops + 1,
                    ..RoutedMessage::new(out, to, 0)
                };
                self.outboxes
                    .push(Pass::Messages, shard, PeerEntry::Routed(Box::new(entry)));
            }
            (Some(Pick::Local(member)), Some(group)) => {
                let group = Some(self.registry.group_ref(group));
                let grant = Grant {
                    session: member.session,
                    qos: member.qos,
                    hold: false,
                    group,
                };
                // What the store refuses is counted there.
                let _ = self.clients.deliver(now, grant, out);
            }
            _ => self.clients.stats.drop_message(DropReason::NoMember),
        }
    }

    /// Gives a message that a member had not acknowledged before it left, or may not read, to another one of its group.
    pub(super) fn redispatch(&mut self, now: Instant, group: Option<GroupId>, message: &SharedMessage) {
        self.pass_on(now, &mut Outgoing::owned(message), group, None, 0);
    }

    /// Tells a publisher's shard that a message is durable here, once it is.
    pub(super) fn confirm_stored(&mut self, to: ShardId, token: u64, outcome: Result<Lsn, StoreError>) {
        match outcome {
            Ok(lsn) if lsn > self.clients.store.durable() => self.stored_waits.push_back((lsn, to, token)),
            outcome => {
                let entry = PeerEntry::Stored {
                    token,
                    ok: outcome.is_ok(),
                };
                self.outboxes.push(Pass::Confirmations, to, entry);
            }
        }
    }

    /// The number by which members of shared groups are chosen for this publisher, if they are chosen so.
    pub(super) fn sticky(&self, client_id: &str) -> Option<u32> {
        self.uses_sticky().then(|| self.placement.sticky(client_id))
    }

    pub(super) fn uses_sticky(&self) -> bool {
        self.clients.limits.shared_strategy == SharedStrategy::Sticky
    }
}

impl Scratch {
    fn begin(&mut self) {
        self.matches += 1;
        self.grants.clear();
    }

    /// Adds a session, or raises what it was granted already.
    fn add(&mut self, grant: Grant) {
        let session = grant.session as usize;
        if self.seen.len() <= session {
            self.seen.resize(session + 1, (0, 0));
        }
        let (seen_in, at) = self.seen[session];
        if seen_in == self.matches && !fault!(DoubleDelivery) {
            let known = &mut self.grants[at as usize];
            known.qos = if fault!(LowerQos) {
                known.qos.min(grant.qos)
            } else {
                known.qos.max(grant.qos)
            };
            known.hold |= grant.hold;
        } else {
            let at = u32::try_from(self.grants.len()).expect("fewer grants than sessions");
            self.seen[session] = (self.matches, at);
            self.grants.push(grant);
        }
    }
}

/// The later of two record numbers; an error stays.
fn merge(outcome: &mut Result<Lsn, StoreError>, next: Result<Lsn, StoreError>) {
    *outcome = match (*outcome, next) {
        (Ok(before), Ok(lsn)) => Ok(before.max(lsn)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
}

/// How often a message for a group follows members that leave before it is given up: more often than members of one
/// group leave within the time that a message takes between shards.
const HOPS_MAX: u8 = 8;
