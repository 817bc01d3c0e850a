//! The publishing half of a connection: pace, window, and how far it may run ahead.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use super::acks::{Acks, id_of};
use super::context::Context;
use super::plan::{Load, Pace, PublisherPlan};
use crate::net::{Link, now};
use crate::wire::packet::{acknowledge, kind};
use crate::wire::stamp::Stamp;
use crate::wire::template::Template;

/// Bytes written at once, at most. Large enough that the system call is noise, small enough for the kernel to take.
const BATCH_BYTES: usize = 64 * 1024;

/// Without any delivery for so long, what a starved publisher waits for is given up: the broker dropped it. At QoS 0 it
/// may; at QoS 1 and 2 it has no business to, and slow is more likely.
const FORGIVE_AFTER_NS: [u64; 3] = [250_000_000, 5_000_000_000, 5_000_000_000];

/// One publisher.
///
/// Invariants: `completed <= received <= started <= limit`, counting acknowledgements taken, and
/// `started - settled < 65 535`, so identifiers in flight are unique.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// One per topic; message `m` uses `m % templates.len()`.
    templates: Vec<Template>,
    first_stream: u32,
    /// Somebody is subscribed to its one topic, and it must not run ahead of them.
    is_paced: bool,
    /// Messages given to the connection.
    started: u64,
    /// Messages after which it stops; lowered to `started` when the run ends.
    limit: u64,
    /// Open loop: messages whose time has come, and how to tell the time of each.
    released: u64,
    slots: Option<Slots>,
    /// PUBACK at QoS 1, PUBREC at QoS 2.
    received: Acks,
    /// PUBCOMP.
    completed: Acks,
    starved: Option<Starved>,
    /// Messages given up, so that a broker that drops does not stop its publishers for good.
    forgiven: u64,
    /// [`Publisher::take_finished`] has said so.
    finished: bool,
}

/// A publisher's share of the schedule: message `m` is meant to leave at `start + m × interval_ns`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    pub(crate) start: u64,
    pub(crate) interval_ns: f64,
}

/// Since when a publisher waits for its subscribers, and how far they were then.
#[derive(Clone, Copy, Debug)]
struct Starved {
    since: u64,
    delivered: u64,
}

/// What a publisher did, and what it needs to go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pumped {
    /// It could send more at once.
    Again,
    /// Nothing until an acknowledgement, a free socket buffer, or the schedule says so.
    Wait,
    /// Nothing until its subscribers have caught up.
    Starved,
}

impl Publisher {
    pub(crate) fn new(plan: &PublisherPlan, load: &Load, fan: &[u32]) -> Publisher {
        let templates: Vec<_> = plan
            .topics
            .iter()
            .map(|topic| Template::new(topic, load.publish_qos, load.retain, load.size))
            .collect();
        let is_paced = templates.len() == 1 && fan[plan.first_stream as usize] > 0;
        let limit = load.limit.map_or(u64::MAX, |limit| limit * templates.len() as u64);
        Publisher {
            templates,
            first_stream: plan.first_stream,
            is_paced,
            started: 0,
            limit,
            released: 0,
            slots: None,
            received: Acks::default(),
            completed: Acks::default(),
            starved: None,
            forgiven: 0,
            finished: false,
        }
    }

    /// Hands it its share of an open loop's schedule.
    pub(crate) fn schedule(&mut self, slots: Slots) {
        self.slots = Some(slots);
    }

    /// The time of its next message has come.
    pub(crate) fn release(&mut self) {
        self.released += 1;
    }

    /// Stops it: what is under way stays so, nothing more is begun.
    pub(crate) fn stop(&mut self) {
        self.limit = self.started;
    }

    /// Messages begun.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// Messages begun on each of its topics, by stream.
    pub(crate) fn started_by_stream(&self) -> impl Iterator<Item = (usize, u64)> {
        let topics = self.templates.len() as u64;
        (0..topics).map(move |topic| {
            (
                self.first_stream as usize + topic as usize,
                (self.started + topics - 1 - topic) / topics,
            )
        })
    }

    /// Messages that the broker has not acknowledged; 0 at QoS 0.
    #[inline]
    pub(crate) fn in_flight(&self, qos: u8) -> u64 {
        match qos {
            0 => 0,
            1 => self.started - self.received.taken(),
            _ => self.started - self.completed.taken(),
        }
    }

    /// `true` once, when it has sent all that it will and nothing is in flight.
    pub(crate) fn take_finished(&mut self, qos: u8) -> bool {
        let fresh = !self.finished && self.started >= self.limit && self.in_flight(qos) == 0;
        self.finished |= fresh;
        fresh
    }

