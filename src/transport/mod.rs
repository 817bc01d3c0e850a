//! Bytes in, bytes out: what a connection's octets travel over.
//!
//! An enum, so that a byte stream that is not plain TCP ([`proxy`], [`tls`], [`websocket`]) is one more variant and no message pays for
//! an indirect call. Every call is non-blocking: it moves what it can, or says `WouldBlock`. Knows no MQTT.
//!
//! The ring reports what happens to the *socket*. A stream that keeps something between socket and caller says so:
//! [`holds_more`](Transport::holds_more), what can be read without a report, and [`wants_write`](Transport::wants_write), what is
//! to be written though the caller has handed it over.

mod peer;
pub(crate) mod proxy;
pub(crate) mod tls;
pub(crate) mod websocket;

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

pub(crate) use peer::Peer;
use proxy::ProxiedStream;
use tls::{Handshake, TlsStream};
use websocket::WebSocketStream;

/// An open byte stream to a client.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Plain TCP, in non-blocking mode and without delay: the broker gathers itself what belongs together. Or a Unix domain
    /// socket: the calls are the same.
    Tcp(TcpStream),
    /// TLS over it, from the first byte of the handshake on. Boxed: a plain connection pays nothing for it.
    Tls(Box<TlsStream>),
    /// WebSocket over either, from the first byte of the request on.
    WebSocket(Box<WebSocketStream>),
    /// Any of them, while a proxy has yet to say who the client is.
    Proxied(Box<ProxiedStream>),
}

impl Transport {
    /// Reads what is there; 0 is the end of the stream. Less than `buffer` holds is all there was, unless it
    /// [`holds_more`](Self::holds_more).
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(socket) => retry(|| socket.read(buffer)),
            Transport::Tls(stream) => stream.read(buffer),
            Transport::WebSocket(stream) => stream.read(buffer),
            Transport::Proxied(stream) => stream.read(buffer),
        }
    }

    /// Writes as much of `bytes` as there is room for.
    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(socket) => retry(|| socket.write(bytes)),
            Transport::Tls(stream) => stream.write(bytes),
            Transport::WebSocket(stream) => stream.write(bytes),
            Transport::Proxied(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Writes as much of `chunks`, in order, as there is room for.
    #[inline]
    pub(crate) fn write_vectored(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Tcp(socket) => retry(|| socket.write_vectored(chunks)),
            Transport::Tls(stream) => stream.write_vectored(chunks),
            Transport::WebSocket(stream) => stream.write_vectored(chunks),
            Transport::Proxied(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Nothing is between the caller and the socket.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Transport::Tcp(_))
    }

    /// The last read left something, or found the end behind what it took: read again without waiting for the socket.
    #[inline]
    pub(crate) fn holds_more(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Proxied(_) => false,
            Transport::Tls(stream) => stream.holds_more(),
            Transport::WebSocket(stream) => stream.holds_more(),
        }
    }

    /// Something is to be written that the caller does not know of, or has handed over already.
    #[inline]
    pub(crate) fn wants_write(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Proxied(_) => false,
            Transport::Tls(stream) => stream.wants_write(),
            Transport::WebSocket(stream) => stream.wants_write(),
        }
    }

    /// Writes what [`wants_write`](Self::wants_write) is about. True: nothing is left of it.
    #[inline]
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Transport::Tcp(_) | Transport::Proxied(_) => Ok(true),
            Transport::Tls(stream) => stream.flush(),
            Transport::WebSocket(stream) => stream.flush(),
        }
    }

    /// What is to be agreed on before the first byte can be read is not yet: reading it costs much more than any other
    /// read.
    #[inline]
    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            Transport::Tcp(_) => false,
            Transport::Tls(stream) => stream.is_handshaking(),
            Transport::WebSocket(stream) => stream.is_handshaking(),
            // A header costs little; what comes right behind it may be another handshake.
            Transport::Proxied(_) => true,
        }
    }

    /// The handshake that the last read completed, once.
    #[inline]
    pub(crate) fn take_handshake(&mut self) -> Option<Handshake> {
        match self {
            Transport::Tcp(_) | Transport::Proxied(_) => None,
            Transport::Tls(stream) => stream.take_handshake(),
            Transport::WebSocket(stream) => stream.take_handshake(),
        }
    }

    /// Says that nothing more will be written; what was written still arrives.
    pub(crate) fn finish_writing(&mut self) -> io::Result<()> {
        match self {
            Transport::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Transport::Tls(stream) => stream.finish_writing(),
            Transport::WebSocket(stream) => stream.finish_writing(),
            Transport::Proxied(stream) => stream.finish_writing(),
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Transport::Tcp(socket) => socket.as_fd(),
            Transport::Tls(stream) => stream.as_fd(),
            Transport::WebSocket(stream) => stream.as_fd(),
            Transport::Proxied(stream) => stream.inner().as_fd(),
        }
    }
}

/// Again when a signal came between; that is no answer of the socket.
#[inline]
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}
