//! The JSON of a run. Fields are added, never renamed: scripts and old files depend on them.

use serde::{Deserialize, Serialize};

use crate::load::Verdict;

/// One run of one scenario against one broker.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Report {
    /// Version of this tool.
    pub(crate) version: String,
    /// What the operator called the broker.
    pub(crate) label: String,
    pub(crate) scenario: String,
    /// The scenario and what sets this run of it apart, such as `pairs-qos1`; rounds of one comparison share it.
    pub(crate) case: String,
    /// Which repetition, from 1; 0 for a single run.
    pub(crate) round: u32,
    /// Seconds since 1970, when the run ended.
    pub(crate) finished_unix_s: u64,
    pub(crate) host: Host,
    pub(crate) setup: Setup,
    /// Length of the measured interval.
    pub(crate) seconds: f64,
    /// Messages that publishers got rid of, in the measured interval.
    pub(crate) ingress: Flow,
    /// Messages that subscribers received, in the measured interval.
    pub(crate) egress: Flow,
    /// What costs are counted per: `message in`, `delivery`, `cycle`, …
    pub(crate) basis: String,
    /// Connections, and how long it took to make them all.
    pub(crate) connections: u64,
    pub(crate) connect_seconds: f64,
    pub(crate) latency: Option<Latency>,
    /// How late the schedule's messages left this tool, in an open loop.
    pub(crate) send_lag: Option<Latency>,
    pub(crate) broker: Option<Broker>,
    pub(crate) own: Own,
    /// Memory per connection, subscription or retained message.
    pub(crate) memory: Option<PerItem>,
    pub(crate) verdict: Verdict,
    /// Counts that must be 0 and are not; empty means the run is good.
    pub(crate) faults: Vec<String>,
    /// What a reader must know before believing the figures.
    pub(crate) warnings: Vec<String>,
    pub(crate) series: Vec<Point>,
}

/// The machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
}

/// What was asked for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Setup {
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    pub(crate) qos: u8,
    pub(crate) size_bytes: usize,
    pub(crate) window: u32,
    pub(crate) ahead: u64,
    /// Messages per second; `null` in a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) warmup_s: f64,
    pub(crate) threads: usize,
    pub(crate) cores: Vec<usize>,
    pub(crate) nap_us: f64,
}

/// Messages in one direction.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Flow {
    pub(crate) messages: u64,
    pub(crate) per_second: f64,
    /// Payload only.
    pub(crate) mib_per_second: f64,
}

/// A distribution of times, microseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Latency {
    pub(crate) samples: u64,
    /// 1 where every message was timed.
    pub(crate) one_in: u64,
    pub(crate) min_us: f64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) p99_99_us: f64,
    pub(crate) max_us: f64,
    /// Percentile and microseconds, for the chart.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// The broker's cost over the measured interval, from /proc.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Broker {
    pub(crate) cpu_user_s: f64,
    pub(crate) cpu_system_s: f64,
    /// CPU microseconds per message, see [`Report::basis`].
    pub(crate) us_per_message: f64,
    pub(crate) us_user_per_message: f64,
    pub(crate) us_system_per_message: f64,
    /// Cores' worth of CPU in use, 1.0 being one core.
    pub(crate) cores_busy: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) peak_bytes: u64,
}

/// This tool's own cost over the measured interval.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Own {
    pub(crate) us_per_message: f64,
    pub(crate) busiest_thread: f64,
    /// This tool's cost per message relative to the broker's; 0 where that is unknown.
    pub(crate) share_of_broker: f64,
    /// The figures say more about this tool than about the broker.
    pub(crate) was_the_limit: bool,
}

/// Memory of the broker divided by what it holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct PerItem {
    /// `connection`, `subscription` or `retained message`.
    pub(crate) item: String,
    pub(crate) count: u64,
    pub(crate) bytes_each: f64,
}

/// A point of the throughput chart.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Point {
    pub(crate) at_s: f64,
    pub(crate) ingress_per_s: f64,
    pub(crate) egress_per_s: f64,
}

impl Report {
    /// Nothing was lost, duplicated, reordered or otherwise wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}
