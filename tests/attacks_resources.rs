//! Clients that want more than their share: memory stays within the limits, and everybody else is served.

mod common;

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use common::wire;
use common::*;

const MIB: u64 = 1024 * 1024;

/// Attack 46: the queue of one that does not read ends at its limit and is counted; its neighbour misses nothing.
#[test]
fn subscriber_that_does_not_read_costs_its_limits_and_nobody_else() {
    let limits = ["--max-output-bytes", "65536", "--max-queued-bytes", "1048576"];
    attack(&[&limits[..], &["--sys-interval", "1"]].concat(), |broker| {
        let mut stuck = broker.connect("stuck");
        stuck.subscribe("t/#", 1);
        let mut reader = broker.connect("sub");
        reader.subscribe("t/1", 1);
        let before = broker.rss_bytes();
        for round in 0..20_u8 {
            for n in 0..20 {
                let mut publisher = broker.connect(&format!("pub{n}"));
                publisher.publish("t/0", vec![round; 60_000], 0);
                publisher.publish("t/1", vec![round; 20_000], 1);
                let got = reader.recv_publish();
                assert!(got.payload == vec![round; 20_000]);
                reader.acknowledge(&got);
            }
        }
        let grown = broker.rss_bytes().saturating_sub(before);
        assert!(grown < 24 * MIB, "{grown} bytes for a queue of 1 MiB");
        reader.subscribe("$SYS/broker/publish/messages/dropped", 0);
        let deadline = Instant::now() + PATIENCE;
        while reader.recv_publish().payload == b"0" {
            assert!(Instant::now() < deadline, "nothing is counted as dropped");
        }
        drop(stuck);
    });
}

/// Attack 47: a byte now and then is no progress; the write timeout ends it as a lost connection.
#[test]
fn reader_of_a_byte_now_and_then_meets_the_write_timeout() {
    let flags = ["--write-timeout", "1", "--max-output-bytes", "65536"];
    attack(&flags, |broker| {
        let mut watcher = broker.connect("sub");
        watcher.subscribe("will", 1);
        let (mut slow, _) = broker.connect_as(
            &Connect::new("slow")
                .keep_alive(0)
                .will(publish("will", "gone").qos(1, 1)),
        );
        slow.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        for _ in 0..100 {
            publisher.publish("t", vec![b'x'; 200_000], 1);
        }
        let mut slow = slow.into_stream();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the slow reader is still connected");
            let _ = slow.read(&mut [0]);
            if let Some(packet) = watcher.recv_within(Duration::from_millis(200)) {
                assert!(matches!(packet, Some(Packet::Publish(will)) if will.topic == "will"));
                return;
            }
        }
    });
}

/// Attack 48: the flood is delivered but not kept beyond the limit, and cleared topics make room again.
#[test]
fn retained_flood_ends_at_the_limit_and_clearing_makes_room() {
    attack(&["--max-retained", "300"], |broker| {
        let mut publisher = broker.connect("pub");
        let mut before = None;
        for round in 0..6 {
            for n in 0..1_000 {
                publisher.retain(&format!("flood/{n}"), vec![b'x'; 4_000], 1);
            }
            let mut subscriber = broker.connect("sub");
            subscriber.send(wire::subscribe(1, &[("flood/#", 0)]));
            let mut kept = 0;
            while let Some(packet) = subscriber.recv_within(QUIET * 2) {
                kept += usize::from(matches!(packet, Some(Packet::Publish(_))));
            }
            assert!((1..=300).contains(&kept), "{kept} retained messages in round {round}");
            for n in 0..1_000 {
                publisher.retain(&format!("flood/{n}"), "", 1);
            }
            let mut subscriber = broker.connect("sub");
            subscriber.subscribe("flood/#", 0);
            subscriber.expect_silence();
            let rss = broker.rss_bytes();
            let grown = rss.saturating_sub(*before.get_or_insert(rss));
            assert!(grown < 8 * MIB, "{grown} bytes since the first round");
        }
    });
}

/// Attack 49: refused at the documented number of levels, the rest of a SUBSCRIBE unharmed.
#[test]
fn topic_of_65535_slashes_is_refused() {
    attack(&[], |broker| {
        let slashes = "/".repeat(65_535);
        broker.assert_closes(publish(&slashes, "").encode());
        let mut client = broker.connect("sub");
        client.send(wire::subscribe(1, &[(&slashes, 0), ("t", 0)]));
        client.expect(&Packet::Suback {
            id: 1,
            codes: vec![0x80, 0],
        });
    });
}

