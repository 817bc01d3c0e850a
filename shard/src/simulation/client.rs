//! One virtual client: its side of the protocol, as a state machine without sockets.
//!
//! It keeps to the specification (but for acknowledgements it is told to hold back or lose), so that whatever goes wrong
//! is the broker's doing. What it sees it does not judge: that is the oracle's business.

use std::collections::{BTreeSet, VecDeque};

use super::plan::{ClientPlan, MessagePlan};
use super::wire::{DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, ack_bytes, connect_with, publish_bytes};
use super::wire::{subscribe_bytes, unsubscribe_bytes};
use crate::codec::{Packet, QoS, Will, decode};

/// How far its connection has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Link {
    Down,
    Connecting,
    Up,
}

/// A message of its own that is not through.
#[derive(Clone, Debug)]
struct Unfinished {
    id: u16,
    message: usize,
    /// PUBREC came.
    received: bool,
    /// On which connection it was sent last.
    sent_on: u32,
}

pub(super) struct Client {
    pub(super) plan: ClientPlan,
    pub(super) socket: Option<usize>,
    pub(super) link: Link,
    /// To be written to the socket.
    pub(super) out: Vec<u8>,
    received: Vec<u8>,
    next_id: u16,
    unfinished: Vec<Unfinished>,
    /// QoS 2 messages between PUBLISH and PUBREL, and their PUBCOMP.
    receiving: BTreeSet<u16>,
    acknowledgements: VecDeque<Vec<u8>>,
    pub(super) holds_back: bool,
    pub(super) loses: usize,
    /// Some acknowledgement got lost on this connection: what it was for comes again only on another.
    pub(super) has_lost: bool,
    pub(super) stalled: bool,
    pub(super) keep_alive: u16,
    pub(super) last_sent: u64,
    /// Does nothing before this time.
    pub(super) sleeps_until: u64,
    pub(super) silent: bool,
    connections: u32,
}

impl Client {
    pub(super) fn new(plan: ClientPlan) -> Client {
        Client {
            plan,
            socket: None,
            link: Link::Down,
            out: Vec::new(),
            received: Vec::new(),
            next_id: 1,
            unfinished: Vec::new(),
            receiving: BTreeSet::new(),
            acknowledgements: VecDeque::new(),
            holds_back: false,
            loses: 0,
            has_lost: false,
            stalled: false,
            keep_alive: 0,
            last_sent: 0,
            sleeps_until: 0,
            silent: false,
            connections: 0,
        }
    }

    /// Begins a connection; returns its CONNECT.
    pub(super) fn connect(&mut self, clean: bool, keep_alive: u16, will: Option<&MessagePlan>) -> Vec<u8> {
        let will = will.map(|message| Will {
            topic: message.topic,
            message: &message.payload,
            qos: QoS::from_bits(message.qos).expect("0, 1 or 2"),
            retain: message.retain,
        });
        if clean {
            self.unfinished.clear();
            self.receiving.clear();
        }
        self.disconnected();
        self.link = Link::Connecting;
        self.keep_alive = keep_alive;
        self.connections += 1;
        connect_with(&self.plan.id, clean, keep_alive, will)
    }

    /// The connection is gone, from its point of view.
    pub(super) fn disconnected(&mut self) {
        self.link = Link::Down;
        self.socket = None;
        self.out.clear();
        self.received.clear();
        self.acknowledgements.clear();
        self.has_lost = false;
        self.stalled = false;
        self.holds_back = false;
        self.loses = 0;
    }

    pub(super) fn publish(&mut self, number: usize, message: &MessagePlan) {
        let id = if message.qos > 0 { self.take_id() } else { 0 };
        self.out.extend(bytes_of(message, id));
        if message.qos > 0 {
            self.unfinished.push(Unfinished {
                id,
                message: number,
                received: false,
                sent_on: self.connections,
            });
        }
    }

