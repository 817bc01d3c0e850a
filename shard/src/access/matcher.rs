//! One filter of a list, in pieces: literal text, a level, the client's names.

use std::borrow::Cow;

use crate::topic::{TopicFilter, TopicName};

/// What `%c` and `%u` stand for; `None`: nothing, and what names it matches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) client_id: Option<&'a str>,
    pub(super) user_name: Option<&'a str>,
}

/// A Topic Filter that may name the client. Matches a Topic Name as the filter does that has the names in their places.
#[derive(Debug)]
pub(super) struct Matcher {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

/// `a/%c/+/b-%u/#` is `a/`, `%c`, `/`, a level, `/b-`, `%u`, everything below.
#[derive(Debug, Eq, PartialEq)]
enum Piece {
    Text(Box<str>),
    ClientId,
    UserName,
    /// `+`
    Level,
    /// `/#`, which also matches nothing at all.
    Below,
    /// `#` alone.
    Everything,
}

impl Matcher {
    /// `%c` and `%u` are text like any other.
    pub(super) fn plain(filter: TopicFilter<'_>) -> Matcher {
        Matcher::new(filter, false)
    }

    /// `%c` and `%u` stand for the client's names.
    pub(super) fn pattern(filter: TopicFilter<'_>) -> Matcher {
        Matcher::new(filter, true)
    }

    fn new(filter: TopicFilter<'_>, names: bool) -> Matcher {
        let text = filter.as_str();
        let (mut rest, open) = match text.strip_suffix("/#") {
            Some(rest) => (rest, Some(Piece::Below)),
            None if text == "#" => ("", Some(Piece::Everything)),
            None => (text, None),
        };
        let mut pieces = Vec::new();
        let mut literal = String::new();
        while let Some(letter) = rest.chars().next() {
            let piece = match letter {
                '+' => Some((Piece::Level, 1)),
                '%' if names && rest.starts_with("%c") => Some((Piece::ClientId, 2)),
                '%' if names && rest.starts_with("%u") => Some((Piece::UserName, 2)),
                _ => None,
            };
            match piece {
                Some((piece, len)) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
                    }
                    pieces.push(piece);
                    rest = &rest[len..];
                }
                None => {
                    literal.push(letter);
                    rest = &rest[letter.len_utf8()..];
                }
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into()));
        }
        pieces.extend(open);
        Matcher {
            text: text.into(),
            pieces: pieces.into(),
        }
    }

    /// As it stands in the list.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn into_text(self) -> Box<str> {
        self.text
    }

    /// Whether the client's names matter.
    pub(super) fn is_named(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::ClientId | Piece::UserName))
    }

    /// O(length of the topic), no allocation.
    #[inline]
    pub(super) fn matches(&self, topic: TopicName<'_>, names: Names<'_>) -> bool {
        // A name at the start does not make an entry one about `$` topics, whatever the client is called [MQTT-4.7.2-1].
        if topic.starts_with_dollar() && !self.text.starts_with('$') {
            return false;
        }
        let mut rest = topic.as_str().as_bytes();
        if let Some(Piece::Text(end)) = self.pieces.last()
            && !rest.ends_with(end.as_bytes())
        {
            // Said again by the last piece below, but mostly this is where it ends.
            return false;
        }
        for piece in &self.pieces {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::ClientId => match names.client_id {
                    Some(name) => name,
                    None => return false,
                },
                Piece::UserName => match names.user_name {
                    Some(name) => name,
                    None => return false,
                },
                Piece::Level => {
                    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
                    rest = &rest[end..];
                    continue;
                }
                Piece::Below => return rest.first().is_none_or(|byte| *byte == b'/'),
                Piece::Everything => return true,
            };
            match rest.strip_prefix(text.as_bytes()) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }

    /// The filter with the names in their places; `None` if it names something that is not there, or where a name would make it
    /// one about `$` topics. Allocates if there are names.
    pub(super) fn filter<'a>(&'a self, names: Names<'_>) -> Option<Cow<'a, str>> {
        if !self.is_named() {
            return Some(Cow::Borrowed(&self.text));
        }
        let mut filter = String::new();
        for piece in &self.pieces {
            filter.push_str(match piece {
                Piece::Text(text) => text,
                Piece::ClientId => names.client_id?,
                Piece::UserName => names.user_name?,
                Piece::Level => "+",
                Piece::Below => "/#",
                Piece::Everything => "#",
            });
        }
        let hidden = filter.starts_with('$') && !self.text.starts_with('$');
        (!hidden && !filter.is_empty()).then_some(Cow::Owned(filter))
    }
}
