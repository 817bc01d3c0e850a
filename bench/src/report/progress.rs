//! The live line: on a terminal only, on standard error.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::format::{grouped, short};
use crate::load::{Live, Watch};

/// Shows where a run is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    name: String,
    shown_at: Option<Instant>,
}

/// Redrawing more often only flickers, and costs.
const SHOW_EVERY: Duration = Duration::from_millis(100);

impl Progress {
    /// A line for the run `name`; nothing at all when `quiet`, or where standard error is no terminal.
    pub(crate) fn new(name: &str, quiet: bool) -> Progress {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid"));
        Progress {
            bar,
            name: name.to_owned(),
            shown_at: None,
        }
    }
}

impl Watch for Progress {
    fn look(&mut self, live: Live) {
        if self.bar.is_hidden() || self.shown_at.is_some_and(|at| at.elapsed() < SHOW_EVERY) {
            return;
        }
        self.shown_at = Some(Instant::now());
        let text = match live {
            Live::Connecting { up, all } => format!("connecting {} of {}", grouped(up), grouped(all)),
            Live::Subscribing { done, all } => format!("subscribing {} of {}", grouped(done), grouped(all)),
            Live::Running { sample, measuring } => format!(
                "{} {:.0} s  in {}/s  out {}/s",
                if measuring { "measuring" } else { "warming up" },
                sample.at_s,
                short(sample.ingress_per_s),
                short(sample.egress_per_s)
            ),
            Live::Draining { missing } => format!("draining, {} missing", grouped(missing)),
        };
        self.bar.set_message(format!("{}: {text}", self.name));
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
