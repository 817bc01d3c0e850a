//! Following a client or a topic: everything once, in the order of the wire, whenever it begins and however slowly a socket takes
//! what it is told of.

use super::cluster::*;
use crate::codec::{Connect, Protocol, Will, encode_connect};
use crate::limits::Limits;
use crate::shard::{
    Admission, Followed, FollowedTopic, TRACES_MAX, TooManyTraces, Trace, TraceId, TracedEvent, TracedPacket,
};

fn client(id: u64, client_id: &str) -> Trace {
    Trace {
        id: TraceId(id),
        followed: Followed::Client(client_id.into()),
        payload_bytes_max: 0,
        records_max: 10_000,
    }
}

fn topic(id: u64, filter: &str) -> Trace {
    Trace {
        followed: Followed::Topic(FollowedTopic::new(filter).unwrap()),
        ..client(id, "")
    }
}

fn follow(cluster: &mut Cluster, shards: u16, trace: &Trace) {
    for at in 0..shards {
        cluster.shard(at.into()).trace(trace.clone()).unwrap();
    }
}

/// `TRACE CLIENT EVENT` for each thing that was told.
fn told(cluster: &mut Cluster, shards: u16) -> Vec<String> {
    let mut lines = Vec::new();
    for at in 0..shards {
        while let Some(traced) = cluster.shard(at.into()).poll_traced() {
            let event = match &traced.event {
                TracedEvent::Received(packet) => format!("> {}", packet_text(packet)),
                TracedEvent::Sent(packet) => format!("< {}", packet_text(packet)),
                TracedEvent::Dropped { topic, reason } => format!("dropped {topic} {reason}"),
                TracedEvent::Closed(reason) => format!("closed {}", reason.label()),
            };
            lines.push(format!("{} {} {event}", traced.trace.0, traced.client));
        }
    }
    lines
}

fn packet_text(packet: &TracedPacket) -> String {
    match packet {
        TracedPacket::Publish {
            topic,
            qos,
            dup,
            packet_id,
            payload_bytes,
            payload,
            ..
        } => {
            let id = packet_id.map_or(0, |id| id.value());
            let dup = if *dup { " dup" } else { "" };
            let payload = String::from_utf8_lossy(payload);
            format!("PUBLISH {topic} q{} i{id} {payload_bytes} {payload}{dup}", *qos as u8)
                .trim_end()
                .to_owned()
        }
        TracedPacket::Other(name, Some(id)) => format!("{name} {id}"),
        TracedPacket::Other(name, None) => (*name).to_owned(),
        TracedPacket::ConnAck(connack) => format!("CONNACK {}", connack.code as u8),
        TracedPacket::SubAck(id, codes) => format!("SUBACK {id} {:?}", codes.first),
        TracedPacket::Subscribe(id, filters) => format!("SUBSCRIBE {id} {} of {}", filters.first[0].0, filters.count),
        TracedPacket::Unsubscribe(id, filters) => format!("UNSUBSCRIBE {id} {}", filters.first[0]),
        TracedPacket::Connect { user_name, .. } => format!("CONNECT {user_name:?}"),
    }
}

#[test]
fn a_client_is_followed_from_connect_to_the_end() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        follow(&mut cluster, shards, &client(7, "dev"));
        let other = cluster.connect("other", true);
        let dev = cluster.connect("dev", true);
        cluster.send(dev, &subscribe_bytes(1, &[("t", 2), ("u", 1)]));
        cluster.settle();
        cluster.send(other, &publish_bytes("t", b"hello", 2, false, 9));
        cluster.settle();
        cluster.send(other, &ack_bytes(PUBREL, 9));
        cluster.settle();
        cluster.send(dev, &ack_bytes(PUBREC, 1));
        cluster.send(dev, &ack_bytes(PUBCOMP, 1));
        cluster.send(dev, &publish_bytes("x", b"", 1, false, 3));
        cluster.settle();
        cluster.cut(dev);
        // And again, when it comes again.
        cluster.connect("dev", true);
        let lines = told(&mut cluster, shards);
        let expected = [
            "> CONNECT None",
            "< CONNACK 0",
            "> SUBSCRIBE 1 t of 2",
            "< SUBACK 1 [2, 1]",
            "< PUBLISH t q2 i1 5",
            "> PUBREC 1",
            "< PUBREL 1",
            "> PUBCOMP 1",
            "> PUBLISH x q1 i3 0",
            "< PUBACK 3",
            "closed connection_lost",
            "> CONNECT None",
            "< CONNACK 0",
        ];
        assert_eq!(lines, expected.map(|line| format!("7 dev {line}")), "{shards} shards");
        // Nothing more is told once it has ended.
        for at in 0..shards {
            assert_eq!(cluster.shard(at.into()).end_trace(TraceId(7)), Some(0));
            assert_eq!(cluster.shard(at.into()).end_trace(TraceId(7)), None);
            assert!(!cluster.shard(at.into()).is_tracing());
        }
        cluster.send(dev, &publish_bytes("x", b"", 1, false, 4));
        cluster.settle();
        assert_eq!(told(&mut cluster, shards), [""; 0]);
        cluster.check_quiet();
    }
}

