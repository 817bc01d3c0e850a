//! What must hold when nothing is under way.

use std::collections::{BTreeMap, BTreeSet};

use super::Oracle;
use super::delivery::plain;
use super::model::{Share, matches};
use crate::error::DropReason;
use crate::simulation::setup::StoreKind;
use crate::stats::Stats;

impl Oracle {
    /// Everything has arrived and every client has read and acknowledged what it got.
    pub(in crate::simulation) fn check_quiet(&mut self, routes: &[(String, Vec<u16>)], stats: &Stats) {
        assert!(
            self.windows.iter().all(std::collections::VecDeque::is_empty),
            "an inbox is not empty"
        );
        self.check_routes(routes);
        self.check_gauges(stats);
        for socket in 0..self.conns.len() {
            self.check_connection(socket);
        }
        for session in 0..self.sessions.len() {
            if self.sessions[session].is_live() && self.sessions[session].socket.is_some() {
                self.check_deliveries(session);
                self.check_asked(session);
            }
        }
        self.check_drops(stats);
        self.check_records();
    }

    /// All replicas are the union of live subscriptions.
    fn check_routes(&self, routes: &[(String, Vec<u16>)]) {
        let mut union: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
        for session in self.sessions.iter().filter(|session| session.is_live()) {
            for sub in session.subs.iter().filter(|sub| sub.is_live()) {
                let shard = u16::try_from(session.shard).expect("few shards");
                union.entry(sub.text.clone()).or_default().insert(shard);
            }
        }
        let union: Vec<(String, Vec<u16>)> = union
            .into_iter()
            .map(|(text, shards)| (text, shards.into_iter().collect()))
            .collect();
        assert_eq!(routes, union, "routes, and the live subscriptions");
    }

    fn check_gauges(&self, stats: &Stats) {
        let live = || self.current.values().map(|session| &self.sessions[*session]);
        let connected = live().filter(|session| session.socket.is_some()).count();
        let subscriptions: usize = live()
            .map(|session| session.subs.iter().filter(|sub| sub.is_live()).count())
            .sum();
        let gauges = (stats.sessions, stats.connected, stats.subscriptions);
        let model = (self.current.len() as u64, connected as u64, subscriptions as u64);
        assert_eq!(gauges, model, "sessions, connected clients and subscriptions");
        let all_here = live().all(|session| session.socket.is_some());
        if all_here {
            assert_eq!(
                (stats.queued, stats.inflight),
                (0, 0),
                "messages wait for clients that have read everything"
            );
        }
    }

    fn check_connection(&mut self, socket: usize) {
        let conn = &self.conns[socket];
        let Some(session) = conn.session.filter(|_| !conn.over) else {
            return;
        };
        let client = &self.sessions[session].client;
        assert!(conn.connack_sent, "{client} waits for CONNACK");
        assert!(conn.replies.is_empty(), "{client} waits for {:?}", conn.replies);
        assert!(conn.subacks.is_empty(), "{client} waits for SUBACK {:?}", conn.subacks);
        assert!(
            conn.pubrels.values().all(|owed| *owed == 0),
            "{client} waits for PUBREL {:?}",
            conn.pubrels
        );
        let flights = &self.sessions[session].flights;
        for id in &conn.resends {
            let forgotten = flights.get(id).filter(|flight| !flight.may_vanish);
            assert!(
                forgotten.is_none(),
                "{client} was not sent {forgotten:?} again [MQTT-4.4.0-1]"
            );
        }
        let left = flights.iter().find(|(_, flight)| !flight.may_vanish);
        assert!(left.is_none(), "{client} has not finished {left:?}");
    }

    /// What was owed has come, or is on the list of what is missing. Empty messages of a topic count together.
    fn check_deliveries(&mut self, session: usize) {
        let of = &mut self.sessions[session];
        let socket = of.socket;
        let mut accounts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (message, share) in &mut of.shares {
            let it = &self.messages[*message];
            let stays = |(qos, was): &&(u8, Option<usize>)| *qos > 0 || *was == socket;
            let account = accounts.entry(&it.name).or_default();
            account.0 += share.owed.iter().filter(stays).count();
            account.1 += share.live - share.counted;
            share.owed.clear();
            share.counted = share.live;
        }
        for (name, (owed, came)) in accounts {
            for _ in came..owed {
                self.missing.push(format!("{} misses {name}", of.client));
            }
        }
    }

