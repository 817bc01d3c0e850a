//! What a run is to do, as data: scenarios make plans, the engine carries them out and knows no scenario.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::net::Transport;
use crate::wire::topic;

/// Where the broker is and how clients introduce themselves.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    /// Local addresses to connect from, in turn; empty leaves it to the kernel.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) keep_alive_s: u16,
    pub(crate) clean_session: bool,
    pub(crate) transport: Transport,
}

/// One publishing connection. Message `m` goes to topic `m % topics.len()`, which is stream
/// `first_stream + m % topics.len()`.
#[derive(Clone, Debug)]
pub(crate) struct PublisherPlan {
    pub(crate) client_id: String,
    pub(crate) topics: Vec<String>,
    pub(crate) first_stream: u32,
}

/// One subscribing connection.
#[derive(Clone, Debug)]
pub(crate) struct SubscriberPlan {
    pub(crate) client_id: String,
    pub(crate) filters: Vec<String>,
    pub(crate) expects: Expects,
    /// The shared group it is a member of; an index below [`Plan::groups`].
    pub(crate) group: Option<usize>,
}

/// The streams that a subscriber must receive, completely and in order.
#[derive(Clone, Debug)]
pub(crate) enum Expects {
    /// `first..first + count`.
    Range { first: u32, count: u32 },
    /// These, ascending, out of all.
    These(Vec<u32>),
    /// Whatever comes, from wherever it starts: another process publishes.
    Anything,
}

/// How fast publishers go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Closed loop: as fast as the windows allow.
    Saturate,
    /// Open loop: so many messages per second over all publishers, at times fixed ahead.
    PerSecond(f64),
}

/// How messages are made and held back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Payload bytes; 0 (clears retained messages) or at least a stamp.
    pub(crate) size: usize,
    pub(crate) publish_qos: u8,
    pub(crate) subscribe_qos: u8,
    pub(crate) retain: bool,
    pub(crate) pace: Pace,
    /// QoS 1 and 2: messages in flight per publisher, 1 to 65 535.
    pub(crate) window: u32,
    /// Messages that a publisher may be ahead of its subscribers; 0 for no limit.
    pub(crate) ahead: u64,
    /// Messages per stream after which publishers stop; `None` runs for [`Timing::duration`].
    pub(crate) limit: Option<u64>,
}

/// When a run measures, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) warmup: Duration,
    /// `None` runs until interrupted, or until [`Load::limit`].
    pub(crate) duration: Option<Duration>,
    /// How long after the last arrival missing messages are given up.
    pub(crate) drain: Duration,
}

/// The load threads.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    pub(crate) count: usize,
    /// Cores to pin them to, in turn; empty leaves it to the kernel.
    pub(crate) cores: Vec<usize>,
    /// Rest between two turns while publishers saturate, so that arrivals come in batches.
    pub(crate) nap: Duration,
}

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) broker: Broker,
    pub(crate) publishers: Vec<PublisherPlan>,
    pub(crate) subscribers: Vec<SubscriberPlan>,
    /// Client Identifiers of connections that only stay.
    pub(crate) idle: Vec<String>,
    pub(crate) groups: usize,
    pub(crate) load: Load,
    pub(crate) timing: Timing,
    pub(crate) threads: Threads,
    /// New connections per second over all threads; `None` for no limit.
    pub(crate) connect_rate: Option<f64>,
    /// Messages that every stream has carried before the run: retained ones that subscribers must get.
    pub(crate) prior: u64,
    /// How often an idle run's counters are sampled for the chart; also the progress line's pace.
    pub(crate) sample_every: Duration,
}

impl Plan {
    /// Streams of all publishers; they are numbered without gaps.
    pub(crate) fn streams(&self) -> usize {
        let published = self
            .publishers
            .iter()
            .map(|p| p.first_stream as usize + p.topics.len())
            .max()
            .unwrap_or(0);
        let expected = self.subscribers.iter().map(|s| s.expects.end()).max().unwrap_or(0);
        published.max(expected)
    }

    /// For each stream, how many deliveries one message makes: one per subscriber, one per group.
    pub(crate) fn deliveries(&self) -> Vec<u32> {
        let mut fan = vec![0; self.streams()];
        let mut groups = vec![vec![false; self.streams()]; self.groups];
        for subscriber in &self.subscribers {
            for stream in subscriber.expects.streams() {
                let counted = subscriber
                    .group
                    .is_some_and(|group| std::mem::replace(&mut groups[group][stream], true));
                fan[stream] += u32::from(!counted);
            }
        }
        fan
    }

