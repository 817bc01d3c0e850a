//! A Unix domain socket in the place of a port: the same protocol, and the file that stands for it.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use common::wire::take_packet;
use common::*;

/// Sends CONNECT and whatever follows, and reads packets until there are `count`.
fn talk(path: &str, bytes: &[u8], count: usize) -> Vec<Packet> {
    let mut stream = UnixStream::connect(path).expect("the broker listens there");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.write_all(bytes).expect("the connection is open");
    let (mut received, mut packets, mut chunk) = (Vec::new(), Vec::new(), vec![0; 65_536]);
    while packets.len() < count {
        let len = stream.read(&mut chunk).expect("an answer");
        assert!(len > 0, "closed after {packets:?}");
        received.extend(&chunk[..len]);
        while let Some(packet) = take_packet(&mut received) {
            packets.push(packet);
        }
    }
    packets
}

/// Clients of both listeners exchange messages, on whichever shard they live, large ones too.
#[test]
fn clients_of_a_unix_socket_and_of_a_port_exchange_messages() {
    let folder = Folder::new();
    for shards in [1, 3] {
        let path = folder.path("mqtt.sock");
        let unix = format!("unix:{path}");
        let mut broker = Broker::start_on(shards, &["--listen", "127.0.0.1:0", "--listen", &unix], &[]);
        broker.await_output(|output| output.contains(&format!("listening on {unix}\n")).then_some(()));
        let mode = fs::metadata(&path).expect("the socket's file").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("t", 1);
        for shard in 0..shards {
            let payload = vec![shard as u8; 300_000];
            let mut bytes = Connect::new(&broker.id_on(shard, "unix")).encode();
            bytes.extend(wire::subscribe(1, &[("t", 1)]));
            bytes.extend(publish("t", &payload).qos(1, 2).encode());
            let packets = talk(&path, &bytes, 4);
            assert!(packets.contains(&Packet::Puback(2)), "{packets:?}");
            let own = packets
                .iter()
                .filter(|packet| matches!(packet, Packet::Publish(it) if it.payload == payload));
            assert_eq!(own.count(), 1);
            watcher.expect_message("t", &payload, 1);
        }
        let mut broken = UnixStream::connect(&path).expect("the broker listens there");
        broken.write_all(&[0; 16]).expect("the connection is open");
        assert_eq!(broken.read(&mut [0; 1]).expect("the end of the stream"), 0);
        broker.await_log(|line| line.contains("peer=unix"));
        broker.signal("TERM");
        assert_eq!(broker.process().wait().code(), Some(0));
        assert!(!fs::exists(&path).expect("the folder is there"), "the file is left");
    }
}

/// A second broker is refused; the file of one that was killed is not in the way; anything else there is.
#[test]
fn path_that_is_taken_is_refused_and_one_that_is_left_over_is_not() {
    let folder = Folder::new();
    let path = folder.path("mqtt.sock");
    let unix = format!("unix:{path}");
    let listen = ["--listen", "127.0.0.1:0", "--listen", &unix];
    let mut first = Broker::start_on(1, &listen, &[]);
    let refused = |expected: &str| {
        let output = ringmq().args(listen).output().expect("the binary under test");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(expected) && said.contains(&path), "{said}");
        assert_eq!(output.status.code(), Some(78), "{said}");
    };
    refused("is taken");
    first.assert_well();
    first.signal("KILL");
    first.process().wait();
    assert!(fs::exists(&path).expect("the folder is there"));
    let second = Broker::start_on(1, &listen, &[]);
    assert_eq!(talk(&path, &Connect::new("a").encode(), 1).len(), 1);
    drop(second);
    fs::remove_file(&path).expect("the second was killed too");
    fs::write(&path, "a letter").expect("a temporary file");
    refused("no socket");
    assert_eq!(fs::read_to_string(&path).expect("it is still there"), "a letter");
}
