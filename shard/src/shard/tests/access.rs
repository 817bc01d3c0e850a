//! The access control list, on every path by which a message comes in or leaves, as it is from the start and as it becomes.

use super::cluster::*;
use crate::codec::{QoS, Will};
use crate::limits::{DeniedPublish, Limits};

/// `sub` may read all, `pub` may write all.
const OPEN: &str = "
    user sub
    topic read open/#
    topic read shut/#
    user other
    topic read #
    user pub
    topic write #";
/// `sub` may not read `shut/…`, `pub` not write `closed/…`.
const SHUT: &str = "
    user sub
    topic read open/#
    topic read shut/#
    topic deny shut/#
    user other
    topic read #
    user pub
    topic write #
    topic deny closed/#";

/// When the right is missing: never, from the start, because it was taken away while the message waited, or because a list of
/// the client's own says so, where the broker's does not; and when such a list gives it where the broker's does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Missing {
    Never,
    Always,
    Meanwhile,
    OwnDenies,
    OwnGrants,
}

/// Of the subscriber itself.
const OWN_OPEN: &str = "topic read +/x";
const OWN_SHUT: &str = "topic read #\n topic deny shut/#";

/// A way by which a message leaves to a subscriber.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Path {
    /// Straight into the output.
    Live,
    /// In the queue of a client that is away.
    Away,
    /// In the queue of a client whose output is full.
    Blocked,
    /// In the queue of a client whose window is full.
    WindowFull,
    /// Sent, not acknowledged, and the client comes back.
    InFlight,
    /// Retained.
    Retained,
    /// Behind retained messages that are awaited.
    Held,
    /// Behind a record that is not durable.
    Gated,
    /// The last message of a client that is lost.
    Will,
}

impl Missing {
    fn is_from_the_start(self) -> bool {
        matches!(self, Missing::Always | Missing::OwnDenies)
    }
}

const PATHS: [Path; 9] = [
    Path::Live,
    Path::Away,
    Path::Blocked,
    Path::WindowFull,
    Path::InFlight,
    Path::Retained,
    Path::Held,
    Path::Gated,
    Path::Will,
];

/// A broker with a publisher on its first shard, and a subscriber's Client Identifier on its last.
struct Scene {
    cluster: Cluster,
    publisher: Client,
    sub: String,
    own: Option<&'static str>,
    ids: u16,
}

impl Scene {
    fn new(shards: u16, path: Path, missing: Missing) -> Scene {
        let limits = Limits {
            output_bytes_max: if path == Path::Blocked { 40 } else { 4_096 },
            inflight_max: if path == Path::WindowFull { 1 } else { 100 },
            ..Limits::default()
        };
        let (acl, own) = match missing {
            Missing::Never | Missing::Meanwhile => (OPEN, None),
            Missing::Always => (SHUT, None),
            Missing::OwnDenies => (OPEN, Some(OWN_SHUT)),
            Missing::OwnGrants => (SHUT, Some(OWN_OPEN)),
        };
        let mut cluster = Cluster::with_acl(shards, acl, &limits, path == Path::Gated);
        let (id, sub) = (cluster.client_id_on(0, "p"), cluster.client_id_on(shards - 1, "s"));
        let publisher = cluster.connect_as("pub", &id, true);
        Scene {
            cluster,
            publisher,
            sub,
            own,
            ids: 0,
        }
    }

    fn come(&mut self) -> Client {
        let client = self.cluster.connect_with_list("sub", &self.sub, false, self.own);
        self.cluster.settle();
        client
    }

    fn subscribe(&mut self, client: Client, qos: u8) {
        self.cluster.send(client, &subscribe_bytes(9, &[("+/x", qos)]));
        self.cluster.settle();
        self.cluster.make_durable();
        self.cluster.settle();
    }

