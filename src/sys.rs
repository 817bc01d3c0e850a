//! The `$SYS` topics: what the broker tells about itself.
//!
//! The names that other brokers use where there is one, ours for the rest. Retained, published by shard 0 when a value
//! changed.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use ringmq_shard::error::{Denial, DropReason};
use ringmq_shard::shard::Shard;
use ringmq_shard::stats::Stats;
use ringmq_shard::time::Instant;

use crate::runtime::report::{Reports, ShardReport};

/// The topics with the values that were published last.
#[derive(Debug)]
pub(crate) struct SysTopics {
    topics: Vec<Topic>,
    shards: usize,
    /// Most clients connected at once, as seen at the intervals.
    clients_max: u64,
}

#[derive(Debug)]
struct Topic {
    name: String,
    /// Empty before the first time: no value is.
    value: String,
}

impl SysTopics {
    pub(crate) fn new(shards: usize) -> SysTopics {
        SysTopics {
            topics: Vec::new(),
            shards,
            clients_max: 0,
        }
    }

    /// Publishes what changed since the last time. `counters` are everyone's.
    pub(crate) fn publish(&mut self, shard: &mut Shard, now: Instant, counters: &Reports) {
        let reports = counters.all();
        debug_assert_eq!(reports.len(), self.shards);
        let mut total = Stats::default();
        for report in &reports {
            total += &report.stats;
        }
        self.clients_max = self.clients_max.max(total.connected);
        let mut values = Values::default();
        values.add("version", format_args!("RingMQ {}", env!("CARGO_PKG_VERSION")));
        values.add("uptime", format_args!("{} seconds", now.as_millis() / 1_000));
        values.broker(&total, self.clients_max);
        values.add("connections/accepted", counters.accepted.load(Ordering::Relaxed));
        values.add("connections/rejected", counters.rejected().iter().sum::<u64>());
        for (id, report) in reports.iter().enumerate() {
            values.shard(id, report);
        }
        for (n, (name, value)) in values.0.into_iter().enumerate() {
            if self.topics.len() <= n {
                self.topics.push(Topic {
                    name,
                    value: String::new(),
                });
            }
            // The list is the same each time, so a topic keeps its place.
            let topic = &mut self.topics[n];
            if topic.value != value {
                shard.publish(now, &topic.name, value.as_bytes(), true);
                topic.value = value;
            }
        }
    }
}

/// Topics and values, in an order that never changes.
#[derive(Debug, Default)]
struct Values(Vec<(String, String)>);

impl Values {
    fn add(&mut self, name: impl std::fmt::Display, value: impl std::fmt::Display) {
        self.0.push((format!("$SYS/broker/{name}"), value.to_string()));
    }

    fn broker(&mut self, total: &Stats, clients_max: u64) {
        let publish_received: u64 = total.publish_received.iter().sum();
        let publish_sent: u64 = total.publish_sent.iter().sum();
        let dropped: u64 = total.dropped.iter().sum();
        for (name, value) in [
            ("clients/connected", total.connected),
            ("clients/active", total.connected),
            ("clients/disconnected", total.sessions.saturating_sub(total.connected)),
            ("clients/inactive", total.sessions.saturating_sub(total.connected)),
            ("clients/total", total.sessions),
            ("clients/maximum", clients_max),
            ("connections", total.connections),
            ("connects/accepted", total.connects),
            ("connects/refused", total.refused),
            ("connections/violations", total.violations),
            ("connections/timeouts", total.timeouts),
            ("connections/limited", total.limited),
            ("connections/takeovers", total.takeovers),
            ("messages/received", total.packets_received),
            ("messages/sent", total.packets_sent),
            ("messages/stored", total.queued + total.inflight + total.retained),
            ("messages/queued", total.queued),
            ("messages/inflight", total.inflight),
            ("messages/forwarded", total.messages_forwarded),
            ("publish/messages/received", publish_received),
            ("publish/messages/sent", publish_sent),
            ("publish/messages/dropped", dropped),
            ("bytes/received", total.bytes_received),
            ("bytes/sent", total.bytes_sent),
            ("subscriptions/count", total.subscriptions),
            ("subscriptions/refused", total.filters_refused),
            ("memory/bytes", total.memory_bytes),
            ("publishers/slowed", total.slowed),
            ("publishers/rate_limited", total.rate_limited),
            ("retained messages/count", total.retained),
            ("retained messages/bytes", total.retained_bytes),
            ("store/messages/count", total.queued + total.inflight + total.retained),
        ] {
            self.add(name, value);
        }
        for qos in 0..3 {
            self.add(format_args!("publish/qos{qos}/received"), total.publish_received[qos]);
            self.add(format_args!("publish/qos{qos}/sent"), total.publish_sent[qos]);
        }
        for denial in Denial::ALL {
            self.add(format_args!("denied/{}", denial.label()), total.denied[denial as usize]);
        }
        for reason in DropReason::ALL {
            self.add(format_args!("dropped/{}", reason.label()), total.dropped_for(reason));
        }
    }

