//! `ringmq pub` and `ringmq sub`, against this broker and with clients of our own, and with Mosquitto's broker and clients on the
//! other side.

mod common;

use std::borrow::BorrowMut;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use common::tls::Authority;
use common::*;

/// `ann` with the password `secret`.
const ANN: &str = "ann:$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==\n";

/// What is published with one QoS arrives with each, at a subscriber of another shard too.
#[test]
fn every_qos_arrives_with_topic_and_payload() {
    on_shards(&[1, 3], &[], |broker| {
        for qos in ["0", "1", "2"] {
            for granted in ["0", "1", "2"] {
                let mut sub = subscribed(
                    broker,
                    &["-i", "sub", "-t", "q/#", "-t", "other", "-q", granted, "-v", "-C", "3"],
                );
                for (topic, text) in [("q/a", "one"), ("other", "two words"), ("q", "")] {
                    let how = if text.is_empty() { vec!["-n"] } else { vec!["-m", text] };
                    ok(publish_by(broker, &["-i", "pub", "-t", topic, "-q", qos]).args(how));
                }
                assert_eq!(sub.wait().code(), Some(0));
                assert_eq!(messages(&sub), ["q/a one", "other two words", "q "], "{qos} {granted}");
            }
        }
    });
}

/// All three packets that follow a QoS 2 PUBLISH are there before either client ends; nothing is left for the next.
#[test]
fn flows_are_complete_before_the_end() {
    on_shards(&[1, 3], &[], |broker| {
        let session = ["-i", "sub", "-c", "-t", "t", "-q", "2"];
        ok(sub(broker, &session).arg("-E"));
        for text in ["1", "2", "3", "4"] {
            let (status, said) = run(publish_by(broker, &["-t", "t", "-q", "2", "-d", "-m", text]));
            assert_eq!(status.code(), Some(0), "{said}");
            for packet in [
                "received PUBREC",
                "sending PUBREL",
                "received PUBCOMP",
                "sending DISCONNECT",
            ] {
                assert!(said.contains(packet), "{packet}: {said}");
            }
        }
        // Those beyond the count stay with the broker, and none comes twice.
        let (status, said) = run(sub(broker, &session).args(["-C", "1", "-d"]));
        assert_eq!(status.code(), Some(0), "{said}");
        let at = |packet: &str| said.find(packet).unwrap_or_else(|| panic!("{packet}: {said}"));
        assert!(at("sending PUBREC") < at("received PUBREL"), "{said}");
        assert!(at("sending PUBCOMP") < at("sending DISCONNECT"), "{said}");
        assert_eq!(ok(sub(broker, &session).args(["-C", "2"])), "2\n3\n");
        assert_eq!(ok(sub(broker, &session).args(["-C", "1", "-N"])), "4");
    });
}

#[test]
fn each_line_is_a_message_and_standard_input_may_be_one() {
    on_shards(&[1, 3], &[], |broker| {
        for qos in ["0", "1", "2"] {
            // More than the window of the publisher.
            let lines: Vec<String> = (0..300).map(|n| format!("line {n}")).collect();
            let mut sub = subscribed(broker, &["-i", "sub", "-t", "l", "-q", "2", "-C", "300"]);
            let said = fed(
                &mut publish_by(broker, &["-i", "pub", "-t", "l", "-q", qos, "-l"]),
                lines.join("\n").as_bytes(),
            );
            assert_eq!(said, (Some(0), String::new()));
            assert_eq!(sub.wait().code(), Some(0));
            assert_eq!(messages(&sub), lines);
        }
        let folder = Folder::new();
        let large = "x".repeat(1_000_000);
        let mut sub = subscribed(broker, &["-t", "s", "-C", "2"]);
        let said = fed(&mut publish_by(broker, &["-t", "s", "-q", "1", "-s"]), large.as_bytes());
        assert_eq!(said, (Some(0), String::new()));
        ok(publish_by(
            broker,
            &["-t", "s", "-q", "1", "-f", &folder.write("large", &large)],
        ));
        assert_eq!(sub.wait().code(), Some(0));
        assert!(messages(&sub) == [large.as_str(), &large]);
    });
}

