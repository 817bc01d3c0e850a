//! Acknowledge after durable: what leaves only once the store has what it promises.

use super::cluster::*;

/// A persistent subscriber on the last shard, a publisher on the first, everything so far durable.
fn pair(cluster: &mut Cluster, shards: u16) -> (Client, Client) {
    let subscriber_id = cluster.client_id_on(shards - 1, "sub");
    let publisher_id = cluster.client_id_on(0, "pub");
    let (subscriber, publisher) = (cluster.open(), cluster.open());
    cluster.send(subscriber, &connect_bytes(&subscriber_id, false, 0));
    cluster.send(publisher, &connect_bytes(&publisher_id, false, 0));
    cluster.settle();
    assert!(
        cluster.take(subscriber).is_empty(),
        "CONNACK waits for the session's record"
    );
    cluster.make_durable();
    assert_eq!(cluster.take(subscriber), [Seen::ConnAck(false, 0)]);
    cluster.send(subscriber, &subscribe_bytes(1, &[("t", 2)]));
    cluster.settle();
    assert!(
        cluster.take(subscriber).is_empty(),
        "SUBACK waits for the subscription's record"
    );
    cluster.make_durable();
    assert_eq!(cluster.take(subscriber), [Seen::SubAck(1, vec![2])]);
    cluster.take(publisher);
    (subscriber, publisher)
}

/// A publisher must not hear before every shard with a persistent session has its message.
#[test]
fn puback_waits_for_every_store() {
    for shards in [1, 2, 3] {
        let mut cluster = Cluster::with_slow_stores(shards);
        let (subscriber, publisher) = pair(&mut cluster, shards);
        cluster.send(publisher, &publish_bytes("t", b"x", 1, false, 7));
        cluster.settle();
        assert!(cluster.take(publisher).is_empty());
        assert_eq!(
            cluster.take_texts(subscriber),
            ["t=x"],
            "QoS 1 delivery waits for nothing"
        );
        cluster.make_durable();
        cluster.settle();
        assert_eq!(cluster.take(publisher), [Seen::PubAck(7)]);
        cluster.check_quiet();
    }
}

#[test]
fn pubrec_pubcomp_and_the_outbound_exchange_wait_for_their_records() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_slow_stores(shards);
        let (subscriber, publisher) = pair(&mut cluster, shards);
        cluster.send(publisher, &publish_bytes("t", b"x", 2, false, 7));
        cluster.send(publisher, &publish_bytes("t", b"x", 2, false, 7));
        assert!(cluster.take(publisher).is_empty());
        cluster.make_durable();
        assert_eq!(cluster.take(publisher), [Seen::PubRec(7), Seen::PubRec(7)]);
        cluster.send(publisher, &ack_bytes(PUBREL, 7));
        cluster.settle();
        assert!(cluster.take(publisher).is_empty());
        assert!(cluster.take(subscriber).is_empty(), "its identifier is not bound yet");
        cluster.make_durable();
        cluster.settle();
        assert_eq!(cluster.take(publisher), [Seen::PubComp(7)]);
        assert_eq!(cluster.take_texts(subscriber), ["t=x"]);
        cluster.send(subscriber, &ack_bytes(PUBREC, 1));
        assert!(cluster.take(subscriber).is_empty());
        cluster.make_durable();
        assert_eq!(cluster.take(subscriber), [Seen::PubRel(1)]);
        cluster.send(subscriber, &ack_bytes(PUBCOMP, 1));
        cluster.make_durable();
        cluster.check_quiet();
    }
}

/// [MQTT-4.6.0-2]
#[test]
fn acknowledgements_keep_their_order_whatever_they_wait_for() {
    let mut cluster = Cluster::with_slow_stores(2);
    let (_, publisher) = pair(&mut cluster, 2);
    cluster.send(publisher, &publish_bytes("t", b"x", 1, false, 1));
    cluster.send(publisher, &publish_bytes("nobody", b"x", 1, false, 2));
    cluster.send(publisher, &publish_bytes("t", b"x", 1, false, 3));
    cluster.send(publisher, &[0xc0, 0]);
    cluster.settle();
    assert!(cluster.take(publisher).is_empty());
    cluster.make_durable();
    cluster.settle();
    assert_eq!(
        cluster.take(publisher),
        [Seen::PubAck(1), Seen::PubAck(2), Seen::PubAck(3), Seen::PingResp]
    );
}

