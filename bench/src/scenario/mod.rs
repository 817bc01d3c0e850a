//! The scenarios: each turns a command line into a [`Plan`](crate::load::plan::Plan), runs it, and says what it found.
//!
//! [`mod@traffic`] has those where messages flow, [`mod@state`] those that ask what a broker keeps (connections,
//! subscriptions, retained messages), [`mod@emqtt`] the verbs of emqtt-bench, [`mod@suite`] the Open MQTT Benchmark Suite.

mod emqtt;
mod run;
mod state;
mod suite;
mod topic;
mod traffic;

pub(crate) use emqtt::{Emqtt, emqtt};
pub(crate) use run::{ScenarioError, print, write};
pub(crate) use state::{State, state};
pub(crate) use suite::{SuiteArgs, suite};
pub(crate) use traffic::{Traffic, traffic};
