//! What happens where something would grow too far.

use std::time::Duration;

use super::cluster::*;
use crate::error::DropReason;
use crate::limits::{Limits, SlowSubscriber};
use crate::topic::TopicLimits;

fn slow(policy: SlowSubscriber) -> Limits {
    Limits {
        slow_subscriber: policy,
        inflight_max: 2,
        queued_messages_max: 8,
        output_bytes_max: 200,
        ..Limits::default()
    }
}

/// A subscriber on the last shard and a publisher on the first.
fn pair(cluster: &mut Cluster, shards: u16, clean: bool) -> (Client, Client, String) {
    let id = cluster.client_id_on(shards - 1, "sub");
    let subscriber = cluster.connect(&id, clean);
    cluster.send(subscriber, &subscribe_bytes(1, &[("t", 1)]));
    let publisher_id = cluster.client_id_on(0, "pub");
    let publisher = cluster.connect(&publisher_id, true);
    cluster.settle();
    cluster.take(subscriber);
    (subscriber, publisher, id)
}

fn publish(cluster: &mut Cluster, publisher: Client, values: std::ops::Range<u16>) {
    for n in values {
        cluster.send(
            publisher,
            &publish_bytes("t", n.to_string().as_bytes(), 1, false, n + 1),
        );
        cluster.settle();
    }
}

fn acknowledge_all(cluster: &mut Cluster, subscriber: Client) -> Vec<String> {
    let mut values = Vec::new();
    loop {
        let seen = cluster.take(subscriber);
        if seen.is_empty() {
            return values;
        }
        for packet in seen {
            if let Seen::Publish { payload, id, .. } = packet {
                values.push(String::from_utf8(payload).unwrap());
                cluster.send(subscriber, &ack_bytes(PUBACK, id));
                cluster.settle();
            }
        }
    }
}

fn texts(values: impl IntoIterator<Item = u16>) -> Vec<String> {
    values.into_iter().map(|n| n.to_string()).collect()
}

#[test]
fn drop_newest_keeps_what_came_first() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_limits(shards, &slow(SlowSubscriber::DropNewest));
        let (subscriber, publisher, _) = pair(&mut cluster, shards, true);
        publish(&mut cluster, publisher, 0..20);
        assert_eq!(acknowledge_all(&mut cluster, subscriber), texts(0..10));
        assert_eq!(cluster.stats().dropped_for(DropReason::QueueFull), 10);
        assert_eq!(cluster.take(publisher).len(), 20);
    }
}

#[test]
fn drop_oldest_keeps_what_came_last() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_limits(shards, &slow(SlowSubscriber::DropOldest));
        let (subscriber, publisher, _) = pair(&mut cluster, shards, true);
        publish(&mut cluster, publisher, 0..20);
        assert_eq!(acknowledge_all(&mut cluster, subscriber), texts((0..2).chain(12..20)));
        assert_eq!(cluster.stats().dropped_for(DropReason::QueueFull), 10);
    }
}

#[test]
fn disconnect_ends_the_connection_and_keeps_the_session() {
    let mut cluster = Cluster::with_limits(2, &slow(SlowSubscriber::Disconnect));
    let (subscriber, publisher, id) = pair(&mut cluster, 2, false);
    publish(&mut cluster, publisher, 0..11);
    assert!(cluster.is_closed(subscriber));
    let again = cluster.connect(&id, false);
    assert_eq!(acknowledge_all(&mut cluster, again), texts(0..10));
}

#[test]
fn backpressure_holds_the_publisher_and_loses_nothing() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_limits(shards, &slow(SlowSubscriber::Backpressure));
        let (subscriber, publisher, _) = pair(&mut cluster, shards, true);
        publish(&mut cluster, publisher, 0..200);
        let acknowledged = cluster.take(publisher).len();
        assert!(acknowledged < 20, "{acknowledged}");
        assert_eq!(acknowledge_all(&mut cluster, subscriber), texts(0..200));
        assert_eq!(cluster.take(publisher).len(), 200 - acknowledged);
        assert_eq!(cluster.stats().dropped_for(DropReason::QueueFull), 0);
    }
}

