//! `ringmq pub` and `ringmq sub`: clients for a command line, with the habits of Mosquitto's.
//!
//! Read `connection` first: CONNECT, Keep Alive and a clean end, on one thread that waits in poll(2). `link` moves the
//! bytes, over TCP, a Unix domain socket or TLS; `publisher` and `subscriber` are the two ends of QoS 1 and 2. Packets are encoded and decoded by
//! `ringmq_shard::codec`, the same that the broker uses. A connection that is lost is an error, not tried again: whoever calls a command
//! from a script wants to know.

mod args;
mod connection;
mod error;
mod input;
mod link;
mod publisher;
mod subscriber;
mod tls;

use std::process::ExitCode;

pub use args::{PubArgs, SubArgs};
use error::ClientError;

/// Publishes, and ends when everything is acknowledged.
#[must_use]
pub fn publish(args: &PubArgs) -> ExitCode {
    ended(publisher::publish(args))
}

/// Prints messages until there are enough, or the time is over.
#[must_use]
pub fn subscribe(args: &SubArgs) -> ExitCode {
    ended(subscriber::subscribe(args))
}

fn ended(result: Result<(), ClientError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
