//! The conductor of a run: phases, samples, /proc.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed},
};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::context::histogram;
use super::plan::{Pace, Plan};
use super::shared::{Phase, Shared};
use super::snapshot::{Sample, Snapshot, Usage};
use super::verdict::Verdict;
use super::worker::{Harvest, Worker};
use crate::measure::{Memory, memory};
use crate::net::{Waker, now, pin};

/// No connection coming up for so long ends a run.
const SETUP_PATIENCE: Duration = Duration::from_secs(10);
/// How often the conductor looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// After everything has arrived: what arrives twice has so long to show itself.
const LINGER: Duration = Duration::from_millis(100);
/// Memory is read once the broker has had so long to settle.
const SETTLE: Duration = Duration::from_millis(300);

/// What the progress line shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Live {
    Connecting { up: u64, all: u64 },
    Subscribing { done: u64, all: u64 },
    Running { sample: Sample, measuring: bool },
    Draining { missing: u64 },
}

/// Someone who watches a run.
pub(crate) trait Watch {
    /// Called several times a second; must not take long.
    fn look(&mut self, live: Live);
}

/// Everything that a run found out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) usage: Usage,
    pub(crate) verdict: Verdict,
    pub(crate) latency: Histogram<u64>,
    pub(crate) lag: Histogram<u64>,
    pub(crate) series: Vec<Sample>,
    pub(crate) connect_s: f64,
    /// The broker's memory before anything, with all connections up, subscribed, and after the run.
    pub(crate) memory: Option<[Memory; 4]>,
    pub(crate) reasons: Vec<String>,
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{up} of {all} connections came up, then: {reason}")]
    Connect { up: u64, all: u64, reason: String },
    #[error("{done} of {all} subscribers were confirmed, then: {reason}")]
    Subscribe { done: u64, all: u64, reason: String },
    #[error("interrupted before the run began")]
    Interrupted,
    #[error("load thread: {0}")]
    Thread(#[source] std::io::Error),
    #[error("core {core}: {source}")]
    Pin { core: usize, source: std::io::Error },
}

static INTERRUPTED: std::sync::OnceLock<Arc<AtomicBool>> = std::sync::OnceLock::new();

/// From here on Ctrl-C and SIGTERM end a run early but orderly, with its report; a second one ends the process.
///
/// # Errors
/// The system's.
pub(crate) fn watch_signals() -> std::io::Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// A signal came.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Relaxed))
}

/// Carries out `plan`. `pid` is the broker's, where its cost is asked for.
///
/// # Errors
/// [`RunError`], where the run never got to publish; afterwards, what goes wrong is counted.
pub(crate) fn run(plan: &Plan, pid: Option<u32>, watch: &mut dyn Watch) -> Result<Outcome, RunError> {
    let fan = plan.deliveries();
    let tracks_progress = plan.load.ahead > 0 && matches!(plan.load.pace, Pace::Saturate);
    let pacers = if tracks_progress { plan.pacers() } else { Vec::new() };
    let shared = Shared::new(plan.threads.count, pacers);
    let mut workers = Vec::new();
    for index in 0..plan.threads.count {
        workers.push(Worker::new(plan, &shared, &fan, index).map_err(RunError::Thread)?);
    }
    let wakers = workers.iter().map(Worker::waker).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(index, worker)| scope.spawn(move || start(plan, index, worker)))
            .collect();
        let mut conductor = Conductor {
            plan,
            fan: &fan,
            pid,
            shared: &shared,
            wakers,
            watch,
            series: Vec::new(),
        };
        let conducted = conductor.conduct();
        conductor.enter(Phase::Stop);
        let series = std::mem::take(&mut conductor.series);
        let mut harvests = Vec::new();
        for thread in threads {
            harvests.push(thread.join().expect("load threads return errors and do not panic")?);
        }
        let (usage, connect_s, memory, silent) = conducted?;
        let mut outcome = gather(plan, &fan, &harvests);
        outcome.verdict.broken = shared.broken.load(Relaxed);
        outcome.verdict.silent = silent.saturating_sub(outcome.verdict.broken);
        Ok(Outcome {
            usage,
            series,
            connect_s,
            memory,
            reasons: shared.reasons(),
            ..outcome
        })
    })
}

