//! Accepts sockets and deals them out to the shards.
//!
//! The listening sockets are dealt out to the shards too, and a shard accepts for those that it has, in its turns: a
//! thread of its own would cost two switches of context per connection, on the core of some shard. They are bound here,
//! without SO_REUSEPORT: a second broker on the same port must fail to start rather than take half of the clients.
//! When the process runs out of descriptors, accepting pauses: the clients wait in the kernel's queue, and those that
//! are connected are served. A listener that is over its rate pauses too, for itself; an address over its own is closed.

mod addresses;
mod bind;
mod rate;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringmq_shard::shard::ShardId;
use ringmq_shard::time::Instant;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tracing::{info, warn};

use crate::config::{ListenAddress, ListenerConfig};
use crate::logging::LogLimiter;
pub(crate) use addresses::AddressRates;
pub(crate) use bind::{BACKLOG, ListenSocket, bind_tcp};
use rate::Rate;

use crate::runtime::report::{Rejection, Reports};
use crate::runtime::ring::{Ring, Watch};
use crate::runtime::sockets::Arrival;
use crate::transport::proxy::ProxiedStream;
use crate::transport::tls::TlsServer;
use crate::transport::websocket::WebSocketStream;
use crate::transport::{Peer, Transport};

/// What all shards that accept have in common.
#[derive(Clone, Debug)]
pub(crate) struct AcceptorConfig {
    pub(crate) shards: usize,
    /// Open connections of the whole broker. Raised by whoever accepts, lowered by the shard that closes.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) connections_max: usize,
    pub(crate) reports: Arc<Reports>,
}

/// One shard's part in accepting: its listening sockets, which may be none.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
    config: AcceptorConfig,
    /// The shard that gets the next socket.
    next: usize,
    backoff: Backoff,
    log: LogLimiter,
}

/// A bound socket and what its connections are.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) socket: ListenSocket,
    pub(crate) rules: ListenerConfig,
    /// `None`: plain.
    pub(crate) tls: Option<Arc<TlsServer>>,
}

#[derive(Debug)]
struct Listener {
    socket: ListenSocket,
    rules: ListenerConfig,
    /// `None`: plain.
    tls: Option<Arc<TlsServer>>,
    /// How fast clients may come, and when the allowance is full, in nanoseconds; `None`: as fast as they want.
    rate: Option<(Rate, u64)>,
    /// It is over its rate until then.
    paused_until: Option<Instant>,
    /// `None`: one address may connect as fast as it wants.
    addresses: Option<Arc<AddressRates>>,
    /// Connections wait, as far as is known.
    waiting: bool,
    /// The ring reports new ones.
    watched: bool,
}

impl Acceptor {
    pub(crate) fn new(sockets: Vec<Listening>, config: AcceptorConfig) -> Acceptor {
        let listener = |Listening { socket, rules, tls }| Listener {
            rate: (rules.rates.listener > 0).then(|| (Rate::new(rules.rates.listener, rules.rates.listener), 0)),
            paused_until: None,
            addresses: AddressRates::new(rules.rates, &config.reports),
            socket,
            rules,
            tls,
            waiting: true,
            watched: false,
        };
        Acceptor {
            listeners: sockets.into_iter().map(listener).collect(),
            config,
            next: 0,
            backoff: Backoff::default(),
            log: LogLimiter::of_listener(),
        }
    }

    /// Has the ring report new connections, where it does not yet.
    pub(crate) fn watch(&mut self, ring: &mut Ring) {
        for (number, listener) in (0..).zip(&mut self.listeners) {
            if !listener.watched {
                ring.watch_readable(listener.socket.as_fd(), Watch::Listener(number));
                listener.watched = true;
            }
        }
    }

    /// The ring reported connections.
    pub(crate) fn on_waiting(&mut self, number: u32, last: bool) {
        // Of a listener that was closed meanwhile, too.
        if let Some(listener) = self.listeners.get_mut(number as usize) {
            listener.waiting = true;
            listener.watched &= !last;
        }
    }

