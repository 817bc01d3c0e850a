//! A comparison as one HTML file without references: tables, bars, latency curves, light and dark.

use std::fmt::Write;

use super::chart::{STYLE, Series, bars, escape};
use super::compare::{Case, Comparison, Entry, HEADS, NOTES, row};
use super::format::{bytes, duration_us, short, significant};
use super::model::Report;
use super::plot::{latency_svg, percentile_points, throughput_svg};

const PAGE_STYLE: &str = "
:root{--paper:#ffffff;--ink:#1d2430;--soft:#5c6675;--grid:#e3e7ed;--link:#0b62d6;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--paper:#14181f;--ink:#e8ebf0;--soft:#a3adba;--grid:#2b323d;--link:#6aa9ff;--bad:#ff8a80}}
body{margin:0 auto;max-width:1280px;padding:24px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 8px;border-top:1px solid var(--grid);padding-top:20px}
p,li{color:var(--soft)}a{color:var(--link)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:5px 10px;border-bottom:1px solid var(--grid);text-align:left}th{color:var(--soft);font-weight:600}
td.bad{color:var(--bad);font-weight:600}
.charts{display:flex;flex-wrap:wrap;gap:16px 24px}svg{max-width:100%;height:auto}
details{margin:8px 0}summary{cursor:pointer;color:var(--link)}
";

/// The page.
pub(crate) fn render(comparison: &Comparison, reports: &[Report], title: &str) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = page(&mut out, comparison, reports, title);
    out
}

fn page(out: &mut String, comparison: &Comparison, reports: &[Report], title: &str) -> std::fmt::Result {
    write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{0}</title><style>{STYLE}{PAGE_STYLE}</style></head>\
         <body><h1>{0}</h1>",
        escape(title)
    )?;
    if let Some(report) = reports.first() {
        let host = &report.host;
        write!(
            out,
            "<p>{} cores of {} · {} · ringmq-bench {} on cores {:?} · {} runs</p>",
            host.cores,
            escape(&host.processor),
            escape(&host.kernel),
            escape(&report.version),
            report.setup.cores,
            reports.len()
        )?;
    }
    table(out, comparison)?;
    for case in &comparison.cases {
        section(out, comparison, case, reports)?;
    }
    write!(out, "</body></html>")
}

fn table(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    write!(out, "<div class=\"scroll\"><table><tr>")?;
    for head in HEADS {
        write!(out, "<th>{}</th>", escape(head))?;
    }
    write!(out, "</tr>")?;
    for case in &comparison.cases {
        for entry in &case.entries {
            write!(out, "<tr>")?;
            let cells = row(case, entry);
            for (at, cell) in cells.iter().enumerate() {
                let bad = at + 1 == cells.len() && !entry.faults.is_empty();
                write!(
                    out,
                    "<td{}>{}</td>",
                    if bad { " class=\"bad\"" } else { "" },
                    escape(cell)
                )?;
            }
            write!(out, "</tr>")?;
        }
    }
    write!(out, "</table></div><ul>")?;
    for note in NOTES {
        write!(out, "<li>{}</li>", escape(note))?;
    }
    write!(out, "</ul>")
}

/// A bar chart's title, what it shows of an entry, and how that reads.
type Bars<'a> = (String, &'a dyn Fn(&Entry) -> Option<f64>, &'a dyn Fn(f64) -> String);

fn section(out: &mut String, comparison: &Comparison, case: &Case, reports: &[Report]) -> std::fmt::Result {
    write!(out, "<h2>{}</h2><div class=\"charts\">", escape(&case.case))?;
    let item = case
        .entries
        .iter()
        .find_map(|entry| entry.item.clone())
        .unwrap_or_default();
    let micro = |us: f64| format!("{} µs", significant(us));
    let rate = |rate: f64| format!("{}/s", short(rate));
    let is_open = reports
        .iter()
        .any(|report| report.case == case.case && report.setup.rate.is_some());
    let charts: [Bars<'_>; 5] = [
        (
            format!("CPU per {}, less is better", case.basis),
            &|entry| entry.us_per_message,
            &micro,
        ),
        (
            "Messages in".to_owned(),
            &|entry| Some(entry.ingress_per_s).filter(|&rate| rate > 0.0 && !is_open),
            &rate,
        ),
        (
            "Messages out".to_owned(),
            &|entry| Some(entry.egress_per_s).filter(|&rate| rate > 0.0 && !is_open),
            &rate,
        ),
        (
            "Latency, 99th percentile, less is better".to_owned(),
            &|entry| entry.p99_us.filter(|_| is_open),
            &duration_us,
        ),
        (
            format!("Memory per {item}, less is better"),
            &|entry| entry.bytes_per_item,
            &bytes,
        ),
    ];
    for (title, value, text) in charts {
        let entries: Vec<_> = case
            .entries
            .iter()
            .filter_map(|entry| value(entry).map(|value| (entry.label.clone(), value.max(0.0), text(value))))
            .collect();
        if !entries.is_empty() {
            write!(out, "{}", bars(&title, &entries, &comparison.labels, 520.0))?;
        }
    }
    let last = |label: &String| {
        reports
            .iter()
            .rfind(|report| report.case == case.case && report.label == *label)
    };
    let curves: Vec<_> = comparison
        .labels
        .iter()
        .filter_map(|label| {
            let points = last(label)?.latency.as_ref().map(percentile_points)?;
            Some(Series {
                name: label.clone(),
                points,
            })
        })
        .collect();
    if let Some(svg) = latency_svg("Latency by percentile, last round", &curves) {
        write!(out, "{svg}")?;
    }
    write!(out, "</div>")?;
    let drawings: Vec<_> = comparison
        .labels
        .iter()
        .filter_map(|label| throughput_svg(last(label)?))
        .collect();
    if !drawings.is_empty() {
        write!(
            out,
            "<details><summary>Throughput over time</summary><div class=\"charts\">{}</div></details>",
            drawings.concat()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::compare;

    #[test]
    fn the_page_stands_alone() {
        let report = Report {
            label: "<x>".into(),
            case: "pairs".into(),
            faults: vec!["1 lost".into()],
            ..Report::default()
        };
        let reports = [report];
        let page = render(&compare(&reports, "<x>"), &reports, "t");
        assert!(page.contains("&lt;x&gt;") && !page.contains("<x>"));
        assert!(page.contains("class=\"bad\">1 lost"));
        assert!(!page.contains("src=") && !page.contains("href="));
    }
}
