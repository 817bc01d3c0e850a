//! Floors: what the sockets alone cost.
//!
//! A floor is a bare epoll server that speaks just enough MQTT for a scenario to run against it: it frames, it routes
//! by comparing strings once per topic and connection, it acknowledges, and it does nothing else: no validation, no
//! sessions, no persistence, no limits per client. A broker cannot cost less, so the distance to it is what a broker
//! adds.
//!
//! The same servers drop, duplicate, swap and corrupt on demand ([`faults`]), which is how the counts of the scenarios
//! are tested.

mod client;
mod faults;
mod relay;
mod routes;
mod server;

pub(crate) use faults::Faults;
pub(crate) use server::{Kind, Server};
