//! What shards say to each other, and the outboxes it waits in until the end of the turn.
//!
//! Entries of one pass keep their order from sender to receiver; the passes of a turn leave one after the other, for all
//! peers (see [`Pass`]). Nothing is lost on the way: a batch is enqueued or the process is gone.

use std::sync::Arc;

use super::event::{Pass, ShardId};
use super::outgoing::Outgoing;
use super::packed::{PackedBytes, PackedMessage};
use crate::message::SharedMessage;
use crate::router::GroupRef;
use crate::session::SessionKey;

/// One thing a shard tells another.
#[derive(Debug)]
pub(crate) enum PeerEntry {
    /// A message for subscribers of the receiver; its bytes are in the batch. From the publisher's shard; must not be overtaken
    /// by a later message, nor by the confirmation of a route that its publisher's shard gave after it.
    Packed(PackedMessage),
    /// A message that is large or has more to say: an acknowledgement that waits for the receiver's store, a publisher that
    /// may be held back. Keeps its order with the others.
    Routed(Box<RoutedMessage>),
    /// A message with RETAIN 1, to the owner of its topic. Must not be overtaken by its live copies [`Pass::Retained`].
    Retain {
        /// Stored, or with an empty payload cleared.
        message: SharedMessage,
        /// Answered by `Stored`; 0: nobody waits.
        token: u64,
    },
    /// The sender has its first subscriber for this filter. Answered by `RouteConfirmed`.
    RouteAdded {
        /// The filter.
        filter: Arc<str>,
        /// Repeated in the answer.
        token: u64,
    },
    /// The sender's last subscriber for this filter is gone. Keeps its order with `RouteAdded`.
    RouteRemoved {
        /// The filter.
        filter: Arc<str>,
    },
    /// How many members the sender has in a shared group. Keeps its order with earlier ones.
    GroupMembers(Box<GroupMembers>),
    /// The sender has the route of this token in its registry. Must not overtake messages routed without it.
    RouteConfirmed {
        /// As announced.
        token: u64,
    },
    /// Which retained messages match? Sent once all routes of the subscription are confirmed.
    RetainedRequest {
        /// Repeated in the answer.
        token: u64,
        /// The filters.
        filters: Arc<[Arc<str>]>,
    },
    /// Some or all of the answer. Must not overtake messages up to `through`.
    RetainedReply(Box<RetainedReply>),
    /// A QoS 1 or 2 message with this token is durable on the sender, or can never be.
    Stored {
        /// As in [`RoutedMessage::token`].
        token: u64,
        /// False if the sender's store refused it: the publisher must send it again.
        ok: bool,
    },
    /// The sender's memory is nearly full, or no longer: while it is, messages to it say whose they are. Keeps its order
    /// with messages, though nothing depends on it; the next change repairs a loss.
    Pressure {
        /// Which of the two.
        on: bool,
    },
    /// The sender asks not to read this publisher for a while, because what it publishes fills the sender's memory. Nobody
    /// waits for an answer; the next message asks again.
    Slow {
        /// A session of the receiver.
        publisher: SessionKey,
        /// How long.
        millis: u32,
    },
    /// A slow subscriber of the sender asks not to read this publisher, until `Release`.
    Hold {
        /// A session of the receiver.
        publisher: SessionKey,
    },
    /// Ends one `Hold`.
    Release {
        /// A session of the receiver.
        publisher: SessionKey,
    },
}

/// To whom on the receiver a message goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Recipients<'a> {
    /// Its plain subscribers.
    pub(crate) plain: bool,
    /// Groups of it, each to deliver to one member.
    pub(crate) groups: &'a [GroupRef],
    /// Chooses the member, where members are chosen by publisher.
    pub(crate) sticky: Option<u32>,
}

/// See [`PeerEntry::Routed`].
#[derive(Debug)]
pub(crate) struct RoutedMessage {
    pub(crate) message: SharedMessage,
    /// As in [`Recipients`].
    pub(crate) plain: bool,
    /// As in [`Recipients`].
    pub(crate) groups: Vec<GroupRef>,
    /// As in [`Recipients`].
    pub(crate) sticky: Option<u32>,
    /// Who published it, if it can be held back.
    pub(crate) publisher: Option<SessionKey>,
    /// Answered by `Stored`; 0: nobody waits.
    pub(crate) token: u64,
    /// How often a message for a group has been passed on because its members had left.
    pub(crate) hops: u8,
}

impl RoutedMessage {
    pub(super) fn new(out: &mut Outgoing<'_>, to: Recipients<'_>, token: u64) -> RoutedMessage {
        RoutedMessage {
            message: out.shared(),
            plain: to.plain,
            groups: to.groups.to_vec(),
            sticky: to.sticky,
            publisher: out.publisher,
            token,
            hops: 0,
        }
    }

