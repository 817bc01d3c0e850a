//! How fast clients may come to one listener.

use super::ConfigError;
use super::args::ListenerArgs;
use super::in_range;

/// Connections per second; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConnectionRates {
    /// Of the listener: beyond it, clients wait.
    pub listener: u32,
    /// Of one address: beyond it, connections are closed.
    pub address: u32,
    /// How many of one address may come at once. Never 0 where there is a rate.
    pub address_burst: u32,
}

impl ConnectionRates {
    pub(super) fn from_args(args: &ListenerArgs) -> Result<ConnectionRates, ConfigError> {
        let rate = |flag, got| in_range(flag, got, 0, RATE_MAX);
        let burst = args.connection_burst_per_address;
        Ok(ConnectionRates {
            listener: rate("--max-connection-rate", args.max_connection_rate)?,
            address: rate(
                "--max-connection-rate-per-address",
                args.max_connection_rate_per_address,
            )?,
            address_burst: in_range("--connection-burst-per-address", burst, 1, RATE_MAX)?,
        })
    }
}

/// More than a kernel hands over in a second.
const RATE_MAX: u32 = 1_000_000;
