//! Bytes in, bytes out: what a connection's octets travel over.
//!
//! An enum, so that a byte stream that is not plain TCP (TLS, WebSocket) is one more variant and no message pays for
//! an indirect call. Every call is non-blocking: it moves what it can, or says `WouldBlock`. Knows no MQTT.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// An open byte stream to a client.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Plain TCP, in non-blocking mode and without delay: the broker gathers itself what belongs together.
    Tcp(TcpStream),
}

impl Transport {
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
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Transport::Tcp(socket) => socket.as_fd(),
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
