//! A load generator for MQTT 3.1.1 brokers.
//!
//! It measures what a broker carries and what that costs it, and counts every message on the way: each payload has its
//! publisher's number and its own, so what is lost, duplicated, reordered or corrupted shows. It is built to cost less
//! per message than any broker: plain threads and epoll, packets encoded ahead and patched, many per write, nothing
//! allocated per message.
//!
//! Imports point inward only: `wire` ← `net` ← `load` ← `report` ← `scenario` ← [`cli`]; `floor`, the bare servers to
//! compare with, stands on `wire` and `net` alone. Read `load/plan.rs` first, then `load/worker.rs`.
#![forbid(unsafe_code)]

pub mod cli;
mod floor;
mod load;
mod measure;
mod net;
mod report;
mod scenario;
mod wire;
