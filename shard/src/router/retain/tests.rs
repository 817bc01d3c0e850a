use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::QoS;
use crate::message::{Message, Origin};

fn message(topic: &str, payload: &str) -> SharedMessage {
    let topic = TopicName::from_checked(topic);
    SharedMessage::new(Message::new(
        topic,
        payload.as_bytes(),
        None,
        QoS::AtLeastOnce,
        true,
        Origin::default(),
    ))
}

fn store_of(topics: &[&str]) -> RetainStore {
    let mut store = RetainStore::new(usize::MAX, usize::MAX);
    for topic in topics {
        assert_eq!(store.set(message(topic, "x")), SetOutcome::Stored);
    }
    store
}

/// All topics found in pieces of `budget`, and how many pieces it took.
fn scan_all(store: &RetainStore, filter: &str, budget: usize) -> (Vec<String>, usize) {
    let (mut found, mut after, mut pieces) = (Vec::new(), None::<SharedMessage>, 0);
    loop {
        let from = after.as_ref().map(|message| message.topic().as_str());
        let visit = |message: &SharedMessage| found.push(message.topic().to_string());
        after = store.scan(TopicFilter::from_checked(filter), from, budget, visit);
        pieces += 1;
        if after.is_none() {
            return (found, pieces);
        }
    }
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-10], [MQTT-3.3.1-11]: the last message stays, an empty one clears and is not stored.
#[test]
fn last_message_of_a_topic_stays_and_an_empty_one_clears() {
    let mut store = RetainStore::new(2, 12);
    let steps = [
        ("a", "", SetOutcome::NothingToClear, 0),
        ("a", "one", SetOutcome::Stored, 4),
        ("a", "other", SetOutcome::Replaced, 6),
        ("a/b", "x", SetOutcome::Stored, 10),
        ("c", "x", SetOutcome::Full, 10),
        ("c", "", SetOutcome::NothingToClear, 10),
        ("a/b", "yy", SetOutcome::Replaced, 11),
        ("a", "", SetOutcome::Cleared, 5),
        ("c", "x", SetOutcome::Stored, 7),
        ("a", "x", SetOutcome::Full, 7),
        ("a/b", "123456789", SetOutcome::Full, 2),
        ("a/b", "yy", SetOutcome::Stored, 7),
    ];
    for (topic, payload, outcome, bytes) in steps {
        assert_eq!(
            (store.set(message(topic, payload)), store.bytes()),
            (outcome, bytes),
            "{topic}: {payload}"
        );
        store.check_invariants();
    }
    let payload = |topic| {
        store
            .get(TopicName::from_checked(topic))
            .map(|message| message.payload())
    };
    assert_eq!(
        (payload("a"), payload("a/b"), payload("c")),
        (None, Some(&b"yy"[..]), Some(&b"x"[..]))
    );
    assert_eq!(store.len(), 2);
}

/// [MQTT-3.3.1-6]: a new subscription gets what matches it. [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.2-1].
#[test]
fn filters_find_the_topics_that_the_standard_says() {
    let store = store_of(&[
        "/", "/a", "a", "a-b", "a-b/c", "a/", "a/b", "a/b-c/d", "a/b/c", "a/b/c/d", "a/b/d", "a/c", "b", "$SYS",
        "$SYS/a", "!", "a//c", "a0",
    ]);
    let table: &[(&str, &[&str])] = &[
        ("a", &["a"]),
        ("c", &[]),
        (
            "a/#",
            &["a", "a/", "a//c", "a/b", "a/b-c/d", "a/b/c", "a/b/c/d", "a/b/d", "a/c"],
        ),
        ("a/b/#", &["a/b", "a/b/c", "a/b/c/d", "a/b/d"]),
        ("+", &["!", "a", "a-b", "a0", "b"]),
        ("+/c", &["a-b/c", "a/c"]),
        ("a/+", &["a/", "a/b", "a/c"]),
        ("a/+/c", &["a//c", "a/b/c"]),
        ("a/+/d", &["a/b-c/d", "a/b/d"]),
        ("+/+/c/#", &["a//c", "a/b/c", "a/b/c/d"]),
        ("+/b/#", &["a/b", "a/b/c", "a/b/c/d", "a/b/d"]),
        ("/#", &["/", "/a"]),
        ("/+", &["/", "/a"]),
        ("$SYS/#", &["$SYS", "$SYS/a"]),
        ("$SYS/+", &["$SYS/a"]),
        ("+/a", &["/a"]),
    ];
    for (filter, expected) in table {
        for budget in [0, 1, 2, 100] {
            assert_eq!(
                scan_all(&store, filter, budget).0,
                *expected,
                "{filter}, {budget} at a time"
            );
        }
    }
    assert_eq!(scan_all(&store, "#", 3).0.len(), 16);
}

