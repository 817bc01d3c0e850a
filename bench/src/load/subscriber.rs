//! The subscribing half of a connection: what arrives is checked against what must.

use super::context::Context;
use super::plan::{Expects, SubscriberPlan};
use super::track::{Seen, Track};
use crate::net::Link;
use crate::wire::frame::{Frame, FrameError, Publish};
use crate::wire::packet::{acknowledge, kind, subscribe};
use crate::wire::stamp::{STAMP_BYTES, STREAMS_MAX, Stamp};

/// Filters per SUBSCRIBE packet; the next one leaves when its predecessor is confirmed.
const FILTERS_PER_PACKET: usize = 64;

/// Most streams followed where the publishers are unknown.
const UNKNOWN_STREAMS_MAX: usize = 1 << 20;

/// How far a group member's messages may jump at once: what a group may have in flight many times over, and a bound on
/// the bits that a corrupt sequence can claim.
const GROUP_AHEAD_MAX: u64 = 1 << 24;

/// One subscriber.
///
/// Invariant: a member of a group uses `order`, any other subscriber `tracks`; both are indexed by stream − `first`.
#[derive(Debug)]
pub(crate) struct Subscriber {
    filters: Vec<String>,
    /// Filters that SUBACKs have confirmed, and the identifier of the packet that waits for one.
    confirmed: usize,
    awaited_id: u16,
    first: u32,
    pub(crate) tracks: Vec<Track>,
    /// Streams of other processes: tracks appear as streams do, and begin where they are first seen.
    anything: bool,
    group: Option<usize>,
    /// As whom it paces publishers.
    pacer: u32,
    /// Per stream, the next sequence that keeps a group member's messages in order.
    order: Vec<u64>,
    pub(crate) counts: Counts,
}

/// What a subscriber counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// PUBLISH packets, whatever they held.
    pub(crate) delivered: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    /// Payloads whose stamp, length or fill is not what was sent.
    pub(crate) corrupt: u64,
    /// Intact messages of streams that this subscriber has no business with.
    pub(crate) stray: u64,
}

/// The broker refused a filter, or confirmed what it was not asked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum SubackError {
    #[error("SUBACK for identifier {got}, expected {expected}")]
    Identifier { got: u16, expected: u16 },
    #[error("the broker refused a subscription (return code 0x{code:02x})")]
    Refused { code: u8 },
    #[error("SUBACK with {got} return codes for {expected} filters")]
    Length { got: usize, expected: usize },
}

impl Subscriber {
    /// `streams`: all there are, for subscribers that name theirs one by one; `pacer`: as whom it paces publishers.
    pub(crate) fn new(plan: &SubscriberPlan, streams: usize, pacer: u32) -> Subscriber {
        let (first, count) = match plan.expects {
            Expects::Range { first, count } => (first, count as usize),
            Expects::These(_) => (0, streams),
            Expects::Anything => (0, 0),
        };
        let (tracks, order) = match plan.group {
            Some(_) => (Vec::new(), vec![0; count]),
            None => (vec![Track::default(); count], Vec::new()),
        };
        Subscriber {
            filters: plan.filters.clone(),
            confirmed: 0,
            awaited_id: 0,
            first,
            tracks,
            anything: matches!(plan.expects, Expects::Anything),
            group: plan.group,
            pacer,
            order,
            counts: Counts::default(),
        }
    }

