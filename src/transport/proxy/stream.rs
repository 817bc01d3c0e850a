//! A connection whose header is on its way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ringmq_shard::time::Instant;
use rustix::net::{RecvFlags, recv};

use super::super::{Transport, retry};
use super::header::{HEADER_BYTES_MAX, client, extent};
use crate::listener::AddressRates;

/// What a proxy has connected, until its header is whole.
#[derive(Debug)]
pub(crate) struct ProxiedStream {
    /// Nothing was read from it by way of itself.
    inner: Transport,
    /// How fast the clients that are named may come; `None`: as fast as they want.
    addresses: Option<Arc<AddressRates>>,
    /// The header's beginning, at most [`HEADER_BYTES_MAX`].
    received: Vec<u8>,
}

impl ProxiedStream {
    pub(crate) fn new(inner: Transport, addresses: Option<Arc<AddressRates>>) -> ProxiedStream {
        ProxiedStream {
            inner,
            addresses,
            received: Vec::new(),
        }
    }

    /// Takes as much of the header from the socket as is there. Once it is whole: the client, if the header names one.
    /// `Ok(None)`: the stream ends before that.
    ///
    /// # Errors
    /// `WouldBlock`: more must come. Otherwise a [`ProxyError`](super::ProxyError) within, or what the system says.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Announced>> {
        let mut arrived = [0; HEADER_BYTES_MAX];
        loop {
            // What is behind the header belongs to somebody else: look first, then take.
            let room = HEADER_BYTES_MAX - self.received.len();
            let (count, _) = retry(|| Ok(recv(&self.inner, &mut arrived[..room], RecvFlags::PEEK)?))?;
            if count == 0 {
                return Ok(None);
            }
            let before = self.received.len();
            self.received.extend_from_slice(&arrived[..count]);
            let whole = extent(&self.received).map_err(invalid)?;
            self.received.truncate(whole.unwrap_or(usize::MAX));
            let fresh = self.received.len() - before;
            let (taken, _) = retry(|| Ok(recv(&self.inner, &mut arrived[..fresh], RecvFlags::empty())?))?;
            debug_assert_eq!(taken, fresh, "nobody else reads this socket");
            if whole.is_some() {
                let client = client(&self.received).map_err(invalid)?;
                return Ok(Some(Announced { client }));
            }
        }
    }

    /// Counts one more connection of whom the header names.
    ///
    /// # Errors
    /// An [`AddressRateError`](crate::error::AddressRateError) within.
    pub(crate) fn admit(&self, announced: Announced, now: Instant) -> io::Result<()> {
        match (&self.addresses, announced.client) {
            (Some(addresses), Some(client)) => addresses.admit(client.ip(), now).map_err(io::Error::other),
            _ => Ok(()),
        }
    }

    /// What it was put around: the header was taken.
    pub(crate) fn into_inner(self) -> Transport {
        self.inner
    }

    pub(crate) fn inner(&self) -> &Transport {
        &self.inner
    }

    /// Only the end of a stream without a header is read so: nobody wants the rest.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (count, _) = retry(|| Ok(recv(&self.inner, &mut *buffer, RecvFlags::empty())?))?;
        Ok(count)
    }

    pub(crate) fn finish_writing(&mut self) -> io::Result<()> {
        self.inner.finish_writing()
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Announced {
    /// Where the client is; `None`: the proxy speaks for itself, or does not know.
    pub(crate) client: Option<SocketAddr>,
}

fn invalid(error: super::ProxyError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
