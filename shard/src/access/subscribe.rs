//! Whether a Topic Filter may be subscribed to.

use super::matcher::Names;
use super::set::FilterSet;
use super::{Acl, Right, Who};
use crate::topic::{Subscription, TopicFilter, TopicName, covers, intersection};

impl Acl {
    /// Whether a SUBSCRIBE for this is granted.
    ///
    /// A plain filter is, unless nothing that it matches could ever be read: each message is judged again before it leaves. A
    /// share in a filter is only if everything that it matches may be read: what one member may not have would be lost to the
    /// others.
    ///
    /// At most [`STEPS_MAX`] entries are looked at for one packet, which `steps` counts. Beyond, a plain filter is granted unseen,
    /// and a share refused.
    #[must_use]
    pub fn grants(&self, who: Who<'_>, wanted: Subscription<'_>, steps: &mut usize) -> bool {
        if !wanted.filter.has_wildcard() {
            return self.allows(who, Right::Read, TopicName::from_checked(wanted.filter.as_str()));
        }
        let mut search = Search {
            wanted: wanted.filter,
            steps,
        };
        match wanted.group {
            None => self.some_is_readable(who, &mut search).unwrap_or(true),
            Some(_) => self.all_is_readable(who, &mut search).unwrap_or(false),
        }
    }

    fn some_is_readable(&self, who: Who<'_>, search: &mut Search<'_>) -> Option<bool> {
        let own = &self.entries[who.rights.entries as usize];
        let nobody = Names::default();
        if search.some_is_left(&own.read, nobody, &[(&own.deny, nobody)])? {
            return Some(true);
        }
        let denials = [(&own.deny, nobody), (&self.patterns.deny, who.names())];
        Some(who.rights.patterns && search.some_is_left(&self.patterns.read, who.fit_names(), &denials)?)
    }

    fn all_is_readable(&self, who: Who<'_>, search: &mut Search<'_>) -> Option<bool> {
        let own = &self.entries[who.rights.entries as usize];
        let nobody = Names::default();
        if search.meets(&own.deny, nobody)? {
            return Some(false);
        }
        if search.is_covered(&own.read, nobody)? {
            return Some(true);
        }
        Some(
            who.rights.patterns
                && !search.meets(&self.patterns.deny, who.names())?
                && search.is_covered(&self.patterns.read, who.fit_names())?,
        )
    }
}

/// A look at the entries that have something in common with a filter. Every answer is `None` once there were too many.
struct Search<'a> {
    wanted: TopicFilter<'a>,
    steps: &'a mut usize,
}

impl Search<'_> {
    fn step(&mut self) -> Option<()> {
        *self.steps += 1;
        (*self.steps <= STEPS_MAX).then_some(())
    }

    /// Whether one of `allowed` matches something of what is wanted that no single denial takes away.
    ///
    /// What several denials take away only together is not noticed, and granted.
    fn some_is_left(
        &mut self,
        allowed: &FilterSet,
        names: Names<'_>,
        denials: &[(&FilterSet, Names<'_>)],
    ) -> Option<bool> {
        for entry in allowed.near(self.wanted, names) {
            self.step()?;
            let Some(both) = intersection(TopicFilter::from_checked(&entry), self.wanted) else {
                continue;
            };
            let mut left = true;
            for (denied, names) in denials {
                for denial in denied.near(self.wanted, *names) {
                    self.step()?;
                    left &= !covers(TopicFilter::from_checked(&denial), &both);
                }
            }
            if left {
                return Some(true);
            }
        }
        Some(false)
    }

    fn meets(&mut self, set: &FilterSet, names: Names<'_>) -> Option<bool> {
        for entry in set.near(self.wanted, names) {
            self.step()?;
            if intersection(TopicFilter::from_checked(&entry), self.wanted).is_some() {
                return Some(true);
            }
        }
        Some(false)
    }

    fn is_covered(&mut self, set: &FilterSet, names: Names<'_>) -> Option<bool> {
        let levels: Vec<&str> = self.wanted.as_str().split('/').collect();
        for entry in set.near(self.wanted, names) {
            self.step()?;
            if covers(TopicFilter::from_checked(&entry), &levels) {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// Entries that one SUBSCRIBE is held against: some ten microseconds, and more than there are near any filter in lists that people
/// write. A read has room for some thousand small packets.
pub const STEPS_MAX: usize = 1_024;
