//! The admin listener: metrics, health, who may ask, and what a client of it cannot do to the broker.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::*;

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

/// Counters are those of a load of known size. The broker runs with `--sys-interval 0`: nothing but the request itself makes the
/// numbers.
#[test]
fn metrics_are_what_was_sent_and_received() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        let before = broker.metrics();
        let last = broker.shards - 1;
        let mut subscribers = [broker.connect("sub"), broker.connect(&broker.id_on(last, "other"))];
        for subscriber in &mut subscribers {
            subscriber.subscribe("load/#", 2);
        }
        let mut publisher = broker.connect("pub");
        let mut bytes = 0;
        for n in 0..100_u8 {
            for qos in 0..3 {
                let topic = format!("load/{n}");
                publisher.publish(&topic, [n; 50], qos);
                bytes += 2 + 2 + topic.len() as u64 + 50 + if qos > 0 { 2 } else { 0 };
                for subscriber in &mut subscribers {
                    subscriber.expect_message(&topic, [n; 50], qos);
                }
            }
        }
        publisher.retain("kept", "x", 1);
        for subscriber in &mut subscribers {
            subscriber.ping();
        }
        let after = broker.metrics();
        let rise = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
        for (qos, received) in [("0", 100), ("1", 101), ("2", 100)] {
            let of_qos = [("qos", qos)];
            assert_eq!(rise("ringmq_messages_received_total", &of_qos), received);
            assert_eq!(rise("ringmq_messages_sent_total", &of_qos), 200);
        }
        let received = rise("ringmq_received_bytes_total", &[]);
        assert!((bytes..bytes * 2).contains(&received), "{received} of {bytes}");
        assert!(rise("ringmq_sent_bytes_total", &[]) >= 2 * bytes);
        assert_eq!(rise("ringmq_messages_dropped_total", &[]), 0);
        assert_eq!(rise("ringmq_connects_accepted_total", &[]), 3);
        assert_eq!(rise("ringmq_sockets_accepted_total", &[]), 3);
        assert_eq!(after.sum("ringmq_connections", &[]), 3);
        assert_eq!(after.sum("ringmq_clients_connected", &[]), 3);
        assert_eq!(after.sum("ringmq_sessions", &[]), 3);
        assert_eq!(after.sum("ringmq_subscriptions", &[]), 2);
        assert_eq!(after.sum("ringmq_retained_messages", &[]), 1);
        assert_eq!(after.sum("ringmq_retained_bytes", &[]), 5);
        assert_eq!(after.sum("ringmq_queued_messages", &[]), 0);
        assert_eq!(after.sum("ringmq_inflight_messages", &[]), 0);
        assert_eq!(after.sum("ringmq_shard_up", &[]), u64::from(broker.shards));
        // Where each client lives is known, and so which shard counts it.
        let of_last = [("shard", &*last.to_string())];
        assert_eq!(after.sum("ringmq_messages_received_total", &of_last), 301);
        if broker.shards > 1 {
            assert_eq!(rise("ringmq_messages_forwarded_total", &[]), 300);
            assert_eq!(after.sum("ringmq_messages_received_total", &[("shard", "0")]), 0);
        }
        assert!(rise("ringmq_socket_reads_total", &[]) > 300);
        assert!(rise("ringmq_turns_total", &[]) > 300);
    });
}

#[test]
fn drops_are_told_by_reason_and_turns_by_their_length() {
    on_shards(
        &[1, 3],
        &[&ADMIN[..], &["--max-queued-messages", "5"]].concat(),
        |broker| {
            let (mut subscriber, _) = broker.resume("sub");
            subscriber.subscribe("t", 1);
            subscriber.disconnect();
            let mut publisher = broker.connect("pub");
            for n in 0..12_u8 {
                publisher.publish("t", [n], 1);
            }
            // An acknowledgement says that the subscriber's shard has it in its inbox, not that it has looked at it.
            let metrics = broker.await_metrics(|metrics| metrics.sum("ringmq_messages_dropped_total", &[]) == 7);
            let dropped = |reason| metrics.sum("ringmq_messages_dropped_total", &[("reason", reason)]);
            assert_eq!((dropped("queue_full"), dropped("output_full")), (7, 0));
            assert_eq!(metrics.sum("ringmq_queued_messages", &[("shard", "0")]), 5);
            for shard in 0..broker.shards {
                let shard = shard.to_string();
                let turns = metrics.0.samples.iter().find_map(|sample| match &sample.value {
                    prometheus_parse::Value::Histogram(counts) if sample.labels.get("shard") == Some(&shard) => {
                        Some(counts.clone())
                    }
                    _ => None,
                });
                let turns = turns.expect("a histogram for each shard");
                assert!(turns.windows(2).all(|two| two[0].less_than < two[1].less_than));
                assert!(turns.windows(2).all(|two| two[0].count <= two[1].count));
                let last = turns.last().expect("the bucket without a bound");
                assert!(last.less_than.is_infinite() && last.count > 0.0, "{last:?}");
            }
        },
    );
}