#[test]
fn retained_messages_are_kept_left_out_and_removed() {
    on_shards(&[1, 3], &[], |broker| {
        ok(publish_by(broker, &["-t", "keep", "-q", "1", "-r", "-m", "kept"]));
        assert_eq!(ok(sub(broker, &["-t", "keep", "-C", "1"])), "kept\n");
        let mut without = subscribed(broker, &["-t", "keep", "-t", "go", "-R", "-C", "1"]);
        ok(publish_by(broker, &["-t", "go", "-q", "1", "-m", "live"]));
        assert_eq!(without.wait().code(), Some(0));
        assert_eq!(messages(&without), ["live"]);
        ok(publish_by(broker, &["-t", "keep", "-q", "1", "-r", "-n"]));
        let (status, said) = run(sub(broker, &["-t", "keep", "-W", "1"]));
        assert_eq!(status.code(), Some(27), "{said}");
        assert!(!said.contains("kept"), "{said}");
    });
}

#[test]
fn the_will_is_published_for_a_client_that_is_lost_and_for_no_other() {
    on_shards(&[1, 3], &[], |broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("last/#", 1);
        let will = [
            "-t",
            "x",
            "--will-topic",
            "last/words",
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
            "--will-retain",
        ];
        let mut asked = subscribed(broker, &will);
        asked.signal("TERM");
        assert_eq!(asked.wait().code(), Some(0));
        watcher.ping();
        let mut lost = subscribed(broker, &will);
        lost.signal("KILL");
        lost.wait();
        watcher.expect_message("last/words", "gone", 1);
        assert_eq!(ok(sub(broker, &["-t", "last/words", "-C", "1"])), "gone\n");
    });
}

#[test]
fn who_is_refused_is_told_and_the_password_is_not() {
    let folder = Folder::new();
    let users = folder.write("users", ANN);
    let broker = Broker::start(1, &["--password-file", &users]);
    let right = folder.write("right", "secret\nnot this\n");
    let as_ann = ["-t", "t", "-m", "x", "-q", "1", "-u", "ann", "-d"];
    for (flags, variable, code) in [
        (&["-P", "secret"][..], "", 0),
        (&["-P", "wr0ng"], "secret", 1),
        (&["--password-from", &right], "", 0),
        (&[], "secret", 0),
        (&[], "wr0ng", 1),
    ] {
        let (status, said) = run(publish_by(&broker, &as_ann)
            .args(flags)
            .env("RINGMQ_PASSWORD", variable));
        assert_eq!(status.code(), Some(code), "{said}");
        assert_eq!(said.contains("0x04, bad user name or password"), code == 1, "{said}");
        assert!(!said.contains("secret") && !said.contains("wr0ng"), "{said}");
    }
    let (status, said) = run(sub(&broker, &["-t", "t"]));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("0x05, not authorized"), "{said}");
}

#[test]
fn what_cannot_be_asked_for_ends_with_2_and_what_cannot_be_reached_with_1() {
    let broker = Broker::start(1, &[]);
    for flags in [
        &["-t", "t"][..],
        &["-t", "t", "-m", "x", "-l"],
        &["-t", "a/#", "-m", "x"],
        &["-t", "", "-m", "x"],
        &["-t", "t", "-m", "x", "-q", "3"],
        &["-t", "t", "-m", "x", "-c"],
        &["-t", "t", "-m", "x", "-P", "secret"],
        &["-t", "t", "-m", "x", "--will-payload", "x"],
        &["-t", "t", "-f", "/nowhere/file"],
    ] {
        let (status, said) = run(publish_by(&broker, flags));
        assert_eq!(status.code(), Some(2), "{flags:?}: {said}");
    }
    let (status, said) = run(sub(&broker, &["-t", "a/#/b"]));
    assert_eq!(status.code(), Some(2), "{said}");

    let nobody = TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("a free port");
    let port = nobody.port().to_string();
    let (status, said) = run(ringmq().args(["pub", "-h", "127.0.0.1", "-p", &port, "-t", "t", "-m", "x"]));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cannot connect to 127.0.0.1:"), "{said}");
}

