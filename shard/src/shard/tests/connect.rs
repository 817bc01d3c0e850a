//! CONNECT, takeover, Keep Alive, Will, and the end of a connection.

use std::time::Duration;

use super::cluster::*;
use crate::codec::Will;
use crate::limits::Limits;

/// [MQTT-3.1.2-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
#[test]
fn a_session_is_resumed_wherever_its_client_connects() {
    for shards in [1, 2, 3, 8] {
        let mut cluster = Cluster::new(shards);
        for expected in [false, true, true] {
            let client = cluster.open();
            cluster.send(client, &connect_bytes("device", false, 0));
            cluster.settle();
            assert_eq!(cluster.take(client), [Seen::ConnAck(expected, 0)]);
            cluster.cut(client);
        }
    }
}

/// [MQTT-3.1.2-6] [MQTT-3.2.2-1]
#[test]
fn clean_session_forgets_what_was_and_leaves_nothing() {
    let mut cluster = Cluster::new(2);
    let client = cluster.connect("device", false);
    cluster.send(client, &subscribe_bytes(1, &[("a/#", 1)]));
    cluster.cut(client);
    cluster.settle();
    assert_eq!(cluster.stats().sessions, 1);
    let clean = cluster.open();
    cluster.send(clean, &connect_bytes("device", true, 0));
    cluster.settle();
    assert_eq!(cluster.take(clean), [Seen::ConnAck(false, 0)]);
    assert!(cluster.routes().is_empty());
    cluster.cut(clean);
    assert_eq!(cluster.stats().sessions, 0);
    cluster.settle();
    cluster.check_quiet();
}

/// [MQTT-3.1.4-2]
#[test]
fn a_second_connection_takes_over_and_the_old_will_fires_once() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(shards);
        let watcher = cluster.connect("watcher", true);
        cluster.send(watcher, &subscribe_bytes(1, &[("will", 0)]));
        cluster.settle();
        cluster.take(watcher);
        let will = Will {
            topic: "will",
            message: b"gone",
            qos: qos(0),
            retain: false,
        };
        let old = cluster.open();
        cluster.send(old, &connect_with("device", false, 0, Some(will)));
        cluster.settle();
        let new = cluster.connect("device", false);
        cluster.settle();
        assert!(cluster.is_closed(old));
        assert!(!cluster.is_closed(new));
        assert_eq!(cluster.take_texts(watcher), ["will=gone"]);
        cluster.cut(new);
        cluster.settle();
        assert!(cluster.take_texts(watcher).is_empty());
        assert_eq!(cluster.stats().takeovers, 1);
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[test]
fn the_will_is_published_at_an_abnormal_end_only() {
    let will = Will {
        topic: "will",
        message: b"gone",
        qos: qos(1),
        retain: true,
    };
    for (goodbye, published) in [(true, 0), (false, 1)] {
        let mut cluster = Cluster::new(2);
        let watcher = cluster.connect("watcher", true);
        cluster.send(watcher, &subscribe_bytes(1, &[("will", 1)]));
        let client = cluster.open();
        cluster.send(client, &connect_with("device", true, 0, Some(will.clone())));
        cluster.settle();
        if goodbye {
            cluster.send(client, &DISCONNECT);
        }
        cluster.cut(client);
        cluster.settle();
        assert_eq!(cluster.take_texts(watcher).len(), published);
        assert_eq!(cluster.stats().retained, published as u64);
    }
}

/// [MQTT-3.1.2-24]
#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    let mut cluster = Cluster::new(1);
    let client = cluster.open();
    cluster.send(client, &connect_bytes("device", true, 10));
    cluster.advance(Duration::from_millis(14_900));
    assert!(!cluster.is_closed(client));
    cluster.send(client, &[0xc0, 0]);
    cluster.advance(Duration::from_millis(14_900));
    assert!(!cluster.is_closed(client));
    cluster.advance(Duration::from_millis(200));
    assert!(cluster.is_closed(client));
    assert_eq!(cluster.take(client), [Seen::ConnAck(false, 0), Seen::PingResp]);
    assert_eq!(cluster.stats().timeouts, 1);
}

/// Bytes that make no packet are no sign of life, unless there are many: a large packet may come slowly. [MQTT-3.1.2-24]
#[test]
fn a_packet_that_trickles_in_keeps_no_connection_alive() {
    for (piece, survives) in [(&[0; 1][..], false), (&[0; 1_000][..], true)] {
        let mut cluster = Cluster::new(1);
        let client = cluster.open();
        cluster.send(client, &connect_bytes("device", true, 10));
        cluster.send(client, &[0x30, 0xff, 0xff, 0x7f, 0, 1, b't']);
        for _ in 0..20 {
            cluster.advance(Duration::from_secs(5));
            cluster.send(client, piece);
        }
        assert_eq!(cluster.is_closed(client), !survives, "{} bytes in 5 s", piece.len());
    }
}

