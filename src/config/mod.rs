//! What the operator wants: command line, environment and configuration file in, one validated [`Config`] out.
//!
//! Start with [`Args`], the table of settings; `file` reads the configuration file, `layers` says which value is in force,
//! and [`Config::from_args`] is the only place that judges them together. Nothing farther in checks again. Every setting is
//! explained in `docs/configuration.md`.

mod address;
mod args;
mod auth_http;
mod command;
mod cores;
mod file;
#[doc(hidden)]
pub mod fuzz;
mod jwt;
mod layers;
mod log;
mod manual;
mod memory;
mod nearest;
mod print;
mod proxy;
mod rates;
mod reload;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod websocket;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringmq_shard::limits::{Limits, SlowSubscriber};
use ringmq_shard::shard::Admission;
use ringmq_shard::topic::TopicLimits;
use thiserror::Error;

use crate::auth::{self, Pool, SecretError, Secrets};
use crate::client::{PubArgs, SubArgs};
use crate::operator::TraceArgs;
use command::{Task, Typed};
use file::File;
use layers::{Layer, Source, layers};

pub use address::{ListenAddress, ListenAddressError};
pub use args::{Args, ListenerArgs};
pub use auth_http::{AuthHttpConfig, AuthHttpUrl, AuthHttpUrlError};
pub use cores::{CoreList, CoreListError};
pub(crate) use cores::{available, ranges};
pub use file::FileError;
pub use jwt::{JwtAlgorithm, JwtConfig};
pub use log::{LogFormat, LogModule, LogSetting, LogSettingError};
pub(crate) use memory::usable_bytes;
pub use proxy::{Network, NetworkError, ProxyConfig};
pub use rates::ConnectionRates;
pub use reload::{Given, Reloaded};
pub use tcp::TcpOptions;
pub use tls::{ClientCertificates, TlsConfig, TlsUserName, TlsVersion};
pub use websocket::WebSocketConfig;

/// All settings of one broker, checked against each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Where clients connect; never empty, no address twice.
    pub listeners: Vec<ListenerConfig>,
    /// Users and passwords; `None`: names are not verified.
    pub password_file: Option<PathBuf>,
    /// `None`: passwords are no tokens.
    pub jwt: Option<JwtConfig>,
    /// The service that knows everybody else; `None`: there is none.
    pub auth_http: Option<AuthHttpConfig>,
    /// Who verifies them.
    pub auth_pool: Pool,
    /// What clients may publish and read; `None`: everything.
    pub acl_file: Option<PathBuf>,
    /// Where operators ask; `None`: nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// The token that they need. Never `None` where other hosts reach the address.
    pub admin_token_file: Option<PathBuf>,
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

/// What a command line asks for, as far as it takes more than its settings.
#[derive(Debug)]
pub enum Order {
    /// Start the broker.
    Serve(Box<Config>, Secrets, Given),
    /// Look at the host.
    Doctor {
        /// What the broker would be started with.
        config: Box<Config>,
        /// For programs rather than people.
        json: bool,
    },
    /// Have the broker that runs with these settings read them again.
    Reload(Box<Config>),
    /// Have the broker that runs with these settings tell what a client does.
    Trace(Box<Config>, TraceArgs),
    /// Publish messages.
    Publish(Box<PubArgs>),
    /// Print messages.
    Subscribe(Box<SubArgs>),
}

/// One address that clients connect to, and who may.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerConfig {
    /// Where.
    pub address: ListenAddress,
    /// Who comes in there, as far as no certificate says it.
    pub admission: Admission,
    /// `None`: plain TCP.
    pub tls: Option<TlsConfig>,
    /// `None`: MQTT from the first byte on.
    pub websocket: Option<Arc<WebSocketConfig>>,
    /// `None`: clients connect themselves.
    pub proxy: Option<Arc<ProxyConfig>>,
    /// What TCP does for its clients.
    pub tcp: TcpOptions,
    /// How fast clients may come.
    pub rates: ConnectionRates,
}

