//! What a client can tell about its connection from the bytes alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::codec::{ConnectReturnCode, PACKET_BYTES_MAX, Packet, PacketId, QoS, decode, encode};
use crate::limits::Limits;
use crate::topic::{Subscription, TopicLimits, TopicName};

/// What all clients have said together.
#[derive(Default)]
pub(super) struct World {
    /// Topic Name and payload of all PUBLISH packets and Wills.
    pub(super) published: BTreeSet<(String, Vec<u8>)>,
    /// All Topic Filters, without their groups.
    filters: BTreeSet<String>,
}

/// One connection, from its client's end.
///
/// The broker may have read less than what was sent, and may ignore it; so what it answers must be among what it was
/// asked, but not everything that was asked must be answered.
#[derive(Default)]
pub(super) struct Client {
    /// Sent, and not yet a whole packet.
    sent: Vec<u8>,
    /// What was sent is no packet: whatever comes after is not either.
    malformed: bool,
    /// Received, and not yet a whole packet.
    received: Vec<u8>,
    /// The answer to CONNECT.
    answered: Option<ConnectReturnCode>,
    /// Identifiers in what was sent and is not answered, by the first byte of the answer, oldest first; for SUBACK with the
    /// number of filters.
    asked: BTreeMap<u8, VecDeque<(u16, usize)>>,
    /// Messages received and not acknowledged.
    in_flight: BTreeMap<PacketId, QoS>,
    /// It acknowledged what it had not received; the broker may read that once it has sent it.
    hasty: bool,
    /// What a well-behaved client sends next.
    answers: VecDeque<Vec<u8>>,
}

impl Client {
    /// The broker reads these bytes.
    pub(super) fn on_sent(&mut self, bytes: &[u8], world: &mut World) {
        self.sent.extend_from_slice(bytes);
        let sent = std::mem::take(&mut self.sent);
        let mut used = 0;
        while !self.malformed {
            match decode(&sent[used..], PACKET_BYTES_MAX) {
                Ok(Some(decoded)) => {
                    self.on_sent_packet(&decoded.packet, world);
                    used += decoded.len;
                }
                Ok(None) => {
                    self.sent = sent[used..].to_vec();
                    return;
                }
                Err(_) => self.malformed = true,
            }
        }
    }

