//! Listeners behind a proxy: the PROXY protocol, versions 1 and 2, in front of plain MQTT, TLS and WebSocket.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use common::client::Stream;
use common::tls::{Authority, client_config, handshake, settings, stream};
use common::websocket::{MQTT, request, socket, upgrade};
use common::*;
use rustls::ClientConfig;

/// A broker whose listeners are a plain one, and behind a proxy: plain, TLS, WebSocket, WebSocket over TLS; the last one trusts
/// proxies of another network only.
struct Setup {
    folder: Folder,
    tls: Arc<ClientConfig>,
    certificate: String,
}

/// What is spoken behind a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Plain,
    Tls,
    WebSocket,
    WebSocketTls,
}

const KINDS: [Kind; 4] = [Kind::Plain, Kind::Tls, Kind::WebSocket, Kind::WebSocketTls];

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

    fn start(&self, shards: u16, flags: &[&str]) -> Broker {
        let listener = "[[listener]]\nlisten = \"127.0.0.1:0\"\nallow_anonymous = true\n";
        let trusting = |networks: &str| format!("{listener}proxy_protocol = true\nproxy_trusted = [{networks}]\n");
        let proxied = trusting("\"192.0.2.0/24\", \"127.0.0.1\"");
        let certificate = &self.certificate;
        let file = self.folder.write(
            &format!("{shards}.toml"),
            format!(
                "{listener}{proxied}{proxied}{certificate}{proxied}websocket = true\n{proxied}websocket = true\n\
                 {certificate}{}",
                trusting("\"192.0.2.0/24\", \"::1\"")
            ),
        );
        let flags = [&["--log", "text/debug", "--admin-listen", "127.0.0.1:0"], flags].concat();
        Broker::start_on(shards, &["--config", &file], &flags)
    }

    /// Runs the scenario with 1 and 3 shards, beside a control client that must notice nothing.
    fn attack(&self, flags: &[&str], scenario: impl Fn(&Broker)) {
        for shards in [1, 3] {
            let broker = self.start(shards, flags);
            let control = Control::start(&broker);
            scenario(&broker);
            control.finish();
            broker.assert_well();
        }
    }

    /// A client behind this header, before its CONNECT.
    fn dial(&self, broker: &Broker, kind: Kind, header: &[u8]) -> Client {
        let addr = addr(broker, kind);
        match kind {
            Kind::Plain => {
                let mut client = Client::dial(addr);
                client.send(header);
                client
            }
            Kind::WebSocket => {
                let mut socket = socket(addr);
                socket.write_all(header).expect("the connection is open");
                upgrade(Stream::Tcp(socket))
            }
            Kind::Tls | Kind::WebSocketTls => {
                let mut stream = stream(addr, "localhost", &self.tls);
                // With the ClientHello right behind it, in one piece.
                let mut first = header.to_vec();
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut first).expect("a Vec takes everything");
                }
                stream.sock.write_all(&first).expect("the connection is open");
                match kind {
                    Kind::Tls => handshake(stream).expect("a handshake"),
                    _ => upgrade(Stream::Tls(Box::new(stream))),
                }
            }
        }
    }
}

fn addr(broker: &Broker, kind: Kind) -> SocketAddr {
    broker.addrs[1 + KINDS.iter().position(|it| *it == kind).expect("one of them")]
}

/// Its proxies are elsewhere.
fn distrusting(broker: &Broker) -> SocketAddr {
    broker.addrs[5]
}

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
    header.extend(payload);
    header
}

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 8883\r\n";
const INET: [u8; 12] = [203, 0, 113, 8, 198, 51, 100, 1, 0xC8, 0x22, 0x22, 0xB3];

fn v2_inet6() -> Vec<u8> {
    let source = "2001:db8::7".parse::<std::net::Ipv6Addr>().expect("an address");
    v2(0x21, 0x21, &[&source.octets()[..], &[0; 16], &INET[8..]].concat())
}

/// Header and the address that it names.
fn headers() -> Vec<(Vec<u8>, &'static str)> {
    let fields = [&INET[..], b"\x01\0\x04mqtt\xEA\0\x03\x01vp"].concat();
    vec![
        (V1.to_vec(), "203.0.113.7:51234"),
        (v2(0x21, 0x11, &INET), "203.0.113.8:51234"),
        (v2(0x21, 0x11, &fields), "203.0.113.8:51234"),
        (v2_inet6(), "[2001:db8::7]:51234"),
    ]
}

