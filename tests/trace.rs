//! Following a client or a topic in a running broker: by `ringmq trace`, and by whoever speaks HTTP; under load, with readers that
//! do not read, and without harm to anybody.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use serde_json::Value;

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

/// `ringmq trace`, once the broker follows.
fn trace(broker: &Broker, flags: &[&str]) -> Process {
    let before = following(broker);
    let admin = broker.admin().to_string();
    let process = Process::spawn(ringmq().args(["trace", "--admin-listen", &admin]).args(flags));
    broker.await_output(|output| (count_following(output) > before).then_some(()));
    process
}

fn following(broker: &Broker) -> usize {
    broker.log_lines(|line| line.contains("an operator follows")).len()
}

fn count_following(output: &str) -> usize {
    output
        .lines()
        .filter(|line| line.contains("an operator follows"))
        .count()
}

/// The answer to a request, line by line as it comes.
struct Lines(BufReader<TcpStream>);

impl Lines {
    fn open(broker: &Broker, query: &str) -> Lines {
        Lines::try_open(broker, query).expect("a trace begins")
    }

    /// The status and headers of a refusal, if it is one.
    fn try_open(broker: &Broker, query: &str) -> Result<Lines, String> {
        let admin = broker.admin();
        let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        // 1.0, so that there are no chunks between the lines.
        write!(stream, "POST /api/trace?{query} HTTP/1.0\r\nHost: {admin}\r\n\r\n").expect("it reads");
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).expect("a head") > 0, "{head}");
        }
        if head.contains(" 200 ") && head.contains("application/x-ndjson") {
            Ok(Lines(lines))
        } else {
            Err(head)
        }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).expect("a line") > 0, "the answer ended");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Reads until so many things were told or counted; gives both numbers.
    fn count_to(&mut self, expected: u64) -> (u64, u64) {
        let (mut told, mut untold) = (0, 0);
        while told + untold < expected {
            let line = self.next();
            match line["event"].as_str() {
                Some("untold") => untold += line["count"].as_u64().expect("a number"),
                Some("received" | "sent") => told += 1,
                _ => panic!("{line}"),
            }
        }
        assert_eq!(told + untold, expected, "each once");
        (told, untold)
    }
}

#[test]
fn the_command_tells_what_a_client_does() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        let id = broker.id_on(broker.shards - 1, "dev");
        // It is not there yet.
        let mut process = trace(broker, &["--client", &id, "--for", "3", "--payload", "5"]);
        let (mut dev, _) = broker.connect_as(&Connect::new(&id).user("ann", "hunter2"));
        dev.subscribe("plant/+", 1);
        let mut other = broker.connect("other");
        other.publish("plant/7", "21.5 degrees", 1);
        dev.expect_message("plant/7", "21.5 degrees", 1);
        dev.ping();
        dev.disconnect();
        assert!(process.wait().success());
        let output = process.output();
        let mut lines = output
            .lines()
            .map(|line| line.split_once(' ').expect("a time and more").1.to_owned());
        let mut expect = |text: &str| {
            let line = lines.next().unwrap_or_else(|| panic!("{text} is missing: {output}"));
            let line = line.strip_prefix(&format!("\"{id}\" ")).unwrap_or(&line).to_owned();
            assert!(line.starts_with(text), "{line} is not {text}");
        };
        expect("received CONNECT peer=\"127.0.0.1:");
        expect("sent CONNACK return_code=0");
        expect("received SUBSCRIBE packet_id=1 filters=[{\"filter\":\"plant/+\",\"qos\":1}]");
        expect("sent SUBACK packet_id=1 return_codes=[1]");
        expect("sent PUBLISH topic=\"plant/7\" qos=1 packet_id=1 payload_bytes=12 payload=\"21.5 \"");
        expect("received PUBACK packet_id=1");
        expect("received PINGREQ");
        expect("sent PINGRESP");
        expect("received DISCONNECT");
        expect("closed reason=\"disconnect\"");
        expect("10 told, 0 not told");
        assert!(
            !output.contains("hunter2") && output.contains("user_name=\"ann\""),
            "{output}"
        );
    });
}

