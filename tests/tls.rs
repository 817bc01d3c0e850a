//! TLS, with clients that nobody here wrote: versions, resumption, broken handshakes, and that a connection works as a plain one does
//! wherever its client lives. What certificates say is in `tls_certificates`.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::tls::{Setup, client_config, client_config_of, connected, dial, reload, try_dial};
use common::*;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};

#[test]
fn clients_of_both_versions_exchange_messages_with_plain_ones() {
    let setup = Setup::new();
    setup.each(&[], |broker, addr| {
        for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
            let config = Arc::new(client_config_of(&setup.authority, None, &[version]));
            // One on each shard, whichever accepted it.
            for shard in 0..broker.shards {
                let mut client = connected(addr, &config, &broker.id_on(shard, "tls"));
                assert_eq!(client.tls().protocol_version(), Some(expected));
                client.subscribe("to/tls", 2);
                let mut plain = broker.connect("pub");
                plain.subscribe("from/tls", 2);
                for qos in 0..=2 {
                    plain.publish("to/tls", "there", qos);
                    client.expect_message("to/tls", "there", qos);
                    client.publish("from/tls", "back", qos);
                    plain.expect_message("from/tls", "back", qos);
                }
                client.disconnect();
                plain.disconnect();
            }
        }
    });
}

/// CONNECT moves the connection, and what came in the same read, and what rustls had decrypted of it, with it.
#[test]
fn everything_sent_at_once_arrives_on_the_home_shard() {
    let setup = Setup::new();
    let config = setup.client(None);
    setup.each(&[], |broker, addr| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("burst/#", 1);
        for n in 0..6 {
            let id = broker.id_on(n % broker.shards, &format!("burst{n}-"));
            let mut bytes = Connect::new(&id).encode();
            for size in [10, 70_000, 1_000, 200_000, 3] {
                bytes.extend(publish("burst/x", vec![n as u8; size]).qos(1, 7).encode());
            }
            let mut client = dial(addr, &config);
            client.send(bytes);
            client.expect(&Packet::Connack {
                session_present: false,
                code: 0,
            });
            for size in [10, 70_000, 1_000, 200_000, 3] {
                client.expect(&Packet::Puback(7));
                watcher.expect_message("burst/x", vec![n as u8; size], 1);
            }
        }
    });
}

#[test]
fn megabytes_arrive_whole_in_both_directions_however_slowly_they_are_read() {
    let setup = Setup::new();
    let config = setup.client(None);
    let payload: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    setup.each(&[], |broker, addr| {
        for shard in 0..broker.shards {
            let mut reader = connected(addr, &config, &broker.id_on(shard, "reader"));
            let mut writer = connected(addr, &config, &broker.id_on(0, "writer"));
            reader.subscribe("large", 1);
            for _ in 0..4 {
                writer.publish("large", &payload, 1);
            }
            // By now the socket is full and the rest waits, part of it encrypted.
            thread::sleep(Duration::from_millis(200));
            for _ in 0..4 {
                reader.expect_message("large", &payload, 1);
            }
            reader.ping();
            reader.disconnect();
            writer.disconnect();
        }
    });
}

#[test]
fn handshake_and_packets_may_come_byte_by_byte() {
    let setup = Setup::new();
    setup.each(&[], |broker, addr| {
        for version in [&TLS12, &TLS13] {
            let config = Arc::new(client_config_of(&setup.authority, None, &[version]));
            let mut stream = tls::stream(addr, "localhost", &config);
            while stream.conn.is_handshaking() {
                let mut flight = Vec::new();
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut flight).expect("a Vec takes everything");
                }
                for byte in flight {
                    stream.sock.write_all(&[byte]).expect("the connection is open");
                }
                if stream.conn.is_handshaking() {
                    stream.conn.read_tls(&mut stream.sock).expect("an answer");
                    stream.conn.process_new_packets().expect("a sound answer");
                }
            }
            stream
                .conn
                .writer()
                .write_all(&Connect::new("drip").encode())
                .expect("room");
            let mut records = Vec::new();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut records).expect("a Vec takes everything");
            }
            for byte in records {
                stream.sock.write_all(&[byte]).expect("the connection is open");
            }
            let mut client = Client::over_tls(stream);
            client.expect(&Packet::Connack {
                session_present: false,
                code: 0,
            });
            client.ping();
        }
        broker.assert_well();
    });
}

