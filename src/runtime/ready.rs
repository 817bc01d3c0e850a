//! Which sockets became readable or writable while the shard slept.
//!
//! No connection has a task. The executor's reactor wakes a waker that knows one registration; it notes the
//! registration here and rings the shard's bell.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use ringmq_shard::shard::ConnId;

use super::doorbell::Doorbell;

/// What a poll was registered for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    /// Something to read, or the end.
    Read,
    /// Room to write, or the end.
    Write,
}

/// A registration that fired. The generation tells a connection from an earlier one with the same number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fired {
    pub(crate) conn: ConnId,
    pub(crate) generation: u32,
    pub(crate) direction: Direction,
}

/// The registrations of one shard that fired since it last looked. Filled and emptied by the shard's own thread; the
/// lock is there because a waker could be called from anywhere, and is never contended.
#[derive(Debug)]
pub(crate) struct ReadyList {
    fired: Mutex<Vec<Fired>>,
    bell: Arc<Doorbell>,
}

impl ReadyList {
    pub(crate) fn new(bell: Arc<Doorbell>) -> Arc<ReadyList> {
        Arc::new(ReadyList {
            fired: Mutex::default(),
            bell,
        })
    }

    /// A waker for one registration. Allocates; so does the registration itself.
    pub(crate) fn waker(self: &Arc<Self>, registration: Fired) -> Waker {
        Waker::from(Arc::new(PollWaker {
            list: Arc::clone(self),
            registration,
        }))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fired.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Puts what fired into `into`, which must be empty; the two buffers are exchanged.
    pub(crate) fn take(&self, into: &mut Vec<Fired>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.fired.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

#[derive(Debug)]
struct PollWaker {
    list: Arc<ReadyList>,
    registration: Fired,
}

impl Wake for PollWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.list
            .fired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.registration);
        self.list.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fired_is_taken_once_in_order() {
        let list = ReadyList::new(Arc::default());
        let key = |conn| Fired {
            conn: ConnId(conn),
            generation: 7,
            direction: Direction::Read,
        };
        list.waker(key(1)).wake();
        list.waker(key(2)).wake_by_ref();
        let mut fired = Vec::new();
        list.take(&mut fired);
        assert_eq!(fired, [key(1), key(2)]);
        assert!(list.is_empty());
    }
}
