//! One WebSocket connection over another transport.
//!
//! ```text
//!  transport ─ request ─► judge ─► answer ─► transport          then, in both directions:
//!  transport ─ frames ─► payload ─► caller      a ping is answered, a close ends the stream
//!  transport ◄ header, payload ◄──── caller     what is written at once is one frame
//! ```
//! A frame that has begun must be finished before anything else is written, and its length is told in advance: what a
//! write offers is one frame, and what did not fit follows with the next writes, which the caller makes with the same bytes.
//! Of the stream's own (the answer, a pong, the rest of a header) at most one is under way: it waits in `own`.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use smallvec::SmallVec;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::WebSocketError;
use super::frames::{self, End, Frames, SENT_HEADER_BYTES_MAX};
use super::upgrade;
use crate::config::WebSocketConfig;
use crate::transport::Transport;
use crate::transport::tls::Handshake;

/// The server's end of a WebSocket.
///
/// Invariant: while `frame_left > 0`, `own` has nothing but the rest of that frame's header.
#[derive(Debug)]
pub(crate) struct WebSocketStream {
    inner: Transport,
    phase: Phase,
    frames: Frames,
    /// To be written before anything else.
    own: Vec<u8>,
    /// Payload of the frame that is being written, which the caller has yet to bring.
    frame_left: usize,
    /// A rule was broken, and no read has said it: payload that came before goes first.
    untold: Option<WebSocketError>,
    /// What the close frame says.
    close_code: u16,
    /// It is on its way.
    said_close: bool,
    /// The last read may have left something.
    pending: bool,
}

#[derive(Debug)]
enum Phase {
    /// The request is not whole; this much of it has come.
    Upgrade {
        received: Vec<u8>,
        config: Arc<WebSocketConfig>,
    },
    Open,
    /// The client's close frame has come: what follows is not looked at.
    Closed,
    /// There was no upgrade, or a rule was broken: what still comes is thrown away.
    Failed {
        upgraded: bool,
    },
}

impl WebSocketStream {
    pub(crate) fn new(inner: Transport, config: Arc<WebSocketConfig>) -> WebSocketStream {
        WebSocketStream {
            inner,
            phase: Phase::Upgrade {
                received: Vec::new(),
                config,
            },
            frames: Frames::new(),
            own: Vec::new(),
            frame_left: 0,
            untold: None,
            close_code: NORMAL,
            said_close: false,
            pending: false,
        }
    }

