//! What certificates say in TLS: which one the server shows, whom a client's names and keeps out, reading the files again, and files that
//! do not fit.

mod common;

use std::sync::Arc;
use std::thread;

use common::tls::{
    Authority, Setup, assert_refused, client_config, client_config_of, connected, dial, reload, settings, try_dial,
};
use common::*;
use rcgen::{DnType, DnValue, SanType};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

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

/// Attack 33: a certificate whose name is doubtful lets nobody in, over WebSocket or without, though its authority is right.
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
        let what = format!("{from} {subject:?} {names:?}");
        let shown = clients.client_with(&subject, names);
        for over_websocket in [false, true] {
            let mut setup = Setup::asking(&clients, "required", from);
            setup.settings += &format!("websocket = {over_websocket}\n");
            let (broker, addr) = setup.start(1, &[]);
            let config = setup.client(Some(&shown));
            if accepted {
                let client = try_dial(addr, "localhost", &config);
                let mut client = client.unwrap_or_else(|error| panic!("{what}: {error}"));
                if over_websocket {
                    client = websocket::dial(addr, Some(&config));
                }
                client.connect(&Connect::new("named"));
            } else {
                assert_refused(addr, &config);
                broker.await_log(|line| line.contains("tls_client_certificate"));
            }
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
        let (is_good, said) = check_listener(&folder, text);
        assert!(said.contains(expected), "{text}: {said}");
        assert_eq!(is_good, text == good, "{said}");
    }
}

/// `secret`, as mosquitto_passwd wrote it.
const SECRET: &str = "ann:$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==\n";
