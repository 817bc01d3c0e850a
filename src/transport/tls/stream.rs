//! One TLS connection over a non-blocking socket.
//!
//! ```text
//!  socket ─ read_tls ─► records, possibly half of one ─► plaintext ─► caller
//!  socket ◄ write_tls ─ ciphertext, at most BUFFERED_BYTES_MAX ◄───── caller
//! ```
//! Reading goes on until the caller's buffer is full or the socket has no more: so, as on a plain socket, a short read took all
//! there was, and the ring reports what comes after it. `pending` is the exception. What a read answers by itself (the handshake,
//! tickets, alerts) is written at once as far as there is room; the rest waits as ciphertext, and whoever owns the stream watches
//! for room while it [`wants_write`](TlsStream::wants_write).

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ringmq_shard::shard::UserName;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::super::retry;
use super::identity::{self, NameFrom};
use crate::error::TlsError;

/// The server's end of a TLS connection.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    tls: ServerConnection,
    /// Where in the client's certificate its user name is.
    name_from: Option<NameFrom>,
    /// The first byte that came: it tells other protocols from a broken handshake.
    first_byte: Option<u8>,
    /// The end of the handshake was handed out.
    established: bool,
    /// Records are broken, or the client was refused: an alert says so, and what still comes is not looked at.
    failed: bool,
    /// Why, until a read has said it: plaintext that came before goes first.
    untold: Option<TlsError>,
    /// The last read ended before the socket was empty, or found the end of the stream behind what it took.
    pending: bool,
}

/// What a finished handshake has found out.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// From the client's certificate, if it showed one and the listener takes names from there.
    pub(crate) user_name: Option<UserName>,
    /// An earlier session went on, without a signature.
    pub(crate) resumed: bool,
}

impl TlsStream {
    /// # Errors
    /// The configuration lacks something; none that was made from files does.
    pub(super) fn new(
        socket: TcpStream,
        config: Arc<ServerConfig>,
        name_from: Option<NameFrom>,
    ) -> Result<TlsStream, rustls::Error> {
        let mut tls = ServerConnection::new(config)?;
        tls.set_buffer_limit(Some(BUFFERED_BYTES_MAX));
        Ok(TlsStream {
            socket,
            tls,
            name_from,
            first_byte: None,
            established: false,
            failed: false,
            untold: None,
            pending: false,
        })
    }

