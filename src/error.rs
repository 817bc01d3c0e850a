//! Everything that can be wrong with one connection: the core's errors, and the system's.

use std::io;

use ringmq_shard::error::{CodecError, ProtocolError, SessionError};
use thiserror::Error;

/// Why a connection ends that should not have. It ends that connection and nothing else.
#[derive(Debug, Error)]
pub enum MqttError {
    /// The bytes were no packet.
    #[error("malformed packet: {0}")]
    Codec(#[from] CodecError),
    /// A packet that is not allowed here.
    #[error("protocol violation: {0}")]
    Protocol(#[from] ProtocolError),
    /// Allowed, but the session cannot.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The system refused to read or write.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The client took no byte of what waits for it.
    #[error("nothing could be written for {seconds} s")]
    WriteTimeout {
        /// The limit.
        seconds: u64,
    },
}

impl MqttError {
    /// The reason in metrics: lower case, words joined by `_`, one of a fixed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            MqttError::Codec(error) => ringmq_shard::error::CloseReason::Codec(*error).label(),
            MqttError::Protocol(error) => ringmq_shard::error::CloseReason::Protocol(*error).label(),
            MqttError::Session(error) => ringmq_shard::error::CloseReason::Session(*error).label(),
            MqttError::Io { .. } => "io",
            MqttError::WriteTimeout { .. } => "write_timeout",
        }
    }

    /// Whether an operator wants to see it: a connection that simply went away is daily business.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        !matches!(self, MqttError::Io { .. })
    }
}
