use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::topic::TopicLimits;

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text, &UNLIMITED).unwrap()
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text, &UNLIMITED).unwrap()
}

const UNLIMITED: TopicLimits = TopicLimits {
    levels_max: u16::MAX,
    bytes_max: u16::MAX,
};

/// A trie in which each filter leads to its own text.
fn trie_of(filters: &[&'static str]) -> TopicTrie<&'static str> {
    let mut trie = TopicTrie::new(7);
    for text in filters {
        assert_eq!(trie.insert(filter(text), *text), None);
    }
    trie
}

fn matching<V: Copy + Ord>(trie: &TopicTrie<V>, topic: &str) -> Vec<V> {
    let mut found = Vec::new();
    trie.for_each_match(name(topic), &mut MatchScratch::default(), |value| found.push(*value));
    found.sort_unstable();
    found
}

/// [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.2-1], [MQTT-4.7.3-4].
#[test]
fn names_find_the_filters_that_the_standard_says() {
    let trie = trie_of(&[
        "#",
        "+",
        "+/+",
        "/+",
        "/#",
        "+/#",
        "sport/#",
        "sport/+",
        "sport",
        "sport/tennis",
        "sport/+/p1",
        "sport//",
        "$SYS/#",
        "$SYS/+",
        "+/tennis",
        "+/+/#",
        "Sport",
    ]);
    let table: &[(&str, &[&str])] = &[
        ("sport", &["#", "+", "+/#", "sport", "sport/#"]),
        ("Sport", &["#", "+", "+/#", "Sport"]),
        ("sport/", &["#", "+/#", "+/+", "+/+/#", "sport/#", "sport/+"]),
        (
            "sport/tennis",
            &[
                "#",
                "+/#",
                "+/+",
                "+/+/#",
                "+/tennis",
                "sport/#",
                "sport/+",
                "sport/tennis",
            ],
        ),
        ("sport/tennis/p1", &["#", "+/#", "+/+/#", "sport/#", "sport/+/p1"]),
        ("sport//p1", &["#", "+/#", "+/+/#", "sport/#", "sport/+/p1"]),
        ("sport//", &["#", "+/#", "+/+/#", "sport/#", "sport//"]),
        ("/", &["#", "+/#", "+/+", "+/+/#", "/#", "/+"]),
        ("/finance", &["#", "+/#", "+/+", "+/+/#", "/#", "/+"]),
        ("$SYS", &["$SYS/#"]),
        ("$SYS/tennis", &["$SYS/#", "$SYS/+"]),
        ("$other/tennis", &[]),
        ("x/y/z", &["#", "+/#", "+/+/#"]),
    ];
    for (topic, expected) in table {
        assert_eq!(matching(&trie, topic), *expected, "{topic}");
    }
    assert!(trie.has_wildcards());
}

#[test]
fn values_are_replaced_read_and_removed() {
    for text in ["a/b", "a/+", "a/#", "#", "+", "+/b", "a//+/c", "$SYS/+/x"] {
        let mut trie = TopicTrie::new(1);
        assert_eq!(trie.get(filter(text)), None);
        assert_eq!(trie.insert(filter(text), 1), None);
        assert_eq!(trie.insert(filter(text), 2), Some(1));
        *trie.get_mut(filter(text)).unwrap() += 1;
        assert_eq!((trie.get(filter(text)), trie.len()), (Some(&3), 1));
        assert_eq!(trie.iter().collect::<Vec<_>>(), [(text.to_owned(), &3)]);
        assert_eq!(trie.remove(filter(text)), Some(3));
        assert_eq!(trie.remove(filter(text)), None);
        assert!(trie.is_empty() && !trie.has_wildcards());
        assert_eq!(trie.node_count(), 1);
    }
}

#[test]
fn a_filter_is_not_found_by_its_beginning() {
    let mut trie = trie_of(&["a/+/c", "a/+/c/d/#"]);
    for text in ["a", "a/+", "a/+/c/d", "a/+/#", "a/#", "+/+/c", "a/+/c/d/+"] {
        assert_eq!(trie.get(filter(text)), None, "{text}");
        assert_eq!(trie.remove(filter(text)), None, "{text}");
    }
    assert_eq!(trie.remove(filter("a/+/c")), Some("a/+/c"));
    assert_eq!(matching(&trie, "a/x/c/d"), ["a/+/c/d/#"]);
}

#[test]
fn levels_that_do_not_fit_in_a_node_are_told_apart() {
    let long = "x".repeat(22);
    let texts: Vec<String> = ["", "y", "yz", "zy"]
        .iter()
        .flat_map(|end| [format!("{long}{end}/+"), format!("+/{long}{end}/#")])
        .collect();
    let mut trie = TopicTrie::new(3);
    for (n, text) in texts.iter().enumerate() {
        trie.insert(filter(text), n);
    }
    assert_eq!(matching(&trie, &format!("{long}yz/a")), [4]);
    assert_eq!(matching(&trie, &format!("{long}/{long}zy")), [0, 7]);
    assert_eq!(trie.iter().count(), 8);
}

/// A topic of 65 535 times `/` is walked without recursion, and each of its levels looked at once.
#[test]
fn a_topic_of_slashes_is_walked_iteratively() {
    let slashes = "/".repeat(65_534);
    let topic = "/".repeat(65_535);
    let (all_plus, deep_hash) = ("+/".repeat(32_767) + "+", slashes.clone() + "#");
    let mut trie = TopicTrie::new(5);
    for (n, text) in ["#", "/#", "//+/#", &all_plus, &deep_hash, &slashes, "+"]
        .into_iter()
        .enumerate()
    {
        assert_eq!(trie.insert(filter(text), n), None);
    }
    let mut scratch = MatchScratch::default();
    let mut found = Vec::new();
    trie.for_each_match(TopicName::from_checked(&topic), &mut scratch, |n| found.push(*n));
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 4]);
    assert_eq!(matching(&trie, &"/".repeat(32_767)), [0, 1, 2, 3]);
    for text in [&all_plus, &deep_hash] {
        trie.remove(filter(text));
    }
    assert_eq!(trie.node_count(), trie_of(&["#", "/#", "//+/#", "+"]).node_count());
}

