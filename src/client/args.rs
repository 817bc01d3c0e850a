//! The flags of both clients: Mosquitto's letters, where it has one.

use std::fmt;
use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, Parser};
use ringmq_shard::codec::QoS;

/// Publish messages, and end when the broker has acknowledged them
#[derive(Clone, Debug, Eq, Parser, PartialEq)]
#[command(name = "pub", disable_help_flag = true, max_term_width = 110)]
#[command(group = ArgGroup::new("payload").required(true).args(["message", "file", "null", "lines", "stdin"]))]
pub struct PubArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,

    /// Topic Name
    #[arg(short, long, value_name = "TOPIC")]
    pub(super) topic: String,

    /// Have the broker keep the message for later subscribers
    #[arg(short, long)]
    pub(super) retain: bool,

    /// The message
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) message: Option<String>,

    /// The message is what is in this file
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,

    /// An empty message; with -r it removes the one that is kept
    #[arg(short, long = "null-message")]
    pub(super) null: bool,

    /// Each line from standard input is a message
    #[arg(short, long = "stdin-line")]
    pub(super) lines: bool,

    /// All of standard input is one message
    #[arg(short, long = "stdin-file")]
    pub(super) stdin: bool,
}

/// Subscribe, and print the messages that come
#[derive(Clone, Debug, Eq, Parser, PartialEq)]
#[command(name = "sub", disable_help_flag = true, max_term_width = 110)]
pub struct SubArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,

    /// Topic Filter; may be given more than once
    #[arg(short, long, value_name = "FILTER", required = true)]
    pub(super) topic: Vec<String>,

    /// End after this many messages
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,

    /// End with exit code 27 after this many seconds
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) wait: Option<u32>,

    /// End as soon as the broker has confirmed the subscriptions
    #[arg(short = 'E')]
    pub(super) end_when_subscribed: bool,

    /// Print the topic and a space before each message
    #[arg(short, long)]
    pub(super) verbose: bool,

    /// Print nothing behind each message
    #[arg(short = 'N')]
    pub(super) no_line_end: bool,

    /// Leave out messages that the broker had kept (retained) before
    #[arg(short = 'R')]
    pub(super) no_retained: bool,
}

/// How to reach the broker, and as whom.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub(super) struct ConnectionArgs {
    /// The broker's host
    #[arg(short, long, value_name = "HOST", default_value = "localhost")]
    pub(super) host: String,

    /// The broker's port [default: 1883, with --cafile 8883]
    #[arg(short, long, value_name = "PORT")]
    pub(super) port: Option<u16>,

    /// A Unix domain socket instead of host and port
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port", "cafile"])]
    pub(super) unix: Option<PathBuf>,

    /// Quality of Service: 0, 1 or 2
    #[arg(short, long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub(super) qos: QoS,

    /// Client Identifier [default: the broker chooses one]
    #[arg(short, long, value_name = "ID")]
    pub(super) id: Option<String>,

    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub(super) username: Option<String>,

    /// Password; every user of this host can see it, so better use RINGMQ_PASSWORD or --password-from
    #[arg(
        short = 'P',
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_from",
        allow_hyphen_values = true
    )]
    pub(super) password: Option<Hidden>,

    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    pub(super) password_from: Option<PathBuf>,

    /// Keep Alive in seconds; 0 turns it off
    #[arg(short, long = "keepalive", value_name = "SECONDS", default_value_t = 60)]
    pub(super) keep_alive: u16,

    /// Have the broker keep the session, and go on with it if there is one
    #[arg(short = 'c', long)]
    pub(super) disable_clean_session: bool,

    /// Topic of the message that the broker publishes if this client is lost
    #[arg(long, value_name = "TOPIC")]
    pub(super) will_topic: Option<String>,

    /// That message
    #[arg(
        long,
        value_name = "TEXT",
        requires = "will_topic",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub(super) will_payload: String,

    /// Its Quality of Service
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value = "0", value_parser = qos)]
    pub(super) will_qos: QoS,

    /// The broker keeps it for later subscribers
    #[arg(long, requires = "will_topic")]
    pub(super) will_retain: bool,

    /// Speak TLS with a broker whose certificate is from an authority in this file (PEM)
    #[arg(long, value_name = "FILE")]
    pub(super) cafile: Option<PathBuf>,

    /// Own certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "key", requires = "cafile")]
    pub(super) cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(super) key: Option<PathBuf>,

    /// Tell of every packet on standard error, without its payload
    #[arg(short, long)]
    pub(super) debug: bool,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Text that no log and no panic shows.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Hidden(pub(super) String);

impl From<String> for Hidden {
    fn from(text: String) -> Hidden {
        Hidden(text)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

fn qos(text: &str) -> Result<QoS, &'static str> {
    let bits = text.parse().ok();
    bits.and_then(QoS::from_bits).ok_or("write 0, 1 or 2")
}
