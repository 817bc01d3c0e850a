//! What clients may publish and read where there is an access control list: on every way to a client, from the start and after
//! the list was read again under traffic; what a client that chooses its names gets; and the same decisions as Mosquitto.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use common::*;

/// `secret`, as mosquitto_passwd 2.0.11 wrote it; whose it is does not matter to it.
const HASH: &str =
    "$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==";

const OPEN: &str = "\
topic readwrite still/well
topic read $SYS/#

user sub
topic read open/#
topic read shut/#

user pub
topic readwrite #

user eve
topic read closed

pattern readwrite own/%u/%c/#
";

/// What `sub` may read of `shut` in the list above, it may not in this one, nor may `pub` write `closed`.
fn shut() -> String {
    OPEN.replace("topic read shut/#\n", "topic read shut/#\ntopic deny shut/#\n")
        .replace("topic readwrite #\n", "topic readwrite #\ntopic deny closed\n")
}

/// A broker with users `sub`, `pub` and `eve`, and its files.
struct Scene {
    folder: Folder,
    broker: Broker,
}

impl Scene {
    fn new(shards: u16, acl: &str, flags: &[&str]) -> Scene {
        let folder = Folder::new();
        let passwords = folder.write("passwords", passwords(&["sub", "pub", "eve"]));
        let acl = folder.write("acl", acl);
        let mut all = vec!["--password-file", &passwords, "--acl-file", &acl, "--allow-anonymous"];
        all.extend(flags);
        let broker = Broker::start(shards, &all);
        Scene { folder, broker }
    }

    /// Another list counts once this returns.
    fn replace(&mut self, acl: &str) {
        self.folder.write("acl", acl);
        let before = self.reloads();
        self.broker.process().signal("HUP");
        let is_more = |output: &str| (count(output, " reloaded") > before).then_some(());
        self.broker.await_output(is_more);
        // Each shard has been told; each of these waits until one of them has looked.
        for shard in 0..self.broker.shards {
            let id = self.broker.id_on(shard, "looks");
            self.broker.connect(&id).ping();
        }
    }

    fn reloads(&self) -> usize {
        self.broker.await_output(|output| Some(count(output, " reloaded")))
    }

    fn come(&self, user: &str, connect: Connect) -> Client {
        self.broker.connect_as(&connect.user(user, "secret")).0
    }

    fn publisher(&self) -> Client {
        self.come("pub", Connect::new("pub"))
    }
}

fn passwords(users: &[&str]) -> String {
    users.iter().fold(String::new(), |mut text, user| {
        writeln!(text, "{user}:{HASH}").expect("a String takes everything");
        text
    })
}

fn count(output: &str, what: &str) -> usize {
    output.matches(what).count()
}

/// To the topic that `sub` may read and to the one that it may lose; the client has its acknowledgement.
fn publish_both(client: &mut Client, text: &str, qos: u8) {
    client.publish("shut/x", text, qos);
    client.publish("open/x", text, qos);
}

#[test]
fn what_may_not_be_read_does_not_arrive() {
    for shards in [1, 3] {
        let mut scene = Scene::new(shards, OPEN, &["--max-inflight", "1"]);
        let mut publisher = scene.publisher();
        // Retained, while it may be read.
        publisher.retain("shut/kept", "1", 1);
        publisher.retain("open/kept", "1", 1);
        // In the queue of a client that is away; in flight at another; behind a full window at a third.
        let mut away = scene.come("sub", Connect::resume("sub"));
        away.subscribe("+/x", 1);
        away.vanish();
        let mut slow = scene.come("sub", Connect::resume("slow"));
        slow.subscribe("+/x", 1);
        let mut full = scene.come("sub", Connect::new("full"));
        full.subscribe("+/x", 1);
        publish_both(&mut publisher, "1", 1);
        let unacknowledged = full.recv_publish();
        assert_eq!(unacknowledged.topic, "shut/x");
        assert_eq!(slow.recv_publish().topic, "shut/x");
        slow.vanish();
        publisher.publish("shut/x", "2", 1);
        // A Will that may not be published any more when its client is lost.
        let will = publish("closed", "lost").qos(1, 0);
        let lost = scene.come("pub", Connect::new("lost").will(will));
        let mut watcher = scene.come("eve", Connect::new("watcher"));
        watcher.subscribe("closed", 1);

        scene.replace(&shut());
        lost.vanish();
        watcher.expect_silence();
        full.acknowledge(&unacknowledged);
        full.expect_message("open/x", "1", 1);
        full.expect_silence();
        for id in ["sub", "slow"] {
            let mut again = scene.come("sub", Connect::resume(id));
            again.expect_message("open/x", "1", 1);
            again.expect_silence();
        }
        // Live, and retained.
        publish_both(&mut publisher, "3", 0);
        publisher.publish("closed", "3", 2);
        full.expect_message("open/x", "3", 0);
        full.expect_silence();
        full.subscribe("#", 0);
        full.expect_retained("open/kept", "1", 0);
        full.expect_silence();
        watcher.expect_silence();
        let id = full.fresh_id();
        full.send(wire::subscribe(
            id,
            &[("shut/kept", 1), ("shut/#", 0), ("open/#", 1), ("$share/g/#", 1)],
        ));
        let codes = vec![0x80, 0x80, 1, 0x80];
        full.expect(&Packet::Suback { id, codes });
        full.expect_retained("open/kept", "1", 1);

        // Given back, without anybody coming again.
        scene.replace(OPEN);
        publish_both(&mut publisher, "4", 0);
        full.expect_message("shut/x", "4", 0);
        full.expect_message("open/x", "4", 0);
        scene.broker.assert_well();
    }
}