#[test]
fn a_topic_is_followed_from_publisher_to_subscribers() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let subscribers: Vec<_> = ["a", "b"].iter().map(|id| cluster.connect(id, true)).collect();
        for subscriber in &subscribers {
            cluster.send(*subscriber, &subscribe_bytes(1, &[("#", 1)]));
        }
        let publisher = cluster.connect("p", true);
        cluster.settle();
        let trace = Trace {
            payload_bytes_max: 3,
            ..topic(1, "plant/+/t")
        };
        follow(&mut cluster, shards, &trace);
        // A large payload is not copied into outputs, and a small one is.
        let large = vec![b'x'; 50_000];
        for (n, payload) in [&large[..], b"small", &large, b""].iter().enumerate() {
            let id = u16::try_from(n).unwrap() + 1;
            cluster.send(publisher, &publish_bytes("plant/7/t", payload, 1, false, id));
            cluster.send(publisher, &publish_bytes("plant/7/u", payload, 0, false, 0));
        }
        cluster.settle();
        let mut lines = told(&mut cluster, shards);
        lines.sort();
        let mut expected = Vec::new();
        for (client, arrow) in [("a", "<"), ("b", "<"), ("p", ">")] {
            for (n, payload) in [(1, "50000 xxx"), (2, "5 sma"), (3, "50000 xxx"), (4, "0")] {
                // Each second message to a subscriber is of the other topic, and has no identifier.
                expected.push(format!("1 {client} {arrow} PUBLISH plant/7/t q1 i{n} {payload}"));
            }
        }
        expected.sort();
        assert_eq!(lines, expected);
        for subscriber in subscribers {
            assert_eq!(cluster.take_texts(subscriber).len(), 8);
        }
    }
}

/// What is told is compared with what the client's socket took.
#[test]
fn what_is_sent_is_told_once_however_slow_the_socket_is() {
    for seed in 0..60 {
        let limits = Limits {
            output_bytes_max: 20_000,
            ..Limits::default()
        };
        let mut cluster = Cluster::with_limits(1, &limits);
        let slow = cluster.connect("slow", true);
        let publisher = cluster.connect("p", true);
        cluster.send(slow, &subscribe_bytes(1, &[("t", seed as u8 % 2)]));
        cluster.settle();
        cluster.take(slow);
        cluster.stall(slow, true);
        let mut random = crate::hash::Random::new(seed);
        let (mut sent, begins_at) = (0_usize, usize::try_from(random.next() % 40).unwrap());
        let (mut lines, mut following) = (Vec::new(), false);
        let mut untaken_at_begin = Vec::new();
        for step in 0..200 {
            if step == begins_at {
                // What waits in the output, and what is partly taken, is still to be seen.
                untaken_at_begin = cluster.take_texts(slow);
                let trace = if seed % 3 == 0 {
                    topic(1, "t")
                } else {
                    client(1, "slow")
                };
                cluster.shard(0).trace(trace).unwrap();
                following = true;
            }
            match random.next() % 3 {
                0 => {
                    let size = [10, 300, 6_000][usize::try_from(random.next() % 3).unwrap()];
                    let payload = format!("{sent:0>size$}");
                    let id = u16::try_from(sent + 1).unwrap();
                    cluster.send(publisher, &publish_bytes("t", payload.as_bytes(), 1, false, id));
                    cluster.settle();
                    sent += 1;
                }
                _ => {
                    let most = usize::try_from(random.next() % 2_000).unwrap();
                    cluster.take_bytes(slow, most);
                }
            }
            // Another trace comes and goes, and changes nothing for the first.
            if following && random.next().is_multiple_of(8) {
                let other = if random.next().is_multiple_of(2) {
                    topic(2, "u")
                } else {
                    client(2, "slow")
                };
                match cluster.shard(0).end_trace(TraceId(2)) {
                    Some(_) => {}
                    None => cluster.shard(0).trace(other).unwrap(),
                }
            }
            lines.extend(told(&mut cluster, 1));
        }
        cluster.stall(slow, false);
        lines.extend(told(&mut cluster, 1));
        let seen = cluster.take(slow);
        let told: Vec<_> = lines.iter().filter(|line| line.starts_with("1 slow <")).collect();
        assert!(
            !told.is_empty() && (seen.len() + untaken_at_begin.len() > 0),
            "seed {seed}"
        );
        assert_eq!(told.len(), seen.len(), "seed {seed}: {told:#?}");
        for (line, seen) in told.iter().zip(&seen) {
            let Seen::Publish {
                topic,
                payload,
                qos,
                id,
                ..
            } = seen
            else {
                panic!("{seen:?}")
            };
            assert_eq!(
                **line,
                format!("1 slow < PUBLISH {topic} q{qos} i{id} {}", payload.len())
            );
        }
        cluster.check_quiet();
    }
}

