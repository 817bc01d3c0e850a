//! A service that is asked about clients, and is slow, gone, led astray or somebody else: nobody comes in by it, and nobody else notices.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use serde_json::json;

/// `secret`, as mosquitto_passwd 2.0.11 wrote it.
const ANN: &str = "ann:$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==\n";

/// A service that lets everybody in once its gate is open.
fn held_service() -> (AuthService, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let service = AuthService::start({
        let gate = Arc::clone(&gate);
        move |_| {
            gate.pass();
            allow()
        }
    });
    (service, gate)
}

/// Who says no name comes in too: what looks whether the broker is well does that.
fn start(shards: u16, url: &str, flags: &[&str]) -> Broker {
    let usual = [
        "--auth-http-url",
        url,
        "--allow-anonymous",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    Broker::start(shards, &[&usual[..], flags].concat())
}

/// A client that waits for its verdict.
fn waiting(broker: &Broker, id: &str) -> Client {
    let mut client = broker.dial();
    client.send(Connect::new(id).user("device", "pw-of-the-test").encode());
    client
}

fn verdict(client: &mut Client) -> u8 {
    match client.recv() {
        Packet::Connack { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

/// The return code of a client that the service judges.
fn code(broker: &Broker, id: &str) -> u8 {
    verdict(&mut waiting(broker, id))
}

fn allow() -> Reply {
    Reply::Json(json!({"allow": true}))
}

/// Attack 22: what is not a whole, sound answer lets nobody in, and the log says what it was.
#[test]
fn whatever_is_no_answer_refuses_with_3_and_is_told() {
    let long = format!("{{\"allow\": true}}{}", " ".repeat(70_000));
    let replies = [
        (
            Reply::status("500 Oops", "", "{\"allow\": true}"),
            "reason=\"status\"",
            "status 500",
        ),
        (
            Reply::status("302 Found", "Location: /elsewhere\r\n", ""),
            "reason=\"status\"",
            "status 302",
        ),
        (Reply::status("200 OK", "", "<html>"), "reason=\"answer\"", "JSON"),
        (
            Reply::status("200 OK", "", &long),
            "reason=\"answer\"",
            "more than 65536",
        ),
        (Reply::Json(json!({"allow": "yes"})), "reason=\"answer\"", "allow"),
        (
            Reply::Json(json!({"allow": true, "user_name": ""})),
            "reason=\"answer\"",
            "user_name",
        ),
        (
            Reply::Json(json!({"allow": true, "acl": ["user root"]})),
            "reason=\"answer\"",
            "line 1 of acl",
        ),
        (
            Reply::Json(json!({"allow": true, "expires_in": -1})),
            "reason=\"answer\"",
            "expires_in",
        ),
        (
            Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec()),
            "reason=\"exchange\"",
            "",
        ),
        (Reply::Bytes(vec![]), "reason=\"exchange\"", ""),
        (Reply::Silence, "reason=\"timeout\"", "no answer within 1 s"),
    ];
    for shards in [1, 3] {
        let own = replies.clone();
        let service = AuthService::start(move |asked| {
            let at: usize = asked.text("client_id").parse().expect("a number");
            own[at].0.clone()
        });
        let broker = start(
            shards,
            &service.url(),
            &["--auth-http-timeout", "1", "--log", "text/trace"],
        );
        for (at, (reply, reason, says)) in replies.iter().enumerate() {
            assert_eq!(code(&broker, &at.to_string()), 3, "{reply:?}");
            let is_it = |line: &str| line.contains("--auth-http-url") && line.contains(&format!("client=\"{at}\""));
            let line = broker.await_log(is_it);
            assert!(
                line.contains("WARN") && line.contains(reason) && line.contains(says),
                "{reply:?}: {line}"
            );
        }
        // Nobody was asked who was not meant, and nobody twice.
        let asked = service.asked();
        assert_eq!(asked.len(), replies.len());
        assert!(asked.iter().all(|asked| asked.line.starts_with("POST /mqtt?")));
        let failed = broker
            .metrics()
            .sum("ringmq_auth_http_verdicts_total", &[("outcome", "failed")]);
        assert_eq!(failed, replies.len() as u64);
        let told = broker.log_lines(|line| line.contains("of-the-test"));
        assert!(told.is_empty(), "{told:?}");
        broker.assert_well();
    }
}

/// Attack 22: who is known here comes in, and who is connected is served, while every thread that asks is held by the service.
#[test]
fn a_slow_service_holds_up_nobody_but_those_who_wait_for_it() {
    let folder = Folder::new();
    let passwords = folder.write("passwords", ANN);
    let flags = ["--password-file", &passwords, "--auth-http-threads", "2"];
    let patient = ["--auth-http-timeout", "120", "--connect-timeout", "120"];
    for shards in [1, 3] {
        let (service, gate) = held_service();
        let broker = start(shards, &service.url(), &[&flags[..], &patient].concat());
        let control = Control::start(&broker);
        let mut held: Vec<Client> = (0..10).map(|n| waiting(&broker, &format!("device{n}"))).collect();
        service.await_asked(2);
        let mut subscriber = broker.connect_as(&Connect::new("sub").user("ann", "secret")).0;
        subscriber.subscribe("known", 1);
        for n in 0..10 {
            let id = broker.id_on(n % shards, "known");
            let (mut client, _) = broker.connect_as(&Connect::new(&id).user("ann", "secret"));
            client.publish("known", "message", 1);
            subscriber.expect_message("known", "message", 1);
        }
        assert_eq!(service.asked().len(), 2, "the threads are held all the while");
        control.finish();
        gate.open();
        for client in &mut held {
            assert_eq!(verdict(client), 0);
        }
        broker.assert_well();
    }
}

#[test]
fn clients_beyond_the_threads_wait_and_beyond_the_queue_are_refused() {
    let flags = ["--auth-http-threads", "2", "--max-auth-waiting", "3"];
    let patient = ["--auth-http-timeout", "120", "--connect-timeout", "120"];
    for shards in [1, 3] {
        let gate = Arc::new(Gate::default());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let service = AuthService::start({
            let (gate, now, most) = (Arc::clone(&gate), Arc::clone(&now), Arc::clone(&most));
            move |_| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.pass();
                now.fetch_sub(1, Ordering::SeqCst);
                allow()
            }
        });
        let broker = start(shards, &service.url(), &[&flags[..], &patient].concat());
        let mut clients: Vec<Client> = (0..2).map(|n| waiting(&broker, &format!("held{n}"))).collect();
        service.await_asked(2);
        // However they overtake each other on the way, three of them find room.
        clients.extend((0..8).map(|n| waiting(&broker, &format!("more{n}"))));
        broker.await_metrics(|metrics| metrics.sum("ringmq_connects_refused_total", &[]) == 5);
        assert_eq!(service.asked().len(), 2);
        gate.open();
        let mut codes: Vec<u8> = clients.iter_mut().map(verdict).collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 0, 0, 0, 0, 3, 3, 3, 3, 3]);
        assert_eq!(service.asked().len(), 5);
        assert_eq!(most.load(Ordering::SeqCst), 2);
        broker.assert_well();
    }
}

