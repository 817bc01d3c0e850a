//! Authentication: who is let in, what a verdict is bound to, and what waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::*;
use crate::codec::{QoS, Will};
use crate::limits::Limits;
use crate::shard::Admission;

const VERIFY: Admission = Admission::Verify { anonymous: false };

/// Nothing of the session is there before the verdict, wherever the client's home is; what was sent meanwhile follows it.
#[test]
fn what_follows_connect_waits_for_the_verdict() {
    for shards in [1, 2, 3] {
        let mut cluster = Cluster::new(shards);
        for home in 0..shards {
            let id = cluster.client_id_on(home, "device");
            let client = cluster.open_as(VERIFY);
            let mut bytes = connect_by(&id, true, "ann", Some("ann"));
            bytes.extend(subscribe_bytes(1, &[("t", 0)]));
            // A whole CONNECT and a part of what follows.
            let (first, rest) = bytes.split_at(bytes.len() - 3);
            cluster.send(client, first);
            cluster.settle();
            cluster.send(client, rest);
            cluster.send(client, &publish_bytes("t", b"x", 0, false, 0));
            cluster.settle();
            assert_eq!(cluster.asked(), ["ann"]);
            assert_eq!(cluster.take(client), []);
            assert_eq!(cluster.stats().sessions, 0);
            cluster.answer("ann");
            cluster.settle();
            let seen = cluster.take(client);
            assert!(
                matches!(
                    &seen[..],
                    [Seen::ConnAck(false, 0), Seen::SubAck(1, codes), Seen::Publish { .. }] if codes == &[0]
                ),
                "{seen:?}"
            );
            cluster.cut(client);
        }
        cluster.settle();
        cluster.check_quiet();
    }
}

/// What it sent behind the CONNECT is not looked at.
///
/// [MQTT-3.1.4-5]
#[test]
fn who_is_refused_is_told_so_and_leaves_nothing() {
    let mut cluster = Cluster::new(2);
    for (bytes, code) in [
        (connect_by("a", false, "ann", Some("wrong")), 4),
        (connect_by("a", false, "ann", None), 4),
        (connect_by("", true, "ann", Some("wrong")), 4),
    ] {
        let client = cluster.open_as(VERIFY);
        cluster.send(client, &bytes);
        cluster.send(client, &publish_bytes("t", b"x", 1, true, 1));
        cluster.settle();
        cluster.answer("ann");
        cluster.settle();
        assert_eq!(cluster.take(client), [Seen::ConnAck(false, code)]);
        assert!(cluster.is_closed(client));
    }
    let nobody = cluster.open_as(VERIFY);
    cluster.send(nobody, &connect_bytes("a", false, 0));
    cluster.settle();
    assert_eq!(cluster.take(nobody), [Seen::ConnAck(false, 5)]);
    assert!(cluster.asked().is_empty() && cluster.is_closed(nobody));
    let stats = cluster.stats();
    assert_eq!((stats.sessions, stats.refused, stats.publish_received), (0, 4, [0; 3]));

    let anonymous = cluster.open_as(Admission::Verify { anonymous: true });
    cluster.send(anonymous, &connect_bytes("a", true, 0));
    cluster.settle();
    assert_eq!(cluster.take(anonymous), [Seen::ConnAck(false, 0)]);
    let named = cluster.open_as(Admission::Verify { anonymous: true });
    cluster.send(named, &connect_by("b", true, "ann", Some("wrong")));
    cluster.settle();
    cluster.answer("ann");
    assert_eq!(
        cluster.take(named),
        [Seen::ConnAck(false, 4)],
        "a name that is given must be true"
    );
    cluster.check_quiet();
}

/// A wrong password takes nobody over, and what a Client Identifier has is not touched before the verdict.
#[test]
fn an_unverified_client_disturbs_nobody() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let owner = cluster.connect("device", false);
        let thief = cluster.open_as(VERIFY);
        cluster.send(thief, &connect_by("device", true, "eve", Some("wrong")));
        cluster.settle();
        assert!(!cluster.is_closed(owner));
        cluster.answer("eve");
        cluster.settle();
        assert!(cluster.is_closed(thief) && !cluster.is_closed(owner));
        assert_eq!(cluster.stats().takeovers, 0);
        cluster.check_quiet();
    }
}

