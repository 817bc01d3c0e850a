//! Who must get a message, and who may.

use super::Oracle;
use super::model::{Session, Share, Sub, matches};

impl Oracle {
    /// A shard routes a message of one of its clients.
    pub(super) fn route(&mut self, message: usize, shard: usize) {
        self.at += 1;
        let at = self.at;
        if self.messages[message].topic.starts_with("$SYS") {
            self.forbidden += 1;
            return;
        }
        let it = &mut self.messages[message];
        it.routed.push(at);
        it.settled = None;
        it.doubtful |= self.failing[shard] == u64::MAX;
        let (topic, qos) = (it.topic.clone(), it.qos);
        self.fresh[shard].push((message, at));
        self.arrived(shard, message, at);
        if qos == 0 || self.messages[message].doubtful {
            return;
        }
        let mut groups: Vec<String> = Vec::new();
        for sub in self
            .sessions
            .iter()
            .filter(|session| session.is_live())
            .flat_map(|session| &session.subs)
        {
            let certain = sub.group.is_some() && sub.is_live() && sub.acknowledged.is_some();
            if certain && matches(&sub.filter, &topic) && !groups.contains(&sub.text) {
                groups.push(sub.text.clone());
            }
        }
        self.group_owed.extend(groups.into_iter().map(|group| (group, message)));
    }

    /// By now the message, routed at `from`, has come to this shard: its sessions are owed it if they were subscribed.
    pub(super) fn arrived(&mut self, shard: usize, message: usize, from: u64) {
        let own = self.home(&self.messages[message].publisher) == shard;
        let refused = self.stores[shard].is_some() && self.failing[shard] >= from;
        self.messages[message].unkept |= refused;
        let it = &self.messages[message];
        let doubtful = it.doubtful;
        for session in self.sessions.iter_mut() {
            if session.shard != shard || !session.is_live() || doubtful {
                continue;
            }
            // On the publisher's own shard nothing need be confirmed.
            let stood = |sub: &&Sub| {
                let confirmed = sub.acknowledged.is_some_and(|acknowledged| acknowledged < from);
                sub.is_live() && (own || confirmed) && sub.from < from
            };
            let granted = plain(session, &it.topic)
                .filter(stood)
                .map(|sub| sub.grants_since(from).min().unwrap_or(0))
                .max();
            let Some(qos) = granted.map(|granted| granted.min(it.qos)) else {
                continue;
            };
            let here = qos > 0 || session.socket.is_some_and(|socket| self.conns[socket].since < from);
            let kept = here && (session.clean || !refused);
            if kept {
                let socket = session.socket;
                session.shares.entry(message).or_default().owed.push((qos, socket));
            }
        }
    }

    /// How often the session may get the message with RETAIN 0.
    fn live_max(&self, session: &Session, message: usize) -> usize {
        let it = &self.messages[message];
        let stood = |from: u64| plain(session, &it.topic).any(|sub| sub.lived_since(from));
        let directly = it.routed.iter().filter(|from| stood(**from)).count();
        directly + self.group_max(session, message)
    }

    /// How often it may through groups.
    fn group_max(&self, session: &Session, message: usize) -> usize {
        let it = &self.messages[message];
        let mut groups: Vec<&str> = Vec::new();
        for sub in session.subs.iter().filter(|sub| sub.group.is_some()) {
            if matches(&sub.filter, &it.topic) && sub.lived_since(it.order()) && !groups.contains(&&*sub.text) {
                groups.push(&sub.text);
            }
        }
        groups.iter().map(|group| self.turns_max(group, message)).sum()
    }

    /// How often a group may get the message: once for each time it was routed; again, where a member gets it at QoS 1,
    /// after one left, and at QoS 2 after its session ended.
    pub(super) fn turns_max(&self, group: &str, message: usize) -> usize {
        let it = &self.messages[message];
        let mut members = self.sessions.iter().flat_map(|session| &session.subs);
        let at_least_once =
            members.any(|sub| sub.text == group && sub.grants.iter().any(|(_, qos)| it.qos.min(*qos) == 1));
        let again = |(at, ended): &&(u64, bool)| *at >= it.order() && it.qos > 0 && (at_least_once || *ended);
        let departures = self.departures.get(group);
        it.routed.len() * (1 + departures.map_or(0, |all| all.iter().filter(again).count()))
    }

