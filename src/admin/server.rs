//! The loop of the admin thread: accepts, and polls each connection's future when its socket, an answer or time asks for it.
//!
//! ```text
//!   accepted ──▶ Serving: hyper reads one request, `routes` answers, hyper writes ──▶ Draining ──▶ gone
//!                   └── at its deadline, or for a newer one while its request is not whole ────────▲
//! ```
//! One request per connection, so what a client can hold is a connection for [`SERVE_TIME`], or for as long as it may follow something. Whoever is slow to ask makes
//! way for others: when all places are taken, the connection that has waited longest for its request is closed, so
//! clients that never finish one keep nobody out.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{debug, warn};

use super::routes::App;
use super::stream::Stream;
use super::trace::Lasting;
use crate::runtime::doorbell::Doorbell;

/// Serves the admin listener on the thread that calls [`run`](Server::run).
pub(super) struct Server {
    listener: TcpListener,
    /// Rung by shards that answer, and by futures that want to be polled.
    bell: Arc<Doorbell>,
    app: Rc<App>,
    /// At most [`CONNECTIONS_MAX`], oldest first.
    connections: Vec<Connection>,
    /// Accepting failed for lack of descriptors: not before then.
    accept_at: Option<Instant>,
}

struct Connection {
    stream: Stream,
    stage: Stage,
    /// Closed then, wherever it stands.
    until: Instant,
    /// Until when its answer goes on, if that takes long: then its client must stay.
    lasts: Rc<Cell<Option<Instant>>>,
    /// Its request is whole, and is answered.
    asked: Rc<Cell<bool>>,
    /// The client reset it, or both sides are done.
    gone: bool,
}

enum Stage {
    Serving(Pin<Box<dyn Future<Output = ()>>>),
    Draining,
}

impl Server {
    pub(super) fn new(listener: TcpListener, bell: Arc<Doorbell>, app: App) -> Server {
        Server {
            listener,
            bell,
            app: Rc::new(app),
            connections: Vec::new(),
            accept_at: None,
        }
    }