/// A client of `sub` that takes everything.
struct Reader {
    client: Client,
    /// Messages so far of each topic that may always be read.
    open: BTreeMap<String, usize>,
    /// Messages so far of topics that may not always be read.
    shut: usize,
}

impl Reader {
    /// Takes what is there. Writers count, so a message that is missing, doubled or out of order is seen.
    fn take(&mut self) {
        let (open, shut) = (&mut self.open, &mut self.shut);
        self.client.ping_among(|got| {
            if got.topic.starts_with("shut/") {
                *shut += 1;
                return;
            }
            let next = open.entry(got.topic.clone()).or_default();
            assert_eq!(got.payload, next.to_string().as_bytes(), "{}", got.topic);
            *next += 1;
        });
    }
}

/// Publishers never stop while the list changes: what may be read arrives complete and in order, nobody is disconnected, and after
/// the change nothing arrives that may not be read.
#[test]
fn list_is_replaced_under_traffic() {
    for shards in [1, 3] {
        let mut scene = Scene::new(shards, OPEN, &[]);
        let reader = |shard| {
            let mut client = scene.come("sub", Connect::new(&scene.broker.id_on(shard, "reader")));
            client.subscribe("#", 1);
            Reader {
                client,
                open: BTreeMap::new(),
                shut: 0,
            }
        };
        let mut readers: Vec<Reader> = (0..shards).map(reader).collect();
        let writers: Vec<Client> = (0..2)
            .map(|n| scene.come("pub", Connect::new(&format!("writer{n}"))))
            .collect();
        let stop = AtomicBool::new(false);
        let sent: Vec<usize> = thread::scope(|scope| {
            let running: Vec<_> = writers
                .into_iter()
                .enumerate()
                .map(|(n, client)| {
                    let stop = &stop;
                    scope.spawn(move || write_until(stop, client, n))
                })
                .collect();
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| change_list(&mut scene, &mut readers)));
            stop.store(true, Ordering::Relaxed);
            let sent = running.into_iter().map(|thread| thread.join());
            let sent = sent.collect::<Result<_, _>>().expect("no writer was disconnected");
            outcome.expect("nothing arrived that should not");
            sent
        });
        let until = Instant::now() + PATIENCE;
        for reader in &mut readers {
            // A PINGRESP does not wait for what waits for the window.
            loop {
                reader.take();
                let seen: Vec<usize> = reader.open.values().copied().collect();
                if seen == sent {
                    break;
                }
                assert!(Instant::now() < until, "{shards} shards: {seen:?} of {sent:?}");
            }
        }
    }
}

fn write_until(stop: &AtomicBool, mut client: Client, n: usize) -> usize {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        client.publish(&format!("shut/{n}"), sent.to_string(), 1);
        client.publish(&format!("open/{n}"), sent.to_string(), 1);
        sent += 1;
    }
    client.disconnect();
    sent
}

/// Takes the right to `shut` away and gives it back, three times, with a list that cannot be read in between.
fn change_list(scene: &mut Scene, readers: &mut [Reader]) {
    for turn in 1..=3 {
        scene.replace(&shut());
        let counts = |readers: &mut [Reader]| {
            let count = |reader: &mut Reader| {
                reader.take();
                reader.shut
            };
            readers.iter_mut().map(count).collect::<Vec<_>>()
        };
        // What had been sent to them when the list changed.
        let before = counts(readers);
        scene.folder.write("acl", "topic read #\nuser\n");
        scene.broker.process().signal("HUP");
        let refused = |output: &str| (count(output, "not reloaded") == turn).then_some(());
        scene.broker.await_output(refused);
        for _ in 0..5 {
            assert_eq!(counts(readers), before, "turn {turn}");
        }
        scene.replace(OPEN);
        while counts(readers).iter().zip(&before).any(|(now, before)| now == before) {}
    }
}

