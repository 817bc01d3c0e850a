//! Who is at the other end, for the log.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// Over a network, the loopback interface included.
    Tcp(SocketAddr),
    /// A process of this host, over a Unix domain socket. Which one is not asked: one of another container has no number here.
    Unix,
}

impl Peer {
    /// Of its host, an IPv4 address as such however the socket writes it; `None`: it is this one.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip().to_canonical()),
            Peer::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}