    pub(super) fn run(mut self) {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        loop {
            // Before the polling: what is answered meanwhile writes to the descriptor, and ends the sleep.
            self.bell.about_to_sleep();
            self.serve(&mut cx);
            let ready = match self.sleep() {
                Ok(ready) => ready,
                Err(error) => {
                    // No memory for the kernel's list: it may have some in a moment.
                    warn!(%error, "the admin listener cannot wait for its sockets");
                    std::thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            if ready {
                self.accept();
            }
        }
    }

    /// Polls every connection: there are few.
    fn serve(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.app.alarms().ring(now);
        self.connections
            .retain_mut(|connection| !connection.gone && connection.until > now && !connection.poll(now, cx));
    }

    /// Sleeps until a socket, an answer or time asks for something. True: connections wait to be accepted.
    fn sleep(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        self.accept_at = self.accept_at.filter(|at| *at > now);
        let deadlines = self.connections.iter().map(|connection| connection.until);
        let wake_at = deadlines.chain(self.accept_at).chain(self.app.alarms().next()).min();
        let timeout = wake_at.map(|at| {
            // Rounded up, so that it is due when the sleep ends.
            let time = at.saturating_duration_since(now) + Duration::from_millis(1);
            Timespec::try_from(time).expect("an hour and some seconds at most")
        });
        let accepting = if self.accept_at.is_some() {
            PollFlags::empty()
        } else {
            PollFlags::IN
        };
        let mut polled = vec![
            PollFd::new(self.bell.descriptor(), PollFlags::IN),
            PollFd::new(&self.listener, accepting),
        ];
        polled.extend(
            self.connections
                .iter()
                .map(|connection| PollFd::new(&connection.stream, connection.waits())),
        );
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        let fired: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        drop(polled);
        if !fired[0].is_empty() {
            // How often it rang does not matter: everything is polled.
            let _ = rustix::io::read(self.bell.descriptor().as_fd(), &mut [0; 8]);
        }
        for (connection, fired) in self.connections.iter_mut().zip(&fired[2..]) {
            // Reported even if nothing is waited for, so it must not stay.
            connection.gone = fired.intersects(PollFlags::HUP | PollFlags::ERR)
                || fired.contains(PollFlags::RDHUP) && connection.lasts.get().is_some();
            if !fired.is_empty() {
                connection.stream.wakes();
            }
        }
        Ok(!fired[1].is_empty())
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    if let Err(error) = self.open(socket) {
                        debug!(%peer, %error, "admin connection refused");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Of the connection that was about to be accepted, or no descriptor is left: either way in a moment.
                Err(error) => {
                    debug!(%error, "no admin connections for now");
                    self.accept_at = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn open(&mut self, socket: TcpStream) -> io::Result<()> {
        let stream = Stream::new(socket)?;
        if self.connections.len() >= CONNECTIONS_MAX {
            let slow = self.connections.iter().position(|connection| !connection.asked.get());
            let Some(slow) = slow else {
                return Err(io::Error::other("all are being answered"));
            };
            self.connections.remove(slow);
        }
        let asked = Rc::new(Cell::new(false));
        let lasts = Rc::new(Cell::new(None));
        let service = service_fn({
            let (app, asked, lasts) = (Rc::clone(&self.app), Rc::clone(&asked), Rc::clone(&lasts));
            move |request| {
                asked.set(true);
                let (app, lasts) = (Rc::clone(&app), Rc::clone(&lasts));
                async move {
                    let answer = app.answer(request).await;
                    lasts.set(answer.extensions().get::<Lasting>().map(|lasting| lasting.0));
                    Ok::<_, std::convert::Infallible>(answer)
                }
            }
        });
        let serving = http1::Builder::new()
            .keep_alive(false)
            .half_close(true)
            .header_read_timeout(None)
            .max_buf_size(REQUEST_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(stream.clone(), service);
        self.connections.push(Connection {
            stream,
            stage: Stage::Serving(Box::pin(async move {
                // Whatever went wrong concerns this connection alone, and its client has seen it.
                let _ = serving.await;
            })),
            until: Instant::now() + SERVE_TIME,
            lasts,
            asked,
            gone: false,
        });
        Ok(())
    }
}

impl Connection {
    /// What of its socket it wants to hear of.
    fn waits(&self) -> PollFlags {
        let leaves = match self.lasts.get() {
            Some(_) => PollFlags::RDHUP,
            None => PollFlags::empty(),
        };
        self.stream.waits() | leaves
    }

    /// True once it is over.
    fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        if let Stage::Serving(serving) = &mut self.stage {
            if serving.as_mut().poll(cx) == Poll::Pending {
                if let Some(lasts) = self.lasts.get() {
                    self.until = lasts;
                }
                return false;
            }
            self.stage = Stage::Draining;
            self.stream.shut();
            self.until = self.until.min(now + DRAIN_TIME);
        }
        self.stream.drain()
    }
}

/// When futures of this thread want to be polled again.
#[derive(Debug, Default)]
pub(super) struct Alarms(RefCell<BinaryHeap<Reverse<Instant>>>);

impl Alarms {
    pub(super) fn set(&self, at: Instant) {
        self.0.borrow_mut().push(Reverse(at));
    }

    fn next(&self) -> Option<Instant> {
        self.0.borrow().peek().map(|Reverse(at)| *at)
    }

    /// Forgets those that are due: all futures are polled now.
    fn ring(&self, now: Instant) {
        let mut alarms = self.0.borrow_mut();
        while alarms.peek().is_some_and(|Reverse(at)| *at <= now) {
            alarms.pop();
        }
    }
}

/// Open at once. A scraper, some browsers, a few scripts; each costs a descriptor and some KiB.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// From the accepted socket to the last byte of the answer.
const SERVE_TIME: Duration = Duration::from_secs(10);
/// For the client to end its side after the answer.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Request line and headers: what tokens, cookies of other programs on this host and a long topic need.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Accepted before those that are connected have their turn.
const ACCEPTS_MAX: usize = 16;
/// After the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
