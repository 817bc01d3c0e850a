//! Bytes that no well-meant client sends, before and after CONNECT: each ends its own connection and nothing else.

mod common;

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::wire::{self, packet, string};
use common::*;

const MIB: u64 = 1024 * 1024;

/// Attack 1: the fourth length byte announces a fifth. Up to it the packet could still be one.
#[test]
fn length_that_goes_on_after_four_bytes_closes_at_once() {
    attack(&[], |broker| {
        let before = broker.address_space_bytes();
        for first in [0x10, 0x30, 0x82] {
            for _ in 0..50 {
                let mut client = if first == 0x10 {
                    broker.dial()
                } else {
                    broker.connect("offender")
                };
                client.send([first, 0xff, 0xff, 0xff]);
                client.send_whatever([0xff]);
                client.expect_close();
            }
        }
        let mut client = broker.connect("patient");
        client.send([0x30, 0xff, 0xff, 0xff]);
        assert_eq!(
            client.recv_within(QUIET),
            None,
            "three length bytes are no violation yet"
        );
        let grown = broker.address_space_bytes().saturating_sub(before);
        assert!(
            grown < 128 * MIB,
            "{grown} bytes allocated for lengths that do not exist"
        );
    });
}

/// Attack 2: memory follows what arrives, and a CONNECT that drips in meets the connect timeout.
#[test]
fn advertised_length_takes_no_memory() {
    attack(
        &["--max-packet-size", "268435460", "--connect-timeout", "2"],
        |broker| {
            let (rss, space) = (broker.rss_bytes(), broker.address_space_bytes());
            let mut clients: Vec<Client> = (0..40)
                .map(|n| {
                    let (mut client, _) = broker.connect_as(&Connect::new(&format!("big{n}")).keep_alive(0));
                    client.send([0x30, 0xff, 0xff, 0xff, 0x7f, 0x00, 0x01]);
                    client
                })
                .collect();
            let mut connects: Vec<Client> = (0..10)
                .map(|_| {
                    let mut client = broker.dial();
                    // Not more than the largest CONNECT.
                    client.send([&[0x10][..], &wire::remaining_length(200_000)].concat());
                    client
                })
                .collect();
            let deadline = Instant::now() + PATIENCE;
            while !connects.is_empty() {
                assert!(Instant::now() < deadline, "a CONNECT that drips in is not closed");
                for client in &mut clients {
                    client.send(b"x");
                }
                connects.retain_mut(|client| {
                    client.send_whatever([0x00]);
                    match client.recv_within(Duration::from_millis(1)) {
                        None => true,
                        Some(packet) => {
                            assert_eq!(packet, None, "instead of the close");
                            false
                        }
                    }
                });
                thread::sleep(Duration::from_millis(100));
            }
            let grown = broker.rss_bytes().saturating_sub(rss);
            assert!(grown < 16 * MIB, "{grown} bytes resident");
            let grown = broker.address_space_bytes().saturating_sub(space);
            assert!(
                grown < 2_048 * MIB,
                "{grown} bytes of address space for 40 times 256 MiB"
            );
        },
    );
}

/// Attack 3: the header is enough; not one byte of the body is sent.
#[test]
fn header_over_the_limit_closes_before_the_body() {
    let flags = ["--max-packet-size", "100000", "--max-connect-size", "1000"];
    attack(&flags, |broker| {
        for first in [0x30, 0x32, 0x82] {
            broker.assert_closes([&[first][..], &wire::remaining_length(100_000 - 3)].concat());
            let mut client = broker.connect("within");
            client.send([&[first][..], &wire::remaining_length(100_000 - 4)].concat());
            assert_eq!(
                client.recv_within(QUIET),
                None,
                "a packet of 100,000 bytes is within the limit"
            );
        }
        broker.assert_closes_new([&[0x10][..], &wire::remaining_length(998)].concat());
    });
}