    /// Acknowledgements out of order, and ones that nobody asked for.
    pub(crate) fn acknowledgement_faults(&self) -> (u64, u64) {
        (
            self.received.reordered + self.completed.reordered,
            self.received.unexpected + self.completed.unexpected,
        )
    }

    /// Sends one batch, as much as pace, window, subscribers and socket allow.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn pump(&mut self, link: &mut Link, cx: &mut Context<'_>) -> io::Result<Pumped> {
        if link.pending() > 0 {
            return Ok(Pumped::Wait);
        }
        let due = self.due().min(self.room(&cx.load));
        if due == 0 {
            return Ok(Pumped::Wait);
        }
        let credit = self.credit(cx);
        if credit == 0 {
            return Ok(Pumped::Starved);
        }
        let batch = (BATCH_BYTES / self.templates[0].len()).max(1) as u64;
        let count = due.min(credit).min(batch);
        self.write(count, cx);
        link.send(&cx.out)?;
        if cx.load.publish_qos == 0 {
            cx.published += count;
        }
        Ok(if link.pending() == 0 && due > count {
            Pumped::Again
        } else {
            Pumped::Wait
        })
    }

    /// Encodes `count` messages into the context's output.
    fn write(&mut self, count: u64, cx: &mut Context<'_>) {
        let now = now();
        if let Some(slots) = self.slots {
            cx.record_lag(now.saturating_sub(slots.at(self.started)));
        }
        cx.out.clear();
        let topics = self.templates.len() as u64;
        for message in self.started..self.started + count {
            let (topic, sequence) = if topics == 1 {
                (0, message)
            } else {
                (message % topics, message / topics)
            };
            let sent_at = self.slots.map_or(now, |slots| slots.at(message));
            let stamp = Stamp {
                stream: self.first_stream + topic as u32,
                sequence,
                sent_at,
            };
            self.templates[topic as usize].append(&mut cx.out, id_of(message), stamp);
        }
        self.started += count;
    }

    /// Messages that pace and limit allow.
    fn due(&self) -> u64 {
        let end = if self.slots.is_some() {
            self.limit.min(self.released)
        } else {
            self.limit
        };
        end.saturating_sub(self.started)
    }

    /// Messages that the window allows.
    fn room(&self, load: &Load) -> u64 {
        let settled = match load.publish_qos {
            0 => return u64::MAX,
            1 => self.received.settled(),
            _ => self.completed.settled(),
        };
        let window = u64::from(load.window).saturating_sub(self.in_flight(load.publish_qos));
        window.min(65_534_u64.saturating_sub(self.started - settled))
    }

    /// Messages that its subscribers' backlog allows. Once starved, it waits until half the backlog is gone, so that
    /// it goes on with a batch and not with single messages.
    fn credit(&mut self, cx: &Context<'_>) -> u64 {
        let ahead = cx.load.ahead;
        if ahead == 0 || !self.is_paced || matches!(cx.load.pace, Pace::PerSecond(_)) {
            return u64::MAX;
        }
        let delivered = cx.shared.progress[self.first_stream as usize].load(Relaxed);
        let outstanding = self.started.saturating_sub(delivered + self.forgiven);
        let credit = ahead.saturating_sub(outstanding);
        let needed = if self.starved.is_some() { ahead.div_ceil(2) } else { 1 };
        if credit >= needed {
            self.starved = None;
            return credit;
        }
        match self.starved {
            Some(starved) if starved.delivered == delivered => {
                if cx.now.saturating_sub(starved.since) > FORGIVE_AFTER_NS[usize::from(cx.load.publish_qos)] {
                    self.forgiven += outstanding;
                    self.starved = None;
                }
            }
            _ => {
                self.starved = Some(Starved {
                    since: cx.now,
                    delivered,
                });
            }
        }
        0
    }

    /// PUBACK.
    #[inline]
    pub(crate) fn on_puback(&mut self, id: u16, cx: &mut Context<'_>) {
        if self.received.take(id, self.started) {
            cx.published += 1;
        }
    }

    /// PUBREC: answered with PUBREL whether it was expected or not [MQTT-4.3.3-1].
    #[inline]
    pub(crate) fn on_pubrec(&mut self, id: u16, link: &mut Link) {
        self.received.take(id, self.started);
        link.queue(&acknowledge(kind::PUBREL, id));
    }

    /// PUBCOMP.
    #[inline]
    pub(crate) fn on_pubcomp(&mut self, id: u16, cx: &mut Context<'_>) {
        if self.completed.take(id, self.started) {
            cx.published += 1;
        }
    }
}

impl Slots {
    /// When message `m` is meant to leave, monotonic nanoseconds.
    pub(crate) fn at(self, message: u64) -> u64 {
        self.start + (message as f64 * self.interval_ns) as u64
    }
}
