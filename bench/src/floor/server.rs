//! The loop of a floor: one thread, one epoll, one read per ready connection, one write per connection and turn.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::ValueEnum;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

use super::client::{Client, subscribe};
use super::faults::{Fate, Faults, corrupt};
use super::routes::{Routes, Target};
use crate::net::{Link, Poller, Readiness, Received};
use crate::wire::frame::{self, Frame, Publish};
use crate::wire::packet::{PINGRESP, acknowledge, kind, packet};

/// How much a floor does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// Frames and counts
    Sink,
    /// Frames, counts and acknowledges
    Ack,
    /// Acknowledges and passes on: each publisher has one topic, looked up once (pairs, fan-in)
    Relay,
    /// Acknowledges and passes on to whoever is subscribed, comparing each message's topic with the one before
    Fan,
}

/// A floor server.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    poller: Poller,
    hub: Hub,
    scratch: Vec<u8>,
}

/// Everything that packets change.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) kind: Kind,
    pub(super) faults: Faults,
    /// By token; the listener's token is above all of them.
    pub(super) clients: Vec<Option<Client>>,
    free: Vec<usize>,
    pub(super) routes: Routes,
    dirty: Vec<usize>,
    /// Clients whose output is over the mark, and publishers that wait for them.
    congested: usize,
    waiting: Vec<usize>,
    /// Sockets that were not read dry.
    unread: Vec<usize>,
    /// Messages, CONNECTs and PINGREQs seen, for the faults.
    pub(super) messages: u64,
    connects: u64,
    pings: u64,
    /// Messages kept back by a fault: who published, who gets it, the packet.
    pub(super) held: Vec<(usize, usize, Vec<u8>)>,
}

const LISTENER: usize = usize::MAX / 4;
const SCRATCH_BYTES: usize = 256 * 1024;

/// Output of one client above which publishers wait: a few socket buffers, so that a relay neither stalls nor hoards.
const OUT_MAX: usize = 1024 * 1024;

