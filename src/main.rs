//! `ringmq`: settings, preflight, broker, exit code.

use std::process::ExitCode;

use ringmq::auth::Secrets;
use ringmq::broker::{self, Broker};
use ringmq::config::Config;
use ringmq::logging::Log;
use ringmq::preflight::{self, EXIT_CONFIG, PreflightError};

fn main() -> ExitCode {
    let (config, secrets) = Config::load();
    broker::abort_on_panic();
    match start(config, &secrets) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn start(config: Config, secrets: &Secrets) -> Result<ExitCode, PreflightError> {
    let _log = Log::start(config.log)?;
    let host = preflight::check(&config)?;
    Ok(Broker::start(config, secrets, host)?.run())
}