    fn shard(&mut self, id: usize, report: &ShardReport) {
        let (stats, sockets) = (&report.stats, &report.sockets);
        let mut prefix = String::new();
        for (name, value) in [
            ("connections", stats.connections),
            ("clients/connected", stats.connected),
            ("sessions", stats.sessions),
            ("subscriptions", stats.subscriptions),
            ("retained", stats.retained),
            ("queued", stats.queued),
            ("inflight", stats.inflight),
            ("memory", stats.memory_bytes),
            ("publish/received", stats.publish_received.iter().sum()),
            ("publish/sent", stats.publish_sent.iter().sum()),
            ("forwarded", stats.messages_forwarded),
            ("inbox", report.inbox as u64),
            ("turns", report.turns),
            ("sleeps", report.sleeps),
            ("reads", sockets.reads),
            ("reads/empty", sockets.reads_empty),
            ("writes", sockets.writes),
            ("polls", sockets.polls),
            ("write_timeouts", sockets.write_timeouts),
            ("tls/handshakes", sockets.handshakes),
            ("tls/handshakes/resumed", sockets.handshakes_resumed),
            ("tls/failures", sockets.tls_failures),
            ("websocket/failures", sockets.websocket_failures),
        ] {
            prefix.clear();
            write!(prefix, "shard/{id}/{name}").expect("a String takes everything");
            self.add(&prefix, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_unique_and_keep_their_order() {
        let list = |stats: &Stats| {
            let mut values = Values::default();
            values.broker(stats, 0);
            values.shard(0, &ShardReport::default());
            values.shard(1, &ShardReport::default());
            values.0.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let names = list(&Stats::default());
        assert_eq!(
            names,
            list(&Stats {
                connected: 3,
                bytes_sent: 9,
                ..Stats::default()
            })
        );
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        assert!(names.contains(&"$SYS/broker/retained messages/count".to_owned()));
        assert!(names.contains(&"$SYS/broker/dropped/queue_full".to_owned()));
    }

    #[test]
    fn sums_and_reasons_are_told_apart() {
        let mut stats = Stats {
            publish_received: [1, 2, 3],
            ..Stats::default()
        };
        stats.dropped[DropReason::ALL
            .iter()
            .position(|it| *it == DropReason::QueueFull)
            .unwrap()] = 5;
        let mut values = Values::default();
        values.broker(&stats, 0);
        let value = |name: &str| {
            values
                .0
                .iter()
                .find(|(it, _)| it == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(value("$SYS/broker/publish/messages/received"), Some("6"));
        assert_eq!(value("$SYS/broker/publish/qos2/received"), Some("3"));
        assert_eq!(value("$SYS/broker/publish/messages/dropped"), Some("5"));
        assert_eq!(value("$SYS/broker/dropped/queue_full"), Some("5"));
    }
}
