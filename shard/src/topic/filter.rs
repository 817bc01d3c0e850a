use std::fmt;

use super::{TopicError, TopicLimits, TopicName};

/// A valid Topic Filter: levels separated by `/`; a level may be `+` (any one level), the last may be `#` (the level
/// above, and everything below). Empty levels are levels. 1..=65 535 bytes without U+0000.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Validates `filter`. One pass, no allocation. `$share/…` is no special case here: see [`Subscription::parse`].
    ///
    /// # Errors
    /// What is wrong with it; the connection closes.
    pub fn new(filter: &'a str, limits: &TopicLimits) -> Result<TopicFilter<'a>, TopicError> {
        if filter.is_empty() {
            return Err(TopicError::Empty); // [MQTT-4.7.3-1]
        }
        if filter.len() > usize::from(limits.bytes_max) {
            return Err(TopicError::TooLong {
                limit: limits.bytes_max,
                got: filter.len(),
            });
        }
        if filter.contains('\0') {
            return Err(TopicError::Nul); // [MQTT-4.7.3-2]
        }
        let mut levels = 0;
        let mut after_hash = false;
        for level in filter.split('/') {
            let misplaced = level.len() > 1 && level.contains(['+', '#']);
            if misplaced || after_hash {
                return Err(TopicError::MisplacedWildcard); // [MQTT-4.7.1-2], [MQTT-4.7.1-3]
            }
            after_hash = level == "#";
            levels += 1;
        }
        if levels > usize::from(limits.levels_max) {
            return Err(TopicError::TooManyLevels {
                limit: limits.levels_max,
                got: levels,
            });
        }
        Ok(TopicFilter::from_checked(filter))
    }

    /// A Topic Filter that has been validated before.
    #[must_use]
    pub(crate) const fn from_checked(filter: &'a str) -> TopicFilter<'a> {
        debug_assert!(!filter.is_empty());
        TopicFilter(filter)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it starts with `$`. Only such filters match Topic Names that do [MQTT-4.7.2-1].
    #[must_use]
    pub const fn starts_with_dollar(self) -> bool {
        matches!(self.0.as_bytes(), [b'$', ..])
    }

    /// Whether it can match a Topic Name other than the one with the same text.
    #[must_use]
    pub fn has_wildcard(self) -> bool {
        self.0.bytes().any(is_wildcard)
    }

    /// Whether it starts with a wildcard, and so matches no Topic Name that starts with `$` [MQTT-4.7.2-1].
    #[must_use]
    pub fn starts_with_wildcard(self) -> bool {
        self.0.bytes().next().is_some_and(is_wildcard)
    }

    /// Whether `topic` matches. O(length), iterative, no allocation. For one filter; [`TopicTrie`](super::TopicTrie)
    /// is for many.
    #[must_use]
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        if topic.starts_with_dollar() && self.starts_with_wildcard() {
            return false; // [MQTT-4.7.2-1]
        }
        let mut topic_levels = topic.as_str().split('/');
        for level in self.0.split('/') {
            match (level, topic_levels.next()) {
                // Also where the topic ends one level above: `sport/#` matches `sport`.
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (level, Some(topic_level)) if level == topic_level => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }

    /// The text before the first wildcard, up to and including the `/` in front of it: `a/b/` for `a/b/+/c`, all of it
    /// where there is no wildcard. Every match starts with this, except that `a/b/#` also matches `a/b`.
    #[must_use]
    pub fn literal_prefix(self) -> &'a str {
        let end = self.0.bytes().position(is_wildcard).unwrap_or(self.0.len());
        &self.0[..end]
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'+' | b'#')
}

/// What a SUBSCRIBE asks for: a Topic Filter, or a share in one (`$share/GROUP/FILTER`, as MQTT 5.0 defines it in
/// section 4.8.2 and many 3.1.1 brokers have it).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Subscription<'a> {
    /// The shared group: not empty, without `/`, `+` and `#`. It is no topic level.
    pub group: Option<&'a str>,
    /// What to match; limits apply to this part only.
    pub filter: TopicFilter<'a>,
}

impl<'a> Subscription<'a> {
    /// Validates and splits `text`. Whatever does not start with `$share/` is a plain filter.
    ///
    /// # Errors
    /// What is wrong with it; the connection closes.
    pub fn parse(text: &'a str, limits: &TopicLimits) -> Result<Subscription<'a>, TopicError> {
        let Some(shared) = text.strip_prefix("$share/") else {
            return Ok(Subscription {
                group: None,
                filter: TopicFilter::new(text, limits)?,
            });
        };
        let (group, filter) = shared.split_once('/').unwrap_or((shared, ""));
        if group.contains('\0') {
            return Err(TopicError::Nul);
        }
        if group.is_empty() || group.bytes().any(is_wildcard) {
            return Err(TopicError::InvalidShareName);
        }
        if filter.is_empty() {
            return Err(TopicError::MissingShareFilter);
        }
        Ok(Subscription {
            group: Some(group),
            filter: TopicFilter::new(filter, limits)?,
        })
    }
}

impl fmt::Display for Subscription<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = self.group {
            write!(f, "$share/{group}/")?;
        }
        self.filter.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str) -> Result<&str, TopicError> {
        TopicFilter::new(filter, &TopicLimits::default()).map(TopicFilter::as_str)
    }

    /// [MQTT-4.7.1-2]: `#` is the whole of the last level. [MQTT-4.7.1-3]: `+` is a whole level.
    #[test]
    fn wildcards_stand_alone() {
        for filter in [
            "#", "+", "/#", "/+", "+/+", "+/#", "a/+/b/#", "+/", "/", "a", "//", "$SYS/#", "a/é /+", "+/a/+",
        ] {
            assert_eq!(check(filter), Ok(filter));
        }
        for filter in [
            "a#", "#a", "a/b#", "#/a", "#/", "#/#", "##", "a+", "+a", "a/b+/c", "a/+b", "++", "+#", "a/#/b",
        ] {
            assert_eq!(check(filter), Err(TopicError::MisplacedWildcard), "{filter}");
        }
    }

    /// [MQTT-4.7.3-1]: one character at least. [MQTT-4.7.3-2]: no U+0000. [MQTT-4.7.3-3]: at most 65 535 bytes.
    #[test]
    fn length_and_nul_are_checked() {
        assert_eq!(check(""), Err(TopicError::Empty));
        assert_eq!(check("a/\0"), Err(TopicError::Nul));
        assert_eq!(
            check(&"x".repeat(65_536)),
            Err(TopicError::TooLong {
                limit: 65_535,
                got: 65_536
            })
        );
        assert_eq!(
            check(&"/".repeat(128)),
            Err(TopicError::TooManyLevels { limit: 128, got: 129 })
        );
        assert!(check(&"/".repeat(127)).is_ok());
        assert!(check(&"x".repeat(65_535)).is_ok());
    }

    /// Filter, then the names it matches, then names it does not. Examples are those of section 4.7 where it has some.
    /// [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.2-1], [MQTT-4.7.3-4].
    #[test]
    fn filters_match_as_the_standard_says() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "sport/tennis/player1/#",
                &[
                    "sport/tennis/player1",
                    "sport/tennis/player1/ranking",
                    "sport/tennis/player1/score/wimbledon",
                ],
                &[
                    "sport/tennis/player",
                    "sport/tennis/player11",
                    "sport/tennis",
                    "Sport/tennis/player1",
                ],
            ),
            (
                "sport/#",
                &["sport", "sport/", "sport/a", "sport//"],
                &["sports", "sport-a", "/sport", "spor"],
            ),
            ("#", &["a", "/", "//", "a/b", "a/$SYS"], &["$SYS", "$SYS/a", "$"]),
            (
                "sport/tennis/+",
                &["sport/tennis/p1", "sport/tennis/"],
                &["sport/tennis", "sport/tennis/p1/ranking"],
            ),
            ("sport/+", &["sport/", "sport/a"], &["sport", "sport/a/b"]),
            ("+", &["a", " "], &["/a", "a/", "/", "$SYS"]),
            ("+/+", &["/finance", "a/b", "/"], &["a", "a/b/c", "//", "$SYS/a"]),
            ("/+", &["/finance", "/"], &["finance", "a/b", "//"]),
            ("+/#", &["a", "a/b", "/", "/a/b"], &["$SYS", "$SYS/a"]),
            (
                "+/monitor/Clients",
                &["a/monitor/Clients"],
                &["$SYS/monitor/Clients", "a/monitor/clients"],
            ),
            ("$SYS/#", &["$SYS", "$SYS/", "$SYS/a/b"], &["$SYSX", "SYS", "a/$SYS"]),
            (
                "$SYS/monitor/+",
                &["$SYS/monitor/Clients"],
                &["$SYS/monitor", "$SYS/monitor/a/b"],
            ),
            ("a//b", &["a//b"], &["a/b", "a///b"]),
            ("a/+/b", &["a//b", "a/x/b"], &["a/b", "a/x/y/b"]),
            ("+/a/#", &["/a", "x/a", "x/a/b/c"], &["a", "x/b", "$x/a"]),
            ("a/b", &["a/b"], &["a", "a/b/", "A/b", "a/b/c"]),
            ("caf\u{e9}", &["caf\u{e9}"], &["cafe\u{301}", "cafe"]),
        ];
        for (filter, matching, others) in table {
            let filter = TopicFilter::new(filter, &TopicLimits::default()).unwrap();
            for topic in *matching {
                assert!(filter.matches(TopicName::from_checked(topic)), "{filter} and {topic}");
            }
            for topic in *others {
                assert!(!filter.matches(TopicName::from_checked(topic)), "{filter} and {topic}");
            }
        }
    }

    #[test]
    fn literal_prefix_ends_before_the_first_wildcard_level() {
        for (filter, prefix) in [
            ("a/b/+/c", "a/b/"),
            ("a/#", "a/"),
            ("#", ""),
            ("+/a", ""),
            ("a/b", "a/b"),
            ("/+", "/"),
            ("a//#", "a//"),
        ] {
            assert_eq!(TopicFilter::from_checked(filter).literal_prefix(), prefix);
        }
    }

    #[test]
    fn shared_subscriptions_are_split() {
        let limits = TopicLimits {
            levels_max: 3,
            bytes_max: 8,
        };
        let parse = |text| Subscription::parse(text, &limits).map(|shared| (shared.group, shared.filter.as_str()));
        let long_group = "$share/a-long-group/a/b/c";
        let table = [
            ("a/+", Ok((None, "a/+"))),
            ("$share", Ok((None, "$share"))),
            ("$shared", Ok((None, "$shared"))),
            ("$share/g/a", Ok((Some("g"), "a"))),
            ("$share/g//", Ok((Some("g"), "/"))),
            ("$share/g/+/#", Ok((Some("g"), "+/#"))),
            ("$share/g/$SYS/#", Ok((Some("g"), "$SYS/#"))),
            (long_group, Ok((Some("a-long-group"), "a/b/c"))),
            ("$share/", Err(TopicError::InvalidShareName)),
            ("$share//x", Err(TopicError::InvalidShareName)),
            ("$share/+/x", Err(TopicError::InvalidShareName)),
            ("$share/g#/x", Err(TopicError::InvalidShareName)),
            ("$share/#", Err(TopicError::InvalidShareName)),
            ("$share/g", Err(TopicError::MissingShareFilter)),
            ("$share/g/", Err(TopicError::MissingShareFilter)),
            ("$share/g\0/a", Err(TopicError::Nul)),
            ("$share/g/a#", Err(TopicError::MisplacedWildcard)),
            ("$share/g/a/b/c/d", Err(TopicError::TooManyLevels { limit: 3, got: 4 })),
            ("$share/g/123456789", Err(TopicError::TooLong { limit: 8, got: 9 })),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text:?}");
        }
        assert_eq!(
            Subscription::parse(long_group, &limits).unwrap().to_string(),
            long_group
        );
    }
}
