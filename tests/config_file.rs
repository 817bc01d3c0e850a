//! The configuration file: which value is in force, what is refused and how that is said, `ringmq check`, `ringmq config`.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use common::*;

#[test]
fn every_listener_of_the_file_serves_by_its_own_rules() {
    let file = Temporary::new(
        "shards = 2\nmax_inflight = 17\n\n[[listener]]\nlisten = \"127.0.0.1:0\"\n\n[[listener]]\nlisten = \"0.0.0.0:0\"\nallow_anonymous = true\n",
    );
    let mut broker = start(ringmq().arg("--config").arg(file.path()));
    let output = broker.output();
    assert!(output.contains("17 in flight"), "{output}");
    let addresses = listening(&output);
    let [one, other] = addresses[..] else {
        panic!("{output}")
    };
    assert!(!one.ip().is_unspecified() && other.ip().is_unspecified(), "{output}");
    let mut subscriber = connect(one, "sub");
    subscriber.subscribe("t", 1);
    connect(SocketAddr::from(([127, 0, 0, 1], other.port())), "pub").publish("t", "across", 1);
    subscriber.expect_message("t", "across", 1);
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0));
}

/// A flag goes before the environment, that before the file, and that before the default; `ringmq config` says so.
#[test]
fn precedence_is_flag_environment_file_default() {
    let file = Temporary::new(
        "max_inflight = 3\nmax_sessions = 3\nmax_retained = 3\nallow_anonymous = true\nlisten = [\"0.0.0.0:1\", \"[::]:1\"]\n",
    );
    let path = file.0.path("r.toml");
    let mut command = ringmq();
    command
        .args(["config", "--config", &path, "--max-inflight", "1"])
        .env("RINGMQ_MAX_INFLIGHT", "2")
        .env("RINGMQ_MAX_SESSIONS", "2");
    let (status, output) = run(&mut command);
    assert!(status.success(), "{output}");
    for (expected, source) in [
        ("max_inflight = 1", "flag".to_owned()),
        ("max_sessions = 2", "RINGMQ_MAX_SESSIONS".to_owned()),
        ("max_retained = 3", format!("{path}:3")),
        ("allow_anonymous = true", format!("{path}:4")),
        ("listen = [\"0.0.0.0:1\", \"[::]:1\"]", format!("{path}:5")),
        ("max_connections = 100000", "default".to_owned()),
        ("slow_subscriber = \"drop-newest\"", "default".to_owned()),
    ] {
        let line = output.lines().find(|line| line.starts_with(expected));
        let line = line.unwrap_or_else(|| panic!("no {expected} in {output}"));
        assert_eq!(line.split('#').nth(1).map(str::trim), Some(source.as_str()), "{line}");
    }
    assert!(
        output.contains("# shards is not set: one per core that the process may use"),
        "{output}"
    );

    let (status, output) = run(command.arg("--allow-anonymous=no"));
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.contains(&format!("{path}:5: --listen 0.0.0.0:1 ")), "{output}");
}

/// What it prints is a configuration file, and means the same.
#[test]
fn printed_configuration_reads_back_as_itself() {
    let file = Temporary::new(
        "allow_anonymous = true\nlog = \"json/warn\"\ncores = \"0\"\n[[listener]]\nlisten = \"127.0.0.1:1\"\nallow_anonymous = false\n\
         [[listener]]\nlisten = \"192.0.2.1:1\"\n",
    );
    let values = |output: &str| -> Vec<String> {
        let lines = output
            .lines()
            .map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned());
        lines.collect()
    };
    let (status, first) = run(ringmq().args(["config", "--config"]).arg(file.path()));
    assert!(status.success(), "{first}");
    assert_eq!(first.matches("[[listener]]").count(), 2, "{first}");
    let printed = Temporary::new(&first);
    let (status, second) = run(ringmq().args(["config", "--config"]).arg(printed.path()));
    assert!(status.success(), "{second}");
    assert_eq!(values(&first), values(&second));

    // An address on the command line takes the place of all in the file.
    let (status, output) = run(ringmq()
        .args(["config", "--listen", "127.0.0.1:7", "--config"])
        .arg(file.path()));
    assert!(status.success() && !output.contains("[[listener]]"), "{output}");
    assert!(output.contains("listen = \"127.0.0.1:7\""), "{output}");
}

