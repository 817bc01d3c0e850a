//! From bytes to packets: a packet is decoded where it lies, in the caller's buffer; only the part of an incomplete one
//! is kept.

use bytes::{Bytes, BytesMut};

use super::Shard;
use super::connection::{Connection, Phase};
use super::event::{ConnId, Effect, ShardId};
use crate::codec::{CodecError, Packet, decode, frame_len};
use crate::error::{CloseReason, ProtocolError};
use crate::message::SHARED_BYTES_MIN;
use crate::time::Instant;

/// Why the packets of a buffer are not handled any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// The rest is no whole packet.
    Incomplete,
    /// The connection is closing.
    Closed,
    /// The client must not be read.
    Held,
    /// The client lives elsewhere.
    Move(ShardId),
    /// The client is verified first; its CONNECT comes again.
    Verify,
}

impl Shard {
    /// Bytes of a connection, cut anywhere.
    pub(super) fn on_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        self.take_bytes(now, conn, bytes);
        self.clients.recharge_connection(conn);
        self.check_incomplete(now, conn);
    }

    fn take_bytes(&mut self, now: Instant, conn: ConnId, mut bytes: &[u8]) {
        let Some(connection) = self.clients.connections.get_mut(conn.index()) else {
            return;
        };
        if connection.phase == Phase::Closing {
            return;
        }
        self.clients.stats.bytes_received += bytes.len() as u64;
        if matches!(connection.phase, Phase::Authenticating { .. }) {
            return connection.tail.extend_from_slice(bytes);
        }
        if !connection.tail.is_empty() {
            if !self.may_go_on(conn) {
                self.clients.connections[conn.index()].tail.extend_from_slice(bytes);
                return;
            }
            let packet_bytes_max = self.packet_bytes_max(conn);
            let connection = &mut self.clients.connections[conn.index()];
            let before = connection.tail.len();
            match connection.complete_tail(&mut bytes, packet_bytes_max) {
                Ok(false) => {
                    if connection.tail.len() / PROGRESS_BYTES > before / PROGRESS_BYTES {
                        connection.last_received = now;
                    }
                    return;
                }
                Ok(true) => connection.last_received = now,
                Err(error) => return self.close_malformed(now, conn, error),
            }
            let frame = std::mem::take(&mut connection.tail);
            connection.frame_len = 0;
            let (used, stop) = if frame.len() >= SHARED_BYTES_MIN {
                let frame = Bytes::from(frame);
                let (used, stop) = self.on_frames(now, conn, &frame, Some(&frame));
                self.after_frames(conn, &frame[used..], bytes, stop);
                (used, stop)
            } else {
                let (used, stop) = self.on_frames(now, conn, &frame, None);
                self.after_frames(conn, &frame[used..], bytes, stop);
                (used, stop)
            };
            debug_assert!(
                stop != Stop::Incomplete || used > 0,
                "complete_tail() completed a packet"
            );
            if stop != Stop::Incomplete {
                return;
            }
        }
        let (used, stop) = self.on_frames(now, conn, bytes, None);
        self.after_frames(conn, &bytes[used..], &[], stop);
        if !matches!(stop, Stop::Incomplete | Stop::Held) {
            return;
        }
        let connection = &mut self.clients.connections[conn.index()];
        if used > 0 || bytes.len() >= PROGRESS_BYTES {
            connection.last_received = now;
        }
        if stop == Stop::Incomplete && used < bytes.len() {
            connection.tail.extend_from_slice(&bytes[used..]);
        }
    }

    /// Goes on with a client that was not read, if nothing else speaks against it.
    pub(super) fn read_again(&mut self, now: Instant, conn: ConnId) {
        if !self.may_read(conn) {
            return;
        }
        self.on_resumed(now, conn);
        // What it had sent may have closed it, or moved it to its home.
        let connection = self.clients.connections.get(conn.index());
        let is_here = connection.is_some_and(|connection| connection.phase != Phase::Closing);
        if is_here && self.may_read(conn) {
            self.effects.push_back(Effect::ResumeReading { conn });
        }
    }

    /// Handles what a held-back publisher had sent already.
    fn on_resumed(&mut self, now: Instant, conn: ConnId) {
        let connection = &mut self.clients.connections[conn.index()];
        connection.last_received = now;
        connection.frame_len = 0;
        let tail = std::mem::take(&mut connection.tail);
        let (used, stop) = self.on_frames(now, conn, &tail, None);
        self.after_frames(conn, &tail[used..], &[], stop);
        if stop == Stop::Incomplete && used < tail.len() {
            self.clients.connections[conn.index()]
                .tail
                .extend_from_slice(&tail[used..]);
        }
        self.clients.recharge_connection(conn);
    }

    /// Handles the whole packets at the front of `bytes`; returns how many bytes they were, and why it stopped.
    fn on_frames(&mut self, now: Instant, conn: ConnId, bytes: &[u8], source: Option<&Bytes>) -> (usize, Stop) {
        let mut used = 0;
        while used < bytes.len() {
            let packet_bytes_max = self.packet_bytes_max(conn);
            let decoded = match decode(&bytes[used..], packet_bytes_max) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => return (used, Stop::Incomplete),
                Err(error) => {
                    self.close_malformed(now, conn, error);
                    return (used, Stop::Closed);
                }
            };
            if self.is_tracing() {
                self.tell_received(conn, &bytes[used..used + decoded.len]);
            }
            if let Some(stop) = self.on_packet(now, conn, &decoded.packet, source) {
                if !matches!(stop, Stop::Move(_) | Stop::Verify) {
                    used += decoded.len;
                }
                return (used, stop);
            }
            used += decoded.len;
        }
        (used, Stop::Incomplete)
    }

    /// Keeps or passes on what was not handled: `rest` and then `more`.
    fn after_frames(&mut self, conn: ConnId, rest: &[u8], more: &[u8], stop: Stop) {
        match stop {
            Stop::Incomplete | Stop::Closed => {}
            Stop::Held | Stop::Verify => {
                let tail = &mut self.clients.connections[conn.index()].tail;
                tail.extend_from_slice(rest);
                tail.extend_from_slice(more);
            }
            Stop::Move(home) => {
                let mut received = BytesMut::with_capacity(rest.len() + more.len());
                received.extend_from_slice(rest);
                received.extend_from_slice(more);
                let connection = self.clients.remove_connection(conn);
                self.effects.push_back(Effect::Move {
                    conn,
                    home,
                    admission: connection.admission,
                    received: received.freeze(),
                });
            }
        }
    }

    /// Handles one packet. `None`: go on with the next.
    #[inline]
    fn on_packet(&mut self, now: Instant, conn: ConnId, packet: &Packet<'_>, source: Option<&Bytes>) -> Option<Stop> {
        let session = match self.clients.connections[conn.index()].phase {
            Phase::Connected { session } => session,
            Phase::Closing => return Some(Stop::Closed),
            Phase::Opening | Phase::Authenticating { .. } => return self.on_first_packet(now, conn, packet),
        };
        self.clients.stats.packets_received += 1;
        let outcome = match packet {
            Packet::Publish(publish) => self.on_publish(now, conn, session, publish, source),
            Packet::PubAck(id) => self.on_puback(session, *id),
            Packet::PubRec(id) => self.on_pubrec(conn, session, *id),
            Packet::PubRel(id) => self.on_pubrel(now, conn, session, *id),
            Packet::PubComp(id) => self.on_pubcomp(session, *id),
            Packet::Subscribe(subscribe) => self.on_subscribe(conn, session, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(now, conn, session, unsubscribe),
            Packet::PingReq => {
                self.clients
                    .answer(conn, super::connection::Gate::default(), &Packet::PingResp);
                Ok(())
            }
            Packet::Disconnect => Err(CloseReason::Disconnect),
            Packet::Connect(_) => Err(ProtocolError::SecondConnect.into()),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(ProtocolError::ServerPacket { packet: packet.name() }.into())
            }
        };
        match outcome {
            Ok(()) if self.may_go_on(conn) => None,
            Ok(()) => Some(Stop::Held),
            Err(reason) => {
                self.close(now, conn, reason);
                Some(Stop::Closed)
            }
        }
    }

    fn on_first_packet(&mut self, now: Instant, conn: ConnId, packet: &Packet<'_>) -> Option<Stop> {
        let Packet::Connect(connect) = packet else {
            self.close(now, conn, ProtocolError::NotConnected { packet: packet.name() }.into());
            return Some(Stop::Closed);
        };
        match self.on_connect(now, conn, connect) {
            Ok(stop) => stop,
            Err(reason) => {
                self.close(now, conn, reason);
                Some(Stop::Closed)
            }
        }
    }

    /// Nothing may be large before the client is known.
    fn packet_bytes_max(&self, conn: ConnId) -> usize {
        let limits = &self.clients.limits;
        match self.clients.connections[conn.index()].phase {
            Phase::Opening | Phase::Authenticating { .. } => limits.connect_bytes_max.min(limits.packet_bytes_max),
            Phase::Connected { .. } | Phase::Closing => limits.packet_bytes_max,
        }
    }

    fn close_malformed(&mut self, now: Instant, conn: ConnId, error: CodecError) {
        self.close(now, conn, error.into());
    }
}

