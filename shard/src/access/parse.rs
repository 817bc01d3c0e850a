//! The text of a list, in Mosquitto's syntax.
//!
//! ```text
//! # for clients without a user name
//! topic read public/#
//!
//! user ann
//! topic readwrite ann/#
//! topic deny ann/private
//!
//! # for everybody, wherever it stands
//! pattern write sensors/%c/+
//! ```
//! Words are separated by spaces. Without a word for the access, a topic may be read and written.

use std::collections::BTreeMap;

use thiserror::Error;

use super::matcher::Matcher;
use super::set::FilterSet;
use super::{ANONYMOUS, Acl, Entries, NOBODY};
use crate::topic::{TopicError, TopicFilter, TopicLimits};

/// A line that is none.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{error}")]
pub struct AclError {
    /// 1-based.
    pub line: usize,
    /// What is wrong with it.
    pub error: AclLineError,
}

/// What is wrong with a line of a list.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AclLineError {
    /// Another word at its start.
    #[error("a line begins with user, topic, pattern or #, and words are separated by spaces")]
    UnknownWord,
    /// `user` and nothing more.
    #[error("user needs a name")]
    NoUser,
    /// `user` in the list of one client.
    #[error("a client's own list has no user lines")]
    OtherUser,
    /// `topic` or `pattern` and nothing more.
    #[error("a topic is missing")]
    NoTopic,
    /// Two words after `topic` or `pattern`, and the first is no access.
    #[error("the word before a topic is read, write, readwrite or deny")]
    UnknownAccess,
    /// What should be a filter is none.
    #[error("the topic is no Topic Filter: {0}")]
    NoFilter(TopicError),
    /// A tab, most likely, where a space is meant.
    #[error("the line has a control character; words are separated by spaces")]
    ControlCharacter,
}

/// What an entry gives or takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Deny,
    Allow { read: bool, write: bool },
}

/// Entries of one client, as they come.
#[derive(Debug, Default)]
struct Collected {
    deny: Vec<Matcher>,
    read: Vec<Matcher>,
    write: Vec<Matcher>,
}

impl Acl {
    /// Reads and compiles a list. The same user may come more than once.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn parse(text: &str) -> Result<Acl, AclError> {
        let mut clients = vec![Collected::default(), Collected::default()];
        debug_assert_eq!((ANONYMOUS, NOBODY), (0, 1));
        let mut by_user = BTreeMap::new();
        let mut patterns = Collected::default();
        let mut of = ANONYMOUS;
        for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
            match Line::parse(text).map_err(|error| AclError { line, error })? {
                Line::Nothing => {}
                Line::User(name) => {
                    let next = u32::try_from(clients.len()).expect("a file has fewer lines");
                    of = *by_user.entry(Box::from(name)).or_insert(next);
                    if of == next {
                        clients.push(Collected::default());
                    }
                }
                Line::Topic(access, filter) => clients[of as usize].add(access, || Matcher::plain(filter)),
                Line::Pattern(access, filter) => patterns.add(access, || Matcher::pattern(filter)),
            }
        }
        Ok(Acl {
            entries: clients.into_iter().map(Collected::compile).collect(),
            by_user,
            patterns: patterns.compile(),
        })
    }
}

impl Acl {
    /// Reads and compiles the list of one client, each of its lines a `topic` or a `pattern` as in [`parse`](Self::parse).
    ///
    /// # Errors
    /// The first line that is none, or that names a user.
    pub fn of_client<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Acl, AclError> {
        let (mut own, mut patterns) = (Collected::default(), Collected::default());
        for (line, text) in lines.into_iter().enumerate().map(|(at, text)| (at + 1, text)) {
            match Line::parse(text).map_err(|error| AclError { line, error })? {
                Line::Nothing => {}
                Line::User(_) => {
                    let error = AclLineError::OtherUser;
                    return Err(AclError { line, error });
                }
                Line::Topic(access, filter) => own.add(access, || Matcher::plain(filter)),
                Line::Pattern(access, filter) => patterns.add(access, || Matcher::pattern(filter)),
            }
        }
        Ok(Acl {
            entries: vec![own.compile(), Entries::default()],
            by_user: BTreeMap::new(),
            patterns: patterns.compile(),
        })
    }
}

impl Collected {
    fn add(&mut self, access: Access, matcher: impl Fn() -> Matcher) {
        match access {
            Access::Deny => self.deny.push(matcher()),
            Access::Allow { read, write } => {
                self.read.extend(read.then(&matcher));
                self.write.extend(write.then(&matcher));
            }
        }
    }

    fn compile(self) -> Entries {
        Entries {
            deny: FilterSet::new(self.deny),
            read: FilterSet::new(self.read),
            write: FilterSet::new(self.write),
        }
    }
}

