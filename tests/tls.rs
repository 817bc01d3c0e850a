//! TLS, with clients that nobody here wrote: versions, names, resumption, client certificates, reading the files again, and that a
//! connection works as a plain one does wherever its client lives.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::tls::{Authority, Pair, assert_refused, client_config, client_config_of, dial, settings, try_dial};
use common::*;
use rcgen::{DnType, DnValue, SanType};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

/// The files and the server's authority of one test.
struct Setup {
    folder: Folder,
    authority: Authority,
    /// Settings of the listener that name the server's certificate.
    settings: String,
}

impl Setup {
    fn new() -> Setup {
        let (folder, authority) = (Folder::new(), Authority::new("the server's authority"));
        let settings = settings(&folder, "server", &authority.server(&["localhost", "127.0.0.1"]));
        Setup {
            folder,
            authority,
            settings,
        }
    }

    /// A listener that takes certificates of `clients`.
    fn asking(clients: &Authority, which: &str, user_name: &str) -> Setup {
        let mut setup = Setup::new();
        let ca = setup.folder.write("clients.pem", &clients.pem);
        setup.settings += &format!(
            "tls_client_ca = \"{ca}\"\ntls_client_certificates = \"{which}\"\ntls_user_name = \"{user_name}\"\n"
        );
        setup
    }

    fn client(&self, own: Option<&Pair>) -> Arc<ClientConfig> {
        Arc::new(client_config(&self.authority, own))
    }

    fn start(&self, shards: u16, flags: &[&str]) -> (Broker, SocketAddr) {
        tls::start(shards, &self.folder, &self.settings, flags)
    }

    /// Runs the scenario with 1 and 3 shards.
    fn each(&self, flags: &[&str], scenario: impl Fn(&Broker, SocketAddr)) {
        for shards in [1, 3] {
            let (broker, addr) = self.start(shards, flags);
            scenario(&broker, addr);
            broker.assert_well();
        }
    }

    /// As [`each`](Self::each), beside a control client that must notice nothing.
    fn attack(&self, flags: &[&str], scenario: impl Fn(&Broker, SocketAddr)) {
        self.each(flags, |broker, addr| {
            let control = Control::start(broker);
            scenario(broker, addr);
            control.finish();
        });
    }
}

