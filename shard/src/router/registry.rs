//! Every Topic Filter of the broker, with this shard's subscribers and the shards that have others.

use std::collections::HashMap;

use ahash::RandomState;
use slab::Slab;
use smallvec::SmallVec;

use super::group::{Group, GroupRef, Member, RemoteMembers};
use crate::codec::QoS;
use crate::hash::table_hasher;
use crate::shard::{SHARDS_MAX, ShardId};
use crate::topic::{MatchScratch, TopicFilter, TopicName, TopicTrie};

/// A filter in this shard's registry; reused once the filter has no subscriber anywhere.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FilterId(pub u32);

/// A shared group in this shard's registry; reused once the group has no member anywhere.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupId(pub u32);

/// A local subscriber of one filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subscriber {
    /// Place in the shard's table of sessions.
    pub session: u32,
    /// SUBSCRIBE packets for this filter whose retained messages are still awaited: while above 0, live messages wait.
    pub pending: u16,
    /// As granted.
    pub qos: QoS,
}

/// The filters, and what each leads to.
///
/// Invariants: a filter is here exactly while it has a local subscriber, a remote shard or a group; a group exactly while
/// it has a member.
#[derive(Debug)]
pub struct Registry {
    trie: TopicTrie<FilterId>,
    filters: Slab<Filter>,
    groups: Slab<Group>,
    hasher: RandomState,
    scratch: MatchScratch,
    matched: Vec<FilterId>,
}

#[derive(Debug)]
struct Filter {
    text: Box<str>,
    local: Subscribers,
    /// Bit n: shard n has a subscriber.
    remote: u64,
    /// Mostly none: boxed, so that a filter without groups stays small.
    #[expect(clippy::box_collection, reason = "8 bytes per filter instead of 24")]
    groups: Option<Box<Vec<GroupId>>>,
}

const _: () = assert!(SHARDS_MAX as u32 <= u64::BITS);

impl Registry {
    /// An empty registry; `seed` keys its tables.
    #[must_use]
    pub fn new(seed: u64) -> Registry {
        Registry {
            trie: TopicTrie::new(seed),
            filters: Slab::new(),
            groups: Slab::new(),
            hasher: table_hasher(seed),
            scratch: MatchScratch::default(),
            matched: Vec::new(),
        }
    }

    /// The filters that `topic` matches, each once. O(levels), no allocation.
    pub fn matching(&mut self, topic: TopicName<'_>) -> &[FilterId] {
        self.matched.clear();
        let matched = &mut self.matched;
        self.trie
            .for_each_match(topic, &mut self.scratch, |filter| matched.push(*filter));
        matched
    }

    /// The local subscribers of a filter, in a stable order.
    #[must_use]
    pub fn subscribers(&self, filter: FilterId) -> &[Subscriber] {
        self.filter(filter).local.as_slice()
    }

    /// The QoS that a local subscriber of a filter was granted. O(1).
    #[must_use]
    pub fn granted(&self, filter: FilterId, session: u32) -> Option<QoS> {
        let subscriber = match &self.filter(filter).local {
            Subscribers::Few(list) => list.iter().find(|subscriber| subscriber.session == session),
            Subscribers::Many(many) => many.places.get(&session).map(|place| &many.list[*place as usize]),
        };
        subscriber.map(|subscriber| subscriber.qos)
    }

    /// The other shards with subscribers, as a set of bits.
    #[must_use]
    pub fn remote_shards(&self, filter: FilterId) -> u64 {
        self.filter(filter).remote
    }

    /// The shared groups of a filter.
    #[must_use]
    pub fn groups(&self, filter: FilterId) -> &[GroupId] {
        self.filter(filter).groups.as_ref().map_or(&[], |groups| groups)
    }

    /// A group.
    ///
    /// # Panics
    /// If it does not exist.
    #[must_use]
    pub fn group(&self, group: GroupId) -> &Group {
        &self.groups[group.0 as usize]
    }

