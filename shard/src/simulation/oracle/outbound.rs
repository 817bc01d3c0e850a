//! What clients get.

use super::Oracle;
use super::delivery::plain;
use super::model::{Flight, Message, Reply, Session, Sub};
use crate::codec::{ConnAck, ConnectReturnCode, Packet, PacketId, Publish, QoS, SubAck};
use crate::simulation::setup::StoreKind;

impl Oracle {
    pub(super) fn check_out(&mut self, socket: usize, packet: &Packet<'_>) {
        let conn = &self.conns[socket];
        if !conn.connack_sent {
            let Packet::ConnAck(connack) = packet else {
                panic!("socket {socket} gets {} before CONNACK [MQTT-3.2.0-1]", packet.name());
            };
            return self.on_connack(socket, connack);
        }
        let session = conn.session.expect("an accepted connection has a session");
        match packet {
            Packet::Publish(publish) if conn.over => self.on_late_publish(session, publish),
            Packet::Publish(publish) => self.on_delivery(socket, session, publish),
            Packet::PubRel(id) => self.on_pubrel_out(socket, session, id.value()),
            Packet::SubAck(suback) => self.on_suback(socket, session, suback),
            Packet::PubAck(id) => match self.next_reply(socket, packet) {
                Reply::PubAck(owed, message) if owed == id.value() => self.on_acknowledged(message),
                owed => panic!("socket {socket} gets PUBACK {id}, owed is {owed:?} [MQTT-4.6.0-2]"),
            },
            Packet::PubRec(id) => match self.next_reply(socket, packet) {
                Reply::PubRec(owed, message) if owed == id.value() => self.on_received(session, owed, message),
                owed => panic!("socket {socket} gets PUBREC {id}, owed is {owed:?} [MQTT-4.6.0-3]"),
            },
            Packet::PubComp(id) => match self.next_reply(socket, packet) {
                Reply::PubComp(owed, message) if owed == id.value() => {
                    message.into_iter().for_each(|message| self.on_acknowledged(message));
                }
                owed => panic!("socket {socket} gets PUBCOMP {id}, owed is {owed:?}"),
            },
            Packet::UnsubAck(id) => {
                let owed = self.next_reply(socket, packet);
                assert_eq!(owed, Reply::UnsubAck(id.value()), "socket {socket} gets UNSUBACK {id}");
            }
            Packet::PingResp => {
                let owed = self.next_reply(socket, packet);
                assert_eq!(owed, Reply::PingResp, "socket {socket} gets PINGRESP");
            }
            other => panic!("socket {socket} gets {other:?}"),
        }
    }

    fn next_reply(&mut self, socket: usize, packet: &Packet<'_>) -> Reply {
        let owed = self.conns[socket].replies.pop_front();
        owed.unwrap_or_else(|| panic!("socket {socket} gets {packet:?}, which answers nothing"))
    }

    fn on_connack(&mut self, socket: usize, connack: &ConnAck) {
        let conn = &mut self.conns[socket];
        conn.connack_sent = true;
        if connack.code != ConnectReturnCode::Accepted {
            let failing = self.setup.store == StoreKind::Failing;
            assert!(
                failing && conn.session.is_none(),
                "socket {socket} is refused: {connack:?}"
            );
            return;
        }
        let session = conn.session.expect("CONNACK 0 without a session");
        assert_eq!(connack.session_present, conn.session_present, "socket {socket}");
        self.sessions[session].promised = true;
        self.needs_record(session, "SessionStarted", "");
    }

    /// What was promised must be durable.
    fn needs_record(&self, session: usize, kind: &'static str, about: &str) {
        let it = &self.sessions[session];
        // Of a session that has ended the last packets may still be on their way.
        if let (Some(store), false, true) = (&self.stores[it.shard], it.clean, it.is_live()) {
            let client = &it.client;
            assert!(
                store.has(kind, client, about),
                "{client}: {kind} {about} is not durable yet"
            );
        }
    }

    fn on_suback(&mut self, socket: usize, session: usize, suback: &SubAck<'_>) {
        let id = suback.packet_id.value();
        let owed = self.conns[socket].subacks.remove(&id);
        let owed = owed.unwrap_or_else(|| panic!("socket {socket} gets SUBACK {id}, which answers nothing"));
        assert_eq!(
            suback.return_codes, owed.codes,
            "socket {socket}: SUBACK {id} [MQTT-3.9.3-1]"
        );
        for text in &owed.granted {
            self.needs_record(session, "Subscribed", text);
        }
        let at = self.at;
        let it = &mut self.sessions[session];
        if it.socket != Some(socket) {
            return;
        }
        for sub in it.subs.iter_mut().filter(|sub| sub.is_live() && sub.from <= owed.at) {
            if owed.granted.contains(&sub.text) {
                sub.acknowledged.get_or_insert(at);
            }
        }
        for asked in it
            .asked
            .iter_mut()
            .filter(|asked| asked.conn == socket && asked.packet_id == id)
        {
            asked.acknowledged.get_or_insert(at);
        }
    }