impl Connection {
    /// Moves bytes from the front of `bytes` to the tail until that is one whole packet; returns whether it is.
    fn complete_tail(&mut self, bytes: &mut &[u8], packet_bytes_max: usize) -> Result<bool, CodecError> {
        while self.frame_len == 0 {
            if let Some(len) = frame_len(&self.tail, packet_bytes_max)? {
                self.frame_len = len;
                break;
            }
            let Some((first, rest)) = bytes.split_first() else {
                return Ok(false);
            };
            self.tail.push(*first);
            *bytes = rest;
        }
        let missing = self.frame_len.saturating_sub(self.tail.len());
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        if self.tail.capacity() - self.tail.len() < part.len() {
            // The buffer grows with what has arrived, not with what the header claims, and never beyond that.
            let grown = part.len().max(self.tail.len()).min(missing);
            self.tail.reserve_exact(grown);
        }
        self.tail.extend_from_slice(part);
        *bytes = rest;
        Ok(self.tail.len() >= self.frame_len)
    }
}

/// So many bytes of an incomplete packet count as a sign of life: a large one may take longer than the Keep Alive on a slow
/// link, but a client that sends a byte now and then is gone for all that anybody knows [MQTT-3.1.2-24].
const PROGRESS_BYTES: usize = 1_024;
