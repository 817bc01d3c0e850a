//! Wakes a sleeping shard, and costs a fence and a load when it is awake.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Waker;

use atomic_waker::AtomicWaker;

/// One shard's bell: everyone who leaves work for the shard rings it afterwards.
///
/// No wake-up is lost, because both sides write before they look:
///
/// ```text
/// the shard, about to sleep          whoever brings work
/// 1. register the waker              1. put the work where the shard looks
/// 2. sleeping = true                 2. fence
/// 3. fence                           3. if sleeping: sleeping = false, wake
/// 4. look for work once more
/// ```
///
/// The fences are sequentially consistent, so one comes first. If it is the shard's, the other side's look at
/// `sleeping` comes after the shard's store and sees it, and its wake finds the waker that was registered before. If it
/// is the other side's, the shard's last look comes after the work was put there and finds it. A waker that was
/// taken by an earlier, late ring has been woken by it, and the shard that runs for that reason passes 1 to 4 again
/// before it sleeps.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    /// The shard found nothing to do. Set by the shard, cleared by it or by the first who rings.
    sleeping: AtomicBool,
    /// The waker of the shard's one task.
    waker: AtomicWaker,
}

impl Doorbell {
    /// Wakes the shard if it sleeps. Call after the work is where the shard looks for it.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The shard is about to sleep: after this it must look for work once more, and call [`awake`](Self::awake) instead
    /// of sleeping if there is any.
    pub(crate) fn about_to_sleep(&self, waker: &Waker) {
        self.waker.register(waker);
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
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let (bell, count) = (Doorbell::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        bell.ring();
        bell.about_to_sleep(&waker);
        bell.ring();
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        bell.about_to_sleep(&waker);
        bell.awake();
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