    fn on_sent_packet(&mut self, packet: &Packet<'_>, world: &mut World) {
        match packet {
            Packet::Connect(connect) => {
                if let Some(will) = &connect.will {
                    world.published.insert((will.topic.to_owned(), will.message.to_vec()));
                }
            }
            Packet::Publish(publish) => {
                world
                    .published
                    .insert((publish.topic.to_owned(), publish.payload.to_vec()));
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => self.ask(PUBACK, id, 0),
                    (QoS::ExactlyOnce, Some(id)) => self.ask(PUBREC, id, 0),
                    _ => {}
                }
            }
            Packet::PubAck(id) | Packet::PubComp(id) => {
                self.hasty |= self.in_flight.remove(id).is_none();
            }
            Packet::PubRec(id) => self.ask(PUBREL, *id, 0),
            Packet::PubRel(id) => self.ask(PUBCOMP, *id, 0),
            Packet::Subscribe(subscribe) => {
                let filters: Vec<&str> = subscribe.filters.iter().map(|(filter, _)| filter).collect();
                self.ask(SUBACK, subscribe.packet_id, filters.len());
                let valid = filters
                    .iter()
                    .filter_map(|filter| Subscription::parse(filter, &TopicLimits::default()).ok());
                world
                    .filters
                    .extend(valid.map(|subscription| subscription.filter.as_str().to_owned()));
            }
            Packet::Unsubscribe(unsubscribe) => self.ask(UNSUBACK, unsubscribe.packet_id, 0),
            Packet::PingReq => self.asked.entry(PINGRESP).or_default().push_back((0, 0)),
            _ => {}
        }
    }

    /// The client gets these bytes.
    pub(super) fn on_received(&mut self, bytes: &[u8], world: &World, limits: &Limits) {
        self.received.extend_from_slice(bytes);
        let received = std::mem::take(&mut self.received);
        let mut used = 0;
        while let Some(decoded) = decode(&received[used..], PACKET_BYTES_MAX).expect("the broker sends packets") {
            self.on_received_packet(&decoded.packet, world);
            used += decoded.len;
        }
        self.received = received[used..].to_vec();
        let fits = self.in_flight.len() <= usize::from(limits.inflight_max);
        assert!(fits || self.hasty, "the window is bounded");
    }

    fn on_received_packet(&mut self, packet: &Packet<'_>, world: &World) {
        match (packet, self.answered) {
            (Packet::ConnAck(connack), None) => {
                self.answered = Some(connack.code);
                return;
            }
            (_, Some(ConnectReturnCode::Accepted)) => {}
            (packet, answered) => panic!("{packet:?} after {answered:?}"), // [MQTT-3.2.0-1]
        }
        match packet {
            Packet::Publish(publish) => {
                let message = (publish.topic.to_owned(), publish.payload.to_vec());
                assert!(world.published.contains(&message), "nobody published {publish:?}");
                assert!(world.is_subscribed(publish.topic), "nobody subscribed to {publish:?}");
                if let Some(id) = publish.packet_id {
                    let before = self.in_flight.insert(id, publish.qos);
                    assert_eq!(before, None, "{id} is in flight already"); // [MQTT-2.3.1-4]
                    let answer = if publish.qos == QoS::AtLeastOnce {
                        Packet::PubAck(id)
                    } else {
                        Packet::PubRec(id)
                    };
                    self.will_answer(&answer);
                }
            }
            Packet::PubAck(id) => self.on_answer(PUBACK, *id),
            Packet::PubRec(id) => {
                self.on_answer(PUBREC, *id);
                self.will_answer(&Packet::PubRel(*id));
            }
            Packet::PubRel(id) => {
                // Asked for by PUBREC on this connection, or left over from the one before.
                self.will_answer(&Packet::PubComp(*id));
            }
            Packet::PubComp(id) => self.on_answer(PUBCOMP, *id),
            Packet::SubAck(suback) => {
                // [MQTT-3.9.3-1]
                self.find_asked(SUBACK, suback.packet_id.value(), suback.return_codes.len());
            }
            Packet::UnsubAck(id) => self.on_answer(UNSUBACK, *id),
            Packet::PingResp => {
                self.find_asked(PINGRESP, 0, 0);
            }
            packet => panic!("a server does not send {packet:?}"),
        }
    }

    /// What a well-behaved client would send next.
    pub(super) fn next_answer(&mut self) -> Option<Vec<u8>> {
        self.answers.pop_front()
    }

    fn will_answer(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, &mut bytes);
        self.answers.push_back(bytes);
    }

    fn ask(&mut self, answer: u8, id: PacketId, filters: usize) {
        self.asked.entry(answer).or_default().push_back((id.value(), filters));
    }

    fn on_answer(&mut self, answer: u8, id: PacketId) {
        self.find_asked(answer, id.value(), 0);
    }

    /// Answers of one kind leave in the order in which they were asked for [MQTT-4.6.0-2] [MQTT-4.6.0-3]; but a SUBACK
    /// waits for other shards, and a later one may not have to.
    fn find_asked(&mut self, answer: u8, id: u16, filters: usize) {
        let asked = self.asked.entry(answer).or_default();
        let Some(at) = asked.iter().position(|asked| *asked == (id, filters)) else {
            panic!("nobody asked for {answer:#04x} with {id} and {filters} filters");
        };
        if answer == SUBACK {
            asked.remove(at);
        } else {
            asked.drain(..=at);
        }
    }
}

impl World {
    fn is_subscribed(&self, topic: &str) -> bool {
        let unlimited = TopicLimits::default();
        let topic = TopicName::new(topic, &unlimited).expect("the broker sends valid Topic Names");
        self.filters.iter().any(|filter| {
            let filter = crate::topic::TopicFilter::new(filter, &unlimited).expect("checked before it was added");
            filter.matches(topic)
        })
    }
}

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xB0;
const PINGRESP: u8 = 0xD0;