#[test]
fn the_time_of_w_is_bounded_and_a_broker_that_goes_is_noticed() {
    let broker = Broker::start(1, &[]);
    let (status, said) = run(sub(&broker, &["-t", "silence", "-W", "1"]));
    assert_eq!(status.code(), Some(27), "{said}");
    assert!(said.contains("timed out"), "{said}");
    // It pings meanwhile, and the broker, which closes after one and a half Keep Alive, keeps it.
    let (status, said) = run(sub(&broker, &["-t", "silence", "-W", "5", "-k", "2", "-d"]));
    assert_eq!(status.code(), Some(27), "{said}");
    assert!(said.contains("received PINGRESP"), "{said}");
    let mut orphan = subscribed(&broker, &["-t", "t"]);
    drop(broker);
    assert_eq!(orphan.wait().code(), Some(1));
    assert!(orphan.output().contains("connection"), "{}", orphan.output());
}

/// Nothing comes from standard input for longer than the broker would wait for a client that does not ping.
#[test]
fn a_publisher_that_waits_for_its_next_line_keeps_its_connection() {
    let broker = Broker::start(1, &[]);
    let mut watcher = broker.connect("watcher");
    watcher.subscribe("t", 1);
    let mut child = publish_by(&broker, &["-t", "t", "-q", "1", "-l", "-k", "2"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the binary under test");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"early\n").expect("it reads");
    watcher.expect_message("t", "early", 1);
    thread::sleep(Duration::from_secs(5));
    stdin.write_all(b"late").expect("it reads");
    drop(stdin);
    watcher.expect_message("t", "late", 1);
    assert_eq!(child.wait().expect("a child of ours").code(), Some(0));
}

#[test]
fn a_broker_that_says_nothing_or_nonsense_is_told() {
    for (answer, expected) in [
        (&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 0][..], "does not answer PINGREQ"),
        (&[0x20, 2, 0, 0, 0xf0, 0], "is no packet"),
        (&[0x20, 2, 0, 0, 0x20, 2, 0, 0], "CONNACK where there was nothing"),
        (&[0xd0, 0], "PINGRESP where there was nothing"),
        (&[0x20, 2, 0], "closed the connection"),
        (&[], "closed the connection"),
    ] {
        let (port, server) = impostor(answer, expected.starts_with("closed"));
        let (status, said) = run(ringmq().args(["sub", "-h", "127.0.0.1", "-p", &port, "-t", "t", "-k", "1"]));
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
        server.join().expect("it does not panic");
    }
}

/// Before PUBREL the same identifier is the same message, whatever its DUP; after it another one.
#[test]
fn a_repeated_qos_2_message_is_printed_once() {
    let message = |text: &str| publish("t", text).qos(2, 7);
    let mut answer = vec![0x20, 2, 0, 0];
    answer.extend(message("one").encode());
    answer.extend(message("one").dup().encode());
    answer.extend(wire::pubrel(7));
    answer.extend(message("two").encode());
    answer.extend(wire::pubrel(7));
    let (port, server) = impostor(&answer, false);
    let said = ok(ringmq().args(["sub", "-h", "127.0.0.1", "-p", &port, "-t", "t", "-q", "2", "-C", "2"]));
    assert_eq!(said, "one\ntwo\n");
    let received = server.join().expect("it does not panic");
    let (rec, comp) = (wire::pubrec(7), wire::pubcomp(7));
    let expected = [&rec[..], &rec, &comp, &rec, &comp, DISCONNECT].concat();
    assert!(received.ends_with(&expected), "{received:02x?}");
}

#[test]
fn a_subscription_that_is_refused_is_told() {
    let folder = Folder::new();
    let acl = folder.write("acl", "topic read open/#\ntopic write open/#\n");
    let broker = Broker::start(1, &["--acl-file", &acl]);
    let (status, said) = run(sub(&broker, &["-t", "closed", "-E"]));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("refused every subscription"), "{said}");
    let (status, said) = run(sub(&broker, &["-t", "closed", "-t", "open/x", "-E"]));
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("refused the subscription to closed"), "{said}");
}

