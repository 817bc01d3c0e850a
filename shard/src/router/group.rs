//! A shared group: each message goes to one of its members, wherever in the broker they are.
//!
//! Every shard knows how many members each other shard has, and who its own are. The publisher's shard chooses the
//! shard, weighted by members; that shard chooses the member. Connected members are preferred: those whose session waits
//! for their return are chosen only while nobody in the group is connected.

use crate::codec::QoS;
use crate::shard::ShardId;

use super::FilterId;

/// Names a group of one shard across time, also to its peers and in messages on their way. A slot is reused by other groups;
/// one that loses its last member and gets another while a message is on its way to it is the same group.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupRef {
    /// Place in the owning shard's table.
    pub index: u32,
    /// From its name and filter, by a key of that shard.
    pub tag: u32,
}

/// A member on this shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// Place in the shard's table of sessions.
    pub session: u32,
    /// As granted.
    pub qos: QoS,
}

/// The members that another shard has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RemoteMembers {
    /// Where.
    pub shard: ShardId,
    /// How that shard calls the group.
    pub group: GroupRef,
    /// Connected members.
    pub online: u32,
    /// Members whose session is kept while they are away.
    pub offline: u32,
}

/// Where one message goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pick {
    /// To this member of this shard.
    Local(Member),
    /// To that shard, which chooses the member of its group.
    Remote(ShardId, GroupRef),
}

/// One group as this shard sees it.
///
/// Invariant: it has a member somewhere, else it is removed.
#[derive(Debug)]
pub struct Group {
    /// The share name. No topic level.
    pub name: Box<str>,
    /// The filter that it shares.
    pub filter: FilterId,
    /// As in [`GroupRef`].
    pub tag: u32,
    /// This shard's connected members.
    online: Vec<Member>,
    /// This shard's members that are away.
    offline: Vec<Member>,
    /// The other shards' members, ordered by shard.
    remote: Vec<RemoteMembers>,
    /// Rises with each message: whose turn it is.
    turn: u32,
}

impl Group {
    pub(super) fn new(name: &str, filter: FilterId, tag: u32) -> Group {
        Group {
            name: name.into(),
            filter,
            tag,
            online: vec![],
            offline: vec![],
            remote: vec![],
            turn: 0,
        }
    }

    /// Connected and absent members of this shard.
    #[must_use]
    pub fn local_members(&self) -> (u32, u32) {
        let count = |members: &Vec<Member>| u32::try_from(members.len()).expect("fewer members than sessions");
        (count(&self.online), count(&self.offline))
    }

    /// The shards with members, ordered.
    pub(super) fn shards(&self, here: ShardId) -> Vec<u16> {
        let mut shards: Vec<u16> = self.remote.iter().map(|members| members.shard.0).collect();
        if self.local_members() != (0, 0) {
            shards.push(here.0);
        }
        shards.sort_unstable();
        shards
    }

    /// Whether there is a member anywhere.
    #[must_use]
    pub fn has_members(&self) -> bool {
        !self.online.is_empty() || !self.offline.is_empty() || !self.remote.is_empty()
    }

    /// Whether there is a connected member anywhere.
    #[must_use]
    pub fn has_online(&self) -> bool {
        !self.online.is_empty() || self.remote.iter().any(|members| members.online > 0)
    }

    /// Adds a member or replaces its QoS; returns whether it is new.
    pub(super) fn join(&mut self, member: Member, online: bool) -> bool {
        let known = self
            .online
            .iter_mut()
            .chain(&mut self.offline)
            .find(|known| known.session == member.session);
        if let Some(known) = known {
            known.qos = member.qos;
            return false;
        }
        if online {
            self.online.push(member);
        } else {
            self.offline.push(member);
        }
        true
    }

    pub(super) fn leave(&mut self, session: u32) -> bool {
        take(&mut self.online, session)
            .or_else(|| take(&mut self.offline, session))
            .is_some()
    }

    pub(super) fn set_online(&mut self, session: u32, online: bool) {
        let (from, to) = if online {
            (&mut self.offline, &mut self.online)
        } else {
            (&mut self.online, &mut self.offline)
        };
        if let Some(member) = take(from, session) {
            to.push(member);
        }
    }

    pub(super) fn set_remote(&mut self, members: RemoteMembers) {
        let at = self.remote.binary_search_by_key(&members.shard, |known| known.shard);
        let none = members.online == 0 && members.offline == 0;
        match at {
            Ok(at) if none => {
                self.remote.remove(at);
            }
            Ok(at) => self.remote[at] = members,
            Err(_) if none => {}
            Err(at) => self.remote.insert(at, members),
        }
    }

