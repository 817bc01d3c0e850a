//! `ringmq`: settings, then what they ask for: preflight and broker, or another command. Then the exit code.

use std::process::ExitCode;

use ringmq::auth::Secrets;
use ringmq::broker::{self, Broker};
use ringmq::client;
use ringmq::config::{Config, Order};
use ringmq::doctor;
use ringmq::logging::Log;
use ringmq::preflight::{self, EXIT_CONFIG, PreflightError};

fn main() -> ExitCode {
    match Config::load() {
        Order::Serve(config, secrets) => serve(*config, &secrets),
        Order::Doctor { config, json } => doctor::run(&config, json),
        Order::Publish(args) => client::publish(&args),
        Order::Subscribe(args) => client::subscribe(&args),
    }
}

fn serve(config: Config, secrets: &Secrets) -> ExitCode {
    broker::abort_on_panic();
    match start(config, secrets) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn start(config: Config, secrets: &Secrets) -> Result<ExitCode, PreflightError> {
    let _log = Log::start(&config.log)?;
    let host = preflight::check(&config)?;
    Ok(Broker::start(config, secrets, host)?.run())
}