    /// PUBACK or PUBCOMP: every session that was subscribed has the message, for good.
    fn on_acknowledged(&mut self, message: usize) {
        let it = &mut self.messages[message];
        it.acknowledged = true;
        let from = it.order();
        let it = &self.messages[message];
        let text = it.record_text();
        for session in self
            .sessions
            .iter()
            .filter(|session| session.is_live() && !session.clean)
        {
            let Some(store) = &self.stores[session.shard] else {
                continue;
            };
            let (name, client) = (&it.name, &session.client);
            let has = !self.is_promised(session, it) || store.has("Queued", client, &text);
            assert!(has, "{name} is acknowledged, and a crash would lose it for {client}");
        }
        if it.retain && from != u64::MAX && self.stores[0].is_some() {
            let kept = self
                .stores
                .iter()
                .flatten()
                .any(|store| store.has("Retained", "", &text));
            assert!(
                kept,
                "{} is acknowledged, and a crash would lose it as retained",
                it.name
            );
        }
    }

    /// Whether the acknowledgement of this message promises that the session gets it.
    pub(super) fn is_promised(&self, session: &Session, message: &Message) -> bool {
        let from = message.order();
        let stood = |sub: &Sub| {
            let kept = sub.grants_since(from).all(|qos| qos > 0);
            sub.is_live() && kept && sub.acknowledged.is_some_and(|acknowledged| acknowledged < from)
        };
        !self.is_limited() && plain(session, &message.topic).any(stood)
    }

    /// PUBREC: the message is the broker's.
    fn on_received(&mut self, session: usize, id: u16, message: Option<usize>) {
        if let Some(message) = message {
            let about = format!("{id} {}", self.messages[message].record_text());
            self.needs_record(session, "Held", &about);
            let it = &mut self.sessions[session];
            if it.held.get(&id) == Some(&message) {
                it.received.insert(id, message);
            }
        }
    }

    fn on_pubrel_out(&mut self, socket: usize, session: usize, id: u16) {
        let received = self.sessions[session]
            .flights
            .get(&id)
            .is_some_and(|flight| flight.received);
        if self.conns[socket].over {
            return;
        }
        if self.take_resend(socket, session, id) {
            assert!(
                received,
                "socket {socket} gets PUBREL {id} again, and had not sent PUBREC"
            );
            self.needs_record(session, "Received", &id.to_string());
            return;
        }
        let owed = self.conns[socket].pubrels.entry(id).or_default();
        assert!(*owed > 0, "socket {socket} gets PUBREL {id}, which answers nothing");
        *owed -= 1;
        if received {
            self.needs_record(session, "Received", &id.to_string());
        }
    }

    /// Takes an identifier off the list of what a resumed session owes again; it must be the next [MQTT-4.6.0-1].
    fn take_resend(&mut self, socket: usize, session: usize, id: u16) -> bool {
        if !self.conns[socket].resends.contains(&id) {
            return false;
        }
        while let Some(next) = self.conns[socket].resends.pop_front() {
            if next == id {
                return true;
            }
            self.may_be_skipped(socket, session, next);
        }
        false
    }

    fn may_be_skipped(&mut self, socket: usize, session: usize, id: u16) {
        let flights = &mut self.sessions[session].flights;
        let Some(flight) = flights.get(&id) else { return };
        let name = &self.messages[flight.message].name;
        assert!(
            flight.may_vanish,
            "socket {socket}: {name} (id {id}) is not sent again in its turn"
        );
        flights.remove(&id);
    }

    /// A PUBLISH on a connection that is over: it was written before. If it matters it comes again elsewhere.
    fn on_late_publish(&mut self, session: usize, publish: &Publish<'_>) {
        if publish.payload.is_empty() {
            return;
        }
        let known = self.numbers.get(publish.payload).copied();
        let known = known.unwrap_or_else(|| panic!("nobody published {publish:?}"));
        let (it, of) = (&self.messages[known], &self.sessions[session]);
        let possible = !it.routed.is_empty() && of.subs.iter().any(|sub| super::model::matches(&sub.filter, &it.topic));
        assert!(possible, "{} gets {}, to which it never subscribed", of.client, it.name);
    }

