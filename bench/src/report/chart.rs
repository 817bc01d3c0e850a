//! Line and bar charts as SVG, with labelled axes, light and dark.
//!
//! Colours are classes, so that the same drawing works alone and inside the HTML report; no CSS variables, which
//! converters such as librsvg do not know. The palette stays apart for colour-blind readers.

use std::fmt::Write;

/// How values spread over an axis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scale {
    Linear,
    Log,
}

/// An axis: its label, its scale, and the values that get a tick and a text.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) scale: Scale,
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Colours and type, for a drawing on its own and for a page.
pub(crate) const STYLE: &str = "
svg text{font:12px system-ui,sans-serif}svg .title{font-size:15px;font-weight:600}
svg .grid,svg .axis{fill:none;stroke-width:1}svg .line{fill:none;stroke-width:2;stroke-linejoin:round}
svg text{fill:#5c6675}svg .title{fill:#1d2430}svg .paper{fill:#ffffff}svg .grid{stroke:#e3e7ed}svg .axis{stroke:#5c6675}
.f0{fill:#0b62d6}.s0{stroke:#0b62d6}.f1{fill:#d95f02}.s1{stroke:#d95f02}.f2{fill:#1b8a5a}.s2{stroke:#1b8a5a}.f3{fill:#8e44ad}.s3{stroke:#8e44ad}.f4{fill:#b3261e}.s4{stroke:#b3261e}.f5{fill:#6b7280}.s5{stroke:#6b7280}
@media(prefers-color-scheme:dark){
svg text{fill:#a3adba}svg .title{fill:#e8ebf0}svg .paper{fill:#14181f}svg .grid{stroke:#2b323d}svg .axis{stroke:#a3adba}
.f0{fill:#6aa9ff}.s0{stroke:#6aa9ff}.f1{fill:#ff9d4d}.s1{stroke:#ff9d4d}.f2{fill:#57d19b}.s2{stroke:#57d19b}.f3{fill:#c79bf2}.s3{stroke:#c79bf2}.f4{fill:#ff8a80}.s4{stroke:#ff8a80}.f5{fill:#a8b0bd}.s5{stroke:#a8b0bd}
}
";

/// Colours there are; further series begin again.
const COLOURS: usize = 6;

const LEFT: f64 = 84.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 52.0;

impl Axis {
    /// From 0 to a little over `most`, with about five ticks at round numbers.
    pub(crate) fn linear(label: &str, most: f64, text: impl Fn(f64) -> String) -> Axis {
        let step = round_step(most.max(1e-9) / 5.0);
        let count = (most / step).ceil().max(1.0);
        let ticks = (0..=count as u32)
            .map(|at| f64::from(at) * step)
            .map(|value| (value, text(value)))
            .collect();
        Axis {
            label: label.to_owned(),
            scale: Scale::Linear,
            ticks,
            low: 0.0,
            high: count * step,
        }
    }

    /// Whole decades around `low..high`, ticks at 1, 2 and 5 where there is room.
    pub(crate) fn log(label: &str, low: f64, high: f64, text: impl Fn(f64) -> String) -> Axis {
        let first = low.max(1e-3).log10().floor() as i32;
        let last = (high.max(1e-3).log10().ceil() as i32).max(first + 1);
        let marks: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let end = 10_f64.powi(last);
        let ticks = (first..last)
            .flat_map(|decade| marks.iter().map(move |mark| mark * 10_f64.powi(decade)))
            .chain([end])
            .map(|value| (value, text(value)))
            .collect();
        Axis {
            label: label.to_owned(),
            scale: Scale::Log,
            ticks,
            low: 10_f64.powi(first),
            high: end,
        }
    }

    /// Where `value` lies, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        place.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|mark| mark * power)
        .find(|&step| step >= rough * 0.999)
        .unwrap_or(rough)
}

/// A line chart of `width` × `height`, as a group to put into an SVG at `y`.
pub(crate) fn lines(title: &str, x: &Axis, y: &Axis, series: &[Series], [top, width, height]: [f64; 3]) -> String {
    let mut out = String::new();
    let (right, bottom) = (width - RIGHT, height - BOTTOM);
    let at_x = |value: f64| LEFT + x.place(value) * (right - LEFT);
    let at_y = |value: f64| bottom - y.place(value) * (bottom - TOP);
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "<g transform=\"translate(0 {top})\"><text class=\"title\" x=\"16\" y=\"24\">{}</text>",
        escape(title)
    );
    for (value, text) in &y.ticks {
        let y = at_y(*value);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            escape(text)
        );
    }
    for (value, text) in &x.ticks {
        let x = at_x(*value);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"
        );
        let _ = write!(
            out,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            escape(text)
        );
    }
    let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>");
    let middle = (LEFT + right) / 2.0;
    let _ = write!(
        out,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        bottom + 40.0,
        escape(&x.label)
    );
    let middle = (TOP + bottom) / 2.0;
    let _ = write!(
        out,
        "<text transform=\"translate(18 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        escape(&y.label)
    );
    let mut legend_x = LEFT;
    for (at, one) in series.iter().enumerate() {
        let colour = at % COLOURS;
        let points: Vec<String> = one
            .points
            .iter()
            .map(|&(px, py)| format!("{:.1},{:.1}", at_x(px), at_y(py)))
            .collect();
        let _ = write!(
            out,
            "<polyline class=\"line s{colour}\" points=\"{}\"/>",
            points.join(" ")
        );
        let _ = write!(
            out,
            "<rect x=\"{legend_x}\" y=\"36\" width=\"14\" height=\"4\" class=\"f{colour}\"/><text x=\"{}\" y=\"42\">{}</text>",
            legend_x + 20.0,
            escape(&one.name)
        );
        legend_x += 44.0 + 7.0 * one.name.chars().count() as f64;
    }
    out + "</g>"
}

/// Horizontal bars, one per entry, longest at full width; values are written beside them. `colours` follow the names'
/// place in it, so that a broker keeps its colour from chart to chart.
pub(crate) fn bars(title: &str, entries: &[(String, f64, String)], colours: &[String], width: f64) -> String {
    let most = entries.iter().map(|entry| entry.1).fold(1e-12, f64::max);
    let height = bars_height(entries.len());
    let mut out = svg_open(width, height, title);
    let _ = write!(out, "<text class=\"title\" x=\"0\" y=\"18\">{}</text>", escape(title));
    let label = 8.0 + 7.2 * entries.iter().map(|entry| entry.0.chars().count()).max().unwrap_or(0) as f64;
    let room = width - label - 150.0;
    for (at, (name, value, text)) in entries.iter().enumerate() {
        let y = 32.0 + 26.0 * at as f64;
        let colour = colours.iter().position(|known| known == name).unwrap_or(at) % COLOURS;
        let long = (value / most * room).max(1.0);
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            label - 8.0,
            y + 14.0,
            escape(name)
        );
        let _ = write!(
            out,
            "<rect x=\"{label}\" y=\"{y}\" width=\"{long:.1}\" height=\"18\" rx=\"2\" class=\"f{colour}\"/>"
        );
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\">{}</text>",
            label + long + 6.0,
            y + 14.0,
            escape(text)
        );
    }
    out + "</svg>"
}

fn bars_height(entries: usize) -> f64 {
    40.0 + 26.0 * entries as f64
}

/// The opening tag of a drawing; `title` is what a screen reader says.
pub(crate) fn svg_open(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    )
}

/// Text for XML and HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_and_cover() {
        let axis = Axis::linear("x", 237.0, |value| value.to_string());
        assert_eq!(
            axis.ticks.iter().map(|tick| tick.0).collect::<Vec<_>>(),
            [0.0, 50.0, 100.0, 150.0, 200.0, 250.0]
        );
        assert!((axis.place(125.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn log_ticks_are_decades() {
        let axis = Axis::log("x", 30.0, 40_000.0, |value| value.to_string());
        assert_eq!((axis.low, axis.high), (10.0, 100_000.0));
        assert!((axis.place(1000.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn names_are_escaped() {
        let chart = bars("a<b", &[("x&y".into(), 1.0, "1".into())], &[], 400.0);
        assert!(chart.contains("a&lt;b") && chart.contains("x&amp;y") && chart.ends_with("</svg>"));
    }
}