#[test]
fn tls_and_unix_sockets_carry_the_same() {
    let (folder, authority) = (Folder::new(), Authority::new("authority"));
    let settings = tls::settings(&folder, "server", &authority.server(&["localhost", "127.0.0.1"]));
    let clients = Authority::new("clients");
    let own = clients.client("ann");
    let path = folder.path("mqtt.sock");
    let settings = format!(
        "{settings}tls_client_ca = \"{}\"\ntls_client_certificates = \"required\"\n[[listener]]\nlisten = \"unix:{path}\"\n",
        folder.write("clients.pem", &clients.pem)
    );
    let [ca, cert, key] = [
        ("ca", &authority.pem),
        ("own.pem", &own.certificate),
        ("own.key", &own.key),
    ]
    .map(|(name, text)| folder.write(name, text));
    for shards in [1, 3] {
        let (broker, addr) = tls::start(shards, &folder, &settings, &[]);
        let port = addr.port().to_string();
        let shown = ["--cert", &cert, "--key", &key];
        let over_tls = ["-h", "localhost", "-p", &port, "--cafile", &ca];
        let large = "x".repeat(1_000_000);
        let mut sub = Process::spawn(ringmq().args(["sub", "--unix", &path, "-d", "-t", "t", "-q", "2", "-C", "1"]));
        sub.await_output(|output| output.contains("received SUBACK").then_some(()));
        let mut command = ringmq();
        command
            .arg("pub")
            .args(over_tls)
            .args(shown)
            .args(["-t", "t", "-q", "2", "-s"]);
        assert_eq!(fed(&mut command, large.as_bytes()), (Some(0), String::new()));
        assert_eq!(sub.wait().code(), Some(0));
        assert!(messages(&sub) == [large.as_str()]);

        let mut sub = Process::spawn(
            ringmq()
                .arg("sub")
                .args(over_tls)
                .args(shown)
                .args(["-d", "-t", "t", "-C", "1"]),
        );
        sub.await_output(|output| output.contains("received SUBACK").then_some(()));
        ok(ringmq().args(["pub", "--unix", &path, "-t", "t", "-q", "1", "-m", "back"]));
        assert_eq!(sub.wait().code(), Some(0));
        assert_eq!(messages(&sub), ["back"]);

        // Without a certificate, and with a broker that somebody else vouches for.
        let stranger = folder.write("stranger", &clients.pem);
        let distrustful = ["-h", "localhost", "-p", &port, "--cafile", &stranger];
        for flags in [&over_tls[..], &[&distrustful[..], &shown].concat()] {
            let (status, said) = run(ringmq().arg("pub").args(flags).args(["-t", "t", "-m", "x", "-q", "1"]));
            assert_eq!(status.code(), Some(1), "{said}");
        }
        broker.assert_well();
    }
}

/// Mosquitto's clients understand ours, and the other way round.
#[test]
fn mosquittos_clients_exchange_messages_with_ours() {
    if !is_installed("mosquitto_sub") {
        return;
    }
    let broker = Broker::start(2, &[]);
    let port = broker.addr.port().to_string();
    for qos in ["0", "1", "2"] {
        let mut theirs = Process::spawn(program("stdbuf").args([
            "-oL",
            "mosquitto_sub",
            "-p",
            &port,
            "-d",
            "-t",
            "m/#",
            "-q",
            qos,
            "-v",
            "-C",
            "1",
        ]));
        theirs.await_output(|output| output.contains("Subscribed").then_some(()));
        let mut ours = subscribed(&broker, &["-t", "m/#", "-q", qos, "-v", "-C", "2"]);
        ok(publish_by(&broker, &["-t", "m/ours", "-q", qos, "-m", "hello"]));
        assert_eq!(theirs.wait().code(), Some(0));
        assert!(
            theirs.output().lines().any(|line| line == "m/ours hello"),
            "{}",
            theirs.output()
        );
        ok(program("mosquitto_pub").args(["-p", &port, "-t", "m/theirs", "-q", qos, "-m", "hello"]));
        assert_eq!(ours.wait().code(), Some(0));
        assert_eq!(messages(&ours), ["m/ours hello", "m/theirs hello"]);
    }
}

