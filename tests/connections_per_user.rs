//! So many clients of one user at once, however they prove who they are, on whatever shard they live: who is refused, who comes in
//! all the same, and when there is room again.

mod common;

use std::sync::Arc;
use std::time::Instant;

use common::tls::{Authority, Setup, dial, reload};
use common::*;
use rustls::ClientConfig;

/// `secret`, as mosquitto_passwd 2.0.11 wrote it.
const HASH: &str =
    "$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==";
const REFUSED: Packet = Packet::Connack {
    session_present: false,
    code: 3,
};

/// Users ann and bob, clients without a name, and at most two clients of a user.
fn each(scenario: impl Fn(&Broker) + Sync) {
    let folder = Folder::new();
    let file = folder.write("passwords", format!("ann:{HASH}\nbob:{HASH}\n"));
    let flags = ["--password-file", &file, "--allow-anonymous", "--sys-interval", "1"];
    on_shards(
        &[1, 3],
        &[&flags[..], &["--max-connections-per-user", "2"]].concat(),
        scenario,
    );
}

fn connect(broker: &Broker, user: &str, id: &str) -> Client {
    broker.connect_as(&Connect::new(id).user(user, "secret")).0
}

fn assert_refused(broker: &Broker, user: &str, id: &str) {
    let mut client = broker.dial();
    client.send(Connect::new(id).user(user, "secret").encode());
    client.expect(&REFUSED);
    client.expect_close();
}

/// For a client whose end only the broker's own socket tells of.
fn connect_when_there_is_room(broker: &Broker, user: &str, id: &str) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "there is no room");
        let mut client = broker.dial();
        client.send(Connect::new(id).user(user, "secret").encode());
        match client.recv() {
            Packet::Connack { code: 0, .. } => return client,
            refused => assert_eq!(refused, REFUSED),
        }
    }
}

/// Wherever they live; others are not concerned, and a refused client does nothing to a session.
#[test]
fn clients_of_a_user_beyond_its_limit_are_refused_until_one_leaves() {
    each(|broker| {
        let last = broker.shards - 1;
        let mut first = connect(broker, "ann", &broker.id_on(0, "first"));
        let mut second = connect(broker, "ann", &broker.id_on(last, "second"));
        let mut others = [
            connect(broker, "bob", "bob"),
            broker.connect("nobody"),
            connect(broker, "bob", ""),
        ];
        for shard in 0..broker.shards {
            let id = broker.id_on(shard, "third");
            assert_refused(broker, "ann", &id);
            let line = broker.await_log(|line| line.contains("as many clients") && line.contains(&id));
            assert!(line.contains("ann") && line.contains("peer=127.0.0.1:"), "{line}");
        }
        assert_refused(broker, "ann", "");
        assert_refused(broker, "bob", "third");
        // Somebody else's session stays that of its client.
        assert_refused(broker, "ann", "nobody");
        let mut sys = broker.sys();
        let refused = u64::from(broker.shards) + 3;
        sys.await_value("connects/refused", refused);
        sys.await_value("connections/limited", refused);
        for client in [&mut first, &mut second].into_iter().chain(&mut others) {
            client.ping();
        }
        first.disconnect();
        let third = connect(broker, "ann", &broker.id_on(last, "third"));
        assert_refused(broker, "ann", "fourth");
        third.vanish();
        connect(broker, "ann", "fourth").ping();
        second.ping();
    });
}

#[test]
fn who_is_connected_comes_again_at_the_limit() {
    each(|broker| {
        let ids = [broker.id_on(0, "a"), broker.id_on(broker.shards - 1, "b")];
        let mut clients = ids.clone().map(|id| connect(broker, "ann", &id));
        for _ in 0..3 {
            for (client, id) in clients.iter_mut().zip(&ids) {
                let new = connect(broker, "ann", id);
                std::mem::replace(client, new).expect_close();
                assert_refused(broker, "ann", "c");
            }
        }
        // Somebody else takes the place over: it counts for him, and no longer for her.
        let mut by_bob = connect(broker, "bob", &ids[0]);
        clients[0].expect_close();
        connect(broker, "ann", "c").ping();
        by_bob.ping();
        clients[1].ping();
    });
}