    /// After SUBSCRIBE a client has the retained message of each topic, or what replaced it: no gap [MQTT-3.3.1-6].
    fn check_asked(&self, session: usize) {
        let of = &self.sessions[session];
        if self.is_limited() {
            return;
        }
        for asked in &of.asked {
            let (Some(acknowledged), true) = (asked.acknowledged, of.socket == Some(asked.conn)) else {
                continue;
            };
            if self.stores[of.shard].is_some() && self.failing[of.shard] >= asked.at {
                continue;
            }
            let stands = |sub: &&super::model::Sub| sub.is_live() && sub.from <= asked.at && sub.filter == asked.filter;
            if !of.subs.iter().filter(|sub| sub.group.is_none()).any(|sub| stands(&sub)) {
                continue;
            }
            for (topic, publisher) in self.retained_topics() {
                let Some(publisher) = publisher.filter(|_| matches(&asked.filter, &topic)) else {
                    continue;
                };
                let of_topic = || {
                    self.messages
                        .iter()
                        .enumerate()
                        .filter(|(_, it)| it.retain && it.topic == topic)
                };
                let before = of_topic().filter(|(_, it)| it.order() < acknowledged);
                let Some((_, last)) = before.max_by_key(|(_, it)| it.last()) else {
                    continue;
                };
                if last.is_clear() || of_topic().any(|(_, it)| it.doubtful || it.unkept || it.routed.len() > 1) {
                    continue;
                }
                let came = |number: usize| of.shares.get(&number).is_some_and(|share| share.at > asked.at);
                // Which of several empty messages came is not certain.
                let clears = || of_topic().filter(|(_, it)| it.is_clear());
                let cleared = clears().any(|(number, _)| came(number));
                let has_it = of_topic()
                    .any(|(number, it)| it.order() >= last.order() && (came(number) || (cleared && it.is_clear())));
                let (client, name) = (&of.client, &last.name);
                assert!(
                    has_it,
                    "{client} subscribed to {} and missed the retained {name} of {publisher}",
                    asked.filter
                );
            }
        }
    }

    /// The topics with retained messages, and their publisher if there is only one.
    fn retained_topics(&self) -> BTreeMap<String, Option<String>> {
        let mut topics: BTreeMap<String, Option<String>> = BTreeMap::new();
        for it in self.messages.iter().filter(|it| it.retain && !it.routed.is_empty()) {
            topics
                .entry(it.topic.clone())
                .and_modify(|publisher| {
                    if publisher.as_ref() != Some(&it.publisher) {
                        *publisher = None;
                    }
                })
                .or_insert_with(|| Some(it.publisher.clone()));
        }
        topics
    }

    /// Whether queues, outputs or memory are small enough to be full.
    pub(super) fn is_limited(&self) -> bool {
        self.setup.limits.queued_messages_max < 1_000 || self.is_short_of_memory()
    }

    /// Whether memory can be short.
    pub(super) fn is_short_of_memory(&self) -> bool {
        self.setup.limits.memory_bytes_max < usize::MAX
    }

    /// No limit drops what it does not count, and none counts that had no reason to act.
    fn check_drops(&self, stats: &Stats) {
        let dropped = |reason| stats.dropped_for(reason);
        assert_eq!(
            dropped(DropReason::Forbidden),
            self.forbidden,
            "messages to topics of the broker"
        );
        assert_eq!(
            dropped(DropReason::RetainedFull),
            0,
            "the limit of retained messages is far"
        );
        if !self.is_limited() {
            let counted = (dropped(DropReason::OutputFull), dropped(DropReason::QueueFull));
            assert_eq!(counted, (0, 0), "the limits of queues are far");
        }
        if !self.is_short_of_memory() {
            assert_eq!(dropped(DropReason::MemoryFull), 0, "memory is not limited");
        }
        if self.setup.store != StoreKind::Failing {
            assert_eq!(dropped(DropReason::StoreFailed), 0, "the stores take everything");
        }
        let counted: u64 = LOSSES.into_iter().map(dropped).sum();
        let missing = self.missing.len() as u64;
        assert!(
            missing <= counted,
            "{counted} drops are counted, but: {}",
            self.missing.join(", ")
        );
    }