/// Attack 50: as many filters as one session may have, and not one more.
#[test]
fn filters_of_one_session_end_at_the_limit() {
    attack(&["--max-subscriptions", "5000"], |broker| {
        let mut client = broker.connect("sub");
        let filters: Vec<String> = (0..5_001).map(|n| format!("many/{n}/+/#")).collect();
        for (n, filters) in filters[..5_000].chunks(500).enumerate() {
            let asked: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
            let id = u16::try_from(n + 1).expect("few");
            client.send(wire::subscribe(id, &asked));
            client.expect(&Packet::Suback {
                id,
                codes: vec![1; 500],
            });
        }
        client.send(wire::subscribe(99, &[(&filters[5_000], 1)]));
        client.expect(&Packet::Suback {
            id: 99,
            codes: vec![0x80],
        });
        let mut publisher = broker.connect("pub");
        publisher.publish("many/4999/x/y", "in", 1);
        publisher.publish("many/5000/x/y", "out", 1);
        client.expect_message("many/4999/x/y", "in", 1);
        client.expect_silence();
    });
}

/// Attack 50: all 1,024 filters of ten levels that match one topic: it is delivered once.
#[test]
fn pathological_wildcards_deliver_once_and_stall_nobody() {
    attack(&[], |broker| {
        let mut client = broker.connect("sub");
        let filter = |bits: u32| {
            let level = |n: u32| if bits >> n & 1 == 1 { "+" } else { "a" };
            (0..10).map(level).collect::<Vec<_>>().join("/")
        };
        for bits in 0..1_024 {
            client.subscribe(&filter(bits), 1);
        }
        let mut publisher = broker.connect("pub");
        let topic = filter(0);
        for n in 0..100_u8 {
            publisher.publish(&topic, [n], 1);
            publisher.publish(&topic.replace("/a", "/b"), "", 1);
            client.expect_message(&topic, [n], 1);
            let got = client.recv_publish();
            assert!(got.topic.starts_with("a/b/"));
            client.acknowledge(&got);
        }
        client.expect_silence();
    });
}

/// Attack 51: one publisher, many who want everything and read nothing: memory stays within the sum of their limits.
#[test]
fn amplification_stays_within_the_limits() {
    let limits = ["--max-output-bytes", "16384", "--max-queued-bytes", "65536"];
    attack(&limits, |broker| {
        let greedy: Vec<Client> = (0..100)
            .map(|n| {
                let mut client = broker.connect(&format!("greedy{n}"));
                client.send(wire::subscribe(1, &[("#", 1)]));
                client
            })
            .collect();
        let before = broker.rss_bytes();
        let mut publisher = broker.connect("pub");
        for _ in 0..500 {
            publisher.publish("t", vec![b'x'; 10_000], 1);
        }
        let grown = broker.rss_bytes().saturating_sub(before);
        // 500 MB were asked for. Per client: its queue, its output, and the packet that went over the mark.
        assert!(grown < 64 * MIB, "{grown} bytes for 100 clients");
        drop(greedy);
    });
}

/// Attack 52: the beginning of 24 hours of it.
#[test]
fn churn_of_subscriptions_leaves_nothing_behind() {
    attack(&[], |broker| {
        let mut before = None;
        for round in 0..8 {
            let mut client = broker.connect(&format!("churn{round}"));
            for n in 0..500 {
                let filter = format!("churn/{round}/{n}/+");
                client.subscribe(&filter, 1);
                client.unsubscribe(&filter);
                client.subscribe(&format!("left/{round}/{n}/#"), 1);
            }
            client.disconnect();
            let rss = broker.rss_bytes();
            let grown = rss.saturating_sub(*before.get_or_insert(rss));
            assert!(grown < 4 * MIB, "{grown} bytes since the first round");
        }
    });
}

/// Attack 53: all shards flood each other, and nobody reads an acknowledgement until all is sent.
#[test]
fn shards_that_flood_each_other_lose_nothing() {
    attack(&[], |broker| {
        let count = 1_000_u16;
        thread::scope(|scope| {
            let last = broker.shards - 1;
            for (from, to) in [(0, last), (last, 0), (0, 0), (last, last)] {
                let topic = format!("flood/{from}/{to}");
                let mut reader = broker.connect(&broker.id_on(to, &format!("to-{from}-{to}-")));
                reader.subscribe(&topic, 1);
                let mut publisher = broker.connect(&broker.id_on(from, &format!("from-{from}-{to}-")));
                scope.spawn(move || {
                    let burst: Vec<u8> = (1..=count)
                        .flat_map(|n| {
                            publish(&topic, [&n.to_be_bytes()[..], &[0; 1_000]].concat())
                                .qos(1, n)
                                .encode()
                        })
                        .collect();
                    publisher.send(burst);
                    for n in 1..=count {
                        let got = reader.recv_publish();
                        assert_eq!(got.payload[..2], n.to_be_bytes());
                        reader.acknowledge(&got);
                    }
                    for n in 1..=count {
                        publisher.expect(&Packet::Puback(n));
                    }
                });
                if broker.shards == 1 {
                    break;
                }
            }
        });
    });
}