/// However a client calls itself, it gets its own topics or none.
#[test]
fn names_that_look_like_filters_open_nothing() {
    for shards in [1, 3] {
        let mut scene = Scene::new(shards, OPEN, &["--sys-interval", "1"]);
        let mut victim = scene.come("sub", Connect::new("victim"));
        victim.subscribe("own/sub/victim/#", 0);
        for id in [
            "+", "#", "victim/#", "+/#", "victim/x", "", "$SYS", "%c", "%u", "victim ",
        ] {
            let mut thief = scene.come("sub", Connect::new(id));
            for filter in ["own/sub/victim/#", "own/sub/victim/x", "own/pub/+/#", "$SYS/#"] {
                let packet = thief.fresh_id();
                thief.send(wire::subscribe(packet, &[(filter, 0)]));
                thief.expect(&Packet::Suback {
                    id: packet,
                    codes: vec![0x80],
                });
            }
            for filter in ["own/#", "own/+/victim/#", "own/sub/+/x", "#"] {
                // Some of it may be its own.
                let packet = thief.fresh_id();
                thief.send(wire::subscribe(packet, &[(filter, 0)]));
                assert!(matches!(thief.recv(), Packet::Suback { .. }));
            }
            thief.publish("own/sub/victim/x", "forged", 1);
            victim.publish("own/sub/victim/x", "mine", 0);
            victim.expect_message("own/sub/victim/x", "mine", 0);
            thief.expect_silence();
            thief.disconnect();
        }
        // With a list that has it, a name that is more than one level is none either; one that is one level is.
        scene.replace(&format!(
            "{OPEN}pattern readwrite own/%c/#\npattern deny own/+/private\n"
        ));
        for (id, topic, may) in [
            ("a/b", "own/a/b/x", false),
            ("a/b", "own/a/x", false),
            ("a", "own/a/b/x", true),
            ("a", "own/a/private", false),
        ] {
            let mut client = scene.come("eve", Connect::new(id));
            let packet = client.fresh_id();
            client.send(wire::subscribe(packet, &[(topic, 1)]));
            let codes = vec![if may { 1 } else { 0x80 }];
            client.expect(&Packet::Suback { id: packet, codes });
            client.disconnect();
        }
        scene.broker.assert_well();
    }
}

#[test]
fn denials_are_counted_and_logged() {
    let scene = Scene::new(2, &shut(), &["--sys-interval", "1", "--log", "text/debug"]);
    let mut sys = scene.broker.sys();
    let mut publisher = scene.publisher();
    let mut subscriber = scene.come("sub", Connect::new("sub"));
    subscriber.subscribe("#", 0);
    for qos in 0..3 {
        publisher.publish("closed", "1", qos);
    }
    publish_both(&mut publisher, "1", 1);
    subscriber.expect_message("open/x", "1", 0);
    let id = subscriber.fresh_id();
    subscriber.send(wire::subscribe(id, &[("closed", 0), ("nothing/#", 1)]));
    let codes = vec![0x80, 0x80];
    subscriber.expect(&Packet::Suback { id, codes });
    for (name, value) in [("publish", 3), ("subscribe", 2), ("delivery", 1)] {
        sys.await_value(&format!("denied/{name}"), value);
    }
    for (client, user, denied, topic) in [
        ("pub", "pub", "publish", "closed"),
        ("sub", "sub", "subscribe", "nothing/#"),
        ("sub", "sub", "delivery", "shut/x"),
    ] {
        let words = [
            format!("client=\"{client}\""),
            format!("user=\"{user}\""),
            format!("denied=\"{denied}\""),
            format!("topic=\"{topic}\""),
        ];
        scene
            .broker
            .await_log(|line| line.contains("not allowed") && words.iter().all(|word| line.contains(word)));
    }
    // A flood is counted in full.
    for _ in 0..1_000 {
        publisher.publish("closed", "1", 0);
    }
    publisher.ping();
    sys.await_value("denied/publish", 1_003);
    let lines = scene.broker.log_lines(|line| line.contains("denied=\"publish\""));
    assert!(lines.len() <= 3 + 10 * 5, "{} lines", lines.len());
}

