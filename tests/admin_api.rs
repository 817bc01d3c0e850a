//! The admin listener's JSON: clients, one client, its end, retained messages, shards; asked while the broker works.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use common::*;
use serde_json::{Value, json};

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

/// The JSON of a GET that must succeed.
fn json_of(broker: &Broker, path: &str) -> Value {
    let answer = broker.get(path);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// All clients that a query finds, page by page; each page may have this many.
fn pages(broker: &Broker, query: &str, limit: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = json_of(broker, &format!("/api/clients?limit={limit}&{query}{after}"));
        let clients = page["clients"].as_array().expect("a list");
        assert!(clients.len() <= limit, "{page}");
        found.extend(
            clients
                .iter()
                .map(|client| client["client_id"].as_str().expect("text").to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

#[test]
fn clients_are_found_by_what_their_identifiers_have() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        let mut open: Vec<Client> = (0..30).map(|n| broker.connect(&format!("plant/{n} äö&"))).collect();
        for n in 0..10 {
            broker.resume(&format!("away-{n}")).0.disconnect();
        }
        let all = pages(broker, "", 7);
        assert_eq!(all.len(), 40);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 40);
        assert_eq!(pages(broker, "prefix=plant/1", 3).len(), 11);
        assert_eq!(pages(broker, "contains=%C3%A4%C3%B6%26", 1000).len(), 30);
        assert_eq!(pages(broker, "contains=-7", 10), ["away-7"]);
        assert_eq!(pages(broker, "connected=true", 4).len(), 30);
        assert_eq!(pages(broker, "connected=false&prefix=away", 4).len(), 10);
        assert_eq!(pages(broker, "prefix=no-such", 4).len(), 0);
        open.pop().expect("30 of them").disconnect();
        assert_eq!(pages(broker, "connected=true", 1000).len(), 29);
        for query in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "connected=yes",
            "after=7",
            "after=x.y",
            "no=1",
        ] {
            assert_eq!(broker.get(&format!("/api/clients?{query}")).status, 400, "{query}");
        }
        // A place that there is not: nothing, and no harm.
        let beyond = json_of(broker, "/api/clients?after=99.4294967295");
        assert_eq!(beyond, json!({ "clients": [], "next": null }));
        let first_is_through = json_of(broker, "/api/clients?after=0.4294967295&limit=1000");
        assert_eq!(first_is_through, json_of(broker, "/api/clients?after=1.0&limit=1000"));
    });
}

#[test]
fn one_client_is_told_with_its_session() {
    on_shards(&[1, 3], &[&ADMIN[..], &["--max-inflight", "3"]].concat(), |broker| {
        let (mut subscriber, _) = broker.connect_as(&Connect {
            keep_alive: 60,
            ..Connect::resume("sub")
        });
        subscriber.subscribe("t", 1);
        subscriber.subscribe("deep/+/#", 2);
        subscriber.subscribe("$share/group/work/#", 1);
        let peer = subscriber.local_addr().to_string();
        let mut publisher = broker.connect("pub");
        for n in 0..8_u8 {
            publisher.publish("t", [n; 100], 1);
        }
        broker.await_metrics(|metrics| metrics.sum("ringmq_queued_messages", &[]) == 5);
        let client = json_of(broker, "/api/clients/sub");
        for (key, value) in [
            ("client_id", json!("sub")),
            ("shard", json!(0)),
            ("connected", json!(true)),
            ("peer", json!(peer)),
            ("clean_session", json!(false)),
            ("subscriptions", json!(3)),
            ("queued", json!(5)),
            ("inflight", json!(3)),
            ("output_bytes", json!(0)),
            ("keep_alive_seconds", json!(60)),
            ("user_name", json!(null)),
            ("next", json!(null)),
        ] {
            assert_eq!(client[key], value, "{key} of {client}");
        }
        assert!(
            client["held_bytes"]
                .as_u64()
                .is_some_and(|bytes| (800..8_000).contains(&bytes)),
            "{client}"
        );
        let list = client["subscription_list"].as_array().expect("a list");
        assert_eq!(list.len(), 3);
        assert!(list.contains(&json!({ "filter": "t", "qos": 1 })), "{client}");
        assert!(list.contains(&json!({ "filter": "deep/+/#", "qos": 2 })), "{client}");
        assert!(
            list.contains(&json!({ "filter": "$share/group/work/#", "qos": null })),
            "{client}"
        );

        let slowest = json_of(broker, "/api/slowest");
        assert_eq!(slowest["clients"][0]["client_id"], "sub");
        assert_eq!(slowest["complete"], true);
        subscriber.disconnect();
        let away = json_of(broker, "/api/clients/sub");
        // What it had not acknowledged stays in flight, for when it comes back.
        for (key, value) in [
            ("connected", json!(false)),
            ("peer", json!(null)),
            ("queued", json!(5)),
            ("inflight", json!(3)),
        ] {
            assert_eq!(away[key], value, "{key} of {away}");
        }
        assert_eq!(broker.get("/api/clients/no-such").status, 404);
        assert_eq!(broker.get("/api/clients/%FF").status, 400);
    });
}