    /// A message, new to the session, with RETAIN 0.
    pub(super) fn delivered_live(&mut self, session: usize, message: usize, qos: u8) {
        let it = &self.messages[message];
        let of = &self.sessions[session];
        let (client, name) = (&of.client, &it.name);
        assert!(!it.routed.is_empty(), "{name} was not published, and {client} gets it");
        // Empty messages of a topic look alike and count together.
        let alike: Vec<usize> = if it.is_clear() {
            let same = |number: &usize| self.messages[*number].is_clear() && self.messages[*number].topic == it.topic;
            (0..self.messages.len()).filter(same).collect()
        } else {
            vec![message]
        };
        let shares = alike.iter().filter_map(|number| of.shares.get(number));
        let had: usize = shares.map(|share| share.live).sum();
        let most: usize = alike.iter().map(|number| self.live_max(of, *number)).sum();
        assert!(
            had < most,
            "{client} gets {name} {} times, at most {most} are right",
            had + 1
        );
        self.check_qos(of, message, qos);
        let by_group = self.group_max(of, message) > 0;
        // Of empty messages it is not certain which one it is.
        let (order, once) = (it.order(), it.routed.len() == 1 && !it.is_clear());
        let topic = (it.publisher.clone(), it.topic.clone());
        let key = (topic.0.clone(), topic.1.clone(), it.qos, qos);
        if once && !by_group {
            let newest = of.newest.get(&key).copied().unwrap_or(0);
            assert!(
                order > newest,
                "{client} gets {name} after a newer one of its publisher [MQTT-4.6.0-6]"
            );
            let replayed = of.replayed.get(&topic).copied().unwrap_or(0);
            assert!(
                order >= replayed,
                "{client} gets {name} after a newer retained one: it goes back"
            );
        }
        self.check_replays(session, message, 0, 1);
        let at = self.at;
        let of = &mut self.sessions[session];
        if once && !by_group {
            of.newest.insert(key, order);
        }
        if once && !by_group && self.messages[message].retain {
            let seen = of.seen.entry(topic).or_default();
            *seen = (*seen).max((order, message));
        }
        let share = of.shares.entry(message).or_default();
        share.live += 1;
        share.at = at;
    }

    /// A message, new to the session, with RETAIN 1.
    pub(super) fn delivered_retained(&mut self, session: usize, message: usize, qos: u8) {
        let it = &self.messages[message];
        let of = &self.sessions[session];
        let (client, name) = (&of.client, &it.name);
        assert!(
            it.retain && !it.routed.is_empty(),
            "{name} is not retained, and {client} gets it so"
        );
        assert!(
            !it.is_clear(),
            "{client} gets an empty retained message [MQTT-3.3.1-11]"
        );
        let levels = plain(of, &it.topic)
            .flat_map(|sub| &sub.grants)
            .map(|(_, granted)| it.qos.min(*granted));
        assert!(
            levels.into_iter().any(|level| level == qos),
            "{client} gets the retained {name} at QoS {qos}"
        );
        let topic = (it.publisher.clone(), it.topic.clone());
        // What a store refused to keep is not retained, as its publisher is told. And where a full queue has dropped the
        // live copy of a message, two SUBSCRIBE packets that are answered at once may find the old and the new one.
        let kept = |seen: &&(u64, usize)| {
            let newer = &self.messages[seen.1];
            !newer.unkept && !newer.doubtful && !self.is_limited()
        };
        let last = it.last();
        if let Some((order, newer)) = of.seen.get(&topic).filter(kept) {
            let newer = &self.messages[*newer].name;
            assert!(
                last >= *order,
                "{client} gets the retained {name} after the newer {newer}: it goes back"
            );
        }
        let first_asked = self.askings(of, message, 0).min().unwrap_or(u64::MAX);
        let outdated = self.messages.iter().find(|newer| {
            let replaces = newer.retain && newer.topic == it.topic && newer.publisher == it.publisher;
            replaces && newer.order() > last && newer.settled.is_some_and(|settled| settled < first_asked)
        });
        if let Some(newer) = outdated.filter(|newer| !newer.doubtful && !newer.unkept) {
            panic!("{client} gets the retained {name}, which {} had replaced", newer.name);
        }
        self.check_replays(session, message, 1, 0);
        let at = self.at;
        let of = &mut self.sessions[session];
        let replayed = of.replayed.entry(topic.clone()).or_default();
        *replayed = (*replayed).max(self.messages[message].order());
        let seen = of.seen.entry(topic).or_default();
        *seen = (*seen).max((self.messages[message].order(), message));
        let share = of.shares.entry(message).or_default();
        share.replayed += 1;
        share.at = at;
    }

