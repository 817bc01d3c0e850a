//! The deadlines of one shard. Timers are never cancelled: whoever set one checks, when it fires, whether it still means
//! anything, and a connection that lives on sets its next one then. So a packet costs no timer operation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Instant;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Timer {
    /// A connection's connect timeout or Keep Alive.
    Connection { index: u32, generation: u32 },
    /// The expiry of a disconnected session.
    SessionExpiry { index: u32, generation: u32 },
    /// The end of a connection's pause.
    Pause { index: u32, generation: u32 },
    /// The end of what a connection's verdict allowed.
    Expiry { index: u32, generation: u32 },
    /// What a connection has published is paid for.
    Rate { index: u32, generation: u32 },
    /// The patience of a session's held-back publishers.
    Holding { index: u32, generation: u32 },
}

/// Deadlines, earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// The next timer that is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        let Reverse((at, timer)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((at, timer))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