#[test]
fn a_store_that_refuses_costs_the_acknowledgement_and_the_connection() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_slow_stores(shards);
        let (subscriber, publisher) = pair(&mut cluster, shards);
        cluster.stores[usize::from(shards - 1)].fail(true);
        cluster.send(publisher, &publish_bytes("t", b"x", 1, false, 7));
        cluster.settle();
        assert!(cluster.is_closed(publisher));
        assert!(cluster.take(publisher).is_empty());
        assert!(cluster.take_texts(subscriber).is_empty());
        assert!(!cluster.is_closed(subscriber));
    }
}

/// Else nobody would ever end it.
#[test]
fn a_session_that_the_store_refuses_is_not_kept() {
    let mut cluster = Cluster::with_slow_stores(1);
    cluster.stores[0].fail(true);
    let client = cluster.open();
    cluster.send(client, &connect_bytes("c", false, 0));
    assert_eq!(cluster.take(client), [Seen::ConnAck(false, 3)]);
    assert!(cluster.is_closed(client));
    assert_eq!(cluster.stats().sessions, 0);
}

#[test]
fn retained_messages_are_durable_at_their_owner_before_puback() {
    let mut cluster = Cluster::with_slow_stores(3);
    let (_, publisher) = pair(&mut cluster, 3);
    let topic = cluster.topic_on(1);
    cluster.send(publisher, &publish_bytes(&topic, b"x", 1, true, 7));
    cluster.settle();
    assert!(cluster.take(publisher).is_empty());
    cluster.make_durable();
    cluster.settle();
    assert_eq!(cluster.take(publisher), [Seen::PubAck(7)]);
    assert!(cluster.stores[1].records().contains(&"Retained".to_owned()));
}

#[test]
fn clean_sessions_write_no_records() {
    let mut cluster = Cluster::with_slow_stores(1);
    let client = cluster.connect("c", true);
    cluster.send(client, &subscribe_bytes(1, &[("t", 2)]));
    cluster.send(client, &publish_bytes("t", b"x", 1, false, 1));
    cluster.cut(client);
    assert_eq!(cluster.stores[0].records(), Vec::<String>::new());
}

#[test]
fn every_change_of_a_persistent_session_is_recorded() {
    let mut cluster = Cluster::with_slow_stores(1);
    let (subscriber, publisher) = pair(&mut cluster, 1);
    cluster.send(publisher, &publish_bytes("t", b"x", 2, false, 7));
    cluster.send(publisher, &ack_bytes(PUBREL, 7));
    cluster.send(subscriber, &ack_bytes(PUBREC, 1));
    cluster.send(subscriber, &ack_bytes(PUBCOMP, 1));
    cluster.send(subscriber, &unsubscribe_bytes(9, &["t"]));
    let records = cluster.stores[0].records();
    let expected = [
        "Held",
        "Queued",
        "Bound",
        "Released",
        "Received",
        "Done",
        "Unsubscribed",
    ];
    assert_eq!(records[records.len() - expected.len()..], expected);
}

/// [MQTT-4.6.0-1]: a QoS 2 message that waits for its identifier's record is overtaken by nothing that came later, so what
/// is sent again later is in the order of the first sending, and no retained value follows a newer live one.
#[test]
fn nothing_overtakes_a_message_that_waits_for_its_record() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_slow_stores(shards);
        let (subscriber, publisher) = pair(&mut cluster, shards);
        cluster.send(publisher, &publish_bytes("t", b"two", 2, false, 7));
        cluster.send(publisher, &ack_bytes(PUBREL, 7));
        cluster.send(publisher, &publish_bytes("t", b"one", 1, false, 8));
        cluster.send(publisher, &publish_bytes("t", b"none", 0, false, 0));
        cluster.settle();
        assert!(cluster.take(subscriber).is_empty());
        cluster.make_durable();
        cluster.settle();
        assert_eq!(cluster.take_texts(subscriber), ["t=two", "t=one", "t=none"]);
    }
}