    /// A retained message answers a SUBSCRIBE; one that arrives live as well leaves once [MQTT-3.3.1-6].
    fn check_replays(&self, session: usize, message: usize, replayed: usize, live: usize) {
        let (it, of) = (&self.messages[message], &self.sessions[session]);
        let share = of.shares.get(&message).cloned().unwrap_or_else(Share::default);
        let (replayed, live) = (share.replayed + replayed, share.live + live);
        let certain = live > 0 && self.group_max(of, message) == 0 && it.routed.len() == 1;
        let since = if certain { it.order() } else { 0 };
        let most = self.askings(of, message, since).count();
        let (client, name) = (&of.client, &it.name);
        assert!(
            replayed <= most,
            "{client} gets the retained {name} {replayed} times and live {live} times; it asked {most} times"
        );
    }

    /// When the session asked for retained messages like this one.
    fn askings(&self, of: &Session, message: usize, since: u64) -> impl Iterator<Item = u64> {
        let topic = &self.messages[message].topic;
        let asked = of
            .asked
            .iter()
            .filter(move |asked| matches(&asked.filter, topic) && asked.at >= since);
        asked.map(|asked| asked.at).collect::<Vec<u64>>().into_iter()
    }

    fn check_qos(&self, of: &Session, message: usize, qos: u8) {
        let (client, name) = (&of.client, &self.messages[message].name);
        let (levels, _) = self.levels(of, message);
        assert!(
            self.is_right_qos(of, message, qos),
            "{client} gets {name} at QoS {qos}, granted {levels:?}"
        );
    }

    /// The lesser of what was published and the highest grant of those that match [MQTT-3.3.5-1] [MQTT-3.8.4-6].
    pub(super) fn is_right_qos(&self, of: &Session, message: usize, qos: u8) -> bool {
        let (levels, stable) = self.levels(of, message);
        if stable {
            levels.iter().max() == Some(&qos)
        } else {
            levels.contains(&qos)
        }
    }

    /// The levels at which the session may get the message, and whether only the highest is right.
    fn levels(&self, of: &Session, message: usize) -> (Vec<u8>, bool) {
        let it = &self.messages[message];
        let from = it.order();
        let mut levels: Vec<u8> = Vec::new();
        let mut stable = true;
        for sub in of
            .subs
            .iter()
            .filter(|sub| matches(&sub.filter, &it.topic) && sub.lived_since(from))
        {
            stable &= sub.group.is_none() && sub.is_live() && sub.from < from && sub.grants_since(from).count() == 1;
            levels.extend(sub.grants_since(from).map(|granted| granted.min(it.qos)));
        }
        (levels, stable)
    }
}

/// The session's subscriptions to a topic, without groups, past ones included.
pub(super) fn plain<'a>(session: &'a Session, topic: &'a str) -> impl Iterator<Item = &'a Sub> {
    session
        .subs
        .iter()
        .filter(move |sub| sub.group.is_none() && matches(&sub.filter, topic))
}

impl Sub {
    /// What was granted at `from` or later.
    pub(super) fn grants_since(&self, from: u64) -> impl Iterator<Item = u8> + '_ {
        let first = self.grants.iter().rposition(|(at, _)| *at <= from).unwrap_or(0);
        self.grants[first..].iter().map(|(_, qos)| *qos)
    }
}
