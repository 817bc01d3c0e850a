//! Topic patterns of the command line: `%i` stands for a number.

/// Expands `%i`, `%c` and `%u` as emqtt-bench does: number, Client Identifier, user name.
pub(crate) fn expand(pattern: &str, number: usize, client_id: &str, username: Option<&str>) -> String {
    pattern
        .replace("%i", &number.to_string())
        .replace("%c", client_id)
        .replace("%u", username.unwrap_or_default())
}

/// The topic of number `number`.
pub(crate) fn numbered(pattern: &str, number: usize) -> String {
    pattern.replace("%i", &number.to_string())
}

/// The filter that matches every number's topic. `%i` must be a level of its own.
pub(crate) fn wildcard(pattern: &str) -> String {
    pattern.replace("%i", "+")
}

/// Why a pattern does not do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("the topic needs %i as a level of its own, such as bench/%i")]
    NoNumber,
    #[error("the topic is longer than 60,000 bytes")]
    TooLong,
    #[error("a topic to publish to has no + and no #")]
    Wildcard,
}

/// Checks a pattern to publish to; `numbered` asks for `%i`.
pub(crate) fn check(pattern: &str, numbered: bool) -> Result<(), PatternError> {
    if pattern.len() > 60_000 {
        return Err(PatternError::TooLong);
    }
    if pattern.contains(['+', '#']) {
        return Err(PatternError::Wildcard);
    }
    if numbered && !pattern.split('/').any(|level| level == "%i") {
        return Err(PatternError::NoNumber);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_expand() {
        assert_eq!(expand("a/%i/%c/%u", 7, "me", Some("you")), "a/7/me/you");
        assert_eq!(wildcard("a/%i/b"), "a/+/b");
    }

    #[test]
    fn patterns_are_checked() {
        assert_eq!(check("a/%i", true), Ok(()));
        assert_eq!(check("a/x%i", true), Err(PatternError::NoNumber));
        assert_eq!(check("a/#", false), Err(PatternError::Wildcard));
    }
}