#[test]
fn mosquittos_broker_serves_ours() {
    if !is_installed("mosquitto") {
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("a free port")
        .port();
    let broker = Process::spawn(program("mosquitto").args(["-v", "-p", &port.to_string()]));
    broker.await_output(|output| output.contains("running").then_some(()));
    let to = ["-h", "127.0.0.1", "-p", &port.to_string()];
    for qos in ["0", "1", "2"] {
        let mut sub = Process::spawn(
            ringmq()
                .arg("sub")
                .args(to)
                .args(["-d", "-t", "m", "-q", qos, "-C", "100"]),
        );
        sub.await_output(|output| output.contains("received SUBACK").then_some(()));
        let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let mut publisher = ringmq();
        publisher.arg("pub").args(to).args(["-t", "m", "-q", qos, "-l"]);
        assert_eq!(
            fed(&mut publisher, lines.join("\n").as_bytes()),
            (Some(0), String::new())
        );
        assert_eq!(sub.wait().code(), Some(0), "{}", sub.output());
        assert_eq!(messages(&sub), lines);
    }
}

fn client(broker: &Broker, command: &str, flags: &[&str]) -> Command {
    let mut client = ringmq();
    client.args([command, "-h", "127.0.0.1", "-p", &broker.addr.port().to_string()]);
    client.args(flags);
    client
}

fn sub(broker: &Broker, flags: &[&str]) -> Command {
    client(broker, "sub", flags)
}

fn publish_by(broker: &Broker, flags: &[&str]) -> Command {
    client(broker, "pub", flags)
}

/// A running subscriber whose SUBACK is there.
fn subscribed(broker: &Broker, flags: &[&str]) -> Process {
    let process = Process::spawn(sub(broker, flags).arg("-d"));
    process.await_output(|output| output.contains("received SUBACK").then_some(()));
    process
}

/// Something on a port that answers the first bytes of one client with these, whatever they are, and closes or waits for
/// it to go; gives all that came.
fn impostor(answer: &[u8], closes: bool) -> (String, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let answer = answer.to_vec();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let (mut received, mut chunk) = (Vec::new(), [0; 4096]);
        let len = socket.read(&mut chunk).expect("a CONNECT");
        received.extend(&chunk[..len]);
        socket.write_all(&answer).expect("it reads");
        if !closes {
            // However the client ends it.
            let _ = socket.read_to_end(&mut received);
        }
        received
    });
    (port, server)
}

/// What a subscriber with `-d` printed, without what that adds.
fn messages(process: &Process) -> Vec<String> {
    let output = process.output();
    let is_message = |line: &&str| !line.starts_with("sending ") && !line.starts_with("received ");
    output.lines().filter(is_message).map(str::to_owned).collect()
}

/// Runs to a good end; gives what was printed.
fn ok(mut command: impl BorrowMut<Command>) -> String {
    let command = command.borrow_mut();
    let (status, said) = run(&mut *command);
    assert_eq!(status.code(), Some(0), "{command:?}: {said}");
    said
}

/// Runs to the end; gives what was printed, on both streams.
fn run(mut command: impl BorrowMut<Command>) -> (ExitStatus, String) {
    let mut process = Process::spawn(command.borrow_mut());
    let status = process.wait();
    (status, process.output())
}

/// Runs with this on standard input, in two parts; gives the exit code and what was printed.
fn fed(command: &mut Command, input: &[u8]) -> (Option<i32>, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test");
    let mut stdin = child.stdin.take().expect("piped");
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            let (first, second) = input.split_at(input.len() / 2);
            stdin
                .write_all(first)
                .and_then(|()| stdin.write_all(second))
                .expect("it reads");
        });
        child.wait_with_output().expect("a child of ours")
    });
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}
