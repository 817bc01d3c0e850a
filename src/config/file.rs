//! The configuration file: TOML in, settings with the lines they stand on out.
//!
//! A key is the name of a setting as in [`Args`](super::Args); `[[listener]]` tables hold those of one listener. Values leave as
//! text, because the command line's own parsers read them: what a flag takes, the file takes, and the other way round. TOML
//! tables are walked by hand rather than deserialised, since a refusal names line, scope and the nearest key.

use std::io;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::command::{LISTEN, is_of_listener, settings_command};
use super::nearest::nearest;

/// What a configuration file says, each value readable for its setting.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// Where it was read.
    pub(super) path: PathBuf,
    /// Settings of the broker, and of every listener that does not say otherwise.
    pub(super) settings: Vec<FileSetting>,
    /// One entry per `[[listener]]`, in order; each has `listen`.
    pub(super) listeners: Vec<Vec<FileSetting>>,
}

/// One key and its value.
#[derive(Clone, Debug)]
pub(super) struct FileSetting {
    /// Name of the setting.
    pub(super) key: String,
    /// As the flag would take them; more than one only where the flag may be repeated.
    pub(super) values: Vec<String>,
    /// 1-based.
    pub(super) line: usize,
}

/// A configuration file that cannot be used. Each says where: `FILE:LINE: …`.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system does not give it.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not TOML.
    #[error("{path}:{line}: {message}", path = path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What TOML's reader found.
        message: String,
    },
    /// No setting has this name.
    #[error("{path}:{line}: there is no setting {key}{hint}", path = path.display(),
            hint = nearest.as_ref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// As written, control characters escaped.
        key: String,
        /// The setting that was most likely meant.
        nearest: Option<String>,
    },
    /// A setting of the whole broker in a `[[listener]]`.
    #[error("{path}:{line}: {key} is a setting of the broker, not of one listener: write it above the first [[listener]]",
            path = path.display())]
    NotOfListener {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// As written.
        key: String,
    },
    /// A `[[listener]]` without an address.
    #[error("{path}:{line}: a [[listener]] needs listen = \"ADDR:PORT\" or \"unix:/PATH\"", path = path.display())]
    ListenerWithoutAddress {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    /// Addresses in both forms.
    #[error("{path}:{line}: listen and [[listener]] contradict each other: give each address a [[listener]] of its own",
            path = path.display())]
    ListenTwoWays {
        /// Which file.
        path: PathBuf,
        /// Of `listen`, 1-based.
        line: usize,
    },
    /// A value that no flag could have.
    #[error("{path}:{line}: {key} cannot be {got}", path = path.display())]
    WrongType {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// Whose value.
        key: String,
        /// What it is instead.
        got: &'static str,
    },
    /// A value that the setting does not take.
    #[error("{path}:{line}: {message}", path = path.display())]
    InvalidValue {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What the setting's parser said.
        message: String,
    },
}

