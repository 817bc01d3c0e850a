//! Shared subscriptions.

use std::collections::BTreeMap;

use super::cluster::*;
use crate::limits::{Limits, SharedStrategy};

fn members(cluster: &mut Cluster, shards: &[u16], clean: bool) -> Vec<(Client, String)> {
    let mut all = Vec::new();
    for (n, shard) in shards.iter().enumerate() {
        let id = cluster.client_id_on(*shard, &format!("member{n}-"));
        let client = cluster.connect(&id, clean);
        cluster.send(client, &subscribe_bytes(1, &[("$share/g/t/#", 1)]));
        cluster.settle();
        assert_eq!(cluster.take(client), [Seen::SubAck(1, vec![1])]);
        all.push((client, id));
    }
    all
}

#[test]
fn each_message_goes_to_one_member_and_all_get_their_share() {
    let mut cluster = Cluster::new(3);
    let members = members(&mut cluster, &[0, 1, 1, 2], true);
    let plain = cluster.connect("plain", true);
    cluster.send(plain, &subscribe_bytes(1, &[("t/+", 0)]));
    cluster.settle();
    for shard in 0..3 {
        let id = cluster.client_id_on(shard, "pub");
        let publisher = cluster.connect(&id, true);
        for n in 0..80 {
            cluster.send(publisher, &publish_bytes(&format!("t/{shard}-{n}"), b"x", 0, false, 0));
        }
    }
    cluster.settle();
    let mut all = Vec::new();
    for (member, _) in &members {
        let texts = cluster.take_texts(*member);
        assert_eq!(texts.len(), 60);
        all.extend(texts);
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 240);
    assert_eq!(cluster.take_texts(plain).len(), 240);
}

#[test]
fn sticky_keeps_a_publisher_on_one_member() {
    let limits = Limits {
        shared_strategy: SharedStrategy::Sticky,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, &limits);
    let members = members(&mut cluster, &[0, 1, 2, 2], true);
    for n in 0..12 {
        let publisher = cluster.connect(&format!("p{n}"), true);
        for m in 0..5 {
            cluster.send(
                publisher,
                &publish_bytes(&format!("t/{n}"), m.to_string().as_bytes(), 0, false, 0),
            );
        }
    }
    cluster.settle();
    let mut of_topic: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut used = 0;
    for (member, _) in &members {
        let mut mine: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in cluster.take_texts(*member) {
            let (topic, value) = text.split_once('=').unwrap();
            mine.entry(topic.to_owned()).or_default().push(value.to_owned());
        }
        used += usize::from(!mine.is_empty());
        for (topic, values) in mine {
            assert_eq!(values, ["0", "1", "2", "3", "4"], "{topic}");
            assert!(of_topic.insert(topic, values).is_none());
        }
    }
    assert_eq!(of_topic.len(), 12);
    assert!(used > 1);
}

#[test]
fn what_a_leaving_member_had_not_acknowledged_goes_to_another() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let members = members(&mut cluster, &[0, shards - 1], true);
        let publisher = cluster.connect("p", true);
        for n in 0..10 {
            cluster.send(
                publisher,
                &publish_bytes("t/x", n.to_string().as_bytes(), 1, false, n + 1),
            );
        }
        cluster.settle();
        let first = cluster.take_texts(members[0].0);
        let second = cluster.take_texts(members[1].0);
        assert_eq!((first.len(), second.len()), (5, 5));
        cluster.cut(members[0].0);
        cluster.settle();
        assert_eq!(cluster.take_texts(members[1].0), first);
        cluster.cut(members[1].0);
        cluster.settle();
        assert!(cluster.routes().is_empty());
        cluster.check_quiet();
    }
}

/// It unsubscribes first, and may still acknowledge; what is left when its session ends goes to another.
#[test]
fn what_a_member_had_not_acknowledged_when_it_unsubscribed_goes_to_another_once_its_session_ends() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let members = members(&mut cluster, &[0, shards - 1], true);
        let publisher = cluster.connect("p", true);
        for n in 0..4 {
            cluster.send(
                publisher,
                &publish_bytes("t/x", n.to_string().as_bytes(), 1, false, n + 1),
            );
        }
        cluster.settle();
        let first = cluster.take_texts(members[0].0);
        assert_eq!(first.len(), 2);
        cluster.take(members[1].0);
        cluster.send(members[0].0, &unsubscribe_bytes(9, &["$share/g/t/#"]));
        cluster.send(members[0].0, &ack_bytes(PUBACK, 1));
        cluster.settle();
        assert!(cluster.take_texts(members[1].0).is_empty());
        cluster.cut(members[0].0);
        cluster.settle();
        assert_eq!(cluster.take_texts(members[1].0), first[1..]);
        cluster.cut(members[1].0);
        cluster.settle();
        assert!(cluster.routes().is_empty());
        cluster.check_quiet();
    }
}