/// Attack 4: the shortest and the longest packet with four length bytes.
#[test]
fn length_of_four_bytes_is_accepted() {
    attack(&[], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("big", 1);
        let mut publisher = broker.connect("pub");
        for remaining in [2_097_151, 2_097_152, 16 * 1024 * 1024 - 5] {
            let payload = vec![b'x'; remaining - 2 - "big".len() - 2];
            publisher.publish("big", &payload, 1);
            let got = subscriber.recv_publish();
            assert!(
                got.payload == payload,
                "{} of {} bytes",
                got.payload.len(),
                payload.len()
            );
            subscriber.acknowledge(&got);
        }
    });
}

/// Attack 5.
#[test]
fn string_longer_than_its_packet_closes() {
    attack(&[], |broker| {
        for len in [[0x00, 0x02], [0x00, 0xff], [0xff, 0xff]] {
            broker.assert_closes(packet(0x30, &[&len[..], b"t"].concat()));
            broker.assert_closes(packet(0x82, &[&[0, 1], &len[..], b"t"].concat()));
            broker.assert_closes(packet(0xa2, &[&[0, 1], &len[..], b"t"].concat()));
            broker.assert_closes_new(packet(0x10, &[&len[..], b"M"].concat()));
            broker.assert_closes_new(packet(0x10, &[b"\0\x04MQTT\x04\x02\0\0", &len[..], b"i"].concat()));
        }
    });
}

/// Attack 6: Remaining Length says less than the variable header needs, and the bytes of the next packet must not fill in.
#[test]
fn length_below_the_variable_header_closes() {
    attack(&[], |broker| {
        let connect = Connect::new("short").encode();
        for len in 0..connect.len() - 2 {
            let mut short = packet(0x10, &connect[2..2 + len]);
            short.extend(&connect[2 + len..]);
            let mut client = broker.dial();
            client.send_whatever(short);
            client.expect_close();
        }
        let whole = publish("t", "").qos(1, 1).encode();
        for (first, body) in [
            (0x32, &whole[2..]),
            (0x34, &whole[2..]),
            (0x82, &[0, 1, 0, 1, b't', 0]),
            (0xa2, &[0, 1, 0, 1, b't']),
            (0x40, &[0, 1]),
            (0x50, &[0, 1]),
            (0x62, &[0, 1]),
            (0x70, &[0, 1]),
        ] {
            for len in 0..body.len() {
                broker.assert_closes([packet(first, &body[..len]), body[len..].to_vec()].concat());
            }
        }
    });
}

/// Attack 7: what a packet with something behind it asks for is not done either.
#[test]
fn trailing_bytes_close_and_nothing_is_subscribed() {
    attack(&[], |broker| {
        for tail in [&b"\0"[..], b"\0\x01", b"\0\x01t", b"\0\x05t\0"] {
            let (mut client, _) = broker.resume("trailing");
            client.send_whatever(packet(0x82, &[&[0, 1], &string("t")[..], &[1], tail].concat()));
            client.expect_close();
            let connect = Connect::new("trailing-new").encode();
            broker.assert_closes_new(packet(0x10, &[&connect[2..], tail].concat()));
            broker.assert_closes(packet(0xc0, tail));
            broker.assert_closes(packet(0x40, &[&[0, 1], tail].concat()));
        }
        broker.connect("pub").publish("t", "x", 1);
        let (mut client, session_present) = broker.resume("trailing");
        assert!(session_present);
        client.expect_silence();
    });
}

