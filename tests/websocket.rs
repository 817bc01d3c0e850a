//! MQTT over WebSocket, plain and over TLS: with a client that nobody here wrote, and with frames and requests that break the
//! rules (attack 55).

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;

use common::tls::{Authority, client_config, settings};
use common::websocket::{MQTT, dial, frame, head, raw, read_frame, request, socket};
use common::*;
use rustls::ClientConfig;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

/// A broker whose second listener speaks WebSocket, and whose third does so over TLS.
struct Setup {
    folder: Folder,
    tls: Arc<ClientConfig>,
    certificate: String,
}

impl Setup {
    fn new() -> Setup {
        let (folder, authority) = (Folder::new(), Authority::new("the server's authority"));
        let certificate = settings(&folder, "server", &authority.server(&["localhost"]));
        Setup {
            tls: Arc::new(client_config(&authority, None)),
            folder,
            certificate,
        }
    }

    fn start(&self, shards: u16, more: &str, flags: &[&str]) -> Broker {
        let listener = "[[listener]]\nlisten = \"127.0.0.1:0\"\n";
        let websocket = format!("{listener}websocket = true\n{more}\n");
        let file = self.folder.write(
            &format!("{shards}.toml"),
            format!("{listener}\n{websocket}\n{websocket}{}", self.certificate),
        );
        Broker::start_on(shards, &["--config", &file], flags)
    }

    /// Runs the scenario with 1 and 3 shards, beside a control client that must notice nothing.
    fn attack(&self, flags: &[&str], scenario: impl Fn(&Broker)) {
        for shards in [1, 3] {
            let broker = self.start(shards, "", flags);
            let control = Control::start(&broker);
            scenario(&broker);
            control.finish();
            broker.assert_well();
        }
    }

    /// Ways in: WebSocket, and WebSocket over TLS.
    fn ways<'a>(&'a self, broker: &Broker) -> [(SocketAddr, Option<&'a Arc<ClientConfig>>); 2] {
        [(broker.addrs[1], None), (broker.addrs[2], Some(&self.tls))]
    }
}

/// [MQTT-6.0.0-4]
#[test]
fn clients_exchange_messages_with_plain_ones_on_every_shard() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        for (addr, config) in setup.ways(broker) {
            for shard in 0..broker.shards {
                let mut client = dial(addr, config);
                client.connect(&Connect::new(&broker.id_on(shard, "web")));
                client.subscribe("to/web", 2);
                let mut plain = broker.connect("pub");
                plain.subscribe("from/web", 2);
                for (qos, size) in [
                    (0, 0),
                    (1, 1),
                    (2, 125),
                    (0, 126),
                    (1, 65_535),
                    (2, 65_536),
                    (1, 700_000),
                ] {
                    let payload = vec![size as u8; size];
                    plain.publish("to/web", &payload, qos);
                    client.expect_message("to/web", &payload, qos);
                    client.publish("from/web", &payload, qos);
                    plain.expect_message("from/web", &payload, qos);
                }
                client.disconnect();
                plain.disconnect();
            }
        }
    });
}

/// [MQTT-6.0.0-2]: frames have nothing to do with packets.
#[test]
fn packets_may_lie_in_frames_in_any_way() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        for shard in 0..broker.shards {
            let mut watcher = broker.connect("watcher");
            watcher.subscribe("t", 1);
            let mut bytes = Connect::new(&broker.id_on(shard, "frames")).encode();
            for n in 1..=3 {
                bytes.extend(publish("t", vec![n as u8; 200]).qos(1, n).encode());
            }
            let (one_frame, mut bytewise, mut fragments) = (frame(0x82, &bytes), Vec::new(), Vec::new());
            for (n, byte) in bytes.iter().enumerate() {
                bytewise.extend(frame(0x82, &[*byte]));
                bytewise.extend(frame(0x82, b""));
                let last = n + 1 == bytes.len();
                fragments.extend(frame(u8::from(last) << 7 | if n == 0 { 2 } else { 0 }, &[*byte]));
                if n % 50 == 20 {
                    fragments.extend(frame(0x89, b"between"));
                }
            }
            for sent in [one_frame, bytewise, fragments] {
                let mut socket = raw(broker.addrs[1]);
                socket.write_all(&sent).expect("the connection is open");
                let (mut answers, mut pongs) = (Vec::new(), 0);
                // CONNACK and three PUBACKs of four bytes each.
                while answers.len() < 16 {
                    match read_frame(&mut socket).expect("an answer") {
                        (0x82, payload) => answers.extend(payload),
                        (0x8a, payload) => {
                            assert_eq!(payload, b"between");
                            pongs += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(answers, [0x20, 2, 0, 0, 0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3]);
                for n in 1..=3_u8 {
                    watcher.expect_message("t", [n; 200], 1);
                }
                if sent.contains(&0x89) && sent[0] == 0x02 {
                    // The last one is answered in any case, however the pings came together.
                    while pongs == 0 {
                        assert_eq!(read_frame(&mut socket), Some((0x8a, b"between".to_vec())));
                        pongs += 1;
                    }
                }
                socket
                    .write_all(&frame(0x88, &[0x03, 0xe8]))
                    .expect("the connection is open");
                loop {
                    match read_frame(&mut socket) {
                        Some((0x8a, _)) => {}
                        Some(close) => break assert_eq!(close, (0x88, vec![0x03, 0xe8])),
                        None => panic!("the end of the stream without a close frame"),
                    }
                }
                assert_eq!(read_frame(&mut socket), None);
            }
        }
    });
}