    pub(super) fn subscribe(&mut self, filters: &[(&str, u8)]) {
        let id = self.take_id();
        self.out.extend(subscribe_bytes(id, filters));
    }

    pub(super) fn unsubscribe(&mut self, filters: &[&str]) {
        let id = self.take_id();
        self.out.extend(unsubscribe_bytes(id, filters));
    }

    pub(super) fn ping(&mut self) {
        self.out.extend([0xc0, 0]);
    }

    pub(super) fn disconnect(&mut self) {
        self.out.extend(DISCONNECT);
    }

    /// Sends everything unfinished again, with DUP; `earlier`: only what another connection sent.
    pub(super) fn resend(&mut self, messages: &[MessagePlan], earlier: bool) {
        for unfinished in &mut self.unfinished {
            if earlier && unfinished.sent_on == self.connections {
                continue;
            }
            unfinished.sent_on = self.connections;
            if unfinished.received {
                self.out.extend(ack_bytes(PUBREL, unfinished.id));
            } else {
                let mut bytes = bytes_of(&messages[unfinished.message], unfinished.id);
                bytes[0] |= 0b1000;
                self.out.extend(bytes);
            }
        }
    }

    /// Lets acknowledgements go; `count` of them.
    pub(super) fn acknowledge(&mut self, count: usize) {
        for _ in 0..count {
            let Some(bytes) = self.acknowledgements.pop_front() else {
                return;
            };
            if self.loses > 0 {
                self.loses -= 1;
                self.has_lost = true;
            } else {
                self.out.extend(bytes);
            }
        }
    }

    pub(super) fn owes_acknowledgements(&self) -> bool {
        !self.acknowledgements.is_empty()
    }

    /// Whether something of its own is not through.
    pub(super) fn is_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Bytes from the broker.
    pub(super) fn receive(&mut self, bytes: &[u8], messages: &[MessagePlan]) {
        self.received.extend_from_slice(bytes);
        let received = std::mem::take(&mut self.received);
        let mut used = 0;
        while let Some(decoded) = decode(&received[used..], usize::MAX).expect("the broker sends packets") {
            self.on_packet(&decoded.packet, messages);
            used += decoded.len;
        }
        self.received = received[used..].to_vec();
    }

    fn on_packet(&mut self, packet: &Packet<'_>, messages: &[MessagePlan]) {
        match packet {
            Packet::ConnAck(connack) => {
                self.link = Link::Up;
                let current = self.connections;
                if connack.session_present {
                    self.resend(messages, true);
                } else {
                    self.unfinished.retain(|unfinished| unfinished.sent_on == current);
                    self.receiving.clear();
                }
            }
            Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
                (QoS::AtLeastOnce, Some(id)) => self.owe(PUBACK, id.value()),
                (QoS::ExactlyOnce, Some(id)) => {
                    self.receiving.insert(id.value());
                    self.owe(PUBREC, id.value());
                }
                _ => {}
            },
            Packet::PubRel(id) => {
                self.receiving.remove(&id.value());
                self.owe(PUBCOMP, id.value());
            }
            Packet::PubAck(id) | Packet::PubComp(id) => {
                self.unfinished.retain(|unfinished| unfinished.id != id.value());
            }
            Packet::PubRec(id) => {
                for unfinished in &mut self.unfinished {
                    if unfinished.id == id.value() {
                        unfinished.received = true;
                        self.out.extend(ack_bytes(PUBREL, id.value()));
                    }
                }
            }
            _ => {}
        }
    }

    fn owe(&mut self, packet: u8, id: u16) {
        self.acknowledgements.push_back(ack_bytes(packet, id));
    }

    fn take_id(&mut self) -> u16 {
        let id = self.next_id;
        self.next_id = if id == u16::MAX { 1 } else { id + 1 };
        id
    }
}

fn bytes_of(message: &MessagePlan, id: u16) -> Vec<u8> {
    publish_bytes(message.topic, &message.payload, message.qos, message.retain, id)
}
