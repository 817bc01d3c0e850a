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
    /// It ended before its time.
    #[error("http://{address}: the broker has ended the answer: see its log")]
    Ended {
        /// Who was asked.
        address: SocketAddr,
    },
    /// A line that is none of a trace.
    #[error("http://{address} tells what this ringmq does not understand: {line}")]
    Line {
        /// Who was asked.
        address: SocketAddr,
        /// What it said.
        line: String,
    },
    /// Nobody reads what is printed.
    #[error("standard output: {0}")]
    Output(std::io::Error),
    /// The broker goes on with what it had.
    #[error("not reloaded, what was read before stays in force: {0}")]
    Refused(String),
}