/// The broker's frames are whole whatever the socket takes at once, with pongs between them and never within.
#[test]
fn slow_readers_get_megabytes_whole_with_their_pongs() {
    let setup = Setup::new();
    let payload: Vec<u8> = (0..300_000_u32).map(|n| (n * 11 / 7) as u8).collect();
    setup.attack(&[], |broker| {
        for (addr, config) in setup.ways(broker) {
            let mut reader = dial(addr, config);
            reader.connect(&Connect::new(&broker.id_on(broker.shards - 1, "reader")));
            reader.subscribe("large", 1);
            let mut writer = broker.connect("writer");
            // More than the sockets between them hold, so the last of it waits in the broker, part of it in a frame that has begun.
            for n in 0..40_u8 {
                writer.publish("large", [&[n], &payload[..]].concat(), 1);
                if n % 8 == 0 {
                    reader
                        .websocket()
                        .socket
                        .send(Message::Ping(vec![n].into()))
                        .expect("room");
                }
            }
            for n in 0..40_u8 {
                reader.expect_message("large", [&[n], &payload[..]].concat(), 1);
            }
            reader.ping();
            reader.disconnect();
        }
    });
}

/// Attack 55: what breaks the rules of frames, a text frame among it [MQTT-6.0.0-1], ends the connection with the code for
/// it, and the Will is published.
#[test]
fn frames_that_break_a_rule_close_with_the_code_for_it() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        let long = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        let ping = frame(0x82, PINGREQ);
        let mut unmasked = ping.clone();
        unmasked.splice(1.., [2, 0xc0, 0]);
        let with = |first: u8| [&[first], &ping[1..]].concat();
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", 1);
        for (n, (sent, code)) in [
            (with(0x81), 1003),
            (unmasked, 1002),
            (with(0xc2), 1002),
            (with(0xa2), 1002),
            (with(0x92), 1002),
            (with(0x83), 1002),
            (with(0x8f), 1002),
            (with(0x80), 1002),
            ([frame(0x02, b""), ping.clone()].concat(), 1002),
            (frame(0x09, b"in pieces"), 1002),
            (frame(0x89, &[0; 126]), 1002),
            (long(5), 1002),
            (long(1 << 63), 1002),
            (long(u64::MAX), 1002),
            (long(1 << 40), 1009),
            (frame(0x88, b"x"), 1002),
            (frame(0x88, &1006_u16.to_be_bytes()), 1002),
        ]
        .into_iter()
        .enumerate()
        {
            let mut socket = raw(broker.addrs[1]);
            let id = broker.id_on(n as u16 % broker.shards, "offender");
            let connect = Connect::new(&id).will(publish("will", [n as u8]).qos(1, 1));
            socket
                .write_all(&frame(0x82, &connect.encode()))
                .expect("the connection is open");
            assert_eq!(read_frame(&mut socket), Some((0x82, vec![0x20, 2, 0, 0])));
            // Nothing behind it counts.
            let after = frame(0x82, &publish("will", "after").encode());
            socket
                .write_all(&[sent, after].concat())
                .expect("the connection is open");
            let close = read_frame(&mut socket).expect("a close frame");
            assert_eq!(close, (0x88, (code as u16).to_be_bytes().to_vec()), "case {n}");
            assert_eq!(read_frame(&mut socket), None);
            watcher.expect_message("will", [n as u8], 1);
        }
        broker.await_log(|line| line.contains("websocket_frames"));
    });
}