fn start(plan: &Plan, index: usize, worker: Worker<'_>) -> Result<Harvest, RunError> {
    if let Some(&core) = plan.threads.cores.get(index % plan.threads.cores.len().max(1)) {
        pin(core).map_err(|source| RunError::Pin { core, source })?;
    }
    worker.run().map_err(RunError::Thread)
}

fn gather(plan: &Plan, fan: &[u32], harvests: &[Harvest]) -> Outcome {
    let (mut latency, mut lag) = (histogram(), histogram());
    for harvest in harvests {
        latency.add(&harvest.latency).expect("all histograms have one range");
        lag.add(&harvest.lag).expect("all histograms have one range");
    }
    Outcome {
        usage: Usage::default(),
        verdict: Verdict::new(plan, fan, harvests),
        latency,
        lag,
        series: Vec::new(),
        connect_s: 0.0,
        memory: None,
        reasons: Vec::new(),
    }
}

struct Conductor<'a> {
    plan: &'a Plan,
    /// Deliveries that one message of each stream makes.
    fan: &'a [u32],
    pid: Option<u32>,
    shared: &'a Shared,
    wakers: Vec<Waker>,
    watch: &'a mut dyn Watch,
    series: Vec<Sample>,
}

/// Usage, seconds until all were connected, memory marks, and connections that did not answer at the end.
type Conducted = (Usage, f64, Option<[Memory; 4]>, u64);

