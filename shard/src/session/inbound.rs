//! Inbound QoS 2: messages a publisher has handed over and not yet released.
//!
//! Section 4.3.3, method A: a message waits here from PUBLISH to PUBREL and is routed at PUBREL, so
//! however often the PUBLISH is repeated, subscribers see it once. Knows no store and no router.

use std::collections::BTreeMap;

use crate::codec::{PacketId, QoS};
use crate::error::SessionError;
use crate::message::{MESSAGE_MEMORY, SharedMessage};

/// What the publisher is owed for a QoS 2 PUBLISH.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Receipt {
    /// First sight of this Packet Identifier: make the message durable, then PUBREC.
    New,
    /// A repeat of a message already held: PUBREC again once that one is durable, nothing else.
    Repeat,
}

/// Messages between PUBLISH and PUBREL, by Packet Identifier; ordered, so a replay walks it alike.
///
/// Invariant: every held message is QoS 2, and `held_bytes` is the sum of their sizes.
#[derive(Debug, Default)]
pub struct InboundWindow {
    held: BTreeMap<PacketId, SharedMessage>,
    held_bytes: usize,
}

impl InboundWindow {
    /// Whether a PUBLISH with this identifier would be a repeat.
    #[must_use]
    pub fn holds(&self, id: PacketId) -> bool {
        self.held.contains_key(&id)
    }

    /// Whether a message of `size` bytes may be added. `held_max` counts messages, `bytes_max` their bytes.
    ///
    /// # Errors
    /// The connection closes, what is held stays held.
    pub fn check_room(&self, size: usize, held_max: u16, bytes_max: usize) -> Result<(), SessionError> {
        if self.held.len() >= usize::from(held_max) {
            return Err(SessionError::InboundWindowFull { held_max });
        }
        // A single message always fits: its size is bounded by the packet limit.
        if !self.held.is_empty() && self.held_bytes + size > bytes_max {
            return Err(SessionError::InboundBytesFull { bytes_max });
        }
        Ok(())
    }

    /// Takes `message` into the window. O(log held); a repeat changes nothing.
    ///
    /// The identifier alone decides what a repeat is; DUP may be set on a first sight [MQTT-4.3.3-2].
    pub fn on_publish(&mut self, id: PacketId, message: SharedMessage) -> Receipt {
        debug_assert_eq!(message.qos, QoS::ExactlyOnce);
        if self.held.contains_key(&id) {
            return Receipt::Repeat;
        }
        self.held_bytes += message.size();
        self.held.insert(id, message);
        Receipt::New
    }

    /// Gives up the message for routing; PUBCOMP is owed either way [MQTT-4.3.3-2].
    ///
    /// `None` is no error: a client that missed PUBCOMP sends PUBREL again [MQTT-4.4.0-1].
    pub fn on_pubrel(&mut self, id: PacketId) -> Option<SharedMessage> {
        if fault!(DeliverEachPubRel) {
            return self.held.get(&id).cloned();
        }
        let message = self.held.remove(&id)?;
        self.held_bytes -= message.size();
        Some(message)
    }

    /// What they hold in memory, at most.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.held_bytes + self.held.len() * MESSAGE_MEMORY
    }

    /// Messages held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::{Message, Origin};
    use crate::topic::TopicName;

    fn message(payload: &[u8]) -> SharedMessage {
        let topic = TopicName::from_checked("t");
        Arc::new(Message::new(
            topic,
            payload,
            None,
            QoS::ExactlyOnce,
            false,
            Origin::default(),
        ))
    }

    fn id(id: u16) -> PacketId {
        PacketId::new(id).unwrap()
    }

    /// [MQTT-4.3.3-2]
    #[test]
    fn repeat_is_acknowledged_and_routed_once() {
        let mut window = InboundWindow::default();
        assert_eq!(window.on_publish(id(7), message(b"first")), Receipt::New);
        assert_eq!(window.on_publish(id(7), message(b"other")), Receipt::Repeat);
        assert_eq!(window.on_pubrel(id(7)).unwrap().payload(), b"first");
        assert!(window.on_pubrel(id(7)).is_none());
        assert_eq!(window.on_publish(id(7), message(b"second")), Receipt::New);
    }

    #[test]
    fn the_window_is_bounded_in_messages_and_bytes() {
        let mut window = InboundWindow::default();
        for n in 1..=3 {
            window.check_room(5, 3, 100).unwrap();
            let _ = window.on_publish(id(n), message(b"data"));
        }
        assert_eq!(
            window.check_room(5, 3, 100),
            Err(SessionError::InboundWindowFull { held_max: 3 })
        );
        assert_eq!(
            window.check_room(5, 4, 19),
            Err(SessionError::InboundBytesFull { bytes_max: 19 })
        );
        window.on_pubrel(id(2));
        window.check_room(5, 3, 15).unwrap();
    }

    #[test]
    fn one_message_larger_than_the_byte_limit_is_still_taken() {
        assert_eq!(InboundWindow::default().check_room(1_000, 1, 10), Ok(()));
    }
}
