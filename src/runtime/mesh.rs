//! The inboxes between shards, and the control channel from the process to each shard.
//!
//! An inbox is one FIFO of batches with many producers; enqueueing never waits and never fails. What must not grow
//! without bound is bounded where it comes from: a shard that put an inbox over its mark reads no socket until that
//! inbox is under its low mark. It goes on emptying its own inbox meanwhile, so no circle of full inboxes can form.

use std::io;
use std::sync::Arc;

use ringmq_shard::shard::ShardId;

use super::doorbell::Doorbell;
use super::sync::{AtomicBool, AtomicUsize, Ordering, SegQueue, fence};

/// All mailboxes of a broker: `T` are the batches between shards, `C` what the process tells a shard.
#[derive(Debug)]
pub(crate) struct Mesh<T, C> {
    mailboxes: Vec<Mailbox<T, C>>,
}

/// One shard's mailbox. Aligned so that neighbours do not share a cache line (or the pair that is fetched together).
#[derive(Debug)]
#[repr(align(128))]
struct Mailbox<T, C> {
    inbox: SegQueue<(usize, T)>,
    /// What the batches in the inbox weigh: their entries, and their messages' KiB. Raised by whoever enqueues, before; lowered by the owner, after.
    depth: AtomicUsize,
    control: flume::Sender<C>,
    control_receiver: flume::Receiver<C>,
    /// Something was sent to `control` since the owner last looked, so that a turn takes no lock to find nothing.
    control_waits: AtomicBool,
    bell: Arc<Doorbell>,
    /// By shard: it sleeps until this inbox is under its low mark. Set by that shard, cleared by the owner.
    blocked: Vec<AtomicBool>,
    /// One of `blocked` may be set.
    any_blocked: AtomicBool,
}

impl<T, C> Mesh<T, C> {
    /// # Errors
    /// There is no descriptor left for a shard's bell.
    pub(crate) fn new(shards: usize) -> io::Result<Arc<Mesh<T, C>>> {
        let mailbox = |_| {
            let (control, control_receiver) = flume::unbounded();
            Ok(Mailbox {
                inbox: SegQueue::new(),
                depth: AtomicUsize::new(0),
                control,
                control_receiver,
                control_waits: AtomicBool::new(false),
                bell: Arc::new(Doorbell::new()?),
                blocked: (0..shards).map(|_| AtomicBool::new(false)).collect(),
                any_blocked: AtomicBool::new(false),
            })
        };
        Ok(Arc::new(Mesh {
            mailboxes: (0..shards).map(mailbox).collect::<io::Result<_>>()?,
        }))
    }

    /// The place of shard `id` in the mesh. Each shard takes its own, once.
    pub(crate) fn port(self: &Arc<Self>, id: ShardId) -> Port<T, C> {
        Port {
            mesh: Arc::clone(self),
            id,
            over_mark: Vec::new(),
        }
    }

    /// Tells a shard something, and wakes it.
    pub(crate) fn control(&self, to: ShardId, message: C) {
        let mailbox = &self.mailboxes[to.index()];
        mailbox
            .control
            .send(message)
            .unwrap_or_else(|_| unreachable!("the mailbox holds the receiver"));
        mailbox.control_waits.store(true, Ordering::Release);
        mailbox.bell.ring();
    }

    pub(crate) fn shards(&self) -> usize {
        self.mailboxes.len()
    }
}

/// A shard's own mailbox, and its way to all others.
#[derive(Debug)]
pub(crate) struct Port<T, C> {
    mesh: Arc<Mesh<T, C>>,
    id: ShardId,
    /// Inboxes that this shard saw over their mark and has not yet seen under the low mark.
    over_mark: Vec<ShardId>,
}

impl<T, C> Port<T, C> {
    fn own(&self) -> &Mailbox<T, C> {
        &self.mesh.mailboxes[self.id.index()]
    }

    pub(crate) fn bell(&self) -> &Arc<Doorbell> {
        &self.own().bell
    }

    pub(crate) fn mesh(&self) -> &Arc<Mesh<T, C>> {
        &self.mesh
    }

