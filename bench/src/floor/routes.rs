//! Who gets a topic. Slow to ask, so a connection asks once per topic and keeps the answer.

use std::collections::HashMap;

use crate::wire::topic;

/// A subscription's target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) client: usize,
    pub(crate) qos: u8,
}

/// Every filter, and retained messages.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    exact: HashMap<String, Vec<Target>>,
    wild: Vec<(String, Target)>,
    /// By group and filter.
    groups: Vec<(String, Vec<Target>)>,
    /// Whole PUBLISH packets by topic.
    pub(crate) retained: HashMap<String, Vec<u8>>,
    /// Counts changes; whoever kept an answer of another version asks again.
    pub(crate) version: u64,
}

/// The answer for one topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Audience {
    pub(crate) everyone: Vec<Target>,
    /// Shared groups: one member each, in turn.
    pub(crate) groups: Vec<Vec<Target>>,
}

impl Routes {
    pub(crate) fn subscribe(&mut self, filter: &str, target: Target) {
        self.version += 1;
        if topic::shared(filter).is_some() {
            match self.groups.iter_mut().find(|(known, _)| known == filter) {
                Some((_, members)) => members.push(target),
                None => self.groups.push((filter.to_owned(), vec![target])),
            }
        } else if filter.contains(['+', '#']) {
            self.wild.push((filter.to_owned(), target));
        } else {
            self.exact.entry(filter.to_owned()).or_default().push(target);
        }
    }

    /// Forgets a client; O(filters).
    pub(crate) fn leave(&mut self, client: usize) {
        self.version += 1;
        let stays = |target: &Target| target.client != client;
        self.exact.retain(|_, targets| {
            targets.retain(stays);
            !targets.is_empty()
        });
        self.wild.retain(|(_, target)| stays(target));
        self.groups.iter_mut().for_each(|(_, members)| members.retain(stays));
    }

    /// O(filters with wildcards).
    pub(crate) fn audience(&self, name: &str) -> Audience {
        let mut everyone = self.exact.get(name).cloned().unwrap_or_default();
        everyone.extend(
            self.wild
                .iter()
                .filter(|(filter, _)| topic::matches(filter, name))
                .map(|&(_, target)| target),
        );
        // Overlapping subscriptions of one client deliver once [MQTT-3.3.5-1].
        everyone.sort_by_key(|target| (target.client, std::cmp::Reverse(target.qos)));
        everyone.dedup_by_key(|target| target.client);
        let is_for = |filter: &str| topic::shared(filter).is_some_and(|(_, filter)| topic::matches(filter, name));
        let groups = self
            .groups
            .iter()
            .filter(|(filter, members)| is_for(filter) && !members.is_empty());
        Audience {
            everyone,
            groups: groups.map(|(_, members)| members.clone()).collect(),
        }
    }

    /// Retained messages that `filter` matches, in no particular order.
    pub(crate) fn retained_for(&self, filter: &str) -> impl Iterator<Item = &[u8]> {
        self.retained
            .iter()
            .filter(move |(name, _)| topic::matches(filter, name))
            .map(|(_, packet)| packet.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_has_each_client_once_and_each_group_apart() {
        let mut routes = Routes::default();
        let target = |client, qos| Target { client, qos };
        routes.subscribe("a/b", target(1, 0));
        routes.subscribe("a/+", target(1, 1));
        routes.subscribe("#", target(2, 0));
        routes.subscribe("$share/g/a/#", target(3, 0));
        routes.subscribe("$share/g/a/#", target(4, 0));
        let audience = routes.audience("a/b");
        assert_eq!(audience.everyone, [target(1, 1), target(2, 0)]);
        assert_eq!(audience.groups, [[target(3, 0), target(4, 0)]]);
        routes.leave(1);
        assert_eq!(routes.audience("a/b").everyone, [target(2, 0)]);
    }
}
