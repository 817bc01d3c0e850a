//! Tells a service manager how the process is, by sd_notify(3): ready, reloading, stopping; and, if it asks for that, alive. Where
//! none started the process (`NOTIFY_SOCKET` is not set), nothing is said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmq_shard::shard::{PeerBatch, ShardId};
use sd_notify::NotifyState;
use tracing::warn;

use crate::runtime::doorbell::Doorbell;
use crate::runtime::executor::Control;
use crate::runtime::mesh::Mesh;
use crate::runtime::question::{Question, Reply};
use crate::runtime::report::ShardReport;

/// Clients are served.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Files are being read again; [`ready`] ends that.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "the service manager is not told of the reload"),
    }
}

/// A signal asked the process to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A manager that went away is no reason not to serve.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager cannot be told");
    }
}

/// Says that the process is alive for as long as every shard is: a shard answers between its turns, so one that hangs
/// lets the manager's patience run out, which restarts the service.
#[derive(Debug)]
pub(crate) struct Watchdog {
    mesh: Arc<Mesh<PeerBatch, Control>>,
    /// Rung by who answers; nobody sleeps on it.
    bell: Arc<Doorbell>,
    /// By shard: where the answer comes, while one is due. At most one question waits in a shard that hangs.
    due: Vec<Option<flume::Receiver<ShardReport>>>,
    every: Duration,
    next: Instant,
}

impl Watchdog {
    /// `None`: the manager does not ask for it.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(crate) fn start(mesh: &Arc<Mesh<PeerBatch, Control>>) -> std::io::Result<Option<Watchdog>> {
        let Some(patience) = sd_notify::watchdog_enabled() else {
            return Ok(None);
        };
        Ok(Some(Watchdog {
            mesh: Arc::clone(mesh),
            bell: Arc::new(Doorbell::new()?),
            due: (0..mesh.shards()).map(|_| None).collect(),
            every: patience / PULSES_PER_PATIENCE,
            next: Instant::now(),
        }))
    }

    /// When to call [`pulse`](Self::pulse).
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Says that the process is alive if every shard has answered what it was asked the last time, and asks again.
    pub(crate) fn pulse(&mut self) {
        self.next = Instant::now() + self.every;
        let mut silent = None;
        for (shard, due) in (0..).map(ShardId).zip(&mut self.due) {
            if due.as_ref().is_some_and(flume::Receiver::is_empty) {
                silent = silent.or(Some(shard));
                continue;
            }
            let (reply, answer) = Reply::new(&self.bell);
            self.mesh
                .control(shard, Control::Ask(Box::new(Question::Numbers(reply))));
            *due = Some(answer);
        }
        match silent {
            None => tell(&[NotifyState::Watchdog]),
            Some(shard) => warn!(%shard, "a shard does not answer: the service manager is not told that all is well"),
        }
    }
}

/// A pulse that is late by one turn or by a busy host must not count as none.
const PULSES_PER_PATIENCE: u32 = 4;