    /// When accepting goes on after the host was exhausted, or a listener over its rate.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let paused = self.listeners.iter().filter_map(|listener| listener.paused_until);
        self.backoff.until.or(paused.min())
    }

    /// Accepts what waits, up to a bound so that everything else has its turn. True if anything waited.
    /// Call [`watch`](Self::watch) after it.
    pub(crate) fn accept(&mut self, now: Instant, mut deal: impl FnMut(ShardId, Arrival)) -> bool {
        if self.backoff.until.is_some_and(|until| now < until) {
            return false;
        }
        let mut any = false;
        for number in 0..self.listeners.len() {
            let mut accepted = 0;
            while self.listeners[number].waiting && accepted < ACCEPTS_MAX {
                if self.is_paused(number, now) {
                    break;
                }
                any = true;
                accepted += 1;
                match accept_one(&self.listeners[number].socket) {
                    Ok(Some((socket, peer))) => {
                        if self.admit(now, number, socket, peer, &mut deal) {
                            self.listeners[number].spend(now);
                        }
                    }
                    Ok(None) => self.listeners[number].waiting = false,
                    Err(error) if is_peers_fault(error) => {}
                    Err(error) => {
                        self.pause(now, error);
                        return true;
                    }
                }
            }
        }
        if any && self.backoff.reset() {
            info!("accepting connections again");
        }
        any
    }

    /// From here on at most so many connections are open; those that are stay.
    pub(crate) fn set_connections_max(&mut self, connections_max: usize) {
        self.config.connections_max = connections_max;
    }

    /// Accepts no more: who waits is refused by the kernel.
    pub(crate) fn close(&mut self, ring: &mut Ring) {
        for (number, listener) in (0..).zip(self.listeners.drain(..)) {
            if listener.watched {
                ring.forget(Watch::Listener(number));
            }
        }
        self.backoff.until = None;
    }

    /// Whether the listener is over its rate. What waits for it stays in the kernel's queue.
    fn is_paused(&mut self, number: usize, now: Instant) -> bool {
        let listener = &mut self.listeners[number];
        let Some((rate, full_at)) = listener.rate else {
            return false;
        };
        if listener.paused_until.is_some_and(|until| now < until) {
            return true;
        }
        let next = rate.next(full_at, now);
        listener.paused_until = None;
        if next <= now {
            return false;
        }
        if !listener.socket.has_waiting() {
            // The last one that was let in was the last one.
            listener.waiting = false;
            return true;
        }
        listener.paused_until = Some(next.max(now + PAUSE_MIN));
        self.config.reports.paused.fetch_add(1, Ordering::Relaxed);
        if self.log.allows("connection_rate", now) {
            let (address, per_second) = (listener.socket.address(), listener.rules.rates.listener);
            info!(listener = %address, reason = "connection_rate", "more than {per_second} connections a second: they wait");
        }
        true
    }

    /// True: it was let in.
    fn admit(
        &mut self,
        now: Instant,
        listener: usize,
        socket: TcpStream,
        peer: Peer,
        deal: &mut impl FnMut(ShardId, Arrival),
    ) -> bool {
        let AcceptorConfig {
            shards,
            open,
            connections_max,
            reports,
        } = &self.config;
        let listener = &self.listeners[listener];
        let proxy = listener.rules.proxy.as_ref();
        if let (Some(proxy), Peer::Tcp(address)) = (proxy, peer)
            && !proxy.trusts(address.ip())
        {
            let reason = Rejection::Untrusted;
            reports.reject(reason);
            if self.log.allows(reason.label(), now) {
                warn!(%peer, reason = reason.label(), "refused: no proxy is trusted there (--proxy-trusted)");
            }
            return false;
        }
        // Behind a proxy, its header says whose address counts.
        if let (Some(addresses), Peer::Tcp(address), None) = (&listener.addresses, peer, proxy)
            && let Err(error) = addresses.admit(address.ip(), now)
        {
            let reason = Rejection::AddressRate;
            if self.log.allows(reason.label(), now) {
                info!(%peer, reason = reason.label(), "refused: {error}");
            }
            return false;
        }
        if open.load(Ordering::Relaxed) >= *connections_max {
            let reason = Rejection::MaxConnections;
            reports.reject(reason);
            if self.log.allows(reason.label(), now) {
                warn!(%peer, reason = reason.label(), "refused: {connections_max} connections are open");
            }
            return false;
        }
        let stream = match &listener.tls {
            None => Transport::Tcp(socket),
            Some(tls) => match tls.accept(socket) {
                Ok(stream) => Transport::Tls(Box::new(stream)),
                Err(error) => {
                    if self.log.allows("tls_setup", now) {
                        warn!(%peer, reason = "tls_setup", "refused: {error}");
                    }
                    return false;
                }
            },
        };
        let stream = match &listener.rules.websocket {
            None => stream,
            Some(rules) => Transport::WebSocket(Box::new(WebSocketStream::new(stream, Arc::clone(rules)))),
        };
        let socket = match proxy {
            None => stream,
            Some(_) => Transport::Proxied(Box::new(ProxiedStream::new(stream, listener.addresses.clone()))),
        };
        open.fetch_add(1, Ordering::Relaxed);
        reports.accepted.fetch_add(1, Ordering::Relaxed);
        let shard = ShardId(u16::try_from(self.next).expect("there are fewer shards than that"));
        self.next = (self.next + 1) % shards;
        let arrival = Arrival {
            socket,
            peer,
            admission: listener.rules.admission.clone(),
            received: bytes::Bytes::new(),
        };
        deal(shard, arrival);
        true
    }

    fn pause(&mut self, now: Instant, error: Errno) {
        self.backoff.begin(now);
        if self.backoff.is_worth_a_line() {
            let open = self.config.open.load(Ordering::Relaxed);
            warn!(error = %io::Error::from(error), open, "no new connections for now");
        }
    }
}