/// Settings that cannot hold together; the process ends with exit code 2.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ConfigError {
    /// A listener that other hosts reach, and no authentication.
    #[error(
        "--listen {0} is reachable from other hosts and there is no authentication: add --password-file, or \
         --allow-anonymous to let every client in, or ask for certificates with --tls-client-certificates required, or \
         listen on 127.0.0.1 or [::1]"
    )]
    AnonymousNotAllowed(ListenAddress),
    /// An admin listener that other hosts reach, and no token.
    #[error(
        "--admin-listen {0} is reachable from other hosts: add --admin-token-file, or listen on 127.0.0.1 or [::1]"
    )]
    AdminNotProtected(SocketAddr),
    /// One address twice.
    #[error("--listen {0} is given twice")]
    ListenTwice(ListenAddress),
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
    /// A setting that means nothing without another.
    #[error("{flag} needs {other}")]
    NeedsOther {
        /// Which flag.
        flag: &'static str,
        /// Which other.
        other: &'static str,
    },
    /// Authorities, and nobody who shows a certificate.
    #[error(
        "--auth-http-ca needs a URL with https:// in --auth-http-url: without TLS the service shows no certificate"
    )]
    AuthorityWithoutTls,
    /// Certificates and keys that do not go in pairs.
    #[error("there are {certificates} of --tls-certificate and {keys} of --tls-key: each certificate has one key")]
    KeysForCertificates {
        /// How many.
        certificates: usize,
        /// How many.
        keys: usize,
    },
    /// A path that no request can have.
    #[error("--websocket-path {0} is no path of a request: write / and visible characters, without ? and #")]
    WebSocketPath(String),
    /// The first packet may not be larger than any packet.
    #[error("--max-connect-size {connect} is more than --max-packet-size {packet}")]
    ConnectLargerThanPacket {
        /// As given.
        connect: usize,
        /// As given.
        packet: usize,
    },
}

/// Why there is no configuration. Each says where, in one line.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The command line, or a variable of the environment.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The configuration file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Settings that cannot hold together.
    #[error(transparent)]
    Contradiction(Box<Contradiction>),
    /// A file that the settings name.
    #[error(transparent)]
    Secrets(#[from] SecretError),
}

/// Settings that cannot hold together, with the places of those that no flag gave.
#[derive(Debug, Error)]
#[error("{}{error}{}", before.as_ref().map(|place| format!("{place}: ")).unwrap_or_default(),
        after.as_ref().map(|(flag, place)| format!(" ({flag}: {place})")).unwrap_or_default())]
pub struct Contradiction {
    error: ConfigError,
    /// Of the setting that is judged.
    before: Option<Source>,
    /// Of the one that it contradicts.
    after: Option<(&'static str, Source)>,
}

impl LoadError {
    fn new(error: ConfigError, layer: &Layer) -> LoadError {
        let place = |flag: &str| match layer.source(&flag.trim_start_matches('-').replace('-', "_")) {
            Source::Flag | Source::Default => None,
            source => Some(source.clone()),
        };
        let (flag, other) = error.flags();
        LoadError::Contradiction(Box::new(Contradiction {
            before: place(flag),
            after: other.and_then(|other| Some((other, place(other)?))),
            error,
        }))
    }
}

impl Config {
    /// Reads command line, environment, configuration file, and the files that it names. Ends the process for `--help`, `--version`
    /// and the commands that settings alone answer (exit code 0), and for what cannot be read or cannot hold together (exit code 2).
    #[must_use]
    pub fn load() -> Order {
        let typed = Typed::read(std::env::args_os().collect()).unwrap_or_else(|error| error.exit());
        let answer = match &typed.task {
            Task::Publish(args) => return Order::Publish(args.clone()),
            Task::Subscribe(args) => return Order::Subscribe(args.clone()),
            Task::Serve | Task::Check => match Config::with_secrets(&typed) {
                Ok((config, secrets, given)) if typed.task == Task::Serve => {
                    return Order::Serve(Box::new(config), secrets, given);
                }
                Ok((_, secrets, _)) => format!("the configuration is good\n{}", secrets.notes()),
                Err(error) => refuse(&error),
            },
            Task::Doctor { json } => {
                let (config, ..) = Config::layered(&typed, &available()).unwrap_or_else(|error| refuse(&error));
                return Order::Doctor {
                    config: Box::new(config),
                    json: *json,
                };
            }
            Task::Reload => {
                let (config, ..) = Config::layered(&typed, &available()).unwrap_or_else(|error| {
                    eprintln!("ringmq: not reloaded: {error}");
                    std::process::exit(1);
                });
                return Order::Reload(Box::new(config));
            }
            Task::Trace(args) => {
                let (config, ..) = Config::layered(&typed, &available()).unwrap_or_else(|error| refuse(&error));
                return Order::Trace(Box::new(config), args.clone());
            }
            Task::Print => {
                let (_, broker, listeners) =
                    Config::layered(&typed, &available()).unwrap_or_else(|error| refuse(&error));
                print::print(&broker, &listeners)
            }
            Task::Passwd(args) => auth::passwd(args).unwrap_or_else(|error| refuse(&error)),
            Task::Man(args) => args.write(command::command()).unwrap_or_else(|error| refuse(&error)),
            Task::Completions(args) => args.script(command::command()),
        };
        crate::startup::say(&answer);
        std::process::exit(0);
    }

