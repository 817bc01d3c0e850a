//! What a client can grow, and where it ends: each limit takes what fits, refuses the next, and has room again afterwards.

mod common;

use std::time::{Duration, Instant};

use common::wire;
use common::*;

#[test]
fn packet_size_ends_at_its_limit() {
    each_broker_with(&["--max-packet-size", "1000", "--sys-interval", "1"], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        let fits = "x".repeat(1_000 - 3 - 3 - 2);
        assert_eq!(publish("t", &fits).qos(1, 1).encode().len(), 1_000);
        publisher.publish("t", &fits, 1);
        subscriber.expect_message("t", &fits, 1);

        // The header says it all: nothing of the rest has to come.
        let mut header = vec![0x32];
        header.extend(wire::remaining_length(998));
        publisher.send(header);
        publisher.expect_close();
        let subscribe = wire::subscribe(1, &[(&"f".repeat(1_000), 0)]);
        broker.assert_closes(subscribe);
        // The limit of a CONNECT follows.
        broker.assert_closes_new(Connect::new(&"i".repeat(1_000)).encode());
        subscriber.expect_silence();
        broker.sys().await_value("connections/violations", 3);
    });
}

#[test]
fn excess_connections_are_closed_until_others_leave() {
    let flags = ["--max-connections", "4", "--sys-interval", "1"];
    on_shards(&[1, 2, 3], &flags, |broker| {
        let mut sys = broker.sys();
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        // Before its CONNECT it counts too.
        let silent = broker.dial();
        for _ in 0..3 {
            let mut excess = broker.dial();
            excess.expect_close();
            let peer = excess.local_addr();
            let line = broker.await_log(|line| line.contains(&format!("peer={peer} ")));
            assert!(line.contains("reason=\"max_connections\""), "{line}");
        }
        publisher.publish("t", "as ever", 1);
        subscriber.expect_message("t", "as ever", 1);
        sys.settle();
        sys.await_value("connections/rejected", 3);
        sys.await_value("connections/accepted", 4);
        sys.await_value("connections", 4);

        silent.vanish();
        let mut next = connect_when_there_is_room(broker, "next");
        next.subscribe("t", 1);
        publisher.publish("t", "more", 1);
        for client in [&mut next, &mut subscriber] {
            client.expect_message("t", "more", 1);
        }
        broker.dial().expect_close();
        for client in [next, publisher, subscriber] {
            client.disconnect();
        }
    });
}

#[test]
fn long_filters_are_refused_and_long_topics_close() {
    each_broker_with(&["--max-topic-bytes", "32"], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.send(wire::subscribe(
            1,
            &[
                ("twenty-four bytes long: 8/bytes/", 1),
                ("twenty-four bytes long: 9/bytes/+", 1),
                ("twenty-four bytes long: 9/bytes/#", 1),
                ("twenty-four bytes long: 8/byte/#", 2),
            ],
        ));
        subscriber.expect(&Packet::Suback {
            id: 1,
            codes: vec![1, 0x80, 0x80, 2],
        });
        let mut publisher = broker.connect("pub");
        publisher.publish("twenty-four bytes long: 8/bytes/", "fits", 1);
        subscriber.expect_message("twenty-four bytes long: 8/bytes/", "fits", 1);
        publisher.send(
            publish("twenty-four bytes long: 9/bytes//", "too long")
                .qos(1, 9)
                .encode(),
        );
        publisher.expect_close();
        broker.assert_closes_new(
            Connect::new("will")
                .will(publish("twenty-four bytes long: 9/bytes//", "x"))
                .encode(),
        );
        subscriber.expect_silence();
    });
}

#[test]
fn deep_filters_are_refused_and_deep_topics_close() {
    each_broker_with(&["--max-topic-levels", "4", "--sys-interval", "1"], |broker| {
        let mut subscriber = broker.connect("sub");
        let filters = [
            ("a/b/c/d", 1),
            ("a/b/c/d/e", 1),
            ("a/b/c/#", 0),
            ("////", 0),
            ("+/+/+/+/#", 2),
            ("///", 2),
        ];
        subscriber.send(wire::subscribe(1, &filters));
        subscriber.expect(&Packet::Suback {
            id: 1,
            codes: vec![1, 0x80, 0, 0x80, 0x80, 2],
        });
        let mut publisher = broker.connect("pub");
        publisher.publish("a/b/c/d", "fits", 1);
        subscriber.expect_message("a/b/c/d", "fits", 1);
        publisher.send(publish("a/b/c/d/e", "too deep").qos(1, 9).encode());
        publisher.expect_close();
        broker.await_log(|line| line.contains("client=\"pub\"") && line.contains("reason=\"invalid_topic_name\""));
        broker.assert_closes_new(Connect::new("will").will(publish("a/b/c/d/e", "x")).encode());
        broker.connect("pub").publish("///", "empty levels", 2);
        subscriber.expect_message("///", "empty levels", 2);
        subscriber.expect_silence();
        broker.sys().await_value("connections/violations", 2);
    });
}

