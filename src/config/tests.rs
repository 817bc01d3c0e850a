use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::*;

fn config(line: &str) -> Result<Config, ConfigError> {
    let args = Args::try_parse_from(std::iter::once("ringmq").chain(line.split_whitespace())).unwrap();
    Config::from_args(&args, &[0, 1, 4, 5])
}

#[test]
fn nothing_given_is_loopback_and_every_core() {
    let config = config("").unwrap();
    let [listener] = &config.listeners[..] else {
        panic!("{config:?}")
    };
    assert_eq!(listener.address, "127.0.0.1:1883".parse().unwrap());
    assert_eq!(listener.admission, Admission::Open);
    assert_eq!(config.shards, [Some(0), Some(1), Some(4), Some(5)]);
    assert_eq!(
        Limits {
            memory_bytes_max: usize::MAX,
            ..config.limits.clone()
        },
        Limits::default()
    );
    assert_eq!(config.sys_interval, Some(Duration::from_secs(10)));
    assert_eq!(config.log.to_string(), "text/info");
    assert!(config.is_pinned());
}

#[test]
fn the_command_line_itself_is_sound() {
    command::command().debug_assert();
}

#[test]
fn another_host_gets_in_only_when_that_is_said() {
    for address in ["0.0.0.0:1883", "192.0.2.1:1883", "[::]:1883"] {
        let error = config(&format!("--listen {address}")).unwrap_err();
        assert!(error.to_string().contains("--allow-anonymous"), "{error}");
        assert!(config(&format!("--listen {address} --allow-anonymous")).is_ok());
    }
    assert!(config("--listen unix:/run/ringmq.sock").is_ok());
    assert!(config("--listen [::1]:1883 --listen 127.0.0.2:1 --listen [::ffff:127.0.0.1]:2").is_ok());
}

#[test]
fn another_host_asks_only_with_a_token() {
    for address in ["0.0.0.0:9883", "192.0.2.1:9883", "[::]:9883"] {
        let error = config(&format!("--admin-listen {address}")).unwrap_err();
        assert!(error.to_string().contains("--admin-token-file"), "{error}");
        assert!(config(&format!("--admin-listen {address} --admin-token-file token")).is_ok());
    }
    for address in ["127.0.0.2:9883", "[::1]:9883", "[::ffff:127.0.0.1]:0"] {
        assert!(config(&format!("--admin-listen {address}")).is_ok());
    }
    assert_eq!(config("").unwrap().admin_listen, None);
}

#[test]
fn an_address_is_listened_on_once() {
    let twice = config("--listen 127.0.0.1:1 --listen 127.0.0.1:1");
    assert_eq!(
        twice.unwrap_err(),
        ConfigError::ListenTwice("127.0.0.1:1".parse().unwrap())
    );
    assert!(config("--listen 127.0.0.1:0 --listen 127.0.0.1:0").is_ok());
    assert!(config("--listen unix:/a --listen unix:/b").is_ok());
    assert!(config("--listen unix:/a --listen unix:/a").is_err());
}

#[test]
fn shards_are_pinned_while_the_cores_suffice() {
    assert_eq!(config("--shards 2").unwrap().shards, [Some(0), Some(1)]);
    assert_eq!(config("--shards 2 --cores 4-5").unwrap().shards, [Some(4), Some(5)]);
    assert_eq!(config("--cores 5").unwrap().shards, [Some(5)]);
    let many = config("--shards 5").unwrap();
    assert_eq!(many.shards, [None; 5]);
    assert!(!many.is_pinned());
}

#[test]
fn a_core_that_is_not_granted_is_refused() {
    let error = config("--cores 0,2").unwrap_err();
    assert_eq!(
        error.to_string(),
        "--cores names core 2, but the process may use only 0-1,4-5"
    );
}

#[test]
fn how_a_service_is_asked_means_nothing_without_one() {
    for (line, expected) in [
        (
            "--auth-http-token-file t",
            "--auth-http-token-file needs --auth-http-url",
        ),
        ("--auth-http-ca c", "--auth-http-ca needs --auth-http-url"),
        ("--auth-http-cache 1", "--auth-http-cache needs --auth-http-url"),
        (
            "--auth-http-url http://h/ --auth-http-ca c",
            "--auth-http-ca needs a URL with https:// in --auth-http-url",
        ),
    ] {
        let error = config(line).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{line}: {error}");
    }
    // With a service, other hosts may come: they are asked who they are.
    let open = config("--listen 0.0.0.0:1 --auth-http-url https://h/ --auth-http-ca c").unwrap();
    let verifies = Admission::Verify { anonymous: false };
    assert_eq!(open.listeners[0].admission, verifies);
}

