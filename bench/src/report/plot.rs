//! One run as a drawing: latency by percentile, throughput over time.

use super::chart::{Axis, STYLE, Scale, Series, lines, svg_open};
use super::format::{duration_us, short};
use super::model::{Latency, Report};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;

/// A whole SVG file.
pub(crate) fn render(report: &Report) -> String {
    let title = format!("{} · {}", report.label, report.case);
    let mut charts = Vec::new();
    if let Some(latency) = &report.latency {
        let series = [Series {
            name: report.label.clone(),
            points: percentile_points(latency),
        }];
        charts.push(latency_chart(
            &format!("{title}: latency"),
            &series,
            charts.len() as f64 * HEIGHT,
        ));
    }
    if report.series.len() > 1 {
        charts.push(throughput_chart(
            report,
            &format!("{title}: throughput"),
            charts.len() as f64 * HEIGHT,
        ));
    }
    let height = HEIGHT * charts.len().max(1) as f64;
    format!(
        "{}<style>{STYLE}</style><rect width=\"{WIDTH}\" height=\"{height}\" class=\"paper\"/>{}</svg>\n",
        svg_open(WIDTH, height, &title),
        charts.concat()
    )
}

/// Latency curves of several runs, as an SVG without a style of its own; `None` where nothing was timed.
pub(crate) fn latency_svg(title: &str, series: &[Series]) -> Option<String> {
    let some = series.iter().any(|one| !one.points.is_empty());
    some.then(|| svg_open(WIDTH, HEIGHT, title) + &latency_chart(title, series, 0.0) + "</svg>")
}

/// Throughput of one run, as an SVG without a style of its own.
pub(crate) fn throughput_svg(report: &Report) -> Option<String> {
    let title = format!("{} · {}: throughput", report.label, report.case);
    (report.series.len() > 1)
        .then(|| svg_open(WIDTH, HEIGHT, &title) + &throughput_chart(report, &title, 0.0) + "</svg>")
}

/// Points of the percentile chart: 1/(1−p) and microseconds.
pub(crate) fn percentile_points(latency: &Latency) -> Vec<(f64, f64)> {
    latency
        .curve
        .iter()
        .map(|&(percentile, us)| (1.0 / (1.0 - percentile / 100.0).max(1e-9), us))
        .collect()
}

fn latency_chart(title: &str, series: &[Series], top: f64) -> String {
    let values = || series.iter().flat_map(|one| &one.points);
    let reach = values().map(|point| point.0).fold(10.0, f64::max);
    let low = values().map(|point| point.1).fold(f64::MAX, f64::min);
    let high = values().map(|point| point.1).fold(0.0, f64::max);
    let nines = ["0", "90", "99", "99.9", "99.99", "99.999"];
    let ticks: Vec<_> = nines
        .iter()
        .enumerate()
        .map(|(decade, text)| (10_f64.powi(decade as i32), format!("{text} %")))
        .filter(|tick| tick.0 <= reach * 1.01)
        .collect();
    let x = Axis {
        label: "percentile of messages".to_owned(),
        scale: Scale::Log,
        low: 1.0,
        high: reach,
        ticks,
    };
    let y = Axis::log("latency", low, high, tick_us);
    lines(title, &x, &y, series, [top, WIDTH, HEIGHT])
}

/// Ticks are round: `20 µs`, not `20.0 µs`.
fn tick_us(us: f64) -> String {
    let text = duration_us(us);
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

fn throughput_chart(report: &Report, title: &str, top: f64) -> String {
    let points = |value: fn(&super::model::Point) -> f64| report.series.iter().map(|p| (p.at_s, value(p))).collect();
    let mut series = vec![Series {
        name: "in".to_owned(),
        points: points(|point| point.ingress_per_s),
    }];
    if report.egress.messages > 0 {
        series.push(Series {
            name: "out".to_owned(),
            points: points(|point| point.egress_per_s),
        });
    }
    let end = report.series.last().map_or(1.0, |point| point.at_s);
    let most = series
        .iter()
        .flat_map(|one| &one.points)
        .map(|point| point.1)
        .fold(1.0, f64::max);
    let what = if report.basis == "cycle" {
        "cycles per second"
    } else {
        "messages per second"
    };
    let x = Axis::linear("seconds since publishing began, warm-up included", end, short);
    let y = Axis::linear(what, most, short);
    lines(title, &x, &y, &series, [top, WIDTH, HEIGHT])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Point;

    #[test]
    fn both_charts_are_drawn() {
        let latency = Latency {
            curve: vec![(0.0, 20.0), (90.0, 100.0), (99.0, 900.0)],
            ..Latency::default()
        };
        let point = |at_s| Point {
            at_s,
            ingress_per_s: 5e4,
            egress_per_s: 4e4,
        };
        let report = Report {
            label: "a<b".into(),
            latency: Some(latency),
            series: vec![point(0.2), point(0.4)],
            ..Report::default()
        };
        let svg = render(&report);
        assert!(svg.contains("percentile of messages") && svg.contains("messages per second"));
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        assert_eq!(svg.matches("<polyline").count(), 2);
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!(tick_us(20.0), "20 µs");
        assert_eq!(tick_us(1000.0), "1 ms");
        assert_eq!(tick_us(0.5), "0.5 µs");
    }
}