    fn on_delivery(&mut self, socket: usize, session: usize, publish: &Publish<'_>) {
        let qos = publish.qos as u8;
        let id = publish.packet_id.map_or(0, PacketId::value);
        let client = self.sessions[session].client.clone();
        if let Some(flight) = self.sessions[session].flights.get(&id).filter(|_| qos > 0).cloned() {
            let it = &self.messages[flight.message];
            let same = it.topic == publish.topic && it.payload == publish.payload && flight.qos == qos;
            if same || !flight.may_vanish {
                let name = &it.name;
                assert!(
                    same,
                    "{client} gets {publish:?} with the identifier of {name}, which is in flight [MQTT-2.3.1-4]"
                );
                assert!(publish.dup, "{client} gets {name} again without DUP [MQTT-3.3.1-1]");
                assert_ne!(flight.sent_on, socket, "{client} gets {name} again on one connection");
                assert!(
                    !flight.received,
                    "{client} gets {name} again after its PUBREC [MQTT-4.3.3-1]"
                );
                assert_eq!(
                    flight.retain, publish.retain,
                    "{client} gets {name} again with another RETAIN"
                );
                let name = name.clone();
                let in_turn = self.take_resend(socket, session, id);
                assert!(in_turn, "{client} gets {name} again out of turn");
                self.sessions[session].flights.get_mut(&id).expect("was found").sent_on = socket;
                return;
            }
        }
        if qos > 0 && !publish.dup {
            while let Some(next) = self.conns[socket].resends.pop_front() {
                self.may_be_skipped(socket, session, next);
            }
        }
        let message = self.find(session, publish);
        let name = self.messages[message].name.clone();
        assert_eq!(
            self.messages[message].topic, publish.topic,
            "{client} gets {name} on another topic"
        );
        if publish.dup && !self.messages[message].is_clear() {
            // What was written to a connection and never left it.
            let resumed =
                self.conns[socket].session_present && self.messages[message].order() < self.conns[socket].since;
            assert!(
                resumed,
                "{client} gets {name} for the first time, with DUP [MQTT-3.3.1-3]"
            );
        }
        if publish.retain {
            self.delivered_retained(session, message, qos);
        } else {
            self.delivered_live(session, message, qos);
        }
        if qos > 0 {
            self.take_off(socket, session, id, message, publish);
        }
    }

    /// A new message is in flight.
    fn take_off(&mut self, socket: usize, session: usize, id: u16, message: usize, publish: &Publish<'_>) {
        let it = &mut self.sessions[session];
        it.last_flight += 1;
        let flight = Flight {
            message,
            qos: publish.qos as u8,
            retain: publish.retain,
            received: false,
            sent_on: socket,
            order: it.last_flight,
            may_vanish: false,
        };
        it.flights.insert(id, flight);
        let certain = it.flights.values().filter(|flight| !flight.may_vanish).count();
        let most = usize::from(self.setup.limits.inflight_max);
        assert!(certain <= most, "{} has {certain} messages in flight", it.client);
        if publish.qos == QoS::ExactlyOnce {
            self.needs_record(session, "Bound", &id.to_string());
        }
    }

    /// Which message it is. Empty ones look alike: it is one that the session is owed, if there is any.
    fn find(&self, session: usize, publish: &Publish<'_>) -> usize {
        if !publish.payload.is_empty() {
            let known = self.numbers.get(publish.payload).copied();
            return known.unwrap_or_else(|| panic!("nobody published {publish:?}"));
        }
        let of = &self.sessions[session];
        let fits = |number: &usize| {
            let it = &self.messages[*number];
            let right = it.is_clear() && it.topic == publish.topic && !it.routed.is_empty();
            right && self.is_right_qos(of, *number, publish.qos as u8)
        };
        let all: Vec<usize> = (0..self.messages.len()).filter(fits).collect();
        let new = |number: &usize| of.shares.get(number).is_none_or(|share| share.live == 0);
        let owed = |number: &usize| new(number) && of.shares.contains_key(number);
        let first = |wanted: &dyn Fn(&usize) -> bool| all.iter().copied().find(|number| wanted(number));
        let found = first(&owed).or_else(|| first(&new)).or_else(|| all.first().copied());
        found.unwrap_or_else(|| panic!("{} gets an empty {}, which nobody published", of.client, publish.topic))
    }
}
