//! What all connections of one load thread share.

use std::sync::atomic::Ordering::Relaxed;

use hdrhistogram::Histogram;

use super::plan::{Load, Pace};
use super::shared::Shared;
use super::track::GroupBits;
use crate::wire::stamp::{STAMP_BYTES, Stamp, fill};

/// One message in so many is timed, a power of two. In a closed loop latency is a by-product; in an open loop and with
/// a fixed number of messages, every message is timed.
pub(crate) fn timed_one_in(load: &Load) -> u64 {
    if matches!(load.pace, Pace::Saturate) && load.limit.is_none() {
        16
    } else {
        1
    }
}

/// Thread-wide state; one thread writes it.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) load: Load,
    /// Time of the last read; every message of that read is stamped with it.
    pub(crate) now: u64,
    /// Scratch for packets about to be written.
    pub(crate) out: Vec<u8>,
    /// What follows the stamp in every payload.
    fill: Vec<u8>,
    pub(crate) groups: Vec<GroupBits>,
    /// Totals since the start, see [`super::shared::Tally`].
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) distinct: u64,
    /// Deliveries of `run_stream` not yet added to the shared progress.
    run_stream: u32,
    run_len: u64,
    /// Interval in which latencies count.
    measure_from: u64,
    measure_until: u64,
    sample_mask: u64,
    /// Nanoseconds from intended sending to arrival.
    pub(crate) latency: Histogram<u64>,
    /// Open loop: nanoseconds from intended to actual sending.
    pub(crate) lag: Histogram<u64>,
}

/// Longest latency that is told apart: ten minutes.
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// A histogram of nanoseconds, three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("1 ns to ten minutes at three digits is a valid range")
}

impl<'a> Context<'a> {
    pub(crate) fn new(shared: &'a Shared, load: Load, groups: usize) -> Context<'a> {
        Context {
            shared,
            load,
            now: 0,
            out: Vec::new(),
            fill: fill(load.size).split_off(STAMP_BYTES.min(load.size)),
            groups: vec![GroupBits::default(); groups],
            published: 0,
            delivered: 0,
            distinct: 0,
            run_stream: 0,
            run_len: 0,
            measure_from: u64::MAX,
            measure_until: u64::MAX,
            sample_mask: timed_one_in(&load) - 1,
            latency: histogram(),
            lag: histogram(),
        }
    }

    /// Takes over the interval of measurement; once per turn.
    pub(crate) fn refresh(&mut self, now: u64) {
        self.now = now;
        self.measure_from = self.shared.measure_from.load(Relaxed);
        self.measure_until = self.shared.measure_until.load(Relaxed);
    }

    /// Whether `rest` is what follows the stamp in a payload of this run.
    #[inline]
    pub(crate) fn is_fill(&self, rest: &[u8]) -> bool {
        rest == self.fill
    }

    /// A message was sent in the interval of measurement, so its latency counts, whenever it arrives.
    #[inline]
    pub(crate) fn record_latency(&mut self, stamp: Stamp) {
        let sent_at = self.now - stamp.age(self.now).min(self.now);
        if stamp.sequence & self.sample_mask == 0 && sent_at >= self.measure_from && sent_at < self.measure_until {
            self.latency.saturating_record(self.now - sent_at);
        }
    }

    /// The schedule was kept but for `lag` nanoseconds.
    pub(crate) fn record_lag(&mut self, lag: u64) {
        if self.now >= self.measure_from && self.now < self.measure_until {
            self.lag.saturating_record(lag);
        }
    }

    /// A delivery on `stream` to the subscriber that paces as `pacer`. Neighbours are added up first: one shared
    /// addition per run of messages from one publisher.
    #[inline]
    pub(crate) fn progress(&mut self, stream: u32, pacer: u32) {
        if self.shared.pacers.get(stream as usize) != Some(&pacer) {
            return;
        }
        if stream != self.run_stream {
            self.flush_progress();
            self.run_stream = stream;
        }
        self.run_len += 1;
    }

    /// Adds what [`Context::progress`] holds back; at the end of each read.
    #[inline]
    pub(crate) fn flush_progress(&mut self) {
        if self.run_len > 0 {
            if let Some(delivered) = self.shared.progress.get(self.run_stream as usize) {
                delivered.fetch_add(self.run_len, Relaxed);
            }
            self.run_len = 0;
        }
    }
}