#[test]
fn a_refused_client_is_told_of_without_its_password() {
    let mut cluster = Cluster::new(1);
    follow(&mut cluster, 1, &client(1, "dev"));
    let dev = cluster.open_as(Admission::Verify { anonymous: false });
    let connect = Connect {
        protocol: Protocol::V311,
        clean_session: true,
        keep_alive: 0,
        client_id: "dev",
        will: Some(Will {
            topic: "will",
            message: b"secret",
            qos: qos(0),
            retain: false,
        }),
        user_name: Some("ann"),
        password: Some(b"secret"),
    };
    let mut bytes = Vec::new();
    encode_connect(&mut bytes, &connect);
    cluster.send(dev, &bytes);
    cluster.answer("ann");
    let records: Vec<_> = std::iter::from_fn(|| cluster.shard(0).poll_traced()).collect();
    assert!(!format!("{records:?}").contains("secret"), "{records:?}");
    let connect = TracedEvent::Received(TracedPacket::Connect {
        clean_session: true,
        keep_alive: 0,
        user_name: Some("ann".into()),
        will_topic: Some("will".into()),
    });
    let labels: Vec<_> = records[1..]
        .iter()
        .map(|traced| format!("{:?}", traced.event))
        .collect();
    assert_eq!(records[0].event, connect);
    assert!(
        labels[0].starts_with("Sent(ConnAck") && labels[0].contains("BadUserNameOrPassword"),
        "{labels:?}"
    );
    assert!(labels[1].starts_with("Closed(Authentication"), "{labels:?}");
    assert_eq!(records.len(), 3);
}

#[test]
fn what_goes_no_further_is_told_with_the_reason() {
    let limits = Limits {
        queued_messages_max: 1,
        inflight_max: 1,
        ..Limits::default()
    };
    let acl = "topic readwrite open\ntopic read closed\n";
    let mut cluster = Cluster::with_acl(1, acl, &limits, false);
    let sub = cluster.connect("sub", true);
    cluster.send(sub, &subscribe_bytes(1, &[("#", 1)]));
    let publisher = cluster.connect("p", true);
    cluster.settle();
    follow(&mut cluster, 1, &client(1, "sub"));
    follow(&mut cluster, 1, &topic(2, "closed"));
    for id in 1..=3 {
        cluster.send(publisher, &publish_bytes("open", b"", 1, false, id));
    }
    cluster.send(publisher, &publish_bytes("closed", b"", 1, false, 4));
    cluster.set_acl("topic readwrite other\n");
    cluster.send(sub, &ack_bytes(PUBACK, 1));
    cluster.settle();
    let lines = told(&mut cluster, 1);
    assert_eq!(
        lines,
        [
            "1 sub < PUBLISH open q1 i1 0",
            "1 sub dropped open queue_full",
            "2 p > PUBLISH closed q1 i4 0",
            "2 p dropped closed not_allowed",
            "1 sub > PUBACK 1",
            "1 sub dropped open not_allowed",
        ]
    );
}

#[test]
fn what_is_beyond_the_limit_of_a_second_is_counted() {
    let mut cluster = Cluster::new(1);
    let publisher = cluster.connect("p", true);
    follow(
        &mut cluster,
        1,
        &Trace {
            records_max: 5,
            ..client(1, "p")
        },
    );
    follow(&mut cluster, 1, &topic(2, "t"));
    for _ in 0..20 {
        cluster.send(publisher, &publish_bytes("t", b"", 0, false, 0));
    }
    let lines = told(&mut cluster, 1);
    assert_eq!(lines.iter().filter(|line| line.starts_with('1')).count(), 5);
    assert_eq!(lines.len(), 25);
    let untold: Vec<_> = cluster.shard(0).begin_traced_second().collect();
    assert_eq!(untold, [(TraceId(1), 15), (TraceId(2), 0)]);
    cluster.send(publisher, &publish_bytes("t", b"", 0, false, 0));
    assert_eq!(told(&mut cluster, 1).len(), 2);
    let untold: Vec<_> = cluster.shard(0).begin_traced_second().collect();
    assert_eq!(untold, [(TraceId(1), 0), (TraceId(2), 0)]);
}

#[test]
fn long_texts_and_lists_are_cut() {
    let mut cluster = Cluster::new(1);
    let dev = cluster.connect("dev", true);
    follow(&mut cluster, 1, &client(1, "dev"));
    let long = "ü".repeat(30_000);
    let filters = vec![(&*long, 0); 40];
    cluster.send(dev, &subscribe_bytes(1, &filters));
    let first = cluster.shard(0).poll_traced().unwrap();
    let TracedEvent::Received(TracedPacket::Subscribe(_, filters)) = first.event else {
        panic!("{first:?}")
    };
    assert_eq!((filters.count, filters.first.len()), (40, 16));
    assert!(filters.first.iter().all(|(filter, _)| **filter == *"ü".repeat(100)));
}

#[test]
fn there_are_so_many_traces_and_no_more() {
    let mut cluster = Cluster::new(1);
    let shard = cluster.shard(0);
    for id in 0..TRACES_MAX as u64 {
        shard.trace(client(id, "dev")).unwrap();
    }
    assert_eq!(shard.trace(client(99, "dev")), Err(TooManyTraces));
    shard.end_trace(TraceId(3));
    shard.trace(client(99, "dev")).unwrap();
}
