//! One shard of a RingMQ broker, as a state machine: events in, effects out.
//!
//! Nothing here opens a socket or a file, starts a thread, reads a clock or asks for randomness: time, bytes and
//! seeds are parameters, so a whole cluster of shards runs deterministically in one test thread. The crate `ringmq`
//! (the folder `src/` beside this one) moves the bytes.
//!
//! Start at [`shard`]. Imports point inward only: [`codec`], [`topic`], [`access`] ← [`session`], [`store`] ← [`router`] ←
//! [`shard`].
#![forbid(unsafe_code)]

#[macro_use]
#[doc(hidden)]
pub mod fault;

pub mod access;
pub mod codec;
pub mod error;
pub mod hash;
pub mod limits;
pub mod message;
pub mod router;
pub mod session;
pub mod shard;
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub mod simulation;
pub mod stats;
pub mod store;
pub mod time;
pub mod topic;
