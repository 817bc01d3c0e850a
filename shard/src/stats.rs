//! What one shard counts. Plain integers, written by their shard only and summed by whoever asks.

use std::ops::AddAssign;

use crate::codec::QoS;
use crate::error::{Denial, DropReason};

/// Counters since the start, and gauges, of one shard; `+=` sums shards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Bytes read from clients.
    pub bytes_received: u64,
    /// Bytes written to clients.
    pub bytes_sent: u64,
    /// Control packets received, of any type.
    pub packets_received: u64,
    /// Control packets sent, of any type.
    pub packets_sent: u64,
    /// PUBLISH received, by QoS.
    pub publish_received: [u64; 3],
    /// PUBLISH sent, by QoS, re-deliveries included.
    pub publish_sent: [u64; 3],
    /// Messages not delivered or not stored, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// What the access control list denied, in the order of [`Denial::ALL`].
    pub denied: [u64; Denial::ALL.len()],
    /// CONNECT accepted.
    pub connects: u64,
    /// CONNECT refused with a CONNACK code.
    pub refused: u64,
    /// Connections closed for a malformed or forbidden packet.
    pub violations: u64,
    /// Connections closed because their Keep Alive or connect timeout ran out.
    pub timeouts: u64,
    /// Connections closed or refused because a limit of sessions was reached: QoS 2 messages not released, a full queue where
    /// slow subscribers are disconnected, memory, sessions.
    pub limited: u64,
    /// Topic Filters refused in SUBACK because a limit was reached: their length or levels, or the session's subscriptions.
    pub filters_refused: u64,
    /// Connections taken over by another with the same Client Identifier.
    pub takeovers: u64,
    /// Times that a publisher was not read for a while because memory was nearly full.
    pub slowed: u64,
    /// Times that what a client sent had to wait because it published faster than it may.
    pub rate_limited: u64,
    /// Messages handed to other shards.
    pub messages_forwarded: u64,
    /// Open connections, before and after CONNECT. Gauge.
    pub connections: u64,
    /// Connections with a session. Gauge.
    pub connected: u64,
    /// Sessions, connected or not. Gauge.
    pub sessions: u64,
    /// Subscriptions of all sessions. Gauge.
    pub subscriptions: u64,
    /// Retained messages owned. Gauge.
    pub retained: u64,
    /// Topic Name and payload bytes of the retained messages. Gauge.
    pub retained_bytes: u64,
    /// Bytes that queues, messages in flight, outputs and incomplete packets hold, at most. Gauge.
    pub memory_bytes: u64,
    /// Messages waiting in queues. Gauge.
    pub queued: u64,
    /// Messages sent and not yet acknowledged. Gauge.
    pub inflight: u64,
}

impl Stats {
    /// Counts a message that was not delivered.
    pub(crate) fn drop_message(&mut self, reason: DropReason) {
        self.drop_messages(reason, 1);
    }

    /// Counts messages that were not delivered.
    pub(crate) fn drop_messages(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }

    /// Messages dropped for `reason`.
    #[must_use]
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    pub(crate) fn count_received(&mut self, qos: QoS) {
        self.publish_received[qos as usize] += 1;
    }

    pub(crate) fn count_sent(&mut self, qos: QoS) {
        self.publish_sent[qos as usize] += 1;
        self.packets_sent += 1;
    }
}

impl AddAssign<&Stats> for Stats {
    fn add_assign(&mut self, other: &Stats) {
        fn add<const N: usize>(to: &mut [u64; N], from: &[u64; N]) {
            for (to, from) in to.iter_mut().zip(from) {
                *to += from;
            }
        }
        add(&mut self.publish_received, &other.publish_received);
        add(&mut self.publish_sent, &other.publish_sent);
        add(&mut self.dropped, &other.dropped);
        add(&mut self.denied, &other.denied);
        for (to, from) in [
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.packets_received, other.packets_received),
            (&mut self.packets_sent, other.packets_sent),
            (&mut self.connects, other.connects),
            (&mut self.refused, other.refused),
            (&mut self.violations, other.violations),
            (&mut self.timeouts, other.timeouts),
            (&mut self.limited, other.limited),
            (&mut self.filters_refused, other.filters_refused),
            (&mut self.takeovers, other.takeovers),
            (&mut self.slowed, other.slowed),
            (&mut self.rate_limited, other.rate_limited),
            (&mut self.memory_bytes, other.memory_bytes),
            (&mut self.messages_forwarded, other.messages_forwarded),
            (&mut self.connections, other.connections),
            (&mut self.connected, other.connected),
            (&mut self.sessions, other.sessions),
            (&mut self.subscriptions, other.subscriptions),
            (&mut self.retained, other.retained),
            (&mut self.retained_bytes, other.retained_bytes),
            (&mut self.queued, other.queued),
            (&mut self.inflight, other.inflight),
        ] {
            *to += from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let mut one = Stats {
            bytes_sent: 3,
            publish_sent: [1, 2, 3],
            ..Stats::default()
        };
        one.drop_message(DropReason::QueueFull);
        let mut sum = one;
        sum += &one;
        assert_eq!(
            (sum.bytes_sent, sum.publish_sent, sum.dropped_for(DropReason::QueueFull)),
            (6, [2, 4, 6], 2)
        );
    }
}
