//! Bytes in, bytes out: what a connection's octets travel over.
//!
//! An enum, so that a byte stream that is not plain TCP (TLS, WebSocket) is one more variant and no message pays for
//! an indirect call. Every call is non-blocking: it moves what it can, or says `WouldBlock`. Knows no MQTT.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// An open byte stream to a client.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Plain TCP, in non-blocking mode.
    Tcp(TcpStream),
}

impl Transport {
    /// Takes over an accepted socket.
    ///
    /// # Errors
    /// The socket ended before it could be set up; it is dropped.
    pub(crate) fn tcp(socket: TcpStream) -> io::Result<Transport> {
        socket.set_nonblocking(true)?;
        // Small packets leave at once: the broker gathers what belongs together itself.
        socket.set_nodelay(true)?;
        Ok(Transport::Tcp(socket))
    }

    /// Reads what is there; 0 is the end of the stream.
    #[inline]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(socket) => retry(|| (&mut &*socket).read(buffer)),
        }
    }

    /// Writes as much of `bytes` as there is room for.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(socket) => retry(|| (&mut &*socket).write(bytes)),
        }
    }

    /// Writes as much of `chunks`, in order, as there is room for.
    #[inline]
    pub(crate) fn write_vectored(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Tcp(socket) => retry(|| (&mut &*socket).write_vectored(chunks)),
        }
    }

    /// Says that nothing more will be written; what was written still arrives.
    pub(crate) fn finish_writing(&self) -> io::Result<()> {
        match self {
            Transport::Tcp(socket) => socket.shutdown(Shutdown::Write),
        }
    }

    /// Ends both directions. The descriptor alone may not do it: a registration in the ring can outlive it for a moment.
    pub(crate) fn shut_down(&self) {
        match self {
            // Already ended by the peer: nothing is left to end.
            Transport::Tcp(socket) => drop(socket.shutdown(Shutdown::Both)),
        }
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Transport::Tcp(socket) => socket.as_raw_fd(),
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
