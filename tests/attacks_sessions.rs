//! Takeovers, identifiers and flows that an attacker bends: sessions keep what they promised, and no more than they may.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use common::wire;
use common::*;

const MIB: u64 = 1024 * 1024;

/// Attack 36: one survivor; each connection that was accepted and lost leaves its own will, once; no message is lost.
#[test]
fn storm_of_takeovers_leaves_one_survivor_and_every_will_once() {
    attack(&[], |broker| {
        let mut watcher = broker.connect("sub");
        watcher.subscribe("will/#", 1);
        let (mut first, _) = broker.resume("contested");
        first.subscribe("t", 1);
        let held: Vec<(String, Client)> = thread::scope(|scope| {
            let storm: Vec<_> = (0..6)
                .map(|thread| {
                    scope.spawn(move || {
                        let mut held = Vec::new();
                        for n in 0..40 {
                            let topic = format!("will/{thread}/{n}");
                            let will = publish(&topic, "gone").qos(1, 1);
                            let mut client = broker.dial();
                            client.send(Connect::resume("contested").will(will).encode());
                            // Another may have taken over before this one has its CONNACK.
                            if let Some(answer) = client.recv_or_close() {
                                assert!(matches!(answer, Packet::Connack { code: 0, .. }), "{answer:?}");
                                held.push((topic, client));
                            }
                        }
                        held
                    })
                })
                .collect();
            let mut publisher = broker.connect("pub");
            for n in 0..50_u8 {
                publisher.publish("t", [n], 1);
            }
            storm
                .into_iter()
                .flat_map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        let (mut survivors, mut lost) = (Vec::new(), BTreeSet::new());
        for (topic, mut client) in held {
            client.send_whatever(PINGREQ);
            let alive = loop {
                match client.recv_or_close() {
                    None => break false,
                    Some(Packet::Pingresp) => break true,
                    Some(_) => {}
                }
            };
            if alive {
                survivors.push((topic, client));
            } else {
                lost.insert(topic);
            }
        }
        assert!(survivors.len() <= 1, "{} connections survive", survivors.len());
        let (mut last, session_present) = broker.resume("contested");
        assert!(session_present);
        for n in 0..50_u8 {
            let got = last.recv_publish();
            assert_eq!(got.payload, [n]);
            last.acknowledge(&got);
        }
        last.expect_silence();
        lost.extend(survivors.into_iter().map(|(topic, _)| topic));
        let mut wills: BTreeMap<String, u32> = BTreeMap::new();
        while lost.iter().any(|topic| !wills.contains_key(topic)) {
            let got = watcher.recv_publish();
            watcher.acknowledge(&got);
            *wills.entry(got.topic).or_default() += 1;
        }
        while let Some(Some(Packet::Publish(got))) = watcher.recv_within(QUIET) {
            watcher.acknowledge(&got);
            *wills.entry(got.topic).or_default() += 1;
        }
        assert!(wills.values().all(|count| *count == 1), "{wills:?}");
    });
}

/// Attack 37: in the middle of QoS 2, in both directions.
#[test]
fn takeover_in_the_middle_of_qos_2_delivers_once() {
    attack(&[], |broker| {
        let mut watcher = broker.connect("pub");
        watcher.subscribe("in", 2);
        let (mut old, _) = broker.resume("sub");
        old.subscribe("out", 2);
        for n in 1..=30_u16 {
            let payload = n.to_string();
            old.send(publish("in", &payload).qos(2, n).encode());
            old.expect(&Packet::Pubrec(n));
            watcher.publish("out", &payload, 2);
            let got = old.recv_publish();
            assert_eq!(got.payload, payload.as_bytes());
            let id = got.packet_id();
            old.send(wire::pubrec(id));
            old.expect(&Packet::Pubrel(id));
            let (mut new, session_present) = broker.resume("sub");
            assert!(session_present);
            old.expect_close();
            new.expect(&Packet::Pubrel(id));
            new.send(wire::pubcomp(id));
            new.send(publish("in", "a repeat").qos(2, n).dup().encode());
            new.expect(&Packet::Pubrec(n));
            new.send(wire::pubrel(n));
            new.expect(&Packet::Pubcomp(n));
            watcher.expect_message("in", &payload, 2);
            old = new;
        }
        watcher.expect_silence();
        old.expect_silence();
    });
}

/// Attack 37: the socket of a client that does not read is closed too, and what waited is the new one's.
#[test]
fn takeover_with_a_full_output_closes_the_old_socket_and_loses_nothing() {
    attack(&["--max-output-bytes", "65536"], |broker| {
        let (mut old, _) = broker.resume("sub");
        old.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        let payload = |n: u8| vec![n; 100_000];
        for n in 0..100 {
            publisher.publish("t", payload(n), 1);
        }
        let (mut new, session_present) = broker.resume("sub");
        assert!(session_present);
        for n in 0..100 {
            let got = new.recv_publish();
            assert!(got.payload == payload(n), "message {n}");
            new.acknowledge(&got);
        }
        new.expect_silence();
        while old.recv_or_close().is_some() {}
    });
}

/// Attack 37: the retained messages that a taken over connection was about to get are no part of the new one's.
#[test]
fn takeover_during_a_retained_replay_cuts_nothing_short() {
    attack(&[], |broker| {
        let mut publisher = broker.connect("pub");
        for n in 0..500 {
            publisher.retain(&format!("kept/{n}"), n.to_string(), 1);
        }
        let mut old = broker.connect("sub");
        for _ in 0..10 {
            old.send(wire::subscribe(1, &[("kept/#", 1)]));
            let mut new = broker.connect("sub");
            while old.recv_or_close().is_some() {}
            new.subscribe("kept/#", 1);
            let mut seen = BTreeSet::new();
            for _ in 0..500 {
                let got = new.recv_publish();
                assert!(got.retain && got.topic == format!("kept/{}", String::from_utf8_lossy(&got.payload)));
                new.acknowledge(&got);
                assert!(seen.insert(got.topic), "a retained message came twice");
            }
            new.expect_silence();
            old = new;
        }
    });
}

/// Attack 37: DISCONNECT and the CONNECT of another meet; the will may be owed or not, but not twice.
#[test]
fn takeover_of_a_client_that_is_leaving_publishes_at_most_one_will() {
    attack(&[], |broker| {
        let mut watcher = broker.connect("pub");
        watcher.subscribe("will/#", 1);
        let mut seen = BTreeSet::new();
        for n in 0..50 {
            let will = publish(&format!("will/{n}"), "gone").qos(1, 1);
            let (mut old, _) = broker.connect_as(&Connect::resume("sub").will(will));
            let mut new = broker.dial();
            old.send(DISCONNECT);
            assert!(new.connect(&Connect::resume("sub")));
            old.expect_close();
            new.ping();
            new.disconnect();
        }
        while let Some(Some(Packet::Publish(got))) = watcher.recv_within(QUIET) {
            watcher.acknowledge(&got);
            assert!(seen.insert(got.topic.clone()), "{} came twice", got.topic);
        }
    });
}

/// Attack 39: the documented limit ends the connection; what is held stays held, and memory with it.
#[test]
fn qos_2_messages_that_are_never_released_end_at_the_limit() {
    attack(&["--max-inbound-qos2", "200"], |broker| {
        let mut watcher = broker.connect("pub");
        watcher.subscribe("t", 2);
        let before = broker.rss_bytes();
        let (mut client, _) = broker.resume("sub");
        for id in 1..=200 {
            client.send(publish("t", id.to_string()).qos(2, id).encode());
            client.expect(&Packet::Pubrec(id));
        }
        let more: Vec<u8> = (201..=u16::MAX)
            .flat_map(|id| publish("t", "over").qos(2, id).encode())
            .collect();
        client.send_whatever(more);
        client.expect_close();
        let (mut client, session_present) = broker.resume("sub");
        assert!(session_present);
        watcher.expect_silence();
        for id in 1..=200_u16 {
            client.send(wire::pubrel(id));
            client.expect(&Packet::Pubcomp(id));
            watcher.expect_message("t", id.to_string(), 2);
        }
        watcher.expect_silence();
        let grown = broker.rss_bytes().saturating_sub(before);
        assert!(grown < 16 * MIB, "{grown} bytes");
    });
}

/// Attack 40: the first payload counts, however often and with whatever else the identifier comes again.
#[test]
fn repeated_qos_2_identifier_is_one_message_and_no_growth() {
    attack(&[], |broker| {
        let mut watcher = broker.connect("pub");
        watcher.subscribe("t", 2);
        let mut client = broker.connect("sub");
        client.send(publish("t", "first").qos(2, 9).encode());
        client.expect(&Packet::Pubrec(9));
        let before = broker.rss_bytes();
        let other = publish("t", vec![b'x'; 2_000]).qos(2, 9);
        let batch = [other.clone().encode(), other.dup().encode()].concat().repeat(100);
        for _ in 0..150 {
            client.send(&batch);
            for _ in 0..200 {
                client.expect(&Packet::Pubrec(9));
            }
        }
        let grown = broker.rss_bytes().saturating_sub(before);
        assert!(grown < 16 * MIB, "{grown} bytes for 60 MB of repeats");
        for _ in 0..2 {
            client.send(wire::pubrel(9));
            client.expect(&Packet::Pubcomp(9));
        }
        watcher.expect_message("t", "first", 2);
        watcher.expect_silence();
    });
}

/// Attack 41: an acknowledgement that fits nothing may close or be ignored; what is in flight stays in flight.
#[test]
fn acknowledgement_that_fits_nothing_changes_nothing() {
    attack(&[], |broker| {
        let (mut client, _) = broker.resume("sub");
        client.send(wire::pubrel(77));
        client.expect(&Packet::Pubcomp(77));
        client.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        publisher.publish("t", "one", 1);
        publisher.publish("t", "two", 2);
        let (one, two) = (client.recv_publish(), client.recv_publish());
        assert_eq!((one.qos, two.qos), (1, 2));
        for bad in [
            wire::puback(999),
            wire::pubrec(999),
            wire::pubcomp(999),
            wire::pubrec(one.packet_id()),
            wire::pubcomp(one.packet_id()),
            wire::puback(two.packet_id()),
            wire::pubcomp(two.packet_id()),
        ] {
            client.send(&bad);
            client.send_whatever(PINGREQ);
            // PUBREC is answered even where nothing is known of its identifier.
            while matches!(client.recv_or_close(), Some(Packet::Pubrel(_))) {}
            drop(client);
            let (again, session_present) = broker.resume("sub");
            assert!(session_present);
            client = again;
            assert_eq!(client.recv_publish(), one.clone().dup(), "after {bad:02x?}");
            assert_eq!(client.recv_publish(), two.clone().dup(), "after {bad:02x?}");
        }
        client.acknowledge(&one);
        client.acknowledge(&two);
        client.expect_silence();
    });
}

/// Attack 42: through a resumption and a subscription that was taken down to QoS 0 and up again.
#[test]
fn identifiers_in_flight_survive_resumption_and_downgrade() {
    attack(&["--max-inflight", "10"], |broker| {
        let (mut client, _) = broker.resume("sub");
        client.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        let mut held = BTreeSet::new();
        for n in 0..5 {
            publisher.publish("t", [n], 1 + n % 2);
            assert!(held.insert(client.recv_publish().packet_id()));
        }
        client.subscribe("t", 0);
        publisher.publish("t", "zero", 2);
        client.expect_message("t", "zero", 0);
        client.vanish();
        let (mut client, _) = broker.resume("sub");
        let again: BTreeSet<u16> = (0..5).map(|_| client.recv_publish().packet_id()).collect();
        assert_eq!(again, held);
        client.subscribe("t", 1);
        for n in 0..300_u16 {
            publisher.publish("t", n.to_be_bytes(), 1);
            let got = client.recv_publish();
            assert!(!held.contains(&got.packet_id()), "{} is in flight", got.packet_id());
            client.acknowledge(&got);
        }
    });
}

/// Attack 43.
#[test]
fn resumption_keeps_identifiers_order_retain_and_qos_and_sets_dup() {
    attack(&[], |broker| {
        let mut publisher = broker.connect("pub");
        publisher.retain("t/kept", "retained", 2);
        let (mut client, _) = broker.resume("sub");
        client.subscribe("t/#", 2);
        let mut sent = vec![client.recv_publish()];
        assert!(sent[0].retain);
        for n in 0..20 {
            publisher.publish("t/live", [n], 1 + n % 2);
            sent.push(client.recv_publish());
        }
        for _ in 0..3 {
            client.vanish();
            client = broker.resume("sub").0;
            for publish in &sent {
                assert_eq!(client.recv_publish(), publish.clone().dup());
            }
            client.expect_silence();
        }
    });
}

/// Attack 44: PUBLISH on one connection, PUBREL on the next; and a will of the same kind.
#[test]
fn retained_qos_2_across_connections_is_stored_and_delivered_once() {
    attack(&[], |broker| {
        let mut watcher = broker.connect("sub");
        watcher.subscribe("t/#", 2);
        let (mut client, _) = broker.resume("pub");
        client.send(publish("t/kept", "x").qos(2, 5).retain().encode());
        client.expect(&Packet::Pubrec(5));
        client.vanish();
        let will = publish("t/will", "gone").qos(2, 1).retain();
        let (mut client, _) = broker.connect_as(&Connect::resume("pub").will(will));
        client.send(wire::pubrel(5));
        client.expect(&Packet::Pubcomp(5));
        watcher.expect_message("t/kept", "x", 2);
        client.vanish();
        watcher.expect_message("t/will", "gone", 2);
        watcher.expect_silence();
        let mut later = broker.connect("later");
        later.subscribe("t/kept", 2);
        later.expect_retained("t/kept", "x", 2);
        later.subscribe("t/will", 2);
        later.expect_retained("t/will", "gone", 2);
    });
}

/// Attack 45: RST right behind DISCONNECT.
#[test]
fn reset_behind_disconnect_publishes_no_will() {
    attack(&[], |broker| {
        let mut watcher = broker.connect("sub");
        watcher.subscribe("will", 1);
        for _ in 0..50 {
            let (mut client, _) = broker.connect_as(&Connect::new("pub").will(publish("will", "gone").qos(1, 1)));
            client.send(DISCONNECT);
            // The broker has read the DISCONNECT once it closes its side.
            client.expect_close();
            let stream = client.into_stream();
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option of TCP");
        }
        watcher.expect_silence();
    });
}

/// Attack 45: neither 0 nor 65,535 seconds of Keep Alive escape the broker's own limit.
#[test]
fn keep_alive_beyond_the_limit_is_held_to_it() {
    attack(&["--max-keep-alive", "1"], |broker| {
        let mut watcher = broker.connect("sub");
        watcher.subscribe("will/#", 1);
        for keep_alive in [0, u16::MAX] {
            let will = publish(&format!("will/{keep_alive}"), "gone").qos(1, 1);
            let connect = Connect::new(&format!("silent{keep_alive}")).will(will);
            let (mut client, _) = broker.connect_as(&connect.keep_alive(keep_alive));
            let closed = thread::spawn(move || client.expect_close());
            while !closed.is_finished() {
                watcher.ping();
                thread::sleep(Duration::from_millis(50));
            }
            closed.join().expect("it was closed");
            watcher.expect_message(&format!("will/{keep_alive}"), "gone", 1);
        }
    });
}
