//! So many per second, and so many at once after a rest.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): of whatever is limited it needs one number, when its allowance would be
//! full again. A full one is a number that has passed, so nothing has to be kept of who has been quiet.

use std::time::Duration;

use ringmq_shard::time::Instant;

/// A rate and what may come at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rate {
    /// From one to the next. Never 0.
    interval_ns: u64,
    /// How far ahead of the clock the last of a burst may be.
    ahead_ns: u64,
}

impl Rate {
    /// Neither is 0.
    pub(super) fn new(per_second: u32, burst: u32) -> Rate {
        let interval_ns = NANOS_PER_SECOND / u64::from(per_second);
        Rate {
            interval_ns,
            ahead_ns: interval_ns * u64::from(burst - 1),
        }
    }

    /// When the next one may come, for an allowance that is full at `full_at_ns`: now or later.
    pub(super) fn next(self, full_at_ns: u64, now: Instant) -> Instant {
        let next_ns = full_at_ns.saturating_sub(self.ahead_ns);
        now.max(Instant::from_millis(0) + Duration::from_nanos(next_ns))
    }

    /// When the allowance is full after one more.
    pub(super) fn spent(self, full_at_ns: u64, now: Instant) -> u64 {
        full_at_ns.max(nanos(now)) + self.interval_ns
    }
}

fn nanos(instant: Instant) -> u64 {
    instant.as_millis().saturating_mul(NANOS_PER_SECOND / 1_000)
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many come in each of these milliseconds, if as many come as may.
    fn admitted(rate: Rate, full_at: &mut u64, at_ms: &[u64]) -> Vec<usize> {
        let count = |ms: &u64| {
            let now = Instant::from_millis(*ms);
            let mut count = 0;
            while rate.next(*full_at, now) <= now {
                *full_at = rate.spent(*full_at, now);
                count += 1;
            }
            count
        };
        at_ms.iter().map(count).collect()
    }

    #[test]
    fn a_burst_comes_at_once_and_then_the_rate_holds() {
        let rate = Rate::new(10, 3);
        let mut full_at = 0;
        let times = [5_000, 5_000, 5_099, 5_100, 5_150, 5_400, 9_000];
        assert_eq!(admitted(rate, &mut full_at, &times), [3, 0, 0, 1, 0, 3, 3]);
        assert_eq!(
            rate.next(full_at, Instant::from_millis(9_000)),
            Instant::from_millis(9_100)
        );
    }

    #[test]
    fn rates_above_the_clock_s_resolution_hold_on_average() {
        let rate = Rate::new(50_000, 50_000);
        let mut full_at = 0;
        let all: Vec<u64> = (1_000..3_001).collect();
        let total: usize = admitted(rate, &mut full_at, &all).iter().sum();
        assert_eq!(total, 50_000 + 2 * 50_000);
    }
}
