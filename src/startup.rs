//! What the broker says on standard output when it starts: one block that an operator reads, and a program can wait
//! for.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use ringmq_shard::limits::{DeniedPublish, SharedStrategy, SlowSubscriber};

use crate::config::{Config, ranges};
use crate::preflight::{Host, MEMLOCK_PER_SHARD, descriptors_needed};

/// Prints `ready`: clients are served.
pub(crate) fn ready() {
    say("ready\n");
}

/// Writes to standard output. Whoever started the broker may have closed its end: that is no reason not to serve.
pub(crate) fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// How the broker is set up, and a line `listening on ADDR:PORT` for each listener (with `, TLS` and `, WebSocket at PATH` behind it where clients speak that).
pub(crate) fn announcement(config: &Config, host: &Host) -> String {
    let limits = &config.limits;
    let mut text = format!("RingMQ {}\n", crate::VERSION);
    let mut line =
        |name: &str, value: String| writeln!(text, "  {name:<12} {value}").expect("a String takes everything");
    line("shards", shards(config));
    line("storage", "memory only: nothing survives a restart".into());
    line("kernel", format!("Linux {}, io_uring available", host.kernel));
    line("memlock", memlock(config, host));
    line("descriptors", descriptors(config, host));
    line(
        "connections",
        format!(
            "at most {}, CONNECT within {} s, written to within {} s, Keep Alive {}",
            config.connections_max,
            limits.connect_timeout.as_secs(),
            config.write_timeout.as_secs(),
            if limits.keep_alive_max.is_zero() {
                "as asked for".into()
            } else {
                format!("at most {} s", limits.keep_alive_max.as_secs())
            },
        ),
    );
    line(
        "packets",
        format!(
            "at most {}, topics of {} levels and {} bytes, {} bytes of Client Identifier",
            bytes(limits.packet_bytes_max),
            limits.topic.levels_max,
            limits.topic.bytes_max,
            limits.client_id_bytes_max,
        ),
    );
    line(
        "sessions",
        format!(
            "{} in flight, {} messages or {} waiting, {} subscriptions, expiry {}",
            limits.inflight_max,
            limits.queued_messages_max,
            bytes(limits.queued_bytes_max),
            limits.subscriptions_max,
            if limits.session_expiry.is_zero() {
                "never".into()
            } else {
                format!("{} s", limits.session_expiry.as_secs())
            },
        ),
    );
    line(
        "policies",
        format!(
            "slow subscriber {}, shared groups {}",
            match limits.slow_subscriber {
                SlowSubscriber::DropNewest => "drop-newest",
                SlowSubscriber::DropOldest => "drop-oldest",
                SlowSubscriber::Disconnect => "disconnect",
                SlowSubscriber::Backpressure => "backpressure",
            },
            match limits.shared_strategy {
                SharedStrategy::RoundRobin => "round-robin",
                SharedStrategy::Sticky => "sticky",
            },
        ),
    );
    line(
        "access",
        match &config.acl_file {
            None => "no access control list: clients publish and read everything".into(),
            Some(path) => format!(
                "as {} says, a denied PUBLISH {}",
                path.display(),
                match limits.denied_publish {
                    DeniedPublish::Drop => "is dropped",
                    DeniedPublish::Close => "closes",
                }
            ),
        },
    );
    line(
        "memory",
        format!("at most {} for queues and outputs", bytes(limits.memory_bytes_max)),
    );
    line("retained", format!("at most {}", limits.retained_max));
    for (listener, rules) in host.listeners.iter().zip(&config.listeners) {
        let proxy = if rules.proxy.is_some() { ", PROXY" } else { "" };
        let tls = if rules.tls.is_some() { ", TLS" } else { "" };
        let websocket = rules.websocket.as_ref();
        let websocket = websocket.map_or_else(String::new, |it| format!(", WebSocket at {}", it.path));
        writeln!(text, "listening on {}{proxy}{tls}{websocket}", listener.address())
            .expect("a String takes everything");
    }
    if let Some(address) = host.admin.as_ref().and_then(|admin| admin.local_addr().ok()) {
        writeln!(text, "admin on http://{address}").expect("a String takes everything");
    }
    text
}

fn shards(config: &Config) -> String {
    let cores = ranges(&config.cores);
    match config.shards.iter().copied().collect::<Option<Vec<usize>>>() {
        Some(pinned) => format!("{}, pinned to cores {}", pinned.len(), ranges(&pinned)),
        None => format!("{}, not pinned: more shards than cores ({cores})", config.shards.len()),
    }
}

fn memlock(config: &Config, host: &Host) -> String {
    let needed = MEMLOCK_PER_SHARD * config.shards.len() as u64;
    match host.memlock {
        None => "no limit".into(),
        Some(limit) if limit < needed => format!("{} KiB; older kernels need {} KiB", limit / 1024, needed / 1024),
        Some(limit) => format!("{} KiB", limit / 1024),
    }
}

fn descriptors(config: &Config, host: &Host) -> String {
    let own = descriptors_needed(config);
    match host.descriptors {
        None => "no limit".into(),
        Some(limit) if limit < own + config.connections_max as u64 => {
            format!(
                "{limit}, enough for {} of {} connections (ulimit -n)",
                limit - own,
                config.connections_max
            )
        }
        Some(limit) => limit.to_string(),
    }
}

/// In the largest unit that fits: whole, or to a tenth.
pub(crate) fn bytes(count: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) if count.is_multiple_of(*unit) => format!("{} {name}", count / unit),
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / *unit as f64),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Args;
    use clap::Parser;

    #[test]
    fn the_block_names_the_port_that_was_given() {
        let args = Args::try_parse_from(["ringmq", "--listen", "127.0.0.1:0", "--shards", "3"]).unwrap();
        let config = Config::from_args(&args, &[0, 1]).unwrap();
        let listeners =
            vec![crate::listener::ListenSocket::bind(&config.listeners[0].address, config.listeners[0].tcp).unwrap()];
        let address = listeners[0].address().to_string();
        let host = Host {
            listeners,
            admin: None,
            kernel: "6.1.0".into(),
            memlock: Some(8 << 20),
            descriptors: Some(1_024),
        };
        let block = announcement(&config, &host);
        assert!(
            block.lines().any(|line| line == format!("listening on {address}")),
            "{block}"
        );
        assert!(block.contains("not pinned: more shards than cores (0-1)"), "{block}");
        assert!(block.contains("16 MiB"), "{block}");
        assert!(block.contains("enough for "), "{block}");
    }
}