#[test]
fn retained_messages_beyond_the_limit_are_delivered_and_not_kept() {
    const LIMIT: u16 = 6;
    on_shards(&[1, 2, 3], &["--max-retained", "6"], |broker| {
        let per_owner = LIMIT / broker.shards;
        let mut live = broker.connect("sub");
        live.subscribe("r/#", 1);
        let mut publisher = broker.connect("pub");
        let mut kept = Vec::new();
        for owner in 0..broker.shards {
            for n in 0..per_owner + 2 {
                let topic = broker.topic_on(owner, &format!("r/{n}/"));
                publisher.retain(&topic, "v", 1);
                live.expect_message(&topic, "v", 1);
                if n < per_owner {
                    kept.push(topic);
                }
            }
        }
        kept.sort();
        assert_eq!(retained_topics(broker, "v", kept.len()), kept);

        // What is kept can change, and what goes makes room.
        for topic in &kept {
            publisher.retain(topic, "w", 1);
            live.expect_message(topic, "w", 1);
        }
        assert_eq!(retained_topics(broker, "w", kept.len()), kept);
        for owner in 0..broker.shards {
            let gone = kept.remove(
                kept.iter()
                    .position(|topic| owns(broker, owner, topic))
                    .expect("it has some"),
            );
            publisher.retain(&gone, "", 1);
            live.expect_message(&gone, "", 1);
            let next = broker.topic_on(owner, "r/next/");
            publisher.retain(&next, "w", 1);
            live.expect_message(&next, "w", 1);
            kept.push(next);
        }
        kept.sort();
        assert_eq!(retained_topics(broker, "w", kept.len()), kept);
    });
}

/// A message that takes the last byte is kept, one more byte is not; an outdated one is none instead.
#[test]
fn retained_bytes_beyond_the_limit_are_delivered_and_not_kept() {
    on_shards(&[1, 2, 3], &["--max-retained-bytes", "300"], |broker| {
        let limit = 300 / usize::from(broker.shards);
        let mut live = broker.connect("sub");
        live.subscribe("r/#", 1);
        let mut publisher = broker.connect("pub");
        let mut retain = |topic: &str, bytes: usize| {
            publisher.retain(topic, vec![b'v'; bytes], 1);
            live.expect_message(topic, vec![b'v'; bytes], 1);
        };
        let expect_kept = |expected: &[(&String, usize)]| {
            let mut late = broker.connect("late");
            late.subscribe("r/#", 0);
            let mut kept: Vec<(String, usize)> = Vec::new();
            for _ in expected {
                let got = late.recv_publish();
                kept.push((got.topic, got.payload.len()));
            }
            late.expect_silence();
            kept.sort();
            let expected = expected.iter().map(|(topic, bytes)| ((*topic).clone(), *bytes));
            assert_eq!(kept, expected.collect::<Vec<_>>());
        };
        for owner in 0..broker.shards {
            let [first, second] = ["r/first/", "r/second/"].map(|prefix| broker.topic_on(owner, prefix));
            let room = limit - first.len();
            retain(&first, room);
            expect_kept(&[(&first, room)]);
            retain(&second, 1);
            expect_kept(&[(&first, room)]);
            let less = room - second.len() - 1;
            retain(&first, less);
            retain(&second, 1);
            expect_kept(&[(&first, less), (&second, 1)]);
            retain(&second, 2);
            expect_kept(&[(&first, less)]);
            retain(&first, room + 1);
            expect_kept(&[]);
        }
    });
}

/// The broker's own topics are among those that the limit counts.
#[test]
fn retained_messages_that_are_not_kept_are_counted() {
    let flags = ["--max-retained", "400", "--sys-interval", "1"];
    on_shards(&[1, 2], &flags, |broker| {
        let mut sys = broker.sys();
        sys.settle();
        let own = sys.get("retained messages/count");
        assert_eq!(own, sys.len() as u64);
        let mut publisher = broker.connect("pub");
        for n in 0..600 {
            publisher.retain(&format!("r/{n}"), "v", 1);
        }
        sys.settle();
        sys.await_value("retained messages/count", 400);
        sys.await_value("dropped/retained_full", own + 600 - 400);
        let room = usize::try_from(400 - own).expect("fewer than 400");
        retained_topics(broker, "v", room);
    });
}

