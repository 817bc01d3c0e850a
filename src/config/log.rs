//! `--log FORMAT/LEVEL`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use tracing::level_filters::LevelFilter;

/// How log lines look, and which are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogSetting {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LevelFilter,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A log setting that cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LogSettingError {
    /// Neither `text` nor `json`.
    #[error("'{0}' is no log format: text or json")]
    Format(String),
    /// No level.
    #[error("'{0}' is no log level: error, warn, info, debug or trace")]
    Level(String),
}

impl FromStr for LogSetting {
    type Err = LogSettingError;

    /// `text/info`; either half may be left out.
    fn from_str(setting: &str) -> Result<LogSetting, LogSettingError> {
        let (format, level) = match setting.split_once('/') {
            Some((format, level)) => (format, level),
            None if matches!(setting, "text" | "json") => (setting, "info"),
            None => ("text", setting),
        };
        let format = match format {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(LogSettingError::Format(format.to_owned())),
        };
        let level = match level {
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            _ => return Err(LogSettingError::Level(level.to_owned())),
        };
        Ok(LogSetting { format, level })
    }
}

impl fmt::Display for LogSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        write!(f, "{format}/{}", self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_are_optional() {
        let json_debug = LogSetting {
            format: LogFormat::Json,
            level: LevelFilter::DEBUG,
        };
        assert_eq!("json/debug".parse(), Ok(json_debug));
        assert_eq!(
            "json".parse(),
            Ok(LogSetting {
                format: LogFormat::Json,
                level: LevelFilter::INFO
            })
        );
        assert_eq!(
            "warn".parse(),
            Ok(LogSetting {
                format: LogFormat::Text,
                level: LevelFilter::WARN
            })
        );
        assert_eq!(
            "xml/info".parse::<LogSetting>(),
            Err(LogSettingError::Format("xml".into()))
        );
        assert_eq!(
            "text/loud".parse::<LogSetting>(),
            Err(LogSettingError::Level("loud".into()))
        );
    }
}
