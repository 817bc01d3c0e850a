//! `ringmq doctor`: whether the broker can run on this host with these settings, and what would hold it back.
//!
//! `checks` looks, with the same functions of `preflight` that decide at the broker's start, so that both agree; here
//! is what a finding is and how it is printed. Nothing stays behind: ports that were bound are let go.

mod checks;

use std::process::ExitCode;

use serde::Serialize;

use crate::config::Config;
use crate::startup::say;

/// How good what was found is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As the settings need it.
    Ok,
    /// The broker runs, and less well or with less than the settings say.
    Warn,
    /// The broker does not start, or does not last.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it; `None` exactly if the verdict is [`Verdict::Ok`].
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            check,
            verdict: Verdict::Warn,
            found: found.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Fail,
            ..Finding::warn(check, found, remedy)
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// The worst of all.
    verdict: Verdict,
    checks: Vec<Finding>,
}

/// Looks, prints, and ends with 1 if anything failed.
#[must_use]
pub fn run(config: &Config, json: bool) -> ExitCode {
    let checks = checks::all(config);
    let verdict = checks.iter().map(|finding| finding.verdict).max();
    let verdict = verdict.unwrap_or(Verdict::Ok);
    let report = Report { verdict, checks };
    say(&if json { as_json(&report) } else { lines(&report) });
    ExitCode::from(u8::from(verdict == Verdict::Fail))
}

fn as_json(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("names and text only") + "\n"
}

/// One line for each finding.
fn lines(report: &Report) -> String {
    let line = |finding: &Finding| {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let remedy = finding.remedy.as_ref();
        let remedy = remedy.map(|remedy| format!(". Remedy: {remedy}")).unwrap_or_default();
        let text = format!("{verdict:<5} {:<12} {}{remedy}", finding.check, finding.found);
        // A path or what the system said may hold anything.
        text.replace(char::is_control, " ") + "\n"
    };
    report.checks.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_whatever_it_says() {
        let report = Report {
            verdict: Verdict::Fail,
            checks: vec![
                Finding::ok("kernel", "Linux 6.1"),
                Finding::fail("listener", "unix:/a\n\x1b[31mb is taken", "stop it"),
            ],
        };
        assert_eq!(
            lines(&report),
            "ok    kernel       Linux 6.1\nFAIL  listener     unix:/a  [31mb is taken. Remedy: stop it\n"
        );
        let json: serde_json::Value = serde_json::from_str(&as_json(&report)).unwrap();
        assert_eq!(json["verdict"], "fail");
        assert_eq!(json["checks"][0]["remedy"], serde_json::Value::Null);
        assert_eq!(json["checks"][1]["found"], "unix:/a\n\x1b[31mb is taken");
    }
}
