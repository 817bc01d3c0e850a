//! Who is let in where there is a password file: files that mosquitto_passwd and `ringmq passwd` write, with clients that
//! others wrote; what a refused client sees; reading the file again; and that verifying holds nobody up.

mod common;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::*;

/// `secret`, as mosquitto_passwd 2.0.11 wrote it.
const ANN: &str = "ann:$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==\n";
/// `password`, Argon2id with 64 MiB: slow enough that others are served meanwhile.
const SLOW: &str = "slow:$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\n";

const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
const RESUMED: [u8; 4] = [0x20, 2, 1, 0];
const BAD_CREDENTIALS: [u8; 4] = [0x20, 2, 0, 4];
const NOT_AUTHORIZED: [u8; 4] = [0x20, 2, 0, 5];

/// Each answer is what section 3.2.2.3 has for it, and after a refusal the connection closes.
///
/// [MQTT-3.2.2-5]
#[test]
fn right_password_comes_in_and_nothing_else_does() {
    let folder = Folder::new();
    let file = folder.write("passwords", ANN);
    each_broker_of(&["--password-file", &file], |broker| {
        for (connect, answer) in [
            (Connect::new("a").user("ann", "secret"), ACCEPTED),
            (Connect::new("b").user("ann", "Secret"), BAD_CREDENTIALS),
            (Connect::new("c").user("ann", ""), BAD_CREDENTIALS),
            (Connect::new("d").user("bob", "secret"), BAD_CREDENTIALS),
            (Connect::new("e").user("", "secret"), BAD_CREDENTIALS),
            (Connect::new("f"), NOT_AUTHORIZED),
            (Connect::new("").user("ann", "wrong"), BAD_CREDENTIALS),
            (Connect::new("").user("ann", "secret"), ACCEPTED),
        ] {
            let mut client = broker.dial();
            client.send(connect.encode());
            expect_answer(&mut client, answer);
            if answer == ACCEPTED {
                client.ping();
            } else {
                client.expect_close();
            }
        }
        let mut no_password = Connect::new("g").user("ann", "");
        no_password.password = None;
        let mut client = broker.dial();
        client.send(no_password.encode());
        expect_answer(&mut client, BAD_CREDENTIALS);
        let line = broker.await_log(|line| line.contains("bad_credentials"));
        assert!(line.contains("127.0.0.1:") && !line.contains("ecret"), "{line}");
    });
}

/// What follows CONNECT at once is handled after it, and a wrong password does not take the session over.
#[test]
fn session_is_untouched_until_the_password_is_right() {
    let folder = Folder::new();
    let file = folder.write("passwords", ANN);
    each_broker_of(&["--password-file", &file], |broker| {
        let mut owner = broker.dial();
        let mut bytes = Connect::resume("device").user("ann", "secret").encode();
        bytes.extend(wire::subscribe(1, &[("t", 1)]));
        bytes.extend(publish("t", "ahead").qos(1, 2).encode());
        owner.send(bytes);
        expect_answer(&mut owner, ACCEPTED);
        let codes = vec![1];
        let mut answers = [owner.recv(), owner.recv(), owner.recv()];
        answers.sort_by_key(|answer| matches!(answer, Packet::Publish(_)));
        assert!(answers.contains(&Packet::Suback { id: 1, codes }) && answers.contains(&Packet::Puback(2)));
        assert!(matches!(&answers[2], Packet::Publish(publish) if publish.payload == b"ahead"));
        for _ in 0..3 {
            let mut thief = broker.dial();
            thief.send(Connect::new("device").user("ann", "guess").encode());
            expect_answer(&mut thief, BAD_CREDENTIALS);
            thief.expect_close();
        }
        owner.ping();
        let mut again = broker.dial();
        again.send(Connect::resume("device").user("ann", "secret").encode());
        expect_answer(&mut again, RESUMED);
        owner.expect_close();
    });
}

