//! The engine: carries out a [`plan::Plan`] and counts.
//!
//! [`run()`] is the conductor: it moves the phases, samples counters and reads /proc while the load threads
//! ([`worker`]) turn. Read [`plan`] first, then [`worker`], then [`conn`] and the two halves of a client,
//! [`publisher`] and [`subscriber`]; [`track`] and [`acks`] are the accounts that make a run's verdict.
//! Knows no scenario, no command line and no report.

mod acks;
mod conn;
mod context;
mod phases;
pub(crate) mod plan;
mod publisher;
mod ramp;
mod run;
mod shared;
mod snapshot;
mod storm;
mod subscriber;
mod track;
mod verdict;
mod worker;

#[cfg(test)]
pub(crate) use context::histogram;
pub(crate) use context::timed_one_in;
pub(crate) use run::{Live, Outcome, RunError, Watch, run, watch_signals};
pub(crate) use snapshot::Usage;
pub(crate) use storm::storm;
pub(crate) use verdict::Verdict;
