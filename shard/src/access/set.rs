//! The filters for one right of one client, sorted by how they are found.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use ahash::RandomState;
use hashbrown::HashTable;

use super::matcher::{Matcher, Names};
use crate::hash::table_hasher;
use crate::topic::{TopicFilter, TopicName};

/// Filters, of which a Topic Name matches some or none.
///
/// Invariants: `exact` is sorted, and has an index if there are more than [`SEARCHED_MAX`]; `subtrees` is sorted by [`root`], and
/// none of them lies below another; both are without what others here match anyway.
#[derive(Debug, Default)]
pub(super) struct FilterSet {
    /// `#` is among them: every Topic Name that does not start with `$`.
    everything: bool,
    /// Without wildcards.
    exact: Box<[Box<str>]>,
    index: Option<Index>,
    /// `ROOT/#`, without another wildcard; the whole text.
    subtrees: Box<[Box<str>]>,
    /// With `+`, or with the client's names.
    others: Box<[Matcher]>,
}

impl FilterSet {
    pub(super) fn new(matchers: Vec<Matcher>) -> FilterSet {
        let (mut exact, mut subtrees, mut others) = (Vec::<Box<str>>::new(), Vec::<Box<str>>::new(), Vec::new());
        let mut everything = false;
        for matcher in matchers {
            match Kind::of(&matcher) {
                Kind::Everything => everything = true,
                Kind::Exact => exact.push(matcher.into_text()),
                Kind::Subtree => subtrees.push(matcher.into_text()),
                Kind::Other => others.push(matcher),
            }
        }
        let needed = |text: &str| !everything || text.starts_with('$');
        subtrees.retain(|text| needed(text));
        subtrees.sort_by(|left, right| root(left).cmp(root(right)));
        // What lies below another follows it.
        subtrees.dedup_by(|lower, upper| root(lower).starts_with(root(upper)));
        exact.sort_unstable();
        exact.dedup();
        exact.retain(|text| needed(text) && subtree_of(text, &subtrees).is_none());
        FilterSet {
            everything,
            index: (exact.len() > SEARCHED_MAX).then(|| Index::new(&exact)),
            exact: exact.into(),
            subtrees: subtrees.into(),
            others: others.into(),
        }
    }

    /// Whether one of the filters matches.
    #[inline]
    pub(super) fn matches(&self, topic: TopicName<'_>, names: Names<'_>) -> bool {
        let text = topic.as_str();
        (self.everything && !topic.starts_with_dollar())
            || self.has_exact(text)
            || subtree_of(text, &self.subtrees).is_some()
            || self.others.iter().any(|matcher| matcher.matches(topic, names))
    }

    #[inline]
    fn has_exact(&self, text: &str) -> bool {
        match &self.index {
            Some(index) => index.has(text, &self.exact),
            None => !self.exact.is_empty() && self.position(text).is_ok(),
        }
    }

    fn position(&self, text: &str) -> Result<usize, usize> {
        self.exact.binary_search_by(|exact| (**exact).cmp(text))
    }

    /// The filters, with the names in their places, that may match something which `wanted` matches too; others are among them,
    /// but few of those that are found by their text.
    pub(super) fn near<'a>(&'a self, wanted: TopicFilter<'_>, names: Names<'a>) -> impl Iterator<Item = Cow<'a, str>> {
        let everything = self.everything.then_some(Cow::Borrowed("#"));
        let texts = self.exact_near(wanted).chain(self.subtrees_near(wanted));
        everything
            .into_iter()
            .chain(texts.map(Cow::Borrowed))
            .chain(self.others.iter().filter_map(move |matcher| matcher.filter(names)))
    }

    /// Each match of `wanted` begins with its literal prefix; but `a/#` also matches `a`.
    fn exact_near(&self, wanted: TopicFilter<'_>) -> impl Iterator<Item = &str> {
        let below = range(&self.exact, wanted.literal_prefix(), |text| text);
        let parent = wanted.as_str().strip_suffix("/#").unwrap_or_default();
        let parent = self.position(parent).map_or(0..0, |at| at..at + 1);
        texts(&self.exact[parent]).chain(texts(&self.exact[below]))
    }

    /// The one under whose root the literal levels of `wanted` lie, or those whose roots lie below them.
    fn subtrees_near(&self, wanted: TopicFilter<'_>) -> impl Iterator<Item = &str> {
        let prefix = wanted.literal_prefix();
        let above = prefix
            .strip_suffix('/')
            .and_then(|levels| subtree_of(levels, &self.subtrees));
        let near = above.map_or_else(|| range(&self.subtrees, prefix, root), |at| at..at + 1);
        texts(&self.subtrees[near])
    }
}

/// Where names lie in a sorted list of them. What is in it the operator chose, so its keys need be no secret.
#[derive(Debug)]
struct Index {
    places: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    fn new(names: &[Box<str>]) -> Index {
        let hasher = table_hasher(0);
        let mut places = HashTable::with_capacity(names.len());
        let hash = |at: &u32| hasher.hash_one(&*names[*at as usize]);
        for at in 0..u32::try_from(names.len()).expect("a file has fewer lines") {
            places.insert_unique(hash(&at), at, hash);
        }
        Index { places, hasher }
    }

    #[inline]
    fn has(&self, name: &str, names: &[Box<str>]) -> bool {
        let same = |at: &u32| *names[*at as usize] == *name;
        self.places.find(self.hasher.hash_one(name), same).is_some()
    }
}

/// How a filter is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Everything,
    Exact,
    Subtree,
    Other,
}

impl Kind {
    fn of(matcher: &Matcher) -> Kind {
        if matcher.is_named() {
            return Kind::Other;
        }
        match matcher.text() {
            // One level or more, of a name that has one at least.
            "#" | "+/#" => Kind::Everything,
            text => match text.strip_suffix("/#") {
                Some(root) if !root.contains('+') => Kind::Subtree,
                None if !text.contains('+') => Kind::Exact,
                _ => Kind::Other,
            },
        }
    }
}

fn texts(boxes: &[Box<str>]) -> impl Iterator<Item = &str> {
    boxes.iter().map(|text| &**text)
}

/// Those of a list, sorted by `key`, whose key begins with `prefix`.
fn range(sorted: &[Box<str>], prefix: &str, key: impl Fn(&str) -> &str) -> Range<usize> {
    let begin = sorted.partition_point(|text| key(text) < prefix);
    let len = sorted[begin..].partition_point(|text| key(text).starts_with(prefix));
    begin..begin + len
}

/// `ROOT/` of `ROOT/#`. Everything below a root begins with it, so it follows the root without a gap.
fn root(subtree: &str) -> &str {
    &subtree[..subtree.len() - "#".len()]
}

/// The subtree that has this Topic Name, by place. No root lies below another, so it can only be one.
#[inline]
fn subtree_of(text: &str, subtrees: &[Box<str>]) -> Option<usize> {
    let text = text.as_bytes();
    let order = |subtree: &str| {
        let root = root(subtree).as_bytes();
        let len = root.len().min(text.len());
        root[..len].cmp(&text[..len]).then_with(|| match root.get(len..) {
            // The name lies below; or it is what the root is without its `/`.
            None | Some([] | [b'/']) => Ordering::Equal,
            // As if the name had a `/` at its end too.
            Some([b'/', ..]) => Ordering::Greater,
            Some([next, ..]) => next.cmp(&b'/'),
        })
    };
    subtrees.binary_search_by(|subtree| order(subtree)).ok()
}

/// Up to so many names are searched for by comparing: then that costs less than a hash.
const SEARCHED_MAX: usize = 8;
