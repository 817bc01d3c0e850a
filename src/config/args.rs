//! The table of settings: for each its flag, environment variable, default and one line of help.
//!
//! The key of a setting in the configuration file is the name of its field here, which is its flag with `_` for `-`; so a
//! setting is added in this file, judged in [`Config::from_args`](super::Config::from_args), and explained in
//! `docs/configuration.md`. Nothing is checked here that needs more than the one value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, ValueEnum};
use ringmq_shard::limits;

use super::address::ListenAddress;
use super::auth_http::AuthHttpUrl;
use super::cores::CoreList;
use super::jwt::JwtAlgorithm;
use super::log::LogSetting;
use super::proxy::Network;
use super::tls::{ClientCertificates, TlsUserName, TlsVersion};

/// An MQTT 3.1.1 broker: one io_uring executor per core.
#[derive(Clone, Debug, Parser)]
#[command(name = "ringmq", version = crate::VERSION, about, max_term_width = 110)]
pub struct Args {
    /// Configuration file; flags and environment variables go before what it says
    #[arg(long, env = "RINGMQ_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Address and port, or unix:/PATH, to listen on; may be given more than once [default: 127.0.0.1:1883]
    #[arg(long, env = "RINGMQ_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    pub listen: Vec<ListenAddress>,

    /// Those that a `[[listener]]` of the file may set for itself.
    #[command(flatten)]
    pub listener: ListenerArgs,

    /// Users and their hashed passwords, as mosquitto_passwd and `ringmq passwd` write them [default: none]
    #[arg(long, env = "RINGMQ_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Secret, or public key in PEM, that the tokens are verified with which clients give as passwords [default: none]
    #[arg(long, env = "RINGMQ_JWT_KEY_FILE", value_name = "FILE")]
    pub jwt_key_file: Option<PathBuf>,

    /// How tokens are signed: HS256, RS256, ES256; no other is taken [default: none]
    #[arg(long, env = "RINGMQ_JWT_ALGORITHM", value_name = "ALGORITHM")]
    pub jwt_algorithm: Option<JwtAlgorithm>,

    /// Claim of a token that is the user name
    #[arg(long, env = "RINGMQ_JWT_USER_CLAIM", value_name = "CLAIM", default_value = "sub")]
    pub jwt_user_claim: String,

    /// Issuer that tokens must name [default: none]
    #[arg(long, env = "RINGMQ_JWT_ISSUER", value_name = "TEXT")]
    pub jwt_issuer: Option<String>,

    /// Audience that tokens must name [default: none, and they must name none]
    #[arg(long, env = "RINGMQ_JWT_AUDIENCE", value_name = "TEXT")]
    pub jwt_audience: Option<String>,

    /// Service that is asked, over HTTP, about clients that neither passwords nor tokens judge [default: none]
    #[arg(long, env = "RINGMQ_AUTH_HTTP_URL", value_name = "URL")]
    pub auth_http_url: Option<AuthHttpUrl>,

    /// Seconds that it has for an answer, the connection included
    #[arg(long, env = "RINGMQ_AUTH_HTTP_TIMEOUT", value_name = "S", default_value_t = 5)]
    pub auth_http_timeout: u32,

    /// File with the token that it is shown [default: none]
    #[arg(long, env = "RINGMQ_AUTH_HTTP_TOKEN_FILE", value_name = "FILE")]
    pub auth_http_token_file: Option<PathBuf>,

    /// Authorities, in PEM, that its certificate may be from [default: the system's]
    #[arg(long, env = "RINGMQ_AUTH_HTTP_CA", value_name = "FILE")]
    pub auth_http_ca: Option<PathBuf>,

    /// Threads that ask it: so many questions are open at once
    #[arg(long, env = "RINGMQ_AUTH_HTTP_THREADS", value_name = "N", default_value_t = 8)]
    pub auth_http_threads: u16,

    /// Seconds that it is not asked again about a client that it let in; 0 asks each time
    #[arg(long, env = "RINGMQ_AUTH_HTTP_CACHE", value_name = "S", default_value_t = 0)]
    pub auth_http_cache: u32,

