//! What each phase of a run begins with, and what it does every turn.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::conn::{ConnError, Part, Role, Stage};
use super::plan::Pace;
use super::publisher::Slots;
use super::shared::Phase;
use super::worker::Side;
use crate::net::{Link, Poller, connect};

/// What publishers' kernels may hold back, so that a drain does not wait for megabytes per connection.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

impl Side<'_> {
    /// Takes note of a change of phase, and does what the phase asks for each turn.
    pub(super) fn follow(&mut self, phase: Phase, poller: &Poller) -> std::io::Result<()> {
        if phase != self.phase {
            self.phase = phase;
            match phase {
                Phase::Subscribe => self.each(|side, at| {
                    if side.conns[at].subscribe(side.plan.load.subscribe_qos)? {
                        side.tally().subscribed.fetch_add(1, Relaxed);
                    }
                    Ok(())
                }),
                Phase::Run => self.start(),
                Phase::Drain => self.stop(),
                Phase::Connect | Phase::Stop => {}
            }
        }
        match phase {
            Phase::Connect => self.connect_some(poller)?,
            Phase::Run => self.follow_schedule(),
            _ => {}
        }
        Ok(())
    }

    /// Runs `step` for every connection that is up; an error ends that connection.
    fn each(&mut self, step: impl Fn(&mut Self, usize) -> Result<(), ConnError>) {
        for at in 0..self.conns.len() {
            if self.conns[at].stage == Stage::Up
                && let Err(error) = step(self, at)
            {
                self.close(at, &error);
            }
        }
    }

    /// Opens as many connections as the ramp allows by now.
    fn connect_some(&mut self, poller: &Poller) -> std::io::Result<()> {
        let up = self.tally().connected.load(Relaxed);
        while let Some(at) = self.ramp.next(self.cx.now, up) {
            let sources = &self.plan.broker.sources;
            let from = (!sources.is_empty()).then(|| sources[at % sources.len()]);
            let buffer = matches!(self.conns[at].part, Part::Publisher(_)).then_some(SEND_BUFFER_BYTES);
            self.conns[at].stage = Stage::Connecting;
            let layers = self.plan.broker.transport.layers();
            match connect(self.plan.broker.address, from, buffer).and_then(|fd| Ok((fd, layers?))) {
                Ok((fd, layers)) => {
                    poller.add(&fd, at)?;
                    self.conns[at].link = Some(Link::with(fd, layers));
                }
                Err(error) => self.close(at, &error.into()),
            }
        }
        Ok(())
    }

    /// Publishers begin: at once in a closed loop, by the schedule in an open one.
    fn start(&mut self) {
        let start = self.shared.schedule_start.load(Relaxed);
        self.ping_at = if self.ping_every > 0 {
            start + self.ping_every
        } else {
            u64::MAX
        };
        match self.plan.load.pace {
            Pace::Saturate => self.publishers.clone().into_iter().for_each(|at| self.activate(at)),
            Pace::PerSecond(rate) => {
                // Publishers take turns; this thread's share of the rate is its share of the publishers.
                let here = self.publishers.len() as f64;
                let interval_ns = 1e9 * self.plan.publishers.len() as f64 / rate;
                for (place, &at) in self.publishers.iter().enumerate() {
                    if let Role::Publisher(publisher) = &mut self.conns[at].role {
                        let phase = (interval_ns / here * place as f64) as u64;
                        publisher.schedule(Slots {
                            start: start + phase,
                            interval_ns,
                        });
                    }
                }
                self.slots = (here > 0.0).then_some(Slots {
                    start,
                    interval_ns: interval_ns / here,
                });
            }
        }
    }

    /// Releases every message whose time has come.
    fn follow_schedule(&mut self) {
        let now = self.cx.now;
        while self.slots.is_some_and(|slots| slots.at(self.slot) <= now) {
            let at = self.publishers[(self.slot % self.publishers.len() as u64) as usize];
            self.slot += 1;
            if let Role::Publisher(publisher) = &mut self.conns[at].role {
                publisher.release();
            }
            self.activate(at);
        }
        while self.ping_at <= now {
            self.ping_at += self.ping_every;
            let at = self.ping_next;
            self.ping_next = (at + 1) % self.conns.len();
            if let Err(error) = self.conns[at].ping() {
                self.close(at, &error);
            }
        }
    }

    /// Publishers stop; every connection asks for a sign that the broker has read it to the end.
    fn stop(&mut self) {
        let mut owed = 0;
        for at in 0..self.publishers.len() {
            if let Role::Publisher(publisher) = &mut self.conns[self.publishers[at]].role {
                publisher.stop();
                owed += publisher
                    .started_by_stream()
                    .map(|(at, sent)| sent * u64::from(self.fan[at]))
                    .sum::<u64>();
            }
        }
        self.active.clear();
        self.starved.clear();
        self.each(|side, at| {
            side.conns[at].settling = true;
            side.conns[at].ping()
        });
        self.tally().owed.store(owed, Relaxed);
        self.tally().stopped.store(true, Release);
    }
}