    /// Reads plaintext; 0 is the end, said or not: MQTT says itself what is whole. Once it has failed, whatever comes, to be
    /// thrown away.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed && self.untold.is_none() {
            self.pending = false;
            return retry(|| self.socket.read(buffer));
        }
        let mut filled = 0;
        let mut left = Left::Something;
        self.pending = true;
        for _ in 0..RECEIVES_MAX {
            match self.tls.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(filled),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if filled == buffer.len() || (filled > 0 && self.failed) {
                return Ok(filled);
            }
            if let Some(error) = self.untold.take() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            match left {
                Left::Something => {}
                // Only the socket itself can say that there is nothing: behind a short read may be its end, of which no
                // report comes any more.
                Left::LittleIfAnything if filled == 0 => {}
                Left::LittleIfAnything | Left::Nothing => {
                    self.pending = false;
                    break;
                }
            }
            match self.receive() {
                Ok(now_left) => left = now_left,
                // What was read before it counts. The socket says the same again, or that it has ended.
                Err(_) if filled > 0 => return Ok(filled),
                Err(error) => return Err(error),
            }
        }
        if filled > 0 {
            Ok(filled)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Takes ciphertext from the socket, once, and answers what is to be answered.
    fn receive(&mut self) -> io::Result<Left> {
        let mut source = Source {
            socket: &mut self.socket,
            first_byte: &mut self.first_byte,
            short: false,
        };
        let received = self.tls.read_tls(&mut source);
        let left = if source.short {
            Left::LittleIfAnything
        } else {
            Left::Something
        };
        match received {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Left::Nothing),
            Err(error) => return Err(error),
        }
        let processed = self.tls.process_new_packets().map(|_| ());
        let flushed = self.flush();
        match processed {
            Ok(()) => flushed.map(|_| left),
            Err(error) => {
                self.failed = true;
                self.untold = Some(self.judge(error));
                Ok(left)
            }
        }
    }

    /// Encrypts and writes `bytes` as far as the socket has room. What is counted as written may wait here as ciphertext, but
    /// nothing more is taken while it does.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// As [`write`](Self::write), for pieces that follow each other. Each begins a record.
    pub(crate) fn write_vectored(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        let mut room = self.flush()?;
        'chunks: for chunk in chunks {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let count = if room { self.tls.writer().write(rest)? } else { 0 };
                taken += count;
                rest = &rest[count..];
                if !rest.is_empty() {
                    // The buffer is full.
                    room = room && self.flush()?;
                    if !room || count == 0 {
                        break 'chunks;
                    }
                }
            }
        }
        if room {
            self.flush()?;
        }
        if taken > 0 {
            Ok(taken)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    pub(crate) fn holds_more(&self) -> bool {
        self.pending
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Writes ciphertext. True: none is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        !self.established
    }

    /// What the handshake found out, when it has ended and this was not asked before.
    pub(crate) fn take_handshake(&mut self) -> Option<Handshake> {
        if self.established || self.failed || self.tls.is_handshaking() {
            return None;
        }
        self.established = true;
        let certificate = self.tls.peer_certificates().and_then(<[_]>::first);
        let user_name = self.name_from.zip(certificate).and_then(|(from, certificate)| {
            // The verifier has let it pass: there is one.
            identity::user_name(certificate, from).ok()
        });
        Some(Handshake {
            user_name,
            resumed: self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    /// Says in TLS and in TCP that nothing more comes. What does not fit into the socket is lost.
    pub(crate) fn finish_writing(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        // If it does not leave, the client sees the end of the stream without it.
        let _ = self.flush();
        self.socket.shutdown(Shutdown::Write)
    }

    fn judge(&self, error: rustls::Error) -> TlsError {
        match (self.first_byte, error) {
            (Some(CONNECT), rustls::Error::InvalidMessage(_)) if !self.established => TlsError::PlainMqtt,
            (Some(first_byte), rustls::Error::InvalidMessage(_)) if !self.established && first_byte != HANDSHAKE => {
                TlsError::NotTls { first_byte }
            }
            (_, rustls::Error::AlertReceived(alert)) => TlsError::Alert(alert),
            (_, error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
                TlsError::ClientCertificate(error)
            }
            (_, error) if self.established => TlsError::Records(error),
            (_, error) => TlsError::Handshake(error),
        }
    }
}

impl Drop for TlsStream {
    /// Whichever way it ends, the client is told that this is no attacker's doing.
    fn drop(&mut self) {
        self.tls.send_close_notify();
        let _ = self.flush();
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a read has left in the socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Left {
    /// It got all that it had room for.
    Something,
    /// It got less: what there was then, or the end is behind it.
    LittleIfAnything,
    /// It got nothing.
    Nothing,
}

/// The socket as rustls reads it; finds out whether it is empty without another system call.
struct Source<'a> {
    socket: &'a mut TcpStream,
    first_byte: &'a mut Option<u8>,
    /// The read got less than it had room for.
    short: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = retry(|| self.socket.read(buffer))?;
        // The end of the stream is no short read: it must be seen.
        self.short = (1..buffer.len()).contains(&count);
        if count > 0 {
            self.first_byte.get_or_insert(buffer[0]);
        }
        Ok(count)
    }
}

/// Ciphertext that waits for its socket, per connection: four records of the largest size, which is what one call can write
/// well. Not counted under `--max-memory`.
const BUFFERED_BYTES_MAX: usize = 64 * 1024;
/// Reads from the socket (4 KiB each) in one call: what fills the largest buffer, and some for records without content.
const RECEIVES_MAX: usize = 24;
/// The content type of a handshake record.
const HANDSHAKE: u8 = 22;
/// The first byte of MQTT's first packet.
const CONNECT: u8 = 0x10;