    /// Threads that verify passwords
    #[arg(long, env = "RINGMQ_AUTH_THREADS", value_name = "N", default_value_t = 1)]
    pub auth_threads: u16,

    /// Most clients that wait to be verified; beyond it a CONNECT is refused with 0x03
    #[arg(long, env = "RINGMQ_MAX_AUTH_WAITING", value_name = "N", default_value_t = 1_000)]
    pub max_auth_waiting: usize,

    /// What clients may publish and read, as in Mosquitto's acl_file [default: everything]
    #[arg(long, env = "RINGMQ_ACL_FILE", value_name = "FILE")]
    pub acl_file: Option<PathBuf>,

    /// What happens to a message that --acl-file does not let its client publish
    #[arg(
        long,
        env = "RINGMQ_ACL_DENIED_PUBLISH",
        value_name = "POLICY",
        default_value = "drop"
    )]
    pub acl_denied_publish: DeniedPublish,

    /// Address and port for metrics, health, status page and API over HTTP [default: none]
    #[arg(long, env = "RINGMQ_ADMIN_LISTEN", value_name = "ADDR:PORT")]
    pub admin_listen: Option<SocketAddr>,

    /// File with the token that metrics and API ask for [default: none]
    #[arg(long, env = "RINGMQ_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Shards, each with its own executor and thread [default: one per core that the process may use]
    #[arg(long, env = "RINGMQ_SHARDS", value_name = "N")]
    pub shards: Option<u16>,

    /// Cores for the shards, such as 0-3,6 [default: all that the process may use]
    #[arg(long, env = "RINGMQ_CORES", value_name = "LIST")]
    pub cores: Option<CoreList>,

    /// Most connections open at once; beyond it a socket is accepted and closed
    #[arg(long, env = "RINGMQ_MAX_CONNECTIONS", value_name = "N", default_value_t = 100_000)]
    pub max_connections: usize,

    /// Most clients that one verified user has connected at once, in the whole broker; 0 is no limit
    #[arg(long, env = "RINGMQ_MAX_CONNECTIONS_PER_USER", value_name = "N", default_value_t = defaults().connections_per_user_max)]
    pub max_connections_per_user: usize,

    /// Largest packet accepted, in bytes, with its fixed header
    #[arg(long, env = "RINGMQ_MAX_PACKET_SIZE", value_name = "BYTES", default_value_t = defaults().packet_bytes_max)]
    pub max_packet_size: usize,

    /// Largest CONNECT accepted, in bytes [default: 262144, or --max-packet-size if that is less]
    #[arg(long, env = "RINGMQ_MAX_CONNECT_SIZE", value_name = "BYTES")]
    pub max_connect_size: Option<usize>,

    /// Most messages with QoS 1 or 2 sent to one client and not yet acknowledged
    #[arg(long, env = "RINGMQ_MAX_INFLIGHT", value_name = "N", default_value_t = defaults().inflight_max)]
    pub max_inflight: u16,

    /// Most QoS 2 messages of one publisher between PUBLISH and PUBREL
    #[arg(long, env = "RINGMQ_MAX_INBOUND_QOS2", value_name = "N", default_value_t = defaults().inbound_qos2_max)]
    pub max_inbound_qos2: u16,

    /// Most messages waiting for one session
    #[arg(long, env = "RINGMQ_MAX_QUEUED_MESSAGES", value_name = "N", default_value_t = defaults().queued_messages_max)]
    pub max_queued_messages: usize,

    /// Most bytes waiting for one session
    #[arg(long, env = "RINGMQ_MAX_QUEUED_BYTES", value_name = "BYTES", default_value_t = defaults().queued_bytes_max)]
    pub max_queued_bytes: usize,

    /// Bytes waiting for one socket over which QoS 0 is dropped and QoS 1 and 2 wait in the session
    #[arg(long, env = "RINGMQ_MAX_OUTPUT_BYTES", value_name = "BYTES", default_value_t = defaults().output_bytes_max)]
    pub max_output_bytes: usize,

    /// Most bytes that queues and outputs of all shards hold together [default: half of the host's or cgroup's memory]
    #[arg(long, env = "RINGMQ_MAX_MEMORY", value_name = "BYTES")]
    pub max_memory: Option<usize>,

    /// Most levels in a Topic Name or Topic Filter
    #[arg(long, env = "RINGMQ_MAX_TOPIC_LEVELS", value_name = "N", default_value_t = defaults().topic.levels_max)]
    pub max_topic_levels: u16,

    /// Longest Topic Name or Topic Filter, in bytes
    #[arg(long, env = "RINGMQ_MAX_TOPIC_BYTES", value_name = "BYTES", default_value_t = defaults().topic.bytes_max)]
    pub max_topic_bytes: u16,

    /// Most retained messages
    #[arg(long, env = "RINGMQ_MAX_RETAINED", value_name = "N", default_value_t = defaults().retained_max)]
    pub max_retained: usize,

    /// Most bytes of retained messages, topics and payloads
    #[arg(long, env = "RINGMQ_MAX_RETAINED_BYTES", value_name = "BYTES", default_value_t = defaults().retained_bytes_max)]
    pub max_retained_bytes: usize,

    /// Most Topic Filters of one session
    #[arg(long, env = "RINGMQ_MAX_SUBSCRIPTIONS", value_name = "N", default_value_t = defaults().subscriptions_max)]
    pub max_subscriptions: usize,

    /// Most sessions per shard, connected or not
    #[arg(long, env = "RINGMQ_MAX_SESSIONS", value_name = "N", default_value_t = defaults().sessions_max)]
    pub max_sessions: usize,

    /// Longest Client Identifier accepted, in bytes
    #[arg(long, env = "RINGMQ_MAX_CLIENT_ID_BYTES", value_name = "BYTES", default_value_t = defaults().client_id_bytes_max)]
    pub max_client_id_bytes: usize,

    /// Seconds from the accepted socket to a complete CONNECT
    #[arg(long, env = "RINGMQ_CONNECT_TIMEOUT", value_name = "S", default_value_t = seconds(defaults().connect_timeout))]
    pub connect_timeout: u32,

    /// Longest Keep Alive granted, in seconds; 0 grants what the client asks for
    #[arg(long, env = "RINGMQ_MAX_KEEP_ALIVE", value_name = "S", default_value_t = seconds(defaults().keep_alive_max))]
    pub max_keep_alive: u32,

    /// Seconds without progress after which a connection that does not read is closed
    #[arg(long, env = "RINGMQ_WRITE_TIMEOUT", value_name = "S", default_value_t = 30)]
    pub write_timeout: u32,

    /// What happens to a message whose subscriber's queue is full
    #[arg(
        long,
        env = "RINGMQ_SLOW_SUBSCRIBER",
        value_name = "POLICY",
        default_value = "drop-newest"
    )]
    pub slow_subscriber: SlowSubscriber,

    /// With --slow-subscriber backpressure: seconds that publishers wait for one subscriber
    #[arg(long, env = "RINGMQ_BACKPRESSURE_TIMEOUT", value_name = "S",
          default_value_t = seconds(defaults().backpressure_timeout))]
    pub backpressure_timeout: u32,

    /// Most messages that one client publishes per second; what comes faster waits; 0 is no limit
    #[arg(long, env = "RINGMQ_MAX_PUBLISH_RATE", value_name = "N", default_value_t = defaults().publish_rate_max)]
    pub max_publish_rate: u32,

    /// Most bytes of messages that one client publishes per second; what comes faster waits; 0 is no limit
    #[arg(long, env = "RINGMQ_MAX_PUBLISH_BYTES_RATE", value_name = "BYTES", default_value_t = defaults().publish_bytes_rate_max)]
    pub max_publish_bytes_rate: u64,

    /// Seconds after which a client that is slowed by those without a pause is closed; 0 is never
    #[arg(long, env = "RINGMQ_PUBLISH_RATE_TIMEOUT", value_name = "S", default_value_t = seconds(defaults().publish_rate_patience))]
    pub publish_rate_timeout: u32,

    /// How the member of a shared group is chosen
    #[arg(
        long,
        env = "RINGMQ_SHARED_STRATEGY",
        value_name = "STRATEGY",
        default_value = "round-robin"
    )]
    pub shared_strategy: SharedStrategy,

    /// Seconds that a session with Clean Session 0 outlives its connection; 0 is for ever
    #[arg(long, env = "RINGMQ_SESSION_EXPIRY", value_name = "S", default_value_t = seconds(defaults().session_expiry))]
    pub session_expiry: u32,

    /// Seconds between updates of the $SYS topics; 0 turns them off
    #[arg(long, env = "RINGMQ_SYS_INTERVAL", value_name = "S", default_value_t = 10)]
    pub sys_interval: u32,

    /// Fixes which shard a client and a retained topic live on [default: random at each start]
    #[arg(long, env = "RINGMQ_PLACEMENT_SEED", value_name = "N")]
    pub placement_seed: Option<u64>,

    /// Microseconds that an idle pinned shard polls before it sleeps
    #[arg(long, env = "RINGMQ_SPIN", value_name = "MICROS", default_value_t = 0)]
    pub spin: u32,

    /// Seconds to flush and close connections in after SIGTERM or SIGINT
    #[arg(long, env = "RINGMQ_SHUTDOWN_TIMEOUT", value_name = "S", default_value_t = 10)]
    pub shutdown_timeout: u32,

    /// Log format (text, json) and level (off, error, warn, info, debug, trace), and levels of modules: text/info,listener=debug; to standard error
    #[arg(long, env = "RINGMQ_LOG", value_name = "FORMAT/LEVEL,…", default_value = "text/info")]
    pub log: LogSetting,
}