/// The identifier of a QoS 2 message cannot be recorded: the message stays in the queue, and is sent to the connection
/// that comes once the store works again.
#[test]
fn what_cannot_be_bound_waits_for_a_store_that_works() {
    let mut cluster = Cluster::with_slow_stores(1);
    let (subscriber, publisher) = pair(&mut cluster, 1);
    cluster.cut(subscriber);
    cluster.send(publisher, &publish_bytes("t", b"x", 2, false, 7));
    cluster.send(publisher, &ack_bytes(PUBREL, 7));
    let id = cluster.client_id_on(0, "sub");
    let client = cluster.open();
    cluster.send(client, &connect_bytes(&id, false, 0));
    cluster.stores[0].fail(true);
    cluster.make_durable();
    assert!(cluster.is_closed(client));
    assert_eq!(cluster.take(client), [Seen::ConnAck(true, 0)]);
    cluster.stores[0].fail(false);
    let client = cluster.open();
    cluster.send(client, &connect_bytes(&id, false, 0));
    cluster.make_durable();
    cluster.make_durable();
    let seen = cluster.take(client);
    assert!(
        matches!(seen[1..], [Seen::Publish { dup: false, id: 1, .. }]),
        "{seen:?}"
    );
}

/// A PUBREC that cannot be recorded is not answered, now or later: the message is sent again instead.
#[test]
fn pubrel_never_leaves_without_the_record_of_pubrec() {
    let mut cluster = Cluster::with_slow_stores(1);
    let (subscriber, publisher) = pair(&mut cluster, 1);
    cluster.send(publisher, &publish_bytes("t", b"x", 2, false, 7));
    cluster.send(publisher, &ack_bytes(PUBREL, 7));
    cluster.make_durable();
    assert_eq!(cluster.take_texts(subscriber), ["t=x"]);
    cluster.stores[0].fail(true);
    cluster.send(subscriber, &ack_bytes(PUBREC, 1));
    assert!(cluster.is_closed(subscriber));
    assert!(cluster.take(subscriber).is_empty());
    cluster.stores[0].fail(false);
    let id = cluster.client_id_on(0, "sub");
    let client = cluster.open();
    cluster.send(client, &connect_bytes(&id, false, 0));
    cluster.make_durable();
    let seen = cluster.take(client);
    assert!(
        matches!(seen[1..], [Seen::Publish { dup: true, id: 1, .. }]),
        "{seen:?}"
    );
}

/// A QoS 2 message is routed once, at its first PUBREL: what a store refuses then is lost, and counted; those whose store
/// works have it.
#[test]
fn what_a_store_refuses_is_counted_and_keeps_nothing_from_others() {
    let mut cluster = Cluster::with_slow_stores(2);
    let (subscriber, publisher) = pair(&mut cluster, 2);
    let local_id = cluster.client_id_on(0, "local");
    let local = cluster.open();
    cluster.send(local, &connect_bytes(&local_id, false, 0));
    cluster.send(local, &subscribe_bytes(1, &[("t", 2)]));
    cluster.settle();
    cluster.make_durable();
    cluster.take(local);
    cluster.send(publisher, &publish_bytes("t", b"x", 2, false, 7));
    cluster.make_durable();
    cluster.take(publisher);
    cluster.stores[0].fail(true);
    cluster.send(publisher, &ack_bytes(PUBREL, 7));
    cluster.settle();
    cluster.make_durable();
    assert!(cluster.is_closed(publisher));
    assert_eq!(cluster.take_texts(subscriber), ["t=x"]);
    assert!(cluster.take(local).is_empty());
    assert_eq!(cluster.stats().dropped_for(crate::error::DropReason::StoreFailed), 1);
}
