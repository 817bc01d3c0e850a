//! Messages on their way to one client: the queue, the in-flight window, the sender's side of QoS 1 and 2.
//!
//! ```text
//!  push ──► queue ──► send ──► window: QoS 1  PubAck ──PUBACK──► Done
//!                                      QoS 2  PubRec ──PUBREC──► PubComp ──PUBCOMP──► Done
//! ```
//!
//! Packet Identifiers are given out in sequence, 1..=65 535 and around, so a message's place in the window follows from
//! its identifier: every acknowledgement is O(1). The window spans from the oldest message that is not done to the newest;
//! one that is left behind until the identifiers come round is set aside as a straggler, and its identifier is skipped
//! [MQTT-2.3.1-4].

use std::collections::VecDeque;

use crate::codec::{PacketId, QoS};
use crate::message::{MESSAGE_MEMORY, Message, SharedMessage};
use crate::router::GroupRef;

/// A message that waits in the queue.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The message.
    pub message: SharedMessage,
    /// Its number in this session's records; 0 where no record was written.
    pub message_id: u64,
    /// The shared group it came through, if it did: where it goes if this client leaves.
    pub group: Option<GroupRef>,
    /// At which level it is delivered.
    pub qos: QoS,
    /// RETAIN as it will be sent: true for a retained message that answers a SUBSCRIBE [MQTT-3.3.1-8].
    pub retain: bool,
}

/// What a message in the window waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SentState {
    /// QoS 1, sent.
    PubAck,
    /// QoS 2, sent.
    PubRec,
    /// QoS 2, received by the client; PUBREL sent.
    PubComp,
    /// Acknowledged; only keeps its place.
    Done,
}

impl SentState {
    /// The packet that it waits for, as the standard writes it.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            SentState::PubAck => "PUBACK",
            SentState::PubRec => "PUBREC",
            SentState::PubComp => "PUBCOMP",
            SentState::Done => "nothing",
        }
    }
}

/// A message that was sent and takes a place in the window.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message; `None` once the client has it (PubComp, Done).
    pub message: Option<SharedMessage>,
    /// As in [`Queued`].
    pub message_id: u64,
    /// As in [`Queued`].
    pub group: Option<GroupRef>,
    /// As in [`Queued`].
    pub retain: bool,
    /// What it waits for.
    pub state: SentState,
}

/// What PUBACK or PUBCOMP did.
#[derive(Debug)]
pub enum Acknowledged {
    /// The message with this record number is done; its identifier is free.
    Done(u64),
    /// No such message: no state changed.
    Unknown,
    /// The message waits for another packet: no state changed.
    Wrong(SentState),
}

/// What PUBREC did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// PUBREL is owed, and the message is never sent again [MQTT-4.3.3-1].
    First,
    /// PUBREL is owed again.
    Repeat,
    /// No such message. PUBREL is owed all the same, so that the client can let go of it.
    Unknown,
    /// The message waits for another packet: no state changed.
    Wrong(SentState),
}

/// The queue and the window of one session.
///
/// Invariants: `queued_bytes` sums the queue without its retained messages, which are stored elsewhere already, and
/// `window_bytes` what the window and the stragglers hold; `replayed` counts the retained messages in the queue, and `in_order` all entries that QoS 0 must not overtake; `unacknowledged` counts the stragglers, and the
/// window's entries that are not `Done`; the window's first entry is not `Done`; the window's identifiers are consecutive
/// and end before `next_id`; no straggler is `Done` or shares an identifier with an entry of the window that is not.
#[derive(Debug)]
pub struct Outbound {
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    in_order: u32,
    replayed: u32,
    window: VecDeque<Sent>,
    /// Of the messages in the window and among the stragglers.
    window_bytes: usize,
    /// Older than the whole window; oldest first. Nearly always empty.
    stragglers: Vec<(PacketId, Sent)>,
    unacknowledged: u16,
    /// The identifier of the next message, 1..=65 535.
    next_id: u16,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound {
            queue: VecDeque::new(),
            queued_bytes: 0,
            in_order: 0,
            replayed: 0,
            window: VecDeque::new(),
            window_bytes: 0,
            stragglers: Vec::new(),
            unacknowledged: 0,
            next_id: 1,
        }
    }
}