/// Whatever the order of verdicts, the connection that came last is the one that stays; one that came earlier is never
/// let in after it.
#[test]
fn a_late_verdict_does_not_bring_an_older_connection_back() {
    for order in [["old", "new"], ["new", "old"]] {
        let mut cluster = Cluster::new(2);
        let old = cluster.open_as(VERIFY);
        cluster.send(old, &connect_by("device", false, "old", Some("old")));
        cluster.settle();
        let new = cluster.open_as(VERIFY);
        cluster.send(new, &connect_by("device", false, "new", Some("new")));
        cluster.settle();
        cluster.answer(order[0]);
        cluster.settle();
        if order[0] == "new" {
            assert!(cluster.is_closed(old));
            assert_eq!(cluster.take(old), [], "taken over before it was let in");
            // It comes and goes before the older verdict is there.
            cluster.cut(new);
        }
        cluster.answer(order[1]);
        cluster.settle();
        assert!(cluster.is_closed(old), "{order:?}");
        assert_eq!(cluster.stats().takeovers, 1);
        assert!(!cluster.is_closed(new));
        assert_eq!(cluster.stats().connects, if order[0] == "new" { 1 } else { 2 });
        cluster.check_quiet();
    }
}

/// A connection that is gone is not registered, nor is the one that has its number by then.
#[test]
fn a_verdict_is_bound_to_the_connection_that_asked() {
    let mut cluster = Cluster::new(1);
    let gone = cluster.open_as(VERIFY);
    cluster.send(gone, &connect_by("device", false, "ann", Some("ann")));
    cluster.cut(gone);
    // The same number, the same name, not the same ticket.
    let other = cluster.open_as(VERIFY);
    cluster.send(other, &connect_by("other", false, "ann", Some("wrong")));
    assert_eq!(cluster.asked(), ["ann", "ann"]);
    cluster.answer("ann");
    cluster.settle();
    assert_eq!(cluster.stats().sessions, 0);
    assert_eq!(cluster.take(other), []);
    cluster.answer_stale();
    assert_eq!(cluster.take(other), []);
    assert_eq!(cluster.stats().connects, 0);
    cluster.cut(other);
    cluster.check_quiet();
}

#[test]
fn who_is_not_verified_in_time_is_refused_with_3() {
    let mut cluster = Cluster::new(2);
    let client = cluster.open_as(VERIFY);
    cluster.send(client, &connect_by("device", false, "ann", Some("ann")));
    cluster.advance(Limits::default().connect_timeout + Duration::from_millis(200));
    assert_eq!(cluster.take(client), [Seen::ConnAck(false, 3)]);
    assert!(cluster.is_closed(client));
    cluster.answer("ann");
    cluster.settle();
    assert_eq!(cluster.stats().sessions, 0);
    cluster.check_quiet();
}