    pub(super) fn recipients(&self) -> Recipients<'_> {
        Recipients {
            plain: self.plain,
            groups: &self.groups,
            sticky: self.sticky,
        }
    }
}

/// See [`PeerEntry::GroupMembers`].
#[derive(Debug)]
pub(crate) struct GroupMembers {
    pub(crate) filter: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) group: GroupRef,
    pub(crate) online: u32,
    pub(crate) offline: u32,
    /// Answered by `RouteConfirmed`; 0: nobody waits.
    pub(crate) token: u64,
}

/// See [`PeerEntry::RetainedReply`].
#[derive(Debug)]
pub(crate) struct RetainedReply {
    pub(crate) token: u64,
    /// The sender had routed its own messages up to this sequence number when it began to answer.
    pub(crate) through: u64,
    /// Matching messages, with the index of the filter.
    pub(crate) messages: Vec<(u16, SharedMessage)>,
    /// Nothing more comes from this shard.
    pub(crate) done: bool,
}

const _: () = assert!(size_of::<PeerEntry>() <= 32);

/// A turn's entries for one peer: enqueue it whole, it never waits.
#[derive(Debug)]
pub struct PeerBatch {
    /// Who sends it.
    pub from: ShardId,
    pub(crate) entries: Vec<PeerEntry>,
    /// What the entries that are packed messages consist of.
    pub(crate) packed: PackedBytes,
    weight: usize,
}

impl PeerBatch {
    /// How much of an inbox it takes: one for each entry, and one for each KiB of its messages.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Entries in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl PeerEntry {
    /// Topic Name and payload bytes that it carries.
    fn message_bytes(&self) -> usize {
        match self {
            PeerEntry::Packed(message) => message.size(),
            PeerEntry::Retain { message, .. } => message.size(),
            PeerEntry::Routed(routed) => routed.message.size(),
            // Retained messages are shared with their store.
            _ => 0,
        }
    }
}

/// So many bytes of messages weigh as much as an entry: then an inbox that may hold 16,384 entries may hold 16 MiB.
const WEIGHT_BYTES: usize = 1024;

/// What leaves at the end of the turn: per pass and peer, in order.
#[derive(Debug)]
pub(crate) struct Outboxes {
    own: ShardId,
    shards: u16,
    passes: [Vec<Outbox>; 3],
}

/// What goes to one peer in one pass.
#[derive(Debug, Default)]
struct Outbox {
    entries: Vec<PeerEntry>,
    packed: PackedBytes,
    /// As [`PeerBatch::weight`].
    weight: usize,
}

impl Outbox {
    fn push(&mut self, entry: PeerEntry) {
        self.weight += 1 + entry.message_bytes() / WEIGHT_BYTES;
        self.entries.push(entry);
    }
}

impl Outboxes {
    pub(crate) fn new(own: ShardId, shards: u16) -> Outboxes {
        let empty = || (0..shards).map(|_| Outbox::default()).collect();
        Outboxes {
            own,
            shards,
            passes: [empty(), empty(), empty()],
        }
    }

    pub(crate) fn push(&mut self, pass: Pass, to: ShardId, entry: PeerEntry) {
        debug_assert_ne!(to, self.own, "a shard does not write to itself");
        self.passes[pass as usize][to.index()].push(entry);
    }

    /// A message for subscribers of `shard`; with a token, that says when it is durable there.
    pub(super) fn push_message(&mut self, shard: ShardId, out: &mut Outgoing<'_>, to: Recipients<'_>, token: u64) {
        let outbox = &mut self.passes[Pass::Messages as usize][shard.index()];
        let is_plain = token == 0 && out.publisher.is_none();
        let packed = if is_plain { outbox.packed.add(out, to) } else { None };
        outbox.push(packed.map_or_else(
            || PeerEntry::Routed(Box::new(RoutedMessage::new(out, to, token))),
            PeerEntry::Packed,
        ));
    }

    /// The next batch of this pass, peers in order.
    pub(crate) fn poll(&mut self, pass: Pass) -> Option<(ShardId, PeerBatch)> {
        let boxes = &mut self.passes[pass as usize];
        let at = boxes.iter().position(|outbox| !outbox.entries.is_empty())?;
        let Outbox {
            entries,
            packed,
            weight,
        } = std::mem::take(&mut boxes[at]);
        let to = ShardId(u16::try_from(at).expect("fewer than SHARDS_MAX"));
        Some((
            to,
            PeerBatch {
                from: self.own,
                entries,
                packed,
                weight,
            },
        ))
    }

    /// All shards but this one.
    pub(crate) fn peers(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.own;
        (0..self.shards).map(ShardId).filter(move |shard| *shard != own)
    }

    pub(crate) fn peer_count(&self) -> u16 {
        self.shards - 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.passes.iter().flatten().all(|outbox| outbox.entries.is_empty())
    }
}
