//! What an operator asks a shard, by way of its control channel; the shard answers between its events, never in the middle of
//! one.
//!
//! Each question is bounded work: what could be long is asked for in pages. An answer nobody waits for any more is lost,
//! which harms nobody.

use std::sync::Arc;

use super::doorbell::Doorbell;
use super::report::ShardReport;

/// A question to one shard.
#[derive(Debug)]
pub(crate) enum Question {
    /// What it counts, as of now.
    Numbers(Reply<ShardReport>),
}

/// Where the answer goes: to be sent once.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    answer: flume::Sender<T>,
    /// Of whoever waits.
    bell: Arc<Doorbell>,
}

impl<T> Reply<T> {
    /// A place for one answer, and where it can be fetched from.
    pub(crate) fn new(bell: &Arc<Doorbell>) -> (Reply<T>, flume::Receiver<T>) {
        let (answer, answered) = flume::bounded(1);
        let bell = Arc::clone(bell);
        (Reply { answer, bell }, answered)
    }

    /// Never waits: there is room for the one answer.
    pub(crate) fn send(self, answer: T) {
        let _ = self.answer.try_send(answer);
        self.bell.ring();
    }
}
