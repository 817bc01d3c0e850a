//! An Application Message that outlives the packet it came in.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::codec::QoS;
use crate::shard::ShardId;
use crate::topic::TopicName;

/// A message that waits, is in flight, is retained, or travels between shards. Shared, never changed.
///
/// Topic Name and payload lie in one allocation: a small message is copied out of the receive buffer so that it does
/// not keep that alive; a large one is a slice of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Topic Name at the front, payload at the end; between them what lay there on the wire.
    frame: Bytes,
    topic_len: u16,
    payload_len: u32,
    /// As published; what a subscriber gets is the lesser of this and its grant [MQTT-3.8.4-6].
    pub qos: QoS,
    /// As published.
    pub retain: bool,
    /// Which message this is.
    pub origin: Origin,
}

/// A message, shared between the queues and shards that hold it.
pub type SharedMessage = Arc<Message>;

/// Names a message in the whole broker: the shard its publisher lives on, and a number that rises with each message
/// published there.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    /// The publisher's home.
    pub shard: ShardId,
    /// Rises by one for each message routed on that shard.
    pub sequence: u64,
}

impl Message {
    /// Takes topic and payload out of `source`, the buffer that both are slices of, without copying if it is worth it;
    /// else copies them.
    #[must_use]
    pub fn new(
        topic: TopicName<'_>,
        payload: &[u8],
        source: Option<&Bytes>,
        qos: QoS,
        retain: bool,
        origin: Origin,
    ) -> Message {
        let topic = topic.as_str();
        let frame = match source {
            Some(source) if payload.len() >= SHARED_BYTES_MIN => {
                let (start, end) = (
                    offset_in(source, topic.as_bytes()),
                    offset_in(source, payload) + payload.len(),
                );
                source.slice(start..end)
            }
            _ => {
                let mut frame = BytesMut::with_capacity(topic.len() + payload.len());
                frame.extend_from_slice(topic.as_bytes());
                frame.extend_from_slice(payload);
                frame.freeze()
            }
        };
        Message {
            frame,
            topic_len: u16::try_from(topic.len()).expect("a Topic Name has at most 65 535 bytes"),
            payload_len: u32::try_from(payload.len()).expect("a packet has less than 256 MiB"),
            qos,
            retain,
            origin,
        }
    }

    /// The same message under another name; topic and payload are shared.
    #[must_use]
    pub fn with_origin(&self, origin: Origin) -> Message {
        Message { origin, ..self.clone() }
    }

    /// The Topic Name.
    #[must_use]
    pub fn topic(&self) -> TopicName<'_> {
        TopicName::from_checked(self.topic_str())
    }

    fn topic_str(&self) -> &str {
        let topic = &self.frame[..usize::from(self.topic_len)];
        std::str::from_utf8(topic).expect("copied from a str")
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[self.frame.len() - self.payload_len as usize..]
    }

    /// The payload as a slice that keeps the message's memory alive.
    #[must_use]
    pub fn payload_shared(&self) -> Bytes {
        self.frame.slice(self.frame.len() - self.payload_len as usize..)
    }

    /// Topic Name and payload, in bytes: what queues count.
    #[must_use]
    pub fn size(&self) -> usize {
        usize::from(self.topic_len) + self.payload_len as usize
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.topic_str(), self.payload_len)
    }
}

/// Where `part` begins in `whole`.
fn offset_in(whole: &Bytes, part: &[u8]) -> usize {
    let offset = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    assert!(
        offset <= whole.len() && part.len() <= whole.len() - offset,
        "the packet was decoded from its source"
    );
    offset
}

/// What a kept message costs beside its bytes: its own fields, the counts and headers of two allocations, and its place in
/// a queue, which may have grown to twice what it holds. Measured figures are lower; this is for an upper bound.
pub const MESSAGE_MEMORY: usize = 192;

/// From this payload size a message is shared rather than copied, into queues and into outputs. Copying this much costs
/// about as much as the reference counts and the extra segment of a vectored write.
pub const SHARED_BYTES_MIN: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicLimits;

    fn name(topic: &str) -> TopicName<'_> {
        TopicName::new(topic, &TopicLimits::default()).unwrap()
    }

    #[test]
    fn a_large_payload_is_shared_and_a_small_one_copied() {
        let mut wire = b"a/b\x00\x01".to_vec();
        wire.extend_from_slice(&[7; SHARED_BYTES_MIN]);
        let wire = Bytes::from(wire);
        let topic = std::str::from_utf8(&wire[..3]).unwrap();
        let large = Message::new(
            name(topic),
            &wire[5..],
            Some(&wire),
            QoS::AtLeastOnce,
            false,
            Origin::default(),
        );
        assert_eq!(large.payload().as_ptr(), wire[5..].as_ptr());
        assert_eq!((large.topic().as_str(), large.payload()), ("a/b", &wire[5..]));
        assert_eq!(large.size(), 3 + SHARED_BYTES_MIN);

        let small = Message::new(
            name(topic),
            &wire[5..9],
            Some(&wire),
            QoS::AtLeastOnce,
            false,
            Origin::default(),
        );
        assert_ne!(small.payload().as_ptr(), wire[5..].as_ptr());
        assert_eq!((small.topic().as_str(), small.payload()), ("a/b", &[7; 4][..]));
    }
}
