use std::fmt;

use super::TopicError;

/// What a Topic Name or Topic Filter may not exceed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicLimits {
    /// Most levels, empty ones included: one more than there are `/`. Bounds every walk over a topic.
    pub levels_max: u16,
    /// Most bytes of UTF-8. The wire has no room for more than the default.
    pub bytes_max: u16,
}

impl Default for TopicLimits {
    /// 128 levels are far above what people write (up to about 20), and far below the 65 536 that fit in 65 535 bytes.
    fn default() -> TopicLimits {
        TopicLimits {
            levels_max: 128,
            bytes_max: 65_535,
        }
    }
}

/// A valid Topic Name: 1..=65 535 bytes without U+0000 and wildcards. Compared as it is, without normalisation or case
/// folding [MQTT-4.7.3-4].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Validates `name`. One pass over the bytes, no allocation; runs for each PUBLISH.
    ///
    /// # Errors
    /// What is wrong with it; the connection closes.
    #[inline]
    pub fn new(name: &'a str, limits: &TopicLimits) -> Result<TopicName<'a>, TopicError> {
        let counted = Counted::new(name.as_bytes());
        let levels_ok = counted.slashes < usize::from(limits.levels_max);
        let length_ok = !name.is_empty() && name.len() <= usize::from(limits.bytes_max);
        if length_ok && levels_ok && !counted.forbidden {
            return Ok(TopicName::from_checked(name));
        }
        Err(reason(name, limits, counted.slashes + 1))
    }

    /// A Topic Name that has been validated before.
    #[must_use]
    pub(crate) const fn from_checked(name: &'a str) -> TopicName<'a> {
        debug_assert!(!name.is_empty());
        TopicName(name)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether no filter that starts with a wildcard matches it [MQTT-4.7.2-1].
    #[must_use]
    pub const fn starts_with_dollar(self) -> bool {
        matches!(self.0.as_bytes(), [b'$', ..])
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What one pass over the bytes tells.
struct Counted {
    slashes: usize,
    /// There is a U+0000, `+` or `#`.
    forbidden: bool,
}

impl Counted {
    #[inline]
    fn new(bytes: &[u8]) -> Counted {
        let mut slashes = 0;
        let mut forbidden = false;
        for chunk in bytes.chunks(COUNTED_BYTES) {
            let mut slashes_in_chunk = 0u8;
            for byte in chunk {
                slashes_in_chunk += u8::from(*byte == b'/');
                forbidden |= (*byte == 0) | (*byte == b'+') | (*byte == b'#');
            }
            slashes += usize::from(slashes_in_chunk);
        }
        Counted { slashes, forbidden }
    }
}

/// Bytes counted in a `u8`, so that the loop over them becomes vector code.
const COUNTED_BYTES: usize = 128;

#[cold]
fn reason(name: &str, limits: &TopicLimits, levels: usize) -> TopicError {
    if name.is_empty() {
        TopicError::Empty
    } else if name.len() > usize::from(limits.bytes_max) {
        TopicError::TooLong {
            limit: limits.bytes_max,
            got: name.len(),
        }
    } else if name.contains('\0') {
        TopicError::Nul
    } else if name.contains(['+', '#']) {
        TopicError::WildcardInName
    } else {
        TopicError::TooManyLevels {
            limit: limits.levels_max,
            got: levels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) -> Result<&str, TopicError> {
        TopicName::new(name, &TopicLimits::default()).map(TopicName::as_str)
    }

    /// [MQTT-4.7.1-1]: wildcards are for filters only. [MQTT-4.7.3-1]: one character at least. [MQTT-4.7.3-2]: no U+0000.
    #[test]
    fn names_are_valid_or_say_why_not() {
        let valid = [
            "/",
            "a",
            "//",
            "a/",
            "/a",
            " ",
            "a b/c",
            "$SYS/x",
            "$",
            "é/\u{feff}x",
            "a\tb",
            "\u{1}",
            "$share/g/a",
        ];
        for name in valid {
            assert_eq!(check(name), Ok(name));
        }
        let long_wildcard = format!("{}#", "x".repeat(300));
        let invalid = [
            ("", TopicError::Empty),
            ("\0", TopicError::Nul),
            ("a/b\0", TopicError::Nul),
            ("+", TopicError::WildcardInName),
            ("#", TopicError::WildcardInName),
            ("a/+/b", TopicError::WildcardInName),
            ("a/b#", TopicError::WildcardInName),
            ("a+b", TopicError::WildcardInName),
            (&long_wildcard, TopicError::WildcardInName),
        ];
        for (name, error) in invalid {
            assert_eq!(check(name), Err(error), "{name:?}");
        }
    }

    /// [MQTT-4.7.3-3]: at most 65 535 bytes. 65 535 bytes of `/` are 65 536 levels, and cost no more than reading them.
    #[test]
    fn limits_are_exact() {
        let name = "x".repeat(65_535);
        assert_eq!(check(&name), Ok(&*name));
        let name = "x".repeat(65_536);
        assert_eq!(
            check(&name),
            Err(TopicError::TooLong {
                limit: 65_535,
                got: 65_536
            })
        );

        let name = "/".repeat(127);
        assert_eq!(check(&name), Ok(&*name));
        let name = "/".repeat(128);
        assert_eq!(check(&name), Err(TopicError::TooManyLevels { limit: 128, got: 129 }));
        let name = "/".repeat(65_535);
        assert_eq!(
            check(&name),
            Err(TopicError::TooManyLevels {
                limit: 128,
                got: 65_536
            })
        );

        let limits = TopicLimits {
            levels_max: 2,
            bytes_max: 4,
        };
        assert!(TopicName::new("ab/c", &limits).is_ok());
        assert_eq!(
            TopicName::new("ab/cd", &limits),
            Err(TopicError::TooLong { limit: 4, got: 5 })
        );
        assert_eq!(
            TopicName::new("a//b", &limits),
            Err(TopicError::TooManyLevels { limit: 2, got: 3 })
        );
    }

    #[test]
    fn levels_are_counted_across_chunks() {
        for slashes in [0, 1, 126, 127, 128, 129, 255, 256, 257, 1_000] {
            let name = format!("x{}", "/y".repeat(slashes));
            let counted = Counted::new(name.as_bytes());
            assert_eq!((counted.slashes, counted.forbidden), (slashes, false));
        }
    }

    #[test]
    fn a_dollar_counts_only_in_front() {
        let dollar = |name| TopicName::from_checked(name).starts_with_dollar();
        assert!(dollar("$SYS/a") && dollar("$"));
        assert!(!dollar("a/$SYS") && !dollar("/$SYS"));
    }
}
