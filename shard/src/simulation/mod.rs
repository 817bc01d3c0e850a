//! A whole broker of shards, its clients and its stores in one thread, under a seeded scheduler.
//!
//! `run` makes a plan from a seed (`plan`) and lets a world carry it out (`world`, `turn`, `act`): the scheduler picks who
//! goes on, a shard or a client; bytes arrive in pieces and in lumps, sockets break in the middle of a packet, batches wait
//! in inboxes (never overtaking each other in one), a turn stops between two of its batches, stores are slow or refuse records,
//! memory is short, the broker stops or crashes and another begins with another number of shards (`restart`).
//! The `oracle` watches the edge of the broker and panics where a promise is broken. The same seed is the same run.
//! `shrink` takes steps out of a failing run while it still fails.
//!
//! Not simulated: a restart that reads a store back, which the core cannot do; the broker that follows begins empty. What a
//! crash leaves is checked as records: whatever is acknowledged is in a durable one, and in the middle of everything, once what
//! was not durable is forgotten, the rest makes the state that clients were promised. A restart would begin at
//! `SimStore::durable_records`.

mod act;
mod client;
mod dice;
mod network;
mod oracle;
mod plan;
mod report;
mod restart;
mod setup;
mod shrink;
pub(crate) mod store;
mod trace;
mod turn;
pub(crate) mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use report::Counts;
pub use shrink::shrink;

use plan::Plan;
use world::World;

/// Which run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Run {
    /// Decides everything.
    pub seed: u64,
    /// Steps of the plan that are left out, by index.
    pub without: Vec<usize>,
    /// Whether to print what happens.
    pub trace: bool,
}

/// A promise that was broken, or an invariant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What went wrong.
    pub what: String,
}

impl Run {
    /// The run of a seed, whole and silent.
    #[must_use]
    pub fn of(seed: u64) -> Run {
        Run { seed, ..Run::default() }
    }

    /// How many steps its plan has.
    #[must_use]
    pub fn steps(&self) -> usize {
        Plan::new(self.seed).steps.len()
    }
}

/// Carries out a run.
///
/// # Errors
/// The first thing that went wrong.
pub fn run(run: &Run) -> Result<Counts, Failure> {
    let plan = Plan::new(run.seed).without(&run.without);
    let mut world = World::new(plan, !run.seed, run.trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    outcome.map(|()| world.counts.clone()).map_err(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Failure {
            what: what.unwrap_or_else(|| "a panic without words".to_owned()),
        }
    })
}

/// Each planted fault is found within so many seeds.
#[cfg(feature = "planted-faults")]
pub const HUNT_SEEDS_MAX: u64 = 20_000;

/// Runs seeds from 0 on until one finds a planted fault; how many that took, and what gave it away. `None`: more than
/// [`HUNT_SEEDS_MAX`].
#[cfg(feature = "planted-faults")]
#[must_use]
pub fn hunt(fault: crate::fault::Fault) -> Option<(u64, Failure)> {
    fault.plant();
    let found = (0..HUNT_SEEDS_MAX).find_map(|seed| Some((seed + 1, run(&Run::of(seed)).err()?)));
    crate::fault::Fault::remove_all();
    found
}
