//! The body of the fuzz target `topic`: the trie against a matcher so plain that it can be read against section 4.7.

use std::collections::BTreeMap;

use super::{MatchScratch, Subscription, TopicFilter, TopicLimits, TopicName, TopicTrie};

/// Inserts, removes and looks up what the lines of `script` say, in a trie and in a plain map; panics where they differ.
///
/// A line is `+FILTER` (insert), `-FILTER` (remove), or `?TOPIC` (match); any other says nothing. The first byte of the
/// script keys the trie's tables. A line that is no valid text for its purpose must be one for no other either.
pub fn fuzz_topic(script: &[u8]) {
    let limits = TopicLimits::default();
    let seed = script.first().copied().unwrap_or_default();
    let mut trie = TopicTrie::new(u64::from(seed));
    let mut model = BTreeMap::new();
    let mut scratch = MatchScratch::default();
    let mut topics = Vec::new();
    for (number, line) in script.split(|byte| *byte == b'\n').enumerate() {
        let Some((&operation, text)) = line.split_first() else {
            continue;
        };
        let Ok(text) = std::str::from_utf8(text) else { continue };
        check_validity(text, &limits);
        match operation {
            b'+' | b'-' => {
                let Ok(filter) = TopicFilter::new(text, &limits) else {
                    continue;
                };
                assert_eq!(trie.get(filter), model.get(text));
                if operation == b'+' {
                    assert_eq!(trie.insert(filter, number), model.insert(text, number), "{filter}");
                } else {
                    assert_eq!(trie.remove(filter), model.remove(text), "{filter}");
                }
                assert_eq!(trie.len(), model.len());
            }
            b'?' => {
                let Ok(topic) = TopicName::new(text, &limits) else {
                    continue;
                };
                check_matches(&trie, &model, &mut scratch, topic);
                topics.push(topic);
            }
            _ => {}
        }
    }
    trie.check_invariants();
    for topic in topics {
        check_matches(&trie, &model, &mut scratch, topic);
    }
    assert!(
        trie.iter()
            .eq(model.iter().map(|(text, value)| ((*text).to_owned(), value)))
    );
    for text in model.keys() {
        assert!(trie.remove(TopicFilter::from_checked(text)).is_some());
    }
    assert_eq!((trie.len(), trie.node_count()), (0, 1), "nothing is left behind");
    trie.check_invariants();
}

/// The trie finds what matches, once each.
fn check_matches(
    trie: &TopicTrie<usize>,
    model: &BTreeMap<&str, usize>,
    scratch: &mut MatchScratch,
    topic: TopicName<'_>,
) {
    let mut found = Vec::new();
    trie.for_each_match(topic, scratch, |value| found.push(*value));
    found.sort_unstable();
    let mut expected = Vec::new();
    for (text, value) in model {
        let filter = TopicFilter::from_checked(text);
        let matches = is_match(text, topic.as_str());
        assert_eq!(filter.matches(topic), matches, "{filter} and {topic}");
        if matches {
            let prefix = filter.literal_prefix();
            let begins = topic.as_str().starts_with(prefix) || prefix.strip_suffix('/') == Some(topic.as_str());
            assert!(begins, "{filter} and {topic}");
            expected.push(*value);
        }
    }
    expected.sort_unstable();
    assert_eq!(found, expected, "{topic}");
}

/// Section 4.7, level by level.
fn is_match(filter: &str, topic: &str) -> bool {
    let filter_levels: Vec<&str> = filter.split('/').collect();
    let topic_levels: Vec<&str> = topic.split('/').collect();
    // [MQTT-4.7.2-1]
    let hidden = topic.starts_with('$') && matches!(filter_levels[0], "+" | "#");
    !hidden && levels_match(&filter_levels, &topic_levels)
}

fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([level, filter @ ..], [topic_level, topic @ ..]) => {
            (*level == "+" || level == topic_level) && levels_match(filter, topic)
        }
        _ => false,
    }
}

/// Names and filters agree about what is valid, and a subscription is what it was parsed from.
fn check_validity(text: &str, limits: &TopicLimits) {
    let name = TopicName::new(text, limits);
    let filter = TopicFilter::new(text, limits);
    let is_plain = |filter: &TopicFilter<'_>| !filter.has_wildcard();
    assert_eq!(name.is_ok(), filter.as_ref().is_ok_and(is_plain), "{text:?}");
    assert_eq!(filter.is_ok(), is_valid_filter(text, limits), "{text:?}");
    if let Ok(subscription) = Subscription::parse(text, limits) {
        assert_eq!(subscription.to_string(), text);
        assert_eq!(subscription.group.is_some(), text.starts_with("$share/"));
        let group = subscription.group.unwrap_or("a group");
        assert!(!group.is_empty() && !group.contains(['/', '+', '#', '\0']), "{text:?}");
    }
}

/// [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1], [MQTT-4.7.3-2].
fn is_valid_filter(text: &str, limits: &TopicLimits) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let last = levels.len() - 1;
    let is_valid_level = |(at, level): (usize, &&str)| match *level {
        "#" => at == last,
        "+" => true,
        level => !level.contains(['+', '#', '\0']),
    };
    !text.is_empty()
        && text.len() <= usize::from(limits.bytes_max)
        && levels.len() <= usize::from(limits.levels_max)
        && levels.iter().enumerate().all(is_valid_level)
}