/// Settings of one listener. As a flag, a variable or a key outside of `[[listener]]` they hold for all.
#[derive(clap::Args, Clone, Debug)]
pub struct ListenerArgs {
    /// Let clients in that give no user name; without a password file, also on addresses that other hosts reach
    #[arg(long, env = "RINGMQ_ALLOW_ANONYMOUS", value_name = "BOOL", default_value = "false", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub allow_anonymous: bool,

    /// Certificate chain in PEM, the server's own first: clients speak TLS. One per server name [default: none, no TLS]
    #[arg(long, env = "RINGMQ_TLS_CERTIFICATE", value_name = "FILE", value_delimiter = ',')]
    pub tls_certificate: Vec<PathBuf>,

    /// Private key in PEM of each --tls-certificate, in the same order [default: none]
    #[arg(long, env = "RINGMQ_TLS_KEY", value_name = "FILE", value_delimiter = ',')]
    pub tls_key: Vec<PathBuf>,

    /// Authorities in PEM whose certificates clients may show [default: none]
    #[arg(long, env = "RINGMQ_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Whether clients show a certificate: none, optional, required
    #[arg(
        long,
        env = "RINGMQ_TLS_CLIENT_CERTIFICATES",
        value_name = "WHICH",
        default_value = "none"
    )]
    pub tls_client_certificates: ClientCertificates,

    /// What in a client's certificate is its user name: none, cn, san
    #[arg(long, env = "RINGMQ_TLS_USER_NAME", value_name = "FIELD", default_value = "none")]
    pub tls_user_name: TlsUserName,

    /// Oldest version of TLS that clients may use: 1.2 or 1.3
    #[arg(long, env = "RINGMQ_TLS_MIN_VERSION", value_name = "VERSION", default_value = "1.2")]
    pub tls_min_version: TlsVersion,

    /// Clients speak MQTT over WebSocket, as browsers do
    #[arg(long, env = "RINGMQ_WEBSOCKET", value_name = "BOOL", default_value = "false", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub websocket: bool,

    /// Path of the WebSocket that clients ask for
    #[arg(long, env = "RINGMQ_WEBSOCKET_PATH", value_name = "PATH", default_value = "/mqtt")]
    pub websocket_path: String,

    /// Origin of the pages that may connect, as browsers send it; may be given more than once [default: all]
    #[arg(long, env = "RINGMQ_WEBSOCKET_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub websocket_origin: Vec<String>,

    /// Connections come through proxies that say with the PROXY protocol (v1 or v2) who the client is; others are closed
    #[arg(long, env = "RINGMQ_PROXY_PROTOCOL", value_name = "BOOL", default_value = "false", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub proxy_protocol: bool,

    /// Address, or network such as 10.0.0.0/8, of the proxies; may be given more than once [default: none]
    #[arg(long, env = "RINGMQ_PROXY_TRUSTED", value_name = "NETWORK", value_delimiter = ',')]
    pub proxy_trusted: Vec<Network>,

    /// Small packets leave at once (TCP_NODELAY), rather than when the client has acknowledged those before them
    #[arg(long, env = "RINGMQ_TCP_NODELAY", value_name = "BOOL", default_value = "true", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub tcp_nodelay: bool,

    /// Seconds of silence after which TCP asks whether a client is there (keep-alive); 0 never asks
    #[arg(long, env = "RINGMQ_TCP_KEEP_ALIVE", value_name = "S", default_value_t = 600)]
    pub tcp_keep_alive: u32,

    /// Most connections accepted per second, others wait in the kernel's queue; 0 is no limit
    #[arg(long, env = "RINGMQ_MAX_CONNECTION_RATE", value_name = "N", default_value_t = 0)]
    pub max_connection_rate: u32,

    /// Most connections per second from one address (IPv6: one /64), others are closed; 0 is no limit
    #[arg(
        long,
        env = "RINGMQ_MAX_CONNECTION_RATE_PER_ADDRESS",
        value_name = "N",
        default_value_t = 0
    )]
    pub max_connection_rate_per_address: u32,

    /// With --max-connection-rate-per-address: most connections at once from an address that has been quiet
    #[arg(
        long,
        env = "RINGMQ_CONNECTION_BURST_PER_ADDRESS",
        value_name = "N",
        default_value_t = 100
    )]
    pub connection_burst_per_address: u32,
}

