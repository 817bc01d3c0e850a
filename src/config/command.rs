//! What the command line asks for, and the commands beside starting the broker.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, CommandFactory, FromArgMatches};

use super::args::{Args, ListenerArgs};
use super::manual::{CompletionsArgs, ManArgs};
use crate::auth::PasswdArgs;
use crate::client::{PubArgs, SubArgs};
use crate::operator::TraceArgs;

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Task {
    /// Start the broker.
    Serve,
    /// Judge the settings and say so.
    Check,
    /// Print the settings in force, and where each is from.
    Print,
    /// Look at the host with these settings.
    Doctor {
        /// For programs rather than people.
        json: bool,
    },
    /// Have the broker that runs with these settings read them again.
    Reload,
    /// Have the broker that runs with these settings tell what a client does.
    Trace(TraceArgs),
    /// Publish messages.
    Publish(Box<PubArgs>),
    /// Print messages.
    Subscribe(Box<SubArgs>),
    /// Edit a password file.
    Passwd(PasswdArgs),
    /// Write manual pages.
    Man(ManArgs),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
}

/// A command line whose every word is understood.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) task: Task,
    /// The program's name and the flags, without the task's name.
    pub(super) line: Vec<OsString>,
    /// Those flags and the environment.
    pub(super) matches: ArgMatches,
}

impl Typed {
    /// # Errors
    /// What clap cannot read, or `--help` and `--version`, which it answers.
    pub(super) fn read(mut line: Vec<OsString>) -> Result<Typed, clap::Error> {
        let matches = command().try_get_matches_from(&line)?;
        let task = match matches.subcommand_name() {
            Some(CHECK) => Task::Check,
            Some(PRINT) => Task::Print,
            Some(DOCTOR) => Task::Doctor {
                json: matches
                    .subcommand_matches(DOCTOR)
                    .is_some_and(|flags| flags.get_flag(JSON)),
            },
            Some(RELOAD) => Task::Reload,
            Some(TRACE) => Task::Trace(own_args(&matches)?),
            Some(PASSWD) => Task::Passwd(own_args(&matches)?),
            Some(MAN) => Task::Man(own_args(&matches)?),
            Some(COMPLETIONS) => Task::Completions(own_args(&matches)?),
            Some(PUBLISH) => Task::Publish(Box::new(own_args(&matches)?)),
            Some(SUBSCRIBE) => Task::Subscribe(Box::new(own_args(&matches)?)),
            _ => Task::Serve,
        };
        match matches.subcommand() {
            None => Ok(Typed { task, line, matches }),
            Some((_, flags)) => {
                let matches = flags.clone();
                // Flags stand behind the name, never before it.
                line.remove(1);
                let own = match task {
                    Task::Trace(_) => TraceArgs::augment_args(Command::new(TRACE)),
                    _ => Command::new(DOCTOR).arg(json()),
                };
                let line = without(line, &own);
                Ok(Typed { task, line, matches })
            }
        }
    }
}

/// The line without the flags that are a command's own.
fn without(line: Vec<OsString>, own: &Command) -> Vec<OsString> {
    let mut line = line.into_iter();
    let mut settings = Vec::new();
    while let Some(word) = line.next() {
        let text = word.to_string_lossy();
        let (name, is_whole) = match text.split_once('=') {
            Some((name, _)) => (name, false),
            None => (&*text, true),
        };
        let flag = name.strip_prefix("--");
        match own.get_arguments().find(|arg| flag.is_some() && arg.get_long() == flag) {
            Some(arg) if is_whole && arg.get_action().takes_values() => drop(line.next()),
            Some(_) => {}
            None => settings.push(word),
        }
    }
    settings
}

/// The arguments of a command that has its own.
fn own_args<T: FromArgMatches>(matches: &ArgMatches) -> Result<T, clap::Error> {
    let (_, args) = matches.subcommand().expect("a command is named");
    T::from_arg_matches(args)
}

/// The whole command line.
pub(super) fn command() -> Command {
    Args::command()
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(Args::augment_args(Command::new(CHECK)).about(
            "Judge flags, environment and configuration file, and end: exit code 0 if the broker could start with them",
        ))
        .subcommand(
            Args::augment_args(Command::new(PRINT))
                .about("Print the settings in force as a configuration file, each with where it is from"),
        )
        .subcommand(
            Args::augment_args(Command::new(DOCTOR))
                .about("Look at the host: whether the broker can run here with these settings, and what would hold it back")
                .arg(json()),
        )
        .subcommand(Args::augment_args(Command::new(RELOAD)).about(
            "Have the running broker read its settings and files again, and say what came of it: exit code 1 if they were refused",
        ))
        .subcommand(Args::augment_args(TraceArgs::augment_args(Command::new(TRACE))).about(
            "Follow a client's packets, or the messages of a topic, in the running broker: what comes, what goes, what is dropped",
        ))
        .subcommand(PasswdArgs::command())
        .subcommand(PubArgs::command())
        .subcommand(SubArgs::command())
        .subcommand(ManArgs::augment_args(Command::new(MAN)).about("Write manual pages"))
        .subcommand(
            CompletionsArgs::augment_args(Command::new(COMPLETIONS))
                .about("Print a script that completes commands and flags"),
        )
}

fn json() -> Arg {
    Arg::new(JSON)
        .long(JSON)
        .action(ArgAction::SetTrue)
        .help("Print JSON rather than lines")
}

/// Flags and environment only.
pub(super) fn settings_command() -> Command {
    Args::command()
}

/// Whether a `[[listener]]` can have this key.
pub(super) fn is_of_listener(key: &str) -> bool {
    key == LISTEN
        || ListenerArgs::augment_args(Command::new(""))
            .get_arguments()
            .any(|argument| argument.get_id() == key)
}

/// The setting that a `[[listener]]` must have.
pub(super) const LISTEN: &str = "listen";
const CHECK: &str = "check";
const PRINT: &str = "config";
const DOCTOR: &str = "doctor";
const JSON: &str = "json";
const RELOAD: &str = "reload";
const TRACE: &str = "trace";
const PASSWD: &str = "passwd";
const MAN: &str = "man";
const COMPLETIONS: &str = "completions";
const PUBLISH: &str = "pub";
const SUBSCRIBE: &str = "sub";
