//! Time, read once per turn and then passed around.

use std::time::{Duration, Instant as StdInstant};

use ringmq_shard::time::Instant;

/// The clock that all shards of a broker share, so that their instants compare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: StdInstant,
}

/// One reading of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Since the broker started.
    elapsed: Duration,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            start: StdInstant::now(),
        }
    }

    pub(crate) fn now(self) -> Now {
        Now {
            elapsed: self.start.elapsed(),
        }
    }
}

impl Now {
    /// As the core counts it.
    pub(crate) fn instant(self) -> Instant {
        Instant::from_millis(u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.elapsed
    }
}
