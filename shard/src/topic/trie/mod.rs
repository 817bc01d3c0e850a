//! Which Topic Filters does this Topic Name match?
//!
//! Filters without a wildcard lie in one hash table ([`exact`]): one look-up per match, however many there are. Filters
//! with wildcards form a tree of levels ([`tree`]). Both are keyed by a seed, since clients choose the text.

mod exact;
mod node;
mod tree;

#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use self::exact::ExactTable;
pub use self::tree::MatchScratch;
use self::tree::Tree;
use super::{TopicFilter, TopicName};

/// A map from Topic Filters to values, made for finding all filters that a Topic Name matches.
///
/// Made for small `V`, such as an index. Memory, with a `u32`: 85 to 95 bytes for a filter that shares its leading levels
/// with others, such as `sensors/site-12/device-34567/+`, its text included (`benches/trie.rs`). Memory that removals
/// leave is kept for the next insertions.
///
/// The order of matches depends on the filters and the topic alone.
pub struct TopicTrie<V> {
    exact: ExactTable<V>,
    wildcards: Tree<V>,
}

impl<V> TopicTrie<V> {
    /// An empty trie. `seed` keys its tables: unknown to clients, or they can make it slow.
    #[must_use]
    pub fn new(seed: u64) -> TopicTrie<V> {
        let hasher = TextHasher::new(seed);
        TopicTrie {
            exact: ExactTable::new(hasher.clone()),
            wildcards: Tree::new(hasher),
        }
    }

    /// Filters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len()
    }

    /// Whether there is no filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a filter has a wildcard: if not, a match is one look-up.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.wildcards.len() > 0
    }

    /// Nodes of the tree of wildcard filters, its root included.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.wildcards.node_count()
    }

    /// The value of exactly this filter. O(levels).
    #[must_use]
    pub fn get(&self, filter: TopicFilter<'_>) -> Option<&V> {
        if filter.has_wildcard() {
            self.wildcards.get(filter)
        } else {
            self.exact.get(filter.as_str())
        }
    }

    /// The value of exactly this filter, to change it. O(levels).
    pub fn get_mut(&mut self, filter: TopicFilter<'_>) -> Option<&mut V> {
        if filter.has_wildcard() {
            self.wildcards.get_mut(filter)
        } else {
            self.exact.get_mut(filter.as_str())
        }
    }

    /// Adds a filter, or replaces its value and returns the old one. O(levels); now and then a table grows, which costs
    /// a few nanoseconds per filter in it.
    pub fn insert(&mut self, filter: TopicFilter<'_>, value: V) -> Option<V> {
        let old = if filter.has_wildcard() {
            self.wildcards.insert(filter, value)
        } else {
            self.exact.insert(filter.as_str(), value)
        };
        self.check_small();
        old
    }

    /// Removes a filter and every node it no longer needs. O(levels).
    pub fn remove(&mut self, filter: TopicFilter<'_>) -> Option<V> {
        let old = if filter.has_wildcard() {
            self.wildcards.remove(filter)
        } else {
            self.exact.remove(filter.as_str())
        };
        self.check_small();
        old
    }

    /// Calls `visit` with the value of each filter that `topic` matches, once each.
    ///
    /// One look-up for all filters without wildcard, then a walk over the nodes whose path matches the topic's first
    /// levels: O(levels) for filters people write. The worst case is what any trie has: a set with a filter for every
    /// choice of `+` or text on n levels makes it visit 2ⁿ nodes, but never one twice, nor more than there are. No
    /// recursion, and no allocation once `scratch` has seen as many levels.
    pub fn for_each_match(&self, topic: TopicName<'_>, scratch: &mut MatchScratch, mut visit: impl FnMut(&V)) {
        if let Some(value) = self.exact.get(topic.as_str()) {
            visit(value);
        }
        if self.has_wildcards() {
            self.wildcards.for_each_match(topic, scratch, visit);
        }
    }

    /// All filters with their values, ordered by text. Allocates; for tests and comparisons.
    pub fn iter(&self) -> impl Iterator<Item = (String, &V)> {
        let mut all: Vec<(String, &V)> = self
            .exact
            .iter()
            .map(|(text, value)| (text.to_owned(), value))
            .chain(self.wildcards.iter())
            .collect();
        all.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        all.into_iter()
    }

    /// Checks that every filter is found where it should be and every node is needed. O(nodes).
    ///
    /// # Panics
    /// If not.
    pub fn check_invariants(&self) {
        self.exact.check_invariants();
        self.wildcards.check_invariants();
    }

    /// Checks after each mutation in debug builds, while that is cheap: shapes that can go wrong are small.
    fn check_small(&self) {
        if cfg!(debug_assertions) && self.len() <= CHECKED_FILTERS_MAX {
            self.check_invariants();
        }
    }
}

impl<V> fmt::Debug for TopicTrie<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicTrie")
            .field("len", &self.len())
            .field("nodes", &self.node_count())
            .finish_non_exhaustive()
    }
}

/// Up to this many filters, debug builds check the invariants after each mutation.
const CHECKED_FILTERS_MAX: usize = 32;

/// Hashes text with the seed of a trie.
#[derive(Clone, Debug)]
struct TextHasher(RandomState);

impl TextHasher {
    fn new(seed: u64) -> TextHasher {
        TextHasher(RandomState::with_seeds(
            seed,
            seed.rotate_left(16) ^ 0x9e37_79b9_7f4a_7c15,
            !seed,
            seed.rotate_left(48),
        ))
    }

    #[inline]
    fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(text);
        hasher.finish()
    }
}

/// Half a hash, as the entries of the tables keep it: a table then grows without reading the text again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct ShortHash(u32);

impl ShortHash {
    #[inline]
    fn new(hash: u64) -> ShortHash {
        ShortHash((hash >> 32) as u32)
    }

    /// As many bits as a table wants: it takes the bucket from the low ones and a tag from the high ones.
    #[inline]
    fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
