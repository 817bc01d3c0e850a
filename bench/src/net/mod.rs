//! Sockets and readiness, shared by the load threads and the floor servers.
//!
//! Edge-triggered epoll, because it needs no system call per message beyond the read and the write themselves: a
//! connection is registered once for both directions and never again. The price is that whoever gets an event owes
//! the socket a read until it is dry ([`Link::receive`] says whether it is). Knows no MQTT.

mod clock;
mod layers;
mod link;
mod poll;

pub(crate) use clock::now;
pub(crate) use layers::{Tls, Transport, WebSocket};
pub(crate) use link::{Link, Received, connect, connect_outcome};
pub(crate) use poll::{Poller, Readiness, Waker};

/// Pins the calling thread to `core`.
///
/// # Errors
/// The system's, for a core that this process may not use.
pub(crate) fn pin(core: usize) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
