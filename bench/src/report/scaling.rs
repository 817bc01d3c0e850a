//! Throughput by number of shards.

use super::chart::{Axis, STYLE, Scale, Series, lines, svg_open};
use super::compare::Comparison;
use super::format::short;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;

/// A chart with a line per scenario; a broker's label ends in its shard count, such as `ringmq-4`.
pub(crate) fn render(comparison: &Comparison) -> String {
    let mut series = Vec::new();
    for case in &comparison.cases {
        let mut points: Vec<_> = case
            .entries
            .iter()
            .filter_map(|entry| Some((shards(&entry.label)?, entry.ingress_per_s.max(entry.egress_per_s))))
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        if !points.is_empty() {
            series.push(Series {
                name: case.case.clone(),
                points,
            });
        }
    }
    let values = || series.iter().flat_map(|one| &one.points);
    let least = values()
        .map(|point| point.1)
        .filter(|&rate| rate > 0.0)
        .fold(f64::MAX, f64::min);
    let most = values().map(|point| point.1).fold(1.0, f64::max);
    let mut counts: Vec<f64> = values().map(|point| point.0).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    let (low, high) = (
        counts.first().copied().unwrap_or(1.0),
        counts.last().copied().unwrap_or(1.0),
    );
    let x = Axis {
        label: "shards".to_owned(),
        scale: Scale::Linear,
        ticks: counts.iter().map(|&count| (count, count.to_string())).collect(),
        low: low - 0.25,
        high: high + 0.25,
    };
    // Scenarios lie decades apart, and on this axis equal speed-ups have equal slopes.
    let y = Axis::log("messages per second", least.min(most), most, short);
    let title = "Throughput by number of shards";
    format!(
        "{}<style>{STYLE}</style><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" class=\"paper\"/>{}</svg>\n",
        svg_open(WIDTH, HEIGHT, title),
        lines(title, &x, &y, &series, [0.0, WIDTH, HEIGHT])
    )
}

/// The number at the end of a label.
fn shards(label: &str) -> Option<f64> {
    label.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_end_in_shards() {
        assert_eq!(shards("ringmq-4"), Some(4.0));
        assert_eq!(shards("mosquitto"), None);
    }
}
