//! Clients that never become clients: sockets that stay silent, floods, refused CONNECTs, and a host without descriptors.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::wire::{self, string};
use common::*;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Attack 17: whatever was received of a CONNECT costs little, and the connect timeout sheds all of them.
#[test]
fn connects_one_byte_short_cost_little_and_are_shed() {
    attack(&["--connect-timeout", "5"], |broker| {
        let connect = Connect::new("one-byte-short").encode();
        let before = broker.rss_bytes();
        let mut clients: Vec<Client> = (0..SOCKETS)
            .map(|_| {
                let mut client = broker.dial();
                client.send(&connect[..connect.len() - 1]);
                client
            })
            .collect();
        let grown = broker.rss_bytes().saturating_sub(before);
        assert!(
            grown < SOCKETS * SOCKET_BYTES_MAX,
            "{grown} bytes for {SOCKETS} sockets"
        );
        for client in &mut clients {
            client.expect_close();
        }
    });
}

/// Attack 18: the part that needs neither TLS nor WebSocket.
#[test]
fn silent_sockets_are_shed() {
    attack(&["--connect-timeout", "1"], |broker| {
        let mut clients: Vec<Client> = (0..SOCKETS / 2).map(|_| broker.dial()).collect();
        for client in &mut clients {
            client.expect_close();
        }
    });
}

/// Attack 19: the client reads the CONNACK and an orderly end, though it has sent more than the broker wanted to read.
#[test]
fn refusal_can_be_read_and_the_socket_is_then_closed() {
    attack(&[], |broker| {
        let empty_id = Connect::resume("");
        let level = |level| Connect {
            level,
            ..Connect::new("level")
        };
        for (connect, code) in [(empty_id, 2), (level(0), 1), (level(3), 1), (level(6), 1)] {
            for more in [0, 1, 20_000] {
                let mut stream = broker.dial().into_stream();
                stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
                let behind = publish("t", vec![b'x'; more]).encode();
                stream
                    .write_all(&[connect.encode(), behind].concat())
                    .expect("the connection is open");
                let mut connack = [0; 4];
                stream.read_exact(&mut connack).expect("a CONNACK");
                assert_eq!(connack, [0x20, 0x02, 0x00, code]);
                assert_eq!(stream.read(&mut [0]).expect("FIN, and no RST"), 0, "the end");
                let _ = stream.shutdown(Shutdown::Write);
                await_true("the socket is closed on both sides", || is_gone(&mut stream));
            }
        }
    });
}

/// The peer has let go of the socket altogether: what is sent to it is answered by RST.
fn is_gone(stream: &mut TcpStream) -> bool {
    let mine = stream.local_addr().expect("a bound socket").port();
    let peer = stream.peer_addr().map(|addr| addr.port());
    // ENOTCONN: both sides have closed and the kernel has let go too.
    let Ok(peer) = peer else { return true };
    let (mine, peer) = (format!(":{mine:04X}"), format!(":{peer:04X}"));
    let sockets = fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    !sockets.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, remote, state) = (columns.next(), columns.next(), columns.next());
        // FIN_WAIT2 and ESTABLISHED: the broker still holds it.
        local.is_some_and(|it| it.ends_with(&peer))
            && remote.is_some_and(|it| it.ends_with(&mine))
            && state.is_some_and(|it| ["01", "05", "08"].contains(&it))
    })
}

