//! The command line: what it takes, what it refuses and how it says so, what the broker prints, and how it ends.

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, ExitStatus, Stdio};

use common::*;
use ringmq_shard::hash;

#[test]
fn version_names_version_and_commit() {
    let (status, output) = run(ringmq().arg("--version"));
    assert!(status.success(), "{output}");
    let commit = output
        .trim()
        .strip_prefix(concat!("ringmq ", env!("CARGO_PKG_VERSION"), " ("))
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or_else(|| panic!("{output}"));
    let is_hash = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A build outside of a checkout may be told its commit, or says that it does not know.
    let in_checkout = fs::exists(concat!(env!("CARGO_MANIFEST_DIR"), "/.git")).expect("a path that can be asked for");
    assert!(is_hash || (!in_checkout && !commit.is_empty()), "{output}");
}

/// What README lists, what the page on configuration explains, and what the program knows are the same flags, with the
/// same environment variables.
#[test]
fn help_lists_every_documented_flag_and_no_other() {
    let (status, help) = run(ringmq().arg("--help"));
    assert!(status.success(), "{help}");
    let read = |path: &str| fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path);
    let (readme, page) = (read("README.md"), read("docs/configuration.md"));
    let first_flag = |line: &str, before: &str| {
        let flag = line.strip_prefix(before)?.split([' ', '`', '[']).next()?;
        Some(flag.to_owned())
    };
    let sorted = |text: &str, before: &str| {
        let mut flags: Vec<String> = text.lines().filter_map(|line| first_flag(line, before)).collect();
        flags.sort();
        flags
    };
    let in_help: Vec<String> = {
        let mut flags: Vec<String> = help
            .lines()
            .filter_map(|line| first_flag(line.trim_start(), "--"))
            .filter(|flag| flag != "help" && flag != "version")
            .collect();
        flags.sort();
        flags
    };
    assert!(in_help.len() > 20, "{help}");
    assert_eq!(in_help, sorted(&page, "**`--"));
    assert_eq!(in_help, sorted(&readme, "| `--"));
    for flag in &in_help {
        let variable = format!("RINGMQ_{}", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("[env: {variable}=]")), "{variable} in {help}");
        assert!(page.contains(&format!("`{variable}`")), "{variable}");
    }
    let guide = read("docs/migrating-from-mosquitto.md");
    let named: Vec<&str> = guide
        .split('`')
        .filter_map(|code| code.strip_prefix("--")?.split(' ').next())
        .filter(|flag| *flag != "algorithm")
        .collect();
    assert!(named.len() > 20);
    for flag in named {
        assert!(in_help.iter().any(|known| known == flag), "--{flag} of the guide");
    }
}

#[test]
fn what_cannot_be_read_ends_with_2_and_names_the_flag() {
    let refused: [&[&str]; 18] = [
        &["--bogus"],
        &["--shards", "0"],
        &["--shards", "1025"],
        &["--shards", "two"],
        &["--cores", "99999"],
        &["--cores", "3-0"],
        &["--listen", "localhost"],
        &["--listen", "127.0.0.1:70000"],
        &["--max-connections", "0"],
        &["--max-inflight", "0"],
        &["--max-inflight", "65536"],
        &["--max-packet-size", "268435461"],
        &["--max-topic-levels", "0"],
        &["--connect-timeout", "0"],
        &["--slow-subscriber", "maybe"],
        &["--log", "xml/info"],
        &["--log", "text/info,listner=debug"],
        &["--max-connect-size", "2000", "--max-packet-size", "1000"],
    ];
    for flags in refused {
        let (status, output) = run(ringmq().args(flags));
        assert_eq!(status.code(), Some(2), "{flags:?}: {output}");
        assert!(output.contains(flags[0]), "{flags:?}: {output}");
        assert!(!output.contains("listening"), "{output}");
    }
    for (variable, value) in [("RINGMQ_SHARDS", "0"), ("RINGMQ_MAX_INFLIGHT", "many")] {
        let (status, output) = run(ringmq().env(variable, value));
        assert_eq!(status.code(), Some(2), "{variable}={value}: {output}");
    }
}

#[test]
fn open_listener_needs_to_be_asked_for() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1883"] {
        let (status, output) = run(ringmq().args(["--listen", address]));
        assert_eq!(status.code(), Some(2), "{output}");
        assert!(
            output.contains("--allow-anonymous") && output.contains(address),
            "{output}"
        );
        assert_eq!(output.lines().count(), 1, "{output}");
    }
    let mut broker = start(ringmq().args(["--shards", "1", "--listen", "0.0.0.0:0", "--allow-anonymous"]));
    let [addr] = listening(&broker)[..] else {
        panic!("{}", broker.output())
    };
    assert!(addr.ip().is_unspecified());
    serves(SocketAddr::from(([127, 0, 0, 1], addr.port())));
    stop(&mut broker);
}

