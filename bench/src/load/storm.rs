//! Connect storms: every client connects, is greeted, disconnects, waits for the broker to close, and begins anew.
//!
//! The broker closes first, as section 3.14.4 asks of it, so that the waiting state of TCP stays with its side of the
//! connection and local ports do not run out.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::context::histogram;
use super::plan::Plan;
use super::run::{Live, Outcome, RunError, Watch, interrupted};
use super::shared::{Phase, Shared};
use super::snapshot::Snapshot;
use super::verdict::Verdict;
use crate::measure::memory;
use crate::net::{Link, Poller, Readiness, Received, connect, now, pin};
use crate::wire::frame;
use crate::wire::packet::{Connect, DISCONNECT, kind};

/// A broker that takes longer for one step than this has failed it.
const STEP_MAX_NS: u64 = 5_000_000_000;

/// Runs a storm of `plan.idle.len()` clients for `plan.timing`, or for `plan.load.limit` cycles per client. In the
/// outcome's usage, `published` counts cycles; latencies are from the start of the connection to CONNACK.
///
/// # Errors
/// [`RunError`], for threads and cores; refused connections are counted.
pub(crate) fn storm(plan: &Plan, pid: Option<u32>, watch: &mut dyn Watch) -> Result<Outcome, RunError> {
    let shared = Shared::new(plan.threads.count, Vec::new());
    let before = pid.and_then(memory);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads.count)
            .map(|index| {
                let shared = &shared;
                scope.spawn(move || {
                    if let Some(&core) = plan.threads.cores.get(index % plan.threads.cores.len().max(1)) {
                        pin(core).map_err(|source| RunError::Pin { core, source })?;
                    }
                    Storm::new(plan, shared, index)
                        .and_then(Storm::run)
                        .map_err(RunError::Thread)
                })
            })
            .collect();
        let warm = now() + plan.timing.warmup.as_nanos() as u64;
        let end = plan
            .timing
            .duration
            .map_or(u64::MAX, |duration| warm + duration.as_nanos() as u64);
        shared.measure_until.store(end, Relaxed);
        shared.measure_from.store(warm, Relaxed);
        let (mut last, mut first, mut series) = (Snapshot::take(&shared, pid), None, Vec::new());
        let start = last.at;
        loop {
            std::thread::sleep(Duration::from_millis(2));
            let now = now();
            if first.is_none() && now >= warm {
                first = Some(Snapshot::take(&shared, pid));
            }
            if now - last.at >= plan.sample_every.as_nanos() as u64 {
                let next = Snapshot::take(&shared, pid);
                let sample = last.sample(&next, start);
                series.push(sample);
                watch.look(Live::Running {
                    sample,
                    measuring: first.is_some(),
                });
                last = next;
            }
            let through = shared.sum(|tally| &tally.finished) >= plan.idle.len() as u64;
            if now >= end || interrupted() || through || threads.iter().any(|thread| thread.is_finished()) {
                break;
            }
        }
        let second = Snapshot::take(&shared, pid);
        shared.enter(Phase::Stop);
        let mut latency = histogram();
        for thread in threads {
            let times = thread.join().expect("load threads return errors and do not panic")?;
            latency.add(&times).expect("all histograms have one range");
        }
        let after = pid.and_then(memory);
        let verdict = Verdict {
            broken: shared.broken.load(Relaxed),
            ..Verdict::default()
        };
        Ok(Outcome {
            usage: first.unwrap_or_else(|| second.clone()).until(&second),
            verdict,
            latency,
            lag: histogram(),
            series,
            connect_s: 0.0,
            memory: before.zip(after).map(|(before, after)| [before, before, before, after]),
            reasons: shared.reasons(),
        })
    })
}

/// A client of the storm.
#[derive(Debug)]
struct Client {
    link: Option<Link>,
    step: Step,
    /// When its cycle began, and its present step.
    began_at: u64,
    step_at: u64,
    /// Cycles left.
    left: u64,
}

/// Where a client is in its cycle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Greeting,
    Leaving,
    Done,
}

/// One thread's clients.
struct Storm<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    index: usize,
    poller: Poller,
    /// With their place in `plan.idle`.
    clients: Vec<(usize, Client)>,
    scratch: Vec<u8>,
    packet: Vec<u8>,
    times: Histogram<u64>,
    cycles: u64,
    finished: u64,
}

