//! What happens when the memory of a shard is nearly used up.

use std::time::Duration;

use super::cluster::*;
use crate::error::DropReason;
use crate::limits::{Limits, SlowSubscriber};

const SHARE: usize = 200_000;

fn tight(shards: u16, policy: SlowSubscriber) -> Limits {
    Limits {
        memory_bytes_max: SHARE * usize::from(shards),
        slow_subscriber: policy,
        ..Limits::default()
    }
}

/// Clients that take nothing, subscribed to `flood` at this level, on the last shard.
fn stalled(cluster: &mut Cluster, shards: u16, count: usize, level: u8) -> Vec<Client> {
    let clients = (0..count)
        .map(|n| {
            let id = cluster.client_id_on(shards - 1, &format!("stalled{n}-"));
            let client = cluster.connect(&id, true);
            cluster.send(client, &subscribe_bytes(1, &[("flood", level)]));
            cluster.settle();
            cluster.take(client);
            cluster.stall(client, true);
            client
        })
        .collect();
    cluster.settle();
    clients
}

fn connect_on(cluster: &mut Cluster, shard: u16, name: &str) -> Client {
    let id = cluster.client_id_on(shard, name);
    cluster.connect(&id, true)
}

/// Nobody's messages but those of the stalled ones are lost, whatever they are, and all is given back in the end.
#[test]
fn a_flood_to_who_does_not_read_stays_within_the_share_and_harms_nobody_else() {
    for (shards, level) in [(1, 0), (1, 1), (3, 0), (3, 1), (3, 2)] {
        let limits = tight(shards, SlowSubscriber::DropNewest);
        let mut cluster = Cluster::with_limits(shards, &limits);
        let stuck = stalled(&mut cluster, shards, 3, level);
        let reader = connect_on(&mut cluster, shards - 1, "reader");
        cluster.send(reader, &subscribe_bytes(1, &[("calm", 1)]));
        let calm = connect_on(&mut cluster, 0, "calm");
        let loud: Vec<Client> = (0..4)
            .map(|n| connect_on(&mut cluster, 0, &format!("loud{n}-")))
            .collect();
        cluster.settle();
        cluster.take(reader);
        let mut most = 0;
        for n in 0..200_u16 {
            for (id, loud) in loud.iter().enumerate() {
                let id = n * 4 + u16::try_from(id).unwrap() + 1;
                cluster.send(*loud, &publish_bytes("flood", &[b'x'; 2_000], level, false, id));
                cluster.send(*loud, &ack_bytes(PUBREL, id));
            }
            cluster.send(calm, &publish_bytes("calm", &n.to_be_bytes(), 1, false, n + 1));
            cluster.settle();
            most = most.max(cluster.stats().memory_bytes);
            let seen = cluster.take(reader);
            let [Seen::Publish { payload, id, .. }] = &seen[..] else {
                panic!("{shards} shards, {level}, {n}: {seen:?} {:?}", cluster.stats())
            };
            assert_eq!(payload[..], n.to_be_bytes());
            cluster.send(reader, &ack_bytes(PUBACK, *id));
            if n % 8 == 0 {
                cluster.advance(Duration::from_millis(100));
                cluster.check_quiet();
            }
        }
        let stats = cluster.stats();
        // A connection's own bytes, acknowledgements and one read, are not refused.
        assert!(most <= SHARE as u64 + 20_000, "{most}");
        assert!(most > SHARE as u64 / 10 * 8, "{most}");
        assert!(stats.slowed > 0);
        assert!(stats.dropped_for(DropReason::MemoryFull) > 0);
        assert_eq!(
            stats.dropped.iter().sum::<u64>(),
            stats.dropped_for(DropReason::MemoryFull)
        );
        for stuck in stuck {
            cluster.cut(stuck);
        }
        cluster.settle();
        cluster.advance(Duration::from_secs(2));
        for client in loud {
            cluster.take(client);
            cluster.send(client, &publish_bytes("flood", b"x", 1, false, 9_999));
            cluster.settle();
            assert_eq!(cluster.take(client).last(), Some(&Seen::PubAck(9_999)));
        }
        assert_eq!(cluster.stats().memory_bytes, 0);
        cluster.check_quiet();
    }
}

