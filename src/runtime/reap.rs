//! A pass through the executor that does not sleep.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use glommio::io::{PollState, PollableFd};
use rustix::event::{EventfdFlags, eventfd};

/// Returns a task to its executor for as long as the ring takes to submit and to answer what is ready.
///
/// The executor looks at its ring only when no task is ready to run, and then sleeps unless something woke one. A
/// registration for a descriptor that is always readable is answered as it is submitted, so it does both: the ring is
/// entered, and the task runs again at once. (A timer rings a millisecond later at best, and a task that yields goes
/// round without the ring.)
#[derive(Debug)]
pub(crate) struct Reaper {
    always_readable: PollableFd<OwnedFd>,
    poll: PollState,
}

impl Reaper {
    pub(crate) fn new() -> io::Result<Reaper> {
        let always_readable = eventfd(1, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Reaper {
            always_readable: PollableFd::new(always_readable)?,
            poll: PollState::new(),
        })
    }

    /// Wakes the task of `cx` after the next pass.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>) {
        // The registration of the last pass, answered or not.
        self.poll = PollState::new();
        match self.always_readable.poll_readable(cx, &mut self.poll) {
            Poll::Pending => {}
            Poll::Ready(_) => cx.waker().wake_by_ref(),
        }
    }
}