/// Who was told that it took too long is not asked about any more: the next one need not wait for that.
#[test]
fn clients_that_have_waited_too_long_are_passed_over() {
    let flags = [
        "--auth-http-threads",
        "1",
        "--connect-timeout",
        "1",
        "--auth-http-timeout",
        "120",
    ];
    for shards in [1, 3] {
        let (service, gate) = held_service();
        let broker = start(shards, &service.url(), &flags);
        let mut first = waiting(&broker, "first");
        service.await_asked(1);
        let mut second = waiting(&broker, "second");
        assert_eq!((verdict(&mut first), verdict(&mut second)), (3, 3));
        gate.open();
        // It may come too late for a starved machine, and then again.
        while code(&broker, "third") != 0 {}
        let asked = service.asked();
        assert!(
            asked.iter().all(|asked| asked.text("client_id") != "second"),
            "{asked:?}"
        );
        broker.assert_well();
    }
}

/// Attack 22: it is gone, comes, and goes again.
#[test]
fn a_service_that_was_down_is_asked_again() {
    for shards in [1, 3] {
        let service = AuthService::start(|_| allow());
        let (addr, url) = (service.addr, service.url());
        drop(service);
        let broker = start(shards, &url, &[]);
        for _ in 0..2 {
            assert_eq!(code(&broker, "down"), 3);
            let service = AuthService::start_at(addr, None, |_| allow());
            for _ in 0..3 {
                assert_eq!(code(&broker, "up"), 0);
            }
            // Connections that were to be used again end with it.
            drop(service);
        }
        assert_eq!(code(&broker, "down"), 3);
        broker.await_log(|line| line.contains("reason=\"exchange\"") && line.contains("refused"));
        broker.assert_well();
    }
}

