//! What inboxes and bells are made of. The model of them (`tests/models`) is compiled with parts of its own in place of
//! these, which a model checker takes through every order of events.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) use crossbeam_queue::SegQueue;
use rustix::event::{EventfdFlags, eventfd};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// What ends a sleep: an eventfd that the sleeper's ring watches. Nobody reads it; each write is an edge.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    pub(crate) fn new() -> io::Result<Alarm> {
        Ok(Alarm(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Ends the sleep that goes on, or the next one.
    pub(crate) fn sound(&self) {
        rustix::io::write(&self.0, &1u64.to_ne_bytes())
            .expect("the descriptor is open, and 2^64 rings take longer than any machine lives");
    }

    /// How often it sounded since the last call.
    #[cfg(test)]
    pub(crate) fn sounded(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
