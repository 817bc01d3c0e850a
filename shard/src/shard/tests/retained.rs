//! Retained messages: stored at their owner, found by every new subscription, never going back.

use super::cluster::*;
use crate::error::DropReason;
use crate::limits::Limits;

fn retained(topic: &str, payload: &str, qos: u8, id: u16) -> Seen {
    let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
    Seen::Publish {
        topic,
        payload,
        qos,
        retain: true,
        dup: false,
        id,
    }
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8]
#[test]
fn a_new_subscription_gets_the_last_retained_message_from_whichever_shard_owns_it() {
    for shards in [1, 2, 3, 8] {
        let mut cluster = Cluster::new(shards);
        let publisher = cluster.connect("p", true);
        for owner in 0..shards {
            let topic = cluster.topic_on(owner);
            cluster.send(publisher, &publish_bytes(&topic, b"old", 1, true, 1));
            cluster.send(publisher, &publish_bytes(&topic, b"new", 1, true, 1));
        }
        cluster.settle();
        assert_eq!(cluster.stats().retained, u64::from(shards));
        let subscriber = cluster.connect("s", true);
        for owner in 0..shards {
            let topic = cluster.topic_on(owner);
            cluster.send(subscriber, &subscribe_bytes(owner + 1, &[(&topic, 1)]));
            cluster.settle();
            let expected = [Seen::SubAck(owner + 1, vec![1]), retained(&topic, "new", 1, owner + 1)];
            assert_eq!(cluster.take(subscriber), expected);
        }
        cluster.send(subscriber, &subscribe_bytes(99, &[("topic/#", 0)]));
        cluster.settle();
        assert_eq!(cluster.take_texts(subscriber).len(), usize::from(shards));
    }
}

/// [MQTT-3.8.4-3]
#[test]
fn subscribing_again_sends_retained_messages_again() {
    let mut cluster = Cluster::new(2);
    let client = cluster.connect("c", true);
    cluster.send(client, &publish_bytes("t", b"x", 0, true, 0));
    for n in 1..=3 {
        cluster.send(client, &subscribe_bytes(n, &[("t", 0)]));
        cluster.settle();
        assert_eq!(
            cluster.take(client),
            [Seen::SubAck(n, vec![0]), retained("t", "x", 0, 0)]
        );
    }
}

/// [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.3.1-12]
#[test]
fn an_empty_payload_removes_and_retain_0_changes_nothing() {
    let mut cluster = Cluster::new(3);
    let publisher = cluster.connect("p", true);
    let live = cluster.connect("live", true);
    cluster.send(live, &subscribe_bytes(1, &[("t", 0)]));
    cluster.settle();
    cluster.send(publisher, &publish_bytes("t", b"x", 0, true, 0));
    cluster.send(publisher, &publish_bytes("t", b"y", 0, false, 0));
    cluster.settle();
    let subscriber = cluster.connect("s", true);
    cluster.send(subscriber, &subscribe_bytes(1, &[("t", 0)]));
    cluster.settle();
    assert_eq!(cluster.take_texts(subscriber), ["t=x"]);
    cluster.send(publisher, &publish_bytes("t", b"", 0, true, 0));
    cluster.settle();
    assert_eq!(cluster.take_texts(live), ["t=x", "t=y", "t="]);
    cluster.send(subscriber, &subscribe_bytes(2, &[("#", 0)]));
    cluster.settle();
    assert_eq!(cluster.take_texts(subscriber), ["t="]);
    assert_eq!(cluster.stats().retained, 0);
}

/// Promise 3, and "no going back": a counter is published as retained while a subscriber subscribes again and again. It
/// never misses the value it should at least see, and never sees an older value after a newer one.
#[test]
fn a_subscriber_never_misses_and_never_goes_back() {
    for seed in 0..300 {
        let mut cluster = Cluster::seeded(4, seed);
        let place = |cluster: &mut Cluster| u16::try_from(cluster.random() % 4).unwrap();
        let (publisher_shard, subscriber_shard, owner) =
            (place(&mut cluster), place(&mut cluster), place(&mut cluster));
        let topic = cluster.topic_on(owner);
        let id = cluster.client_id_on(publisher_shard, "pub");
        let publisher = cluster.connect(&id, true);
        let id = cluster.client_id_on(subscriber_shard, "sub");
        let subscriber = cluster.connect(&id, true);
        let mut published = 0u32;
        let mut newest_seen = 0u32;
        for round in 1..=20u16 {
            let settled = published;
            if seed % 2 == 0 {
                cluster.settle();
            }
            let filter = if round % 3 == 0 { "topic/#" } else { &topic };
            cluster.send(
                subscriber,
                &subscribe_bytes(round, &[(filter, u8::try_from(seed % 3).unwrap())]),
            );
            for _ in 0..cluster.random() % 4 {
                cluster.run_some();
                published += 1;
                let (id, payload) = (u16::try_from(published).unwrap(), published.to_string());
                cluster.send(publisher, &publish_bytes(&topic, payload.as_bytes(), 1, true, id));
            }
            cluster.settle();
            let mut live = Vec::new();
            let mut best = 0;
            for seen in cluster.take(subscriber) {
                let Seen::Publish {
                    payload,
                    retain,
                    id,
                    qos,
                    ..
                } = seen
                else {
                    continue;
                };
                if qos == 1 {
                    cluster.send(subscriber, &ack_bytes(PUBACK, id));
                }
                let value: u32 = String::from_utf8(payload).unwrap().parse().unwrap();
                assert!(value >= newest_seen, "seed {seed}: {value} after {newest_seen}");
                newest_seen = value;
                best = value;
                if !retain {
                    assert!(!live.contains(&value), "seed {seed}: {value} twice");
                    live.push(value);
                }
            }
            if settled > 0 && seed % 2 == 0 {
                assert!(best >= settled, "seed {seed}: missed {settled}");
            }
            if round % 4 == 0 {
                cluster.send(subscriber, &unsubscribe_bytes(200, &[&topic, "topic/#"]));
                cluster.run_some();
            }
        }
        cluster.settle();
        cluster.check_quiet();
    }
}