    /// To the topic that may be read and to the one that may not.
    fn publish(&mut self, text: &str, qos: u8, retain: bool) {
        for topic in ["shut/x", "open/x"] {
            self.ids += 1;
            let bytes = publish_bytes(topic, text.as_bytes(), qos, retain, self.ids);
            self.cluster.send(self.publisher, &bytes);
        }
        if qos == 2 {
            self.cluster.make_durable();
            for id in [self.ids - 1, self.ids] {
                self.cluster.send(self.publisher, &ack_bytes(PUBREL, id));
            }
        }
    }

    /// What the client gets in the end; it acknowledges everything.
    fn read(&mut self, client: Client) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            self.cluster.settle();
            self.cluster.make_durable();
            self.cluster.settle();
            let seen = self.cluster.take(client);
            if seen.is_empty() {
                return texts;
            }
            for seen in seen {
                match &seen {
                    Seen::Publish { qos: 1, id, .. } => self.cluster.send(client, &ack_bytes(PUBACK, *id)),
                    Seen::Publish { qos: 2, id, .. } => self.cluster.send(client, &ack_bytes(PUBREC, *id)),
                    Seen::PubRel(id) => self.cluster.send(client, &ack_bytes(PUBCOMP, *id)),
                    _ => {}
                }
                if matches!(seen, Seen::Publish { .. }) {
                    texts.push(seen.text());
                }
            }
        }
    }
}

fn run(path: Path, missing: Missing, shards: u16, qos: u8) -> (Scene, Vec<String>) {
    let mut scene = Scene::new(shards, path, missing);
    let mut subscriber = scene.come();
    let taken_away = |scene: &mut Scene| {
        if missing == Missing::Meanwhile {
            scene.cluster.set_acl(SHUT);
        }
    };
    match path {
        Path::Live => {
            scene.subscribe(subscriber, qos);
            taken_away(&mut scene);
            scene.publish("1", qos, false);
        }
        Path::Away => {
            scene.subscribe(subscriber, qos);
            scene.cluster.cut(subscriber);
            scene.publish("1", qos, false);
            scene.cluster.settle();
            taken_away(&mut scene);
            subscriber = scene.come();
        }
        Path::Blocked => {
            scene.subscribe(subscriber, qos);
            scene.cluster.stall(subscriber, true);
            let filler = publish_bytes("open/x", &[b'x'; 50], 0, false, 0);
            scene.cluster.send(scene.publisher, &filler);
            scene.cluster.settle();
            scene.publish("1", qos, false);
            scene.cluster.settle();
            taken_away(&mut scene);
            scene.cluster.stall(subscriber, false);
        }
        Path::WindowFull => {
            scene.subscribe(subscriber, qos);
            let filler = publish_bytes("open/x", b"first", 1, false, 900);
            scene.cluster.send(scene.publisher, &filler);
            scene.cluster.settle();
            scene.publish("1", qos, false);
            scene.cluster.settle();
            taken_away(&mut scene);
        }
        Path::InFlight => {
            scene.subscribe(subscriber, qos);
            scene.publish("1", qos, false);
            scene.cluster.settle();
            let count = scene.cluster.take_texts(subscriber).len();
            assert_eq!(count, if missing.is_from_the_start() { 1 } else { 2 });
            scene.cluster.cut(subscriber);
            taken_away(&mut scene);
            subscriber = scene.come();
        }
        Path::Retained => {
            scene.publish("1", qos, true);
            scene.cluster.settle();
            taken_away(&mut scene);
            scene.subscribe(subscriber, qos);
        }
        Path::Held => {
            scene.cluster.send(subscriber, &subscribe_bytes(9, &[("+/x", qos)]));
            // The routes are confirmed, the requests for retained messages are not answered.
            let last = usize::from(shards - 1);
            for peer in 0..last {
                scene.cluster.step(peer);
            }
            while scene.cluster.step(last) {}
            scene.publish("1", qos, false);
            while scene.cluster.step(last) {}
            let held = if missing.is_from_the_start() { 1 } else { 2 };
            assert!(shards == 1 || scene.cluster.stats().queued == held);
            taken_away(&mut scene);
        }
        Path::Gated => {
            scene.subscribe(subscriber, qos);
            scene.publish("1", qos, false);
            scene.cluster.settle();
            taken_away(&mut scene);
        }
        Path::Will => {
            scene.subscribe(subscriber, qos);
            for (topic, at) in [("shut/x", 0), ("open/x", shards - 1)] {
                let will = Will {
                    topic,
                    message: b"1",
                    qos: QoS::from_bits(qos).unwrap(),
                    retain: false,
                };
                let id = scene.cluster.client_id_on(at, "w");
                let client = scene.cluster.open_as(crate::shard::Admission::known("pub".into()));
                scene.cluster.send(client, &connect_with(&id, true, 0, Some(will)));
                scene.cluster.settle();
                taken_away(&mut scene);
                scene.cluster.cut(client);
            }
        }
    }
    scene.cluster.settle();
    let texts = scene.read(subscriber);
    (scene, texts)
}