/// Attack 55: without the subprotocol, or with anything else that is not as it must be, there is no WebSocket [MQTT-6.0.0-3].
#[test]
fn requests_that_are_not_for_mqtt_are_refused_with_their_status() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        let good = request("/mqtt", MQTT);
        for (request, status) in [
            (String::from_utf8(Connect::new("plain").encode()).expect("ASCII"), 400),
            (request("/mqtt", ""), 400),
            (request("/mqtt", "Sec-WebSocket-Protocol: soap\r\n"), 400),
            (request("/", MQTT), 404),
            (request("/mqtt/x", MQTT), 404),
            (good.replace("Version: 13", "Version: 7"), 426),
            (good.replace("GET", "PUT"), 400),
            (good.replace("HTTP/1.1", "HTTP/1.0"), 400),
            (good.replace("Upgrade: websocket\r\n", ""), 400),
            (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
            (good.replace("Host:", "Cookie: "), 101),
            (
                request("/mqtt", &format!("{MQTT}Cookie: {}\r\n", "x".repeat(10_000))),
                431,
            ),
            (request("/mqtt", &format!("{MQTT}{}", "a: b\r\n".repeat(500))), 400),
            ("\u{16}\u{3}\u{1}\0\u{5}hello".into(), 400),
        ] {
            let mut socket = socket(broker.addrs[1]);
            socket.write_all(request.as_bytes()).expect("the connection is open");
            let answer = head(&mut socket);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}: {answer}"
            );
            if status == 101 {
                continue;
            }
            let mut said = String::new();
            socket
                .read_to_string(&mut said)
                .expect("a line, and the end of the stream");
            assert!(said.ends_with('\n') && said.len() > 20, "{said:?}");
        }
        broker.await_log(|line| line.contains("not_websocket") && line.contains("without WebSocket"));
        broker.await_log(|line| line.contains("websocket_upgrade"));
    });
}

/// Attack 8, before MQTT: each request cut at each byte, in order and abruptly.
#[test]
fn requests_may_come_byte_by_byte_and_be_cut_anywhere() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        let request = request("/mqtt", MQTT);
        for cut in 0..request.len() {
            let mut socket = socket(broker.addrs[1]);
            socket
                .write_all(&request.as_bytes()[..cut])
                .expect("the connection is open");
            if cut % 2 == 0 {
                socket.shutdown(Shutdown::Write).expect("the connection is open");
                let mut rest = Vec::new();
                socket.read_to_end(&mut rest).expect("the broker closes too");
                assert_eq!(rest, b"");
            }
        }
        let mut socket = socket(broker.addrs[1]);
        let connect = frame(0x82, &Connect::new("drip").encode());
        for byte in request.bytes().chain(connect) {
            socket.write_all(&[byte]).expect("the connection is open");
        }
        assert!(head(&mut socket).starts_with("HTTP/1.1 101 "));
        assert_eq!(read_frame(&mut socket), Some((0x82, vec![0x20, 2, 0, 0])));
    });
}

/// Attack 18: half an upgrade, and an upgrade without a CONNECT, meet the limit for CONNECT.
#[test]
fn half_upgrades_are_shed_and_hold_nobody_up() {
    let setup = Setup::new();
    setup.attack(&["--connect-timeout", "4"], |broker| {
        let request = request("/mqtt", MQTT);
        let before = broker.rss_bytes();
        let mut stalled: Vec<_> = (0..600)
            .map(|n| {
                let mut socket = socket(broker.addrs[1]);
                let part = &request.as_bytes()[..request.len() * (n % 3) / 2];
                socket.write_all(part).expect("the connection is open");
                socket
            })
            .collect();
        for (addr, config) in setup.ways(broker) {
            let mut client = dial(addr, config);
            client.connect(&Connect::new("between"));
            client.ping();
        }
        let each = broker.rss_bytes().saturating_sub(before) / 600;
        assert!(each < 12_000, "{each} bytes for each stalled upgrade");
        for socket in &mut stalled {
            // The answer to a whole request, and a close frame, may come before it.
            while socket.read(&mut [0; 1_024]).expect("the end of the stream") > 0 {}
        }
        broker.await_log(|line| line.contains("connect_timeout"));
    });
}