/// Attack 22: an impostor of the service learns no password.
#[test]
fn over_tls_the_service_must_be_who_it_says() {
    let folder = Folder::new();
    let (ours, theirs) = (tls::Authority::new("ours"), tls::Authority::new("theirs"));
    let named = |authority: &tls::Authority, names: &[&str]| {
        let pair = authority.server(names);
        AuthService::start_at("127.0.0.1:0".parse().expect("an address"), Some(&pair), |_| allow())
    };
    let ca = folder.path("ca.pem");
    for shards in [1, 3] {
        folder.write("ca.pem", &ours.pem);
        for (service, expected) in [
            (named(&ours, &["127.0.0.1"]), 0),
            (named(&ours, &["elsewhere.example"]), 3),
            (named(&theirs, &["127.0.0.1"]), 3),
        ] {
            let broker = start(shards, &service.url(), &["--auth-http-ca", &ca]);
            assert_eq!(code(&broker, "device"), expected);
            if expected == 3 {
                let line = broker.await_log(|line| line.contains("--auth-http-url"));
                assert!(line.contains("certificate"), "{line}");
                assert!(service.asked().is_empty());
            }
            broker.assert_well();
        }
        // The authorities are read again; without TLS there is nobody to be asked.
        let service = named(&theirs, &["127.0.0.1"]);
        let broker = start(shards, &service.url(), &["--auth-http-ca", &ca]);
        assert_eq!(code(&broker, "device"), 3);
        folder.write("ca.pem", &theirs.pem);
        tls::reload(&broker);
        assert_eq!(code(&broker, "device"), 0);
        folder.write("ca.pem", "no certificate");
        broker.signal("HUP");
        broker.await_log(|line| line.contains("not reloaded") && line.contains("ca.pem"));
        assert_eq!(code(&broker, "device"), 0);
        folder.write("ca.pem", &ours.pem);
        let plain = AuthService::start(|_| allow());
        let broker = start(shards, &format!("https://{}/", plain.addr), &["--auth-http-ca", &ca]);
        assert_eq!(code(&broker, "device"), 3);
        broker.assert_well();
    }
}

/// Without authorities of its own the service's are those of the system, and there must be some.
#[test]
fn the_systems_authorities_count_unless_others_are_named() {
    let folder = Folder::new();
    let ca = folder.write("ca.pem", &tls::Authority::new("ours").pem);
    let check = |authorities: &str, flags: &[&str]| {
        let mut command = ringmq();
        command
            .args(["check", "--auth-http-url", "https://auth.example/"])
            .args(flags);
        command.env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
        let mut process = Process::spawn(&mut command);
        (process.wait().code(), process.output())
    };
    let nowhere = folder.path("nowhere");
    assert_eq!(check(&ca, &[]).0, Some(0));
    let (status, said) = check(&nowhere, &[]);
    assert!(status == Some(2) && said.contains("--auth-http-ca"), "{said}");
    assert_eq!(check(&nowhere, &["--auth-http-ca", &ca]).0, Some(0));
    let (status, said) = check(&ca, &["--auth-http-ca", &nowhere]);
    assert!(status == Some(2) && said.contains("nowhere"), "{said}");
}
