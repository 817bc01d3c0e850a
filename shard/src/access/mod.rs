//! What clients may publish and read: an access control list, compiled so that a check costs less than a topic match.
//!
//! [`Acl`] is the list; `parse` reads its text, which has the syntax and the meaning of Mosquitto's `acl_file`. `set` holds the
//! filters of one client and one right, `matcher` is one filter that may name the client, and `subscribe` judges a Topic Filter
//! where the rest judges Topic Names. Nothing here knows a session: who asks is given as a [`Who`].
//!
//! A question is answered in this order; the first answer counts:
//!
//! 1. The client's own entries (its user's, or those for clients without a user name): is the topic denied? allowed?
//! 2. The patterns, which are everybody's: denied? allowed?
//! 3. No.

mod matcher;
mod parse;
mod set;
mod subscribe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::topic::TopicName;
use matcher::Names;
use set::FilterSet;

pub use parse::{AclError, AclLineError};
pub use subscribe::STEPS_MAX;

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// Get its messages.
    Read,
    /// Publish to it.
    Write,
}

/// The access control list of a broker.
///
/// Immutable, and shared by all shards: another list takes its place as a whole.
#[derive(Debug)]
pub struct Acl {
    /// By [`Rights::entries`]; the first two are [`ANONYMOUS`] and [`NOBODY`].
    entries: Vec<Entries>,
    by_user: BTreeMap<Box<str>, u32>,
    patterns: Entries,
}

/// What is said about one client, or about all.
#[derive(Debug, Default)]
struct Entries {
    deny: FilterSet,
    read: FilterSet,
    write: FilterSet,
}

/// What the names of a client mean to one list: found out once, and void when another list takes its place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// Place in [`Acl::entries`].
    entries: u32,
    /// No name of the client could be taken for a wildcard. If one can, no pattern says anything about it, as with Mosquitto.
    patterns: bool,
    /// `%c` may allow something.
    client_id: bool,
    /// `%u` may allow something.
    user_name: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// As the list says: [`Acl::rights`] of the same names.
    pub rights: Rights,
    /// The Client Identifier.
    pub client_id: &'a str,
    /// The verified user name.
    pub user_name: Option<&'a str>,
}

impl Acl {
    /// What the list has for a client with these names.
    #[must_use]
    pub fn rights(&self, client_id: &str, user_name: Option<&str>) -> Rights {
        let wild = |name: &str| name.contains(['+', '#']);
        let one_level = |name: &str| !name.contains(['/', '+', '#']);
        Rights {
            entries: match user_name {
                None => ANONYMOUS,
                Some(user) => self.by_user.get(user).copied().unwrap_or(NOBODY),
            },
            patterns: !wild(client_id) && !user_name.is_some_and(wild),
            client_id: one_level(client_id),
            user_name: user_name.is_some_and(one_level),
        }
    }

    /// As [`rights`](Self::rights), of the client whose own list this is ([`Acl::of_client`]).
    #[must_use]
    pub fn own_rights(&self, client_id: &str, user_name: Option<&str>) -> Rights {
        Rights {
            entries: ANONYMOUS,
            ..self.rights(client_id, user_name)
        }
    }

    /// Whether the client may do this with this topic.
    ///
    /// O(log entries) comparisons for entries that are a Topic Name or end in their only wildcard, `#`; beside them, each
    /// filter with a `+` and each pattern is looked at. Allocates nothing.
    #[must_use]
    #[inline]
    pub fn allows(&self, who: Who<'_>, right: Right, topic: TopicName<'_>) -> bool {
        let own = &self.entries[who.rights.entries as usize];
        own.judge(right, topic, Names::default(), Names::default())
            .unwrap_or_else(|| who.rights.patterns && self.patterns_allow(who, right, topic))
    }

    fn patterns_allow(&self, who: Who<'_>, right: Right, topic: TopicName<'_>) -> bool {
        self.patterns
            .judge(right, topic, who.names(), who.fit_names())
            .unwrap_or(false)
    }

    /// Users that the list has entries for.
    #[must_use]
    pub fn users(&self) -> usize {
        self.by_user.len()
    }
}

impl Entries {
    /// What the entries say; `None`: nothing. Denials go first.
    #[inline]
    fn judge(&self, right: Right, topic: TopicName<'_>, denied: Names<'_>, allowed: Names<'_>) -> Option<bool> {
        if self.deny.matches(topic, denied) {
            return Some(false);
        }
        self.allowed(right).matches(topic, allowed).then_some(true)
    }

    #[inline]
    fn allowed(&self, right: Right) -> &FilterSet {
        match right {
            Right::Read => &self.read,
            Right::Write => &self.write,
        }
    }
}

impl<'a> Who<'a> {
    /// For entries that take something away: whatever the names are.
    fn names(self) -> Names<'a> {
        Names {
            client_id: Some(self.client_id),
            user_name: self.user_name,
        }
    }

    /// For entries that give something: a name that is more than one level stands for none, or its client could choose whose
    /// topics it gets.
    fn fit_names(self) -> Names<'a> {
        Names {
            client_id: self.rights.client_id.then_some(self.client_id),
            user_name: self.user_name.filter(|_| self.rights.user_name),
        }
    }
}

/// The entries of clients without a user name.
const ANONYMOUS: u32 = 0;
/// The entries, none, of users that the list does not mention.
const NOBODY: u32 = 1;
