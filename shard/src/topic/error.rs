use thiserror::Error;

/// Why a string is no Topic Name, Topic Filter or shared subscription.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TopicError {
    /// No character at all [MQTT-4.7.3-1].
    #[error("it is empty")]
    Empty,
    /// U+0000 [MQTT-4.7.3-2].
    #[error("it contains U+0000")]
    Nul,
    /// More bytes than the standard [MQTT-4.7.3-3] or the configuration allows.
    #[error("{got} bytes are over the limit of {limit}")]
    TooLong {
        /// Most bytes.
        limit: u16,
        /// Bytes of the string.
        got: usize,
    },
    /// More levels than the configuration allows.
    #[error("{got} levels are over the limit of {limit}")]
    TooManyLevels {
        /// Most levels.
        limit: u16,
        /// Levels of the string.
        got: usize,
    },
    /// `+` or `#` in a Topic Name [MQTT-4.7.1-1].
    #[error("a Topic Name contains no wildcard")]
    WildcardInName,
    /// `#` that is not the last level, or `+` or `#` that is not the whole level [MQTT-4.7.1-2], [MQTT-4.7.1-3].
    #[error("a wildcard is a whole level, and # the last one")]
    MisplacedWildcard,
    /// `$share/` with an empty group name, or one that contains a wildcard.
    #[error("the name of a shared group is not empty and contains no wildcard")]
    InvalidShareName,
    /// `$share/GROUP` without a filter.
    #[error("a shared subscription names a filter")]
    MissingShareFilter,
}

impl TopicError {
    /// The reason in metrics: lower case, words joined by `_`, one of a fixed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            TopicError::Empty => "topic_empty",
            TopicError::Nul => "topic_nul",
            TopicError::TooLong { .. } => "topic_too_long",
            TopicError::TooManyLevels { .. } => "topic_too_many_levels",
            TopicError::WildcardInName => "wildcard_in_name",
            TopicError::MisplacedWildcard => "misplaced_wildcard",
            TopicError::InvalidShareName => "invalid_share_name",
            TopicError::MissingShareFilter => "missing_share_filter",
        }
    }
}
