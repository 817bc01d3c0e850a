//! What two Topic Filters have in common: as sets of the Topic Names that they match.

use smallvec::SmallVec;

use super::TopicFilter;

/// The levels of a Topic Filter.
pub(crate) type Levels<'a> = SmallVec<[&'a str; 16]>;

/// The filter for the Topic Names that both match, as its levels; `None` if there are none. O(levels).
///
/// It is a single filter always: level by level the stricter of the two.
pub(crate) fn intersection<'a>(left: TopicFilter<'a>, right: TopicFilter<'a>) -> Option<Levels<'a>> {
    let hidden =
        |wild: TopicFilter<'_>, other: TopicFilter<'_>| wild.starts_with_wildcard() && other.starts_with_dollar();
    if hidden(left, right) || hidden(right, left) {
        return None; // [MQTT-4.7.2-1]
    }
    let (mut lefts, mut rights) = (left.as_str().split('/'), right.as_str().split('/'));
    let mut levels = Levels::new();
    loop {
        match (lefts.next(), rights.next()) {
            (None, None) => break,
            // `a/#` matches `a` too, so nothing need follow.
            (Some("#"), rest) => {
                levels.extend(rest.into_iter().chain(rights));
                break;
            }
            (rest, Some("#")) => {
                levels.extend(rest.into_iter().chain(lefts));
                break;
            }
            (Some("+"), Some(level)) | (Some(level), Some("+")) => levels.push(level),
            (Some(level), Some(other)) if level == other => levels.push(level),
            _ => return None,
        }
    }
    // What `/#` and `+` have in common is the empty name, which is none [MQTT-4.7.3-1].
    (levels[..] != [""]).then_some(levels)
}

/// Whether `filter` matches every Topic Name that the filter of these levels matches. O(levels).
///
/// `+/#` and `#` are the same set, and so this says of the first alone that it does not cover the second.
pub(crate) fn covers(filter: TopicFilter<'_>, levels: &[&str]) -> bool {
    if filter.starts_with_wildcard() && levels.first().is_some_and(|level| level.starts_with('$')) {
        return false; // [MQTT-4.7.2-1]
    }
    let mut levels = levels.iter().copied();
    for level in filter.as_str().split('/') {
        match (level, levels.next()) {
            ("#", _) => return true,
            ("+", Some(covered)) if covered != "#" => {}
            (level, Some(covered)) if level == covered => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topic::TopicName;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::from_checked(text)
    }

    #[test]
    fn what_both_match_is_the_stricter_level_each_time() {
        for (left, right, both) in [
            ("a/+", "+/b", Some("a/b")),
            ("a/#", "a", Some("a")),
            ("a/#", "+", Some("a")),
            ("a/#", "+/+", Some("a/+")),
            ("a/#", "a/b/#", Some("a/b/#")),
            ("a/+/#", "a/#", Some("a/+/#")),
            ("#", "a/b", Some("a/b")),
            ("#", "#", Some("#")),
            ("+/#", "+", Some("+")),
            ("/#", "+/x", Some("/x")),
            ("a/+", "a", None),
            ("a/b", "a/c/#", None),
            ("/#", "+", None),
            ("a/+", "a/b/c", None),
            ("#", "$SYS/#", None),
            ("+/x", "$SYS/x", None),
            ("$SYS/#", "$SYS/+/x", Some("$SYS/+/x")),
        ] {
            let text = |found: Option<Levels<'_>>| found.map(|levels| levels.join("/"));
            assert_eq!(
                text(intersection(filter(left), filter(right))).as_deref(),
                both,
                "{left} {right}"
            );
            assert_eq!(
                text(intersection(filter(right), filter(left))).as_deref(),
                both,
                "{right} {left}"
            );
        }
    }

    #[test]
    fn covering_is_about_whole_sets() {
        let covers = |wide, narrow: &str| covers(filter(wide), &narrow.split('/').collect::<Vec<_>>());
        for (wide, narrow) in [
            ("#", "#"),
            ("#", "a/+/b"),
            ("a/#", "a"),
            ("a/#", "a/#"),
            ("a/#", "a/+/#"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("$SYS/#", "$SYS/a"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("#", "$SYS/a"),
            ("a/+", "a/#"),
            ("a/+/#", "a/#"),
            ("a/b", "a/+"),
            ("a", "a/b"),
            ("a/b", "a"),
            ("+", "$SYS"),
        ] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    /// Levels few enough that filters meet.
    fn any_filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "b", "+", "$x"]);
        (prop::collection::vec(level, 1..4), any::<bool>())
            .prop_map(|(levels, open)| levels.join("/") + if open { "/#" } else { "" })
            .prop_filter("not empty", |text| !text.is_empty())
    }

    fn any_name() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "b", "c", "$x"]);
        prop::collection::vec(level, 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("not empty", |text| !text.is_empty())
    }

    proptest! {
        #[test]
        fn both_agree_with_matching(left in any_filter(), right in any_filter(), names in prop::collection::vec(any_name(), 20)) {
            let both = intersection(filter(&left), filter(&right));
            let text = both.as_ref().map(|levels| levels.join("/"));
            for name in &names {
                let name = TopicName::from_checked(name);
                let by_each = filter(&left).matches(name) && filter(&right).matches(name);
                let by_both = text.as_ref().is_some_and(|text| filter(text).matches(name));
                prop_assert_eq!(by_each, by_both, "{} {} {}", left, right, name);
                let levels: Vec<&str> = right.split('/').collect();
                if covers(filter(&left), &levels) && filter(&right).matches(name) {
                    prop_assert!(filter(&left).matches(name), "{} {} {}", left, right, name);
                }
            }
        }
    }
}
