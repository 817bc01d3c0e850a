//! Retained messages: the last one of each topic that this shard owns [MQTT-3.3.1-5].
//!
//! They are ordered by topic, so a filter is a range, and a search can stop anywhere and go on from the last topic it saw,
//! whatever was stored or cleared meanwhile. Which shard owns a topic, and who asks, this module does not know.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::collections::btree_set;
use std::ops::Bound;

use crate::message::SharedMessage;
use crate::topic::{TopicFilter, TopicName};

#[cfg(test)]
mod tests;

/// One message per topic, ordered by the bytes of the topic.
///
/// Invariants: `topics.len() <= messages_max`; `bytes` is the sum of their sizes, and at most `bytes_max`, where not
/// more was there already when a limit was set; no payload is empty.
#[derive(Debug)]
pub struct RetainStore {
    topics: BTreeSet<ByTopic>,
    bytes: usize,
    messages_max: usize,
    /// Topic Names and payloads, in bytes.
    bytes_max: usize,
    /// Messages and bytes that were there when the limits were set: they stay.
    kept: (usize, usize),
}

/// What [`RetainStore::set`] did.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetOutcome {
    /// The topic had no message.
    Stored,
    /// The topic had another message.
    Replaced,
    /// The payload was empty, and the message that was there is gone [MQTT-3.3.1-10].
    Cleared,
    /// The payload was empty, and there was no message.
    NothingToClear,
    /// A limit is reached; the message is not stored. What the topic had is gone: better none than an outdated one.
    Full,
}

impl RetainStore {
    /// An empty store for at most this many messages, with at most this many bytes of Topic Names and payloads.
    #[must_use]
    pub fn new(messages_max: usize, bytes_max: usize) -> RetainStore {
        RetainStore {
            topics: BTreeSet::new(),
            bytes: 0,
            messages_max,
            bytes_max,
            kept: (0, 0),
        }
    }

    /// Other limits from here on. What is over them stays; a topic that has a message keeps one, as long as it does not grow.
    pub fn set_limits(&mut self, messages_max: usize, bytes_max: usize) {
        self.messages_max = messages_max;
        self.bytes_max = bytes_max;
        self.kept = (self.topics.len(), self.bytes);
    }

    /// Makes `message` the retained one of its topic, or clears the topic if its payload is empty [MQTT-3.3.1-10]
    /// [MQTT-3.3.1-11]. O(log messages).
    pub fn set(&mut self, message: SharedMessage) -> SetOutcome {
        let outcome = self.replace_or_clear(message);
        if cfg!(debug_assertions) && self.topics.len() <= CHECKED_TOPICS_MAX {
            self.check_invariants();
        }
        outcome
    }

    /// The message of one topic. O(log messages).
    #[must_use]
    pub fn get(&self, topic: TopicName<'_>) -> Option<&SharedMessage> {
        self.topics.get(topic.as_str()).map(|entry| &entry.0)
    }

    /// Messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Topic Names and payloads, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls `visit` with messages whose topic matches `filter`, in the order of their topics, until `budget` topics have
    /// been looked at (one at least).
    ///
    /// Returns `None` when it is through, else the last message looked at: its topic is `after` in the next call. A topic
    /// that has a message through all calls is visited once; one that is stored or cleared in between, once or not at all.
    /// Topics that cannot match are skipped where they form a range; a skip counts as eight.
    pub fn scan(
        &self,
        filter: TopicFilter<'_>,
        after: Option<&str>,
        budget: usize,
        mut visit: impl FnMut(&SharedMessage),
    ) -> Option<SharedMessage> {
        if !filter.has_wildcard() {
            self.topics
                .get(filter.as_str())
                .into_iter()
                .for_each(|entry| visit(&entry.0));
            return None;
        }
        let mut skip_to = String::new();
        let mut topics = match after.map(|topic| (topic, Step::from(filter, topic, &mut skip_to))) {
            None => self.topics_from(Bound::Included(first_topic(filter))),
            Some((topic, Step::Visit | Step::Next)) => self.topics_from(Bound::Excluded(topic)),
            Some((_, Step::Skip)) => self.topics_from(Bound::Included(&skip_to)),
            Some((_, Step::End)) => return None,
        };
        let (mut looked_at, mut passed, mut skipping) = (0, 0, false);
        loop {
            let ByTopic(message) = topics.next()?;
            let topic = message.topic();
            looked_at += 1;
            if skipping && topic.as_str() < &*skip_to {
                passed += 1;
                if passed == SKIP_COST {
                    topics = self.topics_from(Bound::Included(&skip_to));
                    looked_at += SKIP_COST;
                }
            } else {
                let step = Step::from(filter, topic.as_str(), &mut skip_to);
                (skipping, passed) = (step == Step::Skip, 0);
                match step {
                    Step::Visit => visit(message),
                    Step::Next | Step::Skip => {}
                    Step::End => return None,
                }
            }
            if looked_at >= budget {
                return Some(SharedMessage::clone(message));
            }
        }
    }

