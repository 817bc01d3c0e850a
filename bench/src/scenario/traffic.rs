//! Scenarios in which messages flow.

use clap::{Args, Subcommand};

use super::run::{Common, ScenarioError, load};
use super::topic::{check, numbered, wildcard};
use crate::cli::options::payload_size;
use crate::load::plan::{Expects, Load, Pace, Plan, PublisherPlan, SubscriberPlan};
use crate::report::Basis;

/// The scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum Traffic {
    /// Publishers only: what the broker takes in [50 publishers]
    Ingest(TrafficArgs),
    /// Many publishers, few subscribers to all of them [50 publishers, 1 subscriber]
    Fanin(TrafficArgs),
    /// Few publishers, many subscribers to all of them [1 publisher, 100 subscribers]
    Fanout(TrafficArgs),
    /// One publisher and one subscriber per topic [50 pairs]
    Pairs(TrafficArgs),
    /// Devices with one message in flight, and subscribers with a mix of wildcards [1000 devices, 20 subscribers, QoS 1]
    Telemetry(TrafficArgs),
    /// Many publishers into one shared group, $share/bench/… [50 publishers, 5 members]
    Sharedsub(TrafficArgs),
    /// Pairs in an open loop at a fixed rate, timed from the intended send times [50 pairs, 10000/s]
    Latency(TrafficArgs),
}

