//! Why a client did not do what it was asked for, and its exit code.

use std::io;
use std::path::PathBuf;

use ringmq_shard::codec::{CodecError, ConnectReturnCode};
use ringmq_shard::topic::TopicError;
use thiserror::Error;

use crate::transport::tls::TlsFileError;

/// One line for people.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    #[error("'{topic}': {error}")]
    Topic { topic: String, error: TopicError },
    #[error("{what} has at most {most} bytes")]
    TooLong { what: &'static str, most: usize },
    #[error("{what} has a zero character in it, which MQTT does not allow")]
    Nul { what: &'static str },
    #[error("a password needs a user: add -u")]
    PasswordWithoutUser,
    #[error("a session that stays (-c) needs a Client Identifier: add -i")]
    SessionWithoutId,
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    TlsFile(#[from] TlsFileError),
    #[error("{0} is no name that a certificate can have")]
    ServerName(String),
    #[error("cannot connect to {to}: {source}")]
    Connect { to: String, source: io::Error },
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    #[error("the broker does not answer CONNECT")]
    NoConnAck,
    #[error("the broker refused the connection: {}", reason(*.0))]
    Refused(ConnectReturnCode),
    #[error("the broker refused every subscription")]
    NotSubscribed,
    #[error("the connection was lost: {0}")]
    Lost(io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker does not answer PINGREQ")]
    Silent,
    #[error("the broker sent what is no packet: {0}")]
    Codec(#[from] CodecError),
    #[error("the broker sent {0} where there was nothing to answer with it")]
    Unexpected(&'static str),
    #[error("interrupted before everything was acknowledged")]
    Interrupted,
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("timed out")]
    TimedOut,
}

impl ClientError {
    /// 2 for what was asked wrongly, 27 for `-W` as mosquitto_sub has it, else 1.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            ClientError::Topic { .. }
            | ClientError::TooLong { .. }
            | ClientError::Nul { .. }
            | ClientError::PasswordWithoutUser
            | ClientError::SessionWithoutId
            | ClientError::File { .. }
            | ClientError::TlsFile(_)
            | ClientError::ServerName(_) => 2,
            ClientError::TimedOut => 27,
            _ => 1,
        }
    }
}

/// Table 3.1.
fn reason(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Accepted => "0x00, accepted",
        ConnectReturnCode::UnacceptableProtocolVersion => "0x01, it does not speak MQTT 3.1.1",
        ConnectReturnCode::IdentifierRejected => "0x02, the Client Identifier is not allowed",
        ConnectReturnCode::ServerUnavailable => "0x03, it is not available at the moment",
        ConnectReturnCode::BadUserNameOrPassword => "0x04, bad user name or password",
        ConnectReturnCode::NotAuthorized => "0x05, not authorized",
    }
}