    /// Checks `bytes` and the limit. O(messages).
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub fn check_invariants(&self) {
        assert!(self.topics.len() <= self.messages_max.max(self.kept.0));
        assert!(self.bytes <= self.bytes_max.max(self.kept.1));
        assert_eq!(
            self.bytes,
            self.topics.iter().map(|entry| entry.0.size()).sum::<usize>()
        );
        assert!(self.topics.iter().all(|entry| !entry.0.payload().is_empty()));
    }

    fn replace_or_clear(&mut self, message: SharedMessage) -> SetOutcome {
        if message.payload().is_empty() {
            if fault!(KeepCleared) {
                return SetOutcome::NothingToClear;
            }
            let Some(cleared) = self.topics.take(message.topic().as_str()) else {
                return SetOutcome::NothingToClear;
            };
            self.bytes -= cleared.0.size();
            return SetOutcome::Cleared;
        }
        let known = self.topics.get(message.topic().as_str()).map(|known| known.0.size());
        let fits = (known.is_some() || self.topics.len() < self.messages_max)
            && (self.bytes - known.unwrap_or(0) + message.size() <= self.bytes_max
                || known.is_some_and(|known| message.size() <= known));
        if !fits {
            if let Some(outdated) = self.topics.take(message.topic().as_str()) {
                self.bytes -= outdated.0.size();
            }
            return SetOutcome::Full;
        }
        self.bytes = self.bytes - known.unwrap_or(0) + message.size();
        match self.topics.replace(ByTopic(message)) {
            Some(_) => SetOutcome::Replaced,
            None => SetOutcome::Stored,
        }
    }

    fn topics_from(&self, bound: Bound<&str>) -> btree_set::Range<'_, ByTopic> {
        self.topics.range::<str, _>((bound, Bound::Unbounded))
    }
}

/// A message, in a set where only its topic counts: the text is stored once.
#[derive(Debug)]
struct ByTopic(SharedMessage);

impl Borrow<str> for ByTopic {
    fn borrow(&self) -> &str {
        self.0.topic().as_str()
    }
}

impl Ord for ByTopic {
    fn cmp(&self, other: &ByTopic) -> Ordering {
        self.0.topic().as_str().cmp(other.0.topic().as_str())
    }
}

impl PartialOrd for ByTopic {
    fn partial_cmp(&self, other: &ByTopic) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &ByTopic) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByTopic {}

/// The least topic that can match.
fn first_topic(filter: TopicFilter<'_>) -> &str {
    let prefix = filter.literal_prefix();
    // `sport/#` matches `sport` as well.
    if filter.as_str()[prefix.len()..].starts_with('#') {
        prefix.strip_suffix('/').unwrap_or(prefix)
    } else {
        prefix
    }
}

/// How a search goes on from a topic, given that all lesser topics are done with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// It matches.
    Visit,
    /// It does not, the next one may.
    Next,
    /// Nothing below `skip_to` does.
    Skip,
    /// Nothing above it does.
    End,
}

impl Step {
    /// Compares level by level. Topics are ordered by bytes, so below a level `b` lie the topics from `b/` up to, not
    /// including, `b0` (0 follows / in ASCII), and between `b` and `b/` may lie `b-c`, which is another level.
    fn from(filter: TopicFilter<'_>, topic: &str, skip_to: &mut String) -> Step {
        skip_to.clear();
        if topic.starts_with('$') && filter.starts_with_wildcard() {
            skip_to.push('%'); // It follows $ in ASCII [MQTT-4.7.2-1].
            return Step::Skip;
        }
        // Where the topic's level begins that is compared; where the last one ends that a `+` stands for.
        let (mut start, mut plus_end) = (0, None);
        let mut levels = filter.as_str().split('/').peekable();
        while let Some(level) = levels.next() {
            if level == "#" {
                return Step::Visit;
            }
            if start > topic.len() {
                return Step::Next;
            }
            let rest = &topic[start..];
            let end = start + rest.find('/').unwrap_or(rest.len());
            if level == "+" {
                plus_end = Some(end);
            } else if &topic[start..end] != level {
                let next = levels.peek();
                let (level_itself, below_it) = (next.is_none_or(|next| *next == "#"), next.is_some());
                let before_below = rest.strip_prefix(level).map_or(rest < level, |after| after < "/");
                if (level_itself && rest < level) || (below_it && before_below) {
                    skip_to.push_str(&topic[..start]);
                    skip_to.push_str(level);
                    if !(level_itself && rest < level) {
                        skip_to.push('/');
                    }
                    return Step::Skip;
                }
                return Step::past(topic, plus_end, skip_to);
            }
            start = end + 1;
        }
        if start > topic.len() {
            Step::Visit
        } else {
            Step::past(topic, plus_end, skip_to)
        }
    }

    /// Past all topics with the same text in place of the filter's last `+`; without one, none is left.
    fn past(topic: &str, plus_end: Option<usize>, skip_to: &mut String) -> Step {
        let Some(end) = plus_end else { return Step::End };
        skip_to.clear();
        skip_to.push_str(&topic[..end]);
        skip_to.push('0');
        Step::Skip
    }
}

/// Topics passed one by one before a look-up skips the rest of a range, and what that look-up counts for.
const SKIP_COST: usize = 8;

/// Up to this many topics, debug builds check the invariants after each mutation.
const CHECKED_TOPICS_MAX: usize = 32;
