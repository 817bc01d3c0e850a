//! `ringmq reload`

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Deserialize;
use ureq::http::StatusCode;

use super::OperatorError;
use super::http::Admin;
use crate::broker::Outcome;
use crate::config::Config;
use crate::startup::say;

/// Has the broker with these settings read them, and the files that they name, again; says what came of it. Exit code 1 if it was
/// refused or could not be asked.
#[must_use]
pub fn reload(config: &Config) -> ExitCode {
    match ask(config) {
        Ok(outcome) => {
            say(&told(&outcome));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(config: &Config) -> Result<Outcome, OperatorError> {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    let admin = Admin::of(config)?;
    let mut answer = admin.post("/api/reload")?;
    let (status, text) = (answer.status(), admin.text(&mut answer)?);
    let unknown = |_| admin.refusal(status, &text);
    match status {
        StatusCode::OK => serde_json::from_str(&text).map_err(unknown),
        StatusCode::CONFLICT => {
            let refused: Refused = serde_json::from_str(&text).map_err(unknown)?;
            Err(OperatorError::Refused(refused.error))
        }
        status => Err(admin.refusal(status, &text)),
    }
}

fn told(outcome: &Outcome) -> String {
    let mut text =
        String::from("reloaded: passwords, access control list, token and certificates are as their files say\n");
    for setting in &outcome.changed {
        writeln!(text, "changed: {setting}").expect("a String takes everything");
    }
    for setting in &outcome.restart {
        writeln!(text, "needs a restart: {setting}").expect("a String takes everything");
    }
    text
}
