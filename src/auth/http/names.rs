//! Where the service is.

use std::net::ToSocketAddrs;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Has the system look names up, on the thread that asks.
///
/// The library's own way starts a thread for each connection, to be able to give up on it, and the process ends where the system has none
/// left. So the time of a look-up is limited by the system alone, and counts for the exchange afterwards.
#[derive(Debug)]
pub(super) struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        let mut found = self.empty();
        for address in (host, uri.port_u16().unwrap_or(port))
            .to_socket_addrs()?
            .take(ADDRESSES_MAX)
        {
            found.push(address);
        }
        if found.is_empty() {
            Err(Error::HostNotFound)
        } else {
            Ok(found)
        }
    }
}

/// What the result has room for.
const ADDRESSES_MAX: usize = 16;
