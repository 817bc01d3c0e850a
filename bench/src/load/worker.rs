//! One load thread: its connections, and the loop that turns them.
//!
//! A turn: follow the phase, let publishers send, publish the counters, wait, handle what is ready. Publishers that can
//! send stand in `active`, those whose subscribers lag in `starved`, sockets that were not read dry in `unread`; a
//! connection stands in `active` or `starved` at most once (`Conn::queued`). What a phase begins with is in [`super::phases`].

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::conn::{Conn, ConnError, Part, Role, Stage};
use super::context::Context;
use super::plan::{Pace, Plan};
use super::publisher::{Publisher, Pumped, Slots};
use super::ramp::Ramp;
use super::shared::{Phase, Shared, Tally};
use super::subscriber::Subscriber;
use super::track::GroupBits;
use crate::net::{Poller, Readiness, Waker, now};
use crate::wire::packet::DISCONNECT;

/// Receive buffer of a thread; holds several batches, and never less than two packets.
const SCRATCH_BYTES: usize = 256 * 1024;

/// Few subscribers among many publishers are read again after so many events, and not once per turn: a broker's in-flight
/// window for each of them would otherwise be answered once per turn of thousands of publishers, and so limit the run.
const PEEK_EVERY: usize = 32;
/// More subscribers than this on one thread are not few, and get their reads often enough.
const PEEK_MAX: usize = 32;

/// Longest sleep: bounds how stale the counters get.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// A load thread.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    poller: Poller,
    side: Side<'a>,
}

/// What a load thread brings home.
#[derive(Debug)]
pub(crate) struct Harvest {
    pub(crate) latency: Histogram<u64>,
    pub(crate) lag: Histogram<u64>,
    pub(crate) groups: Vec<GroupBits>,
    pub(crate) publishers: Vec<Publisher>,
    /// With their place in the plan.
    pub(crate) subscribers: Vec<(usize, Subscriber)>,
}

/// Everything but the poller, whose events are walked while this changes.
#[derive(Debug)]
pub(super) struct Side<'a> {
    pub(super) plan: &'a Plan,
    /// Deliveries that one message of each stream makes.
    pub(super) fan: &'a [u32],
    pub(super) shared: &'a Shared,
    pub(super) index: usize,
    pub(super) cx: Context<'a>,
    pub(super) conns: Vec<Conn>,
    pub(super) scratch: Vec<u8>,
    pub(super) active: Vec<usize>,
    pub(super) starved: Vec<usize>,
    pub(super) unread: Vec<usize>,
    pub(super) ramp: Ramp,
    pub(super) phase: Phase,
    /// Connections that publish, in the order of the schedule.
    pub(super) publishers: Vec<usize>,
    /// Subscribers that are read again within a turn, see [`PEEK_EVERY`].
    few: std::ops::Range<usize>,
    /// Open loop: the next slot and the time between two, nanoseconds.
    pub(super) slot: u64,
    pub(super) slots: Option<Slots>,
    /// Keep alive: who pings next, when, and the time between two.
    pub(super) ping_at: u64,
    pub(super) ping_next: usize,
    pub(super) ping_every: u64,
    pub(super) settled: u64,
    pub(super) finished: u64,
}

