//! How fast one client may publish: it is slowed first, and closed last.
//!
//! ```text
//!   within its allowance ──a PUBLISH beyond it──► held: what it sends waits, unread or unhandled
//!          ▲                                        │
//!          └────────── the PUBLISH is paid for ─────┘   held again and again for `publish_rate_patience`: closed
//! ```
//! The allowance is one second's worth of messages and of bytes, and fills at the rate: the generic cell rate algorithm (ITU-T
//! I.371, annex A), which needs one number for each. It belongs to the connection, so a client that comes again begins with a full
//! one. A PUBLISH is handled as soon as the one before it is paid for, whatever its size: one larger than the allowance passes too,
//! and is paid for afterwards. So nothing is dropped; a publisher finds its socket full, as with any slow reader.

use std::time::Duration;

use super::Shard;
use super::connection::Connection;
use super::event::ConnId;
use super::timers::Timer;
use crate::error::SessionError;
use crate::time::Instant;

/// What one connection has published, as time that it takes at the rate.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// When the allowance of messages would be full again, in nanoseconds.
    messages: u64,
    /// Likewise of bytes.
    bytes: u64,
    /// Since when the client is held again and again, without half of an allowance between.
    over_since: Option<Instant>,
}

impl Allowance {
    /// Spends one message of `bytes`; until when the next one must wait.
    fn spend(&mut self, now: Instant, messages_rate: u32, bytes_rate: u64, bytes: usize) -> Instant {
        let now_ns = now.as_millis() * 1_000_000;
        let messages = spend(&mut self.messages, now_ns, 1, u64::from(messages_rate));
        let bytes = spend(&mut self.bytes, now_ns, bytes as u64, bytes_rate);
        let paid_at = messages.max(bytes).saturating_sub(ALLOWANCE_NS);
        Instant::from_millis(paid_at.div_ceil(1_000_000))
    }

    /// Whether half of each allowance is there.
    fn is_half_full(&self, now: Instant) -> bool {
        self.messages.max(self.bytes) <= now.as_millis() * 1_000_000 + ALLOWANCE_NS / 2
    }
}

/// A rate of 0 is none.
fn spend(full_at: &mut u64, now: u64, amount: u64, per_second: u64) -> u64 {
    if per_second > 0 {
        let cost = u128::from(amount) * 1_000_000_000 / u128::from(per_second);
        *full_at = (*full_at)
            .max(now)
            .saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
    } else {
        // It may be limited later.
        *full_at = 0;
    }
    *full_at
}

impl Shard {
    /// Whether PUBLISH has a rate at all.
    #[inline]
    pub(super) fn limits_rate(&self) -> bool {
        let limits = &self.clients.limits;
        limits.publish_rate_max > 0 || limits.publish_bytes_rate_max > 0
    }

    /// Counts a PUBLISH of `bytes`, Topic Name and payload, against the client's rate. What follows it may have to wait.
    ///
    /// # Errors
    /// The client has been too fast for too long.
    #[cold]
    pub(super) fn spend_allowance(&mut self, now: Instant, conn: ConnId, bytes: usize) -> Result<(), SessionError> {
        let limits = &self.clients.limits;
        let (messages_rate, bytes_rate) = (limits.publish_rate_max, limits.publish_bytes_rate_max);
        let patience = limits.publish_rate_patience;
        let connection = &mut self.clients.connections[conn.index()];
        let allowance = connection.allowance.get_or_insert_default();
        if allowance.is_half_full(now) {
            allowance.over_since = None;
        } else if let Some(since) = allowance.over_since
            && !patience.is_zero()
            && now.since(since) >= patience
        {
            let seconds = patience.as_secs();
            return Err(SessionError::RateExceeded { seconds });
        }
        let paid_at = allowance.spend(now, messages_rate, bytes_rate, bytes);
        if paid_at > now {
            allowance.over_since.get_or_insert(now);
            self.hold(conn, paid_at.max(now + HOLD_MIN));
        }
        Ok(())
    }

    /// Handles nothing more of what the client sends until then.
    fn hold(&mut self, conn: ConnId, until: Instant) {
        let connection = &mut self.clients.connections[conn.index()];
        connection.over_rate = true;
        let (index, generation) = (conn.0, connection.generation);
        self.clients.stats.rate_limited += 1;
        self.timers.set(until, Timer::Rate { index, generation });
    }

    /// What the client has published is paid for.
    pub(super) fn on_paid(&mut self, now: Instant, conn: ConnId, generation: u32) {
        if let Some(connection) = self.clients.live_connection((conn, generation))
            && !fault!(NeverPaid)
        {
            connection.over_rate = false;
            self.read_again(now, conn);
        }
    }
}

impl Connection {
    /// Whether anything but its session keeps it from being handled.
    #[inline]
    pub(super) fn must_wait(&self) -> bool {
        self.sated || self.over_rate
    }
}

/// How much may come at once: what a second gives.
const ALLOWANCE_NS: u64 = 1_000_000_000;
/// A client is not let go for each message of a high rate: what it has sent already is copied each time.
const HOLD_MIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_second_s_worth_is_free_and_then_the_rate_holds() {
        let mut allowance = Allowance::default();
        let start = 5_000;
        for n in 0..10 {
            assert!(allowance.spend(at(start), 10, 0, 1_000_000) <= at(start), "message {n}");
        }
        for n in 1..=20 {
            assert_eq!(allowance.spend(at(start), 10, 0, 0), at(start + n * 100));
        }
        // Two seconds pay for the twenty; one more fills it.
        assert!(!allowance.is_half_full(at(start + 2_499)));
        assert!(allowance.is_half_full(at(start + 2_500)));
        let later = start + 10_000;
        for _ in 0..10 {
            assert!(
                allowance.spend(at(later), 10, 0, 0) <= at(later),
                "and no more than a second's worth"
            );
        }
        assert!(allowance.spend(at(later), 10, 0, 0) > at(later));
    }

    #[test]
    fn bytes_are_paid_for_however_many() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.spend(at(1_000), 0, 1_000, 1_000), at(1_000));
        assert_eq!(allowance.spend(at(1_000), 0, 1_000, 60_000), at(61_000));
        assert_eq!(
            allowance.spend(at(1_000), 0, 1, usize::MAX),
            at(u64::MAX / 1_000_000 - 999)
        );
    }

    #[test]
    fn the_slower_of_both_counts() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.spend(at(1_000), 1, 1_000_000, 2_000_000), at(2_000));
        assert_eq!(allowance.spend(at(1_000), 1, 1_000_000, 0), at(2_000));
        assert_eq!(allowance.spend(at(1_000), 1, 1_000_000, 0), at(3_000));
    }
}
