//! How fast clients may come: a listener over its rate lets them wait, an address over its own is closed.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::tls::{Setup, connected, handshake, stream_over};
use common::*;

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn rejected(broker: &Broker) -> u64 {
    let labels = [("reason", "address_rate")];
    broker.metrics().sum("ringmq_sockets_rejected_total", &labels)
}

/// Whether this client is let in; it is gone afterwards.
fn is_let_in(mut client: Client, id: &str) -> bool {
    client.send_whatever(Connect::new(id).encode());
    match client.recv_or_close() {
        None => false,
        Some(Packet::Connack { code: 0, .. }) => true,
        Some(other) => panic!("{other:?}"),
    }
}

/// Attack 20: one address floods, and is let in at its rate and no faster, while others connect as ever.
#[test]
fn a_flood_from_one_address_is_held_to_its_rate_and_others_connect() {
    const RATE: u64 = 5;
    const BURST: u64 = 20;
    let flags = [
        "--max-connection-rate-per-address",
        "5",
        "--connection-burst-per-address",
        "20",
        "--max-connection-rate",
        "100",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    attack(&flags, |broker| {
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        thread::scope(|scope| {
            let flood = || {
                let (mut tries, mut let_in) = (0_u64, 0);
                while !stop.load(Ordering::Relaxed) || tries < 200 {
                    let id = format!("flood-{tries}");
                    let_in += u64::from(is_let_in(Client::dial_from(ATTACKER, broker.addr), &id));
                    tries += 1;
                }
                (tries, let_in)
            };
            let floods = [scope.spawn(flood), scope.spawn(flood)];
            for n in 0..10 {
                let client = broker.connect(&broker.id_on(n % broker.shards, &format!("regular{n}-")));
                client.disconnect();
            }
            stop.store(true, Ordering::Relaxed);
            let (mut tries, mut let_in) = (0, 0);
            for flood in floods {
                let (tried, in_) = flood.join().expect("no connection is refused by the kernel");
                (tries, let_in) = (tries + tried, let_in + in_);
            }
            let most = BURST + RATE * (begun.elapsed().as_secs() + 1);
            assert!(let_in >= BURST && let_in <= most, "{let_in} of {tries}; {most} may be");
            assert_eq!(rejected(broker), tries - let_in);
        });
        let line = broker.await_log(|line| line.contains("address_rate"));
        assert!(line.contains("peer=127.0.0.2:"), "{line}");
    });
}

/// Over the rate of a listener nobody is refused: they are let in one after the other, and those of other listeners at once.
#[test]
fn clients_of_a_listener_over_its_rate_wait_and_others_do_not() {
    const CLIENTS: u32 = 8;
    let folder = Folder::new();
    for shards in [1, 3] {
        let file = folder.write(
            &format!("{shards}.toml"),
            "[[listener]]\nlisten = \"127.0.0.1:0\"\n[[listener]]\nlisten = \"127.0.0.1:0\"\nmax_connection_rate = 2\n",
        );
        let broker = Broker::start_on(shards, &["--config", &file], &["--admin-listen", "127.0.0.1:0"]);
        let begun = Instant::now();
        let mut waiting: Vec<Client> = (0..CLIENTS)
            .map(|n| {
                let mut client = Client::dial(broker.addrs[1]);
                client.send(Connect::new(&broker.id_on(n as u16 % shards, &format!("waiting{n}-"))).encode());
                client
            })
            .collect();
        let others_done = thread::scope(|scope| {
            let others = scope.spawn(|| {
                for n in 0..20 {
                    broker.connect(&format!("other{n}")).disconnect();
                }
                Instant::now()
            });
            for client in &mut waiting {
                client.expect(&Packet::Connack {
                    session_present: false,
                    code: 0,
                });
            }
            others.join().expect("they are let in")
        });
        let all_done = Instant::now();
        // A second's worth at once, and the others at the rate: half a second each on the broker's clock, which it looks at once in a turn,
        // so a little less on this one.
        let least = Duration::from_millis(u64::from(CLIENTS - 2) * 450);
        assert!(all_done - begun >= least, "{:?}", all_done - begun);
        assert!(others_done < all_done);
        let metrics = broker.metrics();
        assert_eq!(metrics.sum("ringmq_sockets_rejected_total", &[]), 0);
        assert!(metrics.sum("ringmq_sockets_paused_total", &[]) > 0);
        broker.await_log(|line| line.contains("connection_rate") && line.contains(&broker.addrs[1].to_string()));
        broker.assert_well();
    }
}

/// Behind a proxy the address in the header counts, on whichever shard it is read; the proxy's own does not.
#[test]
fn behind_a_proxy_the_named_address_is_held_to_its_rate() {
    let folder = Folder::new();
    for shards in [1, 3] {
        let file = folder.write(
            &format!("{shards}.toml"),
            "[[listener]]\nlisten = \"127.0.0.1:0\"\n[[listener]]\nlisten = \"127.0.0.1:0\"\nproxy_protocol = true\n\
             proxy_trusted = \"127.0.0.1\"\nallow_anonymous = true\nmax_connection_rate_per_address = 1\n\
             connection_burst_per_address = 4\n",
        );
        let broker = Broker::start_on(shards, &["--config", &file], &["--admin-listen", "127.0.0.1:0"]);
        let dial = |header: &str| {
            let mut client = Client::dial(broker.addrs[1]);
            client.send(header);
            client
        };
        let begun = Instant::now();
        let header = "PROXY TCP4 203.0.113.7 198.51.100.1 51234 8883\r\n";
        let let_in = (0..30).filter(|n| is_let_in(dial(header), &format!("one-{n}"))).count() as u64;
        assert!(let_in >= 4 && let_in <= 5 + begun.elapsed().as_secs(), "{let_in}");
        assert_eq!(rejected(&broker), 30 - let_in);
        let line = broker.await_log(|line| line.contains("address_rate"));
        assert!(line.contains("peer=203.0.113.7:"), "{line}");
        for n in 0..30 {
            let header = format!("PROXY TCP4 203.0.114.{n} 198.51.100.1 51234 8883\r\n");
            assert!(is_let_in(dial(&header), "another"), "{n}");
            assert!(is_let_in(dial("PROXY UNKNOWN\r\n"), "nobody"), "{n}");
        }
        broker.assert_well();
    }
}

/// An address over its rate costs no handshake: it is closed before the first byte of one.
#[test]
fn with_tls_the_connection_closes_before_the_handshake() {
    let mut setup = Setup::new();
    setup.settings += "max_connection_rate_per_address = 1\nconnection_burst_per_address = 3\n";
    let config = setup.client(None);
    setup.each(&["--admin-listen", "127.0.0.1:0"], |broker, addr: SocketAddr| {
        let begun = Instant::now();
        let shaken = (0..30).filter(|_| {
            let client = Client::dial_from(ATTACKER, addr);
            handshake(stream_over(client, "localhost", &config)).is_ok()
        });
        let shaken = shaken.count() as u64;
        assert!(shaken >= 3 && shaken <= 4 + begun.elapsed().as_secs(), "{shaken}");
        assert_eq!(rejected(broker), 30 - shaken);
        broker.await_metrics(|metrics| metrics.sum("ringmq_tls_handshakes_total", &[]) == shaken);
        // From elsewhere, as ever.
        connected(addr, &config, "regular").disconnect();
    });
}