    /// A group, to choose a member.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn group_mut(&mut self, group: GroupId) -> &mut Group {
        &mut self.groups[group.0 as usize]
    }

    /// The group that a reference means, unless it is gone.
    #[must_use]
    pub fn resolve(&self, group: GroupRef) -> Option<GroupId> {
        let found = self.groups.get(group.index as usize)?;
        (found.tag == group.tag).then_some(GroupId(group.index))
    }

    /// The group that a reference meant, if it has members again and stands elsewhere. Looks among those of this topic.
    pub fn find_again(&mut self, group: GroupRef, topic: TopicName<'_>) -> Option<GroupId> {
        self.matching(topic);
        let groups = self.matched.iter().flat_map(|filter| self.groups(*filter));
        groups.copied().find(|id| self.group(*id).tag == group.tag)
    }

    /// How peers, and messages on their way, name this group.
    #[must_use]
    pub fn group_ref(&self, group: GroupId) -> GroupRef {
        GroupRef {
            index: group.0,
            tag: self.group(group).tag,
        }
    }

    /// The filter's text.
    #[must_use]
    pub fn text(&self, filter: FilterId) -> &str {
        &self.filter(filter).text
    }

    /// The filter with exactly this text.
    #[must_use]
    pub fn find(&self, filter: TopicFilter<'_>) -> Option<FilterId> {
        self.trie.get(filter).copied()
    }

    /// The group of this name on this filter.
    #[must_use]
    pub fn find_group(&self, filter: TopicFilter<'_>, name: &str) -> Option<GroupId> {
        let filter = self.find(filter)?;
        self.groups(filter)
            .iter()
            .copied()
            .find(|group| &*self.group(*group).name == name)
    }

    /// Adds a local subscriber, or replaces its QoS [MQTT-3.8.4-3]. It is pending: say [`settle`](Self::settle) later.
    pub fn subscribe(&mut self, filter: TopicFilter<'_>, session: u32, qos: QoS) -> Added {
        let id = self.find_or_add(filter);
        let (local, hasher) = (&mut self.filters[id.0 as usize].local, &self.hasher);
        let first_on_shard = local.as_slice().is_empty();
        let new = match local.get_mut(session) {
            Some(subscriber) => {
                subscriber.qos = qos;
                subscriber.pending += 1;
                false
            }
            None => {
                local.insert(
                    Subscriber {
                        session,
                        pending: 1,
                        qos,
                    },
                    hasher,
                );
                true
            }
        };
        Added {
            id,
            new,
            first_on_shard,
        }
    }

    /// One SUBSCRIBE of this subscriber got its retained messages; nothing if it has unsubscribed meanwhile.
    /// Returns its QoS.
    pub fn settle(&mut self, filter: TopicFilter<'_>, session: u32) -> Option<QoS> {
        let id = self.find(filter)?;
        let subscriber = self.filters[id.0 as usize].local.get_mut(session)?;
        subscriber.pending = subscriber.pending.saturating_sub(1);
        Some(subscriber.qos)
    }

    /// Removes a local subscriber; the filter goes with its last subscriber anywhere.
    pub fn unsubscribe(&mut self, filter: FilterId, session: u32) -> Removed {
        let entry = &mut self.filters[filter.0 as usize];
        let existed = entry.local.remove(session);
        Removed {
            existed,
            last_on_shard: existed && entry.local.as_slice().is_empty(),
        }
    }

    /// Notes that `shard` has a subscriber.
    pub fn add_remote(&mut self, filter: TopicFilter<'_>, shard: ShardId) {
        let id = self.find_or_add(filter);
        self.filters[id.0 as usize].remote |= 1 << shard.0;
    }

    /// Notes that `shard` has no subscriber any more.
    pub fn remove_remote(&mut self, filter: TopicFilter<'_>, shard: ShardId) {
        if let Some(id) = self.find(filter) {
            self.filters[id.0 as usize].remote &= !(1 << shard.0);
            self.remove_if_unused(id);
        }
    }

    /// Adds a local member to a group, or replaces its QoS.
    pub fn join(&mut self, filter: TopicFilter<'_>, name: &str, member: Member, online: bool) -> Joined {
        let id = self.find_or_add_group(filter, name);
        let group = self.group_mut(id);
        let first_on_shard = group.local_members() == (0, 0);
        let new = group.join(member, online);
        Joined {
            id,
            new,
            first_on_shard,
        }
    }

    /// Removes a local member. The group stays until [`remove_group_if_unused`](Self::remove_group_if_unused).
    pub fn leave(&mut self, group: GroupId, session: u32) -> bool {
        self.group_mut(group).leave(session)
    }

    /// A local member connected, or went away with its session kept.
    pub fn set_online(&mut self, group: GroupId, session: u32, online: bool) {
        self.group_mut(group).set_online(session, online);
    }

    /// Notes how many members another shard has.
    pub fn set_remote_members(&mut self, filter: TopicFilter<'_>, name: &str, members: RemoteMembers) {
        if members.online == 0 && members.offline == 0 && self.find_group(filter, name).is_none() {
            return;
        }
        let id = self.find_or_add_group(filter, name);
        self.group_mut(id).set_remote(members);
        self.remove_group_if_unused(id);
    }

    /// Forgets a group that has no member anywhere.
    pub fn remove_group_if_unused(&mut self, group: GroupId) {
        if self.group(group).has_members() {
            return;
        }
        let filter = self.groups.remove(group.0 as usize).filter;
        let groups = &mut self.filters[filter.0 as usize].groups;
        if let Some(list) = groups {
            list.retain(|id| *id != group);
            if list.is_empty() {
                *groups = None;
            }
        }
        self.remove_if_unused(filter);
    }

    /// Forgets a filter that leads nowhere.
    pub fn remove_if_unused(&mut self, filter: FilterId) {
        let entry = self.filter(filter);
        let leads_nowhere = entry.remote == 0 && entry.groups.is_none() && entry.local.as_slice().is_empty();
        if leads_nowhere && !fault!(LeaveFilter) {
            let entry = self.filters.remove(filter.0 as usize);
            let removed = self.trie.remove(TopicFilter::from_checked(&entry.text));
            debug_assert_eq!(removed, Some(filter));
        }
    }

    /// Checks the invariants in the type's head. O(filters).
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check_invariants(&self) {
        assert_eq!(self.trie.len(), self.filters.len());
        for (_, filter) in &self.filters {
            let leads_nowhere = filter.remote == 0 && filter.groups.is_none() && filter.local.as_slice().is_empty();
            assert!(!leads_nowhere, "{} leads nowhere", filter.text);
        }
        assert!(self.groups.iter().all(|(_, group)| group.has_members()));
    }

    /// Filters that lead somewhere.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether no filter leads anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// All routes in text, ordered, as a shard with number `here` would have to announce them: the filter or
    /// `$share/GROUP/FILTER`, and the shards with subscribers. For comparing replicas.
    #[must_use]
    pub fn routes(&self, here: ShardId) -> Vec<(String, Vec<u16>)> {
        let mut routes = Vec::new();
        for (_, filter) in &self.filters {
            let mut shards: Vec<u16> = (0..SHARDS_MAX)
                .filter(|shard| filter.remote & (1 << shard) != 0)
                .collect();
            if !filter.local.as_slice().is_empty() {
                shards.push(here.0);
            }
            if !shards.is_empty() {
                shards.sort_unstable();
                routes.push((filter.text.to_string(), shards));
            }
        }
        for (_, group) in &self.groups {
            let filter = self.text(group.filter);
            routes.push((format!("$share/{}/{filter}", group.name), group.shards(here)));
        }
        routes.sort();
        routes
    }

    fn find_or_add(&mut self, filter: TopicFilter<'_>) -> FilterId {
        if let Some(id) = self.find(filter) {
            return id;
        }
        let text = filter.as_str().into();
        let index = self.filters.insert(Filter {
            text,
            local: Subscribers::default(),
            remote: 0,
            groups: None,
        });
        let id = FilterId(u32::try_from(index).expect("fewer filters than bytes of memory"));
        self.trie.insert(filter, id);
        id
    }

    fn find_or_add_group(&mut self, filter: TopicFilter<'_>, name: &str) -> GroupId {
        if let Some(id) = self.find_group(filter, name) {
            return id;
        }
        let tag = self.hasher.hash_one((name, filter.as_str())) as u32;
        let filter = self.find_or_add(filter);
        let index = self.groups.insert(Group::new(name, filter, tag));
        let id = GroupId(u32::try_from(index).expect("fewer groups than bytes of memory"));
        self.filters[filter.0 as usize].groups.get_or_insert_default().push(id);
        id
    }

    fn filter(&self, filter: FilterId) -> &Filter {
        &self.filters[filter.0 as usize]
    }
}