#[test]
fn a_member_that_is_away_is_passed_over_while_another_is_there() {
    let mut cluster = Cluster::new(2);
    let members = members(&mut cluster, &[0, 1], false);
    cluster.cut(members[0].0);
    cluster.settle();
    let publisher = cluster.connect("p", true);
    let publish = |cluster: &mut Cluster, value: &str, id| {
        cluster.send(publisher, &publish_bytes("t/x", value.as_bytes(), 1, false, id));
        cluster.settle();
    };
    publish(&mut cluster, "a", 1);
    publish(&mut cluster, "b", 2);
    assert_eq!(cluster.take_texts(members[1].0), ["t/x=a", "t/x=b"]);
    cluster.send(members[1].0, &ack_bytes(PUBACK, 1));
    cluster.send(members[1].0, &ack_bytes(PUBACK, 2));
    cluster.cut(members[1].0);
    publish(&mut cluster, "c", 3);
    publish(&mut cluster, "d", 4);
    let again: Vec<Client> = members.iter().map(|(_, id)| cluster.connect(id, false)).collect();
    cluster.settle();
    let mut all: Vec<String> = again.iter().flat_map(|member| cluster.take_texts(*member)).collect();
    all.sort();
    assert_eq!(all, ["t/x=c", "t/x=d"]);
}

#[test]
fn shared_subscriptions_get_no_retained_messages() {
    let mut cluster = Cluster::new(2);
    let client = cluster.connect("c", true);
    cluster.send(client, &publish_bytes("t/x", b"1", 0, true, 0));
    cluster.send(client, &subscribe_bytes(1, &[("$share/g/t/#", 1)]));
    cluster.settle();
    assert_eq!(cluster.take(client), [Seen::SubAck(1, vec![1])]);
}

/// Members come and go under load on every interleaving: a QoS 1 message is lost only if nobody is left.
#[test]
fn no_message_is_lost_while_one_member_stays() {
    for seed in 0..100 {
        let mut cluster = Cluster::seeded(3, seed);
        let stays = cluster.connect("stays", true);
        cluster.send(stays, &subscribe_bytes(1, &[("$share/g/t", 1)]));
        cluster.settle();
        let publisher = cluster.connect("p", true);
        let mut seen = Vec::new();
        let mut guests: Vec<Client> = Vec::new();
        for n in 0..60u16 {
            cluster.send(
                publisher,
                &publish_bytes("t", n.to_string().as_bytes(), 1, false, n + 1),
            );
            cluster.run_some();
            if n % 5 == 0 {
                let guest = cluster.open();
                cluster.send(guest, &connect_bytes(&format!("guest{n}"), true, 0));
                cluster.send(guest, &subscribe_bytes(1, &[("$share/g/t", 1)]));
                guests.push(guest);
            }
            if n % 7 == 0
                && let Some(guest) = guests.pop()
            {
                cluster.cut(guest);
            }
            // The one who stays acknowledges; guests never do.
            for packet in cluster.take(stays) {
                if let Seen::Publish { id, payload, .. } = packet {
                    seen.push(String::from_utf8(payload).unwrap());
                    cluster.send(stays, &ack_bytes(PUBACK, id));
                }
            }
        }
        for guest in guests {
            cluster.cut(guest);
        }
        cluster.settle();
        for packet in cluster.take(stays) {
            if let Seen::Publish { payload, id, .. } = packet {
                seen.push(String::from_utf8(payload).unwrap());
                cluster.send(stays, &ack_bytes(PUBACK, id));
            }
        }
        cluster.settle();
        seen.sort_by_key(|value| value.parse::<u32>().unwrap());
        let expected: Vec<String> = (0..60).map(|n| n.to_string()).collect();
        assert_eq!(seen, expected, "seed {seed}");
        cluster.check_quiet();
    }
}

/// The last member on a shard leaves before that shard hears of the one that keeps the group alive, and others still send it
/// the group's messages. They are passed on, also if the group has another place in its tables by then.
#[test]
fn a_group_that_is_forgotten_and_comes_back_while_messages_are_on_their_way_gets_them() {
    for slot_is_taken in [false, true] {
        let mut cluster = Cluster::new(3);
        let old = members(&mut cluster, &[1], true)[0].0;
        let client = |cluster: &mut Cluster, shard, name: &str| {
            let id = cluster.client_id_on(shard, name);
            cluster.connect(&id, true)
        };
        let publisher = client(&mut cluster, 0, "publisher");
        let other = client(&mut cluster, 1, "other");
        let new = client(&mut cluster, 2, "new");
        cluster.send(new, &subscribe_bytes(1, &[("$share/g/t/#", 1)]));
        cluster.cut(old);
        if slot_is_taken {
            cluster.send(other, &subscribe_bytes(1, &[("$share/other/t/x", 0)]));
        }
        cluster.step(0);
        cluster.step(1);
        while cluster.step(2) {}
        assert_eq!(cluster.take(new), [Seen::SubAck(1, vec![1])]);
        for n in 1..=4 {
            cluster.send(publisher, &publish_bytes("t/x", n.to_string().as_bytes(), 1, false, n));
        }
        cluster.settle();
        let mut texts = cluster.take_texts(new);
        texts.sort();
        assert_eq!(texts, ["t/x=1", "t/x=2", "t/x=3", "t/x=4"]);
        cluster.check_quiet();
    }
}
