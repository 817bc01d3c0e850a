//! How a floor passes messages on.

use super::client::Cache;
use super::faults::{Fate, corrupt};
use super::routes::Target;
use super::server::{Hub, Kind};
use crate::wire::frame::{self, Frame, Publish};
use crate::wire::packet;

impl Hub {
    /// Whether a message goes where the one before it went, unchanged: QoS 0, the same topic, nothing to keep, no fault.
    #[inline]
    pub(super) fn joins_run(&self, at: usize, publish: &Publish<'_>) -> bool {
        let Some(client) = &self.clients[at] else { return false };
        publish.qos == 0
            && !publish.retain
            && client.cache.version == Some(self.routes.version)
            && (self.kind == Kind::Relay || client.cache.topic == publish.topic)
    }

    /// Takes a message that does not continue a run: acknowledges it, and passes it on unless it begins a run, which
    /// the return value says.
    pub(super) fn begin(&mut self, at: usize, frame: &Frame<'_>, publish: &Publish<'_>) -> bool {
        self.acknowledge(at, publish);
        if matches!(self.kind, Kind::Sink | Kind::Ack) {
            return false;
        }
        self.look_up(at, publish.topic);
        if publish.retain {
            self.keep(frame, publish);
        }
        let client = self.clients[at].as_mut().expect("the message came from this client");
        client.publishes = true;
        let audience = &client.cache.audience;
        if publish.qos == 0 && !publish.retain && audience.groups.is_empty() && !self.faults.touch_messages() {
            return true;
        }
        let cache = std::mem::take(&mut client.cache);
        for &target in &cache.audience.everyone {
            self.deliver(at, target, frame.bytes, false);
        }
        for members in &cache.audience.groups {
            let client = self.clients[at].as_mut().expect("the message came from this client");
            client.turn += 1;
            let target = members[client.turn % members.len()];
            self.deliver(at, target, frame.bytes, false);
        }
        self.put_back(at, cache);
        false
    }

    /// Passes on a run of QoS 0 messages.
    pub(super) fn deliver_run(&mut self, at: usize, run: &[u8]) {
        if run.is_empty() {
            return;
        }
        let Some(client) = &mut self.clients[at] else { return };
        let cache = std::mem::take(&mut client.cache);
        for target in &cache.audience.everyone {
            self.send(target.client, run);
        }
        self.put_back(at, cache);
    }

    fn put_back(&mut self, at: usize, cache: Cache) {
        if let Some(client) = &mut self.clients[at] {
            client.cache = cache;
        }
    }

    /// Brings a client's cache to `topic`, if it is not there.
    fn look_up(&mut self, at: usize, topic: &[u8]) {
        let client = self.clients[at].as_mut().expect("the message came from this client");
        let cache = &mut client.cache;
        let known = cache.version == Some(self.routes.version);
        if known && (self.kind == Kind::Relay || cache.topic == topic) {
            return;
        }
        cache.topic = topic.to_vec();
        cache.version = Some(self.routes.version);
        cache.audience = self.routes.audience(&String::from_utf8_lossy(topic));
    }

    fn keep(&mut self, frame: &Frame<'_>, publish: &Publish<'_>) {
        let topic = String::from_utf8_lossy(publish.topic).into_owned();
        if publish.payload.is_empty() {
            self.routes.retained.remove(&topic);
        } else {
            self.routes.retained.insert(topic, frame.bytes.to_vec());
        }
    }

    /// Passes one message on, faults and all. `retained`: it answers a SUBSCRIBE, so RETAIN stays set [MQTT-3.3.1-8].
    pub(super) fn deliver(&mut self, from: usize, target: Target, bytes: &[u8], retained: bool) {
        if !self.faults.touch_messages() {
            return self.copy(target, bytes, retained, Fate::Pass);
        }
        self.messages += 1;
        match self.faults.fate(self.messages) {
            Fate::Drop => {}
            Fate::Hold => {
                let packet = self.encode(target, bytes, retained);
                return self.held.push((from, target.client, packet));
            }
            Fate::Twice => {
                self.copy(target, bytes, retained, Fate::Pass);
                self.copy(target, bytes, retained, Fate::Pass);
            }
            fate => self.copy(target, bytes, retained, fate),
        }
        self.release_held(from, target.client);
    }

    /// Sends what a fault kept back between these two.
    pub(super) fn release_held(&mut self, from: usize, to: usize) {
        let held = std::mem::take(&mut self.held);
        for entry in held {
            if (entry.0, entry.1) == (from, to) {
                self.send(to, &entry.2);
            } else {
                self.held.push(entry);
            }
        }
    }

    /// Appends the packet to the target's output and patches what differs: flags and identifier.
    #[inline]
    fn copy(&mut self, target: Target, bytes: &[u8], retained: bool, fate: Fate) {
        let qos = bytes[0] >> 1 & 0b11;
        if qos > target.qos || fate == Fate::Corrupt {
            let mut packet = self.encode(target, bytes, retained);
            if fate == Fate::Corrupt {
                corrupt(&mut packet);
            }
            return self.send(target.client, &packet);
        }
        let Some(client) = &mut self.clients[target.client] else {
            return;
        };
        let id = if qos > 0 { client.next_id() } else { 0 };
        let out = client.link.out();
        let start = out.len();
        out.extend_from_slice(bytes);
        out[start] = bytes[0] & !0b1001 | u8::from(retained);
        if qos > 0 {
            let head = bytes[1..]
                .iter()
                .position(|byte| byte & 0x80 == 0)
                .map_or(2, |more| more + 2);
            let topic = usize::from(u16::from_be_bytes([bytes[head], bytes[head + 1]]));
            let id_at = start + head + 2 + topic;
            out[id_at..id_at + 2].copy_from_slice(&id.to_be_bytes());
        }
        self.touch(target.client);
    }

    /// The packet as this target gets it, at the lower of both QoS.
    fn encode(&mut self, target: Target, bytes: &[u8], retained: bool) -> Vec<u8> {
        let whole = frame::next(bytes)
            .ok()
            .flatten()
            .expect("only whole packets are passed on");
        let publish = Publish::parse(&whole).expect("only well-formed messages are passed on");
        let qos = publish.qos.min(target.qos);
        let mut body = (publish.topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(publish.topic);
        if qos > 0
            && let Some(client) = &mut self.clients[target.client]
        {
            body.extend_from_slice(&client.next_id().to_be_bytes());
        }
        body.extend_from_slice(publish.payload);
        let mut out = Vec::with_capacity(bytes.len());
        packet::packet(&mut out, 0x30 | qos << 1 | u8::from(retained), &body);
        out
    }
}
