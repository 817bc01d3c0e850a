//! Many runs side by side: rounds become medians, brokers become columns.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::format::{bytes, duration_us, grouped, significant};
use super::model::Report;

/// One scenario over all brokers.
#[derive(Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) case: String,
    pub(crate) basis: String,
    /// In the order of the labels.
    pub(crate) entries: Vec<Entry>,
}

/// One broker in one scenario: medians over its rounds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Entry {
    pub(crate) label: String,
    pub(crate) rounds: usize,
    /// CPU microseconds per message, and the lowest and highest round.
    pub(crate) us_per_message: Option<f64>,
    pub(crate) us_per_message_range: Option<(f64, f64)>,
    /// This broker's cost over the baseline's.
    pub(crate) ratio: Option<f64>,
    pub(crate) ingress_per_s: f64,
    pub(crate) egress_per_s: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p99_9_us: Option<f64>,
    pub(crate) peak_bytes: Option<f64>,
    pub(crate) bytes_per_item: Option<f64>,
    pub(crate) item: Option<String>,
    pub(crate) own_us_per_message: f64,
    pub(crate) own_busiest_thread: f64,
    /// In the worst round.
    pub(crate) lost: u64,
    pub(crate) faults: Vec<String>,
    /// Any round's figures say more about this tool than about the broker.
    pub(crate) tool_was_the_limit: bool,
}

/// A comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// Whose cost is 1.
    pub(crate) baseline: String,
    pub(crate) labels: Vec<String>,
    pub(crate) cases: Vec<Case>,
}

/// Groups reports by case and broker. Cases and brokers keep the order of their first appearance; `baseline` comes first
/// if it is among the brokers.
pub(crate) fn compare(reports: &[Report], baseline: &str) -> Comparison {
    let mut labels: Vec<String> = Vec::new();
    let mut cases: Vec<String> = Vec::new();
    let mut groups: BTreeMap<(usize, String), Vec<&Report>> = BTreeMap::new();
    for report in reports {
        if !labels.contains(&report.label) {
            labels.push(report.label.clone());
        }
        let case = cases.iter().position(|case| *case == report.case).unwrap_or_else(|| {
            cases.push(report.case.clone());
            cases.len() - 1
        });
        groups.entry((case, report.label.clone())).or_default().push(report);
    }
    labels.sort_by_key(|label| label != baseline);
    let cases = cases
        .into_iter()
        .enumerate()
        .map(|(at, case)| {
            let rounds = |label: &String| groups.get(&(at, label.clone()));
            let mut entries: Vec<_> = labels
                .iter()
                .filter_map(|label| rounds(label).map(|rounds| entry(label, rounds)))
                .collect();
            let base = entries
                .iter()
                .find(|entry| entry.label == baseline)
                .and_then(|entry| entry.us_per_message);
            for entry in &mut entries {
                entry.ratio = entry
                    .us_per_message
                    .zip(base)
                    .filter(|&(_, base)| base > 0.0)
                    .map(|(us, base)| us / base);
            }
            let basis = labels
                .iter()
                .find_map(rounds)
                .map_or(String::new(), |rounds| rounds[0].basis.clone());
            Case { case, basis, entries }
        })
        .collect();
    Comparison {
        baseline: baseline.to_owned(),
        labels,
        cases,
    }
}

fn entry(label: &str, rounds: &[&Report]) -> Entry {
    let over =
        |value: &dyn Fn(&Report) -> Option<f64>| rounds.iter().filter_map(|report| value(report)).collect::<Vec<_>>();
    let costs = over(&|report| report.broker.map(|broker| broker.us_per_message).filter(|&us| us > 0.0));
    let least = costs.iter().copied().reduce(f64::min);
    let mut faults: Vec<String> = rounds.iter().flat_map(|report| report.faults.clone()).collect();
    faults.dedup();
    Entry {
        label: label.to_owned(),
        rounds: rounds.len(),
        us_per_message_range: least.zip(costs.iter().copied().reduce(f64::max)),
        us_per_message: median(costs),
        ratio: None,
        ingress_per_s: median(over(&|report| Some(report.ingress.per_second))).unwrap_or(0.0),
        egress_per_s: median(over(&|report| Some(report.egress.per_second))).unwrap_or(0.0),
        p50_us: median(over(&|report| report.latency.as_ref().map(|latency| latency.p50_us))),
        p99_us: median(over(&|report| report.latency.as_ref().map(|latency| latency.p99_us))),
        p99_9_us: median(over(&|report| report.latency.as_ref().map(|latency| latency.p99_9_us))),
        peak_bytes: median(over(&|report| report.broker.map(|broker| broker.peak_bytes as f64))),
        bytes_per_item: median(over(&|report| report.memory.as_ref().map(|memory| memory.bytes_each))),
        item: rounds
            .iter()
            .find_map(|report| report.memory.as_ref().map(|memory| memory.item.clone())),
        own_us_per_message: median(over(&|report| Some(report.own.us_per_message))).unwrap_or(0.0),
        own_busiest_thread: median(over(&|report| Some(report.own.busiest_thread))).unwrap_or(0.0),
        lost: rounds.iter().map(|report| report.verdict.lost).max().unwrap_or(0),
        faults,
        tool_was_the_limit: rounds
            .iter()
            .any(|report| report.own.was_the_limit || report.own.share_of_broker > 1.0 / 3.0),
    }
}

