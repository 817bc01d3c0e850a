//! Malformed and forbidden packets: each ends its own connection, says so once in the log, is counted, and is nobody
//! else's business.

mod common;

use std::net::SocketAddr;

use common::wire::{self, packet, string};
use common::*;

/// What an accepted client may not send, and the reason in the log.
fn violations() -> Vec<(Vec<u8>, &'static str)> {
    let filters = |rest: &[u8]| packet(0x82, &[&[0, 1], &string("t")[..], rest].concat());
    vec![
        (vec![0xf0, 0x00], "invalid_packet_type"),
        (vec![0xc1, 0x00], "invalid_flags"),
        (vec![0x36, 0x05, 0, 1, b't', 0, 1], "invalid_qos"),
        (vec![0x38, 0x03, 0, 1, b't'], "dup_with_qos_0"),
        (vec![0x30, 0xff, 0xff, 0xff, 0xff], "malformed_remaining_length"),
        (vec![0x30, 0xff, 0xff, 0xff, 0x7f], "packet_too_large"),
        (vec![0x30, 0x04, 0, 2, 0xc3, 0x28], "invalid_utf8"),
        (vec![0x30, 0x03, 0, 1, 0], "nul_in_string"),
        (vec![0x30, 0x03, 0, 9, b't'], "truncated"),
        (vec![0x32, 0x05, 0, 1, b't', 0, 0], "zero_packet_id"),
        (vec![0xc0, 0x01, 0x00], "trailing_bytes"),
        (packet(0x82, &[0, 1]), "no_filters"),
        (filters(&[3]), "invalid_qos"),
        (publish("a/#", "x").encode(), "invalid_topic_name"),
        (publish("", "x").encode(), "invalid_topic_name"),
        (wire::subscribe(1, &[("a/#/b", 0)]), "invalid_topic_filter"),
        (wire::unsubscribe(1, &["a+"]), "invalid_topic_filter"),
        (Connect::new("again").encode(), "second_connect"),
        (vec![0x20, 0x02, 0, 0], "server_packet"),
        (vec![0xd0, 0x00], "server_packet"),
    ]
}

#[test]
fn violation_ends_its_connection_with_one_line_and_no_other() {
    each_broker_with(&["--sys-interval", "1"], |broker| {
        let mut others = others(broker);
        let mut offenders: Vec<(String, SocketAddr, &str)> = Vec::new();
        for (n, (bytes, reason)) in (0_u8..).zip(violations()) {
            let id = format!("offender-{n}");
            let mut offender = broker.connect(&id);
            offender.send_whatever(&bytes);
            offender.expect_close();
            offenders.push((id, offender.local_addr(), reason));
            see_a_message(broker, &mut others, n);
        }
        for (id, peer, reason) in &offenders {
            let line = broker.await_log(|line| line.contains(&format!("peer={peer} ")));
            for part in [
                " INFO ".to_owned(),
                "connection closed: ".to_owned(),
                format!("client=\"{id}\""),
                format!("reason=\"{reason}\""),
            ] {
                assert!(line.contains(&part), "no {part} in {line}");
            }
        }
        let mut sys = broker.sys();
        sys.settle();
        sys.await_value("connections/violations", offenders.len() as u64);
        for (_, peer, _) in &offenders {
            let lines = broker.log_lines(|line| line.contains(&format!("peer={peer} ")));
            assert_eq!(lines.len(), 1, "{lines:?}");
        }
        for other in &mut others {
            other.expect_silence();
        }
    });
}

