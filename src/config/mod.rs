//! What the operator wants: command line and environment in, one validated [`Config`] out.
//!
//! Start with [`Args`] for the flags; [`Config::from_args`] is the only place that judges them together. Nothing
//! farther in checks again. Every flag has its page in `docs/configuration.md`.

mod args;
mod cores;
mod log;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser;
use ringmq_shard::limits::{Limits, SlowSubscriber};
use ringmq_shard::topic::TopicLimits;
use thiserror::Error;

pub use args::Args;
pub use cores::{CoreList, CoreListError};
pub(crate) use cores::{available, ranges};
pub use log::{LogFormat, LogSetting, LogSettingError};

/// All settings of one broker, checked against each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Where clients connect; never empty, no address twice.
    pub listen: Vec<SocketAddr>,
    /// One entry per shard, in order of shards: the core it is pinned to, or `None` for all of them.
    pub shards: Vec<Option<usize>>,
    /// The cores that the shards run on, pinned or not; ascending.
    pub cores: Vec<usize>,
    /// Most connections open at once. Never 0.
    pub connections_max: usize,
    /// What clients can grow, and how far.
    pub limits: Limits,
    /// A connection whose output made no progress for this long is closed.
    pub write_timeout: Duration,
    /// Between two updates of `$SYS`; `None`: never.
    pub sys_interval: Option<Duration>,
    /// Which shard a client and a retained topic live on; `None`: random at each start.
    pub placement_seed: Option<u64>,
    /// How long an idle pinned shard polls before it sleeps.
    pub spin: Duration,
    /// How long connections have to take what waits for them when the broker stops.
    pub shutdown_timeout: Duration,
    /// How log lines look, and which are written.
    pub log: LogSetting,
}

/// Settings that cannot hold together; the process ends with exit code 2.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ConfigError {
    /// A listener that other hosts reach, and no authentication.
    #[error(
        "--listen {0} is reachable from other hosts and there is no authentication: add --allow-anonymous to let \
         every client in, or listen on 127.0.0.1 or [::1]"
    )]
    AnonymousNotAllowed(SocketAddr),
    /// One address twice.
    #[error("--listen {0} is given twice")]
    ListenTwice(SocketAddr),
    /// A setting outside of its range.
    #[error("{flag} must be {least} to {most}, not {got}")]
    OutOfRange {
        /// Which flag.
        flag: &'static str,
        /// Smallest value accepted.
        least: u64,
        /// Largest value accepted.
        most: u64,
        /// The value given.
        got: u64,
    },
    /// A core that is absent or not granted.
    #[error("--cores names core {core}, but the process may use only {available}")]
    CoreNotAvailable {
        /// Which.
        core: usize,
        /// Those that it may use.
        available: String,
    },
    /// The first packet may not be larger than any packet.
    #[error("--max-connect-size {connect} is more than --max-packet-size {packet}")]
    ConnectLargerThanPacket {
        /// As given.
        connect: usize,
        /// As given.
        packet: usize,
    },
}

impl Config {
    /// Reads the command line and the environment. Ends the process for `--help` and `--version` (exit code 0) and
    /// for what cannot be read or cannot hold together (exit code 2).
    #[must_use]
    pub fn load() -> Config {
        Config::from_args(&Args::parse(), &available()).unwrap_or_else(|error| {
            eprintln!("ringmq: {error}");
            std::process::exit(EXIT_USAGE);
        })
    }

    /// Judges the flags together. `available` are the cores that the process may use, ascending and not empty.
    ///
    /// # Errors
    /// [`ConfigError`]: what cannot hold together, and what to write instead.
    pub fn from_args(args: &Args, available: &[usize]) -> Result<Config, ConfigError> {
        let cores = cores_for(args, available)?;
        Ok(Config {
            listen: listeners(args)?,
            shards: shards(args, &cores)?,
            cores,
            connections_max: in_range("--max-connections", args.max_connections, 1, u32::MAX as usize)?,
            limits: limits(args)?,
            write_timeout: seconds("--write-timeout", args.write_timeout, 1)?,
            sys_interval: Some(seconds("--sys-interval", args.sys_interval, 0)?).filter(|interval| !interval.is_zero()),
            placement_seed: args.placement_seed,
            spin: Duration::from_micros(u64::from(in_range("--spin", args.spin, 0, SPIN_MICROS_MAX)?)),
            shutdown_timeout: seconds("--shutdown-timeout", args.shutdown_timeout, 0)?,
            log: args.log,
        })
    }

    /// Whether each shard has a core of its own.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.shards.iter().all(Option::is_some)
    }
}

fn listeners(args: &Args) -> Result<Vec<SocketAddr>, ConfigError> {
    let default = [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT)];
    let listen = if args.listen.is_empty() {
        &default[..]
    } else {
        &args.listen[..]
    };
    for (n, address) in listen.iter().enumerate() {
        if !address.ip().to_canonical().is_loopback() && !args.allow_anonymous {
            return Err(ConfigError::AnonymousNotAllowed(*address));
        }
        if address.port() != 0 && listen[..n].contains(address) {
            return Err(ConfigError::ListenTwice(*address));
        }
    }
    Ok(listen.to_vec())
}

