//! What an operator asks: every client in exactly one page, in pieces of bounded work; and what a kick and a removal leave.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cluster::*;
use crate::codec::Will;
use crate::limits::Limits;
use crate::shard::{ClientQuery, Kicked};
use crate::topic::TopicName;

#[test]
fn every_client_is_in_one_page_and_none_looks_at_too_many() {
    let mut cluster = Cluster::new(1);
    let ids: Vec<String> = (0..2_500).map(|n| format!("client-{n}")).collect();
    let clients: Vec<_> = ids.iter().map(|id| cluster.connect(id, true)).collect();
    // Gaps in the table.
    for client in clients.iter().step_by(3) {
        cluster.cut(*client);
    }
    let mut query = ClientQuery {
        clients_max: 100,
        ..ClientQuery::default()
    };
    let (mut seen, mut pages) = (BTreeSet::new(), 0);
    loop {
        let page = cluster.shard(0).clients(&query);
        assert!(page.clients.len() <= 100);
        for client in page.clients {
            assert!(seen.insert(client.client_id.to_string()), "twice: {}", client.client_id);
        }
        pages += 1;
        match page.next {
            Some(next) => query.from = next,
            None => break,
        }
    }
    let there: BTreeSet<String> = ids
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 3 > 0)
        .map(|(_, id)| id.clone())
        .collect();
    assert_eq!(seen, there);
    assert!(pages >= 17, "{pages}");
    // Nothing fits, and still a page ends after some places.
    let none = ClientQuery {
        contains: "nobody".into(),
        clients_max: 100,
        ..ClientQuery::default()
    };
    let page = cluster.shard(0).clients(&none);
    assert!(page.clients.is_empty() && page.next.is_some_and(|next| next < 2_000));
}

/// In whole seconds, as the client asked for it, also where half of it is none.
#[test]
fn the_keep_alive_is_told_as_it_was_asked_for_or_granted() {
    let limits = Limits {
        keep_alive_max: Duration::from_secs(9),
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(1, &limits);
    for (asked, told) in [(0, 9), (1, 1), (2, 2), (3, 3), (8, 8), (9, 9), (65_535, 9)] {
        let client = cluster.open();
        cluster.send(client, &connect_bytes("c", true, asked));
        let now = cluster.now;
        let detail = cluster.shard(0).client(now, "c", None).expect("it is connected");
        assert_eq!(detail.keep_alive, told, "{asked}");
    }
}

#[test]
fn a_kick_publishes_the_will_and_keeps_the_session() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let watcher = cluster.connect("watcher", true);
        cluster.send(watcher, &subscribe_bytes(1, &[("will", 0)]));
        cluster.settle();
        cluster.take(watcher);
        let victim = cluster.open();
        let will = Will {
            topic: "will",
            message: b"gone",
            qos: qos(0),
            retain: false,
        };
        cluster.send(victim, &connect_with("victim", false, 0, Some(will)));
        cluster.settle();
        let home = cluster.home_of("victim");
        assert_eq!(cluster.kick(home, "victim"), Kicked::Closed);
        cluster.settle();
        assert!(cluster.is_closed(victim));
        assert_eq!(cluster.take_texts(watcher), ["will=gone"]);
        assert_eq!(cluster.kick(home, "victim"), Kicked::NotConnected);
        assert_eq!(cluster.kick(home, "nobody"), Kicked::Unknown);
        assert_eq!(cluster.stats().sessions, 2);
    }
}

#[test]
fn a_retained_message_is_removed_at_its_owner() {
    let mut cluster = Cluster::new(1);
    let publisher = cluster.connect("p", true);
    cluster.send(publisher, &publish_bytes("t", b"x", 1, true, 1));
    cluster.settle();
    let topic = TopicName::from_checked("t");
    assert_eq!(cluster.shard(0).retained_message(topic).unwrap().payload(), b"x");
    assert_eq!(cluster.shard(0).clear_retained(topic), Ok(true));
    assert_eq!(cluster.shard(0).clear_retained(topic), Ok(false));
    assert!(cluster.shard(0).retained_message(topic).is_none());
    assert_eq!((cluster.stats().retained, cluster.stats().retained_bytes), (0, 0));
}
