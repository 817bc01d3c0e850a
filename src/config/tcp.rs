//! What TCP does for the clients of one listener.

use std::time::Duration;

use super::ConfigError;
use super::args::ListenerArgs;
use super::in_range;

/// Options of each accepted socket. Without effect on Unix domain sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TcpOptions {
    /// Small packets leave at once, rather than when those before them are acknowledged (Nagle's algorithm, RFC 896).
    pub nodelay: bool,
    /// After so much silence TCP asks whether a client is there; `None`: never.
    pub keep_alive: Option<Duration>,
}

impl Default for TcpOptions {
    /// At once, and never.
    fn default() -> TcpOptions {
        TcpOptions {
            nodelay: true,
            keep_alive: None,
        }
    }
}

impl TcpOptions {
    pub(super) fn from_args(args: &ListenerArgs) -> Result<TcpOptions, ConfigError> {
        let keep_alive = in_range("--tcp-keep-alive", args.tcp_keep_alive, 0, KEEP_ALIVE_MAX)?;
        Ok(TcpOptions {
            nodelay: args.tcp_nodelay,
            keep_alive: (keep_alive > 0).then(|| Duration::from_secs(u64::from(keep_alive))),
        })
    }
}

/// What Linux takes.
const KEEP_ALIVE_MAX: u32 = 32_767;