/// What [`Registry::subscribe`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Added {
    /// The filter.
    pub id: FilterId,
    /// The session had no such subscription.
    pub new: bool,
    /// This shard had none: the peers must be told.
    pub first_on_shard: bool,
}

/// What [`Registry::join`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Joined {
    /// The group.
    pub id: GroupId,
    /// The session was no member.
    pub new: bool,
    /// This shard had no member: the peers must be told.
    pub first_on_shard: bool,
}

/// What [`Registry::unsubscribe`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Removed {
    /// There was such a subscription.
    pub existed: bool,
    /// This shard has none now: the peers must be told, then [`Registry::remove_if_unused`].
    pub last_on_shard: bool,
}

/// The local subscribers of one filter: mostly one, sometimes a hundred thousand.
///
/// Invariant of `Many`: `places[list[n].session] == n` for all n, and nothing else is in `places`.
#[derive(Debug)]
enum Subscribers {
    Few(SmallVec<[Subscriber; 1]>),
    Many(Box<Many>),
}

#[derive(Debug)]
struct Many {
    list: Vec<Subscriber>,
    places: HashMap<u32, u32, RandomState>,
}

impl Default for Subscribers {
    fn default() -> Subscribers {
        Subscribers::Few(SmallVec::new())
    }
}

impl Subscribers {
    fn as_slice(&self) -> &[Subscriber] {
        match self {
            Subscribers::Few(list) => list,
            Subscribers::Many(many) => &many.list,
        }
    }

