//! Turns an outcome into a report.

use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use super::model::{Broker, Flow, Host, Latency, Own, PerItem, Point, Report, Setup};
use crate::load::plan::{Pace, Plan};
use crate::load::{Outcome, Usage, timed_one_in};
use crate::measure::core_model;

/// What a cost is divided by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Basis {
    /// Messages that publishers sent.
    Ingress,
    /// Messages that subscribers received.
    Delivery,
    /// Connect-disconnect cycles; they stand in `Usage::published`.
    Cycle,
}

/// What a report is about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) scenario: &'static str,
    pub(crate) case: String,
    pub(crate) label: String,
    pub(crate) round: u32,
    pub(crate) basis: Basis,
    /// Memory is counted per so many of these, between two of the outcome's marks.
    pub(crate) memory: Option<(&'static str, u64, [usize; 2])>,
}

/// Above this share of its core a load thread may have been what held the run back.
const BUSY: f64 = 0.9;
/// This tool should cost less than this share of what the broker does.
const SHARE_MAX: f64 = 1.0 / 3.0;

impl Basis {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Basis::Ingress => "message in",
            Basis::Delivery => "delivery",
            Basis::Cycle => "cycle",
        }
    }

    fn count(self, usage: &Usage) -> u64 {
        if self == Basis::Delivery {
            usage.delivered
        } else {
            usage.published
        }
    }
}

/// Makes the report of a run of `plan`.
pub(crate) fn make(subject: &Subject, plan: &Plan, outcome: &Outcome) -> Report {
    let usage = &outcome.usage;
    let count = subject.basis.count(usage);
    let qos = plan.load.publish_qos.min(plan.load.subscribe_qos);
    let broker = broker(outcome, count);
    let own = own(usage, count, broker.as_ref());
    let open_loop = matches!(plan.load.pace, Pace::PerSecond(_));
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        label: subject.label.clone(),
        scenario: subject.scenario.to_owned(),
        case: subject.case.clone(),
        round: subject.round,
        finished_unix_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        host: host(),
        setup: setup(plan, qos),
        seconds: usage.seconds,
        ingress: flow(usage.published, plan.load.size, usage.seconds),
        egress: flow(usage.delivered, plan.load.size, usage.seconds),
        basis: subject.basis.name().to_owned(),
        connections: plan.connections() as u64,
        connect_seconds: outcome.connect_s,
        latency: latency(&outcome.latency, timed_one_in(&plan.load)),
        send_lag: if open_loop { latency(&outcome.lag, 1) } else { None },
        broker,
        own,
        memory: memory(subject, outcome),
        verdict: outcome.verdict.clone(),
        faults: outcome
            .verdict
            .faults(qos)
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect(),
        warnings: Vec::new(),
        series: outcome
            .series
            .iter()
            .map(|s| Point {
                at_s: s.at_s,
                ingress_per_s: s.ingress_per_s,
                egress_per_s: s.egress_per_s,
            })
            .collect(),
    };
    report.faults.extend(outcome.reasons.iter().cloned());
    report.warnings = warnings(&report, plan);
    report
}

fn flow(messages: u64, size: usize, seconds: f64) -> Flow {
    let per_second = if seconds > 0.0 { messages as f64 / seconds } else { 0.0 };
    Flow {
        messages,
        per_second,
        mib_per_second: per_second * size as f64 / f64::from(1 << 20),
    }
}

pub(crate) fn host() -> Host {
    let uname = rustix::system::uname();
    Host {
        kernel: format!(
            "{} {}",
            uname.sysname().to_string_lossy(),
            uname.release().to_string_lossy()
        ),
        processor: core_model().unwrap_or_else(|| uname.machine().to_string_lossy().into_owned()),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
    }
}

fn setup(plan: &Plan, qos: u8) -> Setup {
    Setup {
        publishers: plan.publishers.len(),
        subscribers: plan.subscribers.len(),
        qos,
        size_bytes: plan.load.size,
        window: if plan.load.publish_qos > 0 { plan.load.window } else { 0 },
        ahead: plan.load.ahead,
        rate: match plan.load.pace {
            Pace::PerSecond(rate) => Some(rate),
            Pace::Saturate => None,
        },
        warmup_s: plan.timing.warmup.as_secs_f64(),
        threads: plan.threads.count,
        cores: plan.threads.cores.clone(),
        nap_us: plan.threads.nap.as_secs_f64() * 1e6,
    }
}

fn broker(outcome: &Outcome, count: u64) -> Option<Broker> {
    let cpu = outcome.usage.broker?;
    let memory = outcome.memory.map(|marks| marks[3]).unwrap_or_default();
    let each = |seconds: f64| if count > 0 { seconds * 1e6 / count as f64 } else { 0.0 };
    Some(Broker {
        cpu_user_s: cpu.user_s,
        cpu_system_s: cpu.system_s,
        us_per_message: each(cpu.total_s()),
        us_user_per_message: each(cpu.user_s),
        us_system_per_message: each(cpu.system_s),
        cores_busy: if outcome.usage.seconds > 0.0 {
            cpu.total_s() / outcome.usage.seconds
        } else {
            0.0
        },
        resident_bytes: memory.resident,
        peak_bytes: memory.peak,
    })
}

