//! Accepts sockets and deals them out to the shards, in a thread of its own.
//!
//! The sockets are bound here, without SO_REUSEPORT: a second broker on the same port must fail to start rather than
//! take half of the clients. When the process runs out of descriptors the listener pauses: the clients wait in the
//! kernel's queue, and those that are connected are served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringmq_shard::shard::{PeerBatch, ShardId};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tracing::{info, warn};

use crate::config::ListenerConfig;
use crate::logging::LogLimiter;
use crate::runtime::clock::Clock;
use crate::runtime::executor::Control;
use crate::runtime::mesh::Mesh;
use crate::runtime::report::Reports;
use crate::runtime::sockets::Arrival;
use crate::transport::Transport;

/// Binds one address.
///
/// # Errors
/// The address is taken, is none of this host's, or needs a privilege.
pub(crate) fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Connections of the process before that still linger must not keep this one from starting.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // One address, one family: with [::] and 0.0.0.0 both given, neither takes the other's port.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Ends a listener's thread from another one.
#[derive(Debug)]
pub(crate) struct Stop(OwnedFd);

impl Stop {
    pub(crate) fn new() -> io::Result<Arc<Stop>> {
        Ok(Arc::new(Stop(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    pub(crate) fn stop(&self) {
        rustix::io::write(&self.0, &1u64.to_ne_bytes())
            .expect("the descriptor is open and its counter is far from full");
    }
}

/// What the accepting thread works with.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) sockets: Vec<TcpListener>,
    /// The rules of each, in the same order.
    pub(crate) rules: Vec<ListenerConfig>,
    pub(crate) mesh: Arc<Mesh<PeerBatch, Control>>,
    /// Open connections of the whole broker. Raised here, lowered by the shards.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) connections_max: usize,
    pub(crate) reports: Arc<Reports>,
    pub(crate) clock: Clock,
}

impl Listener {
    /// Accepts until `stop`.
    pub(crate) fn run(self, stop: &Stop) {
        let mut dealer = Dealer {
            listener: &self,
            next: 0,
            log: LogLimiter::default(),
        };
        let mut backoff = Backoff::default();
        loop {
            let pause = backoff.pause();
            let mut descriptors = vec![PollFd::new(&stop.0, PollFlags::IN)];
            if pause.is_none() {
                descriptors.extend(self.sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
            }
            let timeout = pause.map(|pause| Timespec::try_from(pause).expect("less than a second"));
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // ENOMEM: as good a reason to wait as any.
                Err(errno) => {
                    warn!(error = %io::Error::from(errno), "the listener cannot wait for connections");
                    std::thread::sleep(BACKOFF_MAX);
                    continue;
                }
            }
            if !descriptors[0].revents().is_empty() {
                return;
            }
            let mut each = self.sockets.iter().zip(&self.rules);
            match each.try_for_each(|(socket, rules)| dealer.accept_waiting(socket, rules)) {
                Ok(()) => {
                    if backoff.reset() {
                        info!("accepting connections again");
                    }
                }
                Err(error) => {
                    backoff.begin();
                    if backoff.is_worth_a_line() {
                        let open = self.open.load(Ordering::Relaxed);
                        warn!(%error, open, "no new connections for now");
                    }
                }
            }
        }
    }
}

struct Dealer<'a> {
    listener: &'a Listener,
    /// The shard that gets the next socket.
    next: usize,
    log: LogLimiter,
}

impl Dealer<'_> {
    /// Accepts what waits, up to a bound so that every listener has its turn.
    ///
    /// # Errors
    /// The system has no descriptors or memory left for a socket.
    fn accept_waiting(&mut self, socket: &TcpListener, rules: &ListenerConfig) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            match socket.accept() {
                Ok((accepted, peer)) => self.deal(accepted, peer, rules),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_peers_fault(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn deal(&mut self, accepted: std::net::TcpStream, peer: SocketAddr, rules: &ListenerConfig) {
        let Listener {
            mesh,
            open,
            connections_max,
            reports,
            clock,
            ..
        } = self.listener;
        if open.load(Ordering::Relaxed) >= *connections_max {
            reports.rejected.fetch_add(1, Ordering::Relaxed);
            if self.log.allows("max_connections", clock.now().instant()) {
                warn!(%peer, reason = "max_connections", "refused: {connections_max} connections are open");
            }
            return;
        }
        // A socket that cannot be set up is already dead.
        let Ok(socket) = Transport::tcp(accepted) else {
            return;
        };
        open.fetch_add(1, Ordering::Relaxed);
        reports.accepted.fetch_add(1, Ordering::Relaxed);
        let shard = ShardId(u16::try_from(self.next).expect("there are fewer shards than that"));
        self.next = (self.next + 1) % mesh.shards();
        mesh.control(
            shard,
            Control::Open(Box::new(Arrival {
                socket,
                peer,
                admission: rules.admission.clone(),
                received: bytes::Bytes::new(),
            })),
        );
    }
}

/// Errors of the connection that was about to be accepted, not of the host: accept(2) hands them on.
fn is_peers_fault(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let broken = [
        Errno::BADF,
        Errno::INVAL,
        Errno::NOTSOCK,
        Errno::OPNOTSUPP,
        Errno::FAULT,
    ];
    match Errno::from_io_error(error) {
        Some(errno) => !exhausted.contains(&errno) && !broken.contains(&errno),
        None => false,
    }
}

/// How long the listener pauses after it could not accept: longer each time, up to a bound.
#[derive(Debug, Default)]
struct Backoff {
    /// The last pause; zero if the last attempt succeeded.
    last: Duration,
    /// Pauses since the last success.
    pauses: u32,
    /// A pause was begun and not yet taken.
    due: bool,
}

impl Backoff {
    fn begin(&mut self) {
        self.last = (self.last * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.pauses += 1;
        self.due = true;
    }

    /// The first pause, and then one in [`PAUSES_PER_LINE`].
    fn is_worth_a_line(&self) -> bool {
        self.pauses % PAUSES_PER_LINE == 1
    }

    /// The pause to take now, once.
    fn pause(&mut self) -> Option<Duration> {
        std::mem::take(&mut self.due).then_some(self.last)
    }

    /// An attempt succeeded. True if the one before had not.
    fn reset(&mut self) -> bool {
        std::mem::take(self).pauses > 0
    }
}

/// Connections that wait to be accepted: a reconnecting fleet arrives within one second. The kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Sockets accepted from one listener before the next has its turn.
const ACCEPTS_MAX: usize = 256;
/// Shortest pause of an exhausted listener.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause: how long clients wait after descriptors are free again.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Log lines of an exhausted listener are ten seconds apart.
const PAUSES_PER_LINE: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(), None);
        let pause = |backoff: &mut Backoff| {
            backoff.begin();
            let pause = backoff.pause();
            assert_eq!(backoff.pause(), None, "a pause is taken once");
            pause.map(|pause| pause.as_millis()).unwrap_or_default()
        };
        let pauses: Vec<_> = (0..6).map(|_| pause(&mut backoff)).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 500, 500]);
        assert!(backoff.reset());
        assert!(!backoff.reset());
        assert_eq!(pause(&mut backoff), 50);
    }

    #[test]
    fn an_exhausted_listener_says_so_first_and_then_now_and_then() {
        let mut backoff = Backoff::default();
        let mut worth_a_line = || {
            backoff.begin();
            backoff.is_worth_a_line()
        };
        assert!(worth_a_line());
        assert_eq!((0..40).filter(|_| worth_a_line()).count(), 2);
    }

    #[test]
    fn only_a_lack_of_resources_pauses() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF] {
            assert!(!is_peers_fault(&errno.into()), "{errno}");
        }
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::HOSTUNREACH] {
            assert!(is_peers_fault(&errno.into()), "{errno}");
        }
    }

    #[test]
    fn a_second_broker_on_the_port_fails_to_start() {
        let first = bind_to("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind_to(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
