//! `ringmq doctor`: what it says about a host that is good enough, one that is short of something, and one where the broker
//! would not start; and that broker and doctor agree.

mod common;

use std::net::TcpListener;
use std::process::{Command, ExitStatus};

use common::*;
use serde_json::Value;

const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--shards", "1"];

#[test]
fn a_good_host_has_a_line_for_each_check_and_0() {
    let (status, output) = run(doctor().args(FREE).args(["--max-connections", "10"]));
    assert_eq!(status.code(), Some(0), "{output}");
    for check in [
        "kernel",
        "io_uring",
        "memlock",
        "descriptors",
        "cores",
        "memory",
        "listener",
        "files",
    ] {
        assert!(line(&output, check).starts_with("ok "), "{output}");
    }
    for line in output.lines() {
        assert!(line.starts_with("ok ") || line.contains(". Remedy: "), "{line}");
    }
}

#[test]
fn a_taken_port_fails_with_the_remedy_and_the_rest_is_looked_at_all_the_same() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other.local_addr().expect("bound").to_string();
    let (status, output) = run(doctor().args(FREE).args(["--listen", &taken]));
    assert_eq!(status.code(), Some(1), "{output}");
    let lines: Vec<&str> = output.lines().filter(|line| line.contains(" listener ")).collect();
    let [free, refused] = lines[..] else { panic!("{output}") };
    assert!(free.starts_with("ok "), "{free}");
    assert!(
        refused.starts_with("FAIL ") && refused.contains(&format!("{taken} is taken")),
        "{refused}"
    );
    assert!(refused.contains("Remedy: stop it"), "{refused}");
    assert!(line(&output, "files").starts_with("ok "), "{output}");

    let (status, output) = run(doctor().args(FREE).args(["--admin-listen", &taken]));
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(line(&output, "admin").starts_with("FAIL "), "{output}");
}

#[test]
fn ports_are_let_go_and_none_is_left_behind() {
    let folder = Folder::new();
    let path = folder.path("mqtt.sock");
    let addr = TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("a free port");
    let (status, output) = run(doctor().args(["--listen", &format!("unix:{path}"), "--listen", &addr.to_string()]));
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(!std::fs::exists(&path).expect("a path that can be asked for"));
    TcpListener::bind(addr).expect("free again");
}

#[test]
fn few_descriptors_warn_and_too_few_fail() {
    for (limit, connections, code, verdict) in [
        ("300", "100000", 0, "warn "),
        ("300", "20", 0, "ok "),
        ("12", "20", 1, "FAIL "),
    ] {
        let mut command = limited("-n", limit);
        let (status, output) = run(command.args(FREE).args(["--max-connections", connections]));
        assert_eq!(status.code(), Some(code), "{output}");
        let line = line(&output, "descriptors");
        assert!(line.starts_with(verdict), "{line}");
        assert_eq!(line.contains("Remedy: raise the limit"), verdict != "ok ", "{line}");
        assert_eq!(line.contains("LimitNOFILE="), verdict != "ok ", "{line}");
    }
}

#[test]
fn little_locked_memory_fails_as_the_broker_does() {
    let (status, output) = run(limited("-l", "64").args(FREE));
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(line(&output, "memlock").starts_with("FAIL "), "{output}");
    let mut broker = Command::new("sh");
    broker.args(["-c", "ulimit -l 64 && exec \"$@\"", "sh"]);
    let (status, said) = run(broker.arg(ringmq().get_program()).args(FREE));
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("locked memory is limited to 64 KiB"), "{said}");
}

#[test]
fn shards_and_memory_are_held_against_the_host() {
    let (status, output) = run(doctor().args(["--listen", "127.0.0.1:0", "--shards", "1024"]));
    assert_eq!(status.code(), Some(0), "{output}");
    let cores = line(&output, "cores");
    assert!(cores.starts_with("warn ") && cores.contains("1024 shards"), "{cores}");

    let (status, output) = run(doctor().args(FREE).args(["--max-memory", &(1_u64 << 60).to_string()]));
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(line(&output, "memory").contains("lower --max-memory"), "{output}");
}

/// File, environment and flags count as for the broker, and `--json` may stand anywhere among them.
#[test]
fn json_says_the_same_of_the_same_settings() {
    let folder = Folder::new();
    let config = folder.write("ringmq.toml", "listen = \"127.0.0.1:0\"\nacl_file = \"/nowhere/acl\"\n");
    for flags in [&["--json", "--shards", "1"], &["--shards", "1", "--json"]] {
        let (status, output) = run(doctor()
            .args(["--config", &config])
            .args(flags)
            .env("RINGMQ_MAX_CONNECTIONS", "7"));
        assert_eq!(status.code(), Some(1), "{output}");
        let report: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
        assert_eq!(report["verdict"], "fail");
        let checks = report["checks"].as_array().expect("a list");
        let of = |name: &str| {
            checks
                .iter()
                .find(|it| it["check"] == name)
                .unwrap_or_else(|| panic!("{name}: {output}"))
        };
        assert_eq!(of("files")["verdict"], "fail");
        let found = of("files")["found"].as_str().expect("text");
        assert!(found.contains("/nowhere/acl"), "{found}");
        assert!(of("files")["remedy"].is_string());
        assert_eq!(of("listener")["found"], "127.0.0.1:0 is free");
        let descriptors = of("descriptors")["found"].as_str().expect("text");
        assert!(descriptors.contains("enough for 7 connections"), "{descriptors}");
    }
}

#[test]
fn settings_that_cannot_hold_are_refused_as_by_the_broker() {
    let (status, output) = run(doctor().args(["--shards", "0"]));
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.contains("--shards must be 1 to"), "{output}");
}

fn doctor() -> Command {
    let mut command = ringmq();
    command.arg("doctor");
    command
}

/// The doctor under a limit of the shell's `ulimit`, soft and hard.
fn limited(option: &str, limit: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {option} {limit} && exec \"$@\""), "sh"]);
    command.arg(ringmq().get_program()).arg("doctor");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGMQ_") {
            command.env_remove(name);
        }
    }
    command
}

/// What it says about this check.
fn line(output: &str, check: &str) -> String {
    let line = output
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(check));
    line.unwrap_or_else(|| panic!("no {check} in {output}")).to_owned()
}

/// Runs to the end; gives what was printed, on both streams.
fn run(command: &mut Command) -> (ExitStatus, String) {
    let mut process = Process::spawn(command);
    let status = process.wait();
    (status, process.output())
}