impl Listener {
    /// One more was let in.
    fn spend(&mut self, now: Instant) {
        if let Some((rate, full_at)) = &mut self.rate {
            *full_at = rate.spent(*full_at, now);
        }
    }
}

/// A socket that is set up as [`Transport::Tcp`] asks, or `None` if nobody waits.
fn accept_one(listener: &ListenSocket) -> Result<Option<(TcpStream, Peer)>, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match acceptfrom_with(listener, flags) {
        Ok((socket, address)) => {
            let peer = match listener.address() {
                // Without an address it is dead already.
                ListenAddress::Tcp(_) => address
                    .and_then(|address| SocketAddr::try_from(address).ok())
                    .map(Peer::Tcp)
                    .ok_or(Errno::CONNABORTED)?,
                ListenAddress::Unix(_) => Peer::Unix,
            };
            Ok(Some((TcpStream::from(socket), peer)))
        }
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Errors of the connection that was about to be accepted, not of the host: accept(2) hands them on.
fn is_peers_fault(errno: Errno) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let broken = [
        Errno::BADF,
        Errno::INVAL,
        Errno::NOTSOCK,
        Errno::OPNOTSUPP,
        Errno::FAULT,
    ];
    !exhausted.contains(&errno) && !broken.contains(&errno)
}

/// How long accepting pauses after it failed for lack of resources: longer each time, up to a bound.
#[derive(Debug, Default)]
struct Backoff {
    /// The last pause; zero if the last attempt succeeded.
    last: Duration,
    /// Pauses since the last success.
    pauses: u32,
    /// When the pause ends.
    until: Option<Instant>,
}