/// What an unverified client may send ahead is bounded: it is not read beyond.
#[test]
fn an_unverified_client_cannot_fill_memory() {
    let limits = Limits {
        connect_bytes_max: 1_000,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(1, &limits);
    let client = cluster.open_as(VERIFY);
    cluster.send(client, &connect_by("device", true, "ann", Some("ann")));
    for _ in 0..100 {
        cluster.send(client, &publish_bytes("t", &[b'x'; 400], 1, false, 7));
    }
    assert!(cluster.unread(client) > 35_000, "{}", cluster.unread(client));
    cluster.answer("ann");
    cluster.settle();
    let acknowledged = cluster
        .take(client)
        .iter()
        .filter(|seen| matches!(seen, Seen::PubAck(7)))
        .count();
    assert_eq!(acknowledged, 100, "nothing of it is lost");
}

/// Clients that come, wait, leave and come again, on several shards, with verdicts in any order: each Client Identifier
/// ends with the connection that came last and was right, and nobody else of it is left.
#[test]
fn the_last_right_connection_stays_whatever_the_order() {
    for seed in 0..300 {
        let mut cluster = Cluster::seeded(3, seed);
        // By Client Identifier: who was right, in the order in which they came.
        let mut right: BTreeMap<String, Vec<Client>> = BTreeMap::new();
        let mut all = Vec::new();
        for _ in 0..30 {
            match cluster.random() % 4 {
                0 | 1 => {
                    let id = format!("device{}", cluster.random() % 4);
                    let client = cluster.open_as(VERIFY);
                    let is_right = !cluster.random().is_multiple_of(3);
                    let password = if is_right { "ann" } else { "wrong" };
                    cluster.send(client, &connect_by(&id, true, "ann", Some(password)));
                    // The order in which CONNECTs come is that of the shard which has them.
                    cluster.settle();
                    all.push(client);
                    if is_right {
                        right.entry(id).or_default().push(client);
                    }
                }
                2 => {
                    cluster.answer_any();
                    cluster.run_some();
                }
                _ if !all.is_empty() => {
                    let at = usize::try_from(cluster.random() % all.len() as u64).unwrap();
                    let client = all.swap_remove(at);
                    let was_in = cluster.take(client).contains(&Seen::ConnAck(false, 0));
                    cluster.cut(client);
                    for clients in right.values_mut() {
                        let Some(at) = clients.iter().position(|other| *other == client) else {
                            continue;
                        };
                        // Whoever came before a client that was let in is not coming back.
                        drop(clients.drain(if was_in { 0 } else { at }..=at));
                    }
                }
                _ => {}
            }
        }
        while cluster.answer_any() {
            cluster.run_some();
        }
        cluster.settle();
        for clients in right.values() {
            let Some((last, earlier)) = clients.split_last() else {
                continue;
            };
            assert!(!cluster.is_closed(*last), "seed {seed}");
            for client in earlier {
                assert!(cluster.is_closed(*client), "seed {seed}");
            }
        }
        cluster.check_quiet();
    }
}

/// What the transport has proved counts, what CONNECT says about the user does not; also on another shard than the one that the
/// client came to.
#[test]
fn who_is_known_before_connect_is_not_asked() {
    let mut cluster = Cluster::new(3);
    for n in 0..9 {
        let client = cluster.open_as(VERIFY);
        cluster.identify(client, "ann");
        cluster.send(client, &connect_by(&format!("device{n}"), true, "bob", Some("wrong")));
        cluster.settle();
        assert_eq!(cluster.take(client), [Seen::ConnAck(false, 0)]);
        // Too late to be somebody else.
        cluster.identify(client, "carl");
        cluster.settle();
        assert!(!cluster.is_closed(client));
    }
    let anonymous = cluster.open_as(VERIFY);
    cluster.identify(anonymous, "ann");
    cluster.send(anonymous, &connect_bytes("device", true, 0));
    cluster.settle();
    assert_eq!(cluster.take(anonymous), [Seen::ConnAck(false, 0)]);
}

/// What was verified for a time ends the connection when that is over, with its Will, and the session goes on.
#[test]
fn what_was_verified_for_a_time_expires() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let watcher = cluster.connect("watcher", true);
        cluster.send(watcher, &subscribe_bytes(1, &[("will", 1)]));
        cluster.settle();
        cluster.take(watcher);
        let id = cluster.client_id_on(shards - 1, "a");
        let will = Will {
            topic: "will",
            message: b"expired",
            qos: QoS::AtMostOnce,
            retain: false,
        };
        for expires_in in [Some(5_000), None, Some(0)] {
            let client = cluster.open_as(Admission::Verify { anonymous: false });
            cluster.send(
                client,
                &connect_as(&id, false, 0, Some(will.clone()), Some(("ann", None))),
            );
            cluster.settle();
            cluster.verify(expires_in.map(Duration::from_millis));
            cluster.settle();
            let Some(ms) = expires_in else {
                cluster.advance(Duration::from_secs(1_000));
                assert!(!cluster.is_closed(client));
                cluster.send(client, &DISCONNECT);
                cluster.settle();
                continue;
            };
            if ms > 0 {
                cluster.advance(Duration::from_millis(ms - 100));
                assert!(!cluster.is_closed(client));
            }
            cluster.advance(Duration::from_millis(200));
            assert!(cluster.is_closed(client));
            assert_eq!(cluster.take_texts(watcher), ["will=expired"]);
        }
        assert_eq!(cluster.stats().sessions, 2);
        // Of a connection that is gone it says nothing about the next one in its place.
        let client = cluster.open_as(Admission::Verify { anonymous: false });
        cluster.send(client, &connect_by("b", true, "ann", Some("ann")));
        cluster.settle();
        cluster.verify(Some(Duration::from_secs(5)));
        cluster.cut(client);
        let next = cluster.connect("c", true);
        cluster.advance(Duration::from_secs(10));
        assert!(!cluster.is_closed(next));
    }
}