/// With both, who gives a name must prove it, and who gives none comes in.
#[test]
fn anonymous_clients_come_in_only_where_a_listener_says_so() {
    let folder = Folder::new();
    let file = folder.write("passwords", ANN);
    let config = folder.write(
        "r.toml",
        format!(
            "shards = 2\npassword_file = \"{file}\"\n[[listener]]\nlisten = \"0.0.0.0:0\"\n\
             [[listener]]\nlisten = \"0.0.0.0:0\"\nallow_anonymous = true\n"
        ),
    );
    let mut broker = start(ringmq().args(["--config", &config]));
    let [closed, open] = addresses(&broker)[..] else {
        panic!("{}", broker.output())
    };
    for (at, connect, answer) in [
        (closed, Connect::new("a"), NOT_AUTHORIZED),
        (closed, Connect::new("a").user("ann", "secret"), ACCEPTED),
        (open, Connect::new("b"), ACCEPTED),
        (open, Connect::new("b").user("ann", "secret"), ACCEPTED),
        (open, Connect::new("b").user("ann", "guess"), BAD_CREDENTIALS),
    ] {
        let mut client = Client::dial(at);
        client.send(connect.encode());
        expect_answer(&mut client, answer);
    }
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn mosquitto_clients_come_in_with_a_file_of_mosquitto_passwd() {
    if !is_installed("mosquitto_pub") || !is_installed("mosquitto_passwd") {
        return;
    }
    let folder = Folder::new();
    let file = folder.path("passwords");
    for (user, password, create) in [("ann", "pass word", true), ("bob", "$ä:", false)] {
        let mut command = program("mosquitto_passwd");
        if create {
            command.arg("-c");
        }
        let status = command.args(["-b", &file, user, password]).status();
        assert!(status.expect("it is installed").success());
    }
    // Some releases make the file for the user that Mosquitto runs as.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a file of ours");
    each_broker_of(&["--password-file", &file], |broker| {
        assert!(mosquitto_pub(broker.addr, &["-u", "ann", "-P", "pass word"]));
        assert!(mosquitto_pub(broker.addr, &["-u", "bob", "-P", "$ä:", "-q", "2"]));
        assert!(!mosquitto_pub(broker.addr, &["-u", "bob", "-P", "pass word"]));
        assert!(!mosquitto_pub(broker.addr, &["-u", "eve", "-P", "pass word"]));
        assert!(!mosquitto_pub(broker.addr, &[]));
    });
}

#[test]
fn passwd_makes_changes_and_deletes_entries() {
    let folder = Folder::new();
    let file = folder.path("passwords");
    let passwd = |args: &[&str], password: &str| {
        let (status, output) = run_with_input(ringmq().args(["passwd", &file]).args(args), password);
        (status.code(), output.trim().to_owned())
    };
    let (code, output) = passwd(&["ann"], "one\n");
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("ann added") && output.contains("new"), "{output}");
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a file of ours");
    assert_eq!(
        passwd(&["bob", "--algorithm", "sha512-pbkdf2"], "two"),
        (Some(0), "user bob added".into())
    );
    let text = fs::read_to_string(&file).expect("it is there");
    assert!(text.starts_with("ann:$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
    assert!(text.contains("\nbob:$7$210000$"), "{text}");
    assert_eq!(passwd(&["ann"], "three\n"), (Some(0), "user ann changed".into()));
    assert_eq!(
        fs::metadata(&file).expect("it is there").permissions().mode() & 0o777,
        0o640,
        "the rights stay"
    );
    let broker = Broker::start(2, &["--password-file", &file]);
    for (user, password, answer) in [
        ("ann", "three", ACCEPTED),
        ("ann", "one", BAD_CREDENTIALS),
        ("bob", "two", ACCEPTED),
    ] {
        let mut client = broker.dial();
        client.send(Connect::new("a").user(user, password).encode());
        expect_answer(&mut client, answer);
    }
    if is_installed("mosquitto") {
        mosquitto_takes_our_file(&folder, &file);
    }
    assert_eq!(passwd(&["ann", "--delete"], ""), (Some(0), "user ann deleted".into()));
    let before = fs::read_to_string(&file).expect("it is there");
    assert!(!before.contains("ann:") && before.contains("bob:"), "{before}");
    for (args, input, expected) in [
        (&["ann", "-D"][..], "", "there is no user ann"),
        (&["a:b"], "x", "a user name has"),
        (&[""], "x", "a user name has"),
        (&["eve"], "\n", "empty password"),
        (&["eve", "--algorithm", "md5"], "x", "md5"),
    ] {
        let (code, output) = passwd(args, input);
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains(expected), "{output}");
    }
    assert_eq!(fs::read_to_string(&file).expect("it is there"), before);
    let other = folder.write("other", "[server]\nport = 1\n");
    let (status, output) = run_with_input(ringmq().args(["passwd", &other, "ann"]), "x");
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.contains(":1: a line is USER:HASH"), "{output}");
    assert_eq!(fs::read_to_string(&other).expect("it is there"), "[server]\nport = 1\n");
    assert_eq!(
        fs::read_dir(folder.as_path()).expect("ours").count(),
        2,
        "nothing else is left"
    );
}