impl Conductor<'_> {
    fn conduct(&mut self) -> Result<Conducted, RunError> {
        let before = self.memory();
        let started = now();
        let all = self.plan.connections() as u64;
        self.await_setup(
            all,
            |shared| shared.sum(|tally| &tally.connected),
            |up| Live::Connecting { up, all },
            |up, reason| RunError::Connect { up, all, reason },
        )?;
        let connect_s = (now() - started) as f64 / 1e9;
        let connected = self.settled_memory();
        // Retained messages arrive as soon as somebody subscribes, so that is where their measurement begins.
        let early = (self.plan.prior > 0).then(|| self.snapshot());
        self.enter(Phase::Subscribe);
        let all = self.plan.subscribers.len() as u64;
        self.await_setup(
            all,
            |shared| shared.sum(|tally| &tally.subscribed),
            |done| Live::Subscribing { done, all },
            |done, reason| RunError::Subscribe { done, all, reason },
        )?;
        let subscribed = if early.is_none() {
            self.settled_memory()
        } else {
            connected
        };
        let usage = self.measure(early);
        let silent = self.drain();
        let after = self.settled_memory();
        let memory = before
            .zip(connected)
            .zip(subscribed.zip(after))
            .map(|((a, b), (c, d))| [a, b, c, d]);
        Ok((usage, connect_s, memory, silent))
    }

    fn enter(&self, phase: Phase) {
        self.shared.enter(phase);
        self.wakers.iter().for_each(Waker::wake);
    }

    fn memory(&self) -> Option<Memory> {
        self.pid.and_then(memory)
    }

    fn settled_memory(&self) -> Option<Memory> {
        self.pid?;
        std::thread::sleep(SETTLE);
        self.memory()
    }

    /// Waits until `count` reaches `all`; gives up where a connection breaks or nothing moves.
    fn await_setup(
        &mut self,
        all: u64,
        count: impl Fn(&Shared) -> u64,
        live: impl Fn(u64) -> Live,
        error: impl Fn(u64, String) -> RunError,
    ) -> Result<(), RunError> {
        let (mut last, mut moved_at) = (0, now());
        loop {
            let done = count(self.shared);
            self.watch.look(live(done));
            if done >= all {
                return Ok(());
            }
            if interrupted() {
                return Err(RunError::Interrupted);
            }
            if self.shared.broken.load(Relaxed) > 0 {
                return Err(error(done, self.shared.reasons().join("; ")));
            }
            if done != last {
                (last, moved_at) = (done, now());
            }
            // A slow ramp is no standstill.
            let pause = self.plan.connect_rate.map_or(0.0, |rate| 2.0 / rate);
            if now() - moved_at > SETUP_PATIENCE.as_nanos() as u64 + (pause * 1e9) as u64 {
                return Err(error(done, format!("nothing for {} s", SETUP_PATIENCE.as_secs())));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Warm-up and measurement. With a fixed number of messages everything is measured.
    fn measure(&mut self, early: Option<Snapshot>) -> Usage {
        let start = now() + LOOK_EVERY.as_nanos() as u64;
        let warm = start + self.plan.timing.warmup.as_nanos() as u64;
        let end = self
            .plan
            .timing
            .duration
            .map_or(u64::MAX, |duration| warm + duration.as_nanos() as u64);
        self.shared.schedule_start.store(start, Relaxed);
        self.shared.measure_until.store(end, Relaxed);
        self.shared.measure_from.store(warm, Relaxed);
        // A fixed number of messages is measured from its first one.
        let mut first = early.or_else(|| self.plan.load.limit.map(|_| self.snapshot()));
        self.enter(Phase::Run);
        let mut last = self.snapshot();
        let (mut moved, mut moved_at) = (0, now());
        loop {
            std::thread::sleep(LOOK_EVERY);
            let now = now();
            if first.is_none() && now >= warm {
                first = Some(self.snapshot());
            }
            if now - last.at >= self.plan.sample_every.as_nanos() as u64 {
                let next = self.snapshot();
                self.sample(start, &last, &next, first.is_some());
                last = next;
            }
            let counted = self.shared.sum(|tally| &tally.published) + self.shared.sum(|tally| &tally.delivered);
            if counted != moved {
                (moved, moved_at) = (counted, now);
            }
            if now >= end || interrupted() || self.is_finished(now - moved_at) {
                break;
            }
        }
        let second = self.snapshot();
        self.shared.measure_until.fetch_min(second.at, Relaxed);
        first.unwrap_or_else(|| second.clone()).until(&second)
    }

    /// With a fixed number of messages: all publishers are through, or nothing moves any more.
    fn is_finished(&self, idle_ns: u64) -> bool {
        if self.plan.load.limit.is_none() {
            return false;
        }
        let through = self.shared.sum(|tally| &tally.finished) >= self.plan.publishers.len() as u64;
        let owed = self.plan.publishers.is_empty() || through;
        let arrived = self.shared.sum(|tally| &tally.distinct) >= self.expected();
        (owed && arrived) || idle_ns > self.plan.timing.drain.as_nanos() as u64
    }

    /// Deliveries that a fixed number of messages makes.
    fn expected(&self) -> u64 {
        let per_stream = self.plan.prior
            + if self.plan.publishers.is_empty() {
                0
            } else {
                self.plan.load.limit.unwrap_or(0)
            };
        self.fan.iter().map(|&fan| u64::from(fan) * per_stream).sum()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(self.shared, self.pid)
    }

    fn sample(&mut self, start: u64, last: &Snapshot, next: &Snapshot, measuring: bool) {
        let sample = last.sample(next, start);
        self.series.push(sample);
        self.watch.look(Live::Running { sample, measuring });
    }

    /// Publishers stop; waits until everything has arrived and every connection has answered, or nothing moves for as
    /// long as the plan allows. Returns how many connections did not answer.
    fn drain(&mut self) -> u64 {
        self.enter(Phase::Drain);
        let all = self.plan.connections() as u64;
        let (mut last, mut moved_at) = ((0, 0, 0), now());
        let prior: u64 = self.fan.iter().map(|&fan| u64::from(fan) * self.plan.prior).sum();
        loop {
            let stopped = self.shared.tallies.iter().all(|tally| tally.stopped.load(Acquire));
            let owed = prior + self.shared.sum(|tally| &tally.owed);
            let state = (
                self.shared.sum(|tally| &tally.delivered),
                self.shared.sum(|tally| &tally.published),
                self.shared.sum(|tally| &tally.settled),
            );
            let missing = owed.saturating_sub(self.shared.sum(|tally| &tally.distinct));
            let silent = all.saturating_sub(state.2);
            self.watch.look(Live::Draining { missing });
            if stopped && missing == 0 && silent <= self.shared.broken.load(Relaxed) {
                std::thread::sleep(LINGER);
                return silent;
            }
            if state != last {
                (last, moved_at) = (state, now());
            }
            if now() - moved_at > self.plan.timing.drain.as_nanos() as u64 {
                return silent;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