fn connected(addr: SocketAddr, config: &Arc<ClientConfig>, id: &str) -> Client {
    let mut client = dial(addr, config);
    client.connect(&Connect::new(id));
    client
}

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
fn certificate_is_chosen_by_the_name_that_is_asked_for() {
    let (folder, authority) = (Folder::new(), Authority::new("a"));
    let first = settings(&folder, "first", &authority.server(&["one.example"]));
    settings(
        &folder,
        "second",
        &authority.server(&["*.two.example", "other.example"]),
    );
    let both = first
        .replace(
            "first.pem\"",
            &format!("first.pem\", \"{}\"]", folder.path("second.pem")),
        )
        .replace(
            "first.key\"",
            &format!("first.key\", \"{}\"]", folder.path("second.key")),
        )
        .replace("= \"", "= [\"");
    let (_broker, addr) = tls::start(1, &folder, &both, &[]);
    let config = Arc::new(client_config(&authority, None));
    for name in ["one.example", "a.two.example", "A.Two.Example", "other.example"] {
        try_dial(addr, name, &config).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in ["two.example", "a.b.two.example", "three.example"] {
        let error = try_dial(addr, name, &config).expect_err("the first certificate, which is for another name");
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
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

#[test]
fn required_certificate_names_the_user_or_keeps_the_client_out() {
    let clients = Authority::new("the clients' authority");
    let setup = Setup::asking(&clients, "required", "cn");
    let stranger = Authority::new("the clients' authority");
    let (ann, expired) = (clients.client("ann"), clients.expired_client("ann"));
    let foreign = stranger.client("ann");
    // Of the server's kind: not meant to be shown by clients.
    let wrong_use = clients.server(&["ann"]);
    setup.each(&[], |broker, addr| {
        for version in [&TLS12, &TLS13] {
            let of = |own| Arc::new(client_config_of(&setup.authority, own, &[version]));
            connected(addr, &of(Some(&ann)), "ann").ping();
            for (own, reason) in [
                (None, "no certificate"),
                (Some(&expired), "expired"),
                (Some(&foreign), ""),
                (Some(&wrong_use), ""),
            ] {
                let error = assert_refused(addr, &of(own));
                assert!(error.to_string().contains("alert"), "{reason}: {error}");
            }
        }
        let lines = broker.await_output(|output| {
            let lines = output.lines().filter(|line| line.contains("tls_client_certificate"));
            let lines: Vec<_> = lines.map(str::to_owned).collect();
            (lines.len() == 8).then_some(lines)
        });
        assert!(lines.iter().all(|line| line.contains("peer=127.0.0.1:")), "{lines:?}");
    });
}

/// Who shows one has proved its name; who shows none is asked for a password.
#[test]
fn optional_certificate_stands_beside_passwords() {
    let clients = Authority::new("clients");
    let setup = Setup::asking(&clients, "optional", "cn");
    let passwords = setup.folder.write("passwords", SECRET);
    let flags = ["--password-file", &passwords];
    let (ann, foreign) = (clients.client("ann"), Authority::new("others").client("ann"));
    setup.each(&flags, |broker, addr| {
        let config = setup.client(Some(&ann));
        for shard in 0..broker.shards {
            let mut named = dial(addr, &config);
            // What CONNECT says about the user does not count.
            named.connect(&Connect::new(&broker.id_on(shard, "named")).user("ann", "wrong"));
            // A session that goes on goes on with its name.
            let silent = connected(addr, &config, &broker.id_on(shard, "silent"));
            assert_eq!(silent.tls().handshake_kind(), Some(HandshakeKind::Resumed));
        }
        for (connect, code) in [
            (Connect::new("a").user("ann", "secret"), 0),
            (Connect::new("b").user("ann", "wrong"), 4),
            (Connect::new("c"), 5),
        ] {
            let mut nameless = dial(addr, &setup.client(None));
            nameless.send(connect.encode());
            nameless.expect(&Packet::Connack {
                session_present: false,
                code,
            });
        }
        assert_refused(addr, &setup.client(Some(&foreign)));
    });
}

/// Attack 33: a certificate whose name is doubtful lets nobody in, though its authority is right.
#[test]
fn doubtful_names_in_certificates_are_refused() {
    let clients = Authority::new("clients");
    let cn = |name: &str| (DnType::CommonName, DnValue::from(name));
    let second_cn = (DnType::CustomDnType(vec![2, 5, 4, 3]), DnValue::from("root"));
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    let uri = |name: &str| SanType::URI(name.try_into().expect("ASCII"));
    let bmp = DnValue::BmpString("ann".try_into().expect("in UCS-2"));
    for (from, subject, names, accepted) in [
        ("cn", vec![cn("ann")], vec![], true),
        ("cn", vec![cn("plant/+/#")], vec![], true),
        ("cn", vec![cn("Zoë")], vec![], true),
        ("cn", vec![cn("ann\0root")], vec![], false),
        ("cn", vec![cn("ann\nroot")], vec![], false),
        ("cn", vec![cn("")], vec![], false),
        ("cn", vec![cn("ann"), second_cn], vec![], false),
        ("cn", vec![(DnType::CommonName, bmp)], vec![], false),
        (
            "cn",
            vec![(DnType::OrganizationName, "ann".into())],
            vec![dns("ann")],
            false,
        ),
        ("san", vec![cn("ann")], vec![], false),
        ("san", vec![cn("ann")], vec![dns("device.example")], true),
        ("san", vec![], vec![uri("spiffe://example/device")], true),
        ("san", vec![], vec![dns("a.example"), uri("spiffe://example/b")], false),
        ("san", vec![], vec![dns("a\0b")], false),
    ] {
        let setup = Setup::asking(&clients, "required", from);
        let (broker, addr) = setup.start(1, &[]);
        let what = format!("{from} {subject:?} {names:?}");
        let config = setup.client(Some(&clients.client_with(&subject, names)));
        if accepted {
            let mut client = try_dial(addr, "localhost", &config).unwrap_or_else(|error| panic!("{what}: {error}"));
            client.connect(&Connect::new("named"));
        } else {
            assert_refused(addr, &config);
            broker.await_log(|line| line.contains("tls_client_certificate"));
        }
    }
}

#[test]
fn reading_the_files_again_drops_nobody_and_a_bad_file_changes_nothing() {
    let setup = Setup::new();
    setup.each(&[], |broker, addr| {
        let old = setup.client(None);
        let mut client = connected(addr, &old, &broker.id_on(broker.shards - 1, "stays"));
        client.subscribe("t", 1);
        let traffic = thread::spawn({
            let mut publisher = broker.connect("publisher");
            move || {
                for n in 0..300_u32 {
                    publisher.publish("t", n.to_be_bytes(), 1);
                }
            }
        });
        let fresh = Authority::new("fresh");
        let new = Arc::new(client_config(&fresh, None));
        settings(&setup.folder, "server", &fresh.server(&["localhost"]));
        reload(broker);
        connected(addr, &new, "new").ping();
        assert!(try_dial(addr, "localhost", &old).is_err());
        let broken = ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"];
        for (already, broken) in broken.into_iter().enumerate() {
            setup.folder.write("server.pem", broken);
            broker.signal("HUP");
            let refused = |line: &&str| line.contains("not reloaded") && line.contains("server.pem");
            broker.await_output(|output| (output.lines().filter(refused).count() > already).then_some(()));
            connected(addr, &new, "new").ping();
        }
        // A key of another certificate.
        settings(&setup.folder, "server", &fresh.server(&["localhost"]));
        setup
            .folder
            .write("server.pem", fresh.server(&["localhost"]).certificate);
        broker.signal("HUP");
        broker.await_log(|line| line.contains("not reloaded") && line.contains("not that of the first certificate"));
        connected(addr, &new, "new").ping();
        for n in 0..300_u32 {
            client.expect_message("t", n.to_be_bytes(), 1);
        }
        traffic.join().expect("the publisher");
        settings(&setup.folder, "server", &setup.authority.server(&["localhost"]));
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

#[test]
fn mosquitto_clients_connect_with_and_without_certificates() {
    if !is_installed("mosquitto_pub") || !is_installed("mosquitto_sub") {
        return;
    }
    let clients = Authority::new("clients");
    let setup = Setup::asking(&clients, "required", "cn");
    let ca = setup.folder.write("ca.pem", &setup.authority.pem);
    let ann = clients.client("ann");
    let certificate = setup.folder.write("ann.pem", &ann.certificate);
    let key = setup.folder.write("ann.key", &ann.key);
    setup.each(&[], |broker, addr| {
        let mut plain = broker.connect("sub");
        plain.subscribe("t", 1);
        let port = addr.port().to_string();
        let publish = |more: &[&str]| {
            let mut command = program("timeout");
            command.args([
                "20",
                "mosquitto_pub",
                "-h",
                "localhost",
                "-p",
                &port,
                "-t",
                "t",
                "-q",
                "1",
                "-m",
                "m",
                "--cafile",
                &ca,
            ]);
            command.args(more).output().expect("it is installed").status.success()
        };
        let shown = ["--cert", &certificate, "--key", &key];
        assert!(publish(&shown));
        plain.expect_message("t", "m", 1);
        for version in ["tlsv1.2", "tlsv1.3"] {
            assert!(publish(
                &[&shown[..], &["--tls-version", version, "--tls-alpn", "mqtt"]].concat()
            ));
            plain.expect_message("t", "m", 1);
        }
        assert!(!publish(&[]), "without a certificate");
        plain.expect_silence();
    });
}

/// `ringmq check` finds what does not fit, and says how long what fits is valid.
#[test]
fn files_that_do_not_fit_are_refused_before_anything_starts() {
    let (folder, authority) = (Folder::new(), Authority::new("a"));
    let pair = authority.server(&["localhost"]);
    let good = settings(&folder, "good", &pair);
    let other = settings(&folder, "other", &authority.server(&["localhost"]));
    let key_line = |settings: &str| settings.lines().nth(1).expect("two lines").to_owned();
    let certificate_line = |settings: &str| settings.lines().next().expect("two lines").to_owned();
    let mixed = format!("{}\n{}", certificate_line(&good), key_line(&other));
    let swapped = good
        .replace("good.pem", "X")
        .replace("good.key", "good.pem")
        .replace('X', "good.key");
    let missing = good.replace("good.pem", "none.pem");
    for (text, expected) in [
        (&good[..], "the configuration is good"),
        (&good, "good.pem: valid until "),
        (
            &mixed,
            "other.key: the private key is not that of the first certificate in",
        ),
        (&swapped, "good.key: there is no certificate in it"),
        (&missing, "none.pem: "),
        (&certificate_line(&good), "--tls-certificate needs --tls-key"),
        (&key_line(&good), "--tls-key needs --tls-certificate"),
        (
            &format!("{good}tls_client_certificates = \"required\""),
            "--tls-client-certificates needs --tls-client-ca",
        ),
        (
            &format!("{good}tls_client_ca = \"x\""),
            "--tls-client-ca needs --tls-client-certificates",
        ),
        (
            &format!("{good}tls_user_name = \"cn\""),
            "--tls-user-name needs --tls-client-certificates",
        ),
        (
            &good
                .replace("tls_key = \"", "tls_key = [\"a\", \"")
                .replace(".key\"", ".key\"]"),
            "each certificate has one key",
        ),
        ("tls_min_version = \"1.1\"", "tls_min_version"),
    ] {
        let file = folder.write("r.toml", format!("[[listener]]\nlisten = \"127.0.0.1:0\"\n{text}\n"));
        let output = ringmq()
            .args(["check", "--config", &file])
            .output()
            .expect("the binary under test");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(said.contains(expected), "{text}: {said}");
        assert_eq!(output.status.success(), text == good, "{said}");
    }
}

fn reload(broker: &Broker) {
    let before = broker.log_lines(|line| line.contains(" reloaded")).len();
    broker.signal("HUP");
    broker.await_output(|output| {
        let lines = output.lines().filter(|line| line.contains(" reloaded")).count();
        (lines > before).then_some(())
    });
}

/// `secret`, as mosquitto_passwd wrote it.
const SECRET: &str = "ann:$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==\n";