#[test]
fn subscriptions_come_in_pages() {
    let broker = Broker::start(1, &ADMIN);
    let mut client = broker.connect("a/b");
    for n in 0..450 {
        client.subscribe(&format!("filter/{n}"), 0);
    }
    let (mut filters, mut after) = (BTreeSet::new(), String::new());
    let mut pages = 0;
    loop {
        let page = json_of(&broker, &format!("/api/clients/a%2Fb{after}"));
        let list = page["subscription_list"].as_array().expect("a list").clone();
        filters.extend(list.into_iter().map(|it| it["filter"].to_string()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = format!("?subscriptions_after={next}"),
            None => break,
        }
    }
    assert_eq!((filters.len(), pages), (450, 3));
    assert_eq!(broker.get("/api/clients/a/b?subscriptions_after=x").status, 400);
}

/// As for a connection that breaks: the Will is published, and the session stays for its client to come back.
#[test]
fn a_client_that_is_kicked_is_cut_and_its_will_published() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        let mut watcher = broker.connect("pub");
        watcher.subscribe("will/#", 1);
        let (mut victim, _) = broker.connect_as(&Connect {
            will: Some(wire::publish("will/sub", "gone").qos(1, 1)),
            ..Connect::resume("sub")
        });
        victim.subscribe("t", 1);
        let delete = |id: &str| broker.ask("DELETE", &format!("/api/clients/{id}"), &[]).status;
        assert_eq!(delete("sub"), 204);
        victim.expect_close();
        watcher.expect_message("will/sub", "gone", 1);
        assert_eq!(delete("sub"), 409);
        assert_eq!(delete("no-such"), 404);
        let (_back, session_present) = broker.resume("sub");
        assert!(session_present);
        broker.await_log(|line| line.contains("closed by an operator") && line.contains("sub"));
        assert_eq!(broker.ask("POST", "/api/clients/sub", &[]).status, 405);
    });
}

