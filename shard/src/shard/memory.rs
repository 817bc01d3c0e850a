//! The memory that clients make this shard hold, and what happens when it nears the shard's share of the broker's.
//!
//! ```text
//!  0 ──────────────────────── 3/4 ──────── 7/8 ──── 15/16 ── 1    of the share
//!        nothing happens       │ publishers │ QoS 0  │ QoS 1  │ nothing is kept
//!                              │ are slowed │ is shed│ and 2  │
//! ```
//! The share is fixed, so no shard asks another how much it holds. What is said between shards is one entry when a shard
//! comes under pressure and one when that is over ([`PeerEntry::Pressure`]); only in between do messages to it name
//! their publishers.
//!
//! Who holds more than others is served last: a session is slowed and shed only while it holds its *fair part*, which is what
//! all sessions hold on average, and of which ever less is granted the fuller the share is. So a subscriber that keeps up
//! gets its messages while others are shed, and new sessions cannot push it out.
//!
//! Counted are queues, messages in flight and held, QoS 2 messages not released, outputs and incomplete packets. A message
//! that several sessions hold is counted for each of them, so the count is an upper bound. Retained messages have a limit
//! of their own, and count here only by the place they take in a queue.

use std::time::Duration;

use indexmap::IndexSet;

use super::Shard;
use super::clients::{Clients, Deferred, done};
use super::connection::Connection;
use super::event::{ConnId, Pass, ShardId};
use super::outgoing::Outgoing;
use super::peer::PeerEntry;
use super::timers::Timer;
use crate::codec::QoS;
use crate::error::{CloseReason, DropReason, SessionError};
use crate::hash::table_hasher;
use crate::limits::SlowSubscriber;
use crate::message::MESSAGE_MEMORY;
use crate::session::{Session, SessionKey};
use crate::time::Instant;

/// What this shard holds for its clients, against its share.
///
/// Invariant: `used` is the sum of `charged` over all sessions and connections, and each of those is what its owner held
/// when it was last touched.
#[derive(Debug)]
pub(super) struct Memory {
    used: usize,
    share: usize,
    /// From here on publishers are slowed.
    slow_mark: usize,
    /// Whether the peers know that this shard is under pressure.
    announced: bool,
    /// Publishers on other shards that were told to slow down and have hardly had time to do so.
    told: IndexSet<(ShardId, SessionKey), ahash::RandomState>,
    /// When those are told again.
    told_until: Instant,
}

impl Memory {
    pub(super) fn new(share: usize, seed: u64) -> Memory {
        Memory {
            used: 0,
            share,
            slow_mark: share - share / 4,
            announced: false,
            told: IndexSet::with_hasher(table_hasher(seed)),
            told_until: Instant::default(),
        }
    }

    /// Another share from here on; less than is used sheds until it is below.
    pub(super) fn set_share(&mut self, share: usize) {
        self.share = share;
        self.slow_mark = share - share / 4;
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Whether `more` bytes would lead over the first mark: the one question that is asked for each delivery.
    #[inline]
    pub(super) fn is_tight(&self, more: usize) -> bool {
        self.used.saturating_add(more) >= self.slow_mark
    }

    /// Counts what an owner holds in place of what it was counted with.
    #[inline]
    pub(super) fn recharge(&mut self, charged: &mut usize, holds: usize) {
        self.used = self.used - *charged + holds;
        *charged = holds;
    }

    /// Whether an owner that holds `held` bytes may hold `more` for a message of this level.
    fn admits(&self, held: usize, more: usize, qos: QoS, fair_part: usize) -> bool {
        let after = self.used.saturating_add(more);
        let shed_mark = match qos {
            QoS::AtMostOnce => self.share - self.share / 8,
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.share - self.share / 16,
        };
        if after < shed_mark {
            return true;
        }
        if after > self.share {
            return false;
        }
        let (left, of) = (self.share - after, (self.share - shed_mark).max(1));
        held as u128 <= fair_part as u128 * left as u128 / of as u128
    }

    /// How long a publisher is not read: the longer the less is left.
    fn pause(&self) -> Duration {
        let over = self.used.saturating_sub(self.slow_mark).min(self.share / 4) as u128;
        let range = (PAUSE_MAX - PAUSE_MIN).as_millis();
        let millis = PAUSE_MIN.as_millis() + range * over / (self.share as u128 / 4).max(1);
        Duration::from_millis(u64::try_from(millis).expect("at most PAUSE_MAX"))
    }
}

impl Clients {
    /// Counts what the session holds.
    #[inline]
    pub(super) fn recharge_session(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        let holds = session.memory_bytes();
        self.memory.recharge(&mut session.charged, holds);
    }

    /// Counts what the connection holds.
    pub(super) fn recharge_connection(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.index()) {
            let holds = connection.memory_bytes();
            self.memory.recharge(&mut connection.charged, holds);
        }
    }