#[test]
fn publishers_are_slowed_before_anything_is_shed() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with_limits(shards, &tight(shards, SlowSubscriber::DropNewest));
        stalled(&mut cluster, shards, 1, 1);
        let loud = connect_on(&mut cluster, 0, "loud");
        for n in 1..=400 {
            cluster.send(loud, &publish_bytes("flood", &[b'x'; 1_000], 1, false, n));
            cluster.settle();
        }
        assert_eq!(cluster.stats().dropped_for(DropReason::MemoryFull), 0);
        assert!((1..400).contains(&cluster.take(loud).len()));
        cluster.advance(Duration::from_secs(120));
        assert!(cluster.stats().dropped_for(DropReason::MemoryFull) > 0);
        let acknowledged = cluster.take(loud).len();
        assert!(acknowledged > 100, "it goes on, if slowly: {acknowledged}");
    }
}

#[test]
fn drop_oldest_sheds_what_came_first() {
    let mut cluster = Cluster::with_limits(
        1,
        &Limits {
            inflight_max: 1,
            ..tight(1, SlowSubscriber::DropOldest)
        },
    );
    let stuck = stalled(&mut cluster, 1, 1, 1)[0];
    let loud = connect_on(&mut cluster, 0, "loud");
    for n in 1..=400_u16 {
        cluster.send(
            loud,
            &publish_bytes("flood", &[n.to_be_bytes(); 500].concat(), 1, false, n),
        );
        cluster.advance(Duration::from_secs(1));
    }
    assert!(cluster.stats().dropped_for(DropReason::MemoryFull) > 0);
    cluster.stall(stuck, false);
    let mut last = 0;
    loop {
        cluster.settle();
        let seen = cluster.take(stuck);
        if seen.is_empty() {
            break;
        }
        for seen in seen {
            let Seen::Publish { payload, id, .. } = seen else {
                continue;
            };
            last = u16::from_be_bytes([payload[0], payload[1]]);
            cluster.send(stuck, &ack_bytes(PUBACK, id));
        }
    }
    assert_eq!(last, 400);
    cluster.check_quiet();
}

#[test]
fn disconnect_ends_who_holds_too_much() {
    let mut cluster = Cluster::with_limits(1, &tight(1, SlowSubscriber::Disconnect));
    let stuck = stalled(&mut cluster, 1, 1, 1)[0];
    let loud = connect_on(&mut cluster, 0, "loud");
    for n in 1..=400 {
        cluster.send(loud, &publish_bytes("flood", &[b'x'; 1_000], 1, false, n));
        cluster.advance(Duration::from_secs(1));
    }
    assert!(cluster.is_closed(stuck));
    assert_eq!(cluster.stats().memory_bytes, 0);
}

/// Half an acknowledgement would free more than it takes.
#[test]
fn a_small_packet_that_is_cut_is_waited_for_though_memory_is_full() {
    let mut cluster = Cluster::with_limits(1, &tight(1, SlowSubscriber::DropNewest));
    let stuck = stalled(&mut cluster, 1, 2, 1);
    let loud = connect_on(&mut cluster, 0, "loud");
    for n in 1..=400 {
        cluster.send(loud, &publish_bytes("flood", &[b'x'; 1_000], 1, false, n));
        cluster.advance(Duration::from_secs(1));
    }
    assert!(cluster.stats().dropped_for(DropReason::MemoryFull) > 0);
    for client in stuck {
        let ping = [0xc0, 0];
        cluster.send(client, &ping[..1]);
        cluster.settle();
        assert!(!cluster.is_closed(client));
        cluster.send(client, &ping[1..]);
        cluster.settle();
        assert!(!cluster.is_closed(client));
    }
    cluster.check_quiet();
}