/// Attack 8: each packet, cut at each byte, followed by nothing, by FIN and by RST.
#[test]
fn truncated_packet_does_nothing_and_its_will_is_published_once() {
    attack(&[], |broker| {
        let mut watcher = broker.connect("sub");
        watcher.subscribe("will/#", 1);
        watcher.subscribe("cut/#", 1);
        let packets = [
            publish("cut/t", "x").qos(1, 3).retain().encode(),
            publish("cut/t", "x").retain().encode(),
            wire::subscribe(3, &[("late", 1)]),
            wire::unsubscribe(3, &["kept"]),
            wire::pubrel(7),
            wire::puback(3),
            PINGREQ.to_vec(),
            DISCONNECT.to_vec(),
        ];
        let mut expected = BTreeMap::new();
        let mut stalled = Vec::new();
        for (kind, packet) in packets.iter().enumerate() {
            for cut in 1..packet.len() {
                for reset in [false, true] {
                    let id = format!("cut{kind}-{cut}-{reset}");
                    let will = publish(&format!("will/{id}"), "gone").qos(1, 1);
                    let stream = dial_and_keep(broker, &Connect::resume(&id).will(will), &packet[..cut]);
                    expected.insert(format!("will/{id}"), 0);
                    stalled.push((stream, reset, id));
                }
            }
        }
        for (stream, _, id) in &stalled {
            stream.set_nonblocking(true).expect("an open socket");
            let got = stream.peek(&mut [0]).map_err(|error| error.kind());
            assert_eq!(got, Err(std::io::ErrorKind::WouldBlock), "{id} is open and got nothing");
        }
        watcher.expect_silence();
        let mut ids = Vec::new();
        for (stream, reset, id) in stalled {
            if reset {
                reset_on_close(&stream);
            } else {
                stream.shutdown(Shutdown::Write).expect("the connection is open");
            }
            ids.push(id);
        }
        for _ in 0..ids.len() {
            let got = watcher.recv_publish();
            watcher.acknowledge(&got);
            *expected.get_mut(&got.topic).expect("a will that was left") += 1;
        }
        assert!(expected.values().all(|wills| *wills == 1), "{expected:?}");
        watcher.expect_silence();
        // Whoever's session had `late` or lost `kept` shows it.
        let mut publisher = broker.connect("pub");
        publisher.publish("late", "x", 1);
        publisher.publish("kept", "x", 1);
        for id in ids {
            let (mut client, session_present) = broker.resume(&id);
            assert!(session_present);
            client.expect_message("kept", "x", 1);
            client.ping();
        }
    });
}

/// Attack 8: a CONNECT that never became whole leaves no session and no will.
#[test]
fn truncated_connect_leaves_nothing() {
    attack(&[], |broker| {
        let mut watcher = broker.connect("sub");
        watcher.subscribe("will", 1);
        let connect = Connect::resume("truncated")
            .will(publish("will", "gone").retain())
            .encode();
        for reset in [false, true] {
            for cut in 0..connect.len() {
                let mut client = broker.dial();
                client.send(&connect[..cut]);
                if reset {
                    drop(client);
                } else {
                    client.vanish();
                }
            }
        }
        watcher.expect_silence();
        assert!(
            !broker.resume("truncated").1,
            "a session of a CONNECT that was never whole"
        );
    });
}

/// A client with a filter `kept` and a QoS 2 message that waits for its PUBREL, which has then sent these bytes.
fn dial_and_keep(broker: &Broker, connect: &Connect, bytes: &[u8]) -> TcpStream {
    let (mut client, _) = broker.connect_as(connect);
    client.subscribe("kept", 1);
    client.send(publish("cut/held", "x").qos(2, 7).encode());
    client.expect(&Packet::Pubrec(7));
    client.send(bytes);
    client.into_stream()
}

/// The socket is closed with RST.
fn reset_on_close(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("an option of every TCP socket");
}