/// Reads to the end of the stream; whatever the broker says in TLS about it does not count.
fn assert_closes(mut socket: TcpStream) {
    let mut answer = Vec::new();
    // Reset, where something was not read.
    let _ = socket.read_to_end(&mut answer);
    let alerts = answer.is_empty() || answer[0] == 21;
    assert!(alerts, "{answer:?}");
}

/// Each client is known by the address in its header, on whichever shard it lives, and is served as any other.
#[test]
fn clients_come_in_under_the_address_that_their_proxy_names() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        for kind in KINDS {
            for (n, (header, address)) in headers().into_iter().enumerate() {
                let id = broker.id_on(n as u16 % broker.shards, &format!("{kind:?}-{n}-").to_lowercase());
                let mut client = setup.dial(broker, kind, &header);
                client.connect(&Connect::new(&id));
                broker.await_log(|line| {
                    line.contains(" connected") && line.contains(&id) && line.contains(&format!("peer={address}"))
                });
                let told = broker.get(&format!("/api/clients/{id}"));
                assert!(told.text().contains(&format!("\"{address}\"")), "{}", told.text());
                client.subscribe("t", 2);
                let large = vec![n as u8; 200_000];
                broker.connect("pub").publish("t", &large, 1);
                client.expect_message("t", &large, 1);
                client.publish("u", &large, 1);
                client.disconnect();
            }
        }
    });
}

/// A proxy that speaks for itself, or does not know, leaves the address as the socket has it.
#[test]
fn local_and_unknown_keep_the_address_of_the_socket() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        for (n, header) in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN 203.0.113.7 198.51.100.1 51234 8883\r\n".to_vec(),
            v2(0x20, 0x00, &[]),
            v2(0x20, 0x11, &INET),
            v2(0x21, 0x00, &[]),
        ]
        .iter()
        .enumerate()
        {
            for kind in [Kind::Plain, Kind::Tls, Kind::WebSocket] {
                let id = broker.id_on(n as u16 % broker.shards, &format!("{kind:?}-{n}-").to_lowercase());
                let mut client = setup.dial(broker, kind, header);
                let own = client.local_addr();
                client.connect(&Connect::new(&id));
                broker.await_log(|line| line.contains(&id) && line.contains(&format!("peer={own}")));
                client.disconnect();
            }
        }
    });
}

/// A header in pieces of one byte, and one that comes with everything behind it in one piece.
#[test]
fn headers_may_come_byte_by_byte_or_with_what_is_behind_them() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        for (header, address) in headers() {
            let mut drip = Client::dial(addr(broker, Kind::Plain));
            let mut all = header.clone();
            all.extend(Connect::new("drip").encode());
            for byte in &all {
                drip.send([*byte]);
            }
            drip.expect(&Packet::Connack {
                session_present: false,
                code: 0,
            });
            broker.await_log(|line| line.contains("client=\"drip\"") && line.contains(&format!("peer={address}")));
            drip.disconnect();

            let mut burst = Client::dial(addr(broker, Kind::Plain));
            all = [
                header.clone(),
                Connect::new("burst").encode(),
                wire::subscribe(1, &[("t", 1)]),
            ]
            .concat();
            all.extend(publish("t", "at once").qos(1, 2).encode());
            burst.send(&all);
            burst.expect(&Packet::Connack {
                session_present: false,
                code: 0,
            });
            // On several shards, the SUBACK waits for the others.
            let answers = [burst.recv(), burst.recv(), burst.recv()];
            let suback = Packet::Suback { id: 1, codes: vec![1] };
            assert!(
                answers.contains(&suback) && answers.contains(&Packet::Puback(2)),
                "{answers:?}"
            );
            burst.disconnect();

            let mut web = socket(addr(broker, Kind::WebSocket));
            let asked = [&header[..], request("/mqtt", MQTT).as_bytes()].concat();
            web.write_all(&asked).expect("the connection is open");
            let answer = common::websocket::head(&mut web);
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        }
    });
}

