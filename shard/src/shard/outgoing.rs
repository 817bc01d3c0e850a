//! A message that is being routed: borrowed while it goes to connections, owned from the first place that keeps it.

use std::sync::Arc;

use bytes::Bytes;

use super::output::{Output, SpareBuffers};
use crate::codec::{PacketId, PublishHead, QoS, encode_publish_head};
use crate::message::{Message, Origin, SHARED_BYTES_MIN, SharedMessage};
use crate::session::SessionKey;
use crate::topic::TopicName;

/// A message on its way from one publisher to many sessions.
pub(super) struct Outgoing<'a> {
    pub(super) topic: TopicName<'a>,
    pub(super) payload: &'a [u8],
    pub(super) qos: QoS,
    /// RETAIN as published; live subscribers get 0 [MQTT-3.3.1-9].
    pub(super) retain: bool,
    pub(super) origin: Origin,
    /// Who can be held back for it.
    pub(super) publisher: Option<SessionKey>,
    source: Option<&'a Bytes>,
    /// The same message with another origin: its memory is used again.
    kept: Option<&'a Message>,
    shared: Option<SharedMessage>,
}

impl<'a> Outgoing<'a> {
    /// From the bytes it came in; `source` is the buffer that topic and payload are slices of, if it may be kept.
    pub(super) fn borrowed(
        topic: TopicName<'a>,
        payload: &'a [u8],
        source: Option<&'a Bytes>,
        qos: QoS,
        retain: bool,
    ) -> Outgoing<'a> {
        let origin = Origin::default();
        Outgoing {
            topic,
            payload,
            qos,
            retain,
            origin,
            publisher: None,
            source,
            kept: None,
            shared: None,
        }
    }

    /// From a message that is owned already, its origin included.
    pub(super) fn owned(message: &'a SharedMessage) -> Outgoing<'a> {
        Outgoing {
            topic: message.topic(),
            payload: message.payload(),
            qos: message.qos,
            retain: message.retain,
            origin: message.origin,
            publisher: None,
            source: None,
            kept: None,
            shared: Some(Arc::clone(message)),
        }
    }

    /// From a message that is kept but has not been routed: it gets its origin now.
    pub(super) fn released(message: &'a Message) -> Outgoing<'a> {
        let (topic, payload) = (message.topic(), message.payload());
        Outgoing {
            kept: Some(message),
            ..Outgoing::borrowed(topic, payload, None, message.qos, message.retain)
        }
    }

    /// The message, to keep. Copied at most once, whoever asks.
    pub(super) fn shared(&mut self) -> SharedMessage {
        let shared = self.shared.get_or_insert_with(|| {
            Arc::new(match self.kept {
                Some(kept) => kept.with_origin(self.origin),
                None => Message::new(
                    self.topic,
                    self.payload,
                    self.source,
                    self.qos,
                    self.retain,
                    self.origin,
                ),
            })
        });
        Arc::clone(shared)
    }

    pub(super) fn size(&self) -> usize {
        self.topic.as_str().len() + self.payload.len()
    }

    /// Appends the PUBLISH for one subscriber: DUP 0, RETAIN 0.
    pub(super) fn append(&mut self, output: &mut Output, spare: &mut SpareBuffers, qos: QoS, id: Option<PacketId>) {
        let head = PublishHead {
            dup: false,
            qos,
            retain: fault!(RetainLive),
            topic: self.topic.as_str(),
            packet_id: id,
            payload_len: self.payload.len(),
        };
        if self.payload.len() >= SHARED_BYTES_MIN {
            encode_publish_head(output.append(spare).buffer, &head);
            output.append_shared(self.shared().payload_shared());
        } else {
            let appender = output.append(spare);
            encode_publish_head(appender.buffer, &head);
            appender.buffer.extend_from_slice(self.payload);
        }
    }
}

/// Appends the PUBLISH of a kept message.
pub(super) fn append_message(output: &mut Output, spare: &mut SpareBuffers, message: &Message, flags: SendFlags) {
    let payload = message.payload();
    let head = PublishHead {
        dup: flags.dup,
        qos: flags.qos,
        retain: flags.retain,
        topic: message.topic().as_str(),
        packet_id: flags.packet_id,
        payload_len: payload.len(),
    };
    if payload.len() >= SHARED_BYTES_MIN {
        encode_publish_head(output.append(spare).buffer, &head);
        output.append_shared(message.payload_shared());
    } else {
        let appender = output.append(spare);
        encode_publish_head(appender.buffer, &head);
        appender.buffer.extend_from_slice(payload);
    }
}

/// What the fixed header of an outbound PUBLISH says, and its identifier.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendFlags {
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) packet_id: Option<PacketId>,
}
