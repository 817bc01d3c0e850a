//! Wakes a sleeping shard, and costs a fence and a load when it is awake.

use std::io;
use std::sync::Arc;
use std::task::Wake;

use super::sync::{Alarm, AtomicBool, Ordering, fence};

/// One shard's bell: everyone who leaves work for the shard rings it afterwards.
///
/// No wake-up is lost, because both sides write before they look:
///
/// ```text
/// the shard, about to sleep          whoever brings work
/// 1. sleeping = true                 1. put the work where the shard looks
/// 2. fence                           2. fence
/// 3. look for work once more         3. if sleeping: sleeping = false, write to the descriptor
/// 4. sleep until the descriptor
///    is written to
/// ```
///
/// The fences are sequentially consistent, so one comes first. If it is the shard's, the other side's look at
/// `sleeping` comes after the shard's store and sees it, and it writes to the descriptor, which ends the sleep whether
/// it comes before or after its begin. If it is the other side's, the shard's last look comes after the work was
/// put there and finds it. `tests/models` goes through every order of these steps.
#[derive(Debug)]
pub(crate) struct Doorbell {
    /// The shard found nothing to do. Set by the shard, cleared by it or by the first who rings.
    sleeping: AtomicBool,
    alarm: Alarm,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Doorbell> {
        Ok(Doorbell {
            sleeping: AtomicBool::new(false),
            alarm: Alarm::new()?,
        })
    }

    /// Wakes the shard if it sleeps. Call after the work is where the shard looks for it.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.alarm.sound();
        }
    }

    /// The shard is about to sleep: after this it must look for work once more, and call [`awake`](Self::awake) instead
    /// of sleeping if there is any.
    pub(crate) fn about_to_sleep(&self) {
        self.sleeping.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The shard runs: nobody needs to wake it.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether the next ring wakes somebody.
    #[cfg(test)]
    pub(crate) fn is_armed(&self) -> bool {
        self.sleeping.load(Ordering::Acquire)
    }

    /// What the shard sleeps on.
    pub(crate) fn descriptor(&self) -> &Alarm {
        &self.alarm
    }
}

/// Wakes whoever polls futures and sleeps on the descriptor.
impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let bell = Doorbell::new().unwrap();
        bell.ring();
        assert_eq!(bell.descriptor().sounded(), 0);
        bell.about_to_sleep();
        bell.ring();
        bell.ring();
        assert_eq!(bell.descriptor().sounded(), 1);
        bell.about_to_sleep();
        bell.awake();
        bell.ring();
        assert_eq!(bell.descriptor().sounded(), 0);
    }
}