    /// Forgets a connection and what it held.
    pub(super) fn remove_connection(&mut self, conn: ConnId) -> Connection {
        if self.tracing.is_on() {
            self.tracing.forget(conn);
        }
        let mut connection = self.connections.remove(conn.index());
        self.memory.recharge(&mut connection.charged, 0);
        connection
    }

    /// Bytes of answers from which on a client is not read, and of output from which on its queue waits.
    pub(super) fn output_bytes_max(&self) -> usize {
        if self.memory.is_tight(0) {
            self.limits.output_bytes_max.min(OUTPUT_BYTES_TIGHT)
        } else {
            self.limits.output_bytes_max
        }
    }

    /// Whether a session may get a message while memory is tight. Slows the publisher, sheds and counts.
    #[cold]
    pub(super) fn admit(&mut self, now: Instant, index: u32, qos: QoS, out: &Outgoing<'_>) -> bool {
        let more = out.size() + MESSAGE_MEMORY;
        let fair_part = self.fair_part();
        let session = &self.sessions[index as usize];
        let held = self.held_by(session);
        let connected = session.conn.is_some();
        if connected && held >= fair_part {
            // It may catch up. For an absent subscriber nobody waits.
            self.slow_down(now, out);
        }
        if self.memory.admits(held, more, qos, fair_part) {
            return true;
        }
        match self.limits.slow_subscriber {
            SlowSubscriber::DropOldest if connected && qos > QoS::AtMostOnce => {
                return self.shed_oldest(index, more, out);
            }
            SlowSubscriber::Disconnect if connected => {
                let key = self.key(index);
                self.deferred.push_back(Deferred::DisconnectSlow(key));
            }
            _ => {}
        }
        if !fault!(ShedUncounted) {
            self.drop_message(index, out.topic, DropReason::MemoryFull);
        }
        false
    }

    /// Drops the oldest messages of a queue for a new one of `more` bytes; if they do not suffice, that one.
    fn shed_oldest(&mut self, index: u32, more: usize, out: &Outgoing<'_>) -> bool {
        let mut freed = 0;
        while freed < more {
            let session = &mut self.sessions[index as usize];
            let Some(oldest) = session.outbound.pop() else { break };
            freed += oldest.memory_bytes();
            self.stats.queued -= 1;
            done(&mut *self.store, self.volatile, session, oldest.message_id);
            self.drop_message(index, oldest.message.topic(), DropReason::MemoryFull);
        }
        self.recharge_session(index);
        if freed < more {
            self.drop_message(index, out.topic, DropReason::MemoryFull);
        }
        freed >= more
    }

    /// Whether a QoS 2 message of this publisher may be kept until PUBREL.
    ///
    /// # Errors
    /// Its connection closes; it sends the message again when it comes back.
    pub(super) fn admit_inbound(&mut self, now: Instant, index: u32, size: usize) -> Result<(), SessionError> {
        let more = size + MESSAGE_MEMORY;
        if !self.memory.is_tight(more) {
            return Ok(());
        }
        let fair_part = self.fair_part();
        let session = &self.sessions[index as usize];
        let held = self.held_by(session);
        if !self.memory.admits(held, more, QoS::ExactlyOnce, fair_part) {
            return Err(SessionError::MemoryFull {
                share: self.memory.share,
            });
        }
        if held >= fair_part {
            let key = self.key(index);
            self.pause(now, key, self.memory.pause());
        }
        Ok(())
    }

    fn slow_down(&mut self, now: Instant, out: &Outgoing<'_>) {
        let Some(publisher) = out.publisher else { return };
        let pause = self.memory.pause();
        if out.origin.shard == self.own {
            self.pause(now, publisher, pause);
            return;
        }
        if now >= self.memory.told_until {
            self.memory.told.clear();
            self.memory.told_until = now + pause;
        }
        if self.memory.told.insert((out.origin.shard, publisher)) {
            let slow = Deferred::Slow(out.origin.shard, publisher, pause);
            self.deferred.push_back(slow);
        }
    }

    /// Does not read a publisher for a while; what was read of it already is handled.
    pub(super) fn pause(&mut self, now: Instant, publisher: SessionKey, pause: Duration) {
        let Some(conn) = self.resolve(publisher).and_then(|session| session.conn) else {
            return;
        };
        let connection = &mut self.connections[conn.index()];
        if connection.paused {
            return;
        }
        connection.paused = true;
        self.stats.slowed += 1;
        let paused = Deferred::Paused(conn, connection.generation, now + pause);
        self.deferred.push_back(paused);
    }

    /// What everyone may hold when memory is tight: what all hold on average.
    fn fair_part(&self) -> usize {
        (self.memory.used / self.sessions.len().max(1)).max(FAIR_BYTES_MIN)
    }

    fn held_by(&self, session: &Session) -> usize {
        let of_connection = |conn: ConnId| self.connections[conn.index()].charged;
        session.charged + session.conn.map_or(0, of_connection)
    }
}

