//! Bytes to the broker and back. Nothing here waits but [`Link::wait`], and nothing here knows what the bytes mean, except where a
//! packet ends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ringmq_shard::codec::{PACKET_BYTES_MAX, frame_len};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::ClientConnection;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::args::ConnectionArgs;
use super::error::ClientError;
use super::tls;

pub(super) struct Link {
    /// Non-blocking; a Unix domain socket too, which is read and written alike.
    socket: TcpStream,
    /// `None`: plain.
    tls: Option<Box<ClientConnection>>,
    /// What was read and belongs to no packet yet that was given out.
    received: Vec<u8>,
    /// Bytes at its front that were given out.
    taken: usize,
    /// What is to be written.
    output: Vec<u8>,
    /// The broker sends no more.
    ended: bool,
    /// When the broker last got something, and when something last came from it.
    written_at: Instant,
    read_at: Instant,
    /// Readable once SIGINT or SIGTERM came.
    signals: UnixStream,
    interrupted: bool,
}

impl Link {
    /// Connects. TLS begins to shake hands with the first bytes.
    pub(super) fn open(args: &ConnectionArgs) -> Result<Link, ClientError> {
        let tls = args.cafile.as_deref().map(|authorities| tls::start(args, authorities));
        let tls = tls.transpose()?.map(Box::new);
        let socket = match &args.unix {
            Some(path) => UnixStream::connect(path)
                .map(|socket| TcpStream::from(OwnedFd::from(socket)))
                .map_err(|source| ClientError::Connect {
                    to: path.display().to_string(),
                    source,
                })?,
            None => {
                let port = args.port.unwrap_or(if tls.is_some() { PORT_TLS } else { PORT });
                dial(&args.host, port).map_err(|source| ClientError::Connect {
                    to: format!("{}:{port}", args.host),
                    source,
                })?
            }
        };
        socket.set_nonblocking(true).map_err(ClientError::Lost)?;
        let now = Instant::now();
        Ok(Link {
            socket,
            tls,
            received: Vec::new(),
            taken: 0,
            output: Vec::new(),
            ended: false,
            written_at: now,
            read_at: now,
            signals: signals().map_err(ClientError::Signals)?,
            interrupted: false,
        })
    }

    /// Where packets are appended; they leave with the next [`wait`](Self::wait).
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Bytes that the system has not taken yet.
    pub(super) fn unsent(&self) -> usize {
        self.output.len() + usize::from(self.tls.as_ref().is_some_and(|tls| tls.wants_write()))
    }

    pub(super) fn written_at(&self) -> Instant {
        self.written_at
    }

    pub(super) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// SIGINT or SIGTERM came.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// The bytes of the next packet; `None` if it has not arrived.
    ///
    /// # Errors
    /// The bytes are no packet, or the broker has closed the connection before its end.
    pub(super) fn next_frame(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let waiting = &self.received[self.taken..];
        if let Some(len) = frame_len(waiting, PACKET_BYTES_MAX)?
            && let Some(frame) = waiting.get(..len)
        {
            let frame = frame.to_vec();
            self.taken += len;
            return Ok(Some(frame));
        }
        self.received.drain(..self.taken);
        self.taken = 0;
        if self.ended { Err(ClientError::Closed) } else { Ok(None) }
    }