    /// Chooses for a message of this shard. `sticky` is a number that stays with the publisher; without it the members
    /// take turns. O(shards with members).
    pub fn pick(&mut self, here: ShardId, sticky: Option<u32>) -> Option<Pick> {
        let turn = self.next_turn(sticky);
        let (online, offline) = self.local_members();
        let any_online = online > 0 || self.remote.iter().any(|members| members.online > 0);
        let weight = |online: u32, offline: u32| if any_online { online } else { offline };
        let total: u32 = weight(online, offline)
            + self
                .remote
                .iter()
                .map(|members| weight(members.online, members.offline))
                .sum::<u32>();
        if total == 0 {
            return None;
        }
        // All shards count in one order, so that a sticky publisher finds the same member from wherever it publishes.
        let mut at = turn % total;
        let mut local_counted = false;
        for members in &self.remote {
            if !local_counted && members.shard > here {
                local_counted = true;
                let own = weight(online, offline);
                if at < own {
                    return self.pick_local(Some(at)).map(Pick::Local);
                }
                at -= own;
            }
            let theirs = weight(members.online, members.offline);
            if at < theirs {
                return Some(Pick::Remote(members.shard, members.group));
            }
            at -= theirs;
        }
        self.pick_local(Some(at)).map(Pick::Local)
    }

    /// Chooses among this shard's members, for a message of another shard. `None` if they have left meanwhile.
    pub fn pick_local(&mut self, sticky: Option<u32>) -> Option<Member> {
        let turn = self.next_turn(sticky) as usize;
        let members = if self.online.is_empty() {
            &self.offline
        } else {
            &self.online
        };
        if members.is_empty() {
            None
        } else {
            Some(members[turn % members.len()])
        }
    }

    fn next_turn(&mut self, sticky: Option<u32>) -> u32 {
        sticky.unwrap_or_else(|| {
            let turn = self.turn;
            self.turn = self.turn.wrapping_add(1);
            turn
        })
    }
}

fn take(members: &mut Vec<Member>, session: u32) -> Option<Member> {
    // The order of members is that of their arrival, and stays so when one leaves: sticky choices move as little as can be.
    members
        .iter()
        .position(|member| member.session == session)
        .map(|at| members.remove(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ShardId = ShardId(1);

    fn group() -> Group {
        Group::new("g", FilterId(0), 0)
    }

    fn member(session: u32) -> Member {
        Member {
            session,
            qos: QoS::AtLeastOnce,
        }
    }

    fn remote(shard: u16, online: u32, offline: u32) -> RemoteMembers {
        let group = GroupRef { index: 9, tag: 9 };
        RemoteMembers {
            shard: ShardId(shard),
            group,
            online,
            offline,
        }
    }

    fn picks(group: &mut Group, count: u32) -> Vec<u32> {
        let mut picks = vec![0; 8];
        for _ in 0..count {
            match group.pick(HERE, None) {
                Some(Pick::Local(member)) => picks[member.session as usize] += 1,
                Some(Pick::Remote(shard, _)) => picks[4 + shard.index()] += 1,
                None => panic!("no pick"),
            }
        }
        picks
    }

    #[test]
    fn every_member_of_every_shard_gets_its_share() {
        let mut group = group();
        group.join(member(0), true);
        group.join(member(1), true);
        group.set_remote(remote(0, 1, 5));
        group.set_remote(remote(2, 3, 0));
        assert_eq!(picks(&mut group, 600), [100, 100, 0, 0, 100, 0, 300, 0]);
    }

    #[test]
    fn absent_members_get_messages_only_while_nobody_is_connected() {
        let mut group = group();
        group.join(member(0), false);
        group.set_remote(remote(2, 0, 1));
        assert_eq!(picks(&mut group, 10), [5, 0, 0, 0, 0, 0, 5, 0]);
        group.set_online(0, true);
        assert_eq!(picks(&mut group, 10), [10, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_sticky_publisher_keeps_its_member() {
        let mut group = group();
        for session in 0..3 {
            group.join(member(session), true);
        }
        let first = group.pick(HERE, Some(77));
        assert!((0..20).all(|_| group.pick(HERE, Some(77)) == first));
        assert_ne!(group.pick(HERE, Some(78)), first);
    }

    #[test]
    fn joining_twice_replaces_the_qos() {
        let mut group = group();
        assert!(group.join(member(0), true));
        assert!(!group.join(
            Member {
                session: 0,
                qos: QoS::AtMostOnce
            },
            true
        ));
        assert_eq!(
            group.pick_local(None),
            Some(Member {
                session: 0,
                qos: QoS::AtMostOnce
            })
        );
        assert!(group.leave(0));
        assert_eq!(group.pick(HERE, None), None);
        assert!(!group.has_members());
    }
}