/// Whether a message of this QoS waits there at all when the right is taken away.
fn waits(path: Path, shards: u16, qos: u8) -> bool {
    match path {
        Path::Live | Path::Retained | Path::Will => true,
        Path::Away | Path::Blocked | Path::WindowFull | Path::InFlight => qos > 0,
        Path::Held => shards > 1,
        Path::Gated => qos == 2,
    }
}

#[test]
fn what_may_not_be_read_leaves_on_no_path() {
    for shards in [1, 2, 3] {
        for path in PATHS {
            for qos in (0..3).filter(|qos| waits(path, shards, *qos)) {
                for missing in [
                    Missing::Never,
                    Missing::Always,
                    Missing::Meanwhile,
                    Missing::OwnDenies,
                    Missing::OwnGrants,
                ] {
                    let case = format!("{path:?} {missing:?} {shards} shards QoS {qos}");
                    let (scene, mut texts) = run(path, missing, shards, qos);
                    texts.retain(|text| !text.contains("xx") && !text.contains("first"));
                    texts.sort();
                    let stats = scene.cluster.stats();
                    // The same path carries what may be read.
                    if matches!(missing, Missing::Never | Missing::OwnGrants) {
                        assert_eq!(texts, ["open/x=1", "shut/x=1"], "{case}");
                        assert_eq!(stats.denied, [0, 0, 0], "{case}");
                    } else {
                        assert_eq!(texts, ["open/x=1"], "{case}");
                        assert_eq!(stats.denied, [0, 0, 1], "{case}");
                    }
                    assert_eq!(stats.dropped.iter().sum::<u64>(), 0, "{case}");
                    assert_eq!((stats.queued, stats.inflight), (0, 0), "{case}");
                    scene.cluster.check_quiet();
                }
            }
        }
    }
}