    fn get_mut(&mut self, session: u32) -> Option<&mut Subscriber> {
        match self {
            Subscribers::Few(list) => list.iter_mut().find(|subscriber| subscriber.session == session),
            Subscribers::Many(many) => many.places.get(&session).map(|place| &mut many.list[*place as usize]),
        }
    }

    /// Adds a subscriber that is not there yet. O(1).
    fn insert(&mut self, subscriber: Subscriber, hasher: &RandomState) {
        match self {
            Subscribers::Few(list) if list.len() < FEW_MAX => list.push(subscriber),
            Subscribers::Few(list) => {
                let mut many = Many {
                    list: Vec::new(),
                    places: HashMap::with_hasher(hasher.clone()),
                };
                for subscriber in list.iter().copied().chain([subscriber]) {
                    many.push(subscriber);
                }
                *self = Subscribers::Many(Box::new(many));
            }
            Subscribers::Many(many) => many.push(subscriber),
        }
    }

    /// O(1): the last one takes the place of the one that goes.
    fn remove(&mut self, session: u32) -> bool {
        match self {
            Subscribers::Few(list) => {
                let at = list.iter().position(|subscriber| subscriber.session == session);
                at.map(|at| list.swap_remove(at)).is_some()
            }
            Subscribers::Many(many) => {
                let Some(place) = many.places.remove(&session) else {
                    return false;
                };
                many.list.swap_remove(place as usize);
                if let Some(moved) = many.list.get(place as usize) {
                    many.places.insert(moved.session, place);
                }
                if many.list.len() <= FEW_MAX / 2 {
                    *self = Subscribers::Few(many.list.iter().copied().collect());
                }
                true
            }
        }
    }
}

