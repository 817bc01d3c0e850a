//! Flags over environment over file over defaults, and where each value came from.
//!
//! The file's values take the place of the command line's own defaults, and the command line is read again: so there is one parser, and a
//! setting of the file can be nothing that its flag could not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};

use super::args::Args;
use super::command::{LISTEN, settings_command};
use super::file::{File, FileSetting};

/// Where a value is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Source {
    Flag,
    Environment {
        variable: String,
    },
    File {
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Environment { variable } => f.write_str(variable),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// All settings as they hold together for the broker, or for one listener.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) args: Args,
    /// Their values as text, by name; empty: none is given and the default is found out later.
    pub(super) values: BTreeMap<String, Vec<String>>,
    sources: BTreeMap<String, Source>,
}

impl Layer {
    /// # Panics
    /// If `line` or a value of the file is not readable: both were read before.
    pub(super) fn new(line: &[OsString], file: &File, settings: &[&FileSetting]) -> Layer {
        let mut command = settings_command();
        for setting in settings {
            command = command.mut_arg(&setting.key, |argument| argument.default_values(setting.values.clone()));
        }
        let matches = command
            .clone()
            .try_get_matches_from(line)
            .expect("flags, environment and file were read, each by itself");
        let mut values = BTreeMap::new();
        let mut sources = BTreeMap::new();
        for argument in command.get_arguments() {
            let key = argument.get_id().as_str();
            let source = match matches.value_source(key) {
                Some(ValueSource::CommandLine) => Source::Flag,
                Some(ValueSource::EnvVariable) => Source::Environment {
                    variable: argument.get_env().unwrap_or_default().to_string_lossy().into_owned(),
                },
                // The later one wins, as for clap: of a listener, its own over the broker's.
                _ => match settings.iter().rev().find(|setting| setting.key == key) {
                    Some(setting) => Source::File {
                        path: file.path.clone(),
                        line: setting.line,
                    },
                    None => Source::Default,
                },
            };
            values.insert(key.to_owned(), raw(&matches, key));
            sources.insert(key.to_owned(), source);
        }
        Layer {
            args: Args::from_arg_matches(&matches).expect("the same command line"),
            values,
            sources,
        }
    }

    /// Where this setting is from.
    pub(super) fn source(&self, key: &str) -> &Source {
        self.sources.get(key).unwrap_or(&Source::Default)
    }
}

/// The layer of the broker; and one for each `[[listener]]` of the file, unless flag or environment say where to listen.
pub(super) fn layers(line: &[OsString], file: &File) -> (Layer, Vec<Layer>) {
    let broker: Vec<&FileSetting> = file.settings.iter().collect();
    let layer = Layer::new(line, file, &broker);
    let given = matches!(layer.source(LISTEN), Source::Flag | Source::Environment { .. });
    let listeners = if given { &[][..] } else { &file.listeners[..] };
    let listeners = listeners
        .iter()
        .map(|own| {
            let settings: Vec<&FileSetting> = broker.iter().copied().chain(own).collect();
            Layer::new(line, file, &settings)
        })
        .collect();
    (layer, listeners)
}

fn raw(matches: &ArgMatches, key: &str) -> Vec<String> {
    let values = matches.get_raw(key).into_iter().flatten();
    values.map(|value| value.to_string_lossy().into_owned()).collect()
}
