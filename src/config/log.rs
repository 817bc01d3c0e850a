//! `--log FORMAT/LEVEL[,MODULE=LEVEL…]`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use tracing::level_filters::LevelFilter;

use super::nearest::nearest;

/// How log lines look, and which are written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogSetting {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LevelFilter,
    /// Modules with a level of their own; none twice.
    pub modules: Vec<(LogModule, LevelFilter)>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What a log line is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogModule {
    /// What clients were denied.
    Access,
    /// What operators did over HTTP.
    Admin,
    /// The files that say who clients are.
    Auth,
    /// Start, reload, stop, and the service manager.
    Broker,
    /// Clients that come and go, and why.
    Connection,
    /// Sockets that are accepted, or not.
    Listener,
}

/// A log setting that cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LogSettingError {
    /// Neither `text` nor `json`.
    #[error("'{0}' is no log format: text or json")]
    Format(String),
    /// No level.
    #[error("'{0}' is no log level: off, error, warn, info, debug or trace")]
    Level(String),
    /// Not `MODULE=LEVEL`.
    #[error("'{0}' is not MODULE=LEVEL")]
    NoLevel(String),
    /// No module has this name.
    #[error("'{module}' is no module of the log{hint}: {names}", names = LogModule::names().join(", "),
            hint = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    Module {
        /// As written.
        module: String,
        /// The one that was most likely meant.
        nearest: Option<&'static str>,
    },
    /// One module twice.
    #[error("'{0}' has two levels")]
    ModuleTwice(LogModule),
}

impl LogModule {
    /// All of them, by name.
    pub const ALL: [LogModule; 6] = [
        LogModule::Access,
        LogModule::Admin,
        LogModule::Auth,
        LogModule::Broker,
        LogModule::Connection,
        LogModule::Listener,
    ];

    /// As an operator writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LogModule::Access => "access",
            LogModule::Admin => "admin",
            LogModule::Auth => "auth",
            LogModule::Broker => "broker",
            LogModule::Connection => "connection",
            LogModule::Listener => "listener",
        }
    }

    fn names() -> Vec<&'static str> {
        LogModule::ALL.map(LogModule::name).into()
    }
}

impl fmt::Display for LogModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LogModule {
    type Err = LogSettingError;

    fn from_str(name: &str) -> Result<LogModule, LogSettingError> {
        let module = LogModule::ALL.into_iter().find(|module| module.name() == name);
        module.ok_or_else(|| LogSettingError::Module {
            module: name.to_owned(),
            nearest: nearest(name, LogModule::ALL.iter().map(|module| module.name()))
                .and_then(|near| LogModule::names().into_iter().find(|name| *name == near)),
        })
    }
}

impl FromStr for LogSetting {
    type Err = LogSettingError;

    /// `text/info,listener=debug`; of the part before the first comma either half, or all of it, may be left out.
    fn from_str(setting: &str) -> Result<LogSetting, LogSettingError> {
        let mut parts = setting.split(',').peekable();
        let general = parts.next_if(|part| !part.contains('=')).unwrap_or(DEFAULT);
        let (format, level) = match general.split_once('/') {
            Some((format, level)) => (format, level),
            None if matches!(general, "text" | "json") => (general, "info"),
            None => ("text", general),
        };
        let format = match format {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(LogSettingError::Format(format.to_owned())),
        };
        let mut setting = LogSetting {
            format,
            level: level_of(level)?,
            modules: Vec::new(),
        };
        for part in parts {
            let (module, level) = part
                .split_once('=')
                .ok_or_else(|| LogSettingError::NoLevel(part.to_owned()))?;
            let module: LogModule = module.parse()?;
            if setting.modules.iter().any(|(other, _)| *other == module) {
                return Err(LogSettingError::ModuleTwice(module));
            }
            setting.modules.push((module, level_of(level)?));
        }
        Ok(setting)
    }
}

fn level_of(name: &str) -> Result<LevelFilter, LogSettingError> {
    Ok(match name {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return Err(LogSettingError::Level(name.to_owned())),
    })
}

impl fmt::Display for LogSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        write!(f, "{format}/{}", self.level)?;
        for (module, level) in &self.modules {
            write!(f, ",{module}={level}")?;
        }
        Ok(())
    }
}

const DEFAULT: &str = "text/info";

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(setting: &str) -> String {
        match setting.parse::<LogSetting>() {
            Ok(setting) => setting.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_part_is_optional() {
        for (setting, meant) in [
            ("json/debug", "json/debug"),
            ("json", "json/info"),
            ("warn", "text/warn"),
            ("text/off", "text/off"),
            ("json/warn,listener=debug", "json/warn,listener=debug"),
            ("listener=debug,access=off", "text/info,listener=debug,access=off"),
            ("json,connection=trace", "json/info,connection=trace"),
        ] {
            assert_eq!(printed(setting), meant, "{setting}");
            assert_eq!(printed(meant), meant, "{setting}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (setting, expected) in [
            ("xml/info", "'xml' is no log format"),
            ("text/loud", "'loud' is no log level"),
            ("", "'' is no log level"),
            ("text/info,", "'' is not MODULE=LEVEL"),
            ("text/info,listener", "'listener' is not MODULE=LEVEL"),
            ("text/info,listener=loud", "'loud' is no log level"),
            (
                "listner=debug",
                "'listner' is no module of the log; did you mean listener?",
            ),
            ("text/info,colour=debug", "'colour' is no module of the log: access, "),
            ("access=info,access=debug", "'access' has two levels"),
        ] {
            let refusal = printed(setting);
            assert!(refusal.contains(expected), "{setting}: {refusal}");
        }
    }
}