/// One line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line<'a> {
    /// Empty, or a comment.
    Nothing,
    User(&'a str),
    Topic(Access, TopicFilter<'a>),
    Pattern(Access, TopicFilter<'a>),
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Result<Line<'a>, AclLineError> {
        let text = text
            .trim_end_matches(|letter: char| letter.is_ascii_whitespace())
            .trim_start_matches(' ');
        if text.is_empty() || text.starts_with('#') {
            return Ok(Line::Nothing);
        }
        let (word, rest) = first_word(text);
        match word {
            "user" if rest.is_empty() => Err(AclLineError::NoUser),
            "user" => Ok(Line::User(rest)),
            "topic" => filter(rest).map(|(access, filter)| Line::Topic(access, filter)),
            "pattern" => filter(rest).map(|(access, filter)| Line::Pattern(access, filter)),
            _ => Err(AclLineError::UnknownWord),
        }
    }
}

/// `[ACCESS] FILTER`. A filter may contain spaces if the access stands before it.
fn filter(text: &str) -> Result<(Access, TopicFilter<'_>), AclLineError> {
    if text.is_empty() {
        return Err(AclLineError::NoTopic);
    }
    if text.contains(char::is_control) {
        return Err(AclLineError::ControlCharacter);
    }
    let both = Access::Allow {
        read: true,
        write: true,
    };
    let (access, filter) = match first_word(text) {
        (topic, "") => (both, topic),
        ("read", filter) => (
            Access::Allow {
                read: true,
                write: false,
            },
            filter,
        ),
        ("write", filter) => (
            Access::Allow {
                read: false,
                write: true,
            },
            filter,
        ),
        ("readwrite", filter) => (both, filter),
        ("deny", filter) => (Access::Deny, filter),
        _ => return Err(AclLineError::UnknownAccess),
    };
    // The limits on topics are the clients': a list may be written for others than those in force.
    let limits = TopicLimits {
        levels_max: u16::MAX,
        bytes_max: u16::MAX,
    };
    let filter = TopicFilter::new(filter, &limits).map_err(AclLineError::NoFilter)?;
    Ok((access, filter))
}

/// Up to the first space, and what follows the spaces.
fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Right;

    fn refusal(text: &str) -> (usize, AclLineError) {
        let error = Acl::parse(text).expect_err(text);
        (error.line, error.error)
    }

    #[test]
    fn lines_are_what_mosquitto_takes_them_for() {
        let both = Access::Allow {
            read: true,
            write: true,
        };
        let read = Access::Allow {
            read: true,
            write: false,
        };
        let write = Access::Allow {
            read: false,
            write: true,
        };
        let of = TopicFilter::from_checked;
        for (text, line) in [
            ("", Line::Nothing),
            ("# user ann", Line::Nothing),
            ("#topic a", Line::Nothing),
            ("user ann", Line::User("ann")),
            ("user  ann  lee ", Line::User("ann  lee")),
            ("user #x", Line::User("#x")),
            ("topic a/b", Line::Topic(both, of("a/b"))),
            ("  topic   readwrite  a/b  ", Line::Topic(both, of("a/b"))),
            ("topic read a b", Line::Topic(read, of("a b"))),
            ("topic write $SYS/#\r", Line::Topic(write, of("$SYS/#"))),
            ("topic deny +/%c", Line::Topic(Access::Deny, of("+/%c"))),
            // A topic that is called so.
            ("topic read", Line::Topic(both, of("read"))),
            ("topic deny ", Line::Topic(both, of("deny"))),
            ("pattern read a/%c/#", Line::Pattern(read, of("a/%c/#"))),
            ("pattern a/%u", Line::Pattern(both, of("a/%u"))),
        ] {
            assert_eq!(Line::parse(text), Ok(line), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_line_is_told_with_its_number() {
        let wildcard = AclLineError::NoFilter(TopicError::MisplacedWildcard);
        for (text, expected) in [
            ("topic a\nbogus", (2, AclLineError::UnknownWord)),
            ("TOPIC a", (1, AclLineError::UnknownWord)),
            ("topic\ta", (1, AclLineError::UnknownWord)),
            ("\ttopic a", (1, AclLineError::UnknownWord)),
            ("\u{feff}topic a", (1, AclLineError::UnknownWord)),
            ("\n\nuser ", (3, AclLineError::NoUser)),
            ("user ann\ntopic", (2, AclLineError::NoTopic)),
            ("pattern ", (1, AclLineError::NoTopic)),
            ("topic READ a", (1, AclLineError::UnknownAccess)),
            ("topic a b", (1, AclLineError::UnknownAccess)),
            ("topic deny a # not a comment", (1, wildcard)),
            ("topic a#", (1, wildcard)),
            ("pattern a/%c+", (1, wildcard)),
            ("topic read\ta", (1, AclLineError::ControlCharacter)),
        ] {
            assert_eq!(refusal(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_list_of_one_client_is_for_whoever_it_is() {
        let acl = Acl::of_client(["topic read a", "", "# b", "pattern write c/%u"]).unwrap();
        let rights = acl.own_rights("id", Some("ann"));
        let who = crate::access::Who {
            rights,
            client_id: "id",
            user_name: Some("ann"),
        };
        let allows = |right, topic| acl.allows(who, right, crate::topic::TopicName::from_checked(topic));
        assert!(allows(Right::Read, "a") && allows(Right::Write, "c/ann"));
        assert!(!allows(Right::Write, "a") && !allows(Right::Write, "c/bob") && !allows(Right::Read, "b"));
        for (line, expected) in [
            ("user ann", AclLineError::OtherUser),
            ("topic a\nuser bob", AclLineError::ControlCharacter),
            ("read a", AclLineError::UnknownWord),
        ] {
            let error = Acl::of_client(["topic x", line]).expect_err(line);
            assert_eq!((error.line, error.error), (2, expected));
        }
    }

    #[test]
    fn one_user_may_have_several_parts() {
        let acl = Acl::parse("topic x\nuser ann\ntopic read a\nuser bob\ntopic b\nuser ann\ntopic write c").unwrap();
        assert_eq!(acl.users(), 2);
        let ann = &acl.entries[acl.rights("id", Some("ann")).entries as usize];
        let all = TopicFilter::from_checked("#");
        let names = |set: &FilterSet| set.near(all, Default::default()).collect::<Vec<_>>().join(" ");
        assert_eq!(
            (names(ann.allowed(Right::Read)), names(ann.allowed(Right::Write))),
            ("a".into(), "c".into())
        );
    }
}