/// All 2¹² filters of `a` and `+` on 12 levels match one topic; those with another end are walked for nothing, once each.
#[test]
fn every_choice_of_plus_is_found_once() {
    const LEVELS: usize = 12;
    let text_of = |bits: usize| -> String {
        (0..LEVELS)
            .map(|level| if bits >> level & 1 == 1 { "+" } else { "a" })
            .collect::<Vec<_>>()
            .join("/")
    };
    let mut trie = TopicTrie::new(9);
    for bits in 0..1 << LEVELS {
        trie.insert(filter(&text_of(bits)), bits);
        trie.insert(filter(&(text_of(bits) + "/end")), bits);
    }
    trie.check_invariants();
    let topic = ["a"; LEVELS].join("/");
    assert_eq!(matching(&trie, &topic), (0..1 << LEVELS).collect::<Vec<_>>());
    assert_eq!(matching(&trie, &(topic.clone() + "/other")), []);
    assert_eq!(matching(&trie, &(topic + "/end")).len(), 1 << LEVELS);
}

/// A level of a filter or of a topic: few texts, so that they meet; empty, `$` in front, one that fits in no node.
const LEVELS: [&str; 6] = ["", "a", "b", "$SYS", "a-level-of-many-bytes-indeed", "é"];

fn topic_text() -> impl Strategy<Value = String> {
    let level = prop::sample::select(LEVELS.to_vec());
    prop::collection::vec(level, 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |s| !s.is_empty())
}

fn filter_text() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => prop::sample::select(LEVELS.to_vec()), 2 => Just("+")];
    let hash = prop_oneof![2 => Just(false), 1 => Just(true)];
    (prop::collection::vec(level, 0..5), hash)
        .prop_map(|(mut levels, hash)| {
            levels.extend(hash.then_some("#"));
            levels.join("/")
        })
        .prop_filter("not empty", |text| !text.is_empty())
}

proptest! {
    /// The trie is a map of filters, and finds what [`TopicFilter::matches`] finds, through insertions and removals.
    #[test]
    fn trie_agrees_with_naive_matcher(
        steps in prop::collection::vec((filter_text(), any::<bool>()), 1..60),
        topics in prop::collection::vec(topic_text(), 1..20),
        seed: u64,
    ) {
        let mut trie = TopicTrie::new(seed);
        let mut model = BTreeMap::new();
        for (n, (text, inserted)) in steps.iter().enumerate() {
            let text = filter(text);
            if *inserted {
                prop_assert_eq!(trie.insert(text, n), model.insert(text, n));
            } else {
                prop_assert_eq!(trie.remove(text), model.remove(&text));
            }
            prop_assert_eq!(trie.len(), model.len());
        }
        trie.check_invariants();
        let all: Vec<(String, &usize)> = model.iter().map(|(text, n)| (text.to_string(), n)).collect();
        prop_assert_eq!(trie.iter().collect::<Vec<_>>(), all);
        let mut scratch = MatchScratch::default();
        for topic in &topics {
            let topic = name(topic);
            let mut found = Vec::new();
            trie.for_each_match(topic, &mut scratch, |n| found.push(*n));
            found.sort_unstable();
            let mut expected: Vec<usize> =
                model.iter().filter(|(text, _)| text.matches(topic)).map(|(_, n)| *n).collect();
            expected.sort_unstable();
            prop_assert_eq!(found, expected, "{}", topic);
        }
        for text in model.keys() {
            prop_assert!(trie.remove(*text).is_some());
        }
        prop_assert_eq!((trie.len(), trie.node_count()), (0, 1));
        trie.check_invariants();
    }

    /// The order of matches is the same whatever the seed and the order of insertion.
    #[test]
    fn order_of_matches_is_that_of_the_filters(
        texts in prop::collection::btree_set(filter_text(), 1..20), topic in topic_text(), seeds: (u64, u64),
    ) {
        let mut tries = (TopicTrie::new(seeds.0), TopicTrie::new(seeds.1));
        for text in &texts {
            tries.0.insert(filter(text), text);
        }
        for text in texts.iter().rev() {
            tries.1.insert(filter(text), text);
        }
        let order = |trie: &TopicTrie<&String>| {
            let mut found = Vec::new();
            trie.for_each_match(name(&topic), &mut MatchScratch::default(), |text| found.push((*text).clone()));
            found
        };
        prop_assert_eq!(order(&tries.0), order(&tries.1));
    }
}
