//! Counters and CPU times at one instant, and what lies between two.

use std::sync::atomic::Ordering::Relaxed;

use super::shared::Shared;
use crate::measure::{Cpu, cpu, thread_cpu};
use crate::net::now;

/// A point of the throughput chart; rates since the point before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Seconds since publishers started.
    pub(crate) at_s: f64,
    pub(crate) ingress_per_s: f64,
    pub(crate) egress_per_s: f64,
}

/// What the interval of measurement cost, and what happened in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) broker: Option<Cpu>,
    /// All load threads.
    pub(crate) own: Cpu,
    /// The busiest load thread's share of its core, 0 to 1.
    pub(crate) own_busiest: f64,
}

/// Counters at one instant.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: u64,
    published: u64,
    delivered: u64,
    broker: Option<Cpu>,
    own: Vec<Cpu>,
}

impl Snapshot {
    /// The counters as they are; `pid` is the broker's.
    pub(super) fn take(shared: &Shared, pid: Option<u32>) -> Snapshot {
        Snapshot {
            at: now(),
            published: shared.sum(|tally| &tally.published),
            delivered: shared.sum(|tally| &tally.delivered),
            broker: pid.and_then(cpu),
            own: shared
                .tallies
                .iter()
                .filter_map(|tally| thread_cpu(tally.tid.load(Relaxed)))
                .collect(),
        }
    }

    /// The point of the chart that lies between two instants, `start` being its zero.
    pub(super) fn sample(&self, later: &Snapshot, start: u64) -> Sample {
        let usage = self.until(later);
        Sample {
            at_s: later.at.saturating_sub(start) as f64 / 1e9,
            ingress_per_s: usage.published as f64 / usage.seconds,
            egress_per_s: usage.delivered as f64 / usage.seconds,
        }
    }

    /// What happened between two instants.
    pub(super) fn until(&self, later: &Snapshot) -> Usage {
        let seconds = (later.at - self.at) as f64 / 1e9;
        let own: Vec<Cpu> = self
            .own
            .iter()
            .zip(&later.own)
            .map(|(&earlier, &later)| later - earlier)
            .collect();
        let busiest = own.iter().map(|cpu| cpu.total_s()).fold(0.0, f64::max);
        Usage {
            seconds,
            published: later.published - self.published,
            delivered: later.delivered - self.delivered,
            broker: self.broker.zip(later.broker).map(|(earlier, later)| later - earlier),
            own: own.iter().fold(Cpu::default(), |sum, &cpu| Cpu {
                user_s: sum.user_s + cpu.user_s,
                system_s: sum.system_s + cpu.system_s,
            }),
            own_busiest: if seconds > 0.0 { busiest / seconds } else { 0.0 },
        }
    }
}