/// A broker of Mosquitto lets the user in whose entry has the hash that it knows.
fn mosquitto_takes_our_file(folder: &Folder, file: &str) {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .port();
    let theirs: String = fs::read_to_string(file)
        .expect("it is there")
        .lines()
        .filter(|line| line.starts_with("bob:"))
        .collect();
    let passwords = folder.write("theirs", theirs + "\n");
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o644)).expect("a file of ours");
    fs::set_permissions(folder.as_path(), fs::Permissions::from_mode(0o755)).expect("a folder of ours");
    let config = folder.write(
        "mosquitto.conf",
        format!("listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"),
    );
    let theirs = Process::spawn(program("mosquitto").args(["-c", &config]));
    theirs.await_output(|output| output.contains("running").then_some(()));
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    assert!(mosquitto_pub(addr, &["-u", "bob", "-P", "two"]), "{}", theirs.output());
    assert!(
        !mosquitto_pub(addr, &["-u", "bob", "-P", "three"]),
        "{}",
        theirs.output()
    );
    drop(theirs);
    fs::remove_file(config).expect("ours");
    fs::remove_file(passwords).expect("ours");
}

/// Those who are connected stay; a file that cannot be used changes nothing.
#[test]
fn hangup_reads_the_file_again() {
    let folder = Folder::new();
    let file = folder.write("passwords", ANN);
    let mut broker = Broker::start(2, &["--password-file", &file]);
    let answer = |broker: &Broker, user: &str, password: &str| {
        let mut client = broker.dial();
        client.send(Connect::new("x").user(user, password).encode());
        client.recv()
    };
    let connack = |code| Packet::Connack {
        session_present: false,
        code,
    };
    let (mut connected, _) = broker.connect_as(&Connect::new("stays").user("ann", "secret"));
    folder.write("passwords", ANN.replace("ann:", "bob:"));
    broker.process().signal("HUP");
    broker.await_log(|line| line.contains("reloaded") && line.contains("users=1"));
    assert_eq!(answer(&broker, "ann", "secret"), connack(4));
    assert_eq!(answer(&broker, "bob", "secret"), connack(0));
    connected.ping();

    folder.write("passwords", format!("{ANN}carl:plain\n"));
    broker.process().signal("HUP");
    let line = broker.await_log(|line| line.contains("not reloaded"));
    assert!(
        line.contains("passwords:2: not a password hash") && !line.contains("plain"),
        "{line}"
    );
    assert_eq!(answer(&broker, "ann", "secret"), connack(4));
    assert_eq!(answer(&broker, "bob", "secret"), connack(0));
    connected.ping();
    broker.process().signal("TERM");
    assert_eq!(broker.process().wait().code(), Some(0));
}

#[test]
fn unusable_file_ends_with_2_and_its_line() {
    let folder = Folder::new();
    let bad = folder.write("passwords", "# ours\nann:secret\n");
    for task in [&["check"][..], &[]] {
        let (status, output) = run_with_input(ringmq().args(task).args(["--password-file", &bad]), "");
        assert_eq!(status.code(), Some(2), "{output}");
        assert!(output.starts_with(&format!("ringmq: {bad}:2: ")), "{output}");
        let (status, output) = run_with_input(ringmq().args(task).args(["--password-file", "/nowhere/p"]), "");
        assert_eq!(status.code(), Some(2), "{output}");
        assert!(output.starts_with("ringmq: /nowhere/p: "), "{output}");
    }
}