    /// Every session has had everything: each group has passed each message on.
    pub(in crate::simulation) fn check_complete(&self, stats: &Stats) {
        if !self
            .current
            .values()
            .all(|session| self.sessions[*session].socket.is_some())
        {
            // Somebody cannot stay connected, and what waits for it is not lost.
            return;
        }
        let counted: u64 = LOSSES.into_iter().map(|reason| stats.dropped_for(reason)).sum();
        let lost: Vec<String> = self
            .group_owed
            .iter()
            .filter(|(group, message)| self.finished_by(group, *message) == Some(0))
            .map(|(group, message)| format!("{group} misses {}", self.messages[*message].name))
            .collect();
        assert!(
            lost.len() as u64 <= counted,
            "{counted} drops are counted, but: {}",
            lost.join(", ")
        );
        for (group, message) in &self.group_owed {
            let (had, most) = (
                self.count_by(group, *message, |share| share.live),
                self.turns_max(group, *message),
            );
            let name = &self.messages[*message].name;
            assert!(
                had.is_none_or(|had| had <= most),
                "{group} gets {name} {had:?} times, {most} are right"
            );
        }
    }

    /// How often members of a group have acknowledged a message for good. What one of them had and did not acknowledge
    /// before it left is another's.
    fn finished_by(&self, group: &str, message: usize) -> Option<usize> {
        self.count_by(group, message, |share| share.finished)
    }

    /// A sum over the members of a group; `None` if another subscription could have brought them the message too.
    fn count_by(&self, group: &str, message: usize, count: impl Fn(&Share) -> usize) -> Option<usize> {
        let it = &self.messages[message];
        let mut sum = 0;
        for session in &self.sessions {
            let through = |sub: &&super::model::Sub| matches(&sub.filter, &it.topic) && sub.lived_since(it.order());
            let member = session.subs.iter().any(|sub| sub.text == group);
            if !member {
                continue;
            }
            if session
                .subs
                .iter()
                .filter(through)
                .any(|sub| sub.text != group || sub.grants.iter().any(|(_, qos)| *qos == 0))
            {
                return None;
            }
            sum += session.shares.get(&message).map_or(0, &count);
        }
        Some(sum)
    }

    /// A client that has just subscribed to everything has, of each topic, what is retained.
    pub(in crate::simulation) fn check_retained(&self, witness: &str, stats: &Stats) {
        if self.is_short_of_memory() && stats.dropped_for(DropReason::MemoryFull) > 0 {
            // Large messages may not have fitted, or have made its connection one that is closed.
            return;
        }
        let Some(session) = self.current.get(witness).copied() else {
            assert!(self.is_short_of_memory(), "the witness was not let in, or was closed");
            return;
        };
        let of = &self.sessions[session];
        let mut expected = 0;
        for (topic, publisher) in self.retained_topics() {
            let all = || {
                self.messages
                    .iter()
                    .enumerate()
                    .filter(|(_, it)| it.retain && it.topic == topic && !it.routed.is_empty())
            };
            if all().any(|(_, it)| it.doubtful || it.unkept) {
                return;
            }
            let got: Vec<usize> = all()
                .filter(|(number, _)| of.shares.get(number).is_some_and(|share| share.replayed > 0))
                .map(|(number, _)| number)
                .collect();
            let mut last: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
            for (number, it) in all() {
                let newest = last.entry(&it.publisher).or_default();
                *newest = (*newest).max((it.last(), number));
            }
            let clears = publisher.is_some() && last.values().all(|(_, number)| self.messages[*number].is_clear());
            expected += u64::from(!clears);
            let right = if clears {
                got.is_empty()
            } else {
                matches!(got[..], [one] if last.values().any(|(_, number)| *number == one))
            };
            let name = |number: &usize| self.messages[*number].name.clone();
            let names: Vec<String> = got.iter().map(name).collect();
            let candidates: Vec<String> = last.values().map(|(_, number)| name(number)).collect();
            assert!(right, "retained are {names:?}, the last were {candidates:?}");
        }
        assert_eq!(stats.retained, expected, "retained messages");
        let none_left = plain(of, "a").all(|sub| sub.is_live());
        assert!(none_left, "the witness keeps its subscriptions");
    }
}

/// What a message that was owed to somebody may be counted as instead.
const LOSSES: [DropReason; 4] = [
    DropReason::OutputFull,
    DropReason::QueueFull,
    DropReason::StoreFailed,
    DropReason::MemoryFull,
];