    /// Reads payload; 0 is the end, by a close frame or without. Once it has failed, whatever comes, to be thrown away.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..RECEIVES_MAX {
            if let Some(error) = self.untold.take() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if matches!(self.phase, Phase::Closed) {
                return Ok(0);
            }
            self.pending = false;
            let count = self.inner.read(buffer)?;
            if count == 0 || matches!(self.phase, Phase::Failed { .. }) {
                return Ok(count);
            }
            // Behind a short read may be the end, of which no report comes any more: it counts only if something is handed out.
            let short = count < buffer.len() && !self.inner.holds_more();
            let filled = self.take(&mut buffer[..count]);
            self.pending = !short || self.untold.is_some() || matches!(self.phase, Phase::Closed);
            // If the answers do not leave, the next read or write says so too.
            let _ = self.flush();
            if filled > 0 {
                return Ok(filled);
            }
        }
        self.pending = true;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Takes what arrived; its payload is at the beginning of `bytes`, and this long.
    fn take(&mut self, bytes: &mut [u8]) -> usize {
        let payload = match &mut self.phase {
            Phase::Upgrade { received, config } => {
                received.extend_from_slice(bytes);
                match upgrade::judge(received, bytes.len(), config) {
                    Ok(None) => return 0,
                    Ok(Some((size, answer))) => {
                        let rest = received.len() - size;
                        self.own.extend(answer);
                        self.phase = Phase::Open;
                        bytes.copy_within(bytes.len() - rest.., 0);
                        &mut bytes[..rest]
                    }
                    Err(error) => {
                        self.own.extend(upgrade::refusal(error));
                        self.phase = Phase::Failed { upgraded: false };
                        self.untold = Some(error);
                        return 0;
                    }
                }
            }
            _ => bytes,
        };
        let (filled, end) = self.frames.decode(payload);
        match end {
            None => {}
            Some(End::Closed(code)) => {
                self.close_code = code;
                self.phase = Phase::Closed;
            }
            Some(End::Broken(error)) => {
                self.close_code = error.close_code();
                self.untold = Some(error);
                self.phase = Phase::Failed { upgraded: true };
            }
        }
        filled
    }

    /// Frames and writes `bytes` as far as there is room.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// As [`write`](Self::write), for pieces that follow each other; they are one frame.
    pub(crate) fn write_vectored(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.is_upgraded() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let offered: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let mut taken = 0;
        while taken < offered && self.flush_own()? {
            let (header, size) = if self.frame_left == 0 {
                frames::header(OpCode::Data(Data::Binary), offered - taken)
            } else {
                ([0; SENT_HEADER_BYTES_MAX], 0)
            };
            let length = if size > 0 { offered - taken } else { self.frame_left };
            let written = match self.write_frame(&header[..size], chunks, taken, length) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if taken == 0 => return Err(error),
                // What was taken counts. The next write says the same again.
                Err(_) => break,
            };
            if written < size {
                self.own.extend_from_slice(&header[written..size]);
            }
            let payload = written.saturating_sub(size);
            taken += payload;
            self.frame_left = length - payload;
            if self.frame_left > 0 {
                break;
            }
        }
        if self.frame_left == 0 {
            self.flush_own()?;
        }
        if taken > 0 || offered == 0 {
            Ok(taken)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Writes a header and what the chunks have from `skip` on, `length` bytes of it.
    fn write_frame(&mut self, header: &[u8], chunks: &[IoSlice<'_>], skip: usize, length: usize) -> io::Result<usize> {
        let mut pieces: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        if !header.is_empty() {
            pieces.push(IoSlice::new(header));
        }
        let (mut skip, mut left) = (skip, length);
        for chunk in chunks {
            let from = skip.min(chunk.len());
            let piece = &chunk[from..(from + left).min(chunk.len())];
            (skip, left) = (skip - from, left - piece.len());
            if !piece.is_empty() {
                pieces.push(IoSlice::new(piece));
            }
        }
        if header.len() + length <= GATHERED_BYTES_MAX && pieces.len() > 1 {
            // For TLS, each piece would be a record of its own.
            let mut gathered: SmallVec<[u8; GATHERED_BYTES_MAX]> = SmallVec::new();
            pieces.iter().for_each(|piece| gathered.extend_from_slice(piece));
            return self.inner.write(&gathered);
        }
        self.inner.write_vectored(&pieces)
    }

    /// Writes what the stream itself has to say. True: nothing of it is left, and a frame may begin or go on.
    fn flush_own(&mut self) -> io::Result<bool> {
        loop {
            if self.own.is_empty() && self.frame_left == 0 {
                let ping = self.frames.ping.take();
                if let Some(said) = ping.filter(|_| matches!(self.phase, Phase::Open)) {
                    self.own = frames::control(Control::Pong, &said);
                }
            }
            if self.own.is_empty() {
                return Ok(true);
            }
            match self.inner.write(&self.own) {
                Ok(count) => drop(self.own.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            if self.own.is_empty() {
                // An idle connection keeps no buffer.
                self.own = Vec::new();
            }
        }
    }

    pub(crate) fn holds_more(&self) -> bool {
        self.pending || self.inner.holds_more()
    }

    pub(crate) fn wants_write(&self) -> bool {
        !self.own.is_empty() || self.inner.wants_write()
    }

    /// Writes what [`wants_write`](Self::wants_write) is about. True: nothing is left of it.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        Ok(self.flush_own()? && self.inner.flush()?)
    }

    /// There is no WebSocket yet, or none came of it.
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::Upgrade { .. } | Phase::Failed { upgraded: false })
    }

    pub(crate) fn take_handshake(&mut self) -> Option<Handshake> {
        self.inner.take_handshake()
    }

    /// Says in WebSocket and below it that nothing more comes. What does not fit into the socket is lost.
    pub(crate) fn finish_writing(&mut self) -> io::Result<()> {
        self.say_close();
        self.inner.finish_writing()
    }

    fn is_upgraded(&self) -> bool {
        !self.is_handshaking()
    }

    /// Unless a frame is under way: there the client sees the end of the stream without it.
    fn say_close(&mut self) {
        if self.is_upgraded() && !self.said_close && self.frame_left == 0 && self.flush_own().is_ok_and(|done| done) {
            self.own = frames::control(Control::Close, &self.close_code.to_be_bytes());
            self.said_close = true;
            let _ = self.flush_own();
        }
    }
}

impl Drop for WebSocketStream {
    /// Whichever way it ends, the client is told.
    fn drop(&mut self) {
        self.say_close();
        if matches!(self.phase, Phase::Failed { upgraded: true }) && self.inner.finish_writing().is_ok() {
            // Closing over unread bytes would take the close frame back.
            let mut unread = [0; 4096];
            for _ in 0..UNREAD_READS_MAX {
                if !matches!(self.inner.read(&mut unread), Ok(1..)) {
                    break;
                }
            }
        }
    }
}

impl AsFd for WebSocketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Reads in one call that bring nothing for the caller, such as pings, before others have their turn.
const RECEIVES_MAX: usize = 4;
/// Reads of what nobody wants, at the end of a connection that broke a rule.
const UNREAD_READS_MAX: usize = 16;
/// What is copied together with its header rather than handed over in pieces: less than the copy costs to look at.
const GATHERED_BYTES_MAX: usize = 2 * 1024;
/// The code of a close that nobody is to blame for.
const NORMAL: u16 = 1000;
