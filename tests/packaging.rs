//! What a package carries is what this broker takes: its settings, its unit, and the system calls that a container may make.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(packaged(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn packaged_settings_are_good() {
    let folder = Folder::new();
    folder.write("passwords", "");
    let here = folder.as_path().to_str().expect("text");
    for name in ["ringmq.toml", "docker/ringmq.toml"] {
        let path = folder.write("settings", text(name).replace("/etc/ringmq", here));
        let output = ringmq()
            .args(["check", "--config", &path])
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

/// The lines that are there to be taken into use, with files where they name some.
#[test]
fn packaged_settings_are_good_with_their_examples_in_use() {
    let folder = Folder::new();
    let server = tls::Authority::new("authority").server(&["localhost"]);
    folder.write("passwords", "");
    folder.write("acl", "topic readwrite #\n");
    folder.write("server.pem", server.certificate);
    folder.write("server.key", server.key);
    let settings: Vec<String> = text("ringmq.toml")
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with('[') || setting.contains(" = ") && !setting.starts_with(' ') => {
                setting
            }
            _ => line,
        })
        .map(|line| line.replace("/etc/ringmq", folder.as_path().to_str().expect("text")))
        .collect();
    assert!(settings.iter().any(|line| line.starts_with("tls_key")));
    let path = folder.write("ringmq.toml", settings.join("\n"));
    let output = ringmq()
        .args(["check", "--config", &path])
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}\n{}", settings.join("\n"));
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let unit = text("systemd/ringmq.service");
    let reload = "ExecReload=/usr/bin/ringmq reload --config /etc/ringmq/ringmq.toml";
    for line in ["Type=notify", reload, "WatchdogSec=30s"] {
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
    if !is_installed("systemd-analyze") {
        return;
    }
    let folder = Folder::new();
    // The program of the unit is not installed where this runs.
    let here = env!("CARGO_BIN_EXE_ringmq");
    let path = folder.write("ringmq.service", unit.replace("/usr/bin/ringmq", here));
    let output = Command::new("systemd-analyze").arg("verify").arg(&path).output();
    let output = output.expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    // Of this unit, whose manual is not installed either; what it says of others is the host's.
    let of_unit = |line: &&str| line.contains("ringmq") && !line.contains("Command 'man ");
    let complaints: Vec<&str> = said.lines().filter(of_unit).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    // The filter of system calls lets the rings through.
    let filter = Command::new("systemd-analyze")
        .args(["syscall-filter", "@aio"])
        .output();
    assert!(String::from_utf8_lossy(&filter.expect("it is installed").stdout).contains("io_uring_setup"));
}

#[test]
fn the_container_may_make_rings_and_little_else() {
    let profile: serde_json::Value = serde_json::from_str(&text("docker/seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().expect("rules");
    let allowed: Vec<&str> = rules
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null())
        .flat_map(|rule| rule["names"].as_array().expect("names"))
        .filter_map(serde_json::Value::as_str)
        .collect();
    for name in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "sched_setaffinity",
        "accept4",
        "futex",
    ] {
        assert!(allowed.contains(&name), "{name}");
    }
    for name in [
        "mount",
        "bpf",
        "ptrace",
        "unshare",
        "setns",
        "init_module",
        "keyctl",
        "userfaultfd",
        "clone",
        "clone3",
    ] {
        assert!(!allowed.contains(&name), "{name}");
    }
}
