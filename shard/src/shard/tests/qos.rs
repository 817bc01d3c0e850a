//! The three QoS levels in both directions, on resume, and in order.

use super::cluster::*;

fn publish(topic: &str, payload: &str, qos: u8, id: u16, dup: bool) -> Seen {
    let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
    Seen::Publish {
        topic,
        payload,
        qos,
        retain: false,
        dup,
        id,
    }
}

/// A subscriber and a publisher on different shards, where there are two.
fn pair(cluster: &mut Cluster, subscriber_shard: u16, clean: bool, granted: u8) -> (Client, Client, String) {
    let subscriber_id = cluster.client_id_on(subscriber_shard, "sub");
    let publisher_id = cluster.client_id_on(0, "pub");
    let subscriber = cluster.connect(&subscriber_id, clean);
    cluster.send(subscriber, &subscribe_bytes(1, &[("t", granted)]));
    cluster.settle();
    assert_eq!(cluster.take(subscriber), [Seen::SubAck(1, vec![granted])]);
    (subscriber, cluster.connect(&publisher_id, true), subscriber_id)
}

/// [MQTT-3.8.4-6] [MQTT-3.3.4-1]
#[test]
fn delivery_is_at_the_lesser_of_published_and_granted() {
    for shards in [1, 2] {
        for published in 0..=2 {
            for granted in 0..=2 {
                let mut cluster = Cluster::new(shards);
                let (subscriber, publisher, _) = pair(&mut cluster, shards - 1, true, granted);
                cluster.send(publisher, &publish_bytes("t", b"x", published, false, 7));
                cluster.settle();
                match published {
                    0 => assert!(cluster.take(publisher).is_empty()),
                    1 => assert_eq!(cluster.take(publisher), [Seen::PubAck(7)]),
                    _ => {
                        assert_eq!(cluster.take(publisher), [Seen::PubRec(7)]);
                        assert!(cluster.take(subscriber).is_empty(), "routed at PUBREL");
                        cluster.send(publisher, &ack_bytes(PUBREL, 7));
                        cluster.settle();
                        assert_eq!(cluster.take(publisher), [Seen::PubComp(7)]);
                    }
                }
                let level = published.min(granted);
                let id = u16::from(level > 0);
                assert_eq!(cluster.take(subscriber), [publish("t", "x", level, id, false)]);
                match level {
                    0 => {}
                    1 => cluster.send(subscriber, &ack_bytes(PUBACK, 1)),
                    _ => {
                        cluster.send(subscriber, &ack_bytes(PUBREC, 1));
                        assert_eq!(cluster.take(subscriber), [Seen::PubRel(1)]);
                        cluster.send(subscriber, &ack_bytes(PUBCOMP, 1));
                    }
                }
                assert_eq!(cluster.stats().inflight, 0);
                cluster.check_quiet();
            }
        }
    }
}

/// [MQTT-4.3.3-2]
#[test]
fn a_repeated_qos_2_publish_is_delivered_once() {
    let mut cluster = Cluster::new(2);
    let (subscriber, publisher, _) = pair(&mut cluster, 1, true, 2);
    for _ in 0..3 {
        cluster.send(publisher, &publish_bytes("t", b"x", 2, false, 7));
    }
    assert_eq!(
        cluster.take(publisher),
        [Seen::PubRec(7), Seen::PubRec(7), Seen::PubRec(7)]
    );
    for _ in 0..2 {
        cluster.send(publisher, &ack_bytes(PUBREL, 7));
    }
    cluster.settle();
    assert_eq!(cluster.take(publisher), [Seen::PubComp(7), Seen::PubComp(7)]);
    assert_eq!(cluster.take_texts(subscriber), ["t=x"]);
}

/// [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-3.1.2-5]
#[test]
fn a_resumed_session_gets_the_unacknowledged_again_and_then_what_waited() {
    for shards in [1, 2] {
        let mut cluster = Cluster::new(shards);
        let (subscriber, publisher, id) = pair(&mut cluster, shards - 1, false, 2);
        for (payload, qos) in [("a", 1), ("b", 2), ("c", 2)] {
            cluster.send(publisher, &publish_bytes("t", payload.as_bytes(), qos, false, 9));
            cluster.send(publisher, &ack_bytes(PUBREL, 9));
        }
        cluster.settle();
        assert_eq!(cluster.take_texts(subscriber), ["t=a", "t=b", "t=c"]);
        cluster.send(subscriber, &ack_bytes(PUBREC, 3));
        assert_eq!(cluster.take(subscriber), [Seen::PubRel(3)]);
        cluster.cut(subscriber);
        cluster.send(publisher, &publish_bytes("t", b"d", 1, false, 10));
        cluster.send(publisher, &publish_bytes("t", b"lost", 0, false, 0));
        cluster.settle();
        cluster.take(publisher);

        let again = cluster.open();
        cluster.send(again, &connect_bytes(&id, false, 0));
        cluster.settle();
        let expected = [
            Seen::ConnAck(true, 0),
            publish("t", "a", 1, 1, true),
            publish("t", "b", 2, 2, true),
            Seen::PubRel(3),
            publish("t", "d", 1, 4, false),
        ];
        assert_eq!(cluster.take(again), expected);
        for (packet, id) in [(PUBACK, 1), (PUBREC, 2), (PUBCOMP, 2), (PUBCOMP, 3), (PUBACK, 4)] {
            cluster.send(again, &ack_bytes(packet, id));
        }
        assert_eq!((cluster.stats().inflight, cluster.stats().queued), (0, 0));
        cluster.check_quiet();
    }
}

