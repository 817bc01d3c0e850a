//! Scenarios that ask what a broker keeps, and what it costs to come and go.

use clap::{Args, Subcommand};

use super::run::{Common, ScenarioError, load, raise_descriptors};
use super::topic::{check, numbered};
use crate::cli::options::payload_size;
use crate::load::plan::{Expects, Load, PublisherPlan, SubscriberPlan};
use crate::load::{storm, watch_signals};
use crate::report::progress::Progress;
use crate::report::{Basis, make};

/// The scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum State {
    /// A storm: clients connect, disconnect and begin anew
    Connect(ConnectArgs),
    /// Connections that only stay: memory each, and CPU while nothing happens
    Idle(IdleArgs),
    /// Distinct subscriptions: memory each, and that each of them receives
    Subs(SubsArgs),
    /// Retained messages: memory each, and how fast new subscribers get them
    Retained(RetainedArgs),
}

/// Options of `connect`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectArgs {
    /// Clients that come and go at the same time
    #[arg(short, long, default_value_t = 50)]
    count: usize,
    /// Fixed number of cycles over all clients, instead of a duration
    #[arg(short = 'L', long)]
    limit: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// Options of `idle`.
#[derive(Args, Clone, Debug)]
pub(crate) struct IdleArgs {
    /// Connections
    #[arg(short, long, default_value_t = 10_000)]
    count: usize,
    #[command(flatten)]
    common: Common,
}

/// Options of `subs`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SubsArgs {
    /// Distinct filters over all subscribers
    #[arg(short, long, default_value_t = 100_000)]
    count: usize,
    /// Connections that they are spread over
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Topic Filter; %i is its number, and messages go to it with x in the place of +
    #[arg(short, long, default_value = "bench/subs/%i/+")]
    topic: String,
    /// QoS
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Payload bytes of the messages that check the subscriptions
    #[arg(short, long, default_value = "64", value_parser = payload_size)]
    size: usize,
    /// Messages to each filter
    #[arg(short = 'L', long, default_value_t = 2)]
    limit: u64,
    #[command(flatten)]
    common: Common,
}

/// Options of `retained`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RetainedArgs {
    /// Retained messages, each on a topic of its own
    #[arg(short, long, default_value_t = 10_000)]
    count: usize,
    /// Connections that publish them
    #[arg(long, default_value_t = 10)]
    publishers: usize,
    /// Subscribers that then take all of them
    #[arg(long, default_value_t = 10)]
    subscribers: usize,
    /// QoS
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Payload bytes
    #[arg(short, long, default_value = "64", value_parser = payload_size)]
    size: usize,
    /// Leave them with the broker at the end
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs a scenario; `true` when nothing is wrong.
///
/// # Errors
/// Where the run did not happen.
pub(crate) fn state(verb: State) -> Result<bool, ScenarioError> {
    match verb {
        State::Connect(args) => connect(&args),
        State::Idle(args) => idle(&args.common, args.count, "idle", 10.0),
        State::Subs(args) => subs(&args),
        State::Retained(args) => retained(&args),
    }
}

fn connect(args: &ConnectArgs) -> Result<bool, ScenarioError> {
    let limit = args.limit.map(|limit| limit.div_ceil(args.count as u64));
    let mut plan = args.common.plan(Load { limit, ..load(0, 16) }, 10.0)?;
    plan.idle = (0..args.count)
        .map(|at| args.common.broker.client_id('c', at))
        .collect();
    raise_descriptors(plan.connections())?;
    watch_signals()?;
    let subject = args.common.subject("connect", "connect".to_owned(), Basis::Cycle);
    let mut progress = Progress::new(&subject.case, args.common.threads.quiet);
    let outcome = storm(&plan, args.common.output.pid, &mut progress)?;
    drop(progress);
    let mut report = make(&subject, &plan, &outcome);
    report.ingress.mib_per_second = 0.0;
    report.connections = 0;
    if let Some(latency) = &mut report.latency {
        latency.one_in = 1;
    }
    args.common.emit(&report)
}

