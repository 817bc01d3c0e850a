//! The end of a connection: in order, by the peer, or because something took too long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringmq_shard::shard::{ConnId, Event, Shard};
use ringmq_shard::time::Instant;
use tracing::{debug, info};

use super::super::connection::{Phase, Reading};
use super::super::deadlines::DeadlineKind;
use super::Sockets;
use crate::error::MqttError;

impl Sockets {
    /// The shard closed the connection: what waits is written, until `at`; then the client's side is drained, unless
    /// the client closed in order and is told nothing more.
    pub(crate) fn close(&mut self, shard: &mut Shard, now: Instant, conn: ConnId, in_order: bool, at: Instant) {
        // Where a handshake has failed, the end is on its way.
        let Some(connection) = self.get_mut(conn).filter(|it| it.phase == Phase::Open) else {
            return;
        };
        let generation = connection.generation;
        connection.phase = Phase::Flushing;
        connection.reading = Reading::Held;
        if connection.socket.wants_write() || !shard.output(conn).is_empty() {
            self.deadlines.add(at, DeadlineKind::Close, conn, generation);
        } else if in_order {
            self.finish(shard, now, conn);
        } else {
            self.drain(shard, now, conn);
        }
    }

    pub(super) fn drain(&mut self, shard: &mut Shard, now: Instant, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        if connection.socket.finish_writing().is_err() {
            return self.finish(shard, now, conn);
        }
        connection.phase = Phase::Draining;
        connection.reading = Reading::Hot;
        let generation = connection.generation;
        self.deadlines
            .add(now + DRAIN_TIMEOUT, DeadlineKind::Close, conn, generation);
        self.hot.push(conn, connection);
    }

    /// The socket ended, with an error or without.
    pub(super) fn end(&mut self, shard: &mut Shard, now: Instant, conn: ConnId, error: Option<MqttError>) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        // Nobody has come in by it, and the shard knows nothing of it but its time limit: the client can read why.
        let refused = connection.phase == Phase::Open
            && connection.socket.is_handshaking()
            && matches!(error, Some(MqttError::Tls(_) | MqttError::WebSocket(_)));
        self.counters.tls_failures += u64::from(matches!(error, Some(MqttError::Tls(_))));
        self.counters.proxy_failures += u64::from(matches!(error, Some(MqttError::Proxy(_))));
        self.counters.websocket_failures += u64::from(matches!(error, Some(MqttError::WebSocket(_))));
        if connection.phase == Phase::Open {
            let client = connection.client.as_deref().unwrap_or_default();
            let peer = connection.peer;
            match error {
                None => debug!(client, %peer, reason = "end_of_stream", "connection closed"),
                Some(error) if !error.is_abnormal() => {
                    debug!(client, %peer, reason = error.label(), "connection closed: {error}");
                }
                Some(error) => {
                    if self.log.allows(error.label(), now) {
                        info!(client, %peer, reason = error.label(), "connection closed: {error}");
                    }
                }
            }
        }
        if refused {
            self.drain(shard, now, conn);
        } else {
            self.finish(shard, now, conn);
        }
    }

    pub(super) fn finish(&mut self, shard: &mut Shard, now: Instant, conn: ConnId) {
        if self.take(conn).is_none() {
            return;
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        shard.handle(now, Event::Closed { conn });
    }

    /// Ends what took too long.
    pub(crate) fn expire(&mut self, shard: &mut Shard, now: Instant) {
        self.log.summarise(now);
        while let Some(deadline) = self.deadlines.pop_due(now) {
            let (conn, timeout) = (ConnId(deadline.conn), self.write_timeout);
            let Some(connection) = self.get_mut(conn).filter(|it| it.generation == deadline.generation) else {
                continue;
            };
            match deadline.kind {
                DeadlineKind::Close => self.finish(shard, now, conn),
                DeadlineKind::Write if !connection.write_blocked => connection.write_watched = false,
                DeadlineKind::Write if connection.progress_at + timeout > now => {
                    let at = connection.progress_at + timeout;
                    self.deadlines.add(at, DeadlineKind::Write, conn, deadline.generation);
                }
                DeadlineKind::Write => {
                    self.counters.write_timeouts += 1;
                    self.end(
                        shard,
                        now,
                        conn,
                        Some(MqttError::WriteTimeout {
                            seconds: timeout.as_secs(),
                        }),
                    );
                }
            }
        }
    }
}

/// For a closed connection's client to end its side, once everything is written.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
