//! RingMQ, the process: everything that touches the operating system around the shards of `ringmq_shard`.
//!
//! [`config`] says what the operator wants, [`auth`] who clients are, [`preflight`] what the host grants, which [`doctor`] tells without starting anything, [`client`] is the other side, for a command line, [`operator`] asks a running broker, [`broker`] starts and ends the rest:
//! `listener` accepts sockets, `runtime` has one pinned thread per shard, `transport` moves bytes, `sys`
//! publishes what the broker knows about itself, `admin` answers operators over HTTP, and `service` tells a service manager that all is well. No MQTT is decided here; imports point inward, to `ringmq_shard`.
#![deny(unsafe_code)]

mod admin;
pub mod auth;
pub mod broker;
mod cgroup;
pub mod client;
pub mod config;
pub mod doctor;
pub mod error;
mod listener;
pub mod logging;
pub mod operator;
pub mod preflight;
mod runtime;
mod service;
mod startup;
mod sys;
mod transport;

#[doc(hidden)]
pub use transport::websocket::fuzz as websocket_fuzz;

/// Version and commit.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RINGMQ_COMMIT"), ")");