    /// For each stream, who paces its publisher, see [`Plan::pacer_of`]: of its subscribers, the one with the most
    /// streams, which falls behind first. `u32::MAX` where nobody is subscribed.
    pub(crate) fn pacers(&self) -> Vec<u32> {
        let mut pacers = vec![u32::MAX; self.streams()];
        let mut order: Vec<usize> = (0..self.subscribers.len()).collect();
        order.sort_by_cached_key(|&at| self.subscribers[at].expects.streams().count());
        for at in order {
            for stream in self.subscribers[at].expects.streams() {
                pacers[stream] = self.pacer_of(at);
            }
        }
        pacers
    }

    /// The number under which subscriber `at` paces publishers: its own, or one that all members of its group share.
    pub(crate) fn pacer_of(&self, at: usize) -> u32 {
        self.subscribers[at]
            .group
            .map_or(at as u32, |group| u32::MAX - 1 - group as u32)
    }

    /// All connections.
    pub(crate) fn connections(&self) -> usize {
        self.publishers.len() + self.subscribers.len() + self.idle.len()
    }

    /// Replaces each subscriber's expectations by what its filters match among the publishers' topics.
    /// O(subscribers × topics): for telemetry-like plans, where that is the simplest truth.
    pub(crate) fn expect_what_matches(&mut self) {
        for subscriber in &mut self.subscribers {
            let mut streams = Vec::new();
            for publisher in &self.publishers {
                for (stream, name) in (publisher.first_stream..).zip(&publisher.topics) {
                    if subscriber.filters.iter().any(|filter| topic::matches(filter, name)) {
                        streams.push(stream);
                    }
                }
            }
            subscriber.expects = Expects::These(streams);
        }
    }
}

impl Expects {
    /// The expected streams, ascending; none for [`Expects::Anything`].
    pub(crate) fn streams(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Expects::Range { first, count } => Box::new(*first as usize..(*first + *count) as usize),
            Expects::These(streams) => Box::new(streams.iter().map(|&stream| stream as usize)),
            Expects::Anything => Box::new(std::iter::empty()),
        }
    }

    fn end(&self) -> usize {
        match self {
            Expects::Range { first, count } => (*first + *count) as usize,
            Expects::These(streams) => streams.last().map_or(0, |&last| last as usize + 1),
            Expects::Anything => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(first: u32, count: u32, group: Option<usize>) -> SubscriberPlan {
        SubscriberPlan {
            client_id: String::new(),
            filters: Vec::new(),
            expects: Expects::Range { first, count },
            group,
        }
    }

    fn plan(subscribers: Vec<SubscriberPlan>, groups: usize) -> Plan {
        let load = Load {
            size: 16,
            publish_qos: 0,
            subscribe_qos: 0,
            retain: false,
            pace: Pace::Saturate,
            window: 1,
            ahead: 0,
            limit: None,
        };
        Plan {
            broker: Broker {
                address: ([127, 0, 0, 1], 1883).into(),
                sources: Vec::new(),
                username: None,
                password: None,
                keep_alive_s: 0,
                clean_session: true,
                transport: Transport::default(),
            },
            publishers: Vec::new(),
            subscribers,
            idle: Vec::new(),
            groups,
            load,
            timing: Timing {
                warmup: Duration::ZERO,
                duration: None,
                drain: Duration::ZERO,
            },
            threads: Threads {
                count: 1,
                cores: Vec::new(),
                nap: Duration::ZERO,
            },
            connect_rate: None,
            prior: 0,
            sample_every: Duration::ZERO,
        }
    }

    #[test]
    fn a_group_is_one_delivery() {
        let members = vec![
            subscriber(0, 2, Some(0)),
            subscriber(0, 2, Some(0)),
            subscriber(1, 1, None),
        ];
        assert_eq!(plan(members, 1).deliveries(), [1, 2]);
    }

    #[test]
    fn whoever_takes_most_paces() {
        let plan = plan(vec![subscriber(0, 3, None), subscriber(1, 1, None)], 0);
        assert_eq!(plan.pacers(), [0, 0, 0]);
    }

    #[test]
    fn members_of_a_group_pace_together() {
        let plan = plan(vec![subscriber(0, 1, Some(0)), subscriber(0, 1, Some(0))], 1);
        assert_eq!(plan.pacers(), [plan.pacer_of(0)]);
        assert_eq!(plan.pacer_of(0), plan.pacer_of(1));
    }
}