/// `--slow-subscriber`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SlowSubscriber {
    /// Drop the new message.
    DropNewest,
    /// Drop the oldest waiting message.
    DropOldest,
    /// Disconnect the subscriber.
    Disconnect,
    /// Stop reading the publishers.
    Backpressure,
}

impl From<SlowSubscriber> for limits::SlowSubscriber {
    fn from(policy: SlowSubscriber) -> limits::SlowSubscriber {
        match policy {
            SlowSubscriber::DropNewest => limits::SlowSubscriber::DropNewest,
            SlowSubscriber::DropOldest => limits::SlowSubscriber::DropOldest,
            SlowSubscriber::Disconnect => limits::SlowSubscriber::Disconnect,
            SlowSubscriber::Backpressure => limits::SlowSubscriber::Backpressure,
        }
    }
}

/// `--acl-denied-publish`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum DeniedPublish {
    /// Acknowledge it as its QoS says, and drop it.
    Drop,
    /// Close the connection.
    Close,
}

impl From<DeniedPublish> for limits::DeniedPublish {
    fn from(policy: DeniedPublish) -> limits::DeniedPublish {
        match policy {
            DeniedPublish::Drop => limits::DeniedPublish::Drop,
            DeniedPublish::Close => limits::DeniedPublish::Close,
        }
    }
}

/// `--shared-strategy`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SharedStrategy {
    /// One member after the other.
    RoundRobin,
    /// Always the same member for one publisher.
    Sticky,
}

impl From<SharedStrategy> for limits::SharedStrategy {
    fn from(strategy: SharedStrategy) -> limits::SharedStrategy {
        match strategy {
            SharedStrategy::RoundRobin => limits::SharedStrategy::RoundRobin,
            SharedStrategy::Sticky => limits::SharedStrategy::Sticky,
        }
    }
}

fn defaults() -> limits::Limits {
    limits::Limits::default()
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).expect("the defaults are minutes at most")
}