#[test]
fn denied_publish_closes_where_the_operator_says_so() {
    for shards in [1, 3] {
        let scene = Scene::new(shards, &shut(), &["--acl-denied-publish", "close"]);
        let mut watcher = scene.come("eve", Connect::new("sub"));
        watcher.subscribe("closed", 0);
        for qos in 0..3 {
            let mut publisher = scene.publisher();
            publisher.publish("open/x", "1", 1);
            publisher.send(publish("closed", "1").qos(qos, 9).encode());
            publisher.expect_close();
        }
        scene.broker.await_log(|line| line.contains("publish_denied"));
        watcher.expect_silence();
        scene.broker.assert_well();
    }
}

/// A list that cannot be read ends the start, and changes nothing later: not the passwords beside it either.
#[test]
fn unusable_list_is_told_with_its_line() {
    let folder = Folder::new();
    let bad = folder.write("bad", "topic read a\n\nuser ann\ntopic reed b\n");
    for task in [&["check"][..], &[]] {
        let output = ringmq()
            .args(task)
            .args(["--acl-file", &bad])
            .output()
            .expect("it starts");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_eq!(
            text,
            format!("ringmq: {bad}:4: the word before a topic is read, write, readwrite or deny\n")
        );
    }
    let good = folder.write("good", OPEN);
    let output = ringmq()
        .args(["check", "--acl-file", &good])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(0));

    let mut scene = Scene::new(2, &shut(), &[]);
    let mut connected = scene.come("sub", Connect::new("connected"));
    connected.subscribe("#", 0);
    let mut publisher = scene.publisher();
    scene.folder.write("acl", format!("{OPEN}topic\n"));
    scene.folder.write("passwords", passwords(&["pub"]));
    scene.broker.process().signal("HUP");
    let line = scene.broker.await_log(|line| line.contains("not reloaded"));
    assert!(line.contains(":15: a topic is missing"), "{line}");
    publish_both(&mut publisher, "1", 1);
    connected.expect_message("open/x", "1", 0);
    connected.expect_silence();
    scene.come("sub", Connect::new("late")).ping();
}

#[test]
fn empty_list_denies_everything() {
    let folder = Folder::new();
    let acl = folder.write("acl", "# nothing yet\n");
    let broker = Broker::start(3, &["--acl-file", &acl, "--log", "text/info"]);
    let mut client = broker.connect("sub");
    let filters = [("#", 0), ("t", 1), ("$SYS/#", 0), ("$share/g/t", 2)];
    client.send(wire::subscribe(1, &filters));
    let codes = vec![0x80; 4];
    client.expect(&Packet::Suback { id: 1, codes });
    client.retain("t", "x", 2);
    client.expect_silence();
    broker.await_log(|line| line.contains("not allowed") && line.contains("denied=\"publish\""));
}

#[test]
fn users_of_a_list_without_passwords_are_warned_about() {
    let folder = Folder::new();
    let acl = folder.write("acl", OPEN);
    let broker = Broker::start(1, &["--acl-file", &acl]);
    broker.await_log(|line| line.contains("WARN") && line.contains("--password-file"));
    // And a name that nobody verified is not believed.
    let (mut liar, _) = broker.connect_as(&Connect::new("c").user("pub", "secret"));
    liar.send(wire::subscribe(1, &[("open/x", 0), ("still/well", 0)]));
    let codes = vec![0x80, 0];
    liar.expect(&Packet::Suback { id: 1, codes });
}

/// A hand-written list and random ones, with clients of all kinds: both brokers let the same messages through.
#[test]
fn decisions_are_those_of_mosquitto() {
    if !is_installed("mosquitto") {
        return;
    }
    let written = "\
# nobody in particular
topic read a/#
topic write a/b
topic deny a/b/c1

user ann
topic readwrite a/#
topic deny a/ann/#
topic read b/+/c1
topic write +/c1
topic c2

user bob
topic read #
topic deny b/#
topic deny +/ann

user ann
topic deny a/b/b
pattern write b/%c
pattern read %u/%c/#
pattern deny c1/+/b
pattern readwrite c1/#
pattern read x-%u/%c
";
    same_decisions(written);
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..4 {
        same_decisions(&random_list(&mut dice));
    }
}

/// Client Identifiers, and users. Mosquitto takes a `/` in a name for what it is in a topic; here such a name stands for nothing,
/// so there is none among these.
const CLIENTS: [(&str, Option<&str>); 8] = [
    ("c1", None),
    ("c2", None),
    ("c1", Some("ann")),
    ("c2", Some("ann")),
    ("c1", Some("bob")),
    ("ann", Some("eve")),
    ("c+", Some("ann")),
    ("#", None),
];