    /// Writes what it can, and waits until everything is written, there is something to read or in `input`, or it is `until`. True if
    /// `input` has something.
    pub(super) fn wait(&mut self, until: Option<Instant>, input: Option<BorrowedFd<'_>>) -> Result<bool, ClientError> {
        let had_output = self.unsent() > 0;
        self.write().map_err(ClientError::Lost)?;
        let until = if had_output && self.unsent() == 0 {
            Some(Instant::now())
        } else {
            until
        };
        let timeout = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
        let mut interest = PollFlags::IN;
        let wants_write = self
            .tls
            .as_ref()
            .map_or(!self.output.is_empty(), |tls| tls.wants_write());
        interest.set(PollFlags::OUT, wants_write);
        let socket = self.socket.as_fd();
        let mut fds = vec![PollFd::from_borrowed_fd(socket, interest)];
        if !self.interrupted {
            fds.push(PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN));
        }
        let signals_at = fds.len() - 1;
        fds.extend(input.map(|input| PollFd::from_borrowed_fd(input, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(ClientError::Lost(error.into())),
        }
        let has = |at: usize| !fds[at].revents().is_empty();
        let (readable, input) = (has(0), input.is_some() && has(fds.len() - 1));
        let interrupted = signals_at > 0 && has(signals_at);
        self.interrupted |= interrupted;
        if readable {
            self.read()?;
            // An answer of the handshake, or room for what waited.
            self.write().map_err(ClientError::Lost)?;
        }
        Ok(input)
    }

    /// Ends the stream, and reads what the broker had still to say until it ends too: a socket that is closed with something unread
    /// resets the connection, and what was written may be lost with it.
    pub(super) fn close(mut self) -> Result<(), ClientError> {
        let until = Instant::now() + CLOSE_TIME;
        self.drain(until)?;
        // The broker may have closed it already, on DISCONNECT: what fails from here on has no consequence.
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.drain(until);
        }
        let _ = self.socket.shutdown(Shutdown::Write);
        while !self.ended && Instant::now() < until {
            if self.wait(Some(until), None).is_err() {
                break;
            }
            self.received.clear();
        }
        Ok(())
    }

    /// Writes everything that is to be written, and throws away what is read meanwhile.
    fn drain(&mut self, until: Instant) -> Result<(), ClientError> {
        while self.unsent() > 0 {
            if self.ended || Instant::now() >= until {
                return Err(ClientError::Lost(io::ErrorKind::TimedOut.into()));
            }
            self.write().map_err(ClientError::Lost)?;
            if self.unsent() > 0 {
                self.wait(Some(until), None)?;
                self.received.clear();
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), ClientError> {
        let Some(tls) = &mut self.tls else {
            let mut chunk = [0; CHUNK_BYTES];
            match self.socket.read(&mut chunk) {
                Ok(len) => self.took(len, &chunk),
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(ClientError::Lost(error)),
            }
            return Ok(());
        };
        match tls.read_tls(&mut self.socket) {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return Err(ClientError::Lost(error)),
        }
        if let Err(error) = tls.process_new_packets() {
            // The alert, so that the broker knows too.
            let _ = tls.write_tls(&mut self.socket);
            return Err(ClientError::Tls(error));
        }
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            let read = tls.reader().read(&mut chunk);
            match read {
                Ok(len) => {
                    self.took(len, &chunk);
                    if len == 0 {
                        return Ok(());
                    }
                }
                Err(error) if is_later(&error) => return Ok(()),
                Err(_) => {
                    self.ended = true;
                    return Ok(());
                }
            }
        }
    }

    fn took(&mut self, len: usize, chunk: &[u8]) {
        self.received.extend_from_slice(&chunk[..len]);
        self.ended |= len == 0;
        self.read_at = Instant::now();
    }

    fn write(&mut self) -> io::Result<()> {
        loop {
            let written = match &mut self.tls {
                None if self.output.is_empty() => return Ok(()),
                None => self.socket.write(&self.output),
                Some(tls) => {
                    let accepted = tls.writer().write(&self.output)?;
                    self.output.drain(..accepted);
                    if !tls.wants_write() {
                        return Ok(());
                    }
                    tls.write_tls(&mut self.socket)
                }
            };
            match written {
                Ok(len) => {
                    self.written_at = Instant::now();
                    if self.tls.is_none() {
                        self.output.drain(..len);
                    }
                }
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Tries each address of the host, within [`CONNECT_TIME`] each.
fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIME) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn signals() -> io::Result<UnixStream> {
    let (ours, handlers) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, handlers.try_clone()?)?;
    }
    Ok(ours)
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;
/// Until one address answers.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// To write DISCONNECT, and for the broker to close.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// Read at once.
const CHUNK_BYTES: usize = 64 * 1024;