/// 100 sites of 1 000 devices: looking for one device of each must not look at all of them.
#[test]
fn what_cannot_match_is_skipped() {
    let mut store = RetainStore::new(usize::MAX, usize::MAX);
    for site in 0..100 {
        for device in 0..1_000 {
            assert_eq!(
                store.set(message(&format!("site-{site}/device-{device}/t"), "x")),
                SetOutcome::Stored
            );
        }
    }
    for (filter, matches, looks_max) in [
        ("+/device-500/t", 100, 4_000),
        ("site-5/#", 1_000, 1_010),
        ("site-5/+/t", 1_000, 1_010),
        ("site-5/+/none", 0, 2_010),
        ("+/none/#", 0, 4_000),
        ("+/none/+/+", 0, 4_000),
        ("none/#", 0, 1),
    ] {
        let (found, pieces) = scan_all(&store, filter, 1);
        assert_eq!(found.len(), matches, "{filter}");
        assert!(pieces <= looks_max, "{filter}: {pieces}");
    }
    // The least budget is one topic, so a piece of more is as many fewer.
    assert_eq!(scan_all(&store, "#", 1_000).1, 101);
}

fn text(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    let levels = prop::collection::vec(prop::sample::select(levels), 1..5);
    levels
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

/// Texts around `/` (0x2f) and `$` (0x24) in the order of bytes.
fn topic_text() -> impl Strategy<Value = String> {
    text(&["", "a", "a-", "a0", "b", "$", "%", "!"])
}

fn filter_text() -> impl Strategy<Value = String> {
    let with_hash = (text(&["", "a", "a-", "b", "$", "+", "+", "+"]), any::<bool>());
    with_hash.prop_map(|(text, hash)| if hash { text + "/#" } else { text })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Pieces of any size find what [`TopicFilter::matches`] finds, in order, each once.
    #[test]
    fn scan_agrees_with_naive_matcher(
        topics in prop::collection::btree_set(topic_text(), 0..60), filter in filter_text(), budget in 0usize..70,
    ) {
        let store = store_of(&topics.iter().map(String::as_str).collect::<Vec<_>>());
        store.check_invariants();
        let matches = |filter: &str, topic: &String| {
            TopicFilter::from_checked(filter).matches(TopicName::from_checked(topic))
        };
        for filter in [&*filter, "#", "+/#"] {
            let expected: Vec<_> = topics.iter().filter(|topic| matches(filter, topic)).cloned().collect();
            prop_assert_eq!(scan_all(&store, filter, budget).0, expected, "{}", filter);
        }
    }

    /// Whatever is stored and cleared between pieces, what stays is found once, and nothing twice.
    #[test]
    fn changes_between_pieces_are_harmless(
        topics in prop::collection::btree_map(topic_text(), any::<bool>(), 1..40),
        changes in prop::collection::vec((topic_text(), any::<bool>()), 0..200),
        filter in filter_text(), budget in 1usize..5,
    ) {
        let mut store = store_of(&topics.keys().map(String::as_str).collect::<Vec<_>>());
        let stays: BTreeMap<_, _> = topics.iter().filter(|(_, stays)| **stays).collect();
        let filter = TopicFilter::from_checked(&filter);
        let (mut found, mut after) = (Vec::new(), None::<SharedMessage>);
        let mut changes = changes.iter();
        loop {
            let from = after.as_ref().map(|message| message.topic().as_str());
            after = store.scan(filter, from, budget, |message| found.push(message.topic().to_string()));
            if after.is_none() {
                break;
            }
            for (topic, stored) in changes.by_ref().take(5).filter(|(topic, _)| !stays.contains_key(topic)) {
                let _ = store.set(message(topic, if *stored { "y" } else { "" }));
            }
        }
        prop_assert!(found.is_sorted_by(|left, right| left < right));
        prop_assert!(found.iter().all(|topic| filter.matches(TopicName::from_checked(topic))));
        for topic in stays.keys().filter(|topic| filter.matches(TopicName::from_checked(topic))) {
            prop_assert!(found.contains(*topic), "{}", topic);
        }
    }
}
