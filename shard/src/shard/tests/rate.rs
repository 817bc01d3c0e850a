//! How fast one client may publish.

use std::time::Duration;

use super::cluster::*;
use crate::limits::Limits;

fn rates(messages: u32, bytes: u64, patience: u64) -> Limits {
    Limits {
        publish_rate_max: messages,
        publish_bytes_rate_max: bytes,
        publish_rate_patience: Duration::from_secs(patience),
        ..Limits::default()
    }
}

/// A subscriber on the last shard and a publisher on the first.
fn pair(cluster: &mut Cluster, shards: u16) -> (Client, Client) {
    let subscriber = cluster.connect(&cluster.client_id_on(shards - 1, "sub"), true);
    cluster.send(subscriber, &subscribe_bytes(1, &[("t", 1)]));
    let publisher = cluster.connect(&cluster.client_id_on(0, "pub"), true);
    cluster.settle();
    cluster.take(subscriber);
    (subscriber, publisher)
}

fn messages(range: std::ops::RangeInclusive<u16>) -> Vec<u8> {
    range
        .flat_map(|n| publish_bytes("t", n.to_string().as_bytes(), 1, false, n))
        .collect()
}

fn texts(range: std::ops::RangeInclusive<u16>) -> Vec<String> {
    range.map(|n| format!("t={n}")).collect()
}

#[test]
fn what_comes_too_fast_waits_and_nothing_is_lost() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_limits(shards, &rates(10, 0, 0));
        let (subscriber, publisher) = pair(&mut cluster, shards);
        cluster.send(publisher, &messages(1..=100));
        cluster.settle();
        // The one that goes beyond the allowance is taken too, and paid for.
        assert_eq!(
            cluster.take_texts(subscriber),
            texts(1..=11),
            "a second's worth at once"
        );
        for from in [11, 21, 31] {
            cluster.advance(Duration::from_secs(1));
            let got = cluster.take_texts(subscriber);
            assert_eq!(got, texts(from + 1..=from + 10), "and then the rate");
        }
        cluster.advance(Duration::from_secs(60));
        assert_eq!(cluster.take_texts(subscriber), texts(42..=100));
        assert_eq!(cluster.take(publisher).len(), 100);
        assert!(cluster.stats().rate_limited > 0);
        cluster.check_quiet();
    }
}

#[test]
fn bytes_have_a_rate_of_their_own_and_large_messages_pass() {
    let mut cluster = Cluster::with_limits(1, &rates(0, 1_000, 0));
    let (subscriber, publisher) = pair(&mut cluster, 1);
    cluster.send(publisher, &publish_bytes("t", &[b'x'; 4_999], 1, false, 1));
    cluster.send(publisher, &publish_bytes("t", b"next", 1, false, 2));
    cluster.settle();
    assert_eq!(cluster.take_texts(subscriber).len(), 1);
    cluster.advance(Duration::from_millis(3_990));
    assert_eq!(
        cluster.take_texts(subscriber).len(),
        0,
        "5,000 bytes, of which 1,000 were free"
    );
    cluster.advance(Duration::from_millis(20));
    assert_eq!(cluster.take_texts(subscriber), ["t=next"]);
}

#[test]
fn others_and_other_packets_are_not_slowed() {
    let mut cluster = Cluster::with_limits(2, &rates(1, 0, 0));
    let (subscriber, publisher) = pair(&mut cluster, 2);
    let other = cluster.connect("other", true);
    cluster.send(publisher, &messages(1..=50));
    cluster.send(other, &messages(1..=1));
    for _ in 0..20 {
        cluster.send(other, &[0xc0, 0]);
        cluster.send(other, &subscribe_bytes(7, &[("u", 0)]));
    }
    cluster.settle();
    assert_eq!(cluster.take(other).len(), 41);
    // One that came into the broker's hands behind a PUBLISH waits with it, or it would overtake it.
    cluster.send(publisher, &[0xc0, 0]);
    cluster.advance(Duration::from_secs(10));
    assert!(!cluster.take(publisher).contains(&Seen::PingResp));
    cluster.advance(Duration::from_secs(60));
    assert!(cluster.take(publisher).contains(&Seen::PingResp));
    assert_eq!(cluster.take_texts(subscriber).len(), 51);
}

#[test]
fn keep_alive_waits_while_nothing_is_read() {
    let mut cluster = Cluster::with_limits(1, &rates(0, 10, 0));
    let publisher = cluster.open();
    cluster.send(publisher, &connect_bytes("pub", true, 1));
    cluster.send(publisher, &publish_bytes("t", &[b'x'; 999], 1, false, 1));
    cluster.settle();
    cluster.advance(Duration::from_secs(98));
    assert!(!cluster.is_closed(publisher), "it is not read for 99 seconds");
    cluster.advance(Duration::from_secs(15));
    assert!(cluster.is_closed(publisher), "then its silence counts");
}

#[test]
fn who_is_too_fast_for_too_long_is_closed_and_who_rests_is_not() {
    let mut cluster = Cluster::with_limits(1, &rates(10, 0, 5));
    let (subscriber, eager) = pair(&mut cluster, 1);
    let resting = cluster.connect("resting", true);
    for half_second in 0..40 {
        // Each goes over its allowance; one of them never stops.
        if half_second % 4 == 0 {
            cluster.send(resting, &messages(1..=12));
        }
        assert_eq!(
            cluster.is_closed(eager),
            half_second >= 10,
            "after {half_second} half seconds"
        );
        cluster.send(eager, &messages(1..=12));
        cluster.advance(Duration::from_millis(500));
    }
    assert!(!cluster.is_closed(resting));
    assert_eq!(cluster.stats().limited, 1);
    let of_resting = cluster
        .take(resting)
        .iter()
        .filter(|seen| matches!(seen, Seen::PubAck(_)))
        .count();
    assert_eq!(of_resting, 120);
    // What was taken of the other is delivered.
    let of_eager = cluster
        .take(eager)
        .iter()
        .filter(|seen| matches!(seen, Seen::PubAck(_)))
        .count();
    assert!((50..70).contains(&of_eager), "{of_eager}");
    assert_eq!(cluster.take_texts(subscriber).len(), of_resting + of_eager);
}

#[test]
fn who_comes_again_or_is_taken_over_while_held_leaves_nothing_behind() {
    let mut cluster = Cluster::with_limits(1, &rates(1, 0, 0));
    let (subscriber, _) = pair(&mut cluster, 1);
    for _ in 0..3 {
        let publisher = cluster.connect("again", true);
        cluster.send(publisher, &messages(1..=5));
        cluster.settle();
        // A slot is used again at once: the timer of the one before it means nothing to the next.
        assert_eq!(cluster.take_texts(subscriber).len(), 2);
    }
    let last = cluster.connect("again", true);
    cluster.cut(last);
    cluster.advance(Duration::from_secs(10));
    assert_eq!(cluster.timers(), 0);
    assert_eq!(cluster.take_texts(subscriber).len(), 0);
    cluster.check_quiet();
}