impl<'a> Storm<'a> {
    fn new(plan: &'a Plan, shared: &'a Shared, index: usize) -> std::io::Result<Storm<'a>> {
        let left = plan.load.limit.unwrap_or(u64::MAX);
        let client = || Client {
            link: None,
            step: Step::Done,
            began_at: 0,
            step_at: 0,
            left,
        };
        let clients = (index..plan.idle.len())
            .step_by(plan.threads.count)
            .map(|at| (at, client()))
            .collect();
        let poller = Poller::new()?;
        let times = histogram();
        let (scratch, packet) = (vec![0; 4096], Vec::new());
        Ok(Storm {
            plan,
            shared,
            index,
            poller,
            clients,
            scratch,
            packet,
            times,
            cycles: 0,
            finished: 0,
        })
    }

    fn run(mut self) -> std::io::Result<Histogram<u64>> {
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        self.shared.tallies[self.index].tid.store(tid, Relaxed);
        for at in 0..self.clients.len() {
            self.begin(at);
        }
        let mut swept_at = now();
        while self.shared.phase() != Phase::Stop {
            self.poller.wait(Duration::from_millis(50))?;
            let ready: Vec<Readiness> = self.poller.ready().collect();
            for event in ready {
                self.handle(event);
            }
            let tally = &self.shared.tallies[self.index];
            tally.published.store(self.cycles, Relaxed);
            tally.finished.store(self.finished, Relaxed);
            if now() - swept_at > STEP_MAX_NS / 10 {
                swept_at = now();
                self.sweep(swept_at);
            }
        }
        Ok(self.times)
    }

    fn begin(&mut self, at: usize) {
        let sources = &self.plan.broker.sources;
        let (number, client) = &mut self.clients[at];
        client.link = None;
        if client.left == 0 {
            client.step = Step::Done;
            self.finished += 1;
            return;
        }
        client.left -= 1;
        client.step = Step::Greeting;
        client.began_at = now();
        client.step_at = client.began_at;
        let from = (!sources.is_empty()).then(|| sources[*number % sources.len()]);
        let broker = &self.plan.broker;
        let greeting = Connect {
            client_id: &self.plan.idle[*number],
            clean_session: broker.clean_session,
            keep_alive_s: broker.keep_alive_s,
            username: broker.username.as_deref(),
            password: broker.password.as_deref(),
        };
        self.packet.clear();
        greeting.encode(&mut self.packet);
        let outcome = connect(broker.address, from, None).and_then(|fd| {
            self.poller.add(&fd, at)?;
            let mut link = Link::with(fd, broker.transport.layers()?);
            // On one machine the connection is up by now; elsewhere this waits for the socket to become writable.
            link.send(&self.packet)?;
            Ok(link)
        });
        match outcome {
            Ok(link) => client.link = Some(link),
            // Tried again at the next sweep, so that a broker that is gone is not stormed.
            Err(error) => self.shared.connection_broke(&self.plan.idle[*number], &error),
        }
    }

    fn fail(&mut self, at: usize, why: &dyn std::fmt::Display) {
        self.shared.connection_broke(&self.plan.idle[self.clients[at].0], why);
        self.clients[at].1.link = None;
        self.clients[at].1.step_at = now();
    }

    fn handle(&mut self, event: Readiness) {
        let at = event.token;
        if let Err(error) = self.step(at, event) {
            self.fail(at, &error);
        }
    }

    fn step(&mut self, at: usize, event: Readiness) -> std::io::Result<()> {
        let client = &mut self.clients[at].1;
        let Some(link) = &mut client.link else { return Ok(()) };
        if event.writable && link.pending() > 0 {
            link.flush()?;
        }
        if !event.readable {
            return Ok(());
        }
        loop {
            let len = match link.receive(&mut self.scratch)? {
                Received::Bytes { len, .. } => len,
                Received::Nothing => return Ok(()),
                Received::Closed if client.step == Step::Leaving => {
                    self.cycles += 1;
                    self.begin(at);
                    return Ok(());
                }
                Received::Closed => return Err(std::io::Error::other("closed before CONNACK")),
            };
            let bytes = &self.scratch[..len];
            match frame::next(bytes).map_err(std::io::Error::other)? {
                Some(frame) if frame.first >> 4 == kind::CONNACK && client.step == Step::Greeting => {
                    if frame.body != [0, 0] {
                        return Err(std::io::Error::other(format!("CONNACK {:?}", frame.body)));
                    }
                    let now = now();
                    if now >= self.shared.measure_from.load(Relaxed) {
                        self.times.saturating_record(now - client.began_at);
                    }
                    link.send(&DISCONNECT)?;
                    (client.step, client.step_at) = (Step::Leaving, now);
                }
                Some(frame) => return Err(std::io::Error::other(format!("packet type {}", frame.first >> 4))),
                None => link.keep(bytes),
            }
            if !event.hung_up {
                return Ok(());
            }
        }
    }

    /// Gives up steps that take too long, and begins anew where a cycle failed.
    fn sweep(&mut self, now: u64) {
        for at in 0..self.clients.len() {
            let client = &self.clients[at].1;
            let late = now.saturating_sub(client.step_at) > STEP_MAX_NS;
            if client.step == Step::Done {
                continue;
            }
            if client.link.is_none() {
                self.begin(at);
            } else if late {
                let step = client.step;
                self.fail(
                    at,
                    &format_args!("nothing for {} s while {step:?}", STEP_MAX_NS / 1_000_000_000),
                );
            }
        }
    }
}