/// Neither says goodbye; what is left of the one is a reset, of the other nothing that the client did.
#[test]
fn there_is_room_again_after_a_crash_and_after_a_refused_will() {
    each(|broker| {
        let mut stays = connect(broker, "ann", "stays");
        for n in 0..3 {
            let crashes = connect(broker, "ann", &format!("crash{n}"));
            let socket = crashes.into_stream();
            rustix::net::sockopt::set_socket_linger(&socket, Some(std::time::Duration::ZERO)).expect("a socket");
            drop(socket);
            connect_when_there_is_room(broker, "ann", &format!("next{n}")).disconnect();
        }
        for n in 0..3 {
            // It is counted before its Will is looked at.
            let mut client = broker.dial();
            let will = Connect::new(&format!("will{n}")).user("ann", "secret");
            client.send(will.will(publish("$SYS/x", "")).encode());
            client.expect(&Packet::Connack {
                session_present: false,
                code: 5,
            });
            client.expect_close();
        }
        connect(broker, "ann", "next").ping();
        stays.ping();
    });
}

/// Whatever CONNECT says about the user; together with those that came by password elsewhere.
#[test]
fn clients_with_a_certificate_count_too() {
    let clients = Authority::new("clients");
    let setup = Setup::asking(&clients, "optional", "cn");
    let file = setup.folder.write("passwords", format!("ann:{HASH}\n"));
    let flags = ["--password-file", &file, "--max-connections-per-user", "2"];
    let (ann, bob) = (clients.client("ann"), clients.client("bob"));
    setup.each(&flags, |broker, addr| {
        let (ann, bob, nameless) = (setup.client(Some(&ann)), setup.client(Some(&bob)), setup.client(None));
        let last = broker.shards - 1;
        let open = |config: &Arc<ClientConfig>, connect: &Connect| {
            let mut client = dial(addr, config);
            client.send(connect.encode());
            let answer = client.recv();
            (client, answer)
        };
        let accepted = Packet::Connack {
            session_present: false,
            code: 0,
        };
        let ids = [broker.id_on(0, "a"), broker.id_on(last, "b"), broker.id_on(last, "c")];
        let (mut first, answer) = open(&ann, &Connect::new(&ids[0]).user("bob", "x"));
        assert_eq!(answer, accepted);
        let (second, answer) = open(&nameless, &Connect::new(&ids[1]).user("ann", "secret"));
        assert_eq!(answer, accepted);
        for (config, connect) in [
            (&ann, Connect::new(&ids[2])),
            (&ann, Connect::new("")),
            (&nameless, Connect::new(&ids[2]).user("ann", "secret")),
        ] {
            let (mut client, answer) = open(config, &connect);
            assert_eq!(answer, REFUSED);
            client.expect_close_notify();
        }
        let (mut other, answer) = open(&bob, &Connect::new(&ids[2]));
        assert_eq!(answer, accepted);
        let (mut again, answer) = open(&ann, &Connect::new(&ids[0]));
        assert_eq!(answer, accepted);
        first.expect_close_notify();
        second.disconnect();
        let (mut third, answer) = open(&ann, &Connect::new(&ids[1]));
        assert_eq!(answer, accepted);
        for client in [&mut other, &mut again, &mut third] {
            client.ping();
        }
    });
}

#[test]
fn the_limit_moves_and_those_that_are_connected_stay() {
    let folder = Folder::new();
    let passwords = folder.write("passwords", format!("ann:{HASH}\n"));
    let settings = |limit: u32| format!("password_file = \"{passwords}\"\nmax_connections_per_user = {limit}\n");
    let config = folder.write("r.toml", settings(2));
    let broker = Broker::start(2, &["--config", &config]);
    let set = |limit: u32| {
        folder.write("r.toml", settings(limit));
        reload(&broker);
    };
    let mut open: Vec<Client> = ["a", "b"].map(|id| connect(&broker, "ann", id)).into();
    assert_refused(&broker, "ann", "c");
    set(3);
    open.push(connect(&broker, "ann", "c"));
    set(1);
    assert_refused(&broker, "ann", "d");
    open.push(connect(&broker, "ann", "a"));
    open.remove(0).expect_close();
    set(0);
    open.push(connect(&broker, "ann", "d"));
    // Who came in without a limit does not count.
    set(4);
    open.push(connect(&broker, "ann", "e"));
    assert_refused(&broker, "ann", "f");
    for client in &mut open {
        client.ping();
    }
}
