//! What clients send.

use super::Oracle;
use super::model::{Asked, Flight, Message, Reply, Sub, SubAckOwed};
use crate::codec::{Publish, QoS, SUBACK_FAILURE, Subscribe, Unsubscribe};

impl Oracle {
    /// The message with this content. Empty ones cannot be told apart, so each is another.
    pub(super) fn message(&mut self, publisher: &str, topic: &str, payload: &[u8], qos: u8, retain: bool) -> usize {
        if let Some(known) = self.numbers.get(payload) {
            return *known;
        }
        let number = self.messages.len();
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(6)]);
        self.messages.push(Message {
            name: format!("{topic}={shown}"),
            publisher: publisher.to_owned(),
            topic: topic.to_owned(),
            payload: payload.to_vec(),
            qos,
            retain,
            routed: Vec::new(),
            doubtful: false,
            unkept: false,
            settled: None,
            acknowledged: false,
        });
        if !payload.is_empty() {
            self.numbers.insert(payload.to_vec(), number);
        }
        number
    }

    /// Whether this session's records are refused now.
    fn is_refused(&self, session: usize) -> bool {
        let it = &self.sessions[session];
        !it.clean && self.failing[it.shard] == u64::MAX
    }

    pub(super) fn on_publish(&mut self, socket: usize, session: usize, publish: &Publish<'_>) {
        let client = self.sessions[session].client.clone();
        let id = publish.packet_id.map_or(0, crate::codec::PacketId::value);
        if publish.qos == QoS::ExactlyOnce {
            if self.sessions[session].held.contains_key(&id) {
                // The identifier decides [MQTT-4.3.3-2].
                self.conns[socket].replies.push_back(Reply::PubRec(id, None));
                return;
            }
            let full = self.sessions[session].held.len() >= usize::from(self.setup.limits.inbound_qos2_max);
            if full || self.is_refused(session) {
                return;
            }
            let message = self.message(&client, publish.topic, publish.payload, 2, publish.retain);
            self.sessions[session].held.insert(id, message);
            self.conns[socket].replies.push_back(Reply::PubRec(id, Some(message)));
            return;
        }
        let message = self.message(
            &client,
            publish.topic,
            publish.payload,
            publish.qos as u8,
            publish.retain,
        );
        self.route(message, self.conns[socket].shard);
        if publish.qos == QoS::AtLeastOnce {
            self.conns[socket].replies.push_back(Reply::PubAck(id, message));
        }
    }

    pub(super) fn on_pubrel(&mut self, socket: usize, session: usize, id: u16) {
        let message = self.sessions[session].held.remove(&id);
        self.sessions[session].received.remove(&id);
        if let Some(message) = message {
            self.route(message, self.conns[socket].shard);
        }
        self.conns[socket].replies.push_back(Reply::PubComp(id, message));
    }

    pub(super) fn on_puback(&mut self, session: usize, id: u16) {
        self.finish(session, id, |flight| flight.qos == 1);
    }

    pub(super) fn on_pubrec(&mut self, socket: usize, session: usize, id: u16) {
        let refused = self.is_refused(session);
        if let Some(flight) = self.sessions[session].flights.get_mut(&id) {
            if refused && !flight.received {
                return;
            }
            flight.received = true;
        }
        *self.conns[socket].pubrels.entry(id).or_default() += 1;
    }

    pub(super) fn on_pubcomp(&mut self, session: usize, id: u16) {
        self.finish(session, id, |flight| flight.received);
    }

    fn finish(&mut self, session: usize, id: u16, is_due: impl Fn(&Flight) -> bool) {
        let it = &mut self.sessions[session];
        if it.flights.get(&id).is_some_and(is_due)
            && let Some(flight) = it.flights.remove(&id)
        {
            it.shares.entry(flight.message).or_default().finished += 1;
        }
    }

    pub(super) fn on_subscribe(&mut self, socket: usize, session: usize, subscribe: &Subscribe<'_>) {
        let (at, id) = (self.at, subscribe.packet_id.value());
        let refused = self.is_refused(session);
        let (mut codes, mut granted) = (Vec::new(), Vec::new());
        let it = &mut self.sessions[session];
        for (text, qos) in subscribe.filters.iter() {
            let qos = qos as u8;
            codes.push(if refused { SUBACK_FAILURE } else { qos });
            if refused {
                continue;
            }
            granted.push(text.to_owned());
            let shared = text.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
            let (group, filter) = match shared {
                Some((group, filter)) => (Some(group.to_owned()), filter.to_owned()),
                None => (None, text.to_owned()),
            };
            if group.is_none() {
                it.asked.push(Asked {
                    filter: filter.clone(),
                    at,
                    acknowledged: None,
                    conn: socket,
                    packet_id: id,
                });
            }
            match it.subs.iter_mut().find(|sub| sub.text == text && sub.until.is_none()) {
                Some(sub) => sub.grants.push((at, qos)),
                None => it.subs.push(Sub {
                    text: text.to_owned(),
                    group,
                    filter,
                    grants: vec![(at, qos)],
                    from: at,
                    acknowledged: None,
                    until: None,
                }),
            }
        }
        self.conns[socket].subacks.insert(id, SubAckOwed { codes, granted, at });
    }

    pub(super) fn on_unsubscribe(&mut self, socket: usize, session: usize, unsubscribe: &Unsubscribe<'_>) {
        let at = self.at;
        for text in unsubscribe.filters.iter() {
            let refused = self.is_refused(session);
            let it = &mut self.sessions[session];
            let Some(sub) = it.subs.iter_mut().find(|sub| sub.text == text && sub.until.is_none()) else {
                continue;
            };
            if refused {
                return;
            }
            sub.until = Some(at);
            if sub.group.is_some() {
                self.departs(text, false);
            }
        }
        let id = unsubscribe.packet_id.value();
        self.conns[socket].replies.push_back(Reply::UnsubAck(id));
    }
}