/// Attack 34: without a header, or with none that is one, the connection closes before anything else is looked at.
#[test]
fn connections_without_a_sound_header_close() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        let mut closed = 0;
        for kind in KINDS {
            let behind = Connect::new("intruder").encode();
            let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat();
            for (first, label) in [
                (behind.clone(), "no_proxy_header"),
                (b"GET /mqtt HTTP/1.1\r\n\r\n".to_vec(), "no_proxy_header"),
                (
                    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
                    "no_proxy_header",
                ),
                (
                    b"PROXY TCP4 203.0.113.7 198.51.100.1 51234\r\n".to_vec(),
                    "proxy_header",
                ),
                (
                    b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 8883\n".to_vec(),
                    "proxy_header",
                ),
                (line, "proxy_header"),
                (v2(0x21, 0x11, &INET[..11]), "proxy_header"),
                (v2(0x21, 0x12, &INET), "proxy_header"),
                (v2(0x31, 0x11, &INET), "proxy_header"),
                (v2(0x21, 0x11, &[&INET[..], &[4, 0, 9, 0]].concat()), "proxy_header"),
                (v2(0x21, 0x11, &[0; 65_535]), "proxy_header"),
            ] {
                let mut socket = socket(addr(broker, kind));
                let peer = socket.local_addr().expect("a connected socket");
                // The broker may have closed before it has all of it.
                let _ = socket.write_all(&[&first[..], &behind].concat());
                assert_closes(socket);
                closed += 1;
                broker.await_metrics(|metrics| metrics.sum("ringmq_proxy_failures_total", &[]) == closed);
                let lines = broker.log_lines(|line| line.contains(&format!("peer={peer} ")));
                // Ten of a kind are logged each second.
                for line in lines.iter().filter(|line| line.contains("closed")) {
                    assert!(line.contains(&format!("reason=\"{label}\"")), "{line}");
                }
            }
        }
        let lines = broker.log_lines(|line| line.contains("no PROXY header, which this listener expects"));
        assert!(!lines.is_empty());
        assert!(
            broker
                .log_lines(|line| line.contains(" connected") && line.contains("intruder"))
                .is_empty()
        );
    });
}

/// Attack 34: who is no trusted proxy is closed at once, whatever it says.
#[test]
fn sources_that_are_not_trusted_close_at_once() {
    let setup = Setup::new();
    setup.attack(&[], |broker| {
        for n in 1..=20 {
            let socket = socket(distrusting(broker));
            if n % 2 == 0 {
                let _ = (&socket).write_all(&[V1, &Connect::new("stranger").encode()].concat());
            }
            assert_closes(socket);
            let rejected =
                |reason| move |metrics: &Metrics| metrics.sum("ringmq_sockets_rejected_total", &[("reason", reason)]);
            broker.await_metrics(|metrics| rejected("untrusted_proxy")(metrics) == n);
            assert_eq!(rejected("max_connections")(&broker.metrics()), 0);
        }
        let line = broker.await_log(|line| line.contains("untrusted_proxy"));
        assert!(
            line.contains("--proxy-trusted") && line.contains("peer=127.0.0.1:"),
            "{line}"
        );
        assert!(broker.log_lines(|line| line.contains("stranger")).is_empty());
    });
}

/// Attack 34: a listener that expects no header takes none, and the log says what it seems to be; nor is a second one taken.
#[test]
fn headers_where_none_is_expected_close() {
    let setup = Setup::new();
    let tls = tls::Setup::new();
    for shards in [1, 3] {
        let broker = setup.start(shards, &[]);
        let (secure, secure_addr) = tls.start(shards, &[]);
        let web = Broker::start(shards, &["--websocket"]);
        for (header, _) in headers() {
            for (broker, addr, reason) in [
                (&broker, broker.addr, "this listener does not expect one"),
                (&secure, secure_addr, "which this listener does not expect"),
                (&web, web.addr, "which this listener does not expect"),
            ] {
                let mut socket = socket(addr);
                let peer = socket.local_addr().expect("a connected socket");
                let _ = socket.write_all(&[&header[..], &Connect::new("twice").encode()].concat());
                let mut answer = Vec::new();
                let _ = socket.read_to_end(&mut answer);
                assert!(
                    answer.first().is_none_or(|first| *first == 21 || *first == b'H'),
                    "{answer:?}"
                );
                let line = broker.await_log(|line| line.contains(&format!("peer={peer} ")) && line.contains("closed"));
                assert!(line.contains("PROXY header") && line.contains(reason), "{line}");
            }
            let mut twice = Client::dial(addr(&broker, Kind::Plain));
            twice.send_whatever([&header[..], V1, &Connect::new("twice").encode()].concat());
            twice.expect_close();
        }
        broker.assert_well();
    }
}