#[test]
fn check_judges_and_does_not_start() {
    let good = Temporary::new("listen = \"127.0.0.1:0\"\nshards = 1\n");
    let (status, output) = run(ringmq().args(["check", "--config"]).arg(good.path()));
    assert_eq!((status.code(), output.trim()), (Some(0), "the configuration is good"));

    for (text, line, expected) in [
        ("max_inflght = 1\n", 1, "did you mean max_inflight?"),
        ("\n\nmax_inflight = 0\n", 3, "--max-inflight must be 1 to 65535, not 0"),
        ("shards = \"two\"\n", 1, "invalid value 'two' for shards"),
        ("shards = 1\nx = [\n", 2, "unclosed array"),
        (
            "max_packet_size = 1000\nmax_connect_size = 2000\n",
            2,
            "--max-connect-size 2000 is more than --max-packet-size 1000 (--max-packet-size: ",
        ),
        (
            "[[listener]]\nlisten = \"192.0.2.1:1\"\n",
            2,
            "add --password-file, or --allow-anonymous",
        ),
        (
            "[[listener]]\nlisten = \"127.0.0.1:1\"\n[[listener]]\nlisten = \"127.0.0.1:1\"\n",
            4,
            "given twice",
        ),
    ] {
        let bad = Temporary::new(text);
        let place = format!("ringmq: {}:{line}: ", bad.path().display());
        for task in [&["check"][..], &[], &["config"]] {
            let (status, output) = run(ringmq().args(task).arg("--config").arg(bad.path()));
            assert_eq!(status.code(), Some(2), "{text}: {output}");
            assert!(
                output.starts_with(&place) && output.contains(expected),
                "{text}: {output}"
            );
            assert_eq!(output.lines().count(), 1, "{output}");
        }
    }

    let (status, output) = run(ringmq().args(["check", "--config", "/nowhere/ringmq.toml"]));
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.starts_with("ringmq: /nowhere/ringmq.toml: "), "{output}");
    let (status, output) = run(ringmq().arg("check").env("RINGMQ_MAX_INFLIGHT", "0"));
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.starts_with("ringmq: RINGMQ_MAX_INFLIGHT: "), "{output}");
    let (status, output) = run(ringmq().args(["--shards", "1", "check"]));
    assert_eq!(status.code(), Some(2), "flags stand behind the command: {output}");
}

/// What the documents show as a configuration file is one. The certificates that it names need not be there to print it.
#[test]
fn documented_files_are_good() {
    let mut blocks = 0;
    for page in ["docs/configuration.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect(page);
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().expect("the block ends");
            let file = Temporary::new(block);
            let (status, output) = run(ringmq().args(["config", "--config"]).arg(file.path()));
            assert!(status.success(), "{page}: {block}\n{output}");
            blocks += 1;
        }
    }
    assert!(blocks > 0);
}

/// A configuration file that is gone with its test.
struct Temporary(Folder);

impl Temporary {
    fn new(text: &str) -> Temporary {
        let folder = Folder::new();
        folder.write("r.toml", text);
        Temporary(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.as_path().join("r.toml")
    }
}

fn run(command: &mut Command) -> (ExitStatus, String) {
    let mut process = Process::spawn(command);
    let status = process.wait();
    (status, process.output())
}

fn start(command: &mut Command) -> Process {
    let process = Process::spawn(command);
    process.await_output(|output| output.lines().any(|line| line == "ready").then_some(()));
    process
}

fn listening(output: &str) -> Vec<SocketAddr> {
    let lines = output.lines();
    lines
        .filter_map(|line| line.strip_prefix("listening on "))
        .map(|addr| addr.parse().expect("ADDR:PORT"))
        .collect()
}

fn connect(addr: SocketAddr, id: &str) -> Client {
    let mut client = Client::dial(addr);
    client.connect(&Connect::new(id));
    client
}
