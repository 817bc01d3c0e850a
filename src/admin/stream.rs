//! A socket as hyper wants it: it never blocks, and notes what it waits for.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::event::PollFlags;

/// One accepted socket, shared between hyper's connection and the loop that polls it.
#[derive(Clone, Debug)]
pub(super) struct Stream(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: TcpStream,
    /// What the last calls could not do. Set by them, cleared by the loop once the system says that it is possible.
    waits: Cell<PollFlags>,
    /// Bytes read to be thrown away.
    discarded: Cell<usize>,
}

impl Stream {
    /// # Errors
    /// The socket is broken already.
    pub(super) fn new(socket: TcpStream) -> io::Result<Stream> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Stream(Rc::new(Shared {
            socket,
            waits: Cell::new(PollFlags::empty()),
            discarded: Cell::new(0),
        })))
    }

    /// What it waits for; empty: not for the socket.
    pub(super) fn waits(&self) -> PollFlags {
        self.0.waits.get()
    }

    /// The system says that some of that is possible.
    pub(super) fn wakes(&self) {
        self.0.waits.set(PollFlags::empty());
    }

    /// Throws away what the other side still sends: closing over unread bytes would reset the connection, and take the
    /// answer with it. True once it is done, or has sent too much.
    pub(super) fn drain(&self) -> bool {
        let mut scratch = [0; CHUNK_BYTES];
        loop {
            match self.read(&mut scratch) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(count)) => self.0.discarded.set(self.0.discarded.get() + count),
            }
            if self.0.discarded.get() > DISCARDED_MAX {
                return true;
            }
        }
    }

    /// Nothing more is written. It may be shut, or reset, already.
    pub(super) fn shut(&self) {
        let _ = self.0.socket.shutdown(Shutdown::Write);
    }

    fn read(&self, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.attempt(PollFlags::IN, || (&self.0.socket).read(into))
    }

    fn attempt<T>(&self, what: PollFlags, mut call: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
        loop {
            match call() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.0.waits.set(self.waits() | what);
                    return Poll::Pending;
                }
                result => return Poll::Ready(result),
            }
        }
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; CHUNK_BYTES];
        let room = into.remaining().min(CHUNK_BYTES);
        let Poll::Ready(count) = self.read(&mut scratch[..room])? else {
            return Poll::Pending;
        };
        into.put_slice(&scratch[..count]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.attempt(PollFlags::OUT, || (&self.0.socket).write(from))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut();
        Poll::Ready(Ok(()))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

/// Read at once: more than a request without a body has.
const CHUNK_BYTES: usize = 4 * 1024;
/// What a client may still send after its answer before it is cut off.
const DISCARDED_MAX: usize = 256 * 1024;