    /// Stream number of `tracks[0]`.
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// Every filter is confirmed.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.confirmed == self.filters.len()
    }

    /// Queues the next SUBSCRIBE, if any filter is left.
    pub(crate) fn subscribe(&mut self, link: &mut Link, qos: u8) {
        let rest = &self.filters[self.confirmed..];
        if !rest.is_empty() {
            self.awaited_id = self.awaited_id.checked_add(1).unwrap_or(1);
            subscribe(
                link.out(),
                self.awaited_id,
                &rest[..rest.len().min(FILTERS_PER_PACKET)],
                qos,
            );
        }
    }

    /// Takes a SUBACK.
    ///
    /// # Errors
    /// [`SubackError`]; the scenario makes no sense without its subscriptions, so the connection ends.
    pub(crate) fn on_suback(&mut self, body: &[u8]) -> Result<(), SubackError> {
        let got = crate::wire::frame::packet_id(body);
        if got != self.awaited_id {
            return Err(SubackError::Identifier {
                got,
                expected: self.awaited_id,
            });
        }
        let expected = (self.filters.len() - self.confirmed).min(FILTERS_PER_PACKET);
        let codes = body.get(2..).unwrap_or_default();
        if codes.len() != expected {
            return Err(SubackError::Length {
                got: codes.len(),
                expected,
            });
        }
        if let Some(&code) = codes.iter().find(|&&code| code > 2) {
            return Err(SubackError::Refused { code });
        }
        self.confirmed += expected;
        Ok(())
    }

    /// Takes a PUBLISH: acknowledges it, checks it, counts it. No allocation where it is in order.
    ///
    /// # Errors
    /// [`FrameError`]: the connection ends.
    #[inline]
    pub(crate) fn on_publish(
        &mut self,
        frame: &Frame<'_>,
        link: &mut Link,
        cx: &mut Context<'_>,
    ) -> Result<(), FrameError> {
        let publish = Publish::parse(frame)?;
        match publish.qos {
            0 => {}
            1 => link.queue(&acknowledge(kind::PUBACK, publish.id)),
            _ => link.queue(&acknowledge(kind::PUBREC, publish.id)),
        }
        self.counts.delivered += 1;
        cx.delivered += 1;
        let Some(stamp) = Stamp::decode(publish.payload) else {
            self.counts.corrupt += 1;
            return Ok(());
        };
        if !self.anything && !cx.is_fill(&publish.payload[STAMP_BYTES..]) {
            self.counts.corrupt += 1;
            return Ok(());
        }
        if self.note(stamp, cx) {
            cx.distinct += 1;
            cx.progress(stamp.stream, self.pacer);
            cx.record_latency(stamp);
        }
        Ok(())
    }

    /// Enters an intact message; `true` where it is seen for the first time.
    #[inline]
    fn note(&mut self, stamp: Stamp, cx: &mut Context<'_>) -> bool {
        let at = stamp.stream.wrapping_sub(self.first) as usize;
        if let Some(group) = self.group {
            let Some(next) = self.order.get_mut(at) else {
                self.counts.stray += 1;
                return false;
            };
            if stamp.sequence > *next + GROUP_AHEAD_MAX {
                self.counts.corrupt += 1;
                return false;
            }
            if !cx.groups[group].mark(stamp.stream, stamp.sequence) {
                self.counts.duplicated += 1;
                return false;
            }
            self.counts.reordered += u64::from(stamp.sequence < *next);
            *next = stamp.sequence + 1;
            return true;
        }
        if self.anything {
            self.follow(at, stamp.sequence);
        }
        let Some(track) = self.tracks.get_mut(at) else {
            self.counts.stray += 1;
            return false;
        };
        match track.see(stamp.sequence) {
            Seen::Fresh => true,
            Seen::Late => {
                self.counts.reordered += 1;
                true
            }
            Seen::Again => {
                self.counts.duplicated += 1;
                false
            }
        }
    }

    /// Begins to follow a stream of another process where it is first seen.
    fn follow(&mut self, at: usize, sequence: u64) {
        const _: () = assert!(UNKNOWN_STREAMS_MAX <= STREAMS_MAX);
        const UNSEEN: u64 = u64::MAX;
        if at >= self.tracks.len() && at < UNKNOWN_STREAMS_MAX {
            self.tracks.resize(at + 1, Track::starting_at(UNSEEN));
        }
        if let Some(track) = self.tracks.get_mut(at).filter(|track| track.next() == UNSEEN) {
            *track = Track::starting_at(sequence);
        }
    }
}
