//! `ringmq`: settings, then what they ask for: preflight and broker, or another command. Then the exit code.

use std::process::ExitCode;

use ringmq::auth::Secrets;
use ringmq::broker::{self, Broker};
use ringmq::client;
use ringmq::config::{Config, Given, Order};
use ringmq::doctor;
use ringmq::logging::Log;
use ringmq::operator;
use ringmq::preflight::{self, EXIT_CONFIG, PreflightError};

fn main() -> ExitCode {
    match Config::load() {
        Order::Serve(config, secrets, given) => serve(*config, &secrets, given),
        Order::Doctor { config, json } => doctor::run(&config, json),
        Order::Reload(config) => operator::reload(&config),
        Order::Trace(config, args) => operator::trace(&config, &args),
        Order::Publish(args) => client::publish(&args),
        Order::Subscribe(args) => client::subscribe(&args),
    }
}

fn serve(config: Config, secrets: &Secrets, given: Given) -> ExitCode {
    broker::abort_on_panic();
    match start(config, secrets, given) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn start(config: Config, secrets: &Secrets, given: Given) -> Result<ExitCode, PreflightError> {
    let log = Log::start(&config.log)?;
    let host = preflight::check(&config)?;
    Ok(Broker::start(config, secrets, given, host, log.switch())?.run())
}