/// [MQTT-4.3.3-2]
#[test]
fn a_qos_2_exchange_goes_on_over_a_new_connection() {
    let mut cluster = Cluster::new(2);
    let (subscriber, _, _) = pair(&mut cluster, 1, true, 2);
    let publisher = cluster.connect("persistent", false);
    cluster.send(publisher, &publish_bytes("t", b"x", 2, true, 7));
    cluster.cut(publisher);
    let publisher = cluster.connect("persistent", false);
    cluster.send(publisher, &publish_bytes("t", b"x", 2, true, 7));
    cluster.send(publisher, &ack_bytes(PUBREL, 7));
    cluster.settle();
    assert_eq!(cluster.take(publisher), [Seen::PubRec(7), Seen::PubComp(7)]);
    assert_eq!(cluster.take(subscriber), [publish("t", "x", 2, 1, false)]);
    assert_eq!(cluster.stats().retained, 1);
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-6]
#[test]
fn order_is_kept_per_publisher_on_every_interleaving() {
    for seed in 0..40 {
        let mut cluster = Cluster::seeded(3, seed);
        let (subscriber, publisher, _) = pair(&mut cluster, 2, true, 2);
        let mut expected = Vec::new();
        for n in 0..50u16 {
            cluster.send(
                publisher,
                &publish_bytes("t", n.to_string().as_bytes(), 1, false, n + 1),
            );
            expected.push(format!("t={n}"));
            cluster.run_some();
        }
        cluster.settle();
        assert_eq!(cluster.take_texts(subscriber), expected);
        let acks: Vec<Seen> = (1..=50).map(Seen::PubAck).collect();
        assert_eq!(cluster.take(publisher), acks);
    }
}

#[test]
fn unknown_acknowledgements_change_nothing_and_wrong_ones_close() {
    let mut cluster = Cluster::new(1);
    let (subscriber, publisher, _) = pair(&mut cluster, 0, true, 1);
    for packet in [PUBACK, PUBCOMP] {
        cluster.send(subscriber, &ack_bytes(packet, 99));
    }
    cluster.send(subscriber, &ack_bytes(PUBREC, 99));
    cluster.send(subscriber, &ack_bytes(PUBREL, 99));
    assert_eq!(cluster.take(subscriber), [Seen::PubRel(99), Seen::PubComp(99)]);
    cluster.send(publisher, &publish_bytes("t", b"x", 1, false, 1));
    cluster.send(subscriber, &ack_bytes(PUBREC, 1));
    assert!(cluster.is_closed(subscriber));
}

#[test]
fn a_stream_cut_anywhere_gives_the_same_answers() {
    let mut stream = connect_bytes("device", true, 0);
    stream.extend_from_slice(&subscribe_bytes(1, &[("t/+", 2)]));
    let large = vec![b'x'; 20_000];
    for (n, payload) in [&b"a"[..], &large, &[], &large].into_iter().enumerate() {
        let id = u16::try_from(n).unwrap() + 1;
        stream.extend_from_slice(&publish_bytes("t/1", payload, 1, false, id));
    }
    let answers = |pieces: &[usize]| {
        let mut cluster = Cluster::new(1);
        let client = cluster.open();
        let mut at = 0;
        for piece in pieces.iter().copied().chain([stream.len()]) {
            let end = (at + piece).min(stream.len());
            cluster.send(client, &stream[at..end]);
            at = end;
        }
        cluster.take(client)
    };
    let expected = answers(&[]);
    assert_eq!(expected.len(), 2 + 4 * 2);
    for cut in (1..200).chain((200..stream.len()).step_by(997)) {
        assert_eq!(answers(&[cut]), expected, "cut at {cut}");
    }
    assert_eq!(answers(&vec![1; stream.len()]), expected);
    assert_eq!(answers(&vec![4_096; stream.len() / 4_096]), expected);
}
