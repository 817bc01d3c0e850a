//! Why a question to the broker has no answer.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

/// Why a command of an operator failed.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// Nobody listens for operators.
    #[error("there is no --admin-listen in these settings, so the broker cannot be asked: add one, or send SIGHUP")]
    NoAdmin,
    /// The port is chosen by the system.
    #[error("--admin-listen {0} leaves the port to the system: name the one that the broker has printed")]
    NoPort(SocketAddr),
    /// The token cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No connection, or one that ended.
    #[error("http://{address}: {source}")]
    Http {
        /// Who was asked.
        address: SocketAddr,
        /// What happened.
        source: ureq::Error,
    },
    /// An answer, but not one to the question.
    #[error("http://{address} answers {status}: {text}")]
    Answer {
        /// Who was asked.
        address: SocketAddr,
        /// Of HTTP.
        status: u16,
        /// Its first line.
        text: String,
    },
    /// The broker goes on with what it had.
    #[error("not reloaded, what was read before stays in force: {0}")]
    Refused(String),
}
