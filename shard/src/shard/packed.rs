//! Small messages on their way to another shard: copied one behind another into their batch.
//!
//! A message of its own memory costs its sender two allocations and its receiver two releases of memory that another
//! thread allocated, which is more than all else about crossing. Here a batch has two buffers for all its messages, and
//! the receiver makes a [`SharedMessage`](crate::message::SharedMessage) of its own of those that must be kept.

use super::event::ShardId;
use super::outgoing::Outgoing;
use super::peer::Recipients;
use crate::codec::QoS;
use crate::message::Origin;
use crate::router::GroupRef;
use crate::topic::TopicName;

/// What the packed messages of a batch consist of, in their order.
#[derive(Debug, Default)]
pub(crate) struct PackedBytes {
    /// Topic Names.
    topics: String,
    payloads: Vec<u8>,
    /// Shared groups that they were chosen for.
    groups: Vec<GroupRef>,
}

/// One of them, without its bytes.
#[derive(Debug)]
pub(crate) struct PackedMessage {
    sequence: u64,
    sticky: Option<u32>,
    topic_len: u16,
    payload_len: u16,
    groups: u16,
    qos: QoS,
    retain: bool,
    plain: bool,
}

impl PackedBytes {
    /// Copies a message. `None`: it is too large for that.
    pub(super) fn add(&mut self, out: &Outgoing<'_>, to: Recipients<'_>) -> Option<PackedMessage> {
        if out.size() > PACKED_BYTES_MAX {
            return None;
        }
        let groups = u16::try_from(to.groups.len()).ok()?;
        let topic = out.topic.as_str();
        self.topics.push_str(topic);
        self.payloads.extend_from_slice(out.payload);
        self.groups.extend_from_slice(to.groups);
        let checked = |len: usize| u16::try_from(len).expect("at most PACKED_BYTES_MAX");
        Some(PackedMessage {
            sequence: out.origin.sequence,
            sticky: to.sticky,
            topic_len: checked(topic.len()),
            payload_len: checked(out.payload.len()),
            groups,
            qos: out.qos,
            retain: out.retain,
            plain: to.plain,
        })
    }
}

impl PackedMessage {
    /// Topic Name and payload, in bytes.
    pub(super) fn size(&self) -> usize {
        usize::from(self.topic_len) + usize::from(self.payload_len)
    }
}

/// Takes the packed messages of a batch out again, in their order.
pub(super) struct Unpacker<'a> {
    from: ShardId,
    topics: &'a str,
    payloads: &'a [u8],
    groups: &'a [GroupRef],
}

impl<'a> Unpacker<'a> {
    /// At the first message of a batch from that shard.
    pub(super) fn new(bytes: &'a PackedBytes, from: ShardId) -> Unpacker<'a> {
        Unpacker {
            from,
            topics: &bytes.topics,
            payloads: &bytes.payloads,
            groups: &bytes.groups,
        }
    }

    /// The next message.
    ///
    /// # Panics
    /// If it is not of this batch.
    pub(super) fn next(&mut self, message: &PackedMessage) -> (Outgoing<'a>, Recipients<'a>) {
        let (topic, payload, groups);
        (topic, self.topics) = self.topics.split_at(message.topic_len.into());
        (payload, self.payloads) = self.payloads.split_at(message.payload_len.into());
        (groups, self.groups) = self.groups.split_at(message.groups.into());
        let mut out = Outgoing::borrowed(
            TopicName::from_checked(topic),
            payload,
            None,
            message.qos,
            message.retain,
        );
        out.origin = Origin {
            shard: self.from,
            sequence: message.sequence,
        };
        let to = Recipients {
            plain: message.plain,
            groups,
            sticky: message.sticky,
        };
        (out, to)
    }
}

/// Topic Name and payload of a message that is copied for each shard that it goes to; larger ones are shared by all.
const PACKED_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicLimits;

    fn message<'a>(topic: &'a str, payload: &'a [u8], sequence: u64) -> Outgoing<'a> {
        let topic = TopicName::new(topic, &TopicLimits::default()).unwrap();
        let mut out = Outgoing::borrowed(topic, payload, None, QoS::AtLeastOnce, sequence % 2 == 1);
        out.origin = Origin {
            shard: ShardId(3),
            sequence,
        };
        out
    }

    fn group(index: u32) -> GroupRef {
        GroupRef { index, tag: 1 }
    }

    const PLAIN: Recipients<'_> = Recipients {
        plain: true,
        groups: &[],
        sticky: None,
    };

    #[test]
    fn messages_come_out_as_they_went_in_and_in_their_order() {
        let longest = [7; PACKED_BYTES_MAX - 1];
        let (two, one) = ([group(4), group(5)], [group(6)]);
        let of_groups = Recipients {
            plain: false,
            groups: &two,
            sticky: Some(8),
        };
        let of_both = Recipients { groups: &one, ..PLAIN };
        let sent = [
            (message("a/ü", b"one", 1), of_groups),
            (message("b", b"", 2), PLAIN),
            (message("c", &longest, 9), of_both),
        ];
        let mut bytes = PackedBytes::default();
        let packed: Vec<_> = sent.iter().map(|(out, to)| bytes.add(out, *to).unwrap()).collect();
        let mut unpacker = Unpacker::new(&bytes, ShardId(3));
        for (packed, (sent, to)) in packed.iter().zip(&sent) {
            let (mut got, got_to) = unpacker.next(packed);
            assert_eq!(got_to, *to);
            assert_eq!(packed.size(), sent.size());
            assert_eq!((got.topic.as_str(), got.payload), (sent.topic.as_str(), sent.payload));
            let kept = got.shared();
            assert_eq!(
                (kept.qos, kept.retain, kept.origin),
                (sent.qos, sent.retain, sent.origin)
            );
        }
    }

    #[test]
    fn a_larger_message_leaves_nothing_in_the_batch() {
        let mut bytes = PackedBytes::default();
        assert!(bytes.add(&message("c", &[7; PACKED_BYTES_MAX], 1), PLAIN).is_none());
        assert!(bytes.topics.is_empty() && bytes.payloads.is_empty());
    }
}
