//! Carries what a shard tells of what an operator follows to the thread that writes it down. A shard never waits for that: what
//! finds no room is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ringmq_shard::shard::{Shard, ShardId, TooManyTraces, Trace, TraceId, Traced, TracedEvent, TracedPacket};
use ringmq_shard::time::Instant;

use super::doorbell::Doorbell;
use super::sockets::Sockets;
use crate::transport::Peer;

/// Something that happened, and when and where.
#[derive(Debug)]
pub(crate) struct TraceRecord {
    /// At the end of the turn that it happened in.
    pub(crate) at: SystemTime,
    pub(crate) shard: ShardId,
    /// Of a CONNECT, while its socket is open.
    pub(crate) peer: Option<Peer>,
    pub(crate) traced: Traced,
}

/// Where the records of one trace go, from all shards.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    records: flume::Sender<TraceRecord>,
    /// Beyond what may be told, or for which there was no room.
    untold: Arc<AtomicU64>,
    /// Of whoever reads.
    bell: Arc<Doorbell>,
}

/// The other end of a [`Feed`].
#[derive(Debug)]
pub(crate) struct Follower {
    records: flume::Receiver<TraceRecord>,
    untold: Arc<AtomicU64>,
}

impl Feed {
    pub(crate) fn new(bell: &Arc<Doorbell>) -> (Feed, Follower) {
        let (sender, records) = flume::bounded(WAITING_MAX);
        let untold = Arc::<AtomicU64>::default();
        let feed = Feed {
            records: sender,
            untold: Arc::clone(&untold),
            bell: Arc::clone(bell),
        };
        (feed, Follower { records, untold })
    }

    fn leave_out(&self, count: u64) {
        self.untold.fetch_add(count, Ordering::Relaxed);
    }
}

impl Follower {
    pub(crate) fn next(&self) -> Option<TraceRecord> {
        self.records.try_recv().ok()
    }

    /// Records that were left out since this was last asked.
    pub(crate) fn take_untold(&self) -> u64 {
        self.untold.swap(0, Ordering::Relaxed)
    }
}

/// The traces of one shard.
#[derive(Debug)]
pub(super) struct Traces {
    shard: ShardId,
    feeds: Vec<(TraceId, Feed)>,
    /// When as much may be told again as at first.
    second_ends: Instant,
}

impl Traces {
    pub(super) fn new(shard: ShardId) -> Traces {
        Traces {
            shard,
            feeds: Vec::new(),
            second_ends: Instant::default(),
        }
    }

    pub(super) fn begin(&mut self, shard: &mut Shard, trace: Trace, feed: Feed) -> Result<(), TooManyTraces> {
        let id = trace.id;
        shard.trace(trace)?;
        self.feeds.push((id, feed));
        Ok(())
    }

    pub(super) fn end(&mut self, shard: &mut Shard, sockets: &Sockets, now: Instant, id: TraceId) {
        self.tell(shard, sockets, now);
        let untold = shard.end_trace(id);
        if let Some(at) = self.feeds.iter().position(|(of, _)| *of == id) {
            let (_, feed) = self.feeds.remove(at);
            feed.leave_out(untold.unwrap_or(0));
        }
    }

    /// When the shard should be looked at again, though nothing happens: what was left out is told soon, too.
    pub(super) fn next_deadline(&self, shard: &Shard) -> Option<Instant> {
        (shard.is_tracing() && shard.has_untold()).then_some(self.second_ends)
    }

    /// Passes on what the shard has told. Worth a call at the end of each turn while it is tracing.
    pub(super) fn tell(&mut self, shard: &mut Shard, sockets: &Sockets, now: Instant) {
        let mut rings = false;
        while let Some(traced) = shard.poll_traced() {
            let Some(feed) = feed(&self.feeds, traced.trace) else {
                continue;
            };
            let connects = matches!(traced.event, TracedEvent::Received(TracedPacket::Connect { .. }));
            let record = TraceRecord {
                at: SystemTime::now(),
                shard: self.shard,
                peer: connects.then(|| sockets.peer(traced.conn)).flatten(),
                traced,
            };
            if feed.records.try_send(record).is_err() {
                feed.leave_out(1);
            }
            rings = true;
        }
        if now >= self.second_ends {
            self.second_ends = now + Duration::from_secs(1);
            for (id, untold) in shard.begin_traced_second() {
                if let Some(feed) = feed(&self.feeds, id) {
                    feed.leave_out(untold);
                }
            }
        }
        if rings {
            self.feeds[0].1.bell.ring();
        }
    }
}

fn feed(feeds: &[(TraceId, Feed)], id: TraceId) -> Option<&Feed> {
    feeds.iter().find(|(of, _)| *of == id).map(|(_, feed)| feed)
}

/// Records that wait to be written, of one trace and all shards: some 500 KiB, with the longest payloads 8 MiB; two seconds at the usual rate.
const WAITING_MAX: usize = 2_000;