    /// What the batches that wait for this shard weigh.
    pub(crate) fn depth(&self) -> usize {
        self.own().depth.load(Ordering::Relaxed)
    }

    /// Puts a batch that weighs this much into the inbox of `to`.
    pub(crate) fn send(&mut self, to: ShardId, weight: usize, batch: T) {
        let mailbox = &self.mesh.mailboxes[to.index()];
        let before = mailbox.depth.fetch_add(weight, Ordering::Relaxed);
        mailbox.inbox.push((weight, batch));
        mailbox.bell.ring();
        if before + weight > INBOX_HIGH_MARK && !self.over_mark.contains(&to) {
            self.over_mark.push(to);
        }
    }

    /// The next batch of this shard's inbox.
    pub(crate) fn receive(&self) -> Option<T> {
        let own = self.own();
        let (weight, batch) = own.inbox.pop()?;
        let before = own.depth.fetch_sub(weight, Ordering::Relaxed);
        if before - weight <= INBOX_LOW_MARK {
            self.unblock();
        }
        Some(batch)
    }

    /// Hands over every batch that is in the inbox at this moment.
    pub(crate) fn catch_up(&self, mut take: impl FnMut(T)) {
        let own = self.own();
        if own.inbox.is_empty() {
            return;
        }
        for _ in 0..own.inbox.len() {
            let Some(batch) = self.receive() else { return };
            take(batch);
        }
    }

    /// Wakes the shards that wait for this inbox. The fence pairs with the one in [`may_sleep`](Self::may_sleep):
    /// either that shard's last look sees the depth from before it, or this one sees the shard's mark.
    fn unblock(&self) {
        fence(Ordering::SeqCst);
        let own = self.own();
        if !own.any_blocked.load(Ordering::Relaxed) {
            return;
        }
        own.any_blocked.store(false, Ordering::SeqCst);
        for (shard, blocked) in own.blocked.iter().enumerate() {
            if blocked.swap(false, Ordering::SeqCst) {
                self.mesh.mailboxes[shard].bell.ring();
            }
        }
    }

    /// The next message of the process.
    pub(crate) fn receive_control(&self) -> Option<C> {
        let own = self.own();
        if !own.control_waits.load(Ordering::Relaxed) {
            return None;
        }
        // Cleared before the look, so that what is sent after the look sets it again.
        own.control_waits.store(false, Ordering::SeqCst);
        let message = own.control_receiver.try_recv().ok();
        if message.is_some() {
            own.control_waits.store(true, Ordering::Relaxed);
        }
        message
    }

    /// False while an inbox that this shard filled is over its mark: read no socket.
    pub(crate) fn may_read(&mut self) -> bool {
        let mailboxes = &self.mesh.mailboxes;
        self.over_mark
            .retain(|shard| mailboxes[shard.index()].depth.load(Ordering::Relaxed) > INBOX_LOW_MARK);
        self.over_mark.is_empty()
    }

    /// Announces that the shard sleeps. False: there is work, do not sleep.
    pub(crate) fn may_sleep(&mut self) -> bool {
        for shard in &self.over_mark {
            let mailbox = &self.mesh.mailboxes[shard.index()];
            mailbox.blocked[self.id.index()].store(true, Ordering::SeqCst);
            mailbox.any_blocked.store(true, Ordering::SeqCst);
        }
        self.bell().about_to_sleep();
        let was_blocked = !self.over_mark.is_empty();
        let own = self.own();
        let work = !own.inbox.is_empty() || own.control_waits.load(Ordering::Acquire);
        if work || (was_blocked && self.may_read()) {
            self.bell().awake();
            return false;
        }
        true
    }
}

/// Weight of an inbox over which the shards that fill it stop reading: as entries, some milliseconds of work for its
/// owner; as bytes of messages, 16 MiB.
const INBOX_HIGH_MARK: usize = 16 * 1024;
/// Weight under which they go on; far enough below the high mark that they do not stop and go on with each batch.
const INBOX_LOW_MARK: usize = INBOX_HIGH_MARK / 4;

#[cfg(test)]
#[path = "mesh_tests.rs"]
mod tests;