#[test]
fn backpressure_has_an_end() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_limits(shards, &slow(SlowSubscriber::Backpressure));
        let (subscriber, publisher, id) = pair(&mut cluster, shards, false);
        publish(&mut cluster, publisher, 0..9);
        cluster.advance(Duration::from_millis(9_900));
        assert!(!cluster.is_closed(subscriber));
        cluster.advance(Duration::from_millis(200));
        assert!(cluster.is_closed(subscriber));
        cluster.send(publisher, &[0xc0, 0]);
        let seen = cluster.take(publisher);
        assert_eq!(seen.last(), Some(&Seen::PingResp), "the publisher is read again");
        let again = cluster.connect(&id, false);
        assert_eq!(acknowledge_all(&mut cluster, again)[..6], texts(0..6));
    }
}

#[test]
fn qos_0_beyond_the_output_limit_is_dropped_and_counted() {
    let mut cluster = Cluster::with_limits(1, &slow(SlowSubscriber::DropNewest));
    let (subscriber, publisher, _) = pair(&mut cluster, 1, true);
    cluster.stall(subscriber, true);
    for _ in 0..50 {
        cluster.send(publisher, &publish_bytes("t", &[b'x'; 50], 0, false, 0));
    }
    cluster.stall(subscriber, false);
    let arrived = cluster.take_texts(subscriber).len() as u64;
    assert_eq!(arrived, 4);
    assert_eq!(cluster.stats().dropped_for(DropReason::OutputFull), 50 - arrived);
}