    fn with_secrets(typed: &Typed) -> Result<(Config, Secrets, Given), LoadError> {
        let available = available();
        let (config, broker, listeners) = Config::layered(typed, &available)?;
        let secrets = Secrets::load(&config)?;
        Ok((config, secrets, Given::new(&broker, &listeners, &available)))
    }

    fn layered(typed: &Typed, available: &[usize]) -> Result<(Config, Layer, Vec<Layer>), LoadError> {
        let file = match typed.matches.get_one::<std::path::PathBuf>("config") {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        Config::in_force(&typed.line, &file, available)
    }

    /// Judges a command line and a file that are readable, with the layers that the result is from.
    fn in_force(line: &[OsString], file: &File, available: &[usize]) -> Result<(Config, Layer, Vec<Layer>), LoadError> {
        let (broker, layers) = layers(line, file);
        let mut listeners = Vec::new();
        for layer in layers.iter().chain(layers.is_empty().then_some(&broker)) {
            add_listeners(&mut listeners, &layer.args).map_err(|error| LoadError::new(error, layer))?;
        }
        let config = Config::with_listeners(&broker.args, listeners, available)
            .map_err(|error| LoadError::new(error, &broker))?;
        Ok((config, broker, layers))
    }

    /// Judges the settings together. `available` are the cores that the process may use, ascending and not empty.
    ///
    /// # Errors
    /// [`ConfigError`]: what cannot hold together, and what to write instead.
    pub fn from_args(args: &Args, available: &[usize]) -> Result<Config, ConfigError> {
        let mut listeners = Vec::new();
        add_listeners(&mut listeners, args)?;
        Config::with_listeners(args, listeners, available)
    }

    fn with_listeners(args: &Args, listeners: Vec<ListenerConfig>, available: &[usize]) -> Result<Config, ConfigError> {
        let cores = cores_for(args, available)?;
        if let Some(address) = args.admin_listen
            && !address.ip().to_canonical().is_loopback()
            && args.admin_token_file.is_none()
        {
            return Err(ConfigError::AdminNotProtected(address));
        }
        Ok(Config {
            listeners,
            password_file: args.password_file.clone(),
            jwt: JwtConfig::from_args(args)?,
            auth_http: AuthHttpConfig::from_args(args)?,
            acl_file: args.acl_file.clone(),
            auth_pool: Pool {
                threads: in_range("--auth-threads", args.auth_threads, 1, AUTH_THREADS_MAX)?,
                waiting_max: in_range("--max-auth-waiting", args.max_auth_waiting, 1, AUTH_WAITING_MAX)?,
            },
            admin_listen: args.admin_listen,
            admin_token_file: args.admin_token_file.clone(),
            shards: shards(args, &cores)?,
            cores,
            connections_max: in_range("--max-connections", args.max_connections, 1, u32::MAX as usize)?,
            limits: limits(args)?,
            write_timeout: seconds("--write-timeout", args.write_timeout, 1)?,
            sys_interval: Some(seconds("--sys-interval", args.sys_interval, 0)?).filter(|interval| !interval.is_zero()),
            placement_seed: args.placement_seed,
            spin: Duration::from_micros(u64::from(in_range("--spin", args.spin, 0, SPIN_MICROS_MAX)?)),
            shutdown_timeout: seconds("--shutdown-timeout", args.shutdown_timeout, 0)?,
            log: args.log.clone(),
        })
    }

    /// Whether each shard has a core of its own.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.shards.iter().all(Option::is_some)
    }
}

/// Adds the listeners of one layer: all of flags and environment, or that of one `[[listener]]`.
fn add_listeners(listeners: &mut Vec<ListenerConfig>, args: &Args) -> Result<(), ConfigError> {
    let default = [ListenAddress::Tcp(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        DEFAULT_PORT,
    )))];
    let listen = if args.listen.is_empty() {
        &default[..]
    } else {
        &args.listen[..]
    };
    let anonymous = args.listener.allow_anonymous;
    let tls = TlsConfig::from_args(&args.listener)?;
    let websocket = WebSocketConfig::from_args(&args.listener)?.map(Arc::new);
    let proxy = ProxyConfig::from_args(&args.listener, listen)?.map(Arc::new);
    let rates = ConnectionRates::from_args(&args.listener)?;
    let tcp = TcpOptions::from_args(&args.listener)?;
    let (known, named) = (
        tls.as_ref().is_some_and(TlsConfig::knows_everyone),
        tls.as_ref().is_some_and(TlsConfig::names_everyone),
    );
    let verifies = args.password_file.is_some() || args.jwt_key_file.is_some() || args.auth_http_url.is_some();
    let admission = match verifies {
        // Nobody comes in by it: each has a name from its certificate already.
        _ if named => Admission::Verify { anonymous: false },
        true => Admission::Verify { anonymous },
        false => Admission::Open,
    };
    for address in listen {
        // Whoever reaches the proxy comes in where only the proxy does.
        let local = address.is_local() && proxy.is_none();
        if admission == Admission::Open && !known && !local && !anonymous {
            return Err(ConfigError::AnonymousNotAllowed(address.clone()));
        }
        if address.is_exclusive() && listeners.iter().any(|listener| listener.address == *address) {
            return Err(ConfigError::ListenTwice(address.clone()));
        }
        listeners.push(ListenerConfig {
            address: address.clone(),
            admission: admission.clone(),
            tls: tls.clone(),
            websocket: websocket.clone(),
            proxy: proxy.clone(),
            tcp,
            rates,
        });
    }
    Ok(())
}

