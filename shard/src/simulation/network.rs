//! Sockets between clients and shards: two bounded streams of bytes, and how they end.

use std::collections::VecDeque;

use crate::codec::{decode, frame_len};
use crate::shard::ConnId;

/// Where the broker's end of a socket is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// A connection of this shard.
    At(usize, ConnId),
    /// On its way to its home.
    Moving,
    /// Closed.
    Gone,
}

#[derive(Debug)]
pub(super) struct Socket {
    /// Whose; `None`: somebody who never says.
    pub(super) client: Option<usize>,
    pub(super) place: Place,
    pub(super) to_broker: VecDeque<u8>,
    pub(super) to_client: VecDeque<u8>,
    /// The client's end is gone.
    pub(super) cut: bool,
    /// The shard has ended the connection; what it had to say is still written.
    pub(super) closing: bool,
    /// What the shard has been given of an incomplete packet.
    tap_in: Vec<u8>,
    /// What the client has been given of an incomplete packet.
    tap_out: Vec<u8>,
}

impl Socket {
    pub(super) fn new(client: Option<usize>, place: Place) -> Socket {
        Socket {
            client,
            place,
            to_broker: VecDeque::new(),
            to_client: VecDeque::new(),
            cut: false,
            closing: false,
            tap_in: Vec::new(),
            tap_out: Vec::new(),
        }
    }

    /// The client's end goes; only the first `kept` bytes of what it sent still arrive.
    pub(super) fn cut(&mut self, kept: usize) {
        self.cut = true;
        self.to_broker.truncate(kept);
        self.to_client.clear();
    }

    /// How many bytes to read so that the read ends with a packet, if one is whole.
    pub(super) fn packet_end(&self) -> usize {
        let mut bytes = self.tap_in.clone();
        bytes.extend(self.to_broker.iter().take(16));
        let missing = match frame_len(&bytes, usize::MAX) {
            Ok(Some(len)) => len - self.tap_in.len(),
            _ => self.to_broker.len(),
        };
        missing.min(self.to_broker.len())
    }

    /// Takes bytes that the shard is about to read; returns the packets that they complete.
    pub(super) fn read(&mut self, count: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let bytes: Vec<u8> = self.to_broker.drain(..count).collect();
        let frames = self.tap_in(&bytes);
        (bytes, frames)
    }

    /// The packets that these bytes for the shard complete.
    pub(super) fn tap_in(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.tap_in.extend_from_slice(bytes);
        take_frames(&mut self.tap_in)
    }

    /// Bytes of an incomplete packet that the shard has.
    pub(super) fn unfinished(&self) -> usize {
        self.tap_in.len()
    }

    /// The connection moved: its new shard is given everything again.
    pub(super) fn rewind(&mut self) {
        self.tap_in.clear();
        self.place = Place::Moving;
    }

    /// Bytes that the shard wrote; returns the packets that they complete.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        if !self.cut {
            self.to_client.extend(bytes);
        }
        self.tap_out.extend_from_slice(bytes);
        take_frames(&mut self.tap_out)
    }
}

fn take_frames(stream: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut used = 0;
    while let Some(decoded) = decode(&stream[used..], usize::MAX).expect("both sides send packets") {
        frames.push(stream[used..used + decoded.len].to_vec());
        used += decoded.len;
    }
    stream.drain(..used);
    frames
}
