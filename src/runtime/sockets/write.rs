//! Output to sockets: one write per connection and turn while there is room, and the ring's word when there is again.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use ringmq_shard::shard::{ConnId, Shard};
use ringmq_shard::time::Instant;

use super::super::connection::{Phase, Reading};
use super::super::deadlines::DeadlineKind;
use super::Sockets;
use crate::error::MqttError;

impl Sockets {
    /// Writes what waits for the connection, as far as its socket has room.
    pub(crate) fn write(&mut self, shard: &mut Shard, now: Instant, conn: ConnId) {
        for writes in 0.. {
            let Some(connection) = self.get_mut(conn).filter(|connection| !connection.write_blocked) else {
                return;
            };
            let output = shard.output(conn);
            if output.is_empty() {
                match connection.socket.flush() {
                    Ok(true) => {}
                    Ok(false) => return self.arm_write(now, conn),
                    Err(error) => return self.end(shard, now, conn, Some(MqttError::of_transport("write", error))),
                }
                if connection.phase == Phase::Flushing {
                    self.drain(shard, now, conn);
                }
                return;
            }
            if writes == WRITES_MAX {
                // A socket that takes megabytes at once has had its share of this turn: it goes on when the ring says so.
                return self.arm_write(now, conn);
            }
            let waiting = output.len();
            let (offered, written) = match output.segment_count() {
                1 => (waiting, connection.socket.write(output.first_chunk())),
                _ => {
                    let mut chunks = [IoSlice::new(&[]); CHUNKS_MAX];
                    let filled = output.chunks(&mut chunks);
                    let offered = chunks[..filled].iter().map(|chunk| chunk.len()).sum();
                    (offered, connection.socket.write_vectored(&chunks[..filled]))
                }
            };
            let (blocked, moved) = match written {
                Ok(bytes) => (bytes < offered || connection.socket.wants_write(), bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (true, 0),
                Err(error) => return self.end(shard, now, conn, Some(MqttError::of_transport("write", error))),
            };
            if moved > 0 {
                self.note_written(conn, moved);
                shard.written(now, conn, moved);
            }
            self.counters.writes += 1;
            if blocked {
                return self.arm_write(now, conn);
            }
            if moved == waiting
                && self
                    .get_mut(conn)
                    .is_some_and(|connection| connection.phase == Phase::Open)
            {
                // What `written` appended makes the connection dirty again; the others come first.
                return;
            }
        }
    }

    /// A hot connection that owes an answer from here on is read before those that do not.
    fn note_written(&mut self, conn: ConnId, bytes: usize) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        let owed_before = connection.owes_an_answer();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        connection.unanswered_bytes = connection.unanswered_bytes.saturating_add(bytes);
        if !owed_before && connection.owes_an_answer() && connection.reading == Reading::Hot {
            self.hot.push(conn, connection);
        }
    }

    pub(super) fn arm_write(&mut self, now: Instant, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn.index()).and_then(Option::as_mut) else {
            return;
        };
        self.counters.polls += 1;
        connection.progress_at = now;
        if !connection.write_watched {
            connection.write_watched = true;
            self.deadlines.add(
                now + self.write_timeout,
                DeadlineKind::Write,
                conn,
                connection.generation,
            );
        }
        connection.write_blocked = true;
        let watch = connection.writable(conn);
        self.ring.watch_writable(connection.socket.as_fd(), watch);
    }
}

/// Pieces of output in one write.
const CHUNKS_MAX: usize = 64;
/// Writes to one connection in one turn.
const WRITES_MAX: usize = 4;