/// What ends in MQTT ends in WebSocket too, and a close frame is an end like any other: its Will is published.
#[test]
fn either_side_closes_in_order() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", 1);
        for (addr, config) in setup.ways(broker) {
            let mut refused = dial(addr, config);
            refused.send(Connect::resume("").encode());
            refused.expect(&Packet::Connack {
                session_present: false,
                code: 2,
            });
            refused.expect_close();
            assert_eq!(refused.websocket().close_code, Some(CloseCode::Normal));

            let mut leaving = dial(addr, config);
            leaving.connect(&Connect::new(&broker.id_on(broker.shards - 1, "leaving")));
            leaving.send(DISCONNECT);
            leaving.expect_close();
            assert_eq!(leaving.websocket().close_code, Some(CloseCode::Normal));

            let mut polite = dial(addr, config);
            polite.connect(&Connect::new("polite").will(publish("will", "said").qos(1, 1)));
            polite.websocket().socket.close(None).expect("the connection is open");
            watcher.expect_message("will", "said", 1);
            polite.expect_close();
        }
    });
}

/// Pings without end cost their sender its own turns, and nobody else.
#[test]
fn floods_of_pings_and_empty_frames_hold_nobody_up() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        let mut socket = raw(broker.addrs[1]);
        socket
            .write_all(&frame(0x82, &Connect::new("flood").encode()))
            .expect("the connection is open");
        assert_eq!(read_frame(&mut socket), Some((0x82, vec![0x20, 2, 0, 0])));
        let reader = socket.try_clone().expect("a descriptor");
        let pongs = thread::spawn(move || {
            let (mut socket, mut last) = (reader, Vec::new());
            while let Some((kind, payload)) = read_frame(&mut socket) {
                match kind {
                    0x8a => last = payload,
                    _ => return (kind, last),
                }
            }
            panic!("the end of the stream without a close frame");
        });
        let before = broker.rss_bytes();
        for n in 0..200_u8 {
            let piece = [frame(0x89, &[n; 100]), frame(0x82, b"")].concat().repeat(300);
            socket.write_all(&piece).expect("the broker reads on");
        }
        socket
            .write_all(&frame(0x89, b"the last one"))
            .expect("the broker reads on");
        let grown = broker.rss_bytes().saturating_sub(before);
        assert!(grown < 30_000_000, "{grown}");
        socket.write_all(&frame(0x82, DISCONNECT)).expect("the broker reads on");
        let (kind, last) = pongs.join().expect("frames");
        assert_eq!(kind, 0x88);
        assert_eq!(last, b"the last one");
    });
}

/// Pages of other origins do not connect, programs do.
#[test]
fn origins_are_judged_where_they_are_given() {
    let setup = Setup::new();
    let broker = setup.start(
        1,
        "websocket_path = \"/broker\"\nwebsocket_origin = [\"https://ours.example\", \"http://localhost:8080\"]",
        &[],
    );
    broker.await_output(|output| output.contains(", TLS, WebSocket at /broker\n").then_some(()));
    for (origin, status) in [
        ("Origin: https://ours.example\r\n", 101),
        ("Origin: http://localhost:8080\r\n", 101),
        ("", 101),
        ("Origin: https://ours.example.evil\r\n", 403),
        ("Origin: http://ours.example\r\n", 403),
        ("Origin: null\r\n", 403),
    ] {
        let mut socket = socket(broker.addrs[1]);
        let request = request("/broker", &format!("{MQTT}{origin}"));
        socket.write_all(request.as_bytes()).expect("the connection is open");
        let answer = head(&mut socket);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {answer}");
    }
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let folder = Folder::new();
    for (text, expected) in [
        ("websocket = true", "the configuration is good"),
        ("websocket_path = \"mqtt\"", "--websocket-path mqtt is no path"),
        ("websocket_path = \"/mqtt?x\"", "--websocket-path /mqtt?x is no path"),
        (
            "websocket_origin = \"https://x\"",
            "--websocket-origin needs --websocket",
        ),
    ] {
        let (_, said) = check_listener(&folder, text);
        assert!(said.contains(expected), "{text}: {said}");
    }
}
