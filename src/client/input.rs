//! Where messages to publish are from.

use std::fs::File;
use std::io::{self, Read, Stdin};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use ringmq_shard::codec::REMAINING_LENGTH_MAX;
use rustix::io::Errno;

use super::args::PubArgs;
use super::error::ClientError;

/// Messages, one after the other.
#[derive(Debug)]
pub(super) enum Input {
    /// This one, unless it was given out.
    One(Option<Vec<u8>>),
    /// A line of standard input each.
    Lines(Stdin, Lines),
}

/// What there is to publish at the moment.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Next {
    Message(Vec<u8>),
    /// Ask again after [`Input::read`].
    Later,
    End,
}

/// Standard input, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Invariant: `taken <= searched <= read.len()`.
    read: Vec<u8>,
    /// Bytes at its front that were given out.
    taken: usize,
    /// Bytes at its front without the end of a line that was not given out: they are not searched again.
    searched: usize,
    ended: bool,
}

impl Input {
    /// Reads what is one message to its end.
    pub(super) fn open(args: &PubArgs) -> Result<Input, ClientError> {
        let one = |message| Ok(Input::One(Some(message)));
        match (&args.message, &args.file) {
            (Some(message), _) => one(checked(message.clone().into_bytes())?),
            (None, Some(path)) => one(read_file(path)?),
            (None, None) if args.stdin => one(read_all(io::stdin().lock(), Path::new(STDIN))?),
            (None, None) if args.lines => Ok(Input::Lines(io::stdin(), Lines::default())),
            (None, None) => one(Vec::new()),
        }
    }

    /// The next message, as far as it was read.
    pub(super) fn next(&mut self) -> Next {
        match self {
            Input::One(message) => message.take().map_or(Next::End, Next::Message),
            Input::Lines(_, lines) => lines.next(),
        }
    }

    /// What to wait for before [`read`](Self::read).
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Input::Lines(stdin, lines) if !lines.ended => Some(stdin.as_fd()),
            _ => None,
        }
    }

    /// Reads what is there, and waits only if nothing is.
    pub(super) fn read(&mut self) -> Result<(), ClientError> {
        let Input::Lines(stdin, lines) = self else {
            return Ok(());
        };
        let mut chunk = [0; CHUNK_BYTES];
        match rustix::io::read(stdin, &mut chunk) {
            Ok(len) => lines.add(&chunk[..len]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => {
                return Err(ClientError::File {
                    path: PathBuf::from(STDIN),
                    source: error.into(),
                });
            }
        }
        fits(lines.read.len())
    }
}

impl Lines {
    /// Nothing is the end.
    fn add(&mut self, bytes: &[u8]) {
        self.read.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        self.read.extend_from_slice(bytes);
        self.ended |= bytes.is_empty();
    }

    /// A last line needs no end of line.
    fn next(&mut self) -> Next {
        let end = self.read[self.searched..].iter().position(|&byte| byte == b'\n');
        match end.map(|end| self.searched + end) {
            Some(end) => Next::Message(self.take(end, end + 1)),
            None if !self.ended => {
                self.searched = self.read.len();
                Next::Later
            }
            None if self.taken == self.read.len() => Next::End,
            None => Next::Message(self.take(self.read.len(), self.read.len())),
        }
    }

    /// The line that ends at `end`; the next one begins at `next`.
    fn take(&mut self, end: usize, next: usize) -> Vec<u8> {
        let line = self.read[self.taken..end].to_vec();
        (self.taken, self.searched) = (next, next);
        line
    }
}

/// A whole file, of at most what a message can be.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ClientError> {
    let file = File::open(path).map_err(|source| ClientError::File {
        path: path.to_owned(),
        source,
    })?;
    read_all(file, path)
}

fn read_all(from: impl Read, path: &Path) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    from.take(MESSAGE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| ClientError::File {
            path: path.to_owned(),
            source,
        })?;
    checked(bytes)
}

fn checked(message: Vec<u8>) -> Result<Vec<u8>, ClientError> {
    fits(message.len()).map(|()| message)
}

fn fits(bytes: usize) -> Result<(), ClientError> {
    if bytes > MESSAGE_BYTES_MAX {
        return Err(ClientError::TooLong {
            what: "a message",
            most: MESSAGE_BYTES_MAX,
        });
    }
    Ok(())
}

/// What a packet has room for beside the longest topic, its length and the Packet Identifier.
const MESSAGE_BYTES_MAX: usize = REMAINING_LENGTH_MAX - 65_535 - 4;
/// Read at once.
const CHUNK_BYTES: usize = 16 * 1024;
const STDIN: &str = "standard input";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_wherever_they_are_cut() {
        let text = b"one\n\nthree\nlast";
        for cut in 0..=text.len() {
            let mut lines = Lines::default();
            let mut messages = Vec::new();
            // Nothing is the end, so only a cut inside makes two parts.
            let parts = [&text[..cut], &text[cut..]].into_iter().filter(|part| !part.is_empty());
            for part in parts.chain([&[][..]]) {
                lines.add(part);
                while let Next::Message(message) = lines.next() {
                    messages.push(String::from_utf8(message).unwrap());
                }
            }
            assert_eq!(lines.next(), Next::End);
            assert_eq!(messages, ["one", "", "three", "last"], "{cut}");
        }
    }
}
