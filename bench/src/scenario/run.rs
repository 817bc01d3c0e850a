//! What every scenario does around its plan: defaults, progress, output.

use std::io::Write;
use std::path::Path;

use clap::Args;

use super::topic::PatternError;
use crate::cli::options::{BrokerOptions, OutputOptions, ThreadOptions, TimeOptions};
use crate::load::plan::{Load, Pace, Plan, Timing};
use crate::load::{Outcome, RunError, watch_signals};
use crate::report::progress::Progress;
use crate::report::{Basis, Report, Subject, make, plot, table};

/// Options of every scenario.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) broker: BrokerOptions,
    #[command(flatten)]
    pub(crate) time: TimeOptions,
    #[command(flatten)]
    pub(crate) threads: ThreadOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Why a scenario could not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    #[error("{0}")]
    Run(#[from] RunError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("{0}")]
    Pattern(#[from] PatternError),
    #[error("{connections} connections need more than the {limit} open files this process may have (ulimit -n)")]
    Descriptors { connections: usize, limit: u64 },
    #[error(
        "{name} is no case of the suite; try conn-tcp-1M-5K, p2p-50K-50K-50K-50K, fanout-5-1000-5-250K or sharedsub-50K-500-50K-50K"
    )]
    NoCase { name: String },
    #[error("no process {0}")]
    NoProcess(u32),
    #[error("no file is a run's report")]
    NoReports,
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Common {
    /// A plan without clients.
    ///
    /// # Errors
    /// The resolver's, and [`ScenarioError::NoProcess`] for a `--pid` that is not there.
    pub(crate) fn plan(&self, load: Load, default_duration_s: f64) -> Result<Plan, ScenarioError> {
        if let Some(pid) = self.output.pid
            && crate::measure::cpu(pid).is_none()
        {
            return Err(ScenarioError::NoProcess(pid));
        }
        let duration = self
            .time
            .duration
            .unwrap_or(std::time::Duration::from_secs_f64(default_duration_s));
        let warmup = if load.limit.is_some() {
            std::time::Duration::ZERO
        } else {
            self.time.warmup.unwrap_or(WARMUP)
        };
        Ok(Plan {
            broker: self.broker.broker()?,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            idle: Vec::new(),
            groups: 0,
            load,
            timing: Timing {
                warmup,
                // A fixed number of messages takes as long as it takes, unless told otherwise.
                duration: if load.limit.is_some() {
                    self.time.duration
                } else {
                    Some(duration)
                },
                drain: self.time.drain,
            },
            threads: self.threads.threads(),
            connect_rate: self.broker.connect_rate(0.0),
            prior: 0,
            sample_every: std::time::Duration::from_millis(200),
        })
    }

    /// What the report of a scenario is about.
    pub(crate) fn subject(&self, scenario: &'static str, case: String, basis: Basis) -> Subject {
        let output = &self.output;
        let label = output.label.clone().or_else(|| {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", output.pid?)).ok()?;
            Some(name.trim().to_owned())
        });
        let label = label.unwrap_or_else(|| format!("{}:{}", self.broker.host, self.broker.port));
        Subject {
            scenario,
            case: output.case.clone().unwrap_or(case),
            label,
            round: output.round,
            basis,
            memory: None,
        }
    }

    /// Runs `plan`, with the progress line.
    ///
    /// # Errors
    /// Where the run did not happen.
    pub(crate) fn run(&self, name: &str, plan: &Plan) -> Result<Outcome, ScenarioError> {
        raise_descriptors(plan.connections())?;
        watch_signals()?;
        let mut progress = Progress::new(name, self.threads.quiet);
        Ok(crate::load::run(plan, self.output.pid, &mut progress)?)
    }

    /// Runs `plan` and writes everything that was asked for; `true` when nothing is wrong.
    ///
    /// # Errors
    /// Where the run did not happen or the output cannot be written.
    pub(crate) fn run_and_emit(&self, subject: &Subject, plan: &Plan) -> Result<bool, ScenarioError> {
        let outcome = self.run(&subject.case, plan)?;
        self.emit(&make(subject, plan, &outcome))
    }

    /// Writes a report: table, JSON, chart.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub(crate) fn emit(&self, report: &Report) -> Result<bool, ScenarioError> {
        let json_to_stdout = self.output.json.as_deref() == Some(Path::new("-"));
        if !self.threads.quiet && !json_to_stdout {
            print(&table::render(report))?;
        }
        if let Some(path) = &self.output.json {
            let text = serde_json::to_string_pretty(report)? + "\n";
            if json_to_stdout {
                print(&text)?;
            } else {
                write(path, &text)?;
            }
        }
        if let Some(path) = &self.output.plot {
            write(path, &plot::render(report))?;
        }
        Ok(report.is_good())
    }
}

/// Enough for a broker to reach its steady state, and for sockets to fill.
const WARMUP: std::time::Duration = std::time::Duration::from_secs(2);

/// A closed loop of `size`-byte messages, which scenarios then adjust.
pub(crate) fn load(qos: u8, size: usize) -> Load {
    Load {
        size,
        publish_qos: qos,
        subscribe_qos: qos,
        retain: false,
        pace: Pace::Saturate,
        window: 100,
        ahead: 1000,
        limit: None,
    }
}

/// A closed pipe (`| head`) is no error worth a panic.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Writes a file, its folder included.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), ScenarioError> {
    let named = |source| ScenarioError::File {
        path: path.display().to_string(),
        source,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(named)?;
    }
    std::fs::write(path, text).map_err(named)
}

/// Raises the soft limit of open files to the hard one, and checks that it is enough.
pub(crate) fn raise_descriptors(connections: usize) -> Result<(), ScenarioError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// Standard streams, pollers, files.
    const SPARE: usize = 64;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .map_err(std::io::Error::from)?;
    match limit.maximum {
        Some(most) if (connections + SPARE) as u64 > most => Err(ScenarioError::Descriptors {
            connections,
            limit: most,
        }),
        _ => Ok(()),
    }
}