/// The first half of a CONNECT with Clean Session 1 is not refused either: the rest of it ends the session that holds the memory.
#[test]
fn a_connect_that_is_cut_is_waited_for_though_nothing_fits() {
    let mut cluster = Cluster::with_limits(1, &tight(1, SlowSubscriber::DropNewest));
    let publisher = connect_on(&mut cluster, 0, "publisher");
    let mut absent = 0;
    while cluster.stats().memory_bytes < (SHARE - SHARE / 64) as u64 {
        absent += 1;
        let (id, topic) = (format!("absent{absent}"), absent.to_string());
        let client = cluster.connect(&id, false);
        cluster.send(client, &subscribe_bytes(1, &[(&topic, 1)]));
        cluster.settle();
        cluster.cut(client);
        cluster.send(publisher, &publish_bytes(&topic, &[b'x'; 200], 1, false, absent));
        cluster.advance(Duration::from_secs(1));
    }
    let before = cluster.stats();
    assert_eq!(before.dropped_for(DropReason::MemoryFull), 0);
    let connect = connect_bytes("absent1", true, 0);
    let client = cluster.open();
    cluster.send(client, &connect[..10]);
    cluster.settle();
    assert!(!cluster.is_closed(client));
    cluster.send(client, &connect[10..]);
    cluster.settle();
    assert_eq!(cluster.take(client), [Seen::ConnAck(false, 0)]);
    let after = cluster.stats();
    assert_eq!(after.queued, before.queued - 1);
    assert!(after.memory_bytes < before.memory_bytes);
}

#[test]
fn messages_that_are_not_released_and_packets_that_are_not_finished_are_bounded() {
    let mut cluster = Cluster::with_limits(1, &tight(1, SlowSubscriber::DropNewest));
    let hoarders: Vec<Client> = (0..10)
        .map(|n| connect_on(&mut cluster, 0, &format!("hoarder{n}-")))
        .collect();
    let bystander = connect_on(&mut cluster, 0, "bystander");
    let unfinished: Vec<u8> = publish_bytes("t", &vec![b'x'; 1_000_000], 0, false, 0);
    for round in 1..=200_usize {
        for (n, hoarder) in hoarders.iter().enumerate() {
            if n % 2 == 0 {
                let id = u16::try_from(round).unwrap();
                cluster.send(*hoarder, &publish_bytes("t", &[b'x'; 1_000], 2, false, id));
            } else {
                cluster.send(*hoarder, &unfinished[(round - 1) * 1_000..round * 1_000]);
            }
            cluster.advance(Duration::from_millis(1));
            let used = cluster.stats().memory_bytes;
            assert!(used <= SHARE as u64 + 5_000, "{used}");
        }
        cluster.check_quiet();
    }
    let closed = hoarders.iter().filter(|client| cluster.is_closed(**client)).count();
    assert!(closed > 0);
    cluster.send(bystander, &[0xc0, 0]);
    assert_eq!(cluster.take(bystander), [Seen::PingResp]);
    for hoarder in hoarders {
        cluster.cut(hoarder);
    }
    assert_eq!(cluster.stats().memory_bytes, 0);
}

#[test]
fn an_absent_client_takes_its_part_and_slows_nobody() {
    let mut cluster = Cluster::with_limits(2, &tight(2, SlowSubscriber::DropNewest));
    let id = cluster.client_id_on(1, "absent");
    let absent = cluster.connect(&id, false);
    cluster.send(absent, &subscribe_bytes(1, &[("flood", 1)]));
    cluster.settle();
    cluster.cut(absent);
    let publisher = connect_on(&mut cluster, 0, "publisher");
    for n in 1..=400 {
        cluster.send(publisher, &publish_bytes("flood", &[b'x'; 1_000], 1, false, n));
        cluster.settle();
    }
    assert_eq!(cluster.take(publisher).len(), 400);
    let stats = cluster.stats();
    assert!(stats.memory_bytes <= SHARE as u64);
    assert_eq!(stats.dropped_for(DropReason::MemoryFull), 400 - stats.queued);
    assert_eq!(stats.slowed, 0);
    cluster.check_quiet();
}