#[test]
fn retained_messages_are_read_and_removed() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        let mut client = broker.connect("pub");
        let mut live = broker.connect("sub");
        live.subscribe("#", 1);
        let topics: Vec<String> = (0..broker.shards)
            .map(|shard| broker.topic_on(shard, "a/ü b/"))
            .collect();
        for topic in &topics {
            client.retain(topic, b"\x00\xffpayload", 1);
            live.expect_message(topic, b"\x00\xffpayload", 1);
        }
        for topic in &topics {
            let path = format!("/api/retained/{}", topic.replace('ü', "%C3%BC").replace(' ', "%20"));
            let got = broker.get(&path);
            assert_eq!((got.status, &got.body[..]), (200, &b"\x00\xffpayload"[..]));
            assert_eq!(got.headers["ringmq-qos"], "1");
            assert_eq!(got.headers["content-disposition"], "attachment");
            assert_eq!(broker.ask("DELETE", &path, &[]).status, 204);
            assert_eq!(broker.get(&path).status, 404);
            assert_eq!(broker.ask("DELETE", &path, &[]).status, 404);
        }
        // Those who have seen the message are told nothing.
        live.expect_silence();
        let mut late = broker.connect("late");
        late.subscribe("a/#", 1);
        late.expect_silence();
        assert_eq!(broker.metrics().sum("ringmq_retained_messages", &[]), 0);
        for path in ["/api/retained/", "/api/retained/a/%23", "/api/retained/a/+"] {
            assert_eq!(broker.get(path).status, 400, "{path}");
        }
        assert_eq!(
            broker.ask("DELETE", "/api/retained/$SYS/broker/version", &[]).status,
            403
        );
    });
}

#[test]
fn shards_tell_their_numbers_while_they_work() {
    on_shards(&[1, 3], &ADMIN, |broker| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut client = broker.connect("pub");
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.publish("load", "x", 1);
                    sent += 1;
                }
                sent
            });
            let begun = Instant::now();
            for _ in 0..50 {
                let all = json_of(broker, "/api/shards");
                assert_eq!(all["shards"].as_array().map(Vec::len), Some(usize::from(broker.shards)));
                json_of(broker, "/api/clients?limit=10");
                json_of(broker, "/api/slowest");
                assert_eq!(broker.get("/metrics").status, 200);
                assert_eq!(broker.get("/readyz").status, 200);
            }
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            stop.store(true, Ordering::Relaxed);
            let sent: u64 = load.join().expect("the load ran");
            assert!(sent > 0);
            let all = json_of(broker, "/api/shards");
            let shards = all["shards"].as_array().expect("a list");
            let received: u64 = shards
                .iter()
                .map(|shard| shard["messages_received"].as_u64().expect("a number"))
                .sum();
            assert_eq!(received, sent);
            assert!(
                shards
                    .iter()
                    .all(|shard| shard["up"] == true && shard["dropped"]["queue_full"] == 0)
            );
        });
    });
}

#[test]
fn a_shard_that_stands_still_is_not_asked_for_long() {
    on_shards(&[3], &ADMIN, |broker| {
        let _client = broker.connect("sub");
        let id = broker.id_on(2, "there");
        let stall = broker.stall(2);
        let begun = Instant::now();
        // The first question waits for its time, those after it do not.
        for _ in 0..10 {
            assert_eq!(broker.get(&format!("/api/clients/{id}")).status, 503);
        }
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
        assert_eq!(json_of(broker, "/api/clients/sub")["connected"], true);
        assert_eq!(json_of(broker, "/api/shards")["shards"][2]["up"], false);
        let slowest = json_of(broker, "/api/slowest");
        assert_eq!(slowest["complete"], false);
        drop(stall);
        broker.await_answer(&format!("/api/clients/{id}"), |answer| answer.status == 404);
    });
}

#[test]
fn the_token_guards_the_api() {
    let folder = Folder::new();
    let file = folder.write("token", "a-token-of-some-length\n");
    let broker = Broker::start(1, &[&ADMIN[..], &["--admin-token-file", &file]].concat());
    let _client = broker.connect("sub");
    for (method, path) in [
        ("GET", "/api/shards"),
        ("GET", "/api/clients/sub"),
        ("DELETE", "/api/clients/sub"),
        ("DELETE", "/api/retained/t"),
    ] {
        assert_eq!(broker.ask(method, path, &[]).status, 401, "{method} {path}");
    }
    let token = "Authorization: Bearer a-token-of-some-length";
    assert_eq!(broker.ask("GET", "/api/clients/sub", &[token]).status, 200);
}