impl File {
    /// Reads and checks a file, each value by itself.
    pub(super) fn read(path: &Path) -> Result<File, FileError> {
        let text = std::fs::read_to_string(path).map_err(|source| FileError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        File::parse(path, &text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<File, FileError> {
        let reader = Reader { path, text };
        let document = DeTable::parse(text).map_err(|error| FileError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| reader.line(span.start)),
            message: error.message().to_owned(),
        })?;
        let mut file = File {
            path: path.to_owned(),
            ..File::default()
        };
        for (key, value) in in_order(document.get_ref()) {
            match key.get_ref().as_ref() {
                LISTENER => file.listeners = reader.listeners(key, value)?,
                _ => file.settings.push(reader.setting(key, value, Scope::Broker)?),
            }
        }
        if let Some(listen) = file.settings.iter().find(|setting| setting.key == LISTEN)
            && !file.listeners.is_empty()
        {
            return Err(FileError::ListenTwoWays {
                path: path.to_owned(),
                line: listen.line,
            });
        }
        Ok(file)
    }
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    Broker,
    Listener,
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl Reader<'_> {
    fn listeners(&self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Result<Vec<Vec<FileSetting>>, FileError> {
        let wrong = |value: &Spanned<DeValue<'_>>| FileError::WrongType {
            path: self.path.to_owned(),
            line: self.line(key.span().start),
            key: LISTENER.to_owned(),
            got: match value.get_ref() {
                DeValue::Table(_) => "one table: write [[listener]], twice in brackets",
                other => kind(other),
            },
        };
        let tables = value.get_ref().as_array().ok_or_else(|| wrong(value))?;
        let mut listeners = Vec::new();
        for value in tables.iter() {
            let table = value.get_ref().as_table().ok_or_else(|| wrong(value))?;
            let settings = in_order(table)
                .into_iter()
                .map(|(key, value)| self.setting(key, value, Scope::Listener))
                .collect::<Result<Vec<_>, _>>()?;
            if !settings.iter().any(|setting| setting.key == LISTEN) {
                return Err(FileError::ListenerWithoutAddress {
                    path: self.path.to_owned(),
                    line: self.line(value.span().start),
                });
            }
            listeners.push(settings);
        }
        Ok(listeners)
    }

    fn setting(&self, key: &Key<'_>, value: &Spanned<DeValue<'_>>, scope: Scope) -> Result<FileSetting, FileError> {
        let line = self.line(key.span().start);
        let key = key.get_ref().as_ref();
        let mut command = settings_command();
        let Some(argument) = command.get_arguments().find(|argument| argument.get_id() == key) else {
            return Err(self.unknown(line, key, scope, &command));
        };
        if argument.get_id() == CONFIG {
            return Err(self.unknown(line, key, scope, &command));
        }
        if scope == Scope::Listener && !is_of_listener(key) {
            return Err(FileError::NotOfListener {
                path: self.path.to_owned(),
                line,
                key: key.to_owned(),
            });
        }
        let many = matches!(argument.get_action(), ArgAction::Append);
        let flag = argument.get_long().expect("every setting is a flag").to_owned();
        let values = values(value.get_ref(), many).map_err(|got| FileError::WrongType {
            path: self.path.to_owned(),
            line,
            key: key.to_owned(),
            got,
        })?;
        let typed = values.iter().map(|value| format!("--{flag}={value}"));
        let typed = std::iter::once("ringmq".to_owned()).chain(typed);
        command
            .try_get_matches_from_mut(typed)
            .map_err(|error| FileError::InvalidValue {
                path: self.path.to_owned(),
                line,
                message: in_one_line(&error, &flag, key),
            })?;
        Ok(FileSetting {
            key: key.to_owned(),
            values,
            line,
        })
    }

    fn unknown(&self, line: usize, key: &str, scope: Scope, command: &Command) -> FileError {
        let names = command
            .get_arguments()
            .map(|argument| argument.get_id().as_str())
            .filter(|name| *name != CONFIG && (scope == Scope::Broker || is_of_listener(name)))
            .chain((scope == Scope::Broker).then_some(LISTENER));
        FileError::UnknownKey {
            path: self.path.to_owned(),
            line,
            key: printable(key),
            nearest: nearest(key, names).map(str::to_owned),
        }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at.min(self.text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    }
}

/// As they stand in the file, so that the first mistake is the first that is told.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn values(value: &DeValue<'_>, many: bool) -> Result<Vec<String>, &'static str> {
    match value {
        DeValue::Array(_) if !many => Err("a list: it takes one value"),
        DeValue::Array(values) => values.iter().map(|value| text(value.get_ref())).collect(),
        value => text(value).map(|value| vec![value]),
    }
}

fn text(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err("a number of this size"),
        },
        other => Err(kind(other)),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What clap says about a value, as one line about a key.
fn in_one_line(error: &clap::Error, flag: &str, key: &str) -> String {
    let text = error.to_string();
    let mut words = Vec::new();
    for line in text.lines().take_while(|line| !line.trim().is_empty()) {
        words.push(line.trim());
    }
    let line = printable(&words.join(" "));
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let Some((before, after)) = line.split_once(&format!("'--{flag}")) else {
        return line.to_owned();
    };
    let after = after.split_once('\'').map_or("", |(_, after)| after);
    format!("{before}{key}{after}")
}

/// Text of the file as it may stand in a log: no control character ends a line or moves a terminal's cursor.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            printable.extend(letter.escape_default());
        } else {
            printable.push(letter);
        }
    }
    printable
}