/// Attack 9: one cut at each byte, and a cut at all of them.
#[test]
fn cut_of_the_stream_changes_no_output() {
    attack(&[], |broker| {
        let stream = [
            wire::subscribe(1, &[("own/+", 1), ("own/#", 2)]),
            publish("seen", "zero").encode(),
            publish("seen", "one").qos(1, 2).encode(),
            publish("seen", "two").qos(2, 3).encode(),
            publish("seen", "two").qos(2, 3).dup().encode(),
            wire::pubrel(3),
            wire::unsubscribe(4, &["own/+"]),
        ]
        .concat();
        let connect = Connect::new("cutter").encode();
        let run = |watcher: &mut Client, chunks: &[&[u8]]| {
            let mut client = broker.dial();
            for chunk in chunks {
                client.send(chunk);
                if chunks.len() < 10 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            let mut output: Vec<Packet> = (0..7).map(|_| client.recv()).collect();
            client.disconnect();
            // SUBACK waits for the other shards, and may come behind what was asked for later.
            output.sort_by_key(|packet| matches!(packet, Packet::Suback { .. }));
            for (payload, qos) in [("zero", 0), ("one", 1), ("two", 2)] {
                watcher.expect_message("seen", payload, qos);
            }
            output
        };
        let mut watcher = broker.connect("sub");
        watcher.subscribe("seen", 2);
        let whole = [connect, stream].concat();
        let output = run(&mut watcher, &[&whole]);
        for cut in 1..whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(run(&mut watcher, &[head, tail]), output, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(run(&mut watcher, &bytes), output, "byte by byte");
        watcher.expect_silence();
    });
}

/// Attack 10.
#[test]
fn reserved_types_and_wrong_flags_close() {
    attack(&[], |broker| {
        for flags in 0..16 {
            for first in [0x00, 0xf0] {
                broker.assert_closes([first | flags, 0x00]);
                broker.assert_closes_new([first | flags, 0x00]);
            }
            if flags != 0 {
                let connect = Connect::new("flags").encode();
                broker.assert_closes_new(packet(0x10 | flags, &connect[2..]));
                broker.assert_closes([0xc0 | flags, 0x00]);
                broker.assert_closes([0xe0 | flags, 0x00]);
                broker.assert_closes(packet(0x40 | flags, &[0, 1]));
                broker.assert_closes(packet(0x50 | flags, &[0, 1]));
                broker.assert_closes(packet(0x70 | flags, &[0, 1]));
            }
            if flags != 2 {
                broker.assert_closes(packet(0x60 | flags, &[0, 1]));
                broker.assert_closes(packet(0x80 | flags, b"\0\x01\0\x01t\0"));
                broker.assert_closes(packet(0xa0 | flags, b"\0\x01\0\x01t"));
            }
        }
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("offence", 2);
        for qos_3 in [0x36, 0x37, 0x3e, 0x3f] {
            broker.assert_closes(packet(qos_3, b"\0\x07offence\0\x01x"));
        }
        for dup_at_qos_0 in [0x38, 0x39] {
            broker.assert_closes(packet(dup_at_qos_0, b"\0\x07offencex"));
        }
        subscriber.expect_silence();
    });
}

/// Attack 11.
#[test]
fn packet_that_only_a_server_sends_closes() {
    attack(&[], |broker| {
        for bytes in [
            &[0x20, 0x02, 0x00, 0x00][..],
            &[0x20, 0x02, 0x01, 0x00],
            &[0x90, 0x03, 0x00, 0x01, 0x00],
            &[0x90, 0x03, 0x00, 0x01, 0x80],
            &[0xb0, 0x02, 0x00, 0x01],
            &[0xd0, 0x00],
        ] {
            broker.assert_closes(bytes);
            broker.assert_closes_new(bytes);
        }
    });
}

/// Attack 12.
#[test]
fn packet_identifier_0_closes() {
    attack(&[], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        for qos in [1, 2] {
            broker.assert_closes(publish("t", "x").qos(qos, 0).encode());
        }
        broker.assert_closes(wire::subscribe(0, &[("t", 0)]));
        broker.assert_closes(wire::unsubscribe(0, &["t"]));
        for first in [0x40, 0x50, 0x62, 0x70] {
            broker.assert_closes(packet(first, &[0, 0]));
        }
        subscriber.expect_silence();
    });
}

/// Attack 13.
#[test]
fn subscribe_without_a_filter_closes() {
    attack(&[], |broker| {
        broker.assert_closes(wire::subscribe(1, &[]));
        broker.assert_closes(wire::subscribe(1, &[("", 0)]));
        broker.assert_closes(wire::subscribe(1, &[("t", 0), ("", 0)]));
        broker.assert_closes(wire::unsubscribe(1, &[]));
        broker.assert_closes(wire::unsubscribe(1, &[""]));
        broker.assert_closes(wire::unsubscribe(1, &["t", ""]));
    });
}

/// Attack 14: in every string of every packet.
#[test]
fn ill_formed_utf_8_closes() {
    attack(&[], |broker| {
        for bad in ILL_FORMED {
            let text = string(bad);
            let head = &b"\0\x04MQTT\x04"[..];
            let id = string("id");
            broker.assert_closes_new(packet(0x10, &[head, &[0x02, 0, 0], &text[..]].concat()));
            broker.assert_closes_new(packet(0x10, &[head, &[0x82, 0, 0], &id[..], &text].concat()));
            broker.assert_closes_new(packet(
                0x10,
                &[head, &[0x06, 0, 0], &id[..], &text, &string("x")].concat(),
            ));
            broker.assert_closes(packet(0x30, &text));
            broker.assert_closes(packet(0x32, &[&text[..], &[0, 1]].concat()));
            broker.assert_closes(packet(0x82, &[&[0, 1], &text[..], &[0]].concat()));
            broker.assert_closes(packet(0xa2, &[&[0, 1], &text[..]].concat()));
        }
    });
}

/// Attack 14: a byte order mark is a character like any other, at the beginning too.
#[test]
fn byte_order_mark_is_kept() {
    attack(&[], |broker| {
        let mut subscriber = broker.connect("\u{feff}sub");
        subscriber.subscribe("\u{feff}t/+", 1);
        let mut publisher = broker.connect("pub");
        publisher.publish("t/x", "without", 1);
        publisher.publish("\u{feff}t/\u{feff}", "with", 1);
        subscriber.expect_message("\u{feff}t/\u{feff}", "with", 1);
        subscriber.expect_silence();
        drop(broker.connect("sub"));
        subscriber.ping();
    });
}

/// Attack 15.
#[test]
fn bad_topic_names_and_filters_close() {
    attack(&[], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("a/#", 2);
        for name in ["", "+", "#", "a/+", "a/#", "a/b+", "a/#/b", "a#"] {
            broker.assert_closes(publish(name, "x").encode());
            broker.assert_closes(publish(name, "x").qos(1, 1).retain().encode());
            let will = Connect::new("will").will(publish(name, "x"));
            broker.assert_closes_new(will.encode());
        }
        for filter in ["a#", "#/a", "a+/b", "a/#/b", "+a", "a/b+", "##", "++", "a/##"] {
            broker.assert_closes(wire::subscribe(1, &[(filter, 0)]));
            broker.assert_closes(wire::unsubscribe(1, &[filter]));
        }
        subscriber.expect_silence();
    });
}

/// Attack 16.
#[test]
fn packet_before_connect_closes() {
    attack(&[], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        for early in [
            publish("t", "x").encode(),
            publish("t", "x").qos(1, 1).retain().encode(),
            publish("t", "x").qos(2, 1).encode(),
            wire::subscribe(1, &[("t", 0)]),
            wire::unsubscribe(1, &["t"]),
            wire::pubrel(1),
            PINGREQ.to_vec(),
            DISCONNECT.to_vec(),
        ] {
            // The CONNECT behind it makes nothing good.
            broker.assert_closes_new([early, Connect::new("late").encode()].concat());
        }
        subscriber.expect_silence();
    });
}

/// Attack 16: whoever it names, the second CONNECT takes nothing over, and it is no orderly end.
#[test]
fn second_connect_closes_and_takes_nothing_over() {
    attack(&[], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 1);
        for second in ["first", "sub", ""] {
            let (mut client, _) = broker.connect_as(&Connect::new("first").will(publish("will", "gone").qos(1, 1)));
            client.send_whatever(Connect::new(second).encode());
            client.expect_close();
            subscriber.expect_message("will", "gone", 1);
        }
        subscriber.expect_silence();
    });
}