/// What a client's own list says about publishing, subscribing and its Will counts, whatever the broker's says, until it comes with
/// another, or with none.
#[test]
fn a_list_of_its_own_counts_instead_of_the_broker_s() {
    let own = "topic write mine/#\n topic read only/#\n pattern write by/%u";
    for shards in [1, 3] {
        for broker_acl in [OPEN, SHUT, ""] {
            let mut cluster = Cluster::with_acl(shards, broker_acl, &Limits::default(), false);
            let other = cluster.connect_with_list("x", "other", true, Some("topic read #"));
            cluster.send(other, &subscribe_bytes(1, &[("#", 2)]));
            cluster.settle();
            cluster.take(other);
            let id = cluster.client_id_on(shards - 1, "own");
            let client = cluster.connect_with_list("pub", &id, false, Some(own));
            for (n, (topic, qos)) in (1..).zip([
                ("mine/1", 1),
                ("by/pub", 2),
                ("shut/x", 1),
                ("by/sub", 2),
                ("closed/x", 0),
            ]) {
                cluster.send(client, &publish_bytes(topic, b"1", qos, false, n));
                if qos == 2 {
                    cluster.send(client, &ack_bytes(PUBREL, n));
                }
            }
            cluster.send(client, &subscribe_bytes(9, &[("only/#", 1), ("mine/#", 1), ("#", 1)]));
            cluster.settle();
            assert_eq!(cluster.take_texts(other), ["mine/1=1", "by/pub=1"]);
            assert!(cluster.take(client).contains(&Seen::SubAck(9, vec![1, 0x80, 1])));
            // Another list of the broker's changes nothing.
            cluster.set_acl("");
            cluster.send(client, &publish_bytes("mine/2", b"1", 1, false, 20));
            cluster.settle();
            assert_eq!(cluster.take_texts(other), ["mine/2=1"]);
            for (topic, arrives) in [("mine/will", true), ("shut/will", false)] {
                let will = Will {
                    topic,
                    message: b"1",
                    qos: QoS::AtLeastOnce,
                    retain: false,
                };
                let client = cluster.open_with_list("pub", Some(own));
                cluster.send(client, &connect_with(&id, false, 0, Some(will)));
                cluster.settle();
                cluster.cut(client);
                cluster.settle();
                assert_eq!(cluster.take_texts(other).len(), usize::from(arrives), "{topic}");
            }
            // Who comes without one is judged by the broker's again.
            let client = cluster.connect_as("pub", &id, false);
            cluster.send(client, &publish_bytes("mine/3", b"1", 1, false, 21));
            cluster.settle();
            assert_eq!(cluster.take_texts(other).len(), 0);
        }
    }
}

/// An exchange of QoS 2 is brought to its end without the message, so that its identifier means nothing else to the client.
#[test]
fn qos_2_in_flight_ends_with_pubrel_once_that_is_recorded() {
    let mut cluster = Cluster::with_acl(1, OPEN, &Limits::default(), true);
    let publisher = cluster.connect_as("pub", "p", true);
    let subscriber = cluster.connect_as("sub", "s", false);
    cluster.send(subscriber, &subscribe_bytes(1, &[("shut/#", 2)]));
    cluster.make_durable();
    cluster.send(publisher, &publish_bytes("shut/x", b"1", 2, false, 1));
    cluster.make_durable();
    cluster.send(publisher, &ack_bytes(PUBREL, 1));
    cluster.make_durable();
    assert_eq!(cluster.take_texts(subscriber), ["shut/x=1"]);
    cluster.cut(subscriber);
    cluster.set_acl(SHUT);
    let again = cluster.open_as(crate::shard::Admission::known("sub".into()));
    cluster.send(again, &connect_bytes("s", false, 0));
    cluster.make_durable();
    assert_eq!(
        cluster.take(again),
        [Seen::ConnAck(true, 0)],
        "the record is not durable"
    );
    cluster.make_durable();
    assert_eq!(cluster.take(again), [Seen::PubRel(1)]);
    cluster.send(again, &ack_bytes(PUBCOMP, 1));
    cluster.make_durable();
    assert_eq!(cluster.stats().inflight, 0);
    cluster.check_quiet();
}

#[test]
fn denied_publish_is_acknowledged_and_goes_nowhere() {
    for shards in [1, 3] {
        let mut cluster = Cluster::with_acl(shards, SHUT, &Limits::default(), false);
        let other = cluster.connect_as("other", "o", true);
        cluster.send(other, &subscribe_bytes(1, &[("#", 2)]));
        cluster.settle();
        let publisher = cluster.connect_as("pub", "p", true);
        for qos in 0..3 {
            for (n, topic) in [(1, "closed/x"), (2, "x")] {
                let bytes = publish_bytes(topic, b"1", qos, true, u16::from(qos) * 10 + n);
                cluster.send(publisher, &bytes);
            }
        }
        cluster.send(publisher, &ack_bytes(PUBREL, 21));
        cluster.send(publisher, &ack_bytes(PUBREL, 22));
        cluster.settle();
        let expected = [
            Seen::PubAck(11),
            Seen::PubAck(12),
            Seen::PubRec(21),
            Seen::PubRec(22),
            Seen::PubComp(21),
            Seen::PubComp(22),
        ];
        assert_eq!(cluster.take(publisher), expected);
        assert_eq!(cluster.take_texts(other), ["x=1", "x=1", "x=1"]);
        let late = cluster.connect_as("other", "l", true);
        cluster.send(late, &subscribe_bytes(1, &[("#", 0)]));
        cluster.settle();
        assert_eq!(cluster.take_texts(late), ["x=1"], "nor is it retained");
        assert_eq!(cluster.stats().denied, [3, 0, 0]);
        assert_eq!(cluster.take_denied(), ["p publish closed/x"; 3]);
    }
}

