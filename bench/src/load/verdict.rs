//! Adds up what was sent and what was seen, and says what is wrong.

use serde::{Deserialize, Serialize};

use super::plan::{Expects, Plan};
use super::track::GroupBits;
use super::worker::Harvest;

/// The counts of a whole run, warm-up and drain included.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// Messages that publishers sent.
    pub(crate) published: u64,
    /// Deliveries that these must make.
    pub(crate) expected: u64,
    /// PUBLISH packets that subscribers received.
    pub(crate) delivered: u64,
    /// Expected, never seen.
    pub(crate) lost: u64,
    /// Seen more than once.
    pub(crate) duplicated: u64,
    /// Seen after a message of the same stream that was published later.
    pub(crate) reordered: u64,
    /// Payloads that nobody sent so.
    pub(crate) corrupt: u64,
    /// Payloads of other programs, where a subscriber takes whatever comes.
    pub(crate) foreign: u64,
    /// Intact messages at subscribers that did not ask for them.
    pub(crate) stray: u64,
    /// QoS 1 and 2: messages that the broker never acknowledged.
    pub(crate) unacknowledged: u64,
    /// Acknowledgements out of order [MQTT-4.6.0-2], [MQTT-4.6.0-3].
    pub(crate) acks_reordered: u64,
    /// Acknowledgements that nobody was waiting for.
    pub(crate) acks_unexpected: u64,
    /// Connections that ended, or could not be made.
    pub(crate) broken: u64,
    /// Connections that did not answer the PINGREQ at the end.
    pub(crate) silent: u64,
    /// Fewest and most messages that members of one group received.
    pub(crate) group_share: Option<(u64, u64)>,
}

impl Verdict {
    /// The counts that must be 0, with their names. A broker may drop QoS 0 messages, so `lost` is wrong only where
    /// both QoS are at least 1; nothing else is allowed at any QoS.
    pub(crate) fn faults(&self, qos: u8) -> Vec<(&'static str, u64)> {
        let mut faults = vec![
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("corrupt", self.corrupt),
            ("stray", self.stray),
            ("unacknowledged", self.unacknowledged),
            ("acknowledgements out of order", self.acks_reordered),
            ("unexpected acknowledgements", self.acks_unexpected),
            ("broken connections", self.broken),
            ("silent connections", self.silent),
        ];
        if qos > 0 {
            faults.insert(0, ("lost", self.lost));
        }
        faults.retain(|&(_, count)| count > 0);
        faults
    }

    /// Judges what the load threads brought home.
    pub(super) fn new(plan: &Plan, fan: &[u32], harvests: &[Harvest]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut sent = vec![plan.prior; fan.len()];
        for publisher in harvests.iter().flat_map(|harvest| &harvest.publishers) {
            verdict.published += publisher.started();
            verdict.unacknowledged += publisher.in_flight(plan.load.publish_qos);
            let (reordered, unexpected) = publisher.acknowledgement_faults();
            verdict.acks_reordered += reordered;
            verdict.acks_unexpected += unexpected;
            for (stream, count) in publisher.started_by_stream() {
                sent[stream] += count;
            }
        }
        verdict.expected = sent.iter().zip(fan).map(|(&sent, &fan)| sent * u64::from(fan)).sum();
        let mut shares = vec![Vec::new(); plan.groups];
        for (at, subscriber) in harvests.iter().flat_map(|harvest| &harvest.subscribers) {
            let counts = subscriber.counts;
            verdict.delivered += counts.delivered;
            verdict.duplicated += counts.duplicated;
            verdict.reordered += counts.reordered;
            match plan.subscribers[*at].expects {
                Expects::Anything => verdict.foreign += counts.corrupt,
                _ => verdict.corrupt += counts.corrupt,
            }
            verdict.stray += counts.stray;
            match plan.subscribers[*at].group {
                Some(group) => shares[group].push(counts.delivered),
                None => verdict.judge_tracks(
                    subscriber.first(),
                    &subscriber.tracks,
                    &plan.subscribers[*at].expects,
                    &sent,
                ),
            }
        }
        verdict.judge_groups(plan, harvests, &sent);
        let least = shares.iter().flatten().min();
        verdict.group_share = least
            .zip(shares.iter().flatten().max())
            .map(|(&least, &most)| (least, most));
        verdict
    }

    fn judge_tracks(&mut self, first: u32, tracks: &[super::track::Track], expects: &Expects, sent: &[u64]) {
        if let Expects::Anything = expects {
            self.lost += tracks.iter().map(|track| track.missing()).sum::<u64>();
            return;
        }
        let mut expected = vec![false; tracks.len()];
        for stream in expects.streams() {
            let track = &tracks[stream - first as usize];
            expected[stream - first as usize] = true;
            // A sequence from beyond what was sent is none of ours, however intact it looks.
            self.corrupt += u64::from(track.next() > sent[stream]);
            self.lost += sent[stream].saturating_sub(track.distinct());
        }
        let strays = tracks.iter().zip(&expected).filter(|&(_, &expected)| !expected);
        self.stray += strays.map(|(track, _)| track.distinct()).sum::<u64>();
    }

    fn judge_groups(&mut self, plan: &Plan, harvests: &[Harvest], sent: &[u64]) {
        for group in 0..plan.groups {
            let mut union = GroupBits::default();
            for harvest in harvests {
                self.duplicated += union.merge(&harvest.groups[group]);
            }
            let member = plan
                .subscribers
                .iter()
                .find(|subscriber| subscriber.group == Some(group));
            for stream in member.into_iter().flat_map(|member| member.expects.streams()) {
                self.lost += sent[stream].saturating_sub(union.distinct(stream));
            }
        }
    }
}
