//! What the broker tells a service manager, and the manual and completions that a package carries.

mod common;

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::stall::Stall;
use common::*;

/// A service manager as far as the broker sees one, and the broker that it started.
struct Service {
    socket: UnixDatagram,
    process: Process,
    _folder: Folder,
}

impl Service {
    fn start(shards: u16, environment: &[(&str, &str)], flags: &[&str]) -> Service {
        let folder = Folder::new();
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket in a temporary folder");
        socket.set_read_timeout(Some(PATIENCE)).expect("a duration");
        let mut command = ringmq();
        command
            .args(["--listen", "127.0.0.1:0", "--shards", &shards.to_string()])
            .args(flags);
        command.env("NOTIFY_SOCKET", path).envs(environment.iter().copied());
        let process = Process::spawn(&mut command);
        Service {
            socket,
            process,
            _folder: folder,
        }
    }

    /// The next message: lines of `NAME=VALUE`.
    fn told(&self) -> String {
        let mut message = [0; 1024];
        let length = self.socket.recv(&mut message).expect("the broker tells something");
        String::from_utf8(message[..length].to_vec()).expect("text")
    }

    /// The next message that is no pulse.
    fn told_beside_pulses(&self) -> String {
        loop {
            let told = self.told();
            if !told.contains("WATCHDOG=1") {
                return told;
            }
        }
    }
}

fn has_line(message: &str, line: &str) -> bool {
    message.lines().any(|it| it == line)
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop() {
    let folder = Folder::new();
    let acl = folder.write("acl", "topic readwrite #\n");
    let mut service = Service::start(2, &[], &["--acl-file", &acl]);
    assert!(has_line(&service.told(), "READY=1"));
    // What it was told is so: clients are served.
    let address = service.process.await_output(|output| {
        let line = output.lines().find_map(|line| line.strip_prefix("listening on "));
        line.map(str::to_owned)
    });
    TcpStream::connect(&address).expect("a listener");

    service.process.signal("HUP");
    let reloading = service.told();
    assert!(has_line(&reloading, "RELOADING=1"), "{reloading}");
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.is_some_and(|since| since.parse::<u64>().is_ok()), "{reloading}");
    let ready = service.told();
    assert!(
        has_line(&ready, "READY=1") && has_line(&ready, "STATUS=reloaded"),
        "{ready}"
    );

    folder.write("acl", "no such thing\n");
    service.process.signal("HUP");
    assert!(has_line(&service.told(), "RELOADING=1"));
    let ready = service.told();
    assert!(has_line(&ready, "READY=1"), "the old state goes on: {ready}");
    assert!(ready.contains("STATUS=a reload was refused"), "{ready}");

    service.process.signal("TERM");
    assert!(has_line(&service.told(), "STOPPING=1"));
    assert!(service.process.wait().success());
}

#[test]
fn the_watchdog_hears_nothing_while_a_shard_stands_still() {
    for shards in [1, 3] {
        // Four pulses in that time.
        let service = Service::start(shards, &[("WATCHDOG_USEC", "400000")], &[]);
        assert!(has_line(&service.told_beside_pulses(), "READY=1"));
        for _ in 0..5 {
            assert!(has_line(&service.told(), "WATCHDOG=1"));
        }
        let last = shards - 1;
        let stall = Stall::shard(service.process.id(), last);
        let line = format!("a shard does not answer: the service manager is not told that all is well shard={last}");
        service
            .process
            .await_output(|output| output.contains(&line).then_some(()));
        // The pulses from before.
        service.socket.set_nonblocking(true).expect("a socket");
        while service.socket.recv(&mut [0; 1024]).is_ok() {}
        service.socket.set_nonblocking(false).expect("a socket");
        service
            .socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a duration");
        let silence = service.socket.recv(&mut [0; 1024]);
        assert!(silence.is_err(), "a pulse though shard {last} stands still");

        drop(stall);
        service.socket.set_read_timeout(Some(PATIENCE)).expect("a duration");
        assert!(has_line(&service.told(), "WATCHDOG=1"));
    }
}

/// A manager that is gone, or never was, is no reason not to serve.
#[test]
fn without_a_manager_the_broker_serves_all_the_same() {
    let folder = Folder::new();
    let mut command = ringmq();
    command.args(["--listen", "127.0.0.1:0", "--shards", "1"]);
    let mut process = Process::spawn(command.env("NOTIFY_SOCKET", folder.path("nobody")));
    process.await_output(|output| output.lines().any(|line| line == "ready").then_some(()));
    process.await_output(|output| output.contains("the service manager cannot be told").then_some(()));
    process.signal("TERM");
    assert!(process.wait().success());
}

#[test]
fn manual_pages_name_every_flag_and_command() {
    let folder = Folder::new();
    let pages = folder.path("man");
    let written = ringmq().args(["man", &pages]).output().expect("the program runs");
    assert!(written.status.success(), "{written:?}");
    let page = std::fs::read_to_string(folder.path("man/ringmq.1")).expect("the page of the broker");
    let help = ringmq().arg("--help").output().expect("the program runs").stdout;
    let help = String::from_utf8(help).expect("text");
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
        .map(|word| word.split([',', '[', '=', '.']).next().expect("a first part"));
    let mut count = 0;
    for flag in flags {
        let name = flag.trim_start_matches("--").replace('-', "\\-");
        assert!(page.contains(&name), "{flag}");
        count += 1;
    }
    assert!(count > 40, "{count} flags in --help");
    for command in ["check", "config", "doctor", "passwd", "pub", "sub"] {
        let page = std::fs::read_to_string(folder.path(&format!("man/ringmq-{command}.1")));
        assert!(page.is_ok_and(|page| page.contains(".TH")), "{command}");
    }
}

#[test]
fn completions_are_what_the_shell_takes() {
    for shell in ["bash", "zsh", "fish"] {
        let output = ringmq()
            .args(["completions", shell])
            .output()
            .expect("the program runs");
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(script.contains("max-inflight") && script.contains("passwd"), "{shell}");
        // Every host has this one.
        if shell == "bash" {
            let folder = Folder::new();
            let path = folder.write("script", &script);
            let status = Command::new("bash").arg("-n").arg(path).status();
            assert!(status.expect("it is installed").success());
        }
    }
    let unknown = ringmq()
        .args(["completions", "tcl"])
        .output()
        .expect("the program runs");
    assert_eq!(unknown.status.code(), Some(2));
}
