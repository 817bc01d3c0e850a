//! A non-blocking TCP connection with what it still owes in either direction.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::layers::Layers;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Starts a connection to `to`, from `from` if given. It is up when it becomes writable; ask [`connect_outcome`].
///
/// `send_buffer_bytes` bounds what the kernel takes ahead of the broker; `None` leaves it to the kernel.
///
/// # Errors
/// The system's: no descriptor, no free local port, or refused at once.
pub(crate) fn connect(to: SocketAddr, from: Option<IpAddr>, send_buffer_bytes: Option<usize>) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    if let Some(bytes) = send_buffer_bytes {
        sockopt::set_socket_send_buffer_size(&fd, bytes)?;
    }
    if let Some(address) = from {
        rustix::net::bind(&fd, &SocketAddr::new(address, 0))?;
    }
    match rustix::net::connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// How the connection attempt that became writable ended.
///
/// # Errors
/// The attempt's own.
pub(crate) fn connect_outcome(fd: impl AsFd) -> io::Result<()> {
    Ok(sockopt::socket_error(fd)??)
}

/// What a read brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Received {
    /// The first `len` bytes of the scratch buffer count, kept tail included; with `more`, read again.
    Bytes { len: usize, more: bool },
    /// The socket is dry.
    Nothing,
    /// The peer has closed its side.
    Closed,
}

/// One connection.
///
/// Invariant: `out_at <= out.len()`, and both are 0 when nothing is owed. With layers `out_at` is 0: what is flushed is sealed as
/// a whole, and then waits in the layers' wire.
#[derive(Debug)]
pub(crate) struct Link {
    fd: OwnedFd,
    /// Bytes that the kernel has not taken yet, from `out_at` on. Empty in the usual case.
    out: Vec<u8>,
    out_at: usize,
    /// The beginning of a packet whose rest has not arrived.
    tail: Vec<u8>,
    /// TLS, WebSocket, or both.
    layers: Option<Box<Layers>>,
}

impl Link {
    /// Plain TCP.
    pub(crate) fn new(fd: OwnedFd) -> Link {
        Link::with(fd, None)
    }

    /// What the layers begin with is owed.
    pub(crate) fn with(fd: OwnedFd, layers: Option<Box<Layers>>) -> Link {
        Link {
            fd,
            out: Vec::new(),
            out_at: 0,
            tail: Vec::new(),
            layers,
        }
    }

    /// Bytes that wait for the kernel to take them.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.out.len() - self.out_at + self.layers.as_ref().map_or(0, |layers| layers.wire.len())
    }

    /// Sends `bytes` at once if nothing is owed; what the kernel does not take is kept. One system call at most.
    ///
    /// # Errors
    /// The connection's.
    #[inline]
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.layers.is_some() {
            self.queue(bytes);
            return self.flush().map(drop);
        }
        let mut taken = 0;
        if self.pending() == 0 && !bytes.is_empty() {
            taken = write(&self.fd, bytes)?;
        }
        self.out.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Adds to what is owed; [`Link::flush`] sends it.
    #[inline]
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// What is owed, to append to in place.
    #[inline]
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends what is owed until the kernel takes no more; `true` when nothing is left.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if let Some(layers) = &mut self.layers {
            return flush_sealed(&self.fd, layers, &mut self.out);
        }
        while self.pending() > 0 {
            let taken = write(&self.fd, &self.out[self.out_at..])?;
            if taken == 0 {
                // A slow peer must not make the sent part grow without end.
                if self.out_at > self.out.len() / 2 {
                    self.out.drain(..self.out_at);
                    self.out_at = 0;
                }
                return Ok(false);
            }
            self.out_at += taken;
        }
        self.out.clear();
        self.out_at = 0;
        Ok(true)
    }

    /// Reads once into `scratch`, behind the kept tail. A read that does not fill the room has drained the socket.
    ///
    /// # Errors
    /// The connection's, and `InvalidData` for a packet that is longer than `scratch`.
    #[inline]
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> io::Result<Received> {
        let kept = self.tail.len();
        if kept >= scratch.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a packet is longer than the receive buffer",
            ));
        }
        scratch[..kept].copy_from_slice(&self.tail);
        if self.layers.is_some() {
            return self.receive_sealed(scratch);
        }
        let room = scratch.len() - kept;
        match rustix::net::recv(&self.fd, &mut scratch[kept..], RecvFlags::empty()) {
            Ok((0, _)) => Ok(Received::Closed),
            Ok((read, _)) => {
                self.tail.clear();
                Ok(Received::Bytes {
                    len: kept + read,
                    more: read == room,
                })
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Link::receive`], through the layers. What they have to answer is sent at once.
    fn receive_sealed(&mut self, scratch: &mut [u8]) -> io::Result<Received> {
        let layers = self.layers.as_mut().expect("asked for");
        // Else the socket is not asked, and may have more.
        let mut full = true;
        if layers.plain.is_empty() {
            match rustix::net::recv(&self.fd, &mut *scratch, RecvFlags::empty()) {
                Ok((0, _)) => return Ok(Received::Closed),
                Ok((read, _)) => {
                    full = read == scratch.len();
                    layers.open(&scratch[..read])?;
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
                Err(error) => return Err(error.into()),
            }
        }
        let kept = self.tail.len();
        scratch[..kept].copy_from_slice(&self.tail);
        self.tail.clear();
        let taken = layers.plain.len().min(scratch.len() - kept);
        scratch[kept..kept + taken].copy_from_slice(&layers.plain[..taken]);
        layers.plain.drain(..taken);
        let more = full || !layers.plain.is_empty();
        if !layers.wire.is_empty() {
            self.flush()?;
        }
        Ok(Received::Bytes {
            len: kept + taken,
            more,
        })
    }

    /// Keeps the incomplete packet at the end of what [`Link::receive`] gave.
    #[inline]
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.tail.extend_from_slice(rest);
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Seals what is owed and sends what is sealed; `true` when nothing is left.
fn flush_sealed(fd: &OwnedFd, layers: &mut Layers, out: &mut Vec<u8>) -> io::Result<bool> {
    if !out.is_empty() {
        layers.seal(out)?;
        out.clear();
    }
    let mut sent = 0;
    while sent < layers.wire.len() {
        match write(fd, &layers.wire[sent..])? {
            0 => break,
            taken => sent += taken,
        }
    }
    layers.wire.drain(..sent);
    Ok(layers.wire.is_empty())
}

/// Bytes the kernel took; 0 when its buffer is full.
#[inline]
fn write(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL) {
        Ok(taken) => Ok(taken),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
