//! A PUBLISH encoded ahead: sending one copies it and patches the identifier and the stamp.

use super::packet;
use super::stamp::{STAMP_BYTES, Stamp, fill};

/// One topic's PUBLISH, whole.
///
/// Invariant: `stamp_at + STAMP_BYTES <= bytes.len()`, and at QoS 1 and 2 the identifier lies in the two bytes before
/// `stamp_at`. An empty payload (`size` 0, to clear a retained message) has no stamp and `stamp_at == bytes.len()`.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Box<[u8]>,
    stamp_at: usize,
    has_id: bool,
}

impl Template {
    /// Encodes a PUBLISH for `topic` with `size` payload bytes; `size` is 0 or at least [`STAMP_BYTES`].
    pub(crate) fn new(topic: &str, qos: u8, retain: bool, size: usize) -> Template {
        assert!(
            size == 0 || size >= STAMP_BYTES,
            "a payload has a whole stamp or nothing"
        );
        let mut head = Vec::new();
        packet::string(&mut head, topic);
        if qos > 0 {
            head.extend_from_slice(&[0, 0]);
        }
        let mut bytes = vec![0x30 | qos << 1 | u8::from(retain)];
        packet::remaining_length(&mut bytes, head.len() + size);
        bytes.extend_from_slice(&head);
        let stamp_at = bytes.len();
        bytes.extend_from_slice(&fill(size));
        Template {
            bytes: bytes.into(),
            stamp_at,
            has_id: qos > 0,
        }
    }

    /// Size on the wire, bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the packet with `id` (ignored at QoS 0) and `stamp`. One copy, no allocation once `out` has its room.
    #[inline]
    pub(crate) fn append(&self, out: &mut Vec<u8>, id: u16, stamp: Stamp) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        if self.has_id {
            packet[self.stamp_at - 2..self.stamp_at].copy_from_slice(&id.to_be_bytes());
        }
        if let Some(payload) = packet[self.stamp_at..].first_chunk_mut::<STAMP_BYTES>() {
            *payload = stamp.encode();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{self, Publish};

    const STAMP: Stamp = Stamp {
        stream: 3,
        sequence: 9,
        sent_at: 77,
    };

    #[test]
    fn patched_packet_reads_back() {
        for qos in 0..=2 {
            let template = Template::new("a/b", qos, false, 20);
            let mut out = Vec::new();
            template.append(&mut out, 0x0506, STAMP);
            let frame = frame::next(&out).unwrap().unwrap();
            let publish = Publish::parse(&frame).unwrap();
            assert_eq!(
                (publish.topic, publish.qos, publish.payload.len()),
                (&b"a/b"[..], qos, 20)
            );
            assert_eq!(publish.id, if qos == 0 { 0 } else { 0x0506 });
            assert_eq!(Stamp::decode(publish.payload), Some(STAMP));
            assert_eq!(publish.payload[STAMP_BYTES..], fill(20)[STAMP_BYTES..]);
            assert_eq!(out.len(), template.len());
        }
    }

    #[test]
    fn empty_payload_clears_a_retained_message() {
        let mut out = Vec::new();
        Template::new("a", 0, true, 0).append(&mut out, 0, STAMP);
        assert_eq!(out, b"\x31\x03\x00\x01a");
    }
}