/// The tables of listeners.
const LISTENER: &str = "listener";
/// The one setting that a file cannot have: where the file is.
const CONFIG: &str = "config";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, FileError> {
        File::parse(Path::new("r.toml"), text)
    }

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn values_keep_their_lines() {
        let file =
            parse("# first\nmax_inflight = 1_7\n\nlisten = [\n  \"127.0.0.1:1\",\n  \"127.0.0.1:2\",\n]\n").unwrap();
        let seen: Vec<_> = file
            .settings
            .iter()
            .map(|setting| (setting.key.as_str(), setting.values.join("|"), setting.line))
            .collect();
        assert_eq!(
            seen,
            [
                ("max_inflight", "17".into(), 2),
                ("listen", "127.0.0.1:1|127.0.0.1:2".into(), 4)
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_was_likely_meant() {
        for (text, expected) in [
            ("x = ", "r.toml:1: "),
            (
                "\nmax_inflght = 1",
                "r.toml:2: there is no setting max_inflght; did you mean max_inflight?",
            ),
            ("max-inflight = 1", "did you mean max_inflight?"),
            ("listeners = 1", "did you mean listener?"),
            ("colour = 1", "r.toml:1: there is no setting colour"),
            ("config = \"b\"", "r.toml:1: there is no setting config"),
            ("max_inflight = 1\nmax_inflight = 2", "r.toml:2: duplicate key"),
            (
                "max_inflight = \"many\"",
                "r.toml:1: invalid value 'many' for max_inflight: invalid digit",
            ),
            ("max_inflight = 65536", "invalid value '65536' for max_inflight"),
            ("max_inflight = 1.5", "max_inflight cannot be a number with a fraction"),
            (
                "max_inflight = [1]",
                "max_inflight cannot be a list: it takes one value",
            ),
            ("max_inflight = -1", "for max_inflight"),
            (
                "slow_subscriber = \"maybe\"",
                "for slow_subscriber [possible values: drop-newest, ",
            ),
            ("allow_anonymous = 3", "for allow_anonymous"),
            ("[listener]\nlisten = \"127.0.0.1:1\"", "write [[listener]]"),
            (
                "[[listener]]\nallow_anonymous = true",
                "r.toml:1: a [[listener]] needs listen",
            ),
            (
                "[[listener]]\nlisten = \"127.0.0.1:1\"\nmax_inflight = 1",
                "r.toml:3: max_inflight is a setting of the broker",
            ),
            (
                "[[listener]]\nlisten = \"127.0.0.1:1\"\nalow_anonymous = true",
                "r.toml:3: there is no setting alow_anonymous; did you mean allow_anonymous?",
            ),
            (
                "listen = \"127.0.0.1:1\"\n[[listener]]\nlisten = \"127.0.0.1:2\"",
                "r.toml:1: listen and [[listener]] contradict",
            ),
            ("[limits]\nmax_inflight = 1", "r.toml:1: there is no setting limits"),
            ("\"a\\tb\" = 1", r"r.toml:1: there is no setting a\tb"),
            (
                "max_inflight = \"1\\t\"",
                r"r.toml:1: invalid value '1\t' for max_inflight",
            ),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(expected), "{text:?}: {refusal}");
            assert!(!refusal.contains(char::is_control), "{refusal:?}");
        }
    }
}
