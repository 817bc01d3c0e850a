//! What waits to be written to one connection.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Bytes for one socket, in order: small packets copied together, large payloads shared.
///
/// An empty output owns no memory. Invariants: `pending_bytes` is the sum of what the segments still hold, and no
/// segment is empty; a copied one begins with a packet, and a shared one is the payload of the packet before it.
#[derive(Debug, Default)]
pub struct Output {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are written already.
    written: usize,
    pending_bytes: usize,
}

#[derive(Debug)]
enum Segment {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Segment {
    fn as_slice(&self) -> &[u8] {
        match self {
            Segment::Copied(bytes) => bytes,
            Segment::Shared(bytes) => bytes,
        }
    }
}

impl Output {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending_bytes
    }

    /// What it holds in memory, at most; a payload that others share counts in full.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        if self.pending_bytes == 0 {
            0
        } else {
            self.pending_bytes + SPARE_BYTES_MIN
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending_bytes == 0
    }

    /// The first unwritten bytes, contiguous; empty if nothing waits.
    #[must_use]
    pub fn first_chunk(&self) -> &[u8] {
        self.segments
            .front()
            .map_or(&[], |segment| &segment.as_slice()[self.written..])
    }

    /// Fills `chunks` with what waits, for one vectored write; returns how many are filled.
    pub fn chunks<'a>(&'a self, chunks: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, segment) in chunks.iter_mut().zip(&self.segments) {
            let skip = if filled == 0 { self.written } else { 0 };
            *slot = IoSlice::new(&segment.as_slice()[skip..]);
            filled += 1;
        }
        filled
    }

    /// The segments from their first bytes on, those that are written among them: copied packets, each from its first byte on, or the
    /// payload of the last one of those before it. And how many bytes of them are written.
    pub(super) fn segments(&self) -> (impl Iterator<Item = Piece<'_>>, usize) {
        let pieces = self.segments.iter().map(|segment| match segment {
            Segment::Copied(bytes) => Piece::Packets(bytes),
            Segment::Shared(bytes) => Piece::Payload(bytes),
        });
        (pieces, self.written)
    }

    /// How many segments wait: 1 means that [`first_chunk`](Self::first_chunk) is all there is.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Forgets the first `written` bytes: the socket took them.
    ///
    /// # Panics
    /// If `written` is more than what waits.
    pub fn advance(&mut self, written: usize, spare: &mut SpareBuffers) {
        assert!(
            written <= self.pending_bytes,
            "the socket cannot take more than it was given"
        );
        self.pending_bytes -= written;
        let mut left = written;
        while left > 0 {
            let segment = self
                .segments
                .front()
                .expect("pending_bytes counts the segments")
                .as_slice()
                .len();
            let unwritten = segment - self.written;
            if left < unwritten {
                self.written += left;
                return;
            }
            left -= unwritten;
            self.written = 0;
            if let Some(Segment::Copied(buffer)) = self.segments.pop_front() {
                spare.put(buffer);
            }
        }
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
        }
    }

    /// The buffer to append small packets to.
    pub(crate) fn append<'a>(&'a mut self, spare: &mut SpareBuffers) -> Appender<'a> {
        let full = match self.segments.back() {
            Some(Segment::Copied(buffer)) => buffer.len() >= SEGMENT_BYTES_MAX,
            _ => true,
        };
        if full {
            self.segments.push_back(Segment::Copied(spare.take()));
        }
        let Some(Segment::Copied(buffer)) = self.segments.back_mut() else {
            unreachable!("a copied segment was pushed above");
        };
        let before = buffer.len();
        Appender {
            buffer,
            before,
            pending_bytes: &mut self.pending_bytes,
        }
    }

    /// Appends `bytes` without copying them.
    pub(crate) fn append_shared(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.pending_bytes += bytes.len();
            self.segments.push_back(Segment::Shared(bytes));
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, spare: &mut SpareBuffers) {
        let all = self.pending_bytes;
        self.advance(all, spare);
    }
}

/// A segment, for who reads an output again.
pub(super) enum Piece<'a> {
    /// Whole packets; the payload of the last one may follow as the next piece.
    Packets(&'a [u8]),
    /// Of the PUBLISH before it; the first piece if that is written.
    Payload(&'a [u8]),
}

/// The tail of an [`Output`], open for appending; counts what was added when it goes.
pub(crate) struct Appender<'a> {
    pub(crate) buffer: &'a mut Vec<u8>,
    before: usize,
    pending_bytes: &'a mut usize,
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        *self.pending_bytes += self.buffer.len() - self.before;
    }
}

/// Empty buffers that outputs take from and give back to, so that a busy connection does not allocate and an idle
/// one owns nothing.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
}

impl SpareBuffers {
    fn take(&mut self) -> Vec<u8> {
        self.buffers
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(SPARE_BYTES_MIN))
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

/// A copied segment that is this long takes no more packets, so that a buffer is reused rather than grown on and on.
const SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// Spare buffers kept: as many connections as a turn typically writes to.
const SPARE_BUFFERS_MAX: usize = 256;
/// First capacity of a buffer: a few acknowledgements or one small PUBLISH.
const SPARE_BYTES_MIN: usize = 512;
/// A buffer that grew beyond this is given back to the allocator.
const SPARE_BYTES_MAX: usize = 2 * SEGMENT_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_at_every_write_size() {
        for step in 1..=12 {
            let mut spare = SpareBuffers::default();
            let mut output = Output::default();
            output.append(&mut spare).buffer.extend_from_slice(b"abc");
            output.append_shared(Bytes::from_static(b"defg"));
            output.append(&mut spare).buffer.extend_from_slice(b"hi");
            output.append(&mut spare).buffer.extend_from_slice(b"j");
            assert_eq!((output.len(), output.segment_count()), (10, 3));
            let mut seen = Vec::new();
            while !output.is_empty() {
                let mut slots = [IoSlice::new(&[]); 2];
                let filled = output.chunks(&mut slots);
                let chunk: Vec<u8> = slots[..filled].iter().flat_map(|slot| slot.iter().copied()).collect();
                let taken = chunk.len().min(step);
                seen.extend_from_slice(&chunk[..taken]);
                output.advance(taken, &mut spare);
            }
            assert_eq!(seen, b"abcdefghij");
            assert!(output.first_chunk().is_empty());
        }
    }

    #[test]
    fn an_emptied_output_gives_its_buffer_back() {
        let mut spare = SpareBuffers::default();
        let mut output = Output::default();
        output.append(&mut spare).buffer.extend_from_slice(b"abc");
        output.clear(&mut spare);
        assert_eq!(spare.buffers.len(), 1);
        assert_eq!(output.segments.capacity(), 0);
    }
}
