//! One connection as its shard sees it: the bytes of an incomplete packet, what waits to be written, and its deadlines.

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use super::authenticate::Admission;
use super::event::ConnId;
use super::output::Output;
use super::rate::Allowance;
use crate::codec::PacketId;
use crate::store::Lsn;
use crate::time::Instant;

/// Where a connection stands.
///
/// ```text
/// Opening ──CONNECT──► Connected ──DISCONNECT, error, takeover──► Closing ──Closed──► gone
///    │ ▲                                                              ▲
///    ▼ │ accepted: CONNECT again                                      │
/// Authenticating ──refused, too late, taken over──────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// No CONNECT yet.
    Opening,
    /// A CONNECT has come, and waits in the tail for the verdict on its client, or for whether its user has room for it.
    Authenticating { ticket: u64 },
    /// Serves this session.
    Connected { session: u32 },
    /// Only its output is still written.
    Closing,
}

/// A connection of this shard.
///
/// Invariants: `gated` holds only packets that must wait, in the order they leave, and `gated_messages` of them are
/// [`GatedPacket::Publish`]; `tail` is shorter than the first packet in it unless the client is held back or verified.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// Who may come in. Set when the connection opens, and by the verdict.
    pub(super) admission: Admission,
    /// Of the verdict that was asked for; `u64::MAX`, later than any, if none was.
    pub(super) ticket: u64,
    /// There is room for it among the connections of its user.
    pub(super) has_room: bool,
    /// Told apart from earlier connections in the same slot, by timers and waiting acknowledgements.
    pub(super) generation: u32,
    /// The received part of an incomplete packet; or, of a held-back publisher, what it had sent already; or, while its
    /// client is verified, the CONNECT and what follows it.
    pub(super) tail: Vec<u8>,
    /// Bytes of the first packet in `tail`, once its header is complete; 0 before.
    pub(super) frame_len: usize,
    pub(super) output: Output,
    /// On the list of connections to write.
    pub(super) dirty: bool,
    /// The session has messages that wait for room in the output.
    pub(super) blocked: bool,
    /// Bytes of answers that were made and not yet outweighed by bytes written: how far the client's asking is ahead of its
    /// reading. Bytes of messages that were written count too, so this is never too high for long.
    pub(super) answer_bytes: usize,
    /// Too much of what the client asked for is not done: it is not read until `answer_bytes` and the pending SUBSCRIBE packets
    /// of its session are down to half of their limits.
    pub(super) sated: bool,
    /// Not read for a moment, because what it publishes fills the memory of a shard.
    pub(super) paused: bool,
    /// It published faster than it may: nothing of it is handled until that is paid for.
    pub(super) over_rate: bool,
    /// What it may publish; `None` until it publishes, and where there is no limit.
    pub(super) allowance: Option<Box<Allowance>>,
    /// What was last counted for it: [`memory_bytes`](Connection::memory_bytes).
    pub(super) charged: usize,
    /// Packets that wait until the store has what they promise.
    pub(super) gated: VecDeque<Gated>,
    /// How many of those are messages: no later message leaves before them.
    pub(super) gated_messages: u32,
    /// When a packet was last received, or a good part of one; or, of a held-back publisher, when it was let go.
    pub(super) last_received: Instant,
    /// Silence granted: 1.5 times the Keep Alive. Zero: any.
    pub(super) silence_max: Duration,
    /// The Keep Alive in force, in seconds.
    pub(super) keep_alive: u16,
    /// The one timer of this connection that is not stale.
    pub(super) timer_at: Instant,
}

/// What a packet waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Gate {
    /// This shard's store.
    pub(super) lsn: Lsn,
    /// Other shards' stores; 0: none.
    pub(super) token: u64,
}

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Gated {
    pub(super) gate: Gate,
    pub(super) packet: GatedPacket,
}

/// Which one.
#[derive(Debug)]
pub(super) enum GatedPacket {
    /// The CONNACK, with Session Present; everything else of the session starts after it.
    ConnAck(bool),
    /// An encoded acknowledgement.
    Bytes(SmallVec<[u8; 8]>),
    /// The message with this identifier: of QoS 2, or of QoS 1 behind one of QoS 2.
    Publish(PacketId),
}

impl Connection {
    pub(super) fn new(now: Instant, generation: u32, admission: Admission) -> Connection {
        Connection {
            phase: Phase::Opening,
            admission,
            ticket: u64::MAX,
            has_room: false,
            generation,
            tail: Vec::new(),
            frame_len: 0,
            output: Output::default(),
            dirty: false,
            blocked: false,
            answer_bytes: 0,
            sated: false,
            paused: false,
            over_rate: false,
            allowance: None,
            charged: 0,
            gated: VecDeque::new(),
            gated_messages: 0,
            last_received: now,
            silence_max: Duration::ZERO,
            keep_alive: 0,
            timer_at: Instant::default(),
        }
    }

    /// What its output and an incomplete packet hold in memory, at most.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        self.output.memory_bytes() + self.tail.capacity()
    }

    pub(super) fn session(&self) -> Option<u32> {
        match self.phase {
            Phase::Connected { session } => Some(session),
            Phase::Opening | Phase::Authenticating { .. } | Phase::Closing => None,
        }
    }
}

/// The connection of a table index.
pub(super) fn conn_id(index: usize) -> ConnId {
    ConnId(u32::try_from(index).expect("fewer connections than descriptors"))
}