#[test]
fn payloads_are_told_only_if_asked_for() {
    let broker = Broker::start(1, &ADMIN);
    let mut process = trace(&broker, &["--topic", "#", "--for", "1", "--json"]);
    broker.connect("p").publish("t", "secret", 1);
    assert!(process.wait().success());
    let output = process.output();
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{output}");
    assert_eq!(
        (&lines[0]["topic"], &lines[0]["payload_bytes"]),
        (&"t".into(), &6.into())
    );
    assert!(!output.contains("secret"));
}

/// Two publishers, one subscriber, QoS 1: all arrives, in order, whatever is followed meanwhile.
fn load(broker: &Broker, each: u32, payload_bytes: usize) {
    let mut subscriber = broker.connect("sub");
    subscriber.subscribe("load/#", 1);
    thread::scope(|scope| {
        for publisher in ["pub", "pub2"] {
            scope.spawn(move || {
                let mut client = broker.connect(publisher);
                for chunk in (0..each).collect::<Vec<_>>().chunks(50) {
                    let id = |n: u32| u16::try_from(n % 60_000 + 1).expect("it is smaller");
                    let bytes = chunk.iter().flat_map(|n| {
                        publish(&format!("load/{publisher}"), format!("{n:>payload_bytes$}"))
                            .qos(1, id(*n))
                            .encode()
                    });
                    client.send(bytes.collect::<Vec<_>>());
                    for n in chunk {
                        client.expect(&Packet::Puback(id(*n)));
                    }
                }
            });
        }
        let mut next = [0, 0];
        while next != [each, each] {
            let message = subscriber.recv_publish();
            subscriber.acknowledge(&message);
            let of = usize::from(message.topic == "load/pub2");
            let text = String::from_utf8_lossy(&message.payload).trim().to_owned();
            assert_eq!(text, next[of].to_string(), "{}", message.topic);
            next[of] += 1;
        }
    });
}

#[test]
fn under_load_everything_is_told_or_counted_once_and_nothing_is_lost() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        let each = 500;
        let mut all = Lines::open(broker, "topic=load/%23&rate=10000");
        let mut few = Lines::open(broker, "topic=load/%23&rate=10");
        let (switches, mut rounds) = (AtomicU64::new(0), 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while switches.load(Ordering::Relaxed) < 9 {
                    // On and off again, in the middle of everything; that a reader has gone may be noticed after the next one has come.
                    let query =
                        ["client=sub", "topic=%23", "client=pub"][switches.load(Ordering::Relaxed) as usize % 3];
                    let switched = Lines::try_open(broker, query).is_ok();
                    switches.fetch_add(switched.into(), Ordering::Relaxed);
                }
            });
            while rounds < 3 || switches.load(Ordering::Relaxed) < 9 {
                load(broker, each, 10);
                rounds += 1;
            }
        });
        let expected = 4 * rounds * u64::from(each);
        let (told, _) = all.count_to(expected);
        assert!(told > 500, "{told}");
        let (told, untold) = few.count_to(expected);
        assert!(told >= 10 && untold > told, "{told} {untold}");
    });
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_back() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        let each = 3_000;
        let mut slow = Lines::open(broker, "topic=load/%23&rate=10000&payload=4096");
        // 12,000 lines of 4 KiB and more: far beyond what sockets take.
        load(broker, each, 4_000);
        let (told, untold) = slow.count_to(4 * u64::from(each));
        assert!(told > 0 && untold > 0, "{told} {untold}");
    });
}

