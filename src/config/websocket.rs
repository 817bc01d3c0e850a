//! WebSocket of one listener, as the operator wants it.

use super::ConfigError;
use super::args::ListenerArgs;

/// The rules of a listener that speaks WebSocket.
///
/// Invariant: `path` starts with `/` and is one that a request can have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebSocketConfig {
    /// What clients ask for, without a query.
    pub path: String,
    /// Pages of these origins connect, as the browser's Origin says it; empty: of all.
    pub origins: Vec<String>,
}

impl WebSocketConfig {
    /// `None`: the listener speaks MQTT at once.
    pub(super) fn from_args(args: &ListenerArgs) -> Result<Option<WebSocketConfig>, ConfigError> {
        let (path, origins) = (&args.websocket_path, &args.websocket_origin);
        let is_path = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'<' | b'>');
        if !path.starts_with('/') || !path.bytes().all(is_path) {
            return Err(ConfigError::WebSocketPath(path.clone()));
        }
        if !args.websocket && !origins.is_empty() {
            return Err(ConfigError::NeedsOther {
                flag: "--websocket-origin",
                other: "--websocket",
            });
        }
        Ok(args.websocket.then(|| WebSocketConfig {
            path: path.clone(),
            origins: origins.clone(),
        }))
    }
}
