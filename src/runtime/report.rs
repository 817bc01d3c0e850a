//! Each shard's numbers, where the others can read them: written by its shard at an interval, never per message.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use ringmq_shard::shard::ShardId;
use ringmq_shard::stats::Stats;

use super::sockets::SocketCounters;

/// What one shard and its thread did since the start, and hold at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShardReport {
    pub(crate) stats: Stats,
    pub(crate) sockets: SocketCounters,
    pub(crate) turns: u64,
    /// Passes through the executor.
    pub(crate) sleeps: u64,
    /// What waits in the inbox: entries, and KiB of messages. Gauge.
    pub(crate) inbox: usize,
}

/// The latest report of each shard, and what the listener counts.
#[derive(Debug)]
pub(crate) struct Reports {
    shards: Vec<Mutex<ShardReport>>,
    /// Sockets accepted and handed to a shard.
    pub(crate) accepted: AtomicU64,
    /// Sockets closed at once: the limit of connections was reached.
    pub(crate) rejected: AtomicU64,
}

impl Reports {
    pub(crate) fn new(shards: usize) -> Reports {
        Reports {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    pub(crate) fn put(&self, shard: ShardId, report: ShardReport) {
        *self.shards[shard.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// By shard.
    pub(crate) fn all(&self) -> Vec<ShardReport> {
        self.shards
            .iter()
            .map(|shard| *shard.lock().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}
