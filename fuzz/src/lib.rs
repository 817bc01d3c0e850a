//! What all targets share: a heap that knows how much of it is in use.
//!
//! A body is a function of the crate it tests, so that a plain test replays its corpus; a target is one line around it.
//! Only what needs the whole process is here: no input may make a body use more memory than its target says, nor keep
//! any when it returns.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `body`, which may use up to `bytes_max` at a time and must give all of it back.
///
/// # Panics
/// If it uses more, or keeps some twice for the same input: once may be a table that is made with its first use.
pub fn within(bytes_max: usize, mut body: impl FnMut()) {
    plant_fault();
    for attempt in 1..=2 {
        let before = HEAP.in_use.load(Ordering::Relaxed);
        HEAP.peak.store(before, Ordering::Relaxed);
        body();
        let peak = HEAP.peak.load(Ordering::Relaxed) - before;
        assert!(peak <= bytes_max, "{peak} bytes in use at a time, {bytes_max} allowed");
        let after = HEAP.in_use.load(Ordering::Relaxed);
        if after == before {
            return;
        }
        assert!(attempt == 1, "{} bytes leaked", after.wrapping_sub(before));
    }
}

/// Makes the fault act that `RINGMQ_FAULT` names, on the thread that runs the bodies.
#[cfg(feature = "planted-faults")]
fn plant_fault() {
    use ringmq_shard::fault::Fault;
    use std::sync::Once;

    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let name = std::env::var("RINGMQ_FAULT").expect("RINGMQ_FAULT names the fault");
        let fault = Fault::ALL.iter().find(|fault| format!("{fault:?}") == name);
        fault.expect("RINGMQ_FAULT is one of the planted faults").plant();
    });
}

#[cfg(not(feature = "planted-faults"))]
const fn plant_fault() {}

struct CountingHeap {
    in_use: AtomicUsize,
    /// The most in use since it was last set.
    peak: AtomicUsize,
}

impl CountingHeap {
    fn add(&self, bytes: usize) {
        let in_use = self.in_use.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(in_use, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.in_use.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[global_allocator]
static HEAP: CountingHeap = CountingHeap {
    in_use: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
};

// SAFETY: every call goes to `System` unchanged; only sizes are counted.
unsafe impl GlobalAlloc for CountingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.remove(layout.size());
        // SAFETY: as above; `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.add(new_size);
        self.remove(layout.size());
        // SAFETY: as above; `block` came from `System`.
        unsafe { System.realloc(block, layout, new_size) }
    }
}
