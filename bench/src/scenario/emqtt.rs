//! The verbs of emqtt-bench, with its letters.
//!
//! What differs is said in docs/benchmarks.md: MQTT 3.1.1 only, TCP only, publishers wait until all are connected, and
//! payloads are countable, so `sub` can say what it missed.

use clap::{Args, Subcommand};

use super::run::{Common, ScenarioError, load};
use super::state::idle;
use super::topic::{check, expand};
use crate::cli::options::payload_size;
use crate::load::plan::{Expects, Load, Pace, SubscriberPlan};
use crate::report::{Basis, make};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Emqtt {
    /// emqtt-bench: connect many clients and keep them
    Conn(ConnArgs),
    /// emqtt-bench: connect many clients and subscribe
    Sub(SubArgs),
    /// emqtt-bench: connect many clients and publish
    Pub(PubArgs),
}

/// Options of `conn`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnArgs {
    #[command(flatten)]
    clients: Clients,
    #[command(flatten)]
    common: Common,
}

/// Who connects.
#[derive(Args, Clone, Debug)]
struct Clients {
    /// Clients
    #[arg(short, long, default_value_t = 200)]
    count: usize,
    /// Number of the first one
    #[arg(short = 'n', long, default_value_t = 0)]
    startnumber: usize,
}

/// Options of `sub`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SubArgs {
    #[command(flatten)]
    clients: Clients,
    /// Topic Filter; %i is the client's number, %c its identifier, %u the user name
    #[arg(short, long)]
    topic: String,
    /// QoS
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    #[command(flatten)]
    common: Common,
}

/// Options of `pub`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PubArgs {
    #[command(flatten)]
    clients: Clients,
    /// Topic Name; %i is the client's number, %c its identifier, %u the user name
    #[arg(short, long)]
    topic: String,
    /// Milliseconds between two messages of one client; 0 is as fast as the window allows
    #[arg(short = 'I', long = "interval_of_msg", value_name = "MS", default_value_t = 1000.0)]
    interval_of_msg: f64,
    /// Messages per second over all clients, instead of -I
    #[arg(long)]
    rate: Option<f64>,
    /// Messages over all clients; 0 is no limit
    #[arg(short = 'L', long, default_value_t = 0)]
    limit: u64,
    /// QoS 1 and 2: messages in flight per client
    #[arg(short = 'F', long = "inflight", alias = "window", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    window: u32,
    /// Payload bytes
    #[arg(short, long, default_value = "256", value_parser = payload_size)]
    size: usize,
    /// QoS
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Retain
    #[arg(short, long, default_value_t = false, default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set)]
    retain: bool,
    /// Wait for all connections before publishing; always so here
    #[arg(short, long = "wait-before-publishing", hide = true, num_args = 0..=1)]
    wait: Option<bool>,
    #[command(flatten)]
    common: Common,
}

/// emqtt-bench runs until it is stopped; so do these verbs, unless `--duration` says otherwise.
const FOREVER_S: f64 = 365.0 * 86_400.0;
/// emqtt-bench opens a connection every 10 ms.
const INTERVAL_MS: f64 = 10.0;

/// Runs a verb; `true` when nothing is wrong.
///
/// # Errors
/// Where the run did not happen.
pub(crate) fn emqtt(verb: Emqtt) -> Result<bool, ScenarioError> {
    match verb {
        Emqtt::Conn(args) => {
            let common = paced(&args.common);
            idle(&common, args.clients.count, "conn", FOREVER_S)
        }
        Emqtt::Sub(args) => subscribe(&args),
        Emqtt::Pub(args) => publish(&args),
    }
}

/// With emqtt-bench's pace of connecting, and no warm-up.
fn paced(common: &Common) -> Common {
    let mut common = common.clone();
    common.broker.interval.get_or_insert(INTERVAL_MS);
    common.time.warmup.get_or_insert(std::time::Duration::ZERO);
    common
}

fn subscribe(args: &SubArgs) -> Result<bool, ScenarioError> {
    let load = Load {
        ahead: 0,
        ..load(args.qos, 16)
    };
    let mut plan = paced(&args.common).plan(load, FOREVER_S)?;
    let broker = &args.common.broker;
    plan.subscribers = (0..args.clients.count)
        .map(|at| {
            let number = args.clients.startnumber + at;
            let client_id = broker.client_id('s', number);
            SubscriberPlan {
                filters: vec![expand(&args.topic, number, &client_id, broker.username.as_deref())],
                client_id,
                expects: Expects::Anything,
                group: None,
            }
        })
        .collect();
    let subject = args
        .common
        .subject("sub", format!("sub-qos{}", args.qos), Basis::Delivery);
    let outcome = args.common.run(&subject.case, &plan)?;
    let mut report = make(&subject, &plan, &outcome);
    // Payloads are other processes', of whatever size.
    report.setup.size_bytes = 0;
    report.egress.mib_per_second = 0.0;
    args.common.emit(&report)
}

fn publish(args: &PubArgs) -> Result<bool, ScenarioError> {
    check(&args.topic, false)?;
    let count = args.clients.count.max(1);
    let rate = args
        .rate
        .or_else(|| (args.interval_of_msg > 0.0).then(|| count as f64 * 1000.0 / args.interval_of_msg));
    let load = Load {
        retain: args.retain,
        pace: rate.map_or(Pace::Saturate, Pace::PerSecond),
        window: args.window,
        ahead: 0,
        limit: (args.limit > 0).then(|| args.limit.div_ceil(count as u64)),
        ..load(args.qos, args.size)
    };
    let mut plan = paced(&args.common).plan(load, FOREVER_S)?;
    let broker = &args.common.broker;
    plan.publishers = (0..count)
        .map(|at| {
            let number = args.clients.startnumber + at;
            let client_id = broker.client_id('p', number);
            let topic = expand(&args.topic, number, &client_id, broker.username.as_deref());
            super::traffic::publisher(client_id, topic, number)
        })
        .collect();
    let subject = args
        .common
        .subject("pub", format!("pub-qos{}", args.qos), Basis::Ingress);
    args.common.run_and_emit(&subject, &plan)
}
