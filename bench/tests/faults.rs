//! The counts must be able to fail: a floor that drops, duplicates, swaps or corrupts every Nth message is caught by
//! each scenario that can see it, and an honest floor by none.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

const BENCH: &str = env!("CARGO_BIN_EXE_ringmq-bench");

/// A floor server, ended when dropped.
struct Floor {
    process: Child,
    port: String,
}

impl Floor {
    fn start(kind: &str, faults: &[&str]) -> Floor {
        let mut process = Command::new(BENCH)
            .args(["floor", kind, "--port", "0"])
            .args(faults)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the floor starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("it says where it listens");
        let port = line
            .trim()
            .rsplit(':')
            .next()
            .expect("the line ends in a port")
            .to_owned();
        Floor { process, port }
    }

    /// Runs a scenario against it; the report is on standard output.
    fn run(&self, scenario: &str) -> Output {
        Command::new(BENCH)
            .args(scenario.split(' '))
            .args(["-p", &self.port, "--drain", "300ms", "--json", "-"])
            .output()
            .expect("the tool runs")
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `scenario` against a floor with `faults`; the exit status, and the report's counts.
fn verdict(kind: &str, faults: &[&str], scenario: &str) -> (i32, serde_json::Value) {
    let output = Floor::start(kind, faults).run(scenario);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{scenario}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
    (
        output.status.code().expect("it exits by itself"),
        report["verdict"].clone(),
    )
}

/// Every fault of messages must show in its count, and end in exit status 1.
fn catches(scenario: &str, faults: &[(&str, &str)]) {
    for &(fault, count) in faults {
        let (status, verdict) = verdict("fan", &[fault, "50"], scenario);
        assert_eq!(status, 1, "{scenario} with {fault}: {verdict}");
        assert!(
            verdict[count].as_u64() > Some(0),
            "{scenario} with {fault}, no {count}: {verdict}"
        );
    }
}

const ALL: [(&str, &str); 4] = [
    ("--drop", "lost"),
    ("--duplicate", "duplicated"),
    ("--swap", "reordered"),
    ("--corrupt", "corrupt"),
];

#[test]
fn pairs_catches_every_fault() {
    catches("pairs -c 4 -q 1 -L 2000", &ALL);
    catches("pairs -c 4 -q 2 -L 2000", &ALL);
}

#[test]
fn fanin_catches_every_fault() {
    catches("fanin -c 4 -q 1 -L 2000", &ALL);
}

#[test]
fn fanout_catches_every_fault() {
    catches("fanout -c 5 -q 1 -L 400", &ALL);
}

#[test]
fn telemetry_catches_every_fault() {
    catches("telemetry -c 40 -L 2000", &ALL);
}

#[test]
fn sharedsub_catches_every_fault() {
    catches("sharedsub -c 4 -q 1 -L 2000", &ALL);
}

#[test]
fn latency_catches_every_fault() {
    catches("latency -c 4 -q 1 -L 2000 --rate 20000", &ALL);
}

#[test]
fn suite_catches_every_fault() {
    catches("suite p2p-10-10-10-2K --warmup 0 --duration 500ms", &ALL);
}

#[test]
fn subs_catches_what_its_messages_show() {
    // Each filter has its own topic, and between topics there is no order to break.
    catches("subs -c 500 --subscribers 5", &[ALL[0], ALL[1], ALL[3]]);
}

#[test]
fn retained_catches_what_its_messages_show() {
    catches("retained -c 200 --subscribers 3", &[ALL[0], ALL[1], ALL[3]]);
}

#[test]
fn ingest_catches_wrong_acknowledgements() {
    let faults = [
        ("--drop", "unacknowledged"),
        ("--duplicate", "acks_unexpected"),
        ("--swap", "acks_reordered"),
        ("--corrupt", "acks_unexpected"),
    ];
    for (fault, count) in faults {
        let (status, verdict) = verdict("ack", &[fault, "50"], "ingest -c 4 -q 1 -L 2000");
        assert_eq!(status, 1, "{fault}: {verdict}");
        assert!(verdict[count].as_u64() > Some(0), "{fault}, no {count}: {verdict}");
    }
}

#[test]
fn refused_connections_fail_a_storm() {
    let (status, verdict) = verdict("sink", &["--refuse", "10"], "connect -c 5 --warmup 0 --duration 300ms");
    assert_eq!((status, verdict["broken"].as_u64() > Some(0)), (1, true), "{verdict}");
}

#[test]
fn silent_connections_fail_idle() {
    let (status, verdict) = verdict("sink", &["--mute", "10"], "idle -c 20 --warmup 0 --duration 100ms");
    assert_eq!((status, verdict["silent"].as_u64()), (1, Some(2)), "{verdict}");
}

#[test]
fn an_honest_floor_passes_everything() {
    let scenarios = [
        "pairs -c 4 -q 0 -L 2000",
        "pairs -c 4 -q 1 -L 2000 --threads 2",
        "pairs -c 4 -q 2 -L 2000 -F 7",
        "fanin -c 4 -q 2 -L 2000",
        "fanout -c 5 -q 2 -L 200",
        "telemetry -c 40 -L 2000",
        "sharedsub -c 4 -q 1 -L 2000 --threads 2",
        "latency -c 4 -q 1 -L 1000 --rate 20000",
        "subs -c 500 --subscribers 5",
        "retained -c 200 --subscribers 3",
        "ingest -c 4 -q 2 -L 2000",
        "connect -c 5 -L 100",
        "idle -c 20 --warmup 0 --duration 100ms",
        "conn -c 20 -i 1 --duration 100ms",
        "pub -c 4 -I 1 -L 200 -t bench/%i -s 256 -q 1",
        "suite fanout-5-10-5-1K --warmup 0 --duration 300ms",
        "suite conn-tcp-1K-10K --scale 0.02 --warmup 0 --duration 100ms",
    ];
    let floor = Floor::start("fan", &[]);
    for scenario in scenarios {
        let output = floor.run(scenario);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{scenario}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
        let verdict = &report["verdict"];
        for count in ["lost", "duplicated", "reordered", "corrupt", "stray", "unacknowledged"] {
            assert_eq!(verdict[count], 0, "{scenario}: {verdict}");
        }
    }
}

#[test]
fn what_is_published_is_what_is_expected() {
    let (_, pairs) = verdict("fan", &[], "pairs -c 4 -q 1 -L 2000");
    assert_eq!(
        (&pairs["published"], &pairs["expected"], &pairs["delivered"]),
        (&2000.into(), &2000.into(), &2000.into())
    );
    let (_, fanout) = verdict("fan", &[], "fanout -c 5 -q 1 -L 400");
    assert_eq!(
        (&fanout["published"], &fanout["expected"], &fanout["delivered"]),
        (&400.into(), &2000.into(), &2000.into())
    );
}

#[test]
fn dropped_qos_0_messages_are_counted_and_allowed() {
    let (status, verdict) = verdict("fan", &["--drop", "50"], "pairs -c 4 -q 0 -L 2000");
    assert_eq!((status, verdict["lost"].as_u64()), (0, Some(40)), "{verdict}");
}

#[test]
fn a_broker_that_is_not_there_is_no_run() {
    let output = Command::new(BENCH)
        .args(["pairs", "-p", "1"])
        .output()
        .expect("the tool runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "nothing was measured");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("refused"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn sub_follows_publishers_of_another_process() {
    let floor = Floor::start("fan", &[]);
    let mut publishers = Command::new(BENCH)
        .args("pub -c 4 -i 1 -I 5 -q 1 -t bench/%i --quiet".split(' '))
        .args(["-p", &floor.port])
        .spawn()
        .expect("the tool runs");
    // Nobody to wait for: messages flow until the subscriber has seen some.
    let output = floor.run("sub -c 2 -i 1 -q 1 -t bench/# --duration 2s");
    publishers.kill().expect("publishers run until they are stopped");
    let _ = publishers.wait();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    let verdict = &report["verdict"];
    assert_eq!(output.status.code(), Some(0), "{verdict}");
    assert!(verdict["delivered"].as_u64() > Some(0), "{verdict}");
    assert_eq!(
        (&verdict["lost"], &verdict["foreign"]),
        (&0.into(), &0.into()),
        "{verdict}"
    );
}
