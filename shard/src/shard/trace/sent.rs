//! What was sent, read again from the output that it waits in.

use super::TracedEvent;
use super::record::TracedPacket;
use crate::codec::{PublishHead, decode_again, decode_publish_head, frame_len};
use crate::shard::Shard;
use crate::shard::clients::Clients;
use crate::shard::event::ConnId;
use crate::shard::output::{Output, Piece};
use crate::topic::TopicName;

/// A packet in an output.
enum Waiting<'a> {
    /// Its payload may lie apart from the rest.
    Publish(PublishHead<'a>, &'a [u8]),
    /// From its first byte on.
    Other(&'a [u8]),
}

impl Shard {
    /// Tells what the output of a followed connection got since this was last called.
    #[cold]
    pub(in crate::shard) fn tell_sent(&mut self, conn: ConnId) {
        let Clients {
            tracing,
            connections,
            sessions,
            ..
        } = &mut self.clients;
        let Some(connection) = connections.get(conn.index()) else {
            return;
        };
        let tap = tracing.taps.get(&conn);
        let followed = tap.and_then(|tap| tap.client.clone());
        let session = connection
            .session()
            .map(|session| &sessions[session as usize].client_id);
        let client = match (followed, session) {
            (Some(client), _) => client,
            (None, Some(client)) if tracing.topics => client.clone(),
            _ => return,
        };
        let now_told = Some(connection.output.len());
        let told_bytes = std::mem::replace(&mut tracing.taps.entry(conn).or_default().told_bytes, now_told);
        each_waiting(&connection.output, told_bytes, |waiting| {
            let topic = waiting.topic();
            tracing.tell(conn, &client, topic, |payload_bytes_max| {
                TracedEvent::Sent(waiting.told(payload_bytes_max))
            });
        });
    }

    /// What the socket is about to take has been told.
    #[cold]
    pub(in crate::shard) fn tell_written(&mut self, conn: ConnId, bytes: usize) {
        self.tell_sent(conn);
        let tap = self.clients.tracing.taps.get_mut(&conn);
        if let Some(told_bytes) = tap.and_then(|tap| tap.told_bytes.as_mut()) {
            *told_bytes = told_bytes.saturating_sub(bytes);
        }
    }
}

/// All packets of an output behind the first `told_bytes` that wait; if it is not known how many, all that are not wholly written.
/// O(what is told, and one segment).
fn each_waiting(output: &Output, told_bytes: Option<usize>, mut tell: impl FnMut(&Waiting<'_>)) {
    let (pieces, written) = output.segments();
    let mut pieces = pieces.peekable();
    // Told packets end where one begins; written bytes may end anywhere.
    let begin = written + told_bytes.unwrap_or(0);
    let mut piece_at = 0;
    while let Some(piece) = pieces.next() {
        let Piece::Packets(bytes) = piece else {
            let Piece::Payload(payload) = piece else { unreachable!() };
            piece_at += payload.len();
            continue;
        };
        let mut at = match told_bytes {
            Some(_) => begin.saturating_sub(piece_at).min(bytes.len()),
            None => 0,
        };
        while at < bytes.len() {
            let packet = &bytes[at..];
            let len = frame_len(packet, usize::MAX).ok().flatten();
            let len = len.expect("an output holds packets, from their first bytes on");
            let payload = match pieces.peek() {
                Some(Piece::Payload(payload)) if len > packet.len() => *payload,
                _ => &[],
            };
            if piece_at + at + len > begin {
                tell(&Waiting::new(&packet[..len.min(packet.len())], payload));
            }
            at += len;
        }
        piece_at += bytes.len();
    }
}

impl<'a> Waiting<'a> {
    fn new(bytes: &'a [u8], apart: &'a [u8]) -> Waiting<'a> {
        match decode_publish_head(bytes).ok().flatten() {
            Some((head, payload_at)) if apart.is_empty() => Waiting::Publish(head, &bytes[payload_at..]),
            Some((head, _)) => Waiting::Publish(head, apart),
            None => Waiting::Other(bytes),
        }
    }

    fn topic(&self) -> Option<TopicName<'a>> {
        match self {
            Waiting::Publish(head, _) => Some(TopicName::from_checked(head.topic)),
            Waiting::Other(_) => None,
        }
    }

    fn told(&self, payload_bytes_max: usize) -> TracedPacket {
        match self {
            Waiting::Publish(head, payload) => TracedPacket::publish(head, payload, payload_bytes_max),
            Waiting::Other(bytes) => {
                let decoded = decode_again(bytes, usize::MAX).ok().flatten();
                let decoded = decoded.expect("an output holds whole packets");
                TracedPacket::new(&decoded.packet, payload_bytes_max)
            }
        }
    }
}