/// A client that comes again needs no signature, in either version, on whichever shard; and not after the files were read again.
#[test]
fn sessions_are_resumed_until_the_files_are_read_again() {
    let setup = Setup::new();
    setup.each(&[], |broker, addr| {
        for version in [&TLS12, &TLS13] {
            let config = Arc::new(client_config_of(&setup.authority, None, &[version]));
            let kind = || {
                let mut client = connected(addr, &config, "again");
                // Behind the handshake come the tickets.
                client.ping();
                let kind = client.tls().handshake_kind();
                client.disconnect();
                kind
            };
            assert_eq!(kind(), Some(HandshakeKind::Full));
            for _ in 0..4 {
                assert_eq!(kind(), Some(HandshakeKind::Resumed), "{version:?}");
            }
            reload(broker);
            assert_ne!(kind(), Some(HandshakeKind::Resumed));
        }
    });
}

#[test]
fn versions_below_the_least_and_other_protocols_are_refused() {
    let mut setup = Setup::new();
    setup.settings += "tls_min_version = \"1.3\"\n";
    let (broker, addr) = setup.start(1, &[]);
    let old = Arc::new(client_config_of(&setup.authority, None, &[&TLS12]));
    assert!(try_dial(addr, "localhost", &old).is_err());
    let line = broker.await_log(|line| line.contains("tls_handshake"));
    assert!(line.contains("127.0.0.1:"), "{line}");
    for (protocols, accepted) in [
        (&["mqtt"][..], true),
        (&["h2", "mqtt"], true),
        (&["h2"], false),
        (&[], true),
    ] {
        let mut config = client_config(&setup.authority, None);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let dialled = try_dial(addr, "localhost", &Arc::new(config));
        assert_eq!(dialled.is_ok(), accepted, "{protocols:?}");
        if let Ok(client) = dialled {
            let agreed = client.tls().alpn_protocol();
            assert_eq!(agreed, (!protocols.is_empty()).then_some(&b"mqtt"[..]));
        }
    }
}

/// Whoever speaks the wrong one of both is told apart in the log.
#[test]
fn plain_on_tls_and_tls_on_plain_are_named_in_the_log() {
    let setup = Setup::new();
    let config = setup.client(None);
    setup.each(&[], |broker, addr| {
        let mut plain = Client::dial(addr);
        plain.send(Connect::new("lost").encode());
        let mut socket = plain.into_stream();
        let mut answer = Vec::new();
        socket
            .read_to_end(&mut answer)
            .expect("an alert, then the end of the stream");
        assert_eq!(&answer[..1], [21], "an alert of TLS, not MQTT");
        let line = broker.await_log(|line| line.contains("not_tls"));
        assert!(
            line.contains("speaks plain MQTT") && line.contains("127.0.0.1:"),
            "{line}"
        );
        assert!(try_dial(broker.addr, "localhost", &config).is_err());
        broker.await_log(|line| line.contains("seems to speak TLS"));
        let mut other = Client::dial(addr);
        other.send("GET / HTTP/1.1\r\n\r\n");
        broker.await_log(|line| line.contains("0x47"));
    });
}

/// A refused client can read why: close_notify, then the end of the stream.
#[test]
fn close_is_said_in_tls_too() {
    let setup = Setup::new();
    let config = setup.client(None);
    setup.each(&[], |broker, addr| {
        let mut refused = dial(addr, &config);
        refused.send(Connect::resume("").encode());
        refused.expect(&Packet::Connack {
            session_present: false,
            code: 2,
        });
        refused.expect_close_notify();
        let mut gone = connected(addr, &config, &broker.id_on(broker.shards - 1, "gone"));
        gone.send(DISCONNECT);
        gone.expect_close_notify();
        // The client's own close_notify is an end like any other, and its Will is published.
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", 1);
        let mut polite = dial(addr, &config);
        polite.connect(&Connect::new("polite").will(publish("will", "said")));
        polite.close_notify();
        watcher.expect_message("will", "said", 0);
        polite.expect_close_notify();
    });
}