/// `count` connections that stay for the duration.
pub(super) fn idle(common: &Common, count: usize, name: &'static str, hold_s: f64) -> Result<bool, ScenarioError> {
    let mut plan = common.plan(load(0, 16), hold_s)?;
    plan.idle = (0..count).map(|at| common.broker.client_id('i', at)).collect();
    let mut subject = common.subject(name, name.to_owned(), Basis::Ingress);
    subject.memory = Some(("connection", count as u64, [0, 1]));
    common.run_and_emit(&subject, &plan)
}

fn subs(args: &SubsArgs) -> Result<bool, ScenarioError> {
    let mut plan = args.common.plan(
        Load {
            limit: Some(args.limit),
            ..load(args.qos, args.size)
        },
        0.0,
    )?;
    let client_id = |role, at| args.common.broker.client_id(role, at);
    let (filter, topic) = (&args.topic, args.topic.replace('+', "x"));
    check(&topic, true)?;
    let share = args.count.div_ceil(args.subscribers.max(1)).max(1);
    let numbers: Vec<usize> = (0..args.count).collect();
    plan.subscribers = numbers
        .chunks(share)
        .enumerate()
        .map(|(at, numbers)| SubscriberPlan {
            client_id: client_id('s', at),
            filters: numbers.iter().map(|&number| numbered(filter, number)).collect(),
            expects: Expects::Range {
                first: numbers[0] as u32,
                count: numbers.len() as u32,
            },
            group: None,
        })
        .collect();
    plan.publishers = vec![PublisherPlan {
        client_id: client_id('p', 0),
        topics: numbers.iter().map(|&number| numbered(&topic, number)).collect(),
        first_stream: 0,
    }];
    let mut subject = args
        .common
        .subject("subs", format!("subs-qos{}", args.qos), Basis::Ingress);
    subject.memory = Some(("subscription", args.count as u64, [1, 2]));
    args.common.run_and_emit(&subject, &plan)
}

/// Three runs: publishers leave retained messages, subscribers take them, publishers clear them away.
fn retained(args: &RetainedArgs) -> Result<bool, ScenarioError> {
    let retain = Load {
        retain: true,
        limit: Some(1),
        ..load(args.qos, args.size)
    };
    let mut storing = args.common.plan(retain, 0.0)?;
    let client_id = |role, at| args.common.broker.client_id(role, at);
    let numbers: Vec<usize> = (0..args.count).collect();
    let share = args.count.div_ceil(args.publishers.max(1)).max(1);
    storing.publishers = numbers
        .chunks(share)
        .enumerate()
        .map(|(at, numbers)| PublisherPlan {
            client_id: client_id('p', at),
            topics: numbers
                .iter()
                .map(|&number| numbered("bench/retained/%i", number))
                .collect(),
            first_stream: numbers[0] as u32,
        })
        .collect();
    let mut taking = args.common.plan(
        Load {
            limit: Some(0),
            ..load(args.qos, args.size)
        },
        0.0,
    )?;
    taking.prior = 1;
    taking.subscribers = (0..args.subscribers)
        .map(|at| SubscriberPlan {
            client_id: client_id('s', at),
            filters: vec!["bench/retained/+".to_owned()],
            expects: Expects::Range {
                first: 0,
                count: args.count as u32,
            },
            group: None,
        })
        .collect();
    let mut subject = args
        .common
        .subject("retained", format!("retained-qos{}", args.qos), Basis::Delivery);
    let taken = args.common.run("retained: storing", &storing).and_then(|stored| {
        subject.memory = Some(("retained message", args.count as u64, [2, 3]));
        let stored = make(&subject, &storing, &stored);
        subject.memory = None;
        Ok((stored, args.common.run("retained: taking", &taking)?))
    });
    if !args.keep {
        storing.load = Load {
            size: 0,
            publish_qos: args.qos.min(1),
            ..retain
        };
        args.common.run("retained: clearing", &storing)?;
    }
    let (stored, taken) = taken?;
    let mut report = make(&subject, &taking, &taken);
    report.setup.publishers = storing.publishers.len();
    report.ingress = stored.ingress;
    report.memory = stored.memory;
    report.verdict.published = stored.verdict.published;
    report.verdict.unacknowledged = stored.verdict.unacknowledged;
    report.faults.splice(
        0..0,
        stored.faults.into_iter().map(|fault| format!("while storing: {fault}")),
    );
    report.latency = None;
    args.common.emit(&report)
}