/// Attack 21: at EMFILE the listener pauses, clients that are there are served, and who waited is let in afterwards.
#[test]
fn without_descriptors_nobody_suffers_and_the_listener_recovers() {
    attack(&[], |broker| {
        let mut served = broker.connect("served");
        let pid = Pid::from_raw(broker.pid().cast_signed());
        let open = fs::read_dir(format!("/proc/{}/fd", broker.pid()))
            .expect("the process runs")
            .count();
        let limit = Rlimit {
            current: Some(open as u64 + 8),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        let old = prlimit(pid, Resource::Nofile, limit).expect("a process of ours");
        let flood: Vec<Client> = (0..100).map(|_| broker.dial()).collect();
        broker.await_log(|line| line.contains("no new connections for now"));
        let mut waiting = broker.dial();
        waiting.send(Connect::new("waiting").encode());
        let (started, before) = (Instant::now(), cpu_ticks(broker));
        while started.elapsed() < Duration::from_secs(2) {
            served.ping();
            thread::sleep(Duration::from_millis(20));
        }
        // 100 ticks are a second; what the control client needs of the two is far less.
        let used = cpu_ticks(broker) - before;
        assert!(used < 150, "the listener spins: {used} ticks in two seconds");
        assert_eq!(waiting.recv_within(QUIET), None, "there is no descriptor for it");
        drop(flood);
        waiting.expect(&Packet::Connack {
            session_present: false,
            code: 0,
        });
        waiting.ping();
        prlimit(pid, Resource::Nofile, old).expect("a process of ours");
    });
}

/// Attack 20: there is no limit by address; beyond the limit of all, who comes is closed at once and counted for nothing.
#[test]
fn flood_over_the_connection_limit_is_turned_away() {
    attack(&["--max-connections", "50"], |broker| {
        // The control client has two.
        let mut inside: Vec<Client> = (0..48).map(|n| broker.connect(&format!("inside{n}"))).collect();
        for _ in 0..300 {
            let mut client = broker.dial();
            client.send_whatever(Connect::new("outside").encode());
            client.expect_close();
        }
        for client in &mut inside {
            client.ping();
        }
        drop(inside);
        await_true("places are free again", || {
            let mut client = broker.dial();
            client.send_whatever(Connect::new("later").encode()) && client.recv_or_close().is_some()
        });
    });
}

/// Attack 20: clients that connect, subscribe and vanish as fast as they can leave nothing behind.
#[test]
fn flood_of_connects_leaves_nothing_behind() {
    attack(&[], |broker| {
        let flood = |round: usize| {
            thread::scope(|scope| {
                for thread in 0..4 {
                    scope.spawn(move || {
                        for n in 0..100 {
                            let connect = Connect::new(&format!("flood{round}-{thread}-{n}"));
                            let mut client = broker.dial();
                            client.send([connect.encode(), wire::subscribe(1, &[("flood/+/#", 1)])].concat());
                            if n % 2 == 0 {
                                client.recv();
                            }
                        }
                    });
                }
            });
        };
        flood(0);
        let before = broker.rss_bytes();
        for round in 1..5 {
            flood(round);
        }
        let grown = broker.rss_bytes().saturating_sub(before);
        assert!(grown < 8 * 1024 * 1024, "{grown} bytes for 1,600 clients that are gone");
    });
}

/// Attack 17: a large CONNECT is held to its own limit, however many there are.
#[test]
fn large_connects_are_held_to_their_limit() {
    attack(&["--max-connect-size", "4096", "--connect-timeout", "3"], |broker| {
        let before = broker.rss_bytes();
        let mut clients: Vec<Client> = (0..300)
            .map(|_| {
                let mut client = broker.dial();
                let body = [&b"\0\x04MQTT\x04\x02\0\0"[..], &string(vec![b'i'; 4_000])].concat();
                let connect = wire::packet(0x10, &body);
                client.send(&connect[..connect.len() - 1]);
                client
            })
            .collect();
        let grown = broker.rss_bytes().saturating_sub(before);
        assert!(
            grown < 300 * (4_096 + SOCKET_BYTES_MAX),
            "{grown} bytes for 300 CONNECTs"
        );
        for client in &mut clients {
            client.expect_close();
        }
    });
}

/// Waits until it is so.
fn await_true(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Processor time of the broker so far, in ticks of 10 ms.
fn cpu_ticks(broker: &Broker) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", broker.pid())).expect("the process runs");
    let (_, fields) = stat.rsplit_once(')').expect("the name ends with it");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Sockets of one broker; those of all tests together stay below 4,000.
const SOCKETS: u64 = 600;
/// Memory of the process for one socket that has sent part of a small CONNECT, with room for an allocator's habits.
const SOCKET_BYTES_MAX: u64 = 16 * 1024;
