//! SUBSCRIBE, UNSUBSCRIBE, and the routes between shards.

use super::cluster::*;

/// [MQTT-3.3.5-1]
#[test]
fn overlapping_filters_deliver_once_at_the_highest_qos() {
    for shards in [1, 2] {
        let mut cluster = Cluster::new(shards);
        let subscriber_id = cluster.client_id_on(shards - 1, "sub");
        let publisher_id = cluster.client_id_on(0, "pub");
        let subscriber = cluster.connect(&subscriber_id, true);
        cluster.send(subscriber, &subscribe_bytes(1, &[("a/#", 0), ("a/+", 2), ("a/b", 1)]));
        let publisher = cluster.connect(&publisher_id, true);
        cluster.settle();
        cluster.take(subscriber);
        cluster.send(publisher, &publish_bytes("a/b", b"x", 1, false, 1));
        cluster.settle();
        let seen = cluster.take(subscriber);
        assert!(matches!(seen[..], [Seen::Publish { qos: 1, .. }]), "{seen:?}");
    }
}

/// [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.8.4-2]
#[test]
fn suback_has_a_code_per_filter_in_order() {
    let mut cluster = Cluster::new(3);
    let client = cluster.connect("c", true);
    let deep = "x/".repeat(200);
    cluster.send(
        client,
        &subscribe_bytes(513, &[("a", 2), (&deep, 1), ("b/#", 0), ("$share/g/c", 1)]),
    );
    cluster.settle();
    assert_eq!(cluster.take(client), [Seen::SubAck(513, vec![2, 0x80, 0, 1])]);
}

#[test]
fn an_invalid_filter_closes_and_leaves_nothing_behind() {
    for filter in ["a#", "#/a", "a+/b", "", "$share/g", "$share//a", "$share/+/a"] {
        let mut cluster = Cluster::new(2);
        let client = cluster.connect("c", false);
        cluster.send(client, &subscribe_bytes(1, &[("fine", 1), (filter, 1)]));
        cluster.settle();
        assert!(cluster.is_closed(client), "{filter}");
        assert!(cluster.routes().is_empty());
        cluster.check_quiet();
    }
}

/// [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5]
#[test]
fn unsubscribe_ends_delivery_and_is_always_answered() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let client = cluster.connect("c", true);
        cluster.send(client, &subscribe_bytes(1, &[("a", 1), ("b", 1)]));
        cluster.settle();
        cluster.send(client, &unsubscribe_bytes(2, &["a", "never"]));
        cluster.settle();
        let publisher = cluster.connect("p", true);
        cluster.send(publisher, &publish_bytes("a", b"x", 0, false, 0));
        cluster.send(publisher, &publish_bytes("b", b"x", 0, false, 0));
        cluster.settle();
        let seen: Vec<String> = cluster.take(client).iter().map(Seen::text).collect();
        assert_eq!(seen, ["SubAck(1, [1, 1])", "UnsubAck(2)", "b=x"]);
        cluster.send(client, &unsubscribe_bytes(3, &["b"]));
        cluster.settle();
        assert!(cluster.routes().is_empty());
        cluster.check_quiet();
    }
}

/// Promise 3: after SUBACK, whatever is published on any shard arrives.
#[test]
fn after_suback_a_publish_on_any_shard_arrives() {
    for seed in 0..200 {
        let mut cluster = Cluster::seeded(4, seed);
        let publishers: Vec<Client> = (0..4)
            .map(|shard| {
                let id = cluster.client_id_on(shard, "pub");
                cluster.connect(&id, true)
            })
            .collect();
        let subscriber = cluster.connect("sub", true);
        // Others come and go on the same filter, so that routes are withdrawn and announced under way.
        let other = cluster.connect("other", true);
        for n in 0..10u16 {
            cluster.send(other, &subscribe_bytes(n + 1, &[("t/+", 0)]));
            cluster.run_some();
            cluster.send(subscriber, &subscribe_bytes(n + 1, &[("t/+", 0)]));
            cluster.send(other, &unsubscribe_bytes(n + 1, &["t/+"]));
            while !cluster.take(subscriber).contains(&Seen::SubAck(n + 1, vec![0])) {
                cluster.run_some();
            }
            let at = usize::try_from(cluster.random() % 4).unwrap();
            let payload = n.to_string();
            cluster.send(publishers[at], &publish_bytes("t/x", payload.as_bytes(), 0, false, 0));
            cluster.settle();
            assert_eq!(cluster.take_texts(subscriber), [format!("t/x={n}")], "seed {seed}");
            cluster.send(subscriber, &unsubscribe_bytes(100, &["t/+"]));
            cluster.run_some();
            cluster.take(subscriber);
        }
        cluster.settle();
        cluster.check_quiet();
        assert!(cluster.routes().is_empty());
    }
}

/// [MQTT-4.7.2-1]
#[test]
fn wildcards_do_not_see_dollar_topics() {
    let mut cluster = Cluster::new(2);
    let client = cluster.connect("c", true);
    cluster.send(client, &subscribe_bytes(1, &[("#", 0), ("+/x", 0), ("$own/#", 0)]));
    cluster.settle();
    cluster.take(client);
    cluster.send(client, &publish_bytes("$own/x", b"1", 0, false, 0));
    cluster.send(client, &publish_bytes("$SYS/x", b"2", 0, false, 0));
    cluster.settle();
    assert_eq!(cluster.take_texts(client), ["$own/x=1"]);
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-3]
#[test]
fn live_delivery_has_retain_0_and_dup_0() {
    let mut cluster = Cluster::new(2);
    let client = cluster.connect("c", true);
    cluster.send(client, &subscribe_bytes(1, &[("t", 2)]));
    cluster.settle();
    cluster.take(client);
    let mut publish = publish_bytes("t", b"x", 1, true, 5);
    publish[0] |= 0x08;
    cluster.send(client, &publish);
    cluster.settle();
    let seen = cluster.take(client);
    assert!(
        seen.iter().any(|seen| matches!(
            seen,
            Seen::Publish {
                retain: false,
                dup: false,
                ..
            }
        )),
        "{seen:?}"
    );
}

/// [MQTT-4.6.0-6]: a message was held for a filter that is unsubscribed from meanwhile; what comes after it through
/// another filter does not overtake it.
#[test]
fn nothing_overtakes_a_message_that_was_held_for_a_dropped_filter() {
    let mut cluster = Cluster::new(2);
    let id = cluster.client_id_on(1, "sub");
    let subscriber = cluster.connect(&id, true);
    let id = cluster.client_id_on(1, "pub");
    let publisher = cluster.connect(&id, true);
    cluster.send(subscriber, &subscribe_bytes(1, &[("t", 1)]));
    cluster.settle();
    cluster.take(subscriber);
    // Not confirmed by the other shard, so messages for it are held.
    cluster.send(subscriber, &subscribe_bytes(2, &[("#", 1)]));
    cluster.send(publisher, &publish_bytes("t", b"1", 1, false, 1));
    assert!(cluster.take_texts(subscriber).is_empty());
    cluster.send(subscriber, &unsubscribe_bytes(3, &["#"]));
    cluster.send(publisher, &publish_bytes("t", b"2", 1, false, 2));
    cluster.settle();
    assert_eq!(cluster.take_texts(subscriber), ["t=1", "t=2"]);
    cluster.check_quiet();
}