/// While one client is verified, others of the same shard go on; whoever comes when enough wait is told to come again.
#[test]
fn verifying_holds_nobody_up_and_waiting_is_bounded() {
    let folder = Folder::new();
    let file = folder.write("passwords", format!("{ANN}{SLOW}"));
    let broker = Broker::start(
        1,
        &[
            "--password-file",
            &file,
            "--auth-threads",
            "1",
            "--max-auth-waiting",
            "2",
        ],
    );
    let (mut connected, _) = broker.connect_as(&Connect::new("a").user("ann", "secret"));
    let mut waiting: Vec<Client> = (0..8)
        .map(|n| {
            let mut client = broker.dial();
            client.send(Connect::new(&format!("w{n}")).user("slow", "password").encode());
            client
        })
        .collect();
    for _ in 0..5 {
        connected.ping();
    }
    let answers: Vec<Packet> = waiting.iter_mut().map(Client::recv).collect();
    let count = |wanted| {
        answers
            .iter()
            .filter(|answer| matches!(answer, Packet::Connack { code, .. } if *code == wanted))
            .count()
    };
    let (accepted, refused) = (count(0), count(3));
    // One is verified and two wait, or three wait of whom one is taken out at once.
    assert!(accepted >= 2 && refused >= 1 && accepted + refused == 8, "{answers:?}");
    broker.await_log(|line| line.contains("authentication_unavailable"));
}

/// A client that is gone before its verdict leaves no session and no Will.
#[test]
fn client_that_is_gone_is_not_registered() {
    let folder = Folder::new();
    let file = folder.write("passwords", format!("{ANN}{SLOW}"));
    let broker = Broker::start(2, &["--password-file", &file]);
    let (mut watcher, _) = broker.connect_as(&Connect::new("watcher").user("ann", "secret"));
    watcher.subscribe("will", 1);
    for n in 0..3 {
        let mut gone = broker.dial();
        let connect = Connect::resume(&format!("gone{n}")).user("slow", "password");
        gone.send(connect.will(publish("will", "gone")).encode());
        gone.vanish();
    }
    // Verified after the others: their verdicts are there too.
    let mut last = broker.dial();
    last.send(Connect::new("last").user("slow", "password").encode());
    expect_answer(&mut last, ACCEPTED);
    for n in 0..3 {
        let mut again = broker.dial();
        again.send(Connect::resume(&format!("gone{n}")).user("ann", "secret").encode());
        expect_answer(&mut again, ACCEPTED);
    }
    watcher.expect_silence();
}

/// Runs the scenario with 1, 2 and 3 shards.
/// Who guesses cannot tell a wrong name from a wrong password by how long the refusal takes: a name that nobody has costs a hash too.
/// One that costs none is refused hundreds of times faster.
#[test]
fn a_wrong_name_takes_as_long_as_a_wrong_password() {
    let folder = Folder::new();
    let file = folder.write("passwords", SLOW);
    let broker = Broker::start(1, &["--password-file", &file]);
    let refused = |user: &str| {
        let begun = Instant::now();
        let mut client = broker.dial();
        client.send(Connect::new("guess").user(user, "wrong").encode());
        expect_answer(&mut client, BAD_CREDENTIALS);
        begun.elapsed()
    };
    let mut times: Vec<(Duration, Duration)> = (0..11).map(|n| (refused("slow"), refused(&format!("no{n}")))).collect();
    times.sort_by_key(|(there, _)| *there);
    let there = times[5].0;
    times.sort_by_key(|(_, not_there)| *not_there);
    let ratio = times[5].1.as_secs_f64() / there.as_secs_f64();
    assert!((0.4..2.5).contains(&ratio), "{ratio}: {times:?}");
}

fn each_broker_of(flags: &[&str], scenario: impl Fn(&Broker)) {
    for shards in [1, 2, 3] {
        scenario(&Broker::start(shards, flags));
    }
}

fn expect_answer(client: &mut Client, answer: [u8; 4]) {
    client.expect(&Packet::Connack {
        session_present: answer[2] == 1,
        code: answer[3],
    });
}

fn mosquitto_pub(addr: SocketAddr, args: &[&str]) -> bool {
    let port = addr.port().to_string();
    let output = program("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-t", "t", "-m", "m"])
        .args(args)
        .output()
        .expect("it is installed");
    output.status.success()
}

fn run_with_input(command: &mut Command, input: &str) -> (ExitStatus, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test");
    let mut stdin = child.stdin.take().expect("piped");
    // It may have ended before it wanted any.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("a child of ours");
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8(text).expect("text"))
}

fn start(command: &mut Command) -> Process {
    let process = Process::spawn(command);
    process.await_output(|output| output.lines().any(|line| line == "ready").then_some(()));
    process
}

fn addresses(broker: &Process) -> Vec<SocketAddr> {
    let output = broker.output();
    let lines = output.lines();
    lines
        .filter_map(|line| line.strip_prefix("listening on "))
        .map(|addr| addr.parse().expect("ADDR:PORT"))
        .collect()
}