impl Server {
    /// Listens on `address`; port 0 picks one, see [`Server::address`].
    ///
    /// # Errors
    /// The system's, the port being taken first of all.
    pub(crate) fn bind(address: SocketAddr, kind: Kind, faults: Faults) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let poller = Poller::new()?;
        poller.add_listener(&listener, LISTENER)?;
        let hub = Hub {
            kind,
            faults,
            clients: Vec::new(),
            free: Vec::new(),
            routes: Routes::default(),
            dirty: Vec::new(),
            congested: 0,
            waiting: Vec::new(),
            unread: Vec::new(),
            messages: 0,
            connects: 0,
            pings: 0,
            held: Vec::new(),
        };
        Ok(Server {
            listener,
            poller,
            hub,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is set.
    ///
    /// # Errors
    /// The poller's or the listener's; clients' errors end the client.
    pub(crate) fn serve(mut self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Relaxed) {
            let idle = self.hub.unread.is_empty();
            self.poller.wait(if idle {
                Duration::from_millis(100)
            } else {
                Duration::ZERO
            })?;
            for at in std::mem::take(&mut self.hub.unread) {
                self.hub.read(at, false, &mut self.scratch);
            }
            let mut accept = false;
            for event in self.poller.ready() {
                if event.token == LISTENER {
                    accept = true;
                } else {
                    self.hub.handle(event, &mut self.scratch);
                }
            }
            self.hub.flush();
            if accept {
                self.accept()?;
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) => {
                    sockopt::set_tcp_nodelay(&fd, true)?;
                    let at = self.hub.vacancy();
                    self.poller.add(&fd, at)?;
                    self.hub.clients[at] = Some(Client::new(Link::new(fd)));
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Hub {
    fn vacancy(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        })
    }

    fn handle(&mut self, event: Readiness, scratch: &mut Vec<u8>) {
        let at = event.token;
        if event.writable
            && self.clients[at]
                .as_ref()
                .is_some_and(|client| client.link.pending() > 0)
        {
            self.write(at);
        }
        if event.readable {
            self.read(at, event.hung_up, scratch);
        }
    }

    fn read(&mut self, at: usize, hung_up: bool, scratch: &mut Vec<u8>) {
        let Some(client) = &mut self.clients[at] else { return };
        if client.publishes && self.congested > 0 && !hung_up {
            self.waiting.push(at);
            return;
        }
        match client.link.receive(scratch) {
            Ok(Received::Bytes { len, more }) => {
                if more || hung_up {
                    self.unread.push(at);
                }
                let bytes = std::mem::take(scratch);
                match self.take_all(at, &bytes[..len]) {
                    Some(taken) => {
                        if let Some(client) = &mut self.clients[at] {
                            client.link.keep(&bytes[taken..len]);
                        }
                    }
                    None => self.close(at),
                }
                *scratch = bytes;
            }
            Ok(Received::Nothing) => {}
            Ok(Received::Closed) | Err(_) => self.close(at),
        }
    }

    /// Takes every whole packet of `bytes`; `None` where the connection must end.
    fn take_all(&mut self, at: usize, bytes: &[u8]) -> Option<usize> {
        let mut taken = 0;
        // Consecutive QoS 0 messages to one audience leave in one copy per target.
        let mut run = 0..0;
        while let Some(frame) = frame::next(&bytes[taken..]).ok()? {
            let end = taken + frame.bytes.len();
            if frame.first >> 4 == kind::PUBLISH {
                let publish = Publish::parse(&frame).ok()?;
                if self.joins_run(at, &publish) && !run.is_empty() {
                    run.end = end;
                } else {
                    self.deliver_run(at, &bytes[std::mem::replace(&mut run, 0..0)]);
                    if self.begin(at, &frame, &publish) {
                        run = taken..end;
                    }
                }
            } else {
                self.deliver_run(at, &bytes[std::mem::replace(&mut run, 0..0)]);
                self.take(at, &frame)?;
            }
            taken = end;
        }
        self.deliver_run(at, &bytes[run]);
        Some(taken)
    }

    /// Any packet but a PUBLISH.
    fn take(&mut self, at: usize, frame: &Frame<'_>) -> Option<()> {
        let id = frame::packet_id(frame.body);
        match frame.first >> 4 {
            kind::CONNECT => {
                self.connects += 1;
                if self.faults.refuse > 0 && self.connects.is_multiple_of(self.faults.refuse) {
                    self.send(at, &[0x20, 2, 0, 3]);
                    self.flush();
                    return None;
                }
                self.send(at, &[0x20, 2, 0, 0]);
            }
            kind::SUBSCRIBE => self.subscribe(at, frame.body)?,
            kind::PUBREC => self.send(at, &acknowledge(kind::PUBREL, id)),
            kind::PUBREL => self.send(at, &acknowledge(kind::PUBCOMP, id)),
            kind::PINGREQ => {
                self.pings += 1;
                if self.faults.mute == 0 || !self.pings.is_multiple_of(self.faults.mute) {
                    self.send(at, &PINGRESP);
                }
            }
            kind::PUBACK | kind::PUBCOMP => {}
            kind::DISCONNECT => return None,
            _ => return None,
        }
        Some(())
    }

    fn subscribe(&mut self, at: usize, body: &[u8]) -> Option<()> {
        let (id, filters) = subscribe(body)?;
        let mut suback = id.to_be_bytes().to_vec();
        suback.extend(filters.iter().map(|&(_, qos)| qos));
        let mut bytes = Vec::new();
        packet(&mut bytes, 0x90, &suback);
        self.send(at, &bytes);
        self.clients[at].as_mut()?.subscribed = true;
        for (filter, qos) in filters {
            let target = Target { client: at, qos };
            self.routes.subscribe(filter, target);
            let retained: Vec<Vec<u8>> = self.routes.retained_for(filter).map(<[u8]>::to_vec).collect();
            for packet in retained {
                self.deliver(at, target, &packet, true);
            }
        }
        Some(())
    }

    /// Answers a PUBLISH as its QoS asks; the faults of [`Kind::Ack`] are here.
    pub(super) fn acknowledge(&mut self, at: usize, publish: &Publish<'_>) {
        if publish.qos == 0 || self.kind == Kind::Sink {
            return;
        }
        let mut ack = acknowledge(if publish.qos == 1 { kind::PUBACK } else { kind::PUBREC }, publish.id);
        if self.kind != Kind::Ack || !self.faults.touch_messages() {
            return self.send(at, &ack);
        }
        self.messages += 1;
        match self.faults.fate(self.messages) {
            Fate::Pass => self.send(at, &ack),
            Fate::Drop => {}
            Fate::Twice => self.send(at, &[ack, ack].concat()),
            Fate::Hold => return self.held.push((at, at, ack.to_vec())),
            Fate::Corrupt => {
                corrupt(&mut ack);
                self.send(at, &ack);
            }
        }
        self.release_held(at, at);
    }

    /// Adds to a client's output, to be written at the end of the turn.
    pub(super) fn send(&mut self, at: usize, bytes: &[u8]) {
        if let Some(client) = &mut self.clients[at] {
            client.link.queue(bytes);
        }
        self.touch(at);
    }

    /// The client has output.
    #[inline]
    pub(super) fn touch(&mut self, at: usize) {
        if let Some(client) = &mut self.clients[at]
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(at);
        }
    }

    fn flush(&mut self) {
        for at in std::mem::take(&mut self.dirty) {
            if let Some(client) = &mut self.clients[at] {
                client.dirty = false;
                self.write(at);
            }
        }
    }

    /// Writes what a client is owed, and keeps the count of those over the mark.
    fn write(&mut self, at: usize) {
        let Some(client) = &mut self.clients[at] else { return };
        if client.link.flush().is_err() {
            return self.close(at);
        }
        let over = client.link.pending() > if client.congested { OUT_MAX / 2 } else { OUT_MAX };
        match (client.congested, over) {
            (false, true) => self.congested += 1,
            (true, false) => self.congested -= 1,
            _ => return,
        }
        client.congested = over;
        self.resume();
    }

    fn resume(&mut self) {
        if self.congested == 0 {
            self.unread.append(&mut self.waiting);
        }
    }

    fn close(&mut self, at: usize) {
        if let Some(client) = self.clients[at].take() {
            if client.subscribed {
                self.routes.leave(at);
            }
            self.held
                .retain(|&(publisher, target, _)| publisher != at && target != at);
            self.free.push(at);
            if client.congested {
                self.congested -= 1;
                self.resume();
            }
        }
    }
}