fn own(usage: &Usage, count: u64, broker: Option<&Broker>) -> Own {
    let us_per_message = if count > 0 {
        usage.own.total_s() * 1e6 / count as f64
    } else {
        0.0
    };
    let share = broker
        .filter(|broker| broker.us_per_message > 0.0)
        .map_or(0.0, |b| us_per_message / b.us_per_message);
    Own {
        us_per_message,
        busiest_thread: usage.own_busiest,
        share_of_broker: share,
        was_the_limit: usage.own_busiest > BUSY,
    }
}

fn memory(subject: &Subject, outcome: &Outcome) -> Option<PerItem> {
    let (item, count, [from, to]) = subject.memory?;
    let marks = outcome.memory?;
    let grown = marks[to].resident as f64 - marks[from].resident as f64;
    Some(PerItem {
        item: item.to_owned(),
        count,
        bytes_each: grown / count as f64,
    })
}

/// The distribution in microseconds; `None` where nothing was timed.
pub(crate) fn latency(histogram: &Histogram<u64>, one_in: u64) -> Option<Latency> {
    if histogram.is_empty() {
        return None;
    }
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let at = |percentile: f64| us(histogram.value_at_percentile(percentile));
    // Ten points per decade of 1/(1-p): the chart's horizontal axis.
    let decades = (histogram.len() as f64).log10().clamp(1.0, 5.0);
    let curve = (0..=(decades * 10.0) as i32)
        .map(|step| 100.0 * (1.0 - 10_f64.powf(-f64::from(step) / 10.0)))
        .map(|percentile| (percentile, at(percentile)))
        .collect();
    Some(Latency {
        samples: histogram.len(),
        one_in,
        min_us: us(histogram.min()),
        mean_us: histogram.mean() / 1e3,
        p50_us: at(50.0),
        p90_us: at(90.0),
        p99_us: at(99.0),
        p99_9_us: at(99.9),
        p99_99_us: at(99.99),
        max_us: us(histogram.max()),
        curve,
    })
}

fn warnings(report: &Report, plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    let busy = report.own.busiest_thread;
    if report.own.was_the_limit {
        warnings.push(format!(
            "this tool was the limit: its busiest thread used {:.0} % of its core; give it more (--threads, --cores)",
            busy * 100.0
        ));
    }
    if report.own.share_of_broker > SHARE_MAX {
        warnings.push(format!(
            "this tool cost {:.0} % of what the broker did per {}; read throughput with that in mind",
            report.own.share_of_broker * 100.0,
            report.basis
        ));
    }
    if let Some(rate) = report.setup.rate
        && plan.load.limit.is_none()
        && report.ingress.per_second < 0.98 * rate
    {
        warnings.push(format!(
            "{:.0} messages/s were asked for, {:.0} went in",
            rate, report.ingress.per_second
        ));
    }
    if let Some(lag) = report.send_lag.as_ref().filter(|lag| lag.p99_us > 1000.0) {
        warnings.push(format!(
            "this tool sent late: 1 % of messages more than {:.1} ms behind schedule",
            lag.p99_us / 1e3
        ));
    }
    if let Some((0, most)) = report.verdict.group_share
        && most > 0
    {
        // With sticky members and few publishers that is chance, so it is no fault.
        warnings.push("a member of the shared group received nothing".to_owned());
    }
    if report.setup.qos == 0 && report.verdict.lost > 0 {
        warnings.push(format!(
            "the broker dropped {} QoS 0 messages, which it may",
            report.verdict.lost
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_microseconds() {
        let mut histogram = crate::load::histogram();
        for microsecond in 1..=1000 {
            histogram.record(microsecond * 1000).unwrap();
        }
        let latency = latency(&histogram, 1).unwrap();
        assert_eq!(latency.samples, 1000);
        assert!((latency.p50_us - 500.0).abs() < 1.0, "{}", latency.p50_us);
        assert!((latency.p99_us - 990.0).abs() < 1.0, "{}", latency.p99_us);
        assert!((latency.max_us - 1000.0).abs() < 1.0, "{}", latency.max_us);
        assert_eq!(latency.curve.first().unwrap().0, 0.0);
        assert!((latency.curve.last().unwrap().0 - 99.9).abs() < 1e-9);
    }

    #[test]
    fn nothing_timed_is_no_latency() {
        assert!(latency(&crate::load::histogram(), 1).is_none());
    }

    #[test]
    fn json_reads_back() {
        let report = Report {
            label: "x".into(),
            memory: Some(PerItem::default()),
            ..Report::default()
        };
        let text = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (back.label.as_str(), back.is_good(), back.memory.is_some()),
            ("x", true, true)
        );
    }
}
