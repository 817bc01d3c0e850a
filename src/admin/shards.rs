//! Asking the shards, and knowing which of them do not answer.
//!
//! A shard that runs answers within a turn; one that does not answer is stuck, or its core is taken by others. At most one
//! question for numbers is open per shard, and while one is open for too long a shard is asked nothing else, so what waits
//! in a stuck shard's control channel stays bounded.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringmq_shard::shard::{PeerBatch, ShardId, TraceId};
use thiserror::Error;

use super::server::Alarms;
use crate::runtime::doorbell::Doorbell;
use crate::runtime::executor::Control;
use crate::runtime::mesh::Mesh;
use crate::runtime::question::{Question, Reply};
use crate::runtime::report::ShardReport;
use crate::runtime::trace::{Feed, Follower};

/// The way from the admin thread to all shards.
#[derive(Debug)]
pub(super) struct Shards {
    mesh: Arc<Mesh<PeerBatch, Control>>,
    bell: Arc<Doorbell>,
    pub(super) alarms: Alarms,
    lines: RefCell<Vec<Line>>,
}

/// What is known of one shard.
#[derive(Debug)]
struct Line {
    numbers: ShardReport,
    /// When those were asked for; `None`: there are none yet.
    as_of: Option<Instant>,
    /// Asked for, and not yet answered: since when, and where the answer comes.
    open: Option<(Instant, flume::Receiver<ShardReport>)>,
}

/// One shard's numbers, and whether they are fresh.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShardState {
    /// The last that the shard told.
    pub(super) numbers: ShardReport,
    /// It answered within [`ANSWER_TIME`].
    pub(super) up: bool,
}

/// A shard that does not answer.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("shard {0} does not answer")]
pub(super) struct Silent(ShardId);

impl Shards {
    pub(super) fn new(mesh: Arc<Mesh<PeerBatch, Control>>, bell: Arc<Doorbell>) -> Shards {
        let line = |_| Line {
            numbers: ShardReport::default(),
            as_of: None,
            open: None,
        };
        Shards {
            lines: RefCell::new((0..mesh.shards()).map(line).collect()),
            mesh,
            bell,
            alarms: Alarms::default(),
        }
    }

    /// Every shard's numbers of this moment or later; of those that do not answer in time, the last that there are.
    pub(super) async fn numbers(&self) -> Vec<ShardState> {
        let begun = Instant::now();
        let until = begun + ANSWER_TIME;
        self.alarms.set(until);
        poll_fn(|_| {
            let fresh = self.look(begun);
            if fresh.iter().all(|fresh| *fresh) || Instant::now() >= until {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        let fresh = self.look(begun);
        let lines = self.lines.borrow();
        let state = |(line, up): (&Line, &bool)| ShardState {
            numbers: line.numbers,
            up: *up,
        };
        lines.iter().zip(&fresh).map(state).collect()
    }

    /// Asks one shard.
    ///
    /// # Errors
    /// It does not answer in time, or is known not to.
    pub(super) async fn ask<T>(
        &self,
        shard: ShardId,
        question: impl FnOnce(Reply<T>) -> Question,
    ) -> Result<T, Silent> {
        self.answers(shard)?;
        let (reply, answer) = self.reply();
        self.put(shard, question(reply));
        self.wait(&answer, ANSWER_TIME).await.ok_or(Silent(shard))
    }

    /// # Errors
    /// It is known not to answer: it should be asked nothing more.
    pub(super) fn answers(&self, shard: ShardId) -> Result<(), Silent> {
        // Opens a question for numbers, by whose age it is known whether the shard answers at all.
        self.look(Instant::now());
        if self.silent_for(ANSWER_TIME).contains(&shard) {
            return Err(Silent(shard));
        }
        Ok(())
    }

    /// A place for an answer that this thread waits for.
    pub(super) fn reply<T>(&self) -> (Reply<T>, flume::Receiver<T>) {
        Reply::new(&self.bell)
    }

    /// What comes there within `time`.
    pub(super) async fn wait<T>(&self, answer: &flume::Receiver<T>, time: Duration) -> Option<T> {
        let until = Instant::now() + time;
        self.alarms.set(until);
        poll_fn(|_| match answer.try_recv() {
            Ok(answer) => Poll::Ready(Some(answer)),
            Err(_) if Instant::now() >= until => Poll::Ready(None),
            Err(_) => Poll::Pending,
        })
        .await
    }

    /// A place for the records of a trace, for all shards to write to.
    pub(super) fn feed(&self) -> (Feed, Follower) {
        Feed::new(&self.bell)
    }

    /// Ends a trace on the first so many shards; each answers once it tells nothing more.
    pub(super) fn end_trace(&self, id: TraceId, shards: u16) -> Vec<flume::Receiver<()>> {
        let end = |shard| {
            let (reply, answer) = self.reply();
            self.put(shard, Question::EndTrace(id, reply));
            answer
        };
        (0..shards).map(ShardId).map(end).collect()
    }

    pub(super) fn len(&self) -> u16 {
        u16::try_from(self.mesh.shards()).expect("the configuration allows fewer shards than that")
    }

    /// The shards that have not answered for longer than a process that lives should take.
    pub(super) fn stuck(&self) -> Vec<ShardId> {
        self.look(Instant::now());
        self.silent_for(STUCK_TIME)
    }

    fn silent_for(&self, time: Duration) -> Vec<ShardId> {
        let lines = self.lines.borrow();
        let silent = |line: &Line| line.open.as_ref().is_some_and(|(since, _)| since.elapsed() >= time);
        (0..)
            .map(ShardId)
            .zip(lines.iter())
            .filter(|(_, line)| silent(line))
            .map(|(id, _)| id)
            .collect()
    }

    /// Takes answers in, and asks where none is open; for each shard whether its numbers are as of `wanted` or later.
    fn look(&self, wanted: Instant) -> Vec<bool> {
        let mut lines = self.lines.borrow_mut();
        let look = |(id, line): (ShardId, &mut Line)| {
            if let Some((since, answer)) = &line.open
                && let Ok(numbers) = answer.try_recv()
            {
                line.numbers = numbers;
                line.as_of = Some(*since);
                line.open = None;
            }
            let fresh = line.as_of.is_some_and(|as_of| as_of >= wanted);
            if !fresh && line.open.is_none() {
                let (reply, answer) = Reply::new(&self.bell);
                line.open = Some((Instant::now(), answer));
                self.put(id, Question::Numbers(reply));
            }
            fresh
        };
        (0..).map(ShardId).zip(lines.iter_mut()).map(look).collect()
    }

    fn put(&self, shard: ShardId, question: Question) {
        self.mesh.control(shard, Control::Ask(Box::new(question)));
    }
}

/// How long a request waits for a shard. A turn takes microseconds, a long one milliseconds; and who asks has limits too.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(1);
/// A shard that is silent for so long does not come back by itself.
const STUCK_TIME: Duration = Duration::from_secs(10);