/// Options of the scenarios in which messages flow.
#[derive(Args, Clone, Debug)]
pub(crate) struct TrafficArgs {
    /// Clients on the scenario's many side: pairs, publishers, devices, or fanout's subscribers
    #[arg(short, long)]
    count: Option<usize>,
    /// Publishers
    #[arg(long)]
    publishers: Option<usize>,
    /// Subscribers
    #[arg(long)]
    subscribers: Option<usize>,
    /// Topic; %i is the publisher's number [default: bench/SCENARIO/%i]
    #[arg(short, long)]
    topic: Option<String>,
    /// QoS of both directions [default: 0; telemetry 1]
    #[arg(short, long, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: Option<u8>,
    /// QoS that subscribers ask for, where it differs
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
    sub_qos: Option<u8>,
    /// Payload bytes
    #[arg(short, long, default_value = "64", value_parser = payload_size)]
    size: usize,
    /// QoS 1 and 2: messages in flight per publisher [default: 100; telemetry 1]
    #[arg(short = 'F', long, alias = "inflight", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    window: Option<u32>,
    /// Messages that a publisher may be ahead of its subscribers, so that a broker is measured and not its drops; 0 is no limit
    /// [default: so that no subscriber is more than 8,000 messages behind, nor all together 40,000]
    #[arg(long)]
    ahead: Option<u64>,
    /// Open loop: messages per second over all publishers
    #[arg(long, alias = "rps")]
    rate: Option<f64>,
    /// Fixed number of messages over all publishers, instead of a duration
    #[arg(short = 'L', long)]
    limit: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// A scenario's numbers where the command line is silent.
struct Defaults {
    name: &'static str,
    publishers: usize,
    subscribers: usize,
    /// `-c` means subscribers, not publishers.
    many_subscribe: bool,
    qos: u8,
    window: u32,
    rate: Option<f64>,
    basis: Basis,
}

/// Runs a scenario; `true` when nothing is wrong.
///
/// # Errors
/// Where the run did not happen.
pub(crate) fn traffic(verb: Traffic) -> Result<bool, ScenarioError> {
    let base = Defaults {
        name: "",
        publishers: 50,
        subscribers: 0,
        many_subscribe: false,
        qos: 0,
        window: 100,
        rate: None,
        basis: Basis::Ingress,
    };
    let (args, defaults, clients): (_, _, fn(&Sizes<'_>, &mut Plan)) = match verb {
        Traffic::Ingest(args) => (args, Defaults { name: "ingest", ..base }, |_, _| {}),
        Traffic::Fanin(args) => (
            args,
            Defaults {
                name: "fanin",
                subscribers: 1,
                ..base
            },
            fanin,
        ),
        Traffic::Fanout(args) => {
            let many = Defaults {
                name: "fanout",
                publishers: 1,
                subscribers: 100,
                many_subscribe: true,
                ..base
            };
            (
                args,
                Defaults {
                    basis: Basis::Delivery,
                    ..many
                },
                fanout,
            )
        }
        Traffic::Pairs(args) => (
            args,
            Defaults {
                name: "pairs",
                subscribers: 50,
                ..base
            },
            pairs,
        ),
        Traffic::Telemetry(args) => {
            let many = Defaults {
                name: "telemetry",
                publishers: 1000,
                subscribers: 20,
                ..base
            };
            (
                args,
                Defaults {
                    qos: 1,
                    window: 1,
                    ..many
                },
                telemetry,
            )
        }
        Traffic::Sharedsub(args) => (
            args,
            Defaults {
                name: "sharedsub",
                subscribers: 5,
                ..base
            },
            sharedsub,
        ),
        Traffic::Latency(args) => (
            args,
            Defaults {
                name: "latency",
                subscribers: 50,
                rate: Some(10_000.0),
                ..base
            },
            pairs,
        ),
    };
    run(&args, &defaults, clients)
}

/// Deliveries under way over all subscribers, where the command line is silent: milliseconds of a fast broker's work, so
/// that it never waits for this tool.
const DELIVERIES_AHEAD: u64 = 40_000;
/// Deliveries that one subscriber may be behind: below what a broker queues for a session by default (RingMQ 10,000
/// messages), so that it is measured at what it carries and not at what it drops.
const BACKLOG_MAX: u64 = 8_000;

/// Messages that each publisher may be ahead of its subscribers so that both limits hold.
fn ahead(plan: &Plan) -> u64 {
    let deliveries: u64 = plan.deliveries().iter().map(|&fan| u64::from(fan)).sum();
    let streams = plan
        .subscribers
        .iter()
        .map(|subscriber| subscriber.expects.streams().count() as u64)
        .max();
    let limit = (DELIVERIES_AHEAD / deliveries.max(1)).min(BACKLOG_MAX / streams.unwrap_or(1).max(1));
    limit.clamp(1, 1000)
}

/// How many clients, and where they publish.
pub(crate) struct Sizes<'a> {
    pub(crate) subscribers: usize,
    pub(crate) topic: &'a str,
    pub(crate) client_id: &'a dyn Fn(char, usize) -> String,
}

fn run(args: &TrafficArgs, defaults: &Defaults, clients: fn(&Sizes<'_>, &mut Plan)) -> Result<bool, ScenarioError> {
    let (mut publishers, mut subscribers) = (defaults.publishers, defaults.subscribers);
    if let Some(count) = args.count {
        if defaults.many_subscribe {
            subscribers = count;
        } else {
            publishers = count;
        }
    }
    publishers = args.publishers.unwrap_or(publishers).max(1);
    subscribers = if matches!(defaults.name, "pairs" | "latency") {
        publishers
    } else {
        args.subscribers.unwrap_or(subscribers)
    };
    let load = args.load(defaults, publishers);
    let mut plan = args.common.plan(load, 10.0)?;
    let default_topic = format!("bench/{}/%i", defaults.name);
    let topic = args.topic.as_deref().unwrap_or(&default_topic);
    check(topic, true)?;
    let client_id = |role, number| args.common.broker.client_id(role, number);
    plan.publishers = (0..publishers)
        .map(|at| publisher(client_id('p', at), numbered(topic, at), at))
        .collect();
    clients(
        &Sizes {
            subscribers,
            topic,
            client_id: &client_id,
        },
        &mut plan,
    );
    plan.load.ahead = args.ahead.unwrap_or_else(|| ahead(&plan));
    let rate = load_rate(&load).map_or(String::new(), |rate| format!("-{rate}"));
    let subject = args.common.subject(
        defaults.name,
        format!("{}-qos{}{rate}", defaults.name, load.publish_qos),
        defaults.basis,
    );
    args.common.run_and_emit(&subject, &plan)
}

fn load_rate(load: &Load) -> Option<f64> {
    if let Pace::PerSecond(rate) = load.pace {
        Some(rate)
    } else {
        None
    }
}

impl TrafficArgs {
    fn load(&self, defaults: &Defaults, publishers: usize) -> Load {
        let qos = self.qos.unwrap_or(defaults.qos);
        Load {
            subscribe_qos: self.sub_qos.unwrap_or(qos),
            pace: self
                .rate
                .or(defaults.rate)
                .filter(|&rate| rate > 0.0)
                .map_or(Pace::Saturate, Pace::PerSecond),
            window: self.window.unwrap_or(defaults.window),
            limit: self.limit.map(|limit| limit.div_ceil(publishers as u64)),
            ..load(qos, self.size)
        }
    }
}

/// A publisher with one topic, on stream `stream`.
pub(crate) fn publisher(client_id: String, topic: String, stream: usize) -> PublisherPlan {
    PublisherPlan {
        client_id,
        topics: vec![topic],
        first_stream: stream as u32,
    }
}

/// Every subscriber takes everything, by a wildcard.
pub(crate) fn fanin(sizes: &Sizes<'_>, plan: &mut Plan) {
    let count = plan.publishers.len() as u32;
    plan.subscribers = (0..sizes.subscribers)
        .map(|at| SubscriberPlan {
            client_id: (sizes.client_id)('s', at),
            filters: vec![wildcard(sizes.topic)],
            expects: Expects::Range { first: 0, count },
            group: None,
        })
        .collect();
}

/// Every subscriber takes everything, by name.
pub(crate) fn fanout(sizes: &Sizes<'_>, plan: &mut Plan) {
    let topics: Vec<_> = plan
        .publishers
        .iter()
        .flat_map(|publisher| publisher.topics.clone())
        .collect();
    fanin(sizes, plan);
    plan.subscribers
        .iter_mut()
        .for_each(|subscriber| subscriber.filters.clone_from(&topics));
}

/// Subscriber `i` takes what publisher `i` sends.
pub(crate) fn pairs(sizes: &Sizes<'_>, plan: &mut Plan) {
    let topics = plan.publishers.iter().map(|publisher| publisher.topics.clone());
    plan.subscribers = topics
        .enumerate()
        .map(|(at, filters)| SubscriberPlan {
            client_id: (sizes.client_id)('s', at),
            filters,
            expects: Expects::Range {
                first: at as u32,
                count: 1,
            },
            group: None,
        })
        .collect();
}

/// All subscribers are one group.
pub(crate) fn sharedsub(sizes: &Sizes<'_>, plan: &mut Plan) {
    fanin(sizes, plan);
    plan.groups = 1;
    for subscriber in &mut plan.subscribers {
        subscriber.group = Some(0);
        subscriber.filters = vec![format!("$share/bench/{}", wildcard(sizes.topic))];
    }
}

/// Sites, and kinds of measurement, that devices are spread over.
const SITES: usize = 10;
const KINDS: [&str; 4] = ["temperature", "humidity", "power", "status"];

/// Device `i` publishes to `…/site/device/kind`. One subscriber archives everything; the others watch, in turn, a whole
/// site, one kind at one site, one device, and one kind everywhere, as dashboards and alarms do.
fn telemetry(sizes: &Sizes<'_>, plan: &mut Plan) {
    let base = sizes.topic.replace("/%i", "");
    let kind = |at: usize| KINDS[at / SITES % KINDS.len()];
    for (at, publisher) in plan.publishers.iter_mut().enumerate() {
        publisher.topics = vec![format!("{base}/site{}/device{at}/{}", at % SITES, kind(at))];
    }
    let devices = plan.publishers.len();
    let filter = |at: usize| match at {
        0 => format!("{base}/#"),
        at if at % 4 == 1 => format!("{base}/site{}/#", at / 4 % SITES),
        at if at % 4 == 2 => format!("{base}/site{}/+/{}", at / 4 % SITES, KINDS[at / 4 % KINDS.len()]),
        at if at % 4 == 3 => format!("{base}/+/device{}/+", at * 37 % devices),
        at => format!("{base}/+/+/{}", KINDS[at / 4 % KINDS.len()]),
    };
    plan.subscribers = (0..sizes.subscribers)
        .map(|at| SubscriberPlan {
            client_id: (sizes.client_id)('s', at),
            filters: vec![filter(at)],
            expects: Expects::Anything,
            group: None,
        })
        .collect();
    plan.expect_what_matches();
}
