//! `ringmq pub`: the sender's side of QoS 1 and 2 (section 4.3).

use std::collections::BTreeMap;

use ringmq_shard::codec::{Packet, PacketId, Publish, QoS};

use super::args::PubArgs;
use super::connection::{Connection, valid_topic};
use super::error::ClientError;
use super::input::{Input, Next};

/// What the broker owes for a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::enum_variant_names, reason = "packets of the standard, by their names")]
enum Owed {
    PubAck,
    PubRec,
    PubComp,
}

/// Publishes everything, and returns once it is acknowledged as its QoS says.
pub(super) fn publish(args: &PubArgs) -> Result<(), ClientError> {
    valid_topic(&args.topic)?;
    let mut input = Input::open(args)?;
    let mut connection = Connection::open(&args.connection)?;
    let mut window = Window::default();
    let mut ended = false;
    loop {
        while !ended && window.has_room() && connection.unsent() < UNSENT_BYTES_MAX {
            match input.next() {
                Next::Message(payload) => send(&mut connection, &mut window, args, &payload),
                Next::Later => break,
                Next::End => ended = true,
            }
        }
        if ended && window.owed.is_empty() && connection.unsent() == 0 {
            return connection.close();
        }
        let wants_more = !ended && window.has_room() && connection.unsent() < UNSENT_BYTES_MAX;
        let source = input.source().filter(|_| wants_more);
        if connection.wait(None, source)? {
            input.read()?;
        }
        while let Some(frame) = connection.next_frame()? {
            let packet = connection.packet(&frame)?;
            window.on_packet(&packet, &mut connection)?;
        }
        if connection.is_interrupted() {
            connection.close()?;
            return Err(ClientError::Interrupted);
        }
    }
}

fn send(connection: &mut Connection, window: &mut Window, args: &PubArgs, payload: &[u8]) {
    let qos = args.connection.qos;
    connection.send(&Packet::Publish(Publish {
        dup: false,
        qos,
        retain: args.retain,
        topic: &args.topic,
        packet_id: window.admit(qos),
        payload,
    }));
}

/// Messages on their way.
#[derive(Debug, Default)]
struct Window {
    /// At most [`INFLIGHT_MAX`].
    owed: BTreeMap<PacketId, Owed>,
    last: u16,
}

impl Window {
    fn has_room(&self) -> bool {
        self.owed.len() < INFLIGHT_MAX
    }

    /// A Packet Identifier that is not in use [MQTT-2.3.1-2]; none for QoS 0.
    fn admit(&mut self, qos: QoS) -> Option<PacketId> {
        let owed = match qos {
            QoS::AtMostOnce => return None,
            QoS::AtLeastOnce => Owed::PubAck,
            QoS::ExactlyOnce => Owed::PubRec,
        };
        loop {
            self.last = self.last.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last)
                && !self.owed.contains_key(&id)
            {
                self.owed.insert(id, owed);
                return Some(id);
            }
        }
    }

    fn on_packet(&mut self, packet: &Packet<'_>, connection: &mut Connection) -> Result<(), ClientError> {
        match *packet {
            Packet::PubAck(id) if self.owed.get(&id) == Some(&Owed::PubAck) => {
                self.owed.remove(&id);
            }
            // [MQTT-4.3.3-1]; again if it comes again.
            Packet::PubRec(id) if matches!(self.owed.get(&id), Some(Owed::PubRec | Owed::PubComp)) => {
                self.owed.insert(id, Owed::PubComp);
                connection.send(&Packet::PubRel(id));
            }
            Packet::PubComp(id) if self.owed.get(&id) == Some(&Owed::PubComp) => {
                self.owed.remove(&id);
            }
            // A session that stays may have subscriptions: what comes for them is left, not acknowledged, to whoever takes it.
            Packet::PingResp | Packet::Publish(_) | Packet::PubRel(_) => {}
            ref other => return Err(ClientError::Unexpected(other.name())),
        }
        Ok(())
    }
}

/// As mosquitto_pub: enough that the way there and back costs little.
const INFLIGHT_MAX: usize = 20;
/// Beyond it nothing more is read from standard input.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_in_use_and_zero_are_left_out() {
        let mut window = Window {
            last: 65_534,
            ..Window::default()
        };
        let id = |id| PacketId::new(id).unwrap();
        window.owed.insert(id(1), Owed::PubComp);
        assert_eq!(window.admit(QoS::AtMostOnce), None);
        assert_eq!(window.admit(QoS::AtLeastOnce), Some(id(65_535)));
        assert_eq!(window.admit(QoS::ExactlyOnce), Some(id(2)));
        assert_eq!(window.owed[&id(2)], Owed::PubRec);
    }
}
