//! TLS 1.2 and 1.3, by rustls, which does no I/O itself: [`TlsStream`] moves its records over a non-blocking socket.
//!
//! [`server`] is what one listener offers, made from files by [`certificates`]; [`identity`] reads a user name out of a client's
//! certificate. The handshake runs on the shard that accepted the socket; afterwards the stream, keys and half-read
//! records included, moves to the client's home as a plain socket does.

mod certificates;
mod identity;
mod server;
mod stream;

pub use certificates::{Certificate, TlsFileError};
pub(crate) use certificates::{read_certificates, read_key};
pub use server::TlsFiles;
pub(crate) use server::{Inside, TlsServer};
pub(crate) use stream::{Handshake, TlsStream};