#[test]
fn a_scraper_gets_the_format_that_it_asks_for() {
    let broker = Broker::start(1, &ADMIN);
    let plain = broker.get("/metrics");
    assert_eq!(
        plain.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(
        plain.text().contains("# TYPE ringmq_received_bytes_total counter\n"),
        "{}",
        plain.text()
    );
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5";
    let open = broker.ask("GET", "/metrics", &[prometheus]);
    assert_eq!(
        open.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(open.text().ends_with("# EOF\n"));
    assert!(
        open.text()
            .contains("# TYPE ringmq_received_bytes counter\n# UNIT ringmq_received_bytes bytes\n")
    );
    let names = |answer: &Answer| {
        let mut names: Vec<String> = Metrics::parse(answer.text())
            .0
            .samples
            .into_iter()
            .map(|it| it.metric)
            .collect();
        names.retain(|name| !name.starts_with("ringmq_turn_duration_seconds"));
        names.dedup();
        names
    };
    assert_eq!(names(&plain), names(&open));
    let head = broker.ask("HEAD", "/metrics", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn a_shard_that_stands_still_makes_the_broker_unready_until_it_goes_on() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        assert_eq!(broker.get("/readyz").text(), "ready\n");
        assert_eq!(broker.get("/healthz").text(), "alive\n");
        let last = broker.shards - 1;
        let stall = broker.stall(last);
        let unready = broker.get("/readyz");
        assert_eq!(unready.status, 503);
        assert_eq!(
            unready.text(),
            format!("not ready: no answer within 1 s from shard {last}\n")
        );
        // It may come back: no reason to end the process yet.
        assert_eq!(broker.get("/healthz").status, 200);
        let metrics = broker.metrics();
        assert_eq!(metrics.sum("ringmq_shard_up", &[("shard", &last.to_string())]), 0);
        assert_eq!(metrics.sum("ringmq_shard_up", &[]), u64::from(last));
        let dead = broker.await_answer("/healthz", |answer| answer.status == 503);
        assert_eq!(dead.text(), format!("not alive: no turn for long on shard {last}\n"));
        drop(stall);
        broker.await_answer("/readyz", |answer| answer.status == 200);
        assert_eq!(broker.get("/healthz").status, 200);
        assert_eq!(broker.metrics().sum("ringmq_shard_up", &[]), u64::from(broker.shards));
    });
}

#[test]
fn a_broker_that_stops_is_not_ready() {
    let patient = [
        "--shutdown-timeout",
        "600",
        "--write-timeout",
        "3600",
        "--max-output-bytes",
        "100000000",
    ];
    let mut broker = Broker::start(2, &[&ADMIN[..], &patient].concat());
    // It does not read, and more waits for it than the system's buffers hold: the broker stops for as long as it is there.
    let mut lingering = broker.connect("sub");
    lingering.subscribe("t", 0);
    let mut publisher = broker.connect("pub");
    // On the same shard, behind the same messages.
    let mut witness = broker.connect(&broker.id_on(0, "witness"));
    witness.subscribe("t", 0);
    for _ in 0..300 {
        publisher.publish("t", [0; 64 * 1024], 0);
        witness.expect_message("t", [0; 64 * 1024], 0);
    }
    broker.process().signal("TERM");
    let answer = broker.await_answer("/readyz", |answer| answer.status == 503);
    assert_eq!(answer.text(), "not ready: the broker stops\n");
    drop(lingering);
    assert!(broker.process().wait().success());
}

#[test]
fn a_token_is_asked_for_by_everything_but_health() {
    let folder = Folder::new();
    let file = folder.write("token", "a-token-of-some-length\n");
    let broker = Broker::start(1, &[&ADMIN[..], &["--admin-token-file", &file]].concat());
    for path in ["/", "/healthz", "/readyz"] {
        assert_eq!(broker.get(path).status, 200, "{path}");
    }
    let status = |headers: &[&str]| broker.ask("GET", "/metrics", headers).status;
    assert_eq!(status(&["Authorization: Bearer a-token-of-some-length"]), 200);
    for wrong in [
        "Authorization: Bearer a-token-of-some-lengti",
        "Authorization: Bearer a-token-of-some-length-and-more",
        "Authorization: Bearer ",
        "Authorization: Basic a-token-of-some-length",
        "Accept: */*",
    ] {
        let refused = broker.ask("GET", "/metrics", &[wrong]);
        assert_eq!(refused.status, 401, "{wrong}");
        assert!(refused.headers["www-authenticate"].starts_with("Bearer"), "{refused:?}");
        assert!(!refused.text().contains("ringmq_"), "{refused:?}");
    }
    // Nothing here says what there is to those who may not ask.
    assert_eq!(broker.get("/no/such/thing").status, 401);

    folder.write("token", "another-token-of-length\n");
    hang_up(&broker, "reloaded");
    assert_eq!(status(&["Authorization: Bearer a-token-of-some-length"]), 401);
    assert_eq!(status(&["Authorization: Bearer another-token-of-length"]), 200);
    folder.write("token", "short");
    hang_up(&broker, "not reloaded");
    assert_eq!(status(&["Authorization: Bearer another-token-of-length"]), 200);
}

fn hang_up(broker: &Broker, says: &str) {
    let status = std::process::Command::new("kill")
        .args(["-s", "HUP", &broker.pid().to_string()])
        .status();
    assert!(status.expect("kill(1) is installed").success());
    broker.await_log(|line| line.contains(says));
}

/// A page in an operator's browser cannot ask by a name that it made point here.
#[test]
fn without_a_token_only_this_host_s_own_names_count() {
    let broker = Broker::start(1, &ADMIN);
    let admin = broker.admin();
    let status = |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        exchange(admin, request.as_bytes()).map(|answer| answer.status)
    };
    assert_eq!(status("evil.example"), Some(421));
    assert_eq!(status("localhost"), Some(200));
    assert_eq!(
        exchange(admin, b"GET /metrics HTTP/1.0\r\n\r\n").map(|answer| answer.status),
        Some(200)
    );
}