#[test]
fn filters_beyond_the_limit_of_a_session_are_refused() {
    each_broker_with(&["--max-subscriptions", "3"], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.send(wire::subscribe(1, &[("a", 1), ("b", 1), ("$share/g/c", 1), ("d", 1)]));
        subscriber.expect(&Packet::Suback {
            id: 1,
            codes: vec![1, 1, 1, 0x80],
        });
        // One that is there already may be granted anew; the limit is one of each session, not of all.
        subscriber.subscribe("a", 2);
        let mut other = broker.connect("other");
        for filter in ["a", "b", "d"] {
            other.subscribe(filter, 0);
        }
        let mut publisher = broker.connect("pub");
        publisher.publish("d", "refused", 2);
        other.expect_message("d", "refused", 0);
        subscriber.expect_silence();
        publisher.publish("a", "granted", 2);
        subscriber.expect_message("a", "granted", 2);

        subscriber.unsubscribe("b");
        subscriber.subscribe("d", 1);
        publisher.publish("b", "gone", 1);
        publisher.publish("d", "granted", 1);
        subscriber.expect_message("d", "granted", 1);
        subscriber.expect_silence();
    });
}

#[test]
fn sessions_beyond_the_limit_are_refused_until_one_ends() {
    each_broker_with(&["--max-sessions", "2"], |broker| {
        let ids: Vec<String> = (0..4).map(|n| broker.id_on(0, &format!("session-{n}-"))).collect();
        let refused = |id: &str, clean: bool| {
            let mut client = broker.dial();
            client.send(
                Connect {
                    clean,
                    ..Connect::new(id)
                }
                .encode(),
            );
            client.expect(&Packet::Connack {
                session_present: false,
                code: 3,
            });
            client.expect_close();
        };
        broker.resume(&ids[0]).0.disconnect();
        let connected = broker.connect(&ids[1]);
        refused(&ids[2], false);
        refused(&ids[2], true);
        broker.await_log(|line| line.contains("reason=\"too_many_sessions\""));
        // Those that are there can be continued, and taken over.
        let (back, session_present) = broker.resume(&ids[0]);
        assert!(session_present);
        let (again, session_present) = broker.resume(&ids[0]);
        assert!(session_present);
        drop(back);

        // A clean session ends with its connection, any other when its client asks for a clean one.
        connected.disconnect();
        let (next, _) = broker.resume(&ids[2]);
        refused(&ids[3], true);
        again.disconnect();
        refused(&ids[3], true);
        broker.connect(&ids[0]).disconnect();
        broker.connect(&ids[3]).disconnect();
        next.disconnect();
        broker.connect(&ids[2]).disconnect();
    });
}

#[test]
fn connect_must_be_complete_in_time() {
    each_broker_with(&["--connect-timeout", "1", "--sys-interval", "1"], |broker| {
        let mut in_time = broker.connect("in-time");
        let mut silent: Vec<Client> = (0..broker.shards).map(|_| broker.dial()).collect();
        let mut slow = broker.dial();
        // Bytes alone buy no time.
        for byte in Connect::new(&"x".repeat(200)).encode() {
            if slow.recv_within(Duration::from_millis(100)).is_some() || !slow.send_whatever([byte]) {
                break;
            }
        }
        silent.push(slow);
        for client in &mut silent {
            client.expect_close();
            let peer = client.local_addr();
            let line = broker.await_log(|line| line.contains(&format!("peer={peer} ")));
            assert!(line.contains("reason=\"connect_timeout\""), "{line}");
        }
        in_time.ping();
        let mut sys = broker.sys();
        sys.settle();
        sys.await_value("connections/timeouts", silent.len() as u64);
        in_time.ping();
    });
}

