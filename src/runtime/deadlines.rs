//! The few deadlines that are about sockets rather than about MQTT: a close that must end, an output that must move.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ringmq_shard::shard::ConnId;
use ringmq_shard::time::Instant;

/// Looked at when `at` has passed. What it was for may be settled by then, so nothing is ever taken out early.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) kind: DeadlineKind,
    pub(crate) conn: u32,
    pub(crate) generation: u32,
}

/// What a deadline is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum DeadlineKind {
    /// A step of the close sequence must have ended.
    Close,
    /// The output must have moved.
    Write,
}

/// At most three deadlines per connection, ordered by time.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<Deadline>>,
}

impl Deadlines {
    pub(crate) fn add(&mut self, at: Instant, kind: DeadlineKind, conn: ConnId, generation: u32) {
        self.heap.push(Reverse(Deadline {
            at,
            kind,
            conn: conn.0,
            generation,
        }));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(deadline)| deadline.at)
    }

    /// The earliest deadline, if `now` is not before it.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Deadline> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(deadline)| deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_not_before_their_time() {
        let mut deadlines = Deadlines::default();
        let at = Instant::from_millis;
        deadlines.add(at(20), DeadlineKind::Write, ConnId(2), 1);
        deadlines.add(at(10), DeadlineKind::Close, ConnId(1), 1);
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.pop_due(at(9)), None);
        assert_eq!(deadlines.pop_due(at(20)).map(|deadline| deadline.conn), Some(1));
        assert_eq!(deadlines.pop_due(at(20)).map(|deadline| deadline.conn), Some(2));
        assert_eq!(deadlines.pop_due(at(20)), None);
    }
}