#[test]
fn what_is_not_there_or_not_allowed_is_said() {
    let broker = Broker::start(1, &ADMIN);
    assert_eq!(broker.get("/no/such/thing").status, 404);
    let refused = broker.ask("POST", "/metrics", &["Content-Length: 0"]);
    assert_eq!((refused.status, &*refused.headers["allow"]), (405, "GET, HEAD"));
    let body = broker.ask("POST", "/metrics", &["Content-Length: 1000000000"]);
    assert_eq!(body.status, 413);
    let chunked = broker.ask("GET", "/metrics", &["Transfer-Encoding: chunked"]);
    assert_eq!(chunked.status, 413);
}

/// Requests that are too large, or no requests, end their connection and nothing else.
#[test]
fn oversize_and_broken_requests_are_cut() {
    on_shards(&[1], &ADMIN, |broker| {
        let admin = broker.admin();
        let long_path = format!("GET /{} HTTP/1.1\r\nHost: {admin}\r\n\r\n", "x".repeat(100_000));
        let long_header = format!(
            "GET / HTTP/1.1\r\nHost: {admin}\r\nX: {}\r\n\r\n",
            "x".repeat(10_000_000)
        );
        let many_headers = format!("GET / HTTP/1.1\r\nHost: {admin}\r\n{}\r\n", "X: y\r\n".repeat(1_000));
        for request in [&long_path, &long_header, &many_headers] {
            let status = exchange(admin, request.as_bytes()).map(|answer| answer.status);
            assert!(matches!(status, None | Some(414 | 431)), "{status:?}");
        }
        for broken in [
            &b"\x00\x01\x02"[..],
            b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab",
            b"GET\r\n\r\n",
            b"\r\n\r\n\r\n",
        ] {
            let status = exchange_within(admin, broken);
            assert!(matches!(status, None | Some(400)), "{status:?}");
        }
        assert_eq!(broker.get("/readyz").status, 200);
    });
}

fn exchange_within(admin: std::net::SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok())
}

/// Clients that never finish a request keep nobody out, and are gone before long.
#[test]
fn slow_requests_keep_nobody_out() {
    on_shards(&[2], &ADMIN, |broker| {
        let admin = broker.admin();
        let begun = Instant::now();
        let mut slow: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
                stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").expect("sent");
                stream
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(broker.get("/metrics").status, 200);
        }
        let mut client = broker.connect("sub");
        client.subscribe("t", 0);
        client.publish("t", "x", 0);
        client.expect_message("t", "x", 0);
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        // The last ones had a place until now; a byte now and then does not prolong it.
        let last = slow.last_mut().expect("200 of them");
        let mut end = [0; 1];
        last.set_read_timeout(Some(Duration::from_millis(500)))
            .expect("not zero");
        while !matches!(last.read(&mut end), Ok(0)) {
            assert!(begun.elapsed() < PATIENCE, "the slow client is still connected");
            if last.write_all(b"x").is_err() {
                break;
            }
        }
        assert!(begun.elapsed() > Duration::from_secs(5), "it was given some time");
    });
}
