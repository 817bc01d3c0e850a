//! At most so many lines per second and reason, then a summary.

use std::time::Duration;

use ringmq_shard::time::Instant;
use tracing::info;

use super::modules::{AUTH, CONNECTION, LISTENER};

/// Counts the lines of one second, by reason. Reasons come from fixed sets, so the table stays small.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    about: About,
    window_start: Instant,
    reasons: Vec<Reason>,
}

/// Whose lines they are.
#[derive(Clone, Copy, Debug, Default)]
enum About {
    #[default]
    Connections,
    Listener,
    Service,
}

#[derive(Debug)]
struct Reason {
    label: &'static str,
    /// Lines asked for in this window.
    lines: u64,
}

impl LogLimiter {
    /// For lines about the listener; the default is for lines about connections.
    pub(crate) fn of_listener() -> LogLimiter {
        LogLimiter {
            about: About::Listener,
            ..LogLimiter::default()
        }
    }

    /// For lines about the service that is asked who clients are.
    pub(crate) fn of_service() -> LogLimiter {
        LogLimiter {
            about: About::Service,
            ..LogLimiter::default()
        }
    }

    /// Whether a line with this reason may be written.
    pub(crate) fn allows(&mut self, label: &'static str, now: Instant) -> bool {
        self.summarise(now);
        match self.reasons.iter_mut().find(|reason| reason.label == label) {
            Some(reason) => {
                reason.lines += 1;
                reason.lines <= LINES_PER_SECOND
            }
            None => {
                self.reasons.push(Reason { label, lines: 1 });
                true
            }
        }
    }

    /// When [`summarise`](Self::summarise) has something to say.
    pub(crate) fn next(&self) -> Option<Instant> {
        let suppressed = self.reasons.iter().any(|reason| reason.lines > LINES_PER_SECOND);
        suppressed.then(|| self.window_start + WINDOW)
    }

    /// Says how many lines were left out, once their second is over, and begins another.
    pub(crate) fn summarise(&mut self, now: Instant) {
        if now < self.window_start + WINDOW {
            return;
        }
        self.window_start = now;
        for reason in self.reasons.drain(..) {
            let suppressed = reason.lines.saturating_sub(LINES_PER_SECOND);
            if suppressed > 0 {
                // A target is part of the place that names it, so there is one place for each.
                match self.about {
                    About::Listener => info!(target: LISTENER, reason = reason.label, suppressed, "more of these"),
                    About::Connections => info!(target: CONNECTION, reason = reason.label, suppressed, "more of these"),
                    About::Service => info!(target: AUTH, reason = reason.label, suppressed, "more of these"),
                }
            }
        }
    }
}

/// Lines of one reason that are written each second, per shard.
const LINES_PER_SECOND: u64 = 10;
const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_share_of_each_second() {
        let mut limiter = LogLimiter::default();
        let allowed = |limiter: &mut LogLimiter, label, ms| {
            (0..50)
                .filter(|_| limiter.allows(label, Instant::from_millis(ms)))
                .count()
        };
        assert_eq!(allowed(&mut limiter, "takeover", 5_000), 10);
        assert_eq!(allowed(&mut limiter, "malformed", 5_001), 10);
        assert_eq!(limiter.next(), Some(Instant::from_millis(6_000)));
        assert_eq!(allowed(&mut limiter, "takeover", 5_999), 0);
        assert_eq!(allowed(&mut limiter, "takeover", 6_000), 10);
    }

    #[test]
    fn a_few_lines_need_no_summary() {
        let mut limiter = LogLimiter::default();
        assert!(limiter.allows("takeover", Instant::from_millis(5_000)));
        assert_eq!(limiter.next(), None);
    }
}