/// A SUBSCRIBE whose filter was dropped while it waited neither sends its retained message nor ends the wait of a later
/// SUBSCRIBE for the same filter.
#[test]
fn a_filter_dropped_while_pending_counts_for_nothing() {
    for seed in 0..200 {
        let mut cluster = Cluster::seeded(3, seed);
        let publisher = cluster.connect("p", true);
        cluster.send(publisher, &publish_bytes("t", b"0", 0, true, 0));
        cluster.settle();
        let subscriber = cluster.connect("s", true);
        for n in 1..=20u32 {
            let id = u16::try_from(n).unwrap();
            match cluster.random() % 3 {
                0 => cluster.send(subscriber, &unsubscribe_bytes(id, &["t"])),
                _ => cluster.send(subscriber, &subscribe_bytes(id, &[("t", 0)])),
            }
            cluster.run_some();
            cluster.send(publisher, &publish_bytes("t", n.to_string().as_bytes(), 0, true, 0));
            cluster.run_some();
        }
        cluster.settle();
        let values: Vec<u32> = cluster
            .take_texts(subscriber)
            .iter()
            .map(|text| text[2..].parse().unwrap())
            .collect();
        assert!(values.is_sorted(), "seed {seed}: {values:?}");
        cluster.check_quiet();
    }
}

#[test]
fn a_thousand_retained_messages_arrive_before_what_is_published_meanwhile() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let publisher = cluster.connect("p", true);
        for n in 0..3_000 {
            cluster.send(publisher, &publish_bytes(&format!("r/{n}"), b"old", 0, true, 0));
        }
        cluster.settle();
        let subscriber = cluster.connect("s", true);
        cluster.send(subscriber, &subscribe_bytes(1, &[("r/#", 0)]));
        for n in 0..3_000 {
            cluster.send(publisher, &publish_bytes(&format!("r/{n}"), b"new", 0, true, 0));
        }
        cluster.settle();
        let mut newest = std::collections::BTreeMap::new();
        for text in cluster.take_texts(subscriber) {
            let (topic, value) = text.split_once('=').unwrap();
            let before = newest.insert(topic.to_owned(), value.to_owned());
            assert!(before.is_none_or(|before| before == "old" && value == "new"), "{text}");
        }
        assert_eq!(newest.len(), 3_000);
        assert!(newest.values().all(|value| value == "new"));
    }
}

/// Two SUBSCRIBE packets wait at once for the retained message of one topic, and are answered with an older and a newer one,
/// whose live copy a full queue refused. Neither does the older one leave twice, nor after the newer one.
#[test]
fn of_two_subscribes_that_wait_the_later_does_not_go_back() {
    let limits = Limits {
        queued_messages_max: 1,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(2, &limits);
    let topic = cluster.topic_on(0);
    let id = cluster.client_id_on(1, "publisher");
    let publisher = cluster.connect(&id, true);
    let id = cluster.client_id_on(1, "subscriber");
    let subscriber = cluster.connect(&id, true);
    let newer_found = subscribe_bytes(1, &[(&topic, 1), ("x", 1), ("topic/#", 1)]);
    let older_found = subscribe_bytes(2, &[(&topic, 1), ("y", 1), ("z", 1)]);
    cluster.send(subscriber, &[newer_found, older_found].concat());
    cluster.step(0);
    cluster.step(1);
    cluster.send(publisher, &publish_bytes(&topic, b"older", 1, true, 1));
    cluster.send(publisher, &publish_bytes(&topic, b"newer", 1, true, 2));
    cluster.settle();
    let texts = cluster.take_texts(subscriber);
    assert_eq!(texts, [format!("{topic}=older"), format!("{topic}=newer")]);
    assert_eq!(cluster.stats().dropped_for(DropReason::QueueFull), 1);
    cluster.check_quiet();
}