fn cores_for(args: &Args, available: &[usize]) -> Result<Vec<usize>, ConfigError> {
    let Some(list) = &args.cores else {
        return Ok(available.to_vec());
    };
    match list.as_slice().iter().find(|core| !available.contains(core)) {
        Some(&core) => Err(ConfigError::CoreNotAvailable {
            core,
            available: ranges(available),
        }),
        None => Ok(list.as_slice().to_vec()),
    }
}

/// Pinned one to one while the cores suffice, else not pinned at all: two shards on one core would wait for each
/// other where the scheduler could have found a free one.
fn shards(args: &Args, cores: &[usize]) -> Result<Vec<Option<usize>>, ConfigError> {
    let Some(wanted) = args.shards else {
        return Ok(cores.iter().take(usize::from(SHARDS_MAX)).copied().map(Some).collect());
    };
    let wanted = usize::from(in_range("--shards", wanted, 1, SHARDS_MAX)?);
    let core_of = |shard: usize| (wanted <= cores.len()).then(|| cores[shard]);
    Ok((0..wanted).map(core_of).collect())
}

fn limits(args: &Args) -> Result<Limits, ConfigError> {
    let packet_bytes_max = in_range("--max-packet-size", args.max_packet_size, 128, PACKET_BYTES_MAX)?;
    let connect_bytes_max = match args.max_connect_size {
        None => Limits::default().connect_bytes_max.min(packet_bytes_max),
        Some(connect) if connect > packet_bytes_max => {
            return Err(ConfigError::ConnectLargerThanPacket {
                connect,
                packet: packet_bytes_max,
            });
        }
        Some(connect) => in_range("--max-connect-size", connect, 128, PACKET_BYTES_MAX)?,
    };
    let slow_subscriber = SlowSubscriber::from(args.slow_subscriber);
    let least_backpressure = u64::from(slow_subscriber == SlowSubscriber::Backpressure);
    Ok(Limits {
        packet_bytes_max,
        connect_bytes_max,
        inflight_max: in_range("--max-inflight", args.max_inflight, 1, u16::MAX)?,
        inbound_qos2_max: in_range("--max-inbound-qos2", args.max_inbound_qos2, 1, u16::MAX)?,
        queued_messages_max: args.max_queued_messages,
        queued_bytes_max: args.max_queued_bytes,
        output_bytes_max: in_range("--max-output-bytes", args.max_output_bytes, 1, usize::MAX)?,
        topic: TopicLimits {
            levels_max: in_range("--max-topic-levels", args.max_topic_levels, 1, u16::MAX)?,
            bytes_max: in_range("--max-topic-bytes", args.max_topic_bytes, 1, u16::MAX)?,
        },
        retained_max: args.max_retained,
        retained_bytes_max: args.max_retained_bytes,
        subscriptions_max: args.max_subscriptions,
        sessions_max: args.max_sessions,
        client_id_bytes_max: in_range(
            "--max-client-id-bytes",
            args.max_client_id_bytes,
            1,
            usize::from(u16::MAX),
        )?,
        connect_timeout: seconds("--connect-timeout", args.connect_timeout, 1)?,
        keep_alive_max: seconds("--max-keep-alive", args.max_keep_alive, 0)?,
        backpressure_timeout: seconds("--backpressure-timeout", args.backpressure_timeout, least_backpressure)?,
        session_expiry: Duration::from_secs(u64::from(args.session_expiry)),
        slow_subscriber,
        shared_strategy: args.shared_strategy.into(),
    })
}

fn seconds(flag: &'static str, value: u32, least: u64) -> Result<Duration, ConfigError> {
    in_range(flag, u64::from(value), least, SECONDS_MAX).map(Duration::from_secs)
}

fn in_range<T>(flag: &'static str, got: T, least: T, most: T) -> Result<T, ConfigError>
where
    T: Copy + PartialOrd + TryInto<u64>,
{
    if got >= least && got <= most {
        return Ok(got);
    }
    let wide = |value: T| value.try_into().unwrap_or(u64::MAX);
    Err(ConfigError::OutOfRange {
        flag,
        least: wide(least),
        most: wide(most),
        got: wide(got),
    })
}

/// The port that is registered for MQTT.
const DEFAULT_PORT: u16 = 1883;
/// Four bytes of Remaining Length, 268 435 455, behind a fixed header of five (section 2.2.3).
const PACKET_BYTES_MAX: usize = 268_435_455 + 5;
/// More cores than any host of today; each shard costs three rings.
const SHARDS_MAX: u16 = 1_024;
/// A day: a timer that is longer is a mistake in the unit.
const SECONDS_MAX: u64 = 24 * 60 * 60;
/// A second of polling: longer than this is no sleep at all.
const SPIN_MICROS_MAX: u32 = 1_000_000;
/// What clap uses for a command line that it cannot read.
const EXIT_USAGE: i32 = 2;