fn refuse(error: &dyn std::error::Error) -> ! {
    eprintln!("ringmq: {error}");
    std::process::exit(EXIT_USAGE);
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
        memory_bytes_max: match args.max_memory {
            Some(bytes) => in_range("--max-memory", bytes, MEMORY_BYTES_MIN, usize::MAX)?,
            None => memory::share_of_host().max(MEMORY_BYTES_MIN),
        },
        topic: TopicLimits {
            levels_max: in_range("--max-topic-levels", args.max_topic_levels, 1, u16::MAX)?,
            bytes_max: in_range("--max-topic-bytes", args.max_topic_bytes, 1, u16::MAX)?,
        },
        retained_max: args.max_retained,
        retained_bytes_max: args.max_retained_bytes,
        subscriptions_max: args.max_subscriptions,
        sessions_max: args.max_sessions,
        connections_per_user_max: args.max_connections_per_user,
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
        publish_rate_max: args.max_publish_rate,
        publish_bytes_rate_max: args.max_publish_bytes_rate,
        publish_rate_patience: seconds("--publish-rate-timeout", args.publish_rate_timeout, 0)?,
        slow_subscriber,
        shared_strategy: args.shared_strategy.into(),
        denied_publish: args.acl_denied_publish.into(),
    })
}

fn seconds(flag: &'static str, value: u32, least: u64) -> Result<Duration, ConfigError> {
    in_range(flag, u64::from(value), least, SECONDS_MAX).map(Duration::from_secs)
}

impl ConfigError {
    /// The flag of the setting that is judged, and of the one that it contradicts.
    fn flags(&self) -> (&'static str, Option<&'static str>) {
        match self {
            ConfigError::AnonymousNotAllowed(_) | ConfigError::ListenTwice(_) => ("--listen", None),
            ConfigError::AdminNotProtected(_) => ("--admin-listen", Some("--admin-token-file")),
            ConfigError::OutOfRange { flag, .. } => (flag, None),
            ConfigError::CoreNotAvailable { .. } => ("--cores", None),
            ConfigError::NeedsOther { flag, other } => (flag, Some(other)),
            ConfigError::AuthorityWithoutTls => ("--auth-http-ca", Some("--auth-http-url")),
            ConfigError::KeysForCertificates { .. } => ("--tls-certificate", Some("--tls-key")),
            ConfigError::WebSocketPath(_) => ("--websocket-path", None),
            ConfigError::ConnectLargerThanPacket { .. } => ("--max-connect-size", Some("--max-packet-size")),
        }
    }
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
/// What a handful of clients with small messages needs; below this the broker would do little but shed.
const MEMORY_BYTES_MIN: usize = 4 * 1024 * 1024;
/// More cores than any host of today; each shard costs three rings.
const SHARDS_MAX: u16 = 1_024;
/// A day: a timer that is longer is a mistake in the unit.
const SECONDS_MAX: u64 = 24 * 60 * 60;
/// More than cores that are left over.
const AUTH_THREADS_MAX: u16 = 64;
/// Some hundred MiB, if every CONNECT is as large as it may be by default.
const AUTH_WAITING_MAX: usize = 1_000_000;
/// A second of polling: longer than this is no sleep at all.
const SPIN_MICROS_MAX: u32 = 1_000_000;
/// What clap uses for a command line that it cannot read.
const EXIT_USAGE: i32 = 2;