#[test]
fn taken_port_is_one_line_and_78() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other.local_addr().expect("bound").to_string();
    let (status, output) = run(ringmq().args(["--shards", "1", "--listen", "127.0.0.1:0", "--listen", &taken]));
    assert_eq!(status.code(), Some(78), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(output.contains(&taken) && output.contains("taken"), "{output}");
}

#[test]
fn every_listener_serves() {
    let flags = ["--shards", "2", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let mut by_flag = start(ringmq().args(flags));
    let mut by_variable = start(
        ringmq()
            .args(["--shards", "2"])
            .env("RINGMQ_LISTEN", "127.0.0.1:0,127.0.0.1:0"),
    );
    for broker in [&mut by_flag, &mut by_variable] {
        let [one, other] = listening(broker)[..] else {
            panic!("{}", broker.output())
        };
        assert_ne!(one, other);
        let mut subscriber = connect(one, "sub");
        subscriber.subscribe("t", 1);
        connect(other, "pub").publish("t", "across", 1);
        subscriber.expect_message("t", "across", 1);
        stop(broker);
    }
}

#[test]
fn environment_sets_what_no_flag_does() {
    let started = |command: &mut Command| {
        let mut broker = start(command);
        let output = broker.output();
        stop(&mut broker);
        output
    };
    let mut command = ringmq();
    command
        .env("RINGMQ_LISTEN", "127.0.0.1:0")
        .env("RINGMQ_SHARDS", "2")
        .env("RINGMQ_MAX_INFLIGHT", "17")
        .env("RINGMQ_SLOW_SUBSCRIBER", "drop-oldest");
    let output = started(&mut command);
    assert!(value(&output, "shards").starts_with("2,"), "{output}");
    assert!(value(&output, "sessions").starts_with("17 in flight"), "{output}");
    assert!(
        value(&output, "policies").contains("slow subscriber drop-oldest"),
        "{output}"
    );

    let output = started(command.args(["--shards", "1", "--slow-subscriber", "disconnect"]));
    assert!(value(&output, "shards").starts_with("1,"), "{output}");
    assert!(value(&output, "sessions").starts_with("17 in flight"), "{output}");
    assert!(
        value(&output, "policies").contains("slow subscriber disconnect"),
        "{output}"
    );
}

#[test]
fn start_up_block_says_how_the_broker_is_set_up() {
    let core = a_usable_core();
    let flags = "--listen 127.0.0.1:0 --max-connections 77 --connect-timeout 7 --write-timeout 8 --max-keep-alive 90 \
                 --max-packet-size 2097152 --max-topic-levels 9 --max-topic-bytes 99 --max-client-id-bytes 55 \
                 --max-inflight 17 --max-queued-messages 34 --max-queued-bytes 1025 --max-subscriptions 66 \
                 --session-expiry 3600 --max-retained 88 --shared-strategy sticky --slow-subscriber backpressure";
    let mut broker = start(ringmq().args(flags.split_whitespace()).args(["--cores", &core]));
    let output = broker.output();
    let mut version = output.lines().next().expect("it is ready").to_owned();
    version.make_ascii_lowercase();
    let (_, expected) = run(ringmq().arg("--version"));
    assert_eq!(version, expected.trim());
    let whole = |name: &str, expected: &str| assert_eq!(value(&output, name), expected, "{output}");
    whole("shards", &format!("1, pinned to cores {core}"));
    whole(
        "connections",
        "at most 77, CONNECT within 7 s, written to within 8 s, Keep Alive at most 90 s",
    );
    whole(
        "packets",
        "at most 2 MiB, topics of 9 levels and 99 bytes, 55 bytes of Client Identifier",
    );
    whole(
        "sessions",
        "17 in flight, 34 messages or 1.0 KiB waiting, 66 subscriptions, expiry 3600 s",
    );
    whole("policies", "slow subscriber backpressure, shared groups sticky");
    whole("retained", "at most 88");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
    whole("kernel", &format!("Linux {}, io_uring available", kernel.trim()));
    assert!(value(&output, "storage").contains("memory"), "{output}");
    for name in ["memlock", "descriptors"] {
        value(&output, name);
    }
    assert!(output.trim_end().ends_with("ready"), "{output}");
    serves(listening(&broker)[0]);
    stop(&mut broker);
}

#[test]
fn more_shards_than_cores_is_a_warning() {
    let core = a_usable_core();
    let common = ["--listen", "127.0.0.1:0", "--cores", &core];
    let mut broker = start(ringmq().args(common).args(["--shards", "2"]));
    let line = broker.await_output(|output| {
        let mut lines = output.lines();
        lines.find(|line| line.contains(" WARN ")).map(str::to_owned)
    });
    assert!(line.contains("more shards than cores"), "{line}");
    let shards = value(&broker.output(), "shards");
    assert!(shards.starts_with("2, not pinned"), "{shards}");
    serves(listening(&broker)[0]);
    stop(&mut broker);

    let mut broker = start(ringmq().args(common));
    stop(&mut broker);
    assert!(!broker.output().contains(" WARN "), "{}", broker.output());
}

#[test]
fn signals_stop_the_broker_in_order() {
    for (signal, shards) in [("TERM", "1"), ("INT", "1"), ("TERM", "2"), ("INT", "2")] {
        let mut broker = start(ringmq().args(["--listen", "127.0.0.1:0", "--shards", shards]));
        let addr = listening(&broker)[0];
        let mut clients: Vec<Client> = ["a", "b", "c"].map(|id| connect(addr, id)).into();
        clients[0].subscribe("will", 0);
        let mut with_will = Client::dial(addr);
        with_will.connect(&Connect::new("d").will(publish("will", "gone")));
        clients.push(with_will);
        // It has not said who it is, and has to go all the same.
        clients.push(Client::dial(addr));
        broker.signal(signal);
        // A broker that stops on purpose publishes no will.
        for client in &mut clients {
            client.expect_close();
        }
        assert_eq!(broker.wait().code(), Some(0));
        assert!(std::net::TcpStream::connect(addr).is_err(), "nobody listens any more");
    }
}

/// What waits for a client is written before the connection closes.
#[test]
fn stopping_broker_flushes() {
    const BYTES: usize = 64 * 1024;
    for shards in ["1", "2"] {
        let mut broker = start(ringmq().args([
            "--listen",
            "127.0.0.1:0",
            "--shards",
            shards,
            "--shutdown-timeout",
            "600",
            "--max-output-bytes",
            "100000000",
            "--placement-seed",
            &one_home(),
        ]));
        let addr = listening(&broker)[0];
        let mut slow = fill(addr, 300, BYTES);
        broker.signal("TERM");
        broker.await_output(|output| output.contains("stopping").then_some(()));
        for _ in 0..300 {
            assert_eq!(slow.recv_publish().payload.len(), BYTES);
        }
        slow.expect_close();
        drop(slow);
        assert_eq!(broker.wait().code(), Some(0));
    }
}

/// The kernel takes a ring apart after its process has ended, and what the ring watches stays open until then.
#[test]
fn the_port_is_free_when_the_broker_has_ended() {
    for shards in ["1", "2"] {
        for _ in 0..8 {
            let mut broker = start(ringmq().args(["--listen", "127.0.0.1:0", "--shards", shards]));
            let addr = listening(&broker)[0];
            stop(&mut broker);
            drop(TcpListener::bind(addr).expect("free for anybody"));

            let again = ["--listen", &addr.to_string(), "--shards", shards];
            let mut broker = start(ringmq().args(again));
            broker.signal("KILL");
            broker.wait();
            stop(&mut start(ringmq().args(again)));
        }
    }
}

#[test]
fn second_signal_ends_at_once() {
    for (first, second, code) in [("TERM", "TERM", 143), ("INT", "TERM", 143), ("TERM", "INT", 130)] {
        let flags = ["--shards", "2", "--shutdown-timeout", "3600", "--write-timeout", "3600"];
        let mut broker = start(ringmq().args(["--listen", "127.0.0.1:0"]).args(flags).args([
            "--max-output-bytes",
            "100000000",
            "--placement-seed",
            &one_home(),
        ]));
        // A client that does not read keeps the broker from ending.
        let slow = fill(listening(&broker)[0], 300, 64 * 1024);
        broker.signal(first);
        broker.await_output(|output| output.contains("stopping").then_some(()));
        broker.signal(second);
        assert_eq!(broker.wait().code(), Some(code));
        drop(slow);
    }
}

/// A client that never reads cannot keep the broker from ending.
#[test]
fn shutdown_is_bounded() {
    let flags = ["--shards", "2", "--shutdown-timeout", "1", "--write-timeout", "3600"];
    let mut broker = start(ringmq().args(["--listen", "127.0.0.1:0"]).args(flags).args([
        "--max-output-bytes",
        "100000000",
        "--placement-seed",
        &one_home(),
    ]));
    let slow = fill(listening(&broker)[0], 300, 64 * 1024);
    stop(&mut broker);
    drop(slow);
}

/// Standard output has the block and nothing else; the log goes to standard error, in the format and from the level asked
/// for.
#[test]
fn log_has_its_own_stream_format_and_level() {
    for (log, offender, warning) in [
        ("text/info", Some("client=\"bad\""), true),
        ("json/info", Some("\"client\":\"bad\""), true),
        ("text/warn", None, true),
        ("text/warn,connection=info", Some("client=\"bad\""), true),
        ("text/info,connection=error", None, true),
        ("text/error", None, false),
    ] {
        let core = a_usable_core();
        let mut child = ringmq()
            .args([
                "--listen",
                "127.0.0.1:0",
                "--cores",
                &core,
                "--shards",
                "2",
                "--log",
                log,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test");
        let mut stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
        let mut block = String::new();
        while !block.ends_with("ready\n") {
            let read = std::io::BufRead::read_line(&mut stdout, &mut block).expect("text");
            assert!(read > 0, "{block}");
        }
        let addr = addresses(&block)[0];
        let mut bad = connect(addr, "bad");
        bad.send([0xf0, 0x00]);
        bad.expect_close();
        let kill = Command::new("kill").arg(child.id().to_string()).status();
        assert!(kill.expect("kill(1) is installed").success());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut rest).expect("text");
        assert_eq!(rest, "", "on standard output after the block");
        let output = child.wait_with_output().expect("a child of ours");
        assert_eq!(output.status.code(), Some(0));
        let stderr = String::from_utf8(output.stderr).expect("text");
        let about: Vec<&str> = stderr
            .lines()
            .filter(|line| line.contains("invalid_packet_type"))
            .collect();
        match offender {
            Some(client) => assert!(matches!(about[..], [line] if line.contains(client)), "{stderr}"),
            None => assert!(about.is_empty(), "{stderr}"),
        }
        assert_eq!(stderr.contains("more shards than cores"), warning, "{stderr}");
        let json = |line: &str| line.starts_with('{') && line.ends_with('}');
        assert!(
            stderr.lines().all(|line| json(line) == log.starts_with("json")),
            "{stderr}"
        );
    }
}

/// With this as `--placement-seed`, one of two shards is home to both subscribers of [`fill`].
fn one_home() -> String {
    let home = |id, seed| hash::home(id, 2, seed);
    let seed = (0..u64::MAX).find(|&seed| home("slow", seed) == home("slow-too", seed));
    seed.expect("every second one is").to_string()
}

/// A subscriber that does not read, for whom so much waits that not all of it can be in the system's buffers. All of it has
/// reached the subscriber's shard if that is the witness's too.
fn fill(addr: SocketAddr, messages: usize, bytes: usize) -> Client {
    let mut slow = connect(addr, "slow");
    slow.subscribe("t", 0);
    let mut publisher = connect(addr, "publisher");
    // On the same shard, behind the same messages.
    let mut witness = connect(addr, "slow-too");
    witness.subscribe("t", 0);
    for _ in 0..messages {
        publisher.publish("t", vec![b'x'; bytes], 0);
        assert_eq!(witness.recv_publish().payload.len(), bytes);
    }
    slow
}

/// Runs to the end; gives what was printed, on both streams.
fn run(command: &mut Command) -> (ExitStatus, String) {
    let mut process = Process::spawn(command);
    let status = process.wait();
    (status, process.output())
}

/// Starts a broker and waits until it is ready.
fn start(command: &mut Command) -> Process {
    let process = Process::spawn(command);
    process.await_output(|output| output.lines().any(|line| line == "ready").then_some(()));
    process
}

fn stop(broker: &mut Process) {
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0));
}

fn listening(broker: &Process) -> Vec<SocketAddr> {
    addresses(&broker.output())
}

fn addresses(output: &str) -> Vec<SocketAddr> {
    let lines = output.lines();
    lines
        .filter_map(|line| line.strip_prefix("listening on "))
        .map(|addr| addr.parse().expect("ADDR:PORT"))
        .collect()
}

/// What the start-up block says about this.
fn value(output: &str, name: &str) -> String {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("  ")?.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {output}"))
        .trim()
        .to_owned()
}

fn connect(addr: SocketAddr, id: &str) -> Client {
    let mut client = Client::dial(addr);
    client.connect(&Connect::new(id));
    client
}

/// A message goes through.
fn serves(addr: SocketAddr) {
    let mut client = connect(addr, "client");
    client.subscribe("t", 1);
    client.publish("t", "x", 0);
    client.expect_message("t", "x", 0);
}

fn a_usable_core() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .expect("a line of every kernel");
    let first = list.trim().split(['-', ',']).next().expect("at least one");
    first.to_owned()
}