#[test]
fn a_socket_without_connect_is_closed_after_the_connect_timeout() {
    let mut cluster = Cluster::new(2);
    let silent = cluster.open();
    let slow = cluster.open();
    let bytes = connect_bytes("device", true, 0);
    cluster.send(slow, &bytes[..bytes.len() - 1]);
    cluster.advance(Duration::from_millis(9_900));
    assert!(!cluster.is_closed(silent) && !cluster.is_closed(slow));
    cluster.advance(Duration::from_millis(200));
    assert!(cluster.is_closed(silent) && cluster.is_closed(slow));
    assert_eq!(cluster.stats().connections, 0);
}

/// A client that does not take its answers is not read any more; what it sent until then counts all the same.
#[test]
fn a_packet_behind_which_reading_stops_is_heard() {
    let limits = Limits {
        output_bytes_max: 2,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(1, &limits);
    let client = cluster.open();
    cluster.send(client, &connect_bytes("c", true, 1));
    cluster.settle();
    cluster.stall(client, true);
    cluster.advance(Duration::from_millis(1_000));
    cluster.send(client, &[0xc0, 0, 0xc0, 0]);
    cluster.advance(Duration::from_millis(1_400));
    assert!(!cluster.is_closed(client));
    cluster.advance(Duration::from_millis(300));
    assert!(cluster.is_closed(client));
}

#[test]
fn keep_alive_0_means_no_limit() {
    let mut cluster = Cluster::new(1);
    let client = cluster.connect("device", true);
    cluster.advance(Duration::from_secs(60));
    assert!(!cluster.is_closed(client));
}

/// [MQTT-3.1.3-8] [MQTT-3.2.2-4] [MQTT-3.2.2-5]
#[test]
fn an_empty_client_identifier_needs_clean_session() {
    let mut cluster = Cluster::new(3);
    let refused = cluster.open();
    cluster.send(refused, &connect_bytes("", false, 0));
    assert_eq!(cluster.take(refused), [Seen::ConnAck(false, 2)]);
    assert!(cluster.is_closed(refused));
    let (a, b) = (cluster.connect("", true), cluster.connect("", true));
    assert!(!cluster.is_closed(a) && !cluster.is_closed(b));
    assert_eq!(cluster.stats().sessions, 2);
}

/// [MQTT-3.1.2-2]
#[test]
fn an_unknown_protocol_level_is_refused_with_code_1() {
    let mut cluster = Cluster::new(1);
    let client = cluster.open();
    cluster.send(client, b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x00\x00\x01x");
    assert_eq!(cluster.take(client), [Seen::ConnAck(false, 1)]);
    assert!(cluster.is_closed(client));
}

/// [MQTT-3.1.0-1] [MQTT-3.1.0-2]
#[test]
fn connect_comes_first_and_once() {
    let mut cluster = Cluster::new(2);
    let client = cluster.open();
    cluster.send(client, &[0xc0, 0]);
    assert!(cluster.is_closed(client));
    assert!(cluster.take(client).is_empty());
    let client = cluster.connect("device", true);
    cluster.send(client, &connect_bytes("device", true, 0));
    assert!(cluster.is_closed(client));
    assert_eq!(cluster.stats().violations, 2);
}

#[test]
fn packets_behind_connect_move_along_with_the_connection() {
    for shards in [1, 2, 8] {
        let mut cluster = Cluster::new(shards);
        for cut in [0, 1, 5, 20] {
            let client = cluster.open();
            let mut bytes = connect_bytes(&format!("device{cut}"), true, 0);
            bytes.extend_from_slice(&subscribe_bytes(1, &[("t", 0)]));
            bytes.extend_from_slice(&publish_bytes("t", b"x", 0, false, 0));
            cluster.send(client, &bytes[..cut]);
            cluster.send(client, &bytes[cut..]);
            cluster.settle();
            let seen: Vec<String> = cluster.take(client).iter().map(Seen::text).collect();
            // The PUBLISH may come before the SUBACK, and may have been published before the route was there.
            assert!(seen.contains(&"ConnAck(false, 0)".to_owned()), "{seen:?}");
            assert!(seen.contains(&"SubAck(1, [0])".to_owned()), "{seen:?}");
            assert!(seen.contains(&"t=x".to_owned()), "{seen:?}");
            cluster.cut(client);
        }
    }
}

#[test]
fn shutdown_closes_everybody_and_publishes_no_will() {
    let mut cluster = Cluster::new(2);
    let will = Will {
        topic: "will",
        message: b"gone",
        qos: qos(1),
        retain: true,
    };
    let client = cluster.open();
    cluster.send(client, &connect_with("device", false, 0, Some(will)));
    cluster.settle();
    cluster.shutdown();
    assert!(cluster.is_closed(client));
    assert_eq!((cluster.stats().retained, cluster.stats().connections), (0, 0));
}