fn same_decisions(list: &str) {
    let folder = Folder::new();
    // Mosquitto may run as another user.
    fs::set_permissions(folder.as_path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let passwords = folder.write("passwords", passwords(&["ann", "bob", "eve", "root"]));
    let list = format!("{list}\nuser root\ntopic readwrite #\n");
    let acl = folder.write("acl", &list);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = port.expect("a free port").port();
    let config = folder.write(
        "mosquitto.conf",
        format!("listener {port} 127.0.0.1\nallow_anonymous true\npassword_file {passwords}\nacl_file {acl}\n"),
    );
    for file in [&passwords, &acl, &config] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("ours");
    }
    let theirs = Process::spawn(program("mosquitto").args(["-c", &config]));
    theirs.await_output(|output| output.contains("running").then_some(()));
    let theirs = decisions(SocketAddr::from(([127, 0, 0, 1], port)));
    for shards in [1, 3] {
        let flags = ["--password-file", &passwords, "--acl-file", &acl, "--allow-anonymous"];
        let broker = Broker::start(shards, &flags);
        let ours = decisions(broker.addr);
        let differences: Vec<_> = theirs.symmetric_difference(&ours).collect();
        assert!(differences.is_empty(), "{shards} shards: {differences:?}\nof\n{list}");
    }
    assert!(!theirs.is_empty());
}

/// What each client can do: whose message to which topic arrives at one that may read all, and the other way around.
fn decisions(addr: SocketAddr) -> BTreeSet<String> {
    let levels = ["a", "b", "c1", "c2", "ann", "bob"];
    let mut topics: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    for first in levels {
        topics.extend(levels.map(|second| format!("{first}/{second}")));
        topics.extend(["b", "c1"].map(|third| format!("{first}/b/{third}")));
        topics.extend(["b", "c1"].map(|third| format!("{first}/c1/{third}")));
    }
    topics.extend(["x-ann/c1", "x-bob/c1", "x-eve/ann", "x-/c1", "$x/a"].map(str::to_owned));
    let mut seen = BTreeSet::new();
    let mut root = Client::dial(addr);
    root.connect(&Connect::new("root").user("root", "secret"));
    root.subscribe("#", 0);
    let mut feeder = Client::dial(addr);
    feeder.connect(&Connect::new("feeder").user("root", "secret"));
    for (id, user) in CLIENTS {
        let mut client = Client::dial(addr);
        let connect = Connect::new(id);
        client.connect(&match user {
            Some(user) => connect.user(user, "secret"),
            None => connect,
        });
        let name = format!("{id} as {}", user.unwrap_or("nobody"));
        let text = format!("from {name}");
        for topic in &topics {
            client.publish(topic, &text, 1);
        }
        root.ping_among(|got| {
            if got.payload == text.as_bytes() {
                assert!(seen.insert(format!("{name} writes {}", got.topic)));
            }
        });
        for topics in topics.chunks(20) {
            let packet = client.fresh_id();
            let filters: Vec<(&str, u8)> = topics.iter().map(|topic| (topic.as_str(), 0)).collect();
            client.send(wire::subscribe(packet, &filters));
            assert!(matches!(client.recv(), Packet::Suback { .. }));
        }
        for topic in &topics {
            feeder.publish(topic, "to all", 1);
        }
        client.ping_among(|got| assert!(seen.insert(format!("{name} reads {}", got.topic))));
        client.disconnect();
    }
    seen
}

fn random_list(dice: &mut Dice) -> String {
    let mut list = String::new();
    for part in ["", "user ann", "user bob", "user eve", "user ann"] {
        writeln!(list, "{part}").expect("a String takes everything");
        for _ in 0..dice.below(6) {
            let line = random_entry(dice, "topic", &["a", "b", "c1", "c2", "ann", "+"]);
            writeln!(list, "{line}").expect("a String takes everything");
        }
    }
    for _ in 0..dice.below(6) {
        let line = random_entry(dice, "pattern", &["a", "b", "%c", "%u", "c1", "+", "x-%u"]);
        writeln!(list, "{line}").expect("a String takes everything");
    }
    list
}

fn random_entry(dice: &mut Dice, word: &str, levels: &[&str]) -> String {
    let access = ["read ", "write ", "readwrite ", "deny ", ""][dice.below(5)];
    let mut filter: Vec<&str> = (0..=dice.below(3)).map(|_| levels[dice.below(levels.len())]).collect();
    if dice.below(3) == 0 {
        filter.push("#");
    }
    format!("{word} {access}{}", filter.join("/"))
}

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("below a usize")
    }
}