impl Many {
    fn push(&mut self, subscriber: Subscriber) {
        let place = u32::try_from(self.list.len()).expect("fewer subscribers than sessions");
        self.places.insert(subscriber.session, place);
        self.list.push(subscriber);
    }
}

/// Up to here a linear search costs less than the table.
const FEW_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicLimits;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::new(text, &TopicLimits::default()).unwrap()
    }

    fn name(text: &str) -> TopicName<'_> {
        TopicName::new(text, &TopicLimits::default()).unwrap()
    }

    #[test]
    fn a_filter_lives_as_long_as_it_leads_somewhere() {
        let mut registry = Registry::new(1);
        let added = registry.subscribe(filter("a/+"), 4, QoS::AtLeastOnce);
        assert!(added.new && added.first_on_shard);
        registry.add_remote(filter("a/+"), ShardId(3));
        registry.set_remote_members(
            filter("a/+"),
            "g",
            RemoteMembers {
                shard: ShardId(2),
                group: GroupRef { index: 0, tag: 0 },
                online: 1,
                offline: 0,
            },
        );
        assert_eq!(registry.matching(name("a/b")), [added.id]);
        assert_eq!(registry.remote_shards(added.id), 1 << 3);
        let expected = [("$share/g/a/+".to_owned(), vec![2]), ("a/+".to_owned(), vec![0, 3])];
        assert_eq!(registry.routes(ShardId(0)), expected);

        assert_eq!(
            registry.unsubscribe(added.id, 4),
            Removed {
                existed: true,
                last_on_shard: true
            }
        );
        assert_eq!(
            registry.unsubscribe(added.id, 4),
            Removed {
                existed: false,
                last_on_shard: false
            }
        );
        registry.remove_if_unused(added.id);
        registry.remove_remote(filter("a/+"), ShardId(3));
        assert_eq!(registry.len(), 1);
        let gone = GroupRef { index: 0, tag: 0 };
        let none = RemoteMembers {
            shard: ShardId(2),
            group: gone,
            online: 0,
            offline: 0,
        };
        registry.set_remote_members(filter("a/+"), "g", none);
        assert!(registry.is_empty());
        assert!(registry.matching(name("a/b")).is_empty());
    }

    /// [MQTT-3.8.4-3]
    #[test]
    fn subscribing_again_replaces_the_qos() {
        let mut registry = Registry::new(1);
        let first = registry.subscribe(filter("t"), 1, QoS::AtMostOnce);
        let again = registry.subscribe(filter("t"), 1, QoS::ExactlyOnce);
        assert_eq!((again.id, again.new, again.first_on_shard), (first.id, false, false));
        let subscriber = Subscriber {
            session: 1,
            pending: 2,
            qos: QoS::ExactlyOnce,
        };
        assert_eq!(registry.subscribers(first.id), [subscriber]);
        assert_eq!(registry.settle(filter("t"), 1), Some(QoS::ExactlyOnce));
        assert_eq!(registry.subscribers(first.id)[0].pending, 1);
        assert_eq!(registry.settle(filter("t"), 2), None);
    }

    #[test]
    fn thousands_of_subscribers_come_and_go_in_any_order() {
        let mut registry = Registry::new(1);
        for session in 0..1_000 {
            registry.subscribe(filter("t"), session, QoS::AtMostOnce);
        }
        let id = registry.find(filter("t")).unwrap();
        for session in (0..1_000).map(|n| n * 7 % 1_000) {
            assert_eq!(registry.settle(filter("t"), session), Some(QoS::AtMostOnce));
            assert!(registry.unsubscribe(id, session).existed);
            assert!(
                !registry
                    .subscribers(id)
                    .iter()
                    .any(|subscriber| subscriber.session == session)
            );
        }
        assert!(registry.subscribers(id).is_empty());
    }
}
