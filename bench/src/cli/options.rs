//! Options that several verbs share.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::load::plan::{Broker, Threads};
use crate::net::{Tls, Transport, WebSocket};
use crate::wire::stamp::STAMP_BYTES;

/// Which broker, and as whom.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Broker")]
pub(crate) struct BrokerOptions {
    /// Host name or address
    #[arg(short = 'h', long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port
    #[arg(short, long, default_value_t = 1883)]
    pub(crate) port: u16,
    /// User name
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password
    #[arg(short = 'P', long, requires = "username")]
    pub(crate) password: Option<String>,
    /// Keep alive, seconds
    #[arg(short, long, default_value_t = 300)]
    pub(crate) keepalive: u16,
    /// Clean session
    #[arg(short = 'C', long, default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) clean: bool,
    /// Protocol version; 4 is MQTT 3.1.1, and the only one this tool speaks
    #[arg(short = 'V', long = "proto-ver", alias = "version", default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=4))]
    pub(crate) proto_ver: u8,
    /// Local addresses to connect from, comma-separated; each has its own 28,000 ports
    #[arg(long, value_delimiter = ',')]
    pub(crate) ifaddr: Vec<IpAddr>,
    /// Speak TLS with a server whose certificate is from an authority in --cafile
    #[arg(short = 'S', long, requires = "cafile")]
    pub(crate) ssl: bool,
    /// Authorities in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cafile: Option<PathBuf>,
    /// Every TLS handshake is a whole one, none continues an earlier session
    #[arg(long, requires = "ssl")]
    pub(crate) no_resumption: bool,
    /// Speak MQTT over WebSocket
    #[arg(long)]
    pub(crate) ws: bool,
    /// Path of the WebSocket
    #[arg(long, default_value = "/mqtt")]
    pub(crate) ws_path: String,
    /// Beginning of every Client Identifier [default: b and this process's number]
    #[arg(long)]
    pub(crate) prefix: Option<String>,
    /// New connections per second; 0 is as fast as the broker takes them
    #[arg(short = 'R', long = "connrate", value_name = "N")]
    pub(crate) connrate: Option<f64>,
    /// Milliseconds between two new connections, where no --connrate is given
    #[arg(short, long, value_name = "MS")]
    pub(crate) interval: Option<f64>,
}

/// How long.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Time")]
pub(crate) struct TimeOptions {
    /// Before anything is measured: 2, 2s, 500ms, 1m [default: 2s; none in conn, sub and pub]
    #[arg(long, value_parser = duration)]
    pub(crate) warmup: Option<Duration>,
    /// What is measured [default: 10s; idle and suite 30s or less; conn, sub and pub until stopped]
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// How long to wait for missing messages after the last one arrived
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) drain: Duration,
}

/// This tool's own threads.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "This tool")]
pub(crate) struct ThreadOptions {
    /// Load threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Cores to pin them to, such as 1,3 or 4-7; keep them away from the broker's
    #[arg(long, value_parser = cores)]
    pub(crate) cores: Option<CoreList>,
    /// Closed loop: rest so long between turns, as a network card's interrupt coalescing would make it; a broker that
    /// writes message by message then pays for its writes, and not for waking this tool each time
    #[arg(long, default_value = "0", value_parser = duration)]
    pub(crate) nap: Duration,
    /// No progress line, no table
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// What is written, and under which name.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputOptions {
    /// The broker's process: reports its CPU per message and its memory
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Write the report as JSON; - is standard output, and leaves out the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw latency by percentile and throughput over time
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// What to call the broker [default: the process's name, or host and port]
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// What to call this run, for comparisons [default: the scenario and its QoS]
    #[arg(long)]
    pub(crate) case: Option<String>,
    /// Which repetition this is
    #[arg(long, default_value_t = 0)]
    pub(crate) round: u32,
}

/// A list of core numbers.
#[derive(Clone, Debug)]
pub(crate) struct CoreList(pub(crate) Vec<usize>);

impl BrokerOptions {
    /// Looks the host up and puts the engine's view together.
    ///
    /// # Errors
    /// The resolver's.
    pub(crate) fn broker(&self) -> std::io::Result<Broker> {
        Ok(Broker {
            address: self.address()?,
            sources: self.ifaddr.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            keep_alive_s: self.keepalive,
            clean_session: self.clean,
            transport: self.transport()?,
        })
    }

    fn transport(&self) -> std::io::Result<Transport> {
        let authorities = self.cafile.as_ref().filter(|_| self.ssl);
        let tls = authorities.map(|file| Tls::new(file, &self.host, !self.no_resumption));
        Ok(Transport {
            tls: tls.transpose()?,
            websocket: self.ws.then(|| WebSocket {
                host: format!("{}:{}", self.host, self.port),
                path: self.ws_path.clone(),
            }),
        })
    }

    fn address(&self) -> std::io::Result<SocketAddr> {
        let none = || std::io::Error::other(format!("{} has no address", self.host));
        (self.host.as_str(), self.port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(none)
    }

    /// New connections per second; `None` for no limit.
    pub(crate) fn connect_rate(&self, default_interval_ms: f64) -> Option<f64> {
        let rate = self
            .connrate
            .unwrap_or_else(|| 1000.0 / self.interval.unwrap_or(default_interval_ms));
        (rate > 0.0 && rate.is_finite()).then_some(rate)
    }

    /// The Client Identifier of number `number` in the role `role` (a letter).
    pub(crate) fn client_id(&self, role: char, number: usize) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}{role}{number}"),
            None => format!("b{}{role}{number}", std::process::id()),
        }
    }
}

impl ThreadOptions {
    pub(crate) fn threads(&self) -> Threads {
        let cores = self.cores.as_ref().map_or_else(Vec::new, |list| list.0.clone());
        Threads {
            count: self.threads.into(),
            nap: self.nap,
            cores,
        }
    }
}

/// Parses `90`, `90s`, `500ms`, `2m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit_s = match &text[digits.len()..] {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("{unit} is no unit of time; use us, ms, s, m or h")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("{digits} is not a number"))?;
    Duration::try_from_secs_f64(number * unit_s).map_err(|error| error.to_string())
}

/// Parses `1,3` or `4-7`, or both.
fn cores(text: &str) -> Result<CoreList, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<usize>()
            .map_err(|_| format!("{text} is not a core number"))
    };
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => list.extend(number(first)?..=number(last)?),
            None => list.push(number(part)?),
        }
    }
    Ok(CoreList(list))
}

/// Parses a payload size.
pub(crate) fn payload_size(text: &str) -> Result<usize, String> {
    let size: usize = text.parse().map_err(|_| format!("{text} is not a size in bytes"))?;
    let most = 256 * 1024 * 1024 - 1 - 65_537;
    if (STAMP_BYTES..=most).contains(&size) {
        Ok(size)
    } else {
        Err(format!("a countable payload has {STAMP_BYTES} to {most} bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("2y").is_err() && duration("-1").is_err() && duration("").is_err());
    }

    #[test]
    fn core_lists_have_ranges() {
        assert_eq!(cores("1,4-6").unwrap().0, [1, 4, 5, 6]);
        assert!(cores("a").is_err());
    }

    #[test]
    fn payloads_hold_a_stamp() {
        assert_eq!(payload_size("16"), Ok(16));
        assert!(payload_size("15").is_err());
    }
}
