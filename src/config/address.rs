//! Where clients connect: an address and port, or a path in the file system.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// One value of `--listen`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAddress {
    /// TCP. Port 0: the system chooses.
    Tcp(SocketAddr),
    /// A Unix domain socket: `unix:/run/ringmq.sock`.
    Unix(PathBuf),
}

/// Text that is no address to listen on.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ListenAddressError {
    /// Neither of both forms.
    #[error("{0}; write ADDR:PORT or unix:/PATH")]
    NotAnAddress(#[from] AddrParseError),
    /// A path that depends on where the broker was started.
    #[error("the path of a unix socket starts with /")]
    RelativePath,
    /// More than the system takes in the address of a socket.
    #[error("the path of a unix socket has at most {PATH_BYTES_MAX} bytes")]
    PathTooLong,
}

impl ListenAddress {
    /// Only processes of this host reach it.
    pub(super) fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }

    /// Two listeners there would contradict each other.
    pub(super) fn is_exclusive(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => address.port() != 0,
            ListenAddress::Unix(_) => true,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<ListenAddress, ListenAddressError> {
        let Some(path) = text.strip_prefix("unix:") else {
            return Ok(ListenAddress::Tcp(text.parse()?));
        };
        let path = Path::new(path);
        if !path.is_absolute() {
            return Err(ListenAddressError::RelativePath);
        }
        if path.as_os_str().as_bytes().len() > PATH_BYTES_MAX {
            return Err(ListenAddressError::PathTooLong);
        }
        Ok(ListenAddress::Unix(path.to_owned()))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> ListenAddress {
        ListenAddress::Tcp(address)
    }
}

/// `sun_path` of unix(7), without the zero at its end.
const PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths_are_told_apart_and_print_as_they_are_written() {
        for text in ["127.0.0.1:1883", "[::1]:0", "unix:/run/ringmq.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for (text, expected) in [
            ("localhost:1883", "write ADDR:PORT or unix:/PATH"),
            ("/run/ringmq.sock", "write ADDR:PORT or unix:/PATH"),
            ("unix:ringmq.sock", "starts with /"),
            ("unix:", "starts with /"),
            (&format!("unix:/{}", "x".repeat(107)), "at most 107 bytes"),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