/// Attack 8, before MQTT: each handshake cut at each byte.
#[test]
fn handshake_cut_at_any_byte_leaves_nothing() {
    let setup = Setup::new();
    setup.attack(&["--connect-timeout", "5"], |broker, addr| {
        for version in [&TLS12, &TLS13] {
            let config = Arc::new(client_config_of(&setup.authority, None, &[version]));
            let mut cut = 0;
            loop {
                let mut stream = tls::stream(addr, "localhost", &config);
                let mut sent = 0;
                let mut flights = 0_usize;
                let whole = loop {
                    let mut flight = Vec::new();
                    while stream.conn.wants_write() {
                        stream.conn.write_tls(&mut flight).expect("a Vec takes everything");
                    }
                    let count = flight.len().min(cut - sent);
                    stream.sock.write_all(&flight[..count]).expect("the connection is open");
                    sent += count;
                    flights += usize::from(!flight.is_empty());
                    if count < flight.len() || !stream.conn.is_handshaking() {
                        break count == flight.len();
                    }
                    stream.conn.read_tls(&mut stream.sock).expect("an answer");
                    stream.conn.process_new_packets().expect("a sound answer");
                };
                // The end in order, or abruptly with what the broker has sent unread.
                if cut % 2 == 0 {
                    stream.sock.shutdown(Shutdown::Write).expect("the connection is open");
                    let mut rest = Vec::new();
                    stream.sock.read_to_end(&mut rest).expect("the broker closes too");
                }
                if whole {
                    assert_eq!(flights, 2, "both flights of the client were cut");
                    break;
                }
                cut += 1 + cut / 64;
            }
        }
        assert_eq!(broker.log_lines(|line| line.contains("panicked")), [""; 0]);
        connected(addr, &setup.client(None), "well").ping();
    });
}

/// Attack 18: half a handshake meets the limit for CONNECT, and a thousand of them harm nobody.
#[test]
fn stalled_handshakes_are_shed_and_hold_nobody_up() {
    let setup = Setup::new();
    let config = setup.client(None);
    setup.attack(&["--connect-timeout", "4"], |broker, addr| {
        let mut stream = tls::stream(addr, "localhost", &config);
        let mut hello = Vec::new();
        stream.conn.write_tls(&mut hello).expect("a Vec takes everything");
        let before = broker.rss_bytes();
        let mut stalled: Vec<_> = (0..1_000)
            .map(|n| {
                let mut client = Client::dial(addr);
                // Nothing, half of the first message, or all of it: then the broker has answered.
                client.send(&hello[..hello.len() * (n % 3) / 2]);
                client
            })
            .collect();
        for n in 0..5 {
            connected(addr, &config, &format!("between{n}")).ping();
        }
        let each = broker.rss_bytes().saturating_sub(before) / 1_000;
        assert!(each < 60_000, "{each} bytes for each stalled handshake");
        for client in stalled.drain(..) {
            let mut socket = client.into_stream();
            socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
            // An alert or the first flight may come before it.
            while socket.read(&mut [0; 4_096]).expect("the end of the stream") > 0 {}
        }
        broker.await_log(|line| line.contains("connect_timeout"));
        connected(addr, &config, "after").ping();
    });
}

/// Bytes that are no records, in an open connection: its session ends as for a lost connection, and nothing of them counts.
#[test]
fn garbage_instead_of_records_ends_the_connection_and_publishes_the_will() {
    let setup = Setup::new();
    let config = setup.client(None);
    setup.attack(&[], |broker, addr| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("#", 1);
        for (n, garbage) in [
            &[0x17, 3, 3, 0, 32, 7][..],
            &[0x17, 3, 3, 0, 40],
            &[0xff; 64],
            &[0x17, 3, 3, 0xff, 0xff],
            &[0x16, 3, 3, 0, 4, 1, 0, 0, 0],
            b"PLAIN TEXT INSTEAD OF A RECORD",
        ]
        .into_iter()
        .enumerate()
        {
            let mut victim = dial(addr, &config);
            victim.connect(&Connect::new(&format!("victim{n}")).will(publish("will", "gone")));
            victim.subscribe("nothing", 0);
            let mut socket = victim.into_stream();
            let mut bytes = garbage.to_vec();
            bytes.resize(64.max(garbage.len()), 0x5a);
            socket.write_all(&bytes).expect("the connection is open");
            loop {
                let packet = watcher.recv_publish();
                watcher.acknowledge(&packet);
                if packet.topic == "will" {
                    break;
                }
                assert_eq!(packet.topic, control::TOPIC, "garbage was published");
            }
        }
        broker.await_log(|line| line.contains("tls_records"));
    });
}