#[test]
fn qos_2_is_judged_again_when_it_is_released() {
    let mut cluster = Cluster::with_acl(2, OPEN, &Limits::default(), false);
    let other = cluster.connect_as("other", "o", true);
    cluster.send(other, &subscribe_bytes(1, &[("#", 0)]));
    let publisher = cluster.connect_as("pub", "p", true);
    cluster.send(publisher, &publish_bytes("closed/x", b"1", 2, false, 1));
    cluster.set_acl(SHUT);
    // A repeat is no new message, and what was refused is not there when it is released.
    cluster.send(publisher, &publish_bytes("closed/x", b"1", 2, false, 1));
    cluster.send(publisher, &publish_bytes("closed/x", b"2", 2, false, 2));
    cluster.send(publisher, &ack_bytes(PUBREL, 1));
    cluster.set_acl(OPEN);
    cluster.send(publisher, &ack_bytes(PUBREL, 2));
    cluster.settle();
    let expected = [
        Seen::PubRec(1),
        Seen::PubRec(1),
        Seen::PubRec(2),
        Seen::PubComp(1),
        Seen::PubComp(2),
    ];
    assert_eq!(cluster.take(publisher), expected);
    assert!(cluster.take_texts(other).is_empty());
    assert_eq!(cluster.stats().denied, [2, 0, 0]);
    cluster.check_quiet();
}

#[test]
fn denied_publish_closes_where_the_operator_says_so() {
    let limits = Limits {
        denied_publish: DeniedPublish::Close,
        ..Limits::default()
    };
    for qos in 0..3 {
        let mut cluster = Cluster::with_acl(2, SHUT, &limits, false);
        let publisher = cluster.connect_as("pub", "p", false);
        cluster.send(publisher, &publish_bytes("x", b"1", qos, false, 1));
        assert!(!cluster.is_closed(publisher));
        cluster.send(publisher, &publish_bytes("closed/x", b"1", qos, false, 2));
        assert!(cluster.is_closed(publisher));
        assert_eq!(cluster.stats().denied, [1, 0, 0]);
    }
    let mut cluster = Cluster::with_acl(1, OPEN, &limits, false);
    let publisher = cluster.connect_as("pub", "p", false);
    cluster.send(publisher, &publish_bytes("closed/x", b"1", 2, false, 1));
    cluster.set_acl(SHUT);
    cluster.send(publisher, &ack_bytes(PUBREL, 1));
    assert!(cluster.is_closed(publisher));
    let again = cluster.connect_as("pub", "p", false);
    cluster.take(again);
    cluster.send(again, &ack_bytes(PUBREL, 1));
    assert_eq!(cluster.take(again), [Seen::PubComp(1)], "it is not held any more");
}