#[test]
fn unreleased_qos_2_messages_are_bounded() {
    let limits = Limits {
        inbound_qos2_max: 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(1, &limits);
    let publisher = cluster.connect("p", true);
    for n in 1..=10 {
        cluster.send(publisher, &publish_bytes("t", b"x", 2, false, n));
        cluster.send(publisher, &publish_bytes("t", b"x", 2, false, n));
    }
    assert_eq!(cluster.take(publisher).len(), 20);
    assert!(!cluster.is_closed(publisher));
    cluster.send(publisher, &publish_bytes("t", b"x", 2, false, 11));
    assert!(cluster.is_closed(publisher));
}

#[test]
fn a_packet_over_the_limit_closes_on_its_header() {
    let limits = Limits {
        packet_bytes_max: 1_000,
        connect_bytes_max: 100,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(1, &limits);
    let client = cluster.open();
    cluster.send(client, &[0x10, 99]);
    assert!(cluster.is_closed(client));
    let client = cluster.connect("c", true);
    cluster.send(client, &publish_bytes("t", &[0; 900], 0, false, 0));
    assert!(!cluster.is_closed(client));
    cluster.send(client, &[0x30, 0xe8, 0x07]);
    assert!(cluster.is_closed(client));
}

#[test]
fn subscriptions_sessions_and_retained_messages_are_bounded() {
    let limits = Limits {
        subscriptions_max: 2,
        sessions_max: 2,
        retained_max: 2,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(1, &limits);
    let client = cluster.connect("c", false);
    cluster.send(
        client,
        &subscribe_bytes(1, &[("a", 0), ("b", 0), ("c", 0), ("a", 1), ("$share/g/d", 1)]),
    );
    assert_eq!(cluster.take(client), [Seen::SubAck(1, vec![0, 0, 0x80, 1, 0x80])]);
    for topic in ["1", "2", "3", "1"] {
        cluster.send(client, &publish_bytes(topic, b"x", 0, true, 0));
    }
    assert_eq!(
        (
            cluster.stats().retained,
            cluster.stats().dropped_for(DropReason::RetainedFull)
        ),
        (2, 1)
    );
    cluster.connect("d", false);
    let refused = cluster.open();
    cluster.send(refused, &connect_bytes("e", true, 0));
    assert_eq!(cluster.take(refused), [Seen::ConnAck(false, 3)]);
    assert!(cluster.is_closed(refused));
}

#[test]
fn an_offline_session_expires() {
    let limits = Limits {
        session_expiry: Duration::from_secs(60),
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(2, &limits);
    let client = cluster.connect("c", false);
    cluster.send(client, &subscribe_bytes(1, &[("t", 1)]));
    cluster.settle();
    cluster.cut(client);
    cluster.advance(Duration::from_secs(59));
    let client = cluster.connect("c", false);
    cluster.advance(Duration::from_secs(61));
    assert_eq!(cluster.stats().sessions, 1);
    cluster.cut(client);
    cluster.advance(Duration::from_secs(59));
    assert_eq!(cluster.stats().sessions, 1);
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.stats().sessions, 0);
    assert!(cluster.routes().is_empty());
}

#[test]
fn a_session_has_one_expiry_timer_however_often_its_client_comes_and_goes() {
    let limits = Limits {
        session_expiry: Duration::from_secs(3_600),
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(1, &limits);
    for _ in 0..100 {
        let client = cluster.connect("c", false);
        cluster.cut(client);
    }
    cluster.advance(Limits::default().connect_timeout);
    assert_eq!(cluster.timers(), 1);
}

/// A client that asks and does not take the answers is not read; once it takes them, everything is answered.
#[test]
fn unread_answers_are_bounded() {
    for shards in [1, 2] {
        let limits = slow(SlowSubscriber::DropNewest);
        let mut cluster = Cluster::with_limits(shards, &limits);
        let client = cluster.connect("c", true);
        cluster.stall(client, true);
        for _ in 0..1_000 {
            cluster.send(client, &[0xc0, 0]);
            cluster.send(client, &subscribe_bytes(1, &[("a", 1), ("$share/g/a", 0)]));
            cluster.send(client, &publish_bytes("b", b"x", 1, false, 1));
            cluster.settle();
        }
        assert!(cluster.waiting(client) < 2 * limits.output_bytes_max);
        cluster.stall(client, false);
        cluster.settle();
        assert_eq!(cluster.take(client).len(), 3_000);
        cluster.check_quiet();
    }
}

/// While a peer is slow, only so many SUBSCRIBE packets of one client wait for it.
#[test]
fn subscribes_that_wait_for_other_shards_are_bounded() {
    let mut cluster = Cluster::new(2);
    let client = cluster.connect("c", true);
    let subscribe = subscribe_bytes(1, &[("a", 0)]);
    for _ in 0..100 {
        cluster.send(client, &subscribe.repeat(1_000));
    }
    assert!(cluster.pending_subscribes() <= 64);
    cluster.settle();
    assert_eq!(cluster.take(client).len(), 100_000);
    cluster.check_quiet();
}

/// A client that subscribes again and again, and acknowledges nothing, makes each retained message wait once.
#[test]
fn retained_messages_wait_once_however_often_they_are_asked_for() {
    let mut cluster = Cluster::with_limits(2, &slow(SlowSubscriber::DropNewest));
    let (subscriber, publisher, _) = pair(&mut cluster, 2, true);
    for topic in ["r/1", "r/2", "r/3", "r/4", "r/5"] {
        cluster.send(publisher, &publish_bytes(topic, b"x", 1, true, 1));
    }
    cluster.settle();
    for _ in 0..100 {
        cluster.send(subscriber, &subscribe_bytes(1, &[("r/#", 1)]));
        cluster.settle();
    }
    // Two are in flight; all that was asked for later is still to come.
    assert_eq!(cluster.stats().queued, 5);
    assert_eq!(acknowledge_all(&mut cluster, subscriber).len(), 7);
}

/// Other limits: nothing that is there goes, and nothing more comes in until there is room.
#[test]
fn lowered_limits_drop_nothing_that_is_there() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_limits(shards, &slow(SlowSubscriber::DropNewest));
        let (subscriber, publisher, id) = pair(&mut cluster, shards, false);
        let long = "long/".repeat(9) + "topic";
        cluster.send(subscriber, &subscribe_bytes(2, &[(&long, 1), ("other", 1)]));
        for topic in ["r/1", "r/2", "r/3"] {
            cluster.send(publisher, &publish_bytes(topic, b"kept", 0, true, 0));
        }
        cluster.settle();
        cluster.take(subscriber);
        publish(&mut cluster, publisher, 0..10);
        cluster.set_limits(&Limits {
            inflight_max: 1,
            queued_messages_max: 1,
            retained_max: 1,
            retained_bytes_max: 1,
            subscriptions_max: 1,
            sessions_max: 1,
            client_id_bytes_max: 1,
            topic: TopicLimits {
                levels_max: 2,
                bytes_max: 8,
            },
            ..slow(SlowSubscriber::DropNewest)
        });
        publish(&mut cluster, publisher, 10..12);
        assert_eq!(cluster.stats().dropped_for(DropReason::QueueFull), 2);
        assert_eq!(acknowledge_all(&mut cluster, subscriber), texts(0..10));
        publish(&mut cluster, publisher, 12..13);
        assert_eq!(acknowledge_all(&mut cluster, subscriber), texts(12..13));

        // What is retained stays, can be replaced by as much, and by no more.
        cluster.send(publisher, &publish_bytes("r/1", b"new!", 0, true, 0));
        cluster.send(publisher, &publish_bytes("r/4", b"x", 0, true, 0));
        cluster.settle();
        assert_eq!(cluster.stats().retained, 3);
        cluster.send(subscriber, &subscribe_bytes(3, &[("other", 0), ("further", 0)]));
        cluster.settle();
        assert_eq!(cluster.take(subscriber), [Seen::SubAck(3, vec![0, 0x80])]);
        // A filter that was granted under other limits can be given back.
        cluster.send(subscriber, &unsubscribe_bytes(4, &[&long]));
        cluster.settle();
        assert_eq!(cluster.take(subscriber), [Seen::UnsubAck(4)]);
        assert!(cluster.routes().iter().all(|(filter, _)| *filter != long));
        assert!(!cluster.is_closed(subscriber) && !cluster.is_closed(publisher));

        cluster.set_limits(&Limits::default());
        cluster.cut(subscriber);
        let again = cluster.connect(&id, false);
        publish(&mut cluster, publisher, 20..120);
        assert_eq!(acknowledge_all(&mut cluster, again), texts(20..120));
        cluster.check_quiet();
    }
}

#[test]
fn a_packet_under_way_is_held_to_the_limit_of_its_end() {
    let mut cluster = Cluster::new(1);
    let client = cluster.connect("c", true);
    let packet = publish_bytes("t", &[b'x'; 500], 1, false, 7);
    cluster.send(client, &packet[..100]);
    cluster.set_limits(&Limits {
        packet_bytes_max: 200,
        connect_bytes_max: 200,
        ..Limits::default()
    });
    assert!(!cluster.is_closed(client));
    cluster.send(client, &packet[100..]);
    assert_eq!(cluster.take(client), [], "its sender knows that it did not arrive");
    assert!(cluster.is_closed(client));
}

#[test]
fn sessions_that_wait_stay_when_none_expires_any_more() {
    let expiry = |seconds| Limits {
        session_expiry: Duration::from_secs(seconds),
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(1, &expiry(10));
    let client = cluster.connect("c", false);
    cluster.cut(client);
    cluster.set_limits(&expiry(0));
    cluster.advance(Duration::from_secs(60));
    assert_eq!(cluster.stats().sessions, 1);
}
