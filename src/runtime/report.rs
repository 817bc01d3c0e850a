//! Each shard's numbers, where the others can read them: written by its shard at an interval, never per message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringmq_shard::shard::ShardId;
use ringmq_shard::stats::Stats;

use super::sockets::SocketCounters;

/// What one shard and its thread did since the start, and hold at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShardReport {
    pub(crate) stats: Stats,
    pub(crate) sockets: SocketCounters,
    pub(crate) turns: u64,
    /// Passes through the executor.
    pub(crate) sleeps: u64,
    /// What waits in the inbox: entries, and KiB of messages. Gauge.
    pub(crate) inbox: usize,
    pub(crate) turn_times: TurnTimes,
}

/// How long those turns took that found something to do.
///
/// Counts by powers of two of a microsecond: entry `n` has the turns below 2^n µs and not below half of that, the last one
/// all that were longer. A turn is timed for the size of its reads anyway; adding it here is a shift and two additions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TurnTimes {
    counts: [u64; TURN_TIMES],
    nanos: u64,
}

impl TurnTimes {
    pub(crate) fn add(&mut self, turn: Duration) {
        let nanos = u64::try_from(turn.as_nanos()).unwrap_or(u64::MAX);
        let micros = nanos / 1_000;
        let entry = (u64::BITS - micros.leading_zeros()) as usize;
        self.counts[entry.min(TURN_TIMES - 1)] += 1;
        self.nanos = self.nanos.saturating_add(nanos);
    }

    /// Upper bounds in seconds, infinity last, and the turns of each entry.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.counts.iter().enumerate().map(|(n, count)| {
            let bound = if n == TURN_TIMES - 1 {
                f64::INFINITY
            } else {
                (1_u64 << n) as f64 / 1e6
            };
            (bound, *count)
        })
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }
}

/// From below 1 µs to below 2^20 µs, about a second, and beyond.
const TURN_TIMES: usize = 22;

/// The latest report of each shard, and what listeners and authentication count.
#[derive(Debug)]
pub(crate) struct Reports {
    shards: Vec<Mutex<ShardReport>>,
    /// Sockets accepted and handed to a shard.
    pub(crate) accepted: AtomicU64,
    /// Times that a listener paused because of its rate.
    pub(crate) paused: AtomicU64,
    /// Sockets closed at once, by [`Rejection`].
    rejected: [AtomicU64; Rejection::ALL.len()],
    /// Clients about whom the service was to be asked, by [`ServiceOutcome`].
    judged: [AtomicU64; ServiceOutcome::ALL.len()],
}

/// Why a socket is closed before anything that its client says is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rejection {
    /// `--max-connections` are open.
    MaxConnections,
    /// Proxies only come from elsewhere.
    Untrusted,
    /// Its address connects too often.
    AddressRate,
}

impl Rejection {
    pub(crate) const ALL: [Rejection; 3] = [Rejection::MaxConnections, Rejection::Untrusted, Rejection::AddressRate];

    /// In metrics and in the log.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Rejection::MaxConnections => "max_connections",
            Rejection::Untrusted => "untrusted_proxy",
            Rejection::AddressRate => "address_rate",
        }
    }
}

/// What came of asking the service of `--auth-http-url` about a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServiceOutcome {
    /// It may come in.
    Allowed,
    /// It may not.
    Denied,
    /// The service gave no answer that counts.
    Failed,
    /// What it said a while ago was enough.
    Remembered,
    /// Too many others waited for it.
    Overloaded,
}

impl ServiceOutcome {
    pub(crate) const ALL: [ServiceOutcome; 5] = [
        ServiceOutcome::Allowed,
        ServiceOutcome::Denied,
        ServiceOutcome::Failed,
        ServiceOutcome::Remembered,
        ServiceOutcome::Overloaded,
    ];

    /// In metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            ServiceOutcome::Allowed => "allowed",
            ServiceOutcome::Denied => "denied",
            ServiceOutcome::Failed => "failed",
            ServiceOutcome::Remembered => "remembered",
            ServiceOutcome::Overloaded => "overloaded",
        }
    }
}

impl Reports {
    pub(crate) fn new(shards: usize) -> Reports {
        Reports {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            accepted: AtomicU64::new(0),
            paused: AtomicU64::new(0),
            rejected: Default::default(),
            judged: Default::default(),
        }
    }

    pub(crate) fn reject(&self, reason: Rejection) {
        self.rejected[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// In the order of [`Rejection::ALL`].
    pub(crate) fn rejected(&self) -> [u64; Rejection::ALL.len()] {
        Rejection::ALL.map(|reason| self.rejected[reason as usize].load(Ordering::Relaxed))
    }

    pub(crate) fn judge(&self, outcome: ServiceOutcome) {
        self.judged[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// In the order of [`ServiceOutcome::ALL`].
    pub(crate) fn judged(&self) -> [u64; ServiceOutcome::ALL.len()] {
        ServiceOutcome::ALL.map(|outcome| self.judged[outcome as usize].load(Ordering::Relaxed))
    }

    pub(crate) fn put(&self, shard: ShardId, report: ShardReport) {
        *self.shards[shard.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// By shard.
    pub(crate) fn all(&self) -> Vec<ShardReport> {
        self.shards
            .iter()
            .map(|shard| *shard.lock().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_below_the_next_power_of_two() {
        let mut times = TurnTimes::default();
        for nanos in [0, 999, 1_000, 1_999, 2_000, 1_048_575_999, 1_048_576_000, u64::MAX] {
            times.add(Duration::from_nanos(nanos));
        }
        let counted: Vec<_> = times.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(
            counted,
            [
                (0.000_001, 2),
                (0.000_002, 2),
                (0.000_004, 1),
                (1.048_576, 1),
                (f64::INFINITY, 2)
            ]
        );
        assert_eq!(times.buckets().count(), TURN_TIMES);
    }
}
