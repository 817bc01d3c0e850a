//! The command line. Verbs make a plan in `scenario` and hand it to the engine.
//!
//! Flags keep emqtt-bench's letters wherever it has one, so `-h` is the host and help is `--help` alone.

mod floor;
pub(crate) mod options;
mod report;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};

use crate::scenario::{self, ScenarioError};

/// A load generator for MQTT 3.1.1 brokers that counts every message and what it cost.
#[derive(Debug, Parser)]
#[command(name = "ringmq-bench", version, disable_help_flag = true, after_help = EXAMPLES, max_term_width = 120)]
pub struct Cli {
    /// Print help
    #[arg(long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ringmq-bench pairs -p 1883 -q 1                     50 pairs at QoS 1, as fast as the broker can
  ringmq-bench latency --rate 20000 --plot lat.svg    latency at a fixed rate, from intended send times
  ringmq-bench fanout --pid $(pidof mosquitto)        with the broker's CPU per delivery and its memory
  ringmq-bench pub -c 100 -I 10 -t bench/%i -s 256    an emqtt-bench command line
  ringmq-bench suite fanout-5-1000-5-250K --scale 0.1 a case of the Open MQTT Benchmark Suite

Exit status: 0 good, 1 messages were lost (QoS 1 and 2), duplicated, reordered or corrupted, 2 the run did not happen.";

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Traffic(scenario::Traffic),
    #[command(flatten)]
    State(scenario::State),
    #[command(flatten)]
    Emqtt(scenario::Emqtt),
    /// A case of the Open MQTT Benchmark Suite, scaled to this machine
    Suite(scenario::SuiteArgs),
    /// A bare server to compare with: what the sockets alone cost
    Floor(floor::FloorArgs),
    /// Puts the JSON files of many runs side by side: medians, ratios, HTML
    Report(report::ReportArgs),
}

/// Runs the command; the exit status of the process.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Traffic(verb) => scenario::traffic(verb),
        Command::State(verb) => scenario::state(verb),
        Command::Emqtt(verb) => scenario::emqtt(verb),
        Command::Suite(args) => scenario::suite(&args),
        Command::Floor(args) => floor::serve(&args).map(|()| true).map_err(ScenarioError::from),
        Command::Report(args) => report::render(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("ringmq-bench: {error}");
            ExitCode::from(2)
        }
    }
}