/// The middle value, or the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// The column heads of [`row`].
pub(crate) const HEADS: [&str; 10] = [
    "scenario",
    "broker",
    "CPU µs",
    "× baseline",
    "in/s",
    "out/s",
    "p50 / p99 / p99.9",
    "memory",
    "own CPU µs",
    "verdict",
];

/// One broker in one scenario, as text for a table.
pub(crate) fn row(case: &Case, entry: &Entry) -> [String; 10] {
    let dash = || "–".to_owned();
    let cost = entry
        .us_per_message
        .map_or_else(dash, |us| match entry.us_per_message_range {
            Some((least, most)) if entry.rounds > 1 => {
                format!("{} ({}–{})", significant(us), significant(least), significant(most))
            }
            _ => significant(us),
        });
    let times = [entry.p50_us, entry.p99_us, entry.p99_9_us].map(|time| time.map(duration_us));
    let times = times
        .into_iter()
        .collect::<Option<Vec<String>>>()
        .map_or_else(dash, |times| times.join(" / "));
    let memory = match (entry.bytes_per_item, &entry.item, entry.peak_bytes) {
        (Some(each), Some(item), _) => format!("{} per {item}", bytes(each)),
        (_, _, Some(peak)) => format!("peak {}", bytes(peak)),
        _ => dash(),
    };
    let own = format!(
        "{}{}",
        significant(entry.own_us_per_message),
        if entry.tool_was_the_limit { " (!)" } else { "" }
    );
    let verdict = match (entry.faults.is_empty(), entry.lost) {
        (true, 0) => "ok".to_owned(),
        (true, lost) => format!("dropped {} (QoS 0)", grouped(lost)),
        (false, _) => entry.faults.join(", "),
    };
    let cost = if entry.us_per_message.is_some() {
        format!("{cost} per {}", case.basis)
    } else {
        cost
    };
    let rate = |rate: f64| if rate > 0.0 { grouped(rate as u64) } else { dash() };
    let ratio = entry
        .ratio
        .map_or_else(dash, |ratio| format!("{}×", significant(ratio)));
    [
        case.case.clone(),
        entry.label.clone(),
        cost,
        ratio,
        rate(entry.ingress_per_s),
        rate(entry.egress_per_s),
        times,
        memory,
        own,
        verdict,
    ]
}

/// What `(!)` and the columns mean; stands under every table.
pub(crate) const NOTES: [&str; 3] = [
    "CPU µs is the broker's user and system time over the measured interval, all threads, divided by messages; medians over rounds, lowest and highest in brackets.",
    "p50, p99 and p99.9 in closed loops include queueing at saturation; compare latency in the latency scenario, which keeps a rate that all carry.",
    "(!) this tool's own cost was above a third of the broker's, or its thread was busy: read throughput, not CPU, with that in mind.",
];

/// The comparison as a Markdown table.
pub(crate) fn markdown(comparison: &Comparison) -> String {
    let mut out = format!("| {} |\n|{}\n", HEADS.join(" | "), "---|".repeat(HEADS.len()));
    for case in &comparison.cases {
        for entry in &case.entries {
            // Writing to a String does not fail.
            let _ = writeln!(
                out,
                "| {} |",
                row(case, entry).map(|cell| cell.replace('|', "\\|")).join(" | ")
            );
        }
    }
    for note in NOTES {
        let _ = write!(out, "\n{note}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Broker;

    fn report(label: &str, case: &str, us: f64) -> Report {
        let broker = Broker {
            us_per_message: us,
            ..Broker::default()
        };
        Report {
            label: label.into(),
            case: case.into(),
            broker: Some(broker),
            basis: "message in".into(),
            ..Report::default()
        }
    }

    #[test]
    fn medians_are_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn ratios_are_to_the_baseline() {
        let reports = [
            report("other", "pairs", 8.0),
            report("ringmq", "pairs", 1.0),
            report("other", "pairs", 12.0),
            report("ringmq", "pairs", 3.0),
            report("other", "pairs", 11.0),
            report("ringmq", "pairs", 2.0),
        ];
        let comparison = compare(&reports, "ringmq");
        assert_eq!(comparison.labels, ["ringmq", "other"]);
        let entries = &comparison.cases[0].entries;
        assert_eq!((entries[0].us_per_message, entries[0].ratio), (Some(2.0), Some(1.0)));
        assert_eq!((entries[1].us_per_message, entries[1].ratio), (Some(11.0), Some(5.5)));
        let table = markdown(&comparison);
        assert!(
            table.contains("| pairs | other | 11.0 (8.00–12.0) per message in | 5.50× |"),
            "{table}"
        );
    }
}