impl Shard {
    /// Tells the others when this shard comes under pressure, and when that is over.
    pub(super) fn announce_pressure(&mut self) {
        let memory = &mut self.clients.memory;
        let on = if memory.announced {
            memory.used > memory.share / 2
        } else {
            memory.is_tight(0)
        };
        if on == memory.announced {
            return;
        }
        memory.announced = on;
        self.set_pressed(self.id, on);
        for peer in self.outboxes.peers() {
            self.outboxes.push(Pass::Messages, peer, PeerEntry::Pressure { on });
        }
    }

    /// A shard is under pressure, or no longer.
    pub(super) fn set_pressed(&mut self, shard: ShardId, on: bool) {
        let bit = 1 << shard.0;
        self.pressed = if on { self.pressed | bit } else { self.pressed & !bit };
    }

    /// A pause is over.
    pub(super) fn on_pause_over(&mut self, now: Instant, conn: ConnId, generation: u32) {
        if let Some(connection) = self.clients.live_connection((conn, generation))
            && !fault!(PauseForEver)
        {
            connection.paused = false;
            self.read_again(now, conn);
        }
    }

    pub(super) fn set_pause_timer(&mut self, at: Instant, conn: ConnId, generation: u32) {
        self.timers.set(
            at,
            Timer::Pause {
                index: conn.0,
                generation,
            },
        );
    }

    /// Closes a connection whose incomplete packet takes memory that is not there.
    pub(super) fn check_incomplete(&mut self, now: Instant, conn: ConnId) {
        if !self.clients.memory.is_tight(0) || !self.may_go_on(conn) {
            // What waits because somebody holds the client back is one read at most.
            return;
        }
        let Some(connection) = self.clients.connections.get(conn.index()) else {
            return;
        };
        // A small packet, such as an acknowledgement, may free more than it takes.
        let waits = connection.tail.len() > TAIL_BYTES_FREE;
        let charged = connection.charged;
        let fair_part = self.clients.fair_part();
        let memory = &self.clients.memory;
        let share = memory.share;
        // The last part is for messages to those who keep up.
        if waits && !memory.admits(charged, share / 32, QoS::AtLeastOnce, fair_part) {
            self.close(now, conn, CloseReason::Session(SessionError::MemoryFull { share }));
        }
    }
}

/// Everyone may hold this much while the share is not full, however many there are: some messages under way.
const FAIR_BYTES_MIN: usize = 2 * 1024;
/// The least and the most that a publisher is not read at a time. It is read once in between, so it goes on at between
/// a megabyte a second and 64 KiB a second, and its Keep Alive, of a second at least, is not in danger.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Bytes of an incomplete packet that are never refused.
const TAIL_BYTES_FREE: usize = 64;
/// What an output takes from a queue while memory is tight: it would count twice, in the window and as bytes.
const OUTPUT_BYTES_TIGHT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: usize = 1_600_000;

    fn used(used: usize) -> Memory {
        let mut memory = Memory::new(SHARE, 7);
        memory.recharge(&mut 0, used);
        memory
    }

    #[test]
    fn marks_are_where_the_head_of_this_file_says() {
        assert!(!used(SHARE / 4 * 3 - 1).is_tight(0));
        assert!(used(SHARE / 4 * 3).is_tight(0));
        assert!(used(0).is_tight(SHARE / 4 * 3));
        let admits = |at: usize, qos| used(at).admits(usize::MAX, 0, qos, 1_000);
        assert!(admits(SHARE / 8 * 7 - 1, QoS::AtMostOnce));
        assert!(!admits(SHARE / 8 * 7, QoS::AtMostOnce));
        assert!(admits(SHARE / 16 * 15 - 1, QoS::AtLeastOnce));
        assert!(!admits(SHARE / 16 * 15, QoS::ExactlyOnce));
    }

    #[test]
    fn who_holds_little_is_admitted_until_the_share_is_full() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            assert!(used(SHARE - 100).admits(0, 100, qos, 1_000));
            assert!(!used(SHARE - 100).admits(0, 101, qos, 1_000));
        }
    }

    #[test]
    fn the_part_that_is_granted_shrinks_to_nothing() {
        // 50,000 of the last 100,000 bytes are left: half of the fair part.
        let memory = used(SHARE - 50_000);
        assert!(memory.admits(500, 0, QoS::AtLeastOnce, 1_000));
        assert!(!memory.admits(501, 0, QoS::AtLeastOnce, 1_000));
    }

    #[test]
    fn pauses_grow_with_what_is_held() {
        assert_eq!(used(SHARE / 4 * 3).pause(), PAUSE_MIN);
        assert_eq!(used(SHARE).pause(), PAUSE_MAX);
        assert_eq!(used(2 * SHARE).pause(), PAUSE_MAX);
        assert_eq!(used(SHARE / 8 * 7).pause(), (PAUSE_MIN + PAUSE_MAX) / 2);
    }

    #[test]
    fn without_a_limit_nothing_is_tight() {
        let mut memory = Memory::new(usize::MAX, 7);
        memory.recharge(&mut 0, 1 << 40);
        assert!(!memory.is_tight(1 << 40));
    }
}