#[test]
fn keep_alive_is_granted_up_to_its_limit() {
    each_broker_with(&["--max-keep-alive", "2", "--sys-interval", "1"], |broker| {
        let mut watcher = broker.connect_as(&Connect::new("sub").keep_alive(60)).0;
        watcher.subscribe("gone/+", 1);
        let mut silent: Vec<Client> = [0, 60]
            .iter()
            .map(|keep_alive| {
                let id = format!("silent-{keep_alive}");
                let will = publish(&format!("gone/{keep_alive}"), "will").qos(1, 1);
                broker
                    .connect_as(&Connect::new(&id).keep_alive(*keep_alive).will(will))
                    .0
            })
            .collect();
        // Who says something every now and then is no worse off.
        let deadline = Instant::now() + PATIENCE;
        let mut gone = Vec::new();
        while gone.len() < silent.len() {
            assert!(Instant::now() < deadline, "only {gone:?} are gone");
            watcher.send(PINGREQ);
            loop {
                match watcher.recv() {
                    Packet::Pingresp => break,
                    Packet::Publish(got) => {
                        watcher.acknowledge(&got);
                        gone.push(got.topic);
                    }
                    other => panic!("{other:?}"),
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        gone.sort();
        assert_eq!(gone, ["gone/0", "gone/60"]);
        for client in &mut silent {
            client.expect_close();
        }
        for id in ["silent-0", "silent-60"] {
            let line = broker.await_log(|line| line.contains(&format!("client=\"{id}\"")));
            assert!(line.contains("reason=\"keep_alive_timeout\""), "{line}");
        }
    });
}

#[test]
fn session_expires_when_its_client_stays_away() {
    each_broker_with(&["--session-expiry", "3", "--sys-interval", "1"], |broker| {
        let mut staying = broker.resume("staying").0;
        staying.subscribe("t", 1);
        let mut leaving = broker.resume("sub").0;
        leaving.subscribe("t", 1);
        leaving.disconnect();
        broker.connect("pub").publish("t", "missed", 1);
        staying.expect_message("t", "missed", 1);
        let mut sys = broker.sys();
        sys.await_value("dropped/session_ended", 1);
        sys.await_value("clients/disconnected", 0);
        assert_eq!(sys.get("dropped/session_ended"), 1);
        let (mut back, session_present) = broker.resume("sub");
        assert!(!session_present);
        broker.connect("pub").publish("t", "still", 1);
        back.expect_silence();
        // A connected client's session does not age, nor one that was left just now.
        staying.expect_message("t", "still", 1);
        let (mut taken_over, session_present) = broker.resume("staying");
        assert!(session_present);
        broker.connect("pub").publish("t", "after", 1);
        loop {
            let got = taken_over.recv_publish();
            taken_over.acknowledge(&got);
            if got.payload == b"after" {
                break;
            }
            assert!(got.dup, "{got:?}");
        }
    });
}

/// Connects as soon as the broker has seen that another has gone.
fn connect_when_there_is_room(broker: &Broker, id: &str) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "there is no room");
        let mut client = broker.dial();
        if client.send_whatever(Connect::new(id).encode())
            && let Some(answer) = client.recv_or_close()
        {
            assert!(matches!(answer, Packet::Connack { code: 0, .. }), "{answer:?}");
            return client;
        }
    }
}

/// The topics under `r/` with a retained message, in order. There must be so many, each with this payload.
fn retained_topics(broker: &Broker, payload: &str, count: usize) -> Vec<String> {
    let mut late = broker.connect("late");
    late.subscribe("r/#", 0);
    let mut topics: Vec<String> = (0..count)
        .map(|_| {
            let got = late.recv_publish();
            assert!(got.retain && got.payload == payload.as_bytes(), "{got:?}");
            got.topic
        })
        .collect();
    late.expect_silence();
    late.disconnect();
    topics.sort();
    topics
}

fn owns(broker: &Broker, shard: u16, topic: &str) -> bool {
    ringmq_shard::hash::retained_owner(topic, broker.shards, broker.placement_seed).0 == shard
}

#[test]
fn client_identifier_over_the_limit_is_refused_with_2() {
    each_broker_with(&["--max-client-id-bytes", "30"], |broker| {
        broker.connect(&"x".repeat(30)).ping();
        let mut refused = broker.dial();
        refused.send(Connect::new(&"x".repeat(31)).encode());
        refused.expect(&Packet::Connack {
            session_present: false,
            code: 2,
        });
        refused.expect_close();
    });
}

/// Attack 45: a client that asks for no Keep Alive and vanishes without a word is found by TCP. What the kernel does about it
/// shows in its list of sockets, by the timer of the broker's end.
#[test]
fn silent_clients_are_asked_after_by_tcp() {
    for (seconds, expected) in [("100", Some(10_000)), ("0", None)] {
        on_shards(&[1, 3], &["--tcp-keep-alive", seconds], |broker| {
            let mut client = broker.connect(&broker.id_on(broker.shards - 1, "silent"));
            client.ping();
            let (ours, theirs) = (broker.addr.port(), client.local_addr().port());
            let deadline = Instant::now() + PATIENCE;
            // Right after a packet, the timer is that of its acknowledgement.
            loop {
                let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
                let timer = sockets.lines().find_map(|line| {
                    let fields: Vec<&str> = line.split_whitespace().collect();
                    let is_port = |at: usize, port: u16| fields[at].ends_with(&format!(":{port:04X}"));
                    (is_port(1, ours) && is_port(2, theirs)).then(|| fields[5].to_owned())
                });
                let timer = timer.expect("an open connection");
                let (kind, left) = timer.split_once(':').expect("kind and time");
                // In hundredths of a second.
                let left = u64::from_str_radix(left, 16).expect("a number");
                let asked = (kind == "02").then_some(left);
                match expected {
                    Some(most) if asked.is_some_and(|left| left > most - 2_000 && left <= most) => break,
                    None if kind == "00" => break,
                    _ => assert!(Instant::now() < deadline, "{timer}"),
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    }
}