#[test]
fn denied_will_is_not_published() {
    for (shards, qos) in [(1, 0), (3, 1), (3, 2)] {
        for clean in [true, false] {
            let mut cluster = Cluster::with_acl(shards, OPEN, &Limits::default(), false);
            let other = cluster.connect_as("other", "o", true);
            cluster.send(other, &subscribe_bytes(1, &[("#", 2)]));
            cluster.settle();
            for (n, topic) in ["x/1", "closed/x", "x/2"].iter().enumerate() {
                let come = |cluster: &mut Cluster| {
                    let will = Will {
                        topic,
                        message: b"1",
                        qos: QoS::from_bits(qos).unwrap(),
                        retain: true,
                    };
                    let client = cluster.open_as(crate::shard::Admission::known("pub".into()));
                    cluster.send(client, &connect_with(&format!("w{n}"), clean, 0, Some(will)));
                    cluster.settle();
                    client
                };
                // Taken back before it is due; given back before it is; and of a client that says goodbye.
                for (at_connect, at_end) in [(OPEN, SHUT), (SHUT, OPEN)] {
                    cluster.set_acl(at_connect);
                    let client = come(&mut cluster);
                    cluster.set_acl(at_end);
                    cluster.cut(client);
                    cluster.settle();
                }
                let client = come(&mut cluster);
                cluster.set_acl(SHUT);
                cluster.send(client, &DISCONNECT);
                cluster.settle();
            }
            assert_eq!(cluster.take_texts(other), ["x/1=1", "x/1=1", "x/2=1", "x/2=1"]);
            assert_eq!(cluster.stats().denied, [2, 0, 0]);
        }
    }
}