#[test]
fn a_trace_ends_with_its_reader_and_others_may_begin() {
    let broker = Broker::start(2, &ADMIN);
    let full = || -> Option<Answer> {
        let answer = broker.ask("POST", "/api/trace?client=x&seconds=1", &[]);
        (answer.status != 200).then_some(answer)
    };
    let eight: Vec<Lines> = (0..8).map(|_| Lines::open(&broker, "client=dev")).collect();
    let refused = full().expect("there are eight");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("8 traces go on already"), "{}", refused.text());
    // Nothing happens that would be told, and still it is seen that nobody reads.
    drop(eight);
    let deadline = Instant::now() + PATIENCE;
    while let Some(refused) = full() {
        assert!(Instant::now() < deadline, "{refused:?}");
        thread::sleep(Duration::from_millis(20));
    }
    broker.assert_well();
}

#[test]
fn what_is_no_trace_is_refused() {
    let broker = Broker::start(1, &ADMIN);
    for query in [
        "",
        "client=",
        "client=a&topic=b",
        "client=a&client=b",
        "topic=a%23",
        "topic=",
        "client=a&seconds=0",
        "client=a&seconds=3601",
        "client=a&payload=4097",
        "client=a&rate=0",
        "client=a&no=1",
    ] {
        assert_eq!(
            broker.ask("POST", &format!("/api/trace?{query}"), &[]).status,
            400,
            "{query}"
        );
    }
    assert_eq!(broker.get("/api/trace?client=a").status, 405);
    let foreign = broker.ask("POST", "/api/trace?client=a", &["Origin: http://evil.example"]);
    assert_eq!(foreign.status, 403);
    assert_eq!(following(&broker), 0);
}

#[test]
fn the_command_says_why_it_ends_early() {
    let folder = Folder::new();
    let token = folder.write("token", "0123456789abcdef\n");
    let mut broker = Broker::start(1, &[&ADMIN[..], &["--admin-token-file", &token]].concat());
    let admin = broker.admin().to_string();
    let run = |flags: &[&str]| {
        let mut process = Process::spawn(ringmq().arg("trace").args(flags));
        let status = process.wait();
        (status.code(), process.output())
    };
    let (code, said) = run(&["--client", "a", "--admin-listen", &admin]);
    assert!(code == Some(1) && said.contains("401"), "{said}");
    let (code, said) = run(&["--client", "a"]);
    assert!(code == Some(1) && said.contains("--admin-listen"), "{said}");
    let (code, said) = run(&["--admin-listen", &admin]);
    assert!(code == Some(2) && said.contains("--client"), "{said}");
    // Its own flags may stand anywhere among the settings, with and without an equals sign.
    let mut process = Process::spawn(ringmq().args([
        "trace",
        "--client=a",
        "--admin-listen",
        &admin,
        "--for",
        "60",
        "--json",
        "--admin-token-file",
        &token,
        "--payload=7",
    ]));
    let line = broker.await_log(|line| line.contains("an operator follows"));
    assert!(line.contains("name=\"a\"") && line.contains("seconds=60"), "{line}");
    broker.signal("TERM");
    assert_eq!(process.wait().code(), Some(1));
    assert!(
        process.output().contains("the broker has ended the answer"),
        "{}",
        process.output()
    );
    broker.process().wait();
}

/// hyper and curl agree about chunks; a scraper of 1.1 sees whole lines.
#[test]
fn an_answer_of_http_1_1_is_chunked() {
    let broker = Broker::start(1, &ADMIN);
    let answer = broker.ask("POST", "/api/trace?client=a&seconds=1", &[]);
    assert_eq!((answer.status, &*answer.headers["transfer-encoding"]), (200, "chunked"));
    assert!(
        answer.text().contains(r#"{"event":"end","told":0,"untold":0}"#),
        "{}",
        answer.text()
    );
    let mut rest = Vec::new();
    let admin = broker.admin();
    let mut stream = TcpStream::connect(admin).expect("it accepts");
    write!(stream, "HEAD /api/trace?client=a HTTP/1.1\r\nHost: {admin}\r\n\r\n").expect("it reads");
    stream.read_to_end(&mut rest).expect("it ends");
    assert!(rest.starts_with(b"HTTP/1.1 405"));
}