/// Attack 18: a header that does not come to its end is under the time limit of CONNECT; whoever is connected is served
/// meanwhile, and nothing is left of it.
#[test]
fn half_headers_are_shed_and_hold_nobody_up() {
    let setup = Setup::new();
    setup.attack(&["--connect-timeout", "1"], |broker| {
        let mut halves = Vec::new();
        for (header, _) in headers() {
            for kind in KINDS {
                for cut in 0..header.len() {
                    let mut socket = socket(addr(broker, kind));
                    socket.write_all(&header[..cut]).expect("the connection is open");
                    halves.push(socket);
                }
            }
        }
        assert!(halves.len() > 500);
        for socket in halves {
            assert_closes(socket);
        }
        // And whose client has gone in the middle of it.
        for cut in 0..V1.len() {
            let mut socket = socket(addr(broker, Kind::Tls));
            socket.write_all(&V1[..cut]).expect("the connection is open");
        }
        let settled = |metrics: &Metrics| metrics.sum("ringmq_connections", &[]) == 2;
        let metrics = broker.await_metrics(settled);
        assert_eq!(metrics.sum("ringmq_proxy_failures_total", &[]), 0);
    });
}

/// A Unix domain socket is for those whom its permissions let in; a proxy among them names the client.
#[test]
fn proxies_come_over_unix_sockets_too() {
    let folder = Folder::new();
    for shards in [1, 3] {
        let path = folder.path("mqtt.sock");
        let file = folder.write(
            "r.toml",
            format!(
                "[[listener]]\nlisten = \"127.0.0.1:0\"\n[[listener]]\nlisten = \"unix:{path}\"\n\
                 proxy_protocol = true\nallow_anonymous = true\n"
            ),
        );
        let mut broker = Broker::start_on(shards, &["--config", &file], &["--log", "text/debug"]);
        for (n, (header, address)) in headers().into_iter().enumerate() {
            let mut stream = UnixStream::connect(&path).expect("the broker listens there");
            stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            let id = broker.id_on(n as u16 % shards, &format!("unix-{n}-"));
            stream
                .write_all(&[header, Connect::new(&id).encode()].concat())
                .expect("the connection is open");
            let mut connack = [0; 4];
            stream.read_exact(&mut connack).expect("a CONNACK");
            assert_eq!(connack, [0x20, 2, 0, 0]);
            broker.await_log(|line| line.contains(&id) && line.contains(&format!("peer={address}")));
        }
        broker.assert_well();
        broker.signal("TERM");
        assert_eq!(broker.process().wait().code(), Some(0));
    }
}

#[test]
fn settings_that_would_let_anybody_name_clients_are_refused() {
    let folder = Folder::new();
    for (settings, good, expected) in [
        (
            "proxy_protocol = true\nallow_anonymous = true",
            false,
            "--proxy-trusted",
        ),
        ("proxy_trusted = \"10.0.0.0/8\"", false, "--proxy-protocol"),
        (
            "proxy_protocol = true\nproxy_trusted = \"10.0.0.1/8\"\nallow_anonymous = true",
            false,
            "10.0.0.0/8",
        ),
        (
            "proxy_protocol = true\nproxy_trusted = \"proxy.example\"\nallow_anonymous = true",
            false,
            "write an address, or a network",
        ),
        // Who reaches the proxy reaches this listener, too.
        (
            "proxy_protocol = true\nproxy_trusted = \"127.0.0.1\"",
            false,
            "--allow-anonymous",
        ),
        (
            "proxy_protocol = true\nproxy_trusted = [\"127.0.0.1\", \"2001:db8::/32\"]\nallow_anonymous = true",
            true,
            "good",
        ),
    ] {
        let (accepted, said) = check_listener(&folder, settings);
        assert_eq!(accepted, good, "{settings}: {said}");
        assert!(said.contains(expected), "{settings}: {said}");
    }
}