impl<'a> Worker<'a> {
    /// A thread that plays every `threads`-th entry of each list of the plan, from `index` on; so the publisher and
    /// the subscriber of a pair share a thread.
    ///
    /// # Errors
    /// The system's, where descriptors have run out.
    pub(crate) fn new(plan: &'a Plan, shared: &'a Shared, fan: &'a [u32], index: usize) -> std::io::Result<Worker<'a>> {
        let mine = |len: usize| (index..len).step_by(plan.threads.count);
        let mut conns = Vec::new();
        conns.extend(mine(plan.subscribers.len()).map(|at| Conn::new(Part::Subscriber(at), plan, fan)));
        conns.extend(mine(plan.idle.len()).map(|at| Conn::new(Part::Idle(at), plan, fan)));
        let first_publisher = conns.len();
        conns.extend(mine(plan.publishers.len()).map(|at| Conn::new(Part::Publisher(at), plan, fan)));
        let publishers: Vec<usize> = (first_publisher..conns.len()).collect();
        let subscribers = mine(plan.subscribers.len()).len();
        let few = if subscribers <= PEEK_MAX && publishers.len() > PEEK_EVERY {
            0..subscribers
        } else {
            0..0
        };
        let rate = plan.connect_rate.map(|rate| rate / plan.threads.count as f64);
        let keep_alive_ns = u64::from(plan.broker.keep_alive_s) * 1_000_000_000;
        let side = Side {
            plan,
            fan,
            shared,
            index,
            cx: Context::new(shared, plan.load, plan.groups),
            ramp: Ramp::new(rate, conns.len()),
            ping_every: (keep_alive_ns / 2).checked_div(conns.len() as u64).unwrap_or(0),
            conns,
            scratch: vec![0; SCRATCH_BYTES.max(2 * (plan.load.size + 65_535))],
            active: Vec::new(),
            starved: Vec::new(),
            unread: Vec::new(),
            phase: Phase::Connect,
            publishers,
            few,
            slot: 0,
            slots: None,
            ping_at: u64::MAX,
            ping_next: 0,
            settled: 0,
            finished: 0,
        };
        Ok(Worker {
            poller: Poller::new()?,
            side,
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// Turns until [`Phase::Stop`].
    ///
    /// # Errors
    /// The poller's; connections' errors are counted instead.
    pub(crate) fn run(mut self) -> std::io::Result<Harvest> {
        let side = &mut self.side;
        side.tally()
            .tid
            .store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Relaxed);
        // Wake-ups of an open loop should come when they were asked for, not 50 µs later.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        loop {
            let phase = self.side.shared.phase();
            if phase == Phase::Stop {
                return Ok(self.side.into_harvest());
            }
            self.side.cx.refresh(now());
            self.side.follow(phase, &self.poller)?;
            self.side.turn();
            self.side.report();
            if self.side.naps() {
                std::thread::sleep(self.side.plan.threads.nap);
            }
            self.poller.wait(self.side.sleep())?;
            for (count, event) in self.poller.ready().enumerate() {
                self.side.handle(event);
                if (count + 1).is_multiple_of(PEEK_EVERY) {
                    self.side.peek();
                }
            }
        }
    }
}

impl Side<'_> {
    pub(super) fn tally(&self) -> &Tally {
        &self.shared.tallies[self.index]
    }

    /// Lets every publisher that can send one batch, and reads on where a read was cut short.
    fn turn(&mut self) {
        for at in std::mem::take(&mut self.starved) {
            self.conns[at].queued = false;
            self.activate(at);
        }
        for at in std::mem::take(&mut self.active) {
            self.conns[at].queued = false;
            match self.conns[at].pump(&mut self.cx) {
                Ok(Pumped::Again) => self.activate(at),
                Ok(Pumped::Starved) => {
                    self.conns[at].queued = true;
                    self.starved.push(at);
                }
                Ok(Pumped::Wait) => self.check_finished(at),
                Err(error) => self.close(at, &error),
            }
        }
        for at in std::mem::take(&mut self.unread) {
            self.read(at, false);
        }
    }

    pub(super) fn activate(&mut self, at: usize) {
        if !self.conns[at].queued && self.phase == Phase::Run {
            self.conns[at].queued = true;
            self.active.push(at);
        }
    }

    fn handle(&mut self, event: Readiness) {
        let at = event.token;
        if self.conns[at].stage == Stage::Connecting {
            if !event.writable {
                return;
            }
            let client_id = self.conns[at].client_id(self.plan);
            if let Err(error) = self.conns[at].greet(client_id, &self.plan.broker) {
                return self.close(at, &error);
            }
        }
        if event.writable
            && let Some(link) = &mut self.conns[at].link
            && link.pending() > 0
        {
            match link.flush() {
                Ok(true) => self.activate(at),
                Ok(false) => {}
                Err(error) => return self.close(at, &error.into()),
            }
        }
        if event.readable {
            self.read(at, event.hung_up);
        }
    }

    /// Reads the few subscribers again, while publishers run.
    fn peek(&mut self) {
        if self.phase == Phase::Run {
            for at in self.few.clone() {
                self.read(at, false);
            }
        }
    }

    fn read(&mut self, at: usize, hung_up: bool) {
        let progress = match self.conns[at].read(&mut self.scratch, &mut self.cx) {
            Ok(progress) => progress,
            Err(error) => return self.close(at, &error),
        };
        if progress.more || (hung_up && self.conns[at].link.is_some()) {
            self.unread.push(at);
        }
        if progress.connected {
            self.tally().connected.fetch_add(1, Relaxed);
        }
        if progress.subscribed {
            self.tally().subscribed.fetch_add(1, Relaxed);
        }
        if matches!(self.conns[at].role, Role::Publisher(_)) {
            self.activate(at);
        }
        if self.conns[at].settling && self.conns[at].is_settled(self.plan.load.publish_qos) {
            self.conns[at].settling = false;
            self.settled += 1;
        }
    }

    /// Counts a publisher once it has sent its limit and holds every acknowledgement; takes it off the schedule.
    fn check_finished(&mut self, at: usize) {
        let Role::Publisher(publisher) = &mut self.conns[at].role else {
            return;
        };
        if self.plan.load.limit.is_some() && publisher.take_finished(self.plan.load.publish_qos) {
            self.finished += 1;
        }
    }

    pub(super) fn close(&mut self, at: usize, error: &ConnError) {
        let conn = &mut self.conns[at];
        if conn.stage != Stage::Closed {
            conn.stage = Stage::Closed;
            conn.link = None;
            self.shared.connection_broke(conn.client_id(self.plan), error);
        }
    }

    fn report(&self) {
        let tally = self.tally();
        tally.published.store(self.cx.published, Relaxed);
        tally.delivered.store(self.cx.delivered, Relaxed);
        tally.distinct.store(self.cx.distinct, Relaxed);
        tally.finished.store(self.finished, Relaxed);
        tally.settled.store(self.settled, Relaxed);
    }

    /// Whether this turn ends in a rest.
    fn naps(&self) -> bool {
        let closed_loop = matches!(self.plan.load.pace, Pace::Saturate);
        closed_loop && self.phase == Phase::Run && self.active.is_empty() && !self.plan.threads.nap.is_zero()
    }

    /// How long the next wait may last.
    fn sleep(&self) -> Duration {
        if !self.active.is_empty() || !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let mut until = SLEEP_MAX;
        if !self.starved.is_empty() {
            until = Duration::from_millis(1);
        }
        let mut next = self.ping_at;
        if let (Phase::Run, Some(slots)) = (self.phase, self.slots) {
            next = next.min(slots.at(self.slot));
        }
        if self.phase == Phase::Connect {
            next = next.min(self.ramp.wake_at());
        }
        until.min(Duration::from_nanos(next.saturating_sub(now())))
    }

    fn into_harvest(mut self) -> Harvest {
        let (mut publishers, mut subscribers) = (Vec::new(), Vec::new());
        for conn in self.conns.drain(..) {
            if let Some(mut link) = conn.link {
                // The run is over; a broker that no longer reads loses nothing by it.
                let _ = link.send(&DISCONNECT);
            }
            match (conn.role, conn.part) {
                (Role::Publisher(publisher), _) => publishers.push(*publisher),
                (Role::Subscriber(subscriber), Part::Subscriber(at)) => subscribers.push((at, *subscriber)),
                _ => {}
            }
        }
        Harvest {
            latency: self.cx.latency,
            lag: self.cx.lag,
            groups: self.cx.groups,
            publishers,
            subscribers,
        }
    }
}
