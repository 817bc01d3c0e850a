//! The publisher's side of QoS 1 and 2: which acknowledgements are owed, and in which order they must come.

use std::collections::BTreeSet;

/// One kind of acknowledgement (PUBACK, PUBREC or PUBCOMP) on one connection.
///
/// Identifiers are handed out 1, 2, … 65 535, 1, …, one per message, so a message's number gives its identifier and
/// back. Acknowledgements must come in the order of the messages [MQTT-4.6.0-2], [MQTT-4.6.0-3].
///
/// Invariant: every entry of `early` is at least `next + 1`.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// The lowest message that is not acknowledged.
    next: u64,
    /// Messages acknowledged ahead of it.
    early: BTreeSet<u64>,
    /// Acknowledgements that came out of order.
    pub(crate) reordered: u64,
    /// Acknowledgements for which no message was open.
    pub(crate) unexpected: u64,
}

/// Packet Identifiers in use, and so the most messages in flight.
const IDS: u64 = 65_535;

/// The Packet Identifier of message number `message`.
#[inline]
pub(crate) fn id_of(message: u64) -> u16 {
    (message % IDS + 1) as u16
}

impl Acks {
    /// Takes an acknowledgement, `started` messages having been sent; `true` where it was owed. O(1) in order.
    #[inline]
    pub(crate) fn take(&mut self, id: u16, started: u64) -> bool {
        if self.early.is_empty() && id == id_of(self.next) && self.next < started {
            self.next += 1;
            return true;
        }
        self.take_out_of_step(id, started)
    }

    #[cold]
    fn take_out_of_step(&mut self, id: u16, started: u64) -> bool {
        let ahead = (u64::from(id) + IDS - u64::from(id_of(self.next))) % IDS;
        let message = self.next + ahead;
        if id == 0 || message >= started || self.early.contains(&message) {
            self.unexpected += 1;
            return false;
        }
        if ahead == 0 {
            self.next += 1;
            while self.early.remove(&self.next) {
                self.next += 1;
            }
        } else {
            self.reordered += 1;
            self.early.insert(message);
        }
        true
    }

    /// Messages acknowledged.
    #[inline]
    pub(crate) fn taken(&self) -> u64 {
        self.next + self.early.len() as u64
    }

    /// Messages before which everything is acknowledged.
    #[inline]
    pub(crate) fn settled(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_skip_zero_and_wrap() {
        assert_eq!((id_of(0), id_of(65_534), id_of(65_535)), (1, 65_535, 1));
    }

    #[test]
    fn orderly_acknowledgements_count_up_across_the_wrap() {
        let mut acks = Acks::default();
        for message in 0..70_000 {
            assert!(acks.take(id_of(message), message + 1));
        }
        assert_eq!((acks.taken(), acks.reordered, acks.unexpected), (70_000, 0, 0));
    }

    #[test]
    fn a_swapped_pair_is_reordered_once() {
        let mut acks = Acks::default();
        assert!(acks.take(2, 3));
        assert_eq!((acks.taken(), acks.settled()), (1, 0));
        assert!(acks.take(1, 3));
        assert_eq!((acks.taken(), acks.settled(), acks.reordered), (2, 2, 1));
    }

    #[test]
    fn repeated_and_unknown_acknowledgements_are_unexpected() {
        let mut acks = Acks::default();
        assert!(acks.take(1, 1));
        assert!(!acks.take(1, 1));
        assert!(!acks.take(9, 1));
        assert!(!acks.take(0, 1));
        assert_eq!(acks.unexpected, 3);
    }

    #[test]
    fn a_missing_acknowledgement_holds_the_window() {
        let mut acks = Acks::default();
        for id in [1, 3, 4, 5] {
            assert!(acks.take(id, 5));
        }
        assert_eq!((acks.taken(), acks.settled()), (4, 1));
    }
}
