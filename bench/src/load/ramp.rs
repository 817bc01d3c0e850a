//! The pace at which connections are opened.

/// Handshakes under way at once, per thread; stays below the usual listen backlogs of 100 and 128.
const OPENING_MAX: u64 = 64;

/// Opens connections 0, 1, 2, … at a rate, and never more at once than a listener's backlog takes.
#[derive(Debug)]
pub(crate) struct Ramp {
    /// Connections to open.
    all: usize,
    /// Nanoseconds between two; 0 for no limit.
    interval_ns: f64,
    /// When the first one was asked for.
    started_at: Option<u64>,
    opened: usize,
    /// When time alone allows the next one; `u64::MAX` where it waits for a handshake, or is the last.
    wake_at: u64,
}

impl Ramp {
    /// `rate` in connections per second.
    pub(crate) fn new(rate: Option<f64>, all: usize) -> Ramp {
        Ramp {
            all,
            interval_ns: rate.map_or(0.0, |rate| 1e9 / rate),
            started_at: None,
            opened: 0,
            wake_at: 0,
        }
    }

    /// The next connection to open at `now`, `up` having come up.
    pub(crate) fn next(&mut self, now: u64, up: u64) -> Option<usize> {
        let start = *self.started_at.get_or_insert(now);
        self.wake_at = u64::MAX;
        if self.opened >= self.all || self.opened as u64 >= up + OPENING_MAX {
            return None;
        }
        let due = start + (self.opened as f64 * self.interval_ns) as u64;
        if due > now {
            self.wake_at = due;
            return None;
        }
        self.opened += 1;
        Some(self.opened - 1)
    }

    /// When to ask again, if nothing else happens before; nanoseconds.
    pub(crate) fn wake_at(&self) -> u64 {
        self.wake_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_connections() {
        let mut ramp = Ramp::new(Some(1000.0), 2);
        assert_eq!(ramp.next(5_000, 0), Some(0));
        assert_eq!(ramp.next(5_000, 0), None);
        assert_eq!(ramp.wake_at(), 1_005_000);
        assert_eq!(ramp.next(1_005_000, 0), Some(1));
        assert_eq!(ramp.next(9_005_000, 0), None);
        assert_eq!(ramp.wake_at(), u64::MAX);
    }

    #[test]
    fn handshakes_under_way_are_bounded() {
        let mut ramp = Ramp::new(None, 1000);
        let opened = (0..1000).filter(|_| ramp.next(1, 0).is_some()).count();
        assert_eq!(opened as u64, OPENING_MAX);
        assert_eq!(ramp.wake_at(), u64::MAX);
        assert_eq!(ramp.next(1, 1), Some(OPENING_MAX as usize));
    }
}
