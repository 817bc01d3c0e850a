//! The shards' numbers as Prometheus reads them.
//!
//! A family is a line in [`SHARD_COUNTERS`] or [`SHARD_GAUGES`]; those with more labels than the shard, and those of the whole process,
//! are written out. Names follow Prometheus: base units, `_total` for counters. Every name is in `docs/operations.md`, which a
//! test compares with what is encoded.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use ringmq_shard::error::{Denial, DropReason};
use ringmq_shard::stats::Stats;

use super::shards::ShardState;
use crate::config::Config;
use crate::runtime::report::{Rejection, Reports, ServiceOutcome, ShardReport};

/// How numbers are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older text format, 0.0.4, for whoever does not ask for the other.
    Text,
}

impl Format {
    /// The one that a client asks for, by its `Accept` headers.
    pub(super) fn among<'a>(mut accepted: impl Iterator<Item = &'a str>) -> Format {
        if accepted.any(|accepted| accepted.contains("application/openmetrics-text")) {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What changes with the settings only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Seconds since 1970.
    pub(super) started_at: u64,
    pub(super) connections_max: u64,
    pub(super) memory_bytes_max: u64,
    /// Decides the home of a client and the owner of a topic.
    pub(super) placement_seed: u64,
}

impl Facts {
    pub(super) fn of(config: &Config, placement_seed: u64) -> Facts {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Facts {
            started_at: since_1970.as_secs(),
            connections_max: config.connections_max as u64,
            memory_bytes_max: config.limits.memory_bytes_max as u64,
            placement_seed,
        }
    }

    /// The broker has other limits from here on.
    pub(super) fn update(&mut self, config: &Config) {
        self.connections_max = config.connections_max as u64;
        self.memory_bytes_max = config.limits.memory_bytes_max as u64;
    }
}

/// Writes all families.
///
/// # Errors
/// The encoder refused a value; none of ours is one that it refuses.
pub(super) fn encode(
    format: Format,
    facts: &Facts,
    reports: &Reports,
    shards: Vec<ShardState>,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ringmq");
    registry.register_collector(Box::new(Numbers {
        facts: *facts,
        accepted: reports.accepted.load(Ordering::Relaxed),
        paused: reports.paused.load(Ordering::Relaxed),
        rejected: reports.rejected(),
        judged: reports.judged(),
        shards,
    }));
    let mut encoded = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut encoded, &registry)?,
        Format::Text => prometheus_text::encode(&mut encoded, &registry)?,
    }
    Ok(encoded)
}

/// One reading of everything.
#[derive(Debug)]
struct Numbers {
    facts: Facts,
    accepted: u64,
    paused: u64,
    rejected: [u64; Rejection::ALL.len()],
    judged: [u64; ServiceOutcome::ALL.len()],
    /// By shard.
    shards: Vec<ShardState>,
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.process(&mut encoder)?;
        for (name, unit, help, value) in SHARD_COUNTERS {
            self.by_shard(&mut encoder, name, *unit, help, MetricType::Counter, |report| {
                value(report)
            })?;
        }
        for (name, unit, help, value) in SHARD_GAUGES {
            self.by_shard(&mut encoder, name, *unit, help, MetricType::Gauge, |report| {
                value(report)
            })?;
        }
        self.messages(
            &mut encoder,
            "messages_received",
            "PUBLISH packets from clients",
            |stats| stats.publish_received,
        )?;
        self.messages(
            &mut encoder,
            "messages_sent",
            "PUBLISH packets to clients, re-deliveries included",
            |stats| stats.publish_sent,
        )?;
        self.dropped(&mut encoder)?;
        self.denied(&mut encoder)?;
        self.turn_times(&mut encoder)
    }
}

