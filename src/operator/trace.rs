//! `ringmq trace`

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde::Deserialize;
use serde_json::{Map, Value};
use ureq::http::StatusCode;

use super::OperatorError;
use super::http::Admin;
use crate::admin::trace::{PAYLOAD_BYTES_MAX, RATE_DEFAULT, RATE_MAX, SECONDS_DEFAULT, SECONDS_MAX};
use crate::config::Config;

/// What to follow.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
#[command(group = ArgGroup::new("followed").required(true).args(["client", "topic"]))]
pub struct TraceArgs {
    /// Client Identifier to follow; it need not be connected yet
    #[arg(long, value_name = "ID")]
    client: Option<String>,

    /// Topic Filter whose messages to follow, whoever sends and gets them
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,

    /// End after so long
    #[arg(long = "for", value_name = "SECONDS", default_value_t = SECONDS_DEFAULT,
          value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,

    /// Show so many bytes of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(0..=PAYLOAD_BYTES_MAX as u64))]
    payload: u64,

    /// Show at most so many packets per second of each shard; the others are counted
    #[arg(long, value_name = "N", default_value_t = RATE_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    rate: u32,

    /// Print JSON rather than lines
    #[arg(long)]
    json: bool,
}

/// Has the broker with these settings tell what a client does, or what happens to messages of a topic, and prints it, until the time
/// is over. Exit code 1 if the broker could not be asked, or ended before.
#[must_use]
pub fn trace(config: &Config, args: &TraceArgs) -> ExitCode {
    match follow(config, args) {
        Ok(()) => ExitCode::SUCCESS,
        // As if `head` had seen enough.
        Err(OperatorError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::FAILURE
        }
    }
}

fn follow(config: &Config, args: &TraceArgs) -> Result<(), OperatorError> {
    let admin = Admin::of(config)?;
    let mut answer = admin.follow(&format!("/api/trace?{}", args.query()))?;
    let status = answer.status();
    if status != StatusCode::OK {
        let text = admin.text(&mut answer)?;
        return Err(admin.refusal(status, &text));
    }
    let address = admin.address;
    let mut output = io::stdout().lock();
    let mut lines = BufReader::new(answer.into_body().into_reader());
    let mut line = String::new();
    loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(0) => return Err(OperatorError::Ended { address }),
            Ok(_) => {}
            Err(_) => return Err(OperatorError::Ended { address }),
        }
        let unknown = |_| OperatorError::Line {
            address,
            line: line.trim_end().to_owned(),
        };
        let told: Told = serde_json::from_str(&line).map_err(unknown)?;
        if args.json {
            output.write_all(line.as_bytes()).map_err(OperatorError::Output)?;
        } else {
            writeln!(output, "{}", told.text()).map_err(OperatorError::Output)?;
        }
        output.flush().map_err(OperatorError::Output)?;
        if told.event == "end" {
            return Ok(());
        }
    }
}

impl TraceArgs {
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let followed = [("client", &self.client), ("topic", &self.topic)];
        for (key, value) in followed
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?)))
        {
            query.append_pair(key, value);
        }
        query
            .append_pair("seconds", &self.seconds.to_string())
            .append_pair("payload", &self.payload.to_string())
            .append_pair("rate", &self.rate.to_string())
            .finish()
    }
}

/// One line of the broker.
#[derive(Debug, Deserialize)]
struct Told {
    event: String,
    #[serde(default)]
    unix_ms: u64,
    #[serde(default)]
    client: String,
    packet: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Told {
    /// For people: `12:00:01.250 "dev" received PUBLISH topic="t" qos=1 …`. What clients wrote is quoted, so it can do nothing to a
    /// terminal.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut put = |part: std::fmt::Arguments<'_>| text.write_fmt(part).expect("a String takes everything");
        match &*self.event {
            "end" => {
                put(format_args!(
                    "--- {} told, {} not told",
                    self.rest["told"], self.rest["untold"]
                ));
                return text;
            }
            "untold" => {
                put(format_args!(
                    "--- {} more are not told: too many in a second",
                    self.rest["count"]
                ));
                return text;
            }
            _ => {}
        }
        let (ms, seconds) = (self.unix_ms % 1_000, self.unix_ms / 1_000);
        let (hours, minutes, seconds) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        put(format_args!(
            "{hours:02}:{minutes:02}:{seconds:02}.{ms:03} {:?} {}",
            self.client, self.event
        ));
        if let Some(packet) = &self.packet {
            put(format_args!(" {packet}"));
        }
        for (key, value) in self.rest.iter().filter(|(key, _)| *key != "shard") {
            match value {
                Value::Null | Value::Bool(false) => {}
                Value::Bool(true) => put(format_args!(" {key}")),
                Value::String(value) => put(format_args!(" {key}={value:?}")),
                value => put(format_args!(" {key}={value}")),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> String {
        serde_json::from_str::<Told>(line).unwrap().text()
    }

    #[test]
    fn a_line_for_people_quotes_what_clients_wrote() {
        assert_eq!(
            text(
                r#"{"unix_ms":45296789,"shard":0,"client":"a\u001b[2J","event":"sent","packet":"PUBLISH","topic":"t\n","qos":1,"retain":true,"dup":false}"#
            ),
            "12:34:56.789 \"a\\u{1b}[2J\" sent PUBLISH topic=\"t\\n\" qos=1 retain"
        );
        assert_eq!(
            text(r#"{"event":"untold","count":7}"#),
            "--- 7 more are not told: too many in a second"
        );
        assert_eq!(text(r#"{"event":"end","told":5,"untold":7}"#), "--- 5 told, 7 not told");
    }
}