impl Outbound {
    /// Adds to the end of the queue.
    pub fn push(&mut self, queued: Queued) {
        self.queued_bytes += queued.counted_bytes();
        self.in_order += u32::from(queued.must_keep_order());
        self.replayed += u32::from(queued.retain);
        self.queue.push_back(queued);
    }

    /// Puts a message back to where it was taken from: the front of the queue.
    pub fn push_front(&mut self, queued: Queued) {
        self.queued_bytes += queued.counted_bytes();
        self.in_order += u32::from(queued.must_keep_order());
        self.replayed += u32::from(queued.retain);
        self.queue.push_front(queued);
    }

    /// The next message of the queue.
    #[must_use]
    pub fn front(&self) -> Option<&Queued> {
        self.queue.front()
    }

    /// Takes the next message out of the queue.
    pub fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queued_bytes -= queued.counted_bytes();
        self.in_order -= u32::from(queued.must_keep_order());
        self.replayed -= u32::from(queued.retain);
        if self.queue.is_empty() {
            // An idle session owns no queue.
            self.queue = VecDeque::new();
        }
        Some(queued)
    }

    /// Messages in the queue.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Messages in the queue that its limit counts: those that are not retained messages for a SUBSCRIBE.
    #[must_use]
    pub fn queued_live(&self) -> usize {
        self.queue.len() - self.replayed as usize
    }

    /// The retained messages in the queue, as they will be sent.
    pub fn replayed(&self) -> impl Iterator<Item = &Queued> {
        let all = if self.replayed > 0 { self.queue.len() } else { 0 };
        self.queue.iter().take(all).filter(|queued| queued.retain)
    }

    /// Topic Name and payload bytes of the messages that the limit counts.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// What queue and window hold in memory, at most; a message that others hold too counts in full.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let messages = self.queue.len() + self.window.len() + self.stragglers.len();
        self.queued_bytes + self.window_bytes + messages * MESSAGE_MEMORY
    }

    /// Whether a QoS 0 message may be sent past the queue. Order is promised per topic and QoS [MQTT-4.6.0-6], so it may
    /// overtake QoS 1 and 2 that wait for the window; it may not overtake QoS 0, nor a retained message, which would
    /// then show an older value after a newer one.
    #[must_use]
    pub fn qos0_may_overtake(&self) -> bool {
        self.in_order == 0 || fault!(Qos0Overtakes)
    }

    /// Whether the window takes another message.
    #[must_use]
    pub fn has_room(&self, inflight_max: u16) -> bool {
        usize::from(self.unacknowledged) < usize::from(inflight_max).min(WINDOW_SPAN_MAX)
    }

    /// Messages sent and not yet done.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        usize::from(self.unacknowledged)
    }

    /// Puts a QoS 1 or 2 message into the window and gives it an identifier that no other message in flight has.
    ///
    /// # Panics
    /// If the window has no room.
    pub fn send(&mut self, queued: Queued) -> PacketId {
        assert!(
            usize::from(self.unacknowledged) < WINDOW_SPAN_MAX,
            "has_room() was asked first"
        );
        self.make_next_id_free();
        let state = match queued.qos {
            QoS::AtMostOnce => unreachable!("QoS 0 has no Packet Identifier"),
            QoS::AtLeastOnce => SentState::PubAck,
            QoS::ExactlyOnce => SentState::PubRec,
        };
        self.window_bytes += queued.message.size();
        self.window.push_back(Sent {
            message: Some(queued.message),
            message_id: queued.message_id,
            group: queued.group,
            retain: queued.retain,
            state,
        });
        self.unacknowledged += 1;
        if fault!(ReuseIdentifier) {
            return PacketId::new(self.first_id()).expect("first_id() is never 0");
        }
        let id = self.advance_id();
        self.trim();
        id
    }

    /// Sets the oldest messages aside until the window has a place, and skips what they are called.
    fn make_next_id_free(&mut self) {
        loop {
            if self.window.len() >= WINDOW_SPAN_MAX {
                let first = PacketId::new(self.first_id()).expect("identifiers are never 0");
                let oldest = self.window.pop_front().expect("the window is full");
                self.stragglers.push((first, oldest));
                self.trim();
            } else if self.stragglers.iter().any(|(id, _)| id.value() == self.next_id) {
                let place = Sent {
                    message: None,
                    message_id: 0,
                    group: None,
                    retain: false,
                    state: SentState::Done,
                };
                self.window.push_back(place);
                self.advance_id();
            } else {
                return;
            }
        }
    }

    fn advance_id(&mut self) -> PacketId {
        let id = PacketId::new(self.next_id).expect("next_id is never 0");
        self.next_id = if self.next_id == u16::MAX { 1 } else { self.next_id + 1 };
        id
    }

    /// The identifier that [`send`](Self::send) gives out next.
    ///
    /// # Panics
    /// If the window has no room.
    #[must_use]
    pub fn next_id(&mut self) -> PacketId {
        self.make_next_id_free();
        self.trim();
        PacketId::new(self.next_id).expect("next_id is never 0")
    }

    /// PUBACK: a QoS 1 message is done.
    #[must_use]
    pub fn on_puback(&mut self, id: PacketId) -> Acknowledged {
        self.finish(id, SentState::PubAck)
    }

    /// PUBREC: the client has a QoS 2 message.
    #[must_use]
    pub fn on_pubrec(&mut self, id: PacketId) -> Received {
        let Some(sent) = self.sent_mut(id) else {
            return Received::Unknown;
        };
        match sent.state {
            SentState::PubRec => {
                sent.state = SentState::PubComp;
                let message = sent.message.take().expect("PubRec holds the message");
                sent.group = None;
                self.window_bytes -= message.size();
                Received::First
            }
            SentState::PubComp => Received::Repeat,
            SentState::Done => unreachable!("what is done is not found"),
            state @ SentState::PubAck => Received::Wrong(state),
        }
    }

    /// PUBCOMP: a QoS 2 message is done.
    #[must_use]
    pub fn on_pubcomp(&mut self, id: PacketId) -> Acknowledged {
        self.finish(id, SentState::PubComp)
    }

    /// The window, oldest first, without what is done: all of it is sent again when the session resumes, in this order
    /// and with these identifiers [MQTT-4.4.0-1].
    pub fn unfinished(&self) -> impl Iterator<Item = (PacketId, &Sent)> {
        let first = u32::from(self.first_id());
        let stragglers = self.stragglers.iter().map(|(id, sent)| (*id, sent));
        let window = self.window.iter().zip(0u32..).map(move |(sent, at)| {
            let id = u16::try_from((first - 1 + at) % u32::from(u16::MAX) + 1).expect("reduced to 1..=65 535");
            (PacketId::new(id).expect("1 was added"), sent)
        });
        stragglers.chain(window.filter(|(_, sent)| sent.state != SentState::Done))
    }

    /// The message in flight with this identifier.
    #[must_use]
    pub fn in_flight(&self, id: PacketId) -> Option<&Sent> {
        let in_window = self
            .position(id)
            .map(|at| &self.window[at])
            .filter(|sent| sent.state != SentState::Done);
        in_window.or_else(|| self.stragglers.iter().find(|(of, _)| *of == id).map(|(_, sent)| sent))
    }

    fn sent_mut(&mut self, id: PacketId) -> Option<&mut Sent> {
        let at = self.position(id).filter(|at| self.window[*at].state != SentState::Done);
        match at {
            Some(at) => Some(&mut self.window[at]),
            None => self
                .stragglers
                .iter_mut()
                .find(|(of, _)| *of == id)
                .map(|(_, sent)| sent),
        }
    }

    /// Takes out what came through shared groups and may go to another member: what waits, and with `in_flight_too`
    /// what was sent and is not known to have arrived; of that QoS 2 only if `ends`, since a client whose session goes on
    /// may have it already.
    pub fn take_shared(&mut self, of: impl Fn(GroupRef) -> bool, in_flight_too: bool, ends: bool) -> Vec<Queued> {
        let mut taken = Vec::new();
        if in_flight_too {
            for sent in self.stragglers.iter_mut().map(|(_, sent)| sent).chain(&mut self.window) {
                let may_go = sent.state == SentState::PubAck || (ends && sent.state == SentState::PubRec);
                if !may_go || !sent.group.is_some_and(&of) {
                    continue;
                }
                let qos = if sent.state == SentState::PubAck {
                    QoS::AtLeastOnce
                } else {
                    QoS::ExactlyOnce
                };
                let message = sent.message.take().expect("PubAck and PubRec hold the message");
                sent.state = SentState::Done;
                self.unacknowledged -= 1;
                self.window_bytes -= message.size();
                taken.push(Queued {
                    message,
                    message_id: sent.message_id,
                    group: sent.group,
                    qos,
                    retain: sent.retain,
                });
            }
            self.trim();
        }
        if self.queue.iter().any(|queued| queued.group.is_some_and(&of)) {
            let queue = std::mem::take(&mut self.queue);
            (self.queued_bytes, self.in_order, self.replayed) = (0, 0, 0);
            for queued in queue {
                if queued.group.is_some_and(&of) {
                    taken.push(queued);
                } else {
                    self.push(queued);
                }
            }
        }
        taken
    }

    fn finish(&mut self, id: PacketId, expected: SentState) -> Acknowledged {
        let Some(sent) = self.sent_mut(id) else {
            return Acknowledged::Unknown;
        };
        match sent.state {
            state if state != expected => Acknowledged::Wrong(state),
            _ => {
                sent.state = SentState::Done;
                let message = sent.message.take();
                let message_id = sent.message_id;
                self.window_bytes -= message.map_or(0, |message| message.size());
                self.unacknowledged -= 1;
                self.trim();
                Acknowledged::Done(message_id)
            }
        }
    }

    fn first_id(&self) -> u16 {
        let span = u32::try_from(self.window.len()).expect("the window spans less than 65 535");
        let first = (u32::from(self.next_id) - 1 + u32::from(u16::MAX) - span) % u32::from(u16::MAX) + 1;
        u16::try_from(first).expect("reduced above")
    }

    fn position(&self, id: PacketId) -> Option<usize> {
        let (id, first) = (u32::from(id.value()), u32::from(self.first_id()));
        let at = (id + u32::from(u16::MAX) - first) % u32::from(u16::MAX);
        let at = usize::try_from(at).expect("less than 65 535");
        (at < self.window.len()).then_some(at)
    }

    fn trim(&mut self) {
        if !self.stragglers.is_empty() {
            self.stragglers.retain(|(_, sent)| sent.state != SentState::Done);
        }
        while self.window.front().is_some_and(|sent| sent.state == SentState::Done) {
            self.window.pop_front();
        }
        if self.window.is_empty() && self.window.capacity() > WINDOW_CAPACITY_KEPT {
            self.window = VecDeque::new();
        }
    }

    /// Checks the invariants in the type's head.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check_invariants(&self) {
        assert_eq!(
            self.queued_bytes,
            self.queue.iter().map(Queued::counted_bytes).sum::<usize>()
        );
        let sent = self.stragglers.iter().map(|(_, sent)| sent).chain(&self.window);
        let size = |sent: &Sent| sent.message.as_ref().map_or(0, |message| message.size());
        assert_eq!(self.window_bytes, sent.map(size).sum::<usize>());
        assert_eq!(
            self.replayed as usize,
            self.queue.iter().filter(|queued| queued.retain).count()
        );
        assert_eq!(
            self.in_order as usize,
            self.queue.iter().filter(|queued| queued.must_keep_order()).count()
        );
        let unfinished = self.window.iter().filter(|sent| sent.state != SentState::Done).count();
        assert_eq!(usize::from(self.unacknowledged), unfinished + self.stragglers.len());
        for (id, sent) in &self.stragglers {
            assert_ne!(sent.state, SentState::Done);
            assert!(
                self.position(*id)
                    .is_none_or(|at| self.window[at].state == SentState::Done)
            );
        }
        assert!(self.window.front().is_none_or(|sent| sent.state != SentState::Done));
        assert!(self.window.len() <= WINDOW_SPAN_MAX);
        assert_ne!(self.next_id, 0);
    }
}

impl Queued {
    /// What it counts in memory while it waits.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.counted_bytes() + MESSAGE_MEMORY
    }

    fn counted_bytes(&self) -> usize {
        if self.retain { 0 } else { self.message.size() }
    }

    fn must_keep_order(&self) -> bool {
        self.retain || self.qos == QoS::AtMostOnce
    }
}

const _: () = assert!(size_of::<Message>() + 2 * size_of::<Queued>() + 32 <= MESSAGE_MEMORY);

/// Places of the window: one less than there are identifiers, so that the next one is never that of the first place.
const WINDOW_SPAN_MAX: usize = u16::MAX as usize - 1;
/// An emptied window keeps a buffer of this many places; a client with few messages in flight does not allocate per
/// message, one that had many gives the memory back.
const WINDOW_CAPACITY_KEPT: usize = 16;

#[cfg(test)]
mod tests;