impl Numbers {
    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let facts = &self.facts;
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("commit", env!("RINGMQ_COMMIT")),
        ];
        encoder
            .encode_descriptor("build_info", "Version and commit; always 1", None, MetricType::Gauge)?
            .encode_family(&labels)?
            .encode_gauge(&1_u64)?;
        for (name, unit, help, value) in [
            (
                "start_time",
                Some(&Unit::Seconds),
                "When the process started, since 1970",
                facts.started_at,
            ),
            (
                "connections_limit",
                None,
                "Most connections open at once",
                facts.connections_max,
            ),
            (
                "memory_limit",
                Some(&Unit::Bytes),
                "Most bytes that queues and outputs of all shards hold together",
                facts.memory_bytes_max,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, unit, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        for (name, help, value) in [
            (
                "sockets_accepted",
                "Sockets accepted and handed to a shard",
                self.accepted,
            ),
            (
                "sockets_paused",
                "Times that a listener accepted nothing for a moment because of --max-connection-rate",
                self.paused,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        let help = "Sockets closed before anything that the client says was read, by reason";
        let mut rejected = encoder.encode_descriptor("sockets_rejected", help, None, MetricType::Counter)?;
        for (reason, value) in Rejection::ALL.iter().zip(self.rejected) {
            rejected
                .encode_family(&[("reason", reason.label())])?
                .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        let help = "Clients about whom the service of --auth-http-url was to be asked, by what came of it";
        let mut judged = encoder.encode_descriptor("auth_http_verdicts", help, None, MetricType::Counter)?;
        for (outcome, value) in ServiceOutcome::ALL.iter().zip(self.judged) {
            judged
                .encode_family(&[("outcome", outcome.label())])?
                .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        let mut up = encoder.encode_descriptor(
            "shard_up",
            "1 if the shard answered in time; else its other values are its last ones",
            None,
            MetricType::Gauge,
        )?;
        for (shard, state) in self.shards.iter().enumerate() {
            up.encode_family(&[("shard", shard)])?
                .encode_gauge(&u64::from(state.up))?;
        }
        Ok(())
    }

    fn by_shard(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        kind: MetricType,
        value: impl Fn(&ShardReport) -> u64,
    ) -> fmt::Result {
        let counts = matches!(kind, MetricType::Counter);
        let mut family = encoder.encode_descriptor(name, help, unit, kind)?;
        for (shard, state) in self.shards.iter().enumerate() {
            let labels = [("shard", shard)];
            let mut metric = family.encode_family(&labels)?;
            if counts {
                metric.encode_counter::<NoLabelSet, _, f64>(&value(&state.numbers), None)?;
            } else {
                metric.encode_gauge(&value(&state.numbers))?;
            }
        }
        Ok(())
    }

    fn messages(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        by_qos: impl Fn(&Stats) -> [u64; 3],
    ) -> fmt::Result {
        let labels = |shard, at: usize| [("shard", shard), ("qos", at.to_string())];
        self.counters(encoder, name, help, labels, |stats| by_qos(stats).to_vec())
    }

    fn dropped(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |shard, at: usize| [("shard", shard), ("reason", DropReason::ALL[at].label().to_owned())];
        let help = "Messages not delivered or not stored, by reason";
        self.counters(encoder, "messages_dropped", help, labels, |stats| {
            stats.dropped.to_vec()
        })
    }

    fn denied(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |shard, at: usize| [("shard", shard), ("kind", Denial::ALL[at].label().to_owned())];
        let help = "What the access control list denied, by kind";
        self.counters(encoder, "denials", help, labels, |stats| stats.denied.to_vec())
    }

    /// A family with several counters per shard.
    fn counters<L: EncodeLabelSet>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        labels: impl Fn(String, usize) -> L,
        values: impl Fn(&Stats) -> Vec<u64>,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (shard, state) in self.shards.iter().enumerate() {
            for (at, value) in values(&state.numbers.stats).into_iter().enumerate() {
                family
                    .encode_family(&labels(shard.to_string(), at))?
                    .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn turn_times(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How long turns took that found something to do";
        let mut family =
            encoder.encode_descriptor("turn_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (shard, state) in self.shards.iter().enumerate() {
            let times = &state.numbers.turn_times;
            let buckets: Vec<(f64, u64)> = times.buckets().collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            family
                .encode_family(&[("shard", shard)])?
                .encode_histogram::<NoLabelSet>(times.seconds(), count, &buckets, None)?;
        }
        Ok(())
    }
}

type OfShard = (
    &'static str,
    Option<&'static Unit>,
    &'static str,
    fn(&ShardReport) -> u64,
);

const BYTES: Option<&Unit> = Some(&Unit::Bytes);

const SHARD_COUNTERS: &[OfShard] = &[
    ("received", BYTES, "Bytes read from clients", |it| {
        it.stats.bytes_received
    }),
    ("sent", BYTES, "Bytes written to clients", |it| it.stats.bytes_sent),
    (
        "packets_received",
        None,
        "Control packets from clients, of any type",
        |it| it.stats.packets_received,
    ),
    ("packets_sent", None, "Control packets to clients, of any type", |it| {
        it.stats.packets_sent
    }),
    ("messages_forwarded", None, "Messages handed to other shards", |it| {
        it.stats.messages_forwarded
    }),
    ("connects_accepted", None, "CONNECT packets accepted", |it| {
        it.stats.connects
    }),
    (
        "connects_refused",
        None,
        "CONNECT packets refused with a CONNACK",
        |it| it.stats.refused,
    ),
    (
        "protocol_violations",
        None,
        "Connections closed for a malformed or forbidden packet",
        |it| it.stats.violations,
    ),
    (
        "client_timeouts",
        None,
        "Connections closed because Keep Alive or the connect timeout ran out",
        |it| it.stats.timeouts,
    ),
    (
        "write_timeouts",
        None,
        "Connections closed because the client took no byte for too long",
        |it| it.sockets.write_timeouts,
    ),
    ("tls_handshakes", None, "TLS handshakes completed", |it| {
        it.sockets.handshakes
    }),
    (
        "tls_handshakes_resumed",
        None,
        "TLS handshakes that continued an earlier session",
        |it| it.sockets.handshakes_resumed,
    ),
    (
        "tls_failures",
        None,
        "Connections closed because of TLS, in the handshake or after it",
        |it| it.sockets.tls_failures,
    ),
    (
        "websocket_failures",
        None,
        "Connections closed because of WebSocket: a request that was refused, or frames that break its rules",
        |it| it.sockets.websocket_failures,
    ),
    (
        "proxy_failures",
        None,
        "Connections closed because the PROXY header was missing or malformed",
        |it| it.sockets.proxy_failures,
    ),
    (
        "session_limits_reached",
        None,
        "Connections closed or refused because a limit of sessions was reached",
        |it| it.stats.limited,
    ),
    (
        "subscriptions_refused",
        None,
        "Topic Filters refused because a limit was reached",
        |it| it.stats.filters_refused,
    ),
    (
        "session_takeovers",
        None,
        "Connections replaced by another with their Client Identifier",
        |it| it.stats.takeovers,
    ),
    (
        "publishers_slowed",
        None,
        "Times that a publisher was not read for a while because memory was nearly full",
        |it| it.stats.slowed,
    ),
    (
        "publishers_rate_limited",
        None,
        "Times that what a client sent had to wait because it published faster than it may",
        |it| it.stats.rate_limited,
    ),
    ("turns", None, "Turns of the shard, idle ones included", |it| it.turns),
    (
        "sleeps",
        None,
        "Times that the shard found nothing to do and slept",
        |it| it.sleeps,
    ),
    ("socket_reads", None, "Reads from sockets", |it| it.sockets.reads),
    (
        "socket_reads_empty",
        None,
        "Reads from sockets that found nothing",
        |it| it.sockets.reads_empty,
    ),
    ("socket_writes", None, "Writes to sockets", |it| it.sockets.writes),
    ("socket_events", None, "Sockets that the ring reported as ready", |it| {
        it.sockets.polls
    }),
];

const SHARD_GAUGES: &[OfShard] = &[
    (
        "connections",
        None,
        "Open connections, before and after CONNECT",
        |it| it.stats.connections,
    ),
    ("clients_connected", None, "Connections with a session", |it| {
        it.stats.connected
    }),
    ("sessions", None, "Sessions, connected or not", |it| it.stats.sessions),
    ("subscriptions", None, "Subscriptions of all sessions", |it| {
        it.stats.subscriptions
    }),
    ("retained_messages", None, "Retained messages", |it| it.stats.retained),
    (
        "retained",
        BYTES,
        "Topics and payloads of the retained messages",
        |it| it.stats.retained_bytes,
    ),
    (
        "queued_messages",
        None,
        "Messages that wait in sessions' queues",
        |it| it.stats.queued,
    ),
    (
        "inflight_messages",
        None,
        "Messages sent and not yet acknowledged",
        |it| it.stats.inflight,
    ),
    (
        "memory",
        BYTES,
        "What queues, messages in flight, outputs and incomplete packets hold, at most",
        |it| it.stats.memory_bytes,
    ),
    (
        "inbox_depth",
        None,
        "What waits in the shard's inbox: entries, and KiB of messages",
        |it| it.inbox as u64,
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn encoded(format: Format) -> String {
        let facts = Facts {
            started_at: 0,
            connections_max: 1,
            memory_bytes_max: 1,
            placement_seed: 1,
        };
        encode(format, &facts, &Reports::new(2), vec![ShardState::default(); 2]).unwrap()
    }

    /// Every metric, as a query names it; a histogram by the name of its family.
    fn names() -> BTreeSet<String> {
        encoded(Format::OpenMetrics)
            .lines()
            .filter(|line| line.starts_with("# TYPE "))
            .map(|line| {
                let mut words = line.split(' ').skip(2);
                let (name, kind) = (words.next().unwrap(), words.next().unwrap());
                format!("{name}{}", if kind == "counter" { "_total" } else { "" })
            })
            .collect()
    }

    #[test]
    fn the_operations_page_has_every_metric_and_no_other() {
        let page = include_str!("../../docs/operations.md");
        let documented: BTreeSet<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `ringmq_")?.split('`').next())
            .map(|name| format!("ringmq_{name}"))
            .collect();
        assert_eq!(documented, names());
    }

    /// A panel that asks for a metric that there is not stays empty, and nobody is told.
    #[test]
    fn the_dashboard_asks_for_metrics_that_there_are() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../packaging/grafana/ringmq.json")).unwrap();
        let mut queries = Vec::new();
        expressions(&dashboard, &mut queries);
        assert!(queries.len() > 20, "{queries:?}");
        let (known, mut asked) = (names(), BTreeSet::new());
        for query in queries {
            let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            for word in words.filter(|word| word.starts_with("ringmq_")) {
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| word.strip_suffix(end));
                let name = family.filter(|family| known.contains(*family)).unwrap_or(word);
                assert!(known.contains(name), "{word} in {query}");
                asked.insert(name.to_owned());
            }
        }
        // Those are for a closer look than a dashboard's.
        for name in known.difference(&asked) {
            let is_detail = ["socket", "packets_", "start_time"]
                .iter()
                .any(|part| name.contains(part));
            assert!(is_detail, "{name} is in no panel");
        }
    }

    fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    match value.as_str() {
                        Some(text) if key == "expr" || key == "definition" => found.push(text.to_owned()),
                        _ => expressions(value, found),
                    }
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_operations_page_has_every_reason_of_a_drop() {
        let page = include_str!("../../docs/operations.md");
        for reason in DropReason::ALL {
            assert!(page.contains(&format!("\n| `{}` | ", reason.label())), "{reason}");
        }
    }

    #[test]
    fn names_and_help_follow_the_conventions() {
        for name in names() {
            assert!(name.starts_with("ringmq_"), "{name}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert!(!name.contains("total_") && !name.contains("_bytes_bytes"), "{name}");
        }
        for line in encoded(Format::OpenMetrics).lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                // The encoder ends some with a full stop of its own.
                assert!(!help.ends_with(".."), "{help}");
            }
        }
    }
}