#[test]
fn violation_before_connect_gets_its_connack_and_one_line() {
    each_broker_with(&["--sys-interval", "1"], |broker| {
        let mut others = others(broker);
        let future = Connect {
            level: 9,
            ..Connect::new("future")
        };
        let nobody = Connect::resume("");
        let will = Connect::new("will").will(publish("a/+", "x"));
        let broker_will = Connect::new("will").will(publish("$SYS/x", "x"));
        let cases = [
            (future.encode(), Some(1), "unsupported_protocol_level"),
            (nobody.encode(), Some(2), "invalid_client_id"),
            (broker_will.encode(), Some(5), "forbidden_will"),
            (will.encode(), None, "invalid_topic_name"),
            (publish("t", "early").encode(), None, "not_connected"),
            (PINGREQ.to_vec(), None, "not_connected"),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), None, "invalid_flags"),
            (vec![0x10, 0xff, 0xff, 0xff, 0x7f], None, "packet_too_large"),
        ];
        let (mut refused, mut count) = (0, 0);
        for (n, (bytes, code, reason)) in (0_u8..).zip(&cases) {
            let mut client = broker.dial();
            client.send_whatever(bytes);
            if let Some(code) = code {
                client.expect(&Packet::Connack {
                    session_present: false,
                    code: *code,
                });
                refused += 1;
            }
            client.expect_close();
            count += 1;
            let peer = client.local_addr();
            let line = broker.await_log(|line| line.contains(&format!("peer={peer} ")));
            assert!(line.contains(" INFO "), "{line}");
            assert!(line.contains(&format!("reason=\"{reason}\"")), "no {reason} in {line}");
            see_a_message(broker, &mut others, n);
        }
        let mut sys = broker.sys();
        sys.settle();
        sys.await_value("connections/violations", count);
        sys.await_value("connects/refused", refused);
    });
}

/// The log is bounded, and yet it accounts for each: a line of its own, or in the number of a summary.
#[test]
fn flood_of_violations_is_all_accounted_for() {
    const OFFENDERS: usize = 60;
    on_shards(&[1, 2], &["--sys-interval", "1"], |broker| {
        let mut others = others(broker);
        for n in 0..OFFENDERS {
            let mut offender = broker.dial();
            offender.send_whatever([0xf0, 0x00]);
            offender.expect_close();
            if n % 20 == 0 {
                see_a_message(broker, &mut others, 0);
            }
        }
        let accounted = |line: &str| match line.split_once("suppressed=") {
            Some((_, count)) => count.trim().parse().expect("a number"),
            None => 1,
        };
        let total = |output: &str| -> usize {
            let lines = output.lines();
            lines
                .filter(|line| line.contains("reason=\"invalid_packet_type\""))
                .map(accounted)
                .sum()
        };
        // The last summary comes by itself.
        let found = broker.await_output(|output| Some(total(output)).filter(|total| *total >= OFFENDERS));
        assert_eq!(found, OFFENDERS);
        broker.sys().await_value("connections/violations", OFFENDERS as u64);
    });
}

/// A client that simply goes away is daily business, and a client that says goodbye even more so.
#[test]
fn ordinary_ends_are_not_in_the_log() {
    on_shards(&[1, 2], &["--sys-interval", "1"], |broker| {
        let vanished = broker.connect("vanished");
        let left = broker.connect("left");
        let (vanished_peer, left_peer) = (vanished.local_addr(), left.local_addr());
        vanished.vanish();
        left.disconnect();
        broker.assert_closes([0xf0, 0x00]);
        broker.await_log(|line| line.contains("client=\"offender\""));
        let mut sys = broker.sys();
        sys.settle();
        sys.await_value("connections/violations", 1);
        for peer in [vanished_peer, left_peer] {
            let lines = broker.log_lines(|line| line.contains(&peer.to_string()));
            assert!(lines.is_empty(), "{lines:?}");
        }
    });
}

/// A subscriber on every shard, that must not notice anything.
fn others(broker: &Broker) -> Vec<Client> {
    (0..broker.shards)
        .map(|shard| {
            let mut other = broker.connect(&broker.id_on(shard, "other"));
            other.subscribe("ok", 1);
            other
        })
        .collect()
}

fn see_a_message(broker: &Broker, others: &mut [Client], n: u8) {
    let mut publisher = broker.connect("pub");
    publisher.publish("ok", [n], 1);
    for other in others {
        other.expect_message("ok", [n], 1);
    }
    publisher.disconnect();
}

/// Random bytes, as a first packet and from accepted clients; the same ones in every run.
#[test]
fn noise_harms_nobody() {
    each_broker(|broker| {
        let mut control = broker.connect("control");
        control.subscribe("control", 1);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        for round in 0..300 {
            let len = 1 + usize::from(random()) / (1 + round % 7);
            let mut noise: Vec<u8> = (0..len).map(|_| random()).collect();
            let mut client = if round % 3 == 0 {
                broker.dial()
            } else {
                broker.connect("noise")
            };
            if round % 2 == 0 {
                // A header that fits, so that the body is looked at.
                noise = packet(noise[0], &noise[1..]);
            }
            client.send_whatever(noise);
            if round % 50 == 0 {
                control.publish("control", "x", 0);
                control.expect_message("control", "x", 0);
            }
        }
    });
}
