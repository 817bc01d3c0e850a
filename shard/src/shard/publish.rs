//! The QoS exchanges with one client (sections 3.3 to 3.7, 4.3): what it publishes, and what it acknowledges.

use bytes::Bytes;

use super::Shard;
use super::clients::done;
use super::connection::Gate;
use super::event::ConnId;
use super::outgoing::Outgoing;
use crate::codec::{Packet, PacketId, Publish, QoS};
use crate::error::{CloseReason, DropReason, ProtocolError, SessionError};
use crate::limits::SlowSubscriber;
use crate::session::{Acknowledged, Receipt, Received, Sent, SentState};
use crate::store::{Lsn, Record};
use crate::time::Instant;
use crate::topic::{TopicLimits, TopicName};

impl Shard {
    /// PUBLISH from a client.
    ///
    /// # Errors
    /// The connection closes. A message that was not acknowledged is the client's to send again.
    pub(super) fn on_publish(
        &mut self,
        now: Instant,
        conn: ConnId,
        index: u32,
        publish: &Publish<'_>,
        source: Option<&Bytes>,
    ) -> Result<(), CloseReason> {
        self.clients.stats.count_received(publish.qos);
        if self.limits_rate() {
            self.spend_allowance(now, conn, publish.topic.len() + publish.payload.len())?;
        }
        let topic =
            TopicName::new(publish.topic, &self.clients.limits.topic).map_err(ProtocolError::InvalidTopicName)?;
        let mut out = Outgoing::borrowed(topic, publish.payload, source, publish.qos, publish.retain);
        match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) | (_, None) => {
                if self.is_publishable(index, topic)? {
                    self.publish_for(now, conn, index, &mut out)?;
                }
            }
            (QoS::AtLeastOnce, Some(id)) => {
                let gate = if self.is_publishable(index, topic)? {
                    self.publish_for(now, conn, index, &mut out)?
                } else {
                    // Acknowledged as its QoS says, and dropped [MQTT-3.3.5-2].
                    Gate::default()
                };
                self.clients.answer(conn, gate, &Packet::PubAck(id));
            }
            (QoS::ExactlyOnce, Some(id)) => {
                if fault!(PanicAtQos2) {
                    panic!("a planted fault");
                }
                if fault!(DeliverAtPublish) {
                    self.publish_for(now, conn, index, &mut out)?;
                }
                // A repeat is judged when it is released; and so is what belongs to the broker.
                let session = &self.clients.sessions[index as usize];
                let is_kept = self.clients.access.is_open_to(session)
                    || belongs_to_broker(topic)
                    || self.holds_inbound(index, id)
                    || self.may_publish(index, topic)?;
                let lsn = if is_kept {
                    self.hold_inbound(now, index, id, &mut out)?
                } else {
                    // Nothing is held, so PUBREL gets its PUBCOMP, and that is all.
                    Lsn(0)
                };
                self.clients.answer(conn, Gate { lsn, token: 0 }, &Packet::PubRec(id));
            }
        }
        Ok(())
    }

    fn holds_inbound(&self, index: u32, id: PacketId) -> bool {
        let session = &self.clients.sessions[index as usize];
        session.inbound.as_ref().is_some_and(|window| window.holds(id))
    }

    /// Whether a message of this client to this topic is routed; if not, that is counted.
    ///
    /// # Errors
    /// It is not, and the operator chose to close the connection then.
    fn is_publishable(&mut self, index: u32, topic: TopicName<'_>) -> Result<bool, ProtocolError> {
        if belongs_to_broker(topic) {
            self.clients.drop_message(index, topic, DropReason::Forbidden);
            return Ok(false);
        }
        self.may_publish(index, topic)
    }

    /// Routes a message of this client; what its acknowledgement waits for.
    fn publish_for(
        &mut self,
        now: Instant,
        conn: ConnId,
        index: u32,
        out: &mut Outgoing<'_>,
    ) -> Result<Gate, CloseReason> {
        if self.clients.limits.slow_subscriber == SlowSubscriber::Backpressure || self.pressed != 0 {
            out.publisher = Some(self.clients.key(index));
        }
        let sticky = if self.uses_sticky() {
            let session = &self.clients.sessions[index as usize];
            Some(self.placement.sticky(&session.client_id))
        } else {
            None
        };
        let acknowledger = (conn, self.clients.connections[conn.index()].generation);
        self.route(now, out, sticky, Some(acknowledger))
            .map_err(CloseReason::Store)
    }

    /// Takes a QoS 2 message over from its publisher; routed at PUBREL.
    fn hold_inbound(
        &mut self,
        now: Instant,
        index: u32,
        id: PacketId,
        out: &mut Outgoing<'_>,
    ) -> Result<Lsn, CloseReason> {
        let (held_max, bytes_max) = (
            self.clients.limits.inbound_qos2_max,
            self.clients.limits.queued_bytes_max,
        );
        let session = &mut self.clients.sessions[index as usize];
        let window = session.inbound.get_or_insert_default();
        if window.holds(id) {
            // Durable with or before what was recorded last: a repeated PUBREC must not be early either.
            return Ok(if self.clients.volatile {
                Lsn(0)
            } else {
                session.inbound_lsn
            });
        }
        window.check_room(out.size(), held_max, bytes_max)?;
        self.clients.admit_inbound(now, index, out.size())?;
        let session = &mut self.clients.sessions[index as usize];
        let message = out.shared();
        if !self.clients.volatile && !session.clean {
            let record = Record::Held {
                client_id: &session.client_id,
                packet_id: id,
                message: &message,
            };
            session.inbound_lsn = self.clients.store.append(record)?;
            if fault!(ReleaseWhenHeld) {
                let (client_id, packet_id) = (&*session.client_id, id);
                self.clients.store.append(Record::Released { client_id, packet_id })?;
            }
        }
        let receipt = session.inbound.get_or_insert_default().on_publish(id, message);
        debug_assert_eq!(receipt, Receipt::New);
        let lsn = session.inbound_lsn;
        self.clients.recharge_session(index);
        Ok(lsn)
    }

    /// PUBREL from a client: the message is its subscribers' [MQTT-4.3.3-2].
    pub(super) fn on_pubrel(
        &mut self,
        now: Instant,
        conn: ConnId,
        index: u32,
        id: PacketId,
    ) -> Result<(), CloseReason> {
        let session = self.clients.session(index);
        let mut gate = Gate::default();
        if let Some(message) = session.inbound.as_mut().and_then(|window| window.on_pubrel(id)) {
            self.clients.recharge_session(index);
            let mut out = Outgoing::released(&message);
            let publishable = self.is_publishable(index, out.topic);
            if publishable == Ok(true) {
                gate = self.publish_for(now, conn, index, &mut out)?;
            }
            let session = &self.clients.sessions[index as usize];
            if !self.clients.volatile && !session.clean {
                let record = Record::Released {
                    client_id: &session.client_id,
                    packet_id: id,
                };
                gate.lsn = gate.lsn.max(self.clients.store.append(record)?);
            }
            // Not held any more, on this connection or another.
            publishable?;
        }
        self.clients.answer(conn, gate, &Packet::PubComp(id));
        Ok(())
    }

    /// PUBACK from a client: a QoS 1 message has arrived.
    #[inline]
    pub(super) fn on_puback(&mut self, index: u32, id: PacketId) -> Result<(), CloseReason> {
        let outcome = self.clients.session(index).outbound.on_puback(id);
        self.after_acknowledgement(index, id, "PUBACK", &outcome)
    }

    /// PUBREC from a client: a QoS 2 message has arrived.
    pub(super) fn on_pubrec(&mut self, conn: ConnId, index: u32, id: PacketId) -> Result<(), CloseReason> {
        let session = &self.clients.sessions[index as usize];
        let mut gate = Gate::default();
        let waited_for = |sent: &Sent| sent.state == SentState::PubRec;
        if !session.clean && !self.clients.volatile && session.outbound.in_flight(id).is_some_and(waited_for) {
            // Before the state changes: PUBREL must not leave, now or on a later connection, without this record.
            let record = Record::Received {
                client_id: &session.client_id,
                packet_id: id,
            };
            gate.lsn = self.clients.store.append(record)?;
        }
        match self.clients.session(index).outbound.on_pubrec(id) {
            Received::First | Received::Repeat | Received::Unknown => {}
            Received::Wrong(state) => return Err(wrong("PUBREC", id, state)),
        }
        self.clients.recharge_session(index);
        self.clients.answer(conn, gate, &Packet::PubRel(id));
        Ok(())
    }

    /// PUBCOMP from a client: a QoS 2 exchange is over.
    pub(super) fn on_pubcomp(&mut self, index: u32, id: PacketId) -> Result<(), CloseReason> {
        let outcome = self.clients.session(index).outbound.on_pubcomp(id);
        self.after_acknowledgement(index, id, "PUBCOMP", &outcome)
    }

    fn after_acknowledgement(
        &mut self,
        index: u32,
        id: PacketId,
        packet: &'static str,
        outcome: &Acknowledged,
    ) -> Result<(), CloseReason> {
        match outcome {
            Acknowledged::Done(message_id) => {
                self.clients.stats.inflight -= 1;
                let session = &self.clients.sessions[index as usize];
                done(&mut *self.clients.store, self.clients.volatile, session, *message_id);
                if session.outbound.queued() > 0 || session.holding.is_some() {
                    self.clients.pump(index);
                }
                self.clients.recharge_session(index);
                Ok(())
            }
            // Acknowledged twice, or from before the session was resumed: no harm.
            Acknowledged::Unknown => Ok(()),
            Acknowledged::Wrong(state) => Err(wrong(packet, id, *state)),
        }
    }

    /// Publishes as the broker itself.
    pub(super) fn publish_own(&mut self, now: Instant, topic: &str, payload: &[u8], retain: bool) {
        // The limits on topics are the clients'.
        let Ok(topic) = TopicName::new(topic, &TopicLimits::default()) else {
            return;
        };
        let mut out = Outgoing::borrowed(topic, payload, None, QoS::AtMostOnce, retain);
        // QoS 0 writes nothing that could fail but the retained message, and that comes again with the next interval.
        let _ = self.route(now, &mut out, None, None);
    }
}

fn wrong(packet: &'static str, packet_id: PacketId, state: SentState) -> CloseReason {
    SessionError::WrongAcknowledgement {
        packet,
        packet_id,
        expected: state.expected(),
    }
    .into()
}

/// Topics that clients read but do not write: `$SYS`, and what would look like a shared subscription.
pub(super) fn belongs_to_broker(topic: TopicName<'_>) -> bool {
    if !topic.starts_with_dollar() {
        return false;
    }
    let first = topic.as_str().split('/').next();
    matches!(first, Some("$SYS" | "$share"))
}
