//! The parts of inboxes and bells as the model checker knows them. None promises more than the real one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize as Plain, Ordering::SeqCst};

use loom::sync::{Condvar, Mutex};

pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};

/// Stores by swapping: the checker lets a swap and a store of another thread be in either order *after* the swap has read
/// what came before the store, which no machine does.
#[derive(Debug)]
pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

impl AtomicBool {
    pub(crate) fn new(value: bool) -> AtomicBool {
        AtomicBool(loom::sync::atomic::AtomicBool::new(value))
    }

    pub(crate) fn load(&self, ordering: Ordering) -> bool {
        self.0.load(ordering)
    }

    pub(crate) fn store(&self, value: bool, ordering: Ordering) {
        self.0.swap(value, ordering);
    }

    pub(crate) fn swap(&self, value: bool, ordering: Ordering) -> bool {
        self.0.swap(value, ordering)
    }
}

thread_local! {
    /// Off: fences do nothing, as if they had been forgotten.
    pub(crate) static FENCES: Cell<bool> = const { Cell::new(true) };
}

pub(crate) fn fence(ordering: Ordering) {
    if FENCES.get() {
        loom::sync::atomic::fence(ordering);
    }
}

/// A FIFO whose length may be seen late: it orders nothing but its own entries.
#[derive(Debug)]
pub(crate) struct SegQueue<T> {
    entries: Mutex<VecDeque<T>>,
    len: AtomicUsize,
}

impl<T> SegQueue<T> {
    pub(crate) fn new() -> SegQueue<T> {
        SegQueue {
            entries: Mutex::new(VecDeque::new()),
            len: AtomicUsize::new(0),
        }
    }

    pub(crate) fn push(&self, entry: T) {
        self.entries.lock().unwrap().push_back(entry);
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let entry = self.entries.lock().unwrap().pop_front();
        self.len.fetch_sub(1, Ordering::Relaxed);
        entry
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An eventfd and the ring that watches it: a wake ends the sleep that goes on, or the next one.
#[derive(Debug)]
pub(crate) struct Alarm {
    pending: Mutex<bool>,
    came: Condvar,
    /// Of this model's run; the checker need not see it.
    sounded: Plain,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Alarm> {
        Ok(Alarm {
            pending: Mutex::new(false),
            came: Condvar::new(),
            sounded: Plain::new(0),
        })
    }

    pub(crate) fn sound(&self) {
        self.sounded.fetch_add(1, SeqCst);
        *self.pending.lock().unwrap() = true;
        self.came.notify_one();
    }

    /// Sleeps. A wake that never comes is what the checker calls a deadlock.
    pub(crate) fn sleep(&self) {
        let mut pending = self.pending.lock().unwrap();
        while !*pending {
            pending = self.came.wait(pending).unwrap();
        }
        *pending = false;
    }

    pub(crate) fn sounded(&self) -> usize {
        self.sounded.load(SeqCst)
    }
}
