//! `ringmq-bench report`: many runs side by side.

use std::path::PathBuf;

use clap::Args;

use crate::report::{Report, compare, html, scaling};
use crate::scenario::{ScenarioError, print, write};

/// Which runs, and what to make of them.
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// JSON files of runs, or folders of them
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// Whose cost is 1
    #[arg(long, default_value = "ringmq")]
    baseline: String,
    /// Title of the page
    #[arg(long, default_value = "MQTT brokers, measured")]
    title: String,
    /// Write one HTML file with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the medians as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table as Markdown; it is printed as well
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Draw throughput by shard count; labels end in the number of shards
    #[arg(long, value_name = "FILE.svg")]
    scaling: Option<PathBuf>,
}

/// Reads, compares, writes; `true` when no run was faulty.
///
/// # Errors
/// Where a file cannot be read or written, or none is a run's.
pub(crate) fn render(args: &ReportArgs) -> Result<bool, ScenarioError> {
    let reports = read(&args.inputs)?;
    let comparison = compare::compare(&reports, &args.baseline);
    let table = compare::markdown(&comparison);
    print(&table)?;
    if let Some(path) = &args.markdown {
        write(path, &table)?;
    }
    if let Some(path) = &args.json {
        write(path, &(serde_json::to_string_pretty(&comparison)? + "\n"))?;
    }
    if let Some(path) = &args.html {
        write(path, &html::render(&comparison, &reports, &args.title))?;
    }
    if let Some(path) = &args.scaling {
        write(path, &scaling::render(&comparison))?;
    }
    Ok(reports.iter().all(Report::is_good))
}

/// Reads every file; folders give their `.json` files by name. Files of another kind are passed over.
fn read(inputs: &[PathBuf]) -> Result<Vec<Report>, ScenarioError> {
    let mut files = Vec::new();
    for input in inputs {
        let named = |source| ScenarioError::File {
            path: input.display().to_string(),
            source,
        };
        if input.is_dir() {
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(input).map_err(named)? {
                inside.push(entry.map_err(named)?.path());
            }
            inside.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
            inside.sort();
            files.extend(inside);
        } else {
            files.push(input.clone());
        }
    }
    let mut reports = Vec::new();
    for file in &files {
        let named = |source| ScenarioError::File {
            path: file.display().to_string(),
            source,
        };
        let text = std::fs::read_to_string(file).map_err(named)?;
        match serde_json::from_str::<Report>(&text) {
            Ok(report) => reports.push(report),
            Err(error) => eprintln!(
                "ringmq-bench: {} is no run's report, passed over: {error}",
                file.display()
            ),
        }
    }
    // The order of the runs, which is the order of the scenarios, whatever the files are called.
    reports.sort_by_key(|report| report.finished_unix_s);
    if reports.is_empty() {
        return Err(ScenarioError::NoReports);
    }
    Ok(reports)
}