#[test]
fn what_would_stop_every_client_is_refused() {
    for line in [
        "--shards 0",
        "--max-connections 0",
        "--max-packet-size 1",
        "--max-packet-size 268435461",
        "--max-inflight 0",
        "--max-inbound-qos2 0",
        "--max-output-bytes 0",
        "--max-memory 4194303",
        "--max-topic-levels 0",
        "--max-topic-bytes 0",
        "--max-client-id-bytes 0",
        "--connect-timeout 0",
        "--write-timeout 0",
        "--slow-subscriber backpressure --backpressure-timeout 0",
        "--max-keep-alive 100000",
        "--tcp-keep-alive 32768",
        "--max-connection-rate 1000001",
        "--max-connection-rate-per-address 1 --connection-burst-per-address 0",
        "--spin 1000001",
        "--auth-http-url http://h/ --auth-http-timeout 0",
        "--auth-http-url http://h/ --auth-http-timeout 86401",
        "--auth-http-url http://h/ --auth-http-threads 0",
        "--auth-http-url http://h/ --auth-http-threads 257",
        "--auth-http-url http://h/ --auth-http-cache 86401",
    ] {
        let error = config(line).unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { .. }), "{line}: {error}");
        let flag = line
            .rsplit("--")
            .next()
            .and_then(|flag| flag.split(' ').next())
            .unwrap();
        assert!(
            error.to_string().starts_with(&format!("--{flag} must be ")),
            "{line}: {error}"
        );
    }
}

#[test]
fn the_first_packet_is_no_larger_than_any_packet() {
    assert_eq!(
        config("--max-packet-size 1000").unwrap().limits.connect_bytes_max,
        1_000
    );
    let error = config("--max-packet-size 1000 --max-connect-size 1001").unwrap_err();
    assert_eq!(
        error,
        ConfigError::ConnectLargerThanPacket {
            connect: 1_001,
            packet: 1_000
        }
    );
}

#[test]
fn policies_and_timers_reach_the_limits() {
    let line = "--slow-subscriber backpressure --backpressure-timeout 3 --shared-strategy sticky --session-expiry 60";
    let limits = config(line).unwrap().limits;
    assert_eq!(limits.slow_subscriber, SlowSubscriber::Backpressure);
    assert_eq!(limits.backpressure_timeout, Duration::from_secs(3));
    assert_eq!(limits.shared_strategy, ringmq_shard::limits::SharedStrategy::Sticky);
    assert_eq!(limits.session_expiry, Duration::from_secs(60));
    assert_eq!(config("--sys-interval 0").unwrap().sys_interval, None);
}

#[test]
fn every_flag_has_help_an_environment_variable_and_its_place_in_the_documents() {
    let readme = include_str!("../../README.md");
    let configuration = include_str!("../../docs/configuration.md");
    for flag in Args::command().get_arguments() {
        let long = flag.get_long().expect("every setting is a long flag");
        if matches!(long, "help" | "version") {
            continue;
        }
        let variable = format!("RINGMQ_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(
            flag.get_env().and_then(|name| name.to_str()),
            Some(&variable[..]),
            "--{long}"
        );
        assert!(
            flag.get_help()
                .is_some_and(|help| help.to_string().lines().count() == 1),
            "--{long}"
        );
        assert!(
            readme.contains(&format!("| `--{long}")),
            "--{long} is not in README.md's table"
        );
        assert_eq!(
            flag.get_id(),
            &*long.replace('-', "_"),
            "the key is the flag's name with _ for -"
        );
        let value = flag.get_value_names().map_or("", |names| names[0].as_str());
        let typed = if flag.get_num_args().is_some_and(|count| count.min_values() == 0) {
            format!("--{long}[={value}]")
        } else {
            format!("--{long} {value}")
        };
        let heading = format!("**`{typed}`** · `{variable}` · default: ");
        let documented = configuration
            .lines()
            .find_map(|line| line.strip_prefix(&heading))
            .unwrap_or_else(|| panic!("{heading} is not in docs/configuration.md"));
        let defaults: Vec<_> = flag
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        if let [default] = &defaults[..] {
            let word = documented.split([' ', ',']).next().unwrap_or_default();
            assert_eq!(word.trim_matches('`'), default, "--{long} in docs/configuration.md");
        }
        assert!(defaults.len() <= 1, "--{long}");
    }
    let headings = configuration.lines().filter(|line| line.starts_with("**`--")).count();
    assert_eq!(
        headings,
        Args::command()
            .get_arguments()
            .filter(|flag| flag.get_env().is_some())
            .count(),
        "docs/configuration.md explains a flag that there is not"
    );
}
