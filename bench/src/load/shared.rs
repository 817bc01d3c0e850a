//! What the conductor and the load threads share: one phase, and counters that each thread alone writes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Where a run is. The conductor moves it forward, threads follow.
///
/// ```text
/// Connect ──▶ Subscribe ──▶ Run ──▶ Drain ──▶ Stop
/// ```
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections come up at the connection rate.
    Connect,
    /// Subscribers subscribe.
    Subscribe,
    /// Publishers publish: warm-up and measurement alike.
    Run,
    /// Publishers have stopped; what is under way arrives.
    Drain,
    /// Threads disconnect and return.
    Stop,
}

/// Counters of one load thread. Written by that thread alone, relaxed, once per turn of its loop.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    /// Kernel's thread identifier, for its CPU time.
    pub(crate) tid: AtomicU32,
    pub(crate) connected: AtomicU64,
    pub(crate) subscribed: AtomicU64,
    /// Messages given to the kernel (QoS 0) or acknowledged (QoS 1 and 2).
    pub(crate) published: AtomicU64,
    /// PUBLISH packets that subscribers received, duplicates and all.
    pub(crate) delivered: AtomicU64,
    /// Different messages that subscribers received.
    pub(crate) distinct: AtomicU64,
    /// Publishers that have sent [`super::plan::Load::limit`] messages and hold every acknowledgement.
    pub(crate) finished: AtomicU64,
    /// Connections that answered the PINGREQ of the drain.
    pub(crate) settled: AtomicU64,
    /// Deliveries owed for everything that this thread's publishers sent; valid once `stopped`.
    pub(crate) owed: AtomicU64,
    /// The thread has seen [`Phase::Drain`] and sends no more messages.
    pub(crate) stopped: AtomicBool,
}

/// The shared state of a run.
#[derive(Debug)]
pub(crate) struct Shared {
    phase: AtomicU8,
    /// Start of the schedule, and the interval in which latencies count; monotonic nanoseconds, `u64::MAX` before it
    /// is known.
    pub(crate) schedule_start: AtomicU64,
    pub(crate) measure_from: AtomicU64,
    pub(crate) measure_until: AtomicU64,
    pub(crate) tallies: Vec<Tally>,
    /// For each stream, who paces its publisher, for [`super::plan::Load::ahead`]; empty where that is off.
    pub(crate) pacers: Vec<u32>,
    /// For each stream, what that subscriber has received of it.
    pub(crate) progress: Vec<AtomicU64>,
    /// Connections that ended before they should have.
    pub(crate) broken: AtomicU64,
    /// The first few reasons, for the report.
    reasons: Mutex<Vec<String>>,
}

/// Reasons kept; the rest is only counted.
const REASONS_MAX: usize = 5;

impl Shared {
    pub(crate) fn new(threads: usize, pacers: Vec<u32>) -> Shared {
        Shared {
            phase: AtomicU8::new(Phase::Connect as u8),
            schedule_start: AtomicU64::new(u64::MAX),
            measure_from: AtomicU64::new(u64::MAX),
            measure_until: AtomicU64::new(u64::MAX),
            tallies: (0..threads).map(|_| Tally::default()).collect(),
            progress: pacers.iter().map(|_| AtomicU64::new(0)).collect(),
            pacers,
            broken: AtomicU64::new(0),
            reasons: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(std::sync::atomic::Ordering::Acquire) {
            0 => Phase::Connect,
            1 => Phase::Subscribe,
            2 => Phase::Run,
            3 => Phase::Drain,
            _ => Phase::Stop,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, std::sync::atomic::Ordering::Release);
    }

    /// Sum of one counter over all threads.
    pub(crate) fn sum(&self, counter: impl Fn(&Tally) -> &AtomicU64) -> u64 {
        self.tallies.iter().map(|tally| counter(tally).load(Relaxed)).sum()
    }

    /// Notes that a connection ended early.
    pub(crate) fn connection_broke(&self, who: &str, why: &dyn std::fmt::Display) {
        self.broken.fetch_add(1, Relaxed);
        let mut reasons = self
            .reasons
            .lock()
            .expect("no thread panics while it holds the list of reasons");
        if reasons.len() < REASONS_MAX {
            reasons.push(format!("{who}: {why}"));
        }
    }

    pub(crate) fn reasons(&self) -> Vec<String> {
        self.reasons
            .lock()
            .expect("no thread panics while it holds the list of reasons")
            .clone()
    }
}