impl Backoff {
    fn begin(&mut self, now: Instant) {
        self.last = (self.last * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.pauses += 1;
        self.until = Some(now + self.last);
    }

    /// The first pause, and then one in [`PAUSES_PER_LINE`].
    fn is_worth_a_line(&self) -> bool {
        self.pauses % PAUSES_PER_LINE == 1
    }

    /// An attempt succeeded. True if the one before had not.
    fn reset(&mut self) -> bool {
        std::mem::take(self).pauses > 0
    }
}

/// Sockets accepted from one listener before the next has its turn.
const ACCEPTS_MAX: usize = 64;
/// Shortest pause of a listener over its rate: a high rate is not paid for with a wake-up per connection.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Shortest pause of an exhausted host.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause: how long clients wait after descriptors are free again.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Log lines of an exhausted listener are ten seconds apart.
const PAUSES_PER_LINE: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConnectionRates, TcpOptions};
    use ringmq_shard::shard::Admission;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_success() {
        let now = Instant::from_millis(1_000);
        let mut backoff = Backoff::default();
        let pause = |backoff: &mut Backoff| {
            backoff.begin(now);
            backoff
                .until
                .map(|until| until.since(now).as_millis())
                .unwrap_or_default()
        };
        let pauses: Vec<_> = (0..6).map(|_| pause(&mut backoff)).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 500, 500]);
        assert!(backoff.reset());
        assert!(!backoff.reset());
        assert_eq!(backoff.until, None);
        assert_eq!(pause(&mut backoff), 50);
    }

    #[test]
    fn an_exhausted_host_says_so_first_and_then_now_and_then() {
        let mut backoff = Backoff::default();
        let mut worth_a_line = || {
            backoff.begin(Instant::default());
            backoff.is_worth_a_line()
        };
        assert!(worth_a_line());
        assert_eq!((0..40).filter(|_| worth_a_line()).count(), 2);
    }

    #[test]
    fn sockets_are_dealt_round_robin_up_to_the_limit() {
        let listener = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), TcpOptions::default()).unwrap();
        let ListenAddress::Tcp(address) = *listener.address() else {
            unreachable!("it is what was asked for")
        };
        let reports = Arc::new(Reports::new(3));
        let rules = ListenerConfig {
            address: address.into(),
            admission: Admission::Open,
            tls: None,
            websocket: None,
            proxy: None,
            tcp: TcpOptions::default(),
            rates: ConnectionRates::default(),
        };
        let config = AcceptorConfig {
            shards: 3,
            open: Arc::default(),
            connections_max: 4,
            reports: Arc::clone(&reports),
        };
        let mut acceptor = Acceptor::new(
            vec![Listening {
                socket: listener,
                rules,
                tls: None,
            }],
            config,
        );
        let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut dealt = Vec::new();
        assert!(acceptor.accept(Instant::default(), |shard, it| dealt.push((shard.0, it))));
        let of_client = |n: usize| (n as u16 % 3, Peer::Tcp(clients[n].local_addr().unwrap()));
        let got: Vec<_> = dealt.iter().map(|(shard, it)| (*shard, it.peer)).collect();
        assert_eq!(got, (0..4).map(of_client).collect::<Vec<_>>());
        assert_eq!(reports.rejected(), [1, 0, 0]);
        assert!(dealt.iter().all(|(_, arrival)| match &arrival.socket {
            Transport::Tcp(socket) => socket.nodelay().unwrap(),
            _ => false,
        }));
        assert!(!acceptor.accept(Instant::default(), |_, _| unreachable!()));
    }

    #[test]
    fn a_listener_over_its_rate_pauses_while_somebody_waits_and_another_goes_on() {
        let bind = || ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), TcpOptions::default()).unwrap();
        let reports = Arc::new(Reports::new(1));
        let listening = |socket: ListenSocket, per_second| Listening {
            rules: ListenerConfig {
                address: socket.address().clone(),
                admission: Admission::Open,
                tls: None,
                websocket: None,
                proxy: None,
                tcp: TcpOptions::default(),
                rates: ConnectionRates {
                    listener: per_second,
                    ..ConnectionRates::default()
                },
            },
            socket,
            tls: None,
        };
        let sockets = [bind(), bind()];
        let addresses = sockets.each_ref().map(|socket| match *socket.address() {
            ListenAddress::Tcp(address) => address,
            ListenAddress::Unix(_) => unreachable!("it is what was asked for"),
        });
        let [slow, free] = sockets;
        let config = AcceptorConfig {
            shards: 1,
            open: Arc::default(),
            connections_max: 100,
            reports: Arc::clone(&reports),
        };
        let mut acceptor = Acceptor::new(vec![listening(slow, 2), listening(free, 0)], config);
        let connect = |to: usize, count: usize| -> Vec<_> {
            (0..count).map(|_| TcpStream::connect(addresses[to]).unwrap()).collect()
        };
        let paused = || reports.paused.load(Ordering::Relaxed);
        let accept = |acceptor: &mut Acceptor, ms| {
            let mut accepted = 0;
            acceptor.accept(Instant::from_millis(ms), |_, _| accepted += 1);
            accepted
        };
        // As many as may, and nobody behind them: nothing is to be waited for.
        let first = connect(0, 2);
        assert_eq!(accept(&mut acceptor, 10_000), 2);
        assert_eq!((acceptor.next_deadline(), paused()), (None, 0));

        let more = [connect(0, 3), connect(1, 3)];
        acceptor.on_waiting(0, false);
        acceptor.on_waiting(1, false);
        assert_eq!(accept(&mut acceptor, 10_001), 3, "those of the other listener");
        assert_eq!(acceptor.next_deadline(), Some(Instant::from_millis(10_500)));
        assert_eq!(accept(&mut acceptor, 10_499), 0);
        assert_eq!(accept(&mut acceptor, 10_500), 1);
        assert_eq!(accept(&mut acceptor, 10_999), 0);
        assert_eq!(accept(&mut acceptor, 20_000), 2, "the rest");
        assert_eq!((acceptor.next_deadline(), paused()), (None, 2));
        assert_eq!(reports.rejected(), [0; Rejection::ALL.len()]);
        drop((first, more));
    }

    #[test]
    fn only_a_lack_of_resources_pauses() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF] {
            assert!(!is_peers_fault(errno), "{errno}");
        }
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::HOSTUNREACH] {
            assert!(is_peers_fault(errno), "{errno}");
        }
    }
}