/// [MQTT-3.2.2-5]
#[test]
fn denied_will_refuses_the_connect_where_the_operator_says_so() {
    let limits = Limits {
        denied_publish: DeniedPublish::Close,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_acl(2, SHUT, &limits, false);
    let before = cluster.connect_as("pub", "w", false);
    let will = Will {
        topic: "closed/x",
        message: b"1",
        qos: QoS::AtMostOnce,
        retain: false,
    };
    let client = cluster.open_as(crate::shard::Admission::known("pub".into()));
    cluster.send(client, &connect_with("w", false, 0, Some(will)));
    cluster.settle();
    assert_eq!(cluster.take(client), [Seen::ConnAck(false, 5)]);
    assert!(
        cluster.is_closed(client) && !cluster.is_closed(before),
        "nobody is taken over"
    );
    assert_eq!(cluster.stats().denied, [1, 0, 0]);
}

#[test]
fn denied_filter_gets_0x80_and_the_others_of_its_packet_are_granted() {
    for shards in [1, 3] {
        let mut cluster = Cluster::with_acl(shards, SHUT, &Limits::default(), false);
        let subscriber = cluster.connect_as("sub", "s", true);
        let filters = [
            ("shut/#", 1),
            ("open/#", 1),
            ("#", 2),
            ("none", 0),
            ("$share/g/#", 1),
            ("$share/g/open/+", 1),
            ("$SYS/#", 0),
        ];
        cluster.send(subscriber, &subscribe_bytes(7, &filters));
        cluster.settle();
        let codes = vec![0x80, 1, 2, 0x80, 0x80, 1, 0x80];
        assert_eq!(cluster.take(subscriber), [Seen::SubAck(7, codes)]);
        let stats = cluster.stats();
        assert_eq!((stats.denied, stats.subscriptions), ([0, 4, 0], 3));
        let told = ["shut/#", "none", "#", "$SYS/#"].map(|filter| format!("s subscribe {filter}"));
        assert_eq!(cluster.take_denied(), told);
        let routes: Vec<String> = cluster.routes().into_iter().map(|(filter, _)| filter).collect();
        assert_eq!(
            routes,
            ["#", "$share/g/open/+", "open/#"],
            "what is denied leaves no route"
        );
        cluster.check_quiet();
    }
}

/// Who comes with a Client Identifier decides what its session may have, not who came before.
#[test]
fn a_session_may_have_what_its_last_client_may() {
    let mut cluster = Cluster::with_acl(2, SHUT, &Limits::default(), false);
    let publisher = cluster.connect_as("pub", "p", true);
    let other = cluster.connect_as("other", "s", false);
    cluster.send(other, &subscribe_bytes(1, &[("+/x", 1)]));
    cluster.settle();
    cluster.cut(other);
    let mut id = 0;
    let mut publish = |cluster: &mut Cluster, text: &str| {
        for topic in ["shut/x", "open/x"] {
            id += 1;
            cluster.send(publisher, &publish_bytes(topic, text.as_bytes(), 1, false, id));
        }
        cluster.settle();
    };
    publish(&mut cluster, "1");
    let sub = cluster.connect_as("sub", "s", false);
    cluster.settle();
    publish(&mut cluster, "2");
    assert_eq!(cluster.take_texts(sub), ["open/x=1", "open/x=2"]);
    cluster.cut(sub);
    // Nobody in particular may read nothing.
    let nobody = cluster.connect("s", false);
    publish(&mut cluster, "3");
    assert!(cluster.take_texts(nobody).is_empty());
}

/// What was found out about a client's names for one list says nothing about another.
#[test]
fn another_list_is_asked_anew() {
    let lists = [
        "user a\ntopic read x\nuser sub\ntopic read open/#",
        "user sub\ntopic read open/#\nuser a\ntopic read x",
        "user sub\ntopic read open/#",
        "topic read open/#\nuser a\ntopic read #",
        "user a\ntopic read x\nuser b\ntopic read x\nuser sub\ntopic read open/#\nuser pub\ntopic write #",
    ];
    let mut cluster = Cluster::with_acl(1, lists[4], &Limits::default(), false);
    let publisher = cluster.connect_as("pub", "p", true);
    let subscriber = cluster.connect_as("sub", "s", true);
    cluster.send(subscriber, &subscribe_bytes(1, &[("open/#", 0)]));
    cluster.take(subscriber);
    for (list, arrives) in lists.iter().zip([true, true, true, false, true]) {
        cluster.set_acl(&format!("{list}\nuser pub\ntopic write #"));
        cluster.send(publisher, &publish_bytes("open/x", b"1", 0, false, 0));
        assert_eq!(cluster.take_texts(subscriber).len(), usize::from(arrives), "{list}");
    }
}

/// A name is believed only if it was verified.
#[test]
fn user_name_counts_only_once_it_is_verified() {
    let mut cluster = Cluster::with_acl(
        1,
        "topic read public\nuser ann\ntopic read private",
        &Limits::default(),
        false,
    );
    let filters = [("private", 0), ("public", 0)];
    let liar = cluster.open();
    cluster.send(liar, &connect_by("a", true, "ann", Some("ann")));
    cluster.send(liar, &subscribe_bytes(1, &filters));
    let expected = [Seen::ConnAck(false, 0), Seen::SubAck(1, vec![0x80, 0])];
    assert_eq!(cluster.take(liar), expected);
    let ann = cluster.open_as(crate::shard::Admission::Verify { anonymous: true });
    cluster.send(ann, &connect_by("b", true, "ann", Some("ann")));
    cluster.answer("ann");
    cluster.send(ann, &subscribe_bytes(1, &filters));
    let expected = [Seen::ConnAck(false, 0), Seen::SubAck(1, vec![0, 0x80])];
    assert_eq!(cluster.take(ann), expected);
}

/// What a member of a shared group may not read any more goes to the others, live and out of its queue; it leaves the group.
#[test]
fn shared_group_loses_nothing_when_a_member_loses_its_right() {
    for (shards, here, there) in [(1, 0, 0), (2, 0, 1), (3, 2, 1), (3, 1, 2)] {
        let mut cluster = Cluster::with_acl(shards, OPEN, &Limits::default(), false);
        let (loses, stays) = (
            cluster.client_id_on(here, "loses"),
            cluster.client_id_on(there, "stays"),
        );
        let subscribe = |cluster: &mut Cluster, client| {
            cluster.send(client, &subscribe_bytes(1, &[("$share/g/shut/+", 1)]));
            cluster.settle();
            assert_eq!(cluster.take(client), [Seen::SubAck(1, vec![1])]);
        };
        let first = cluster.connect_as("sub", &loses, false);
        subscribe(&mut cluster, first);
        let publisher = cluster.connect_as("pub", "p", true);
        let mut sent = 0;
        let mut publish = |cluster: &mut Cluster, count| {
            for _ in 0..count {
                sent += 1;
                let bytes = publish_bytes("shut/x", sent.to_string().as_bytes(), 1, false, sent);
                cluster.send(publisher, &bytes);
            }
            cluster.settle();
        };
        // The one who is away is the only one, so these wait for it.
        cluster.cut(first);
        publish(&mut cluster, 5);
        let second = cluster.connect_as("other", &stays, true);
        subscribe(&mut cluster, second);
        cluster.set_acl(SHUT);
        let again = cluster.connect_as("sub", &loses, false);
        cluster.settle();
        publish(&mut cluster, 10);
        let mut texts = cluster.take_texts(second);
        texts.sort_by_key(|text| text.trim_start_matches("shut/x=").parse::<u16>().unwrap());
        let all: Vec<String> = (1..=15).map(|n| format!("shut/x={n}")).collect();
        assert_eq!(texts, all, "{shards} {here} {there}");
        assert!(cluster.take_texts(again).is_empty());
        let stats = cluster.stats();
        assert_eq!(
            (stats.queued, stats.subscriptions, stats.dropped.iter().sum::<u64>()),
            (0, 1, 0)
        );
        assert!(stats.denied[2] >= 1);
        cluster.check_quiet();
        // Given back, it may join again.
        cluster.set_acl(OPEN);
        subscribe(&mut cluster, again);
    }
}

/// If nobody of a group may read a message, it is dropped and counted; nothing goes round in circles.
#[test]
fn shared_group_of_which_nobody_may_read_ends() {
    for shards in [1, 2, 3] {
        let mut cluster = Cluster::with_acl(shards, OPEN, &Limits::default(), false);
        for n in 0..6 {
            let member = cluster.connect_as("sub", &format!("m{n}"), n % 2 == 0);
            cluster.send(member, &subscribe_bytes(1, &[("$share/g/shut/#", 1)]));
            cluster.settle();
            if n == 5 {
                cluster.cut(member);
            }
        }
        cluster.set_acl(SHUT);
        let publisher = cluster.connect_as("pub", "p", true);
        for id in 1..=10 {
            cluster.send(publisher, &publish_bytes("shut/x", b"1", 1, false, id));
        }
        cluster.settle();
        let stats = cluster.stats();
        assert_eq!((stats.subscriptions, stats.queued), (0, 0));
        assert!(cluster.routes().is_empty(), "{:?}", cluster.routes());
        assert_eq!(cluster.take(publisher).len(), 10);
        cluster.check_quiet();
    }
}

/// A flood of denials is counted in full, and told in part.
#[test]
fn some_denials_of_a_second_are_told() {
    let mut cluster = Cluster::with_acl(1, SHUT, &Limits::default(), false);
    let publisher = cluster.connect_as("pub", "p", true);
    let flood = |cluster: &mut Cluster| {
        for _ in 0..1_000 {
            cluster.send(publisher, &publish_bytes("closed/x", b"1", 0, false, 0));
        }
        cluster.take_denied()
    };
    assert_eq!(flood(&mut cluster).len(), 10);
    assert_eq!(flood(&mut cluster).len(), 0);
    cluster.send(publisher, &subscribe_bytes(1, &[("a", 0)]));
    assert_eq!(
        cluster.take_denied(),
        ["p subscribe a"],
        "other kinds have their own share"
    );
    cluster.now = cluster.now + std::time::Duration::from_secs(1);
    let told = flood(&mut cluster);
    assert_eq!(
        (told.len(), &*told[0], &*told[1]),
        (10, "p publish closed/x +1990", "p publish closed/x")
    );
    assert_eq!(cluster.stats().denied, [3_000, 1, 0]);
    let long = format!("closed/{}", "é".repeat(1_000));
    cluster.now = cluster.now + std::time::Duration::from_secs(1);
    cluster.send(publisher, &publish_bytes(&long, b"1", 0, false, 0));
    assert!(cluster.take_denied()[0].len() < 230);
}
