//! `ringmq-bench`: see the library for everything.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ringmq_bench::cli::run(ringmq_bench::cli::Cli::parse())
}
