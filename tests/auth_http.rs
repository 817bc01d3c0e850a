//! Clients about whom a service is asked over HTTP: what it is told, and that what it says counts. How it fails is in
//! `auth_http_faults`.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use serde_json::{Value, json};

/// `secret`, as mosquitto_passwd 2.0.11 wrote it.
const ANN: &str = "ann:$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==\n";
const PASSWORD: &str = "hunter2-of-the-test";

/// Runs the scenario with 1 and 3 shards, each with a service of its own that judges like this. Who says no name comes in too: what
/// looks whether the broker is well does that.
fn each(
    flags: &[&str],
    judge: impl Fn(&Asked) -> Reply + Clone + Send + Sync + 'static,
    scenario: impl Fn(&Broker, &AuthService),
) {
    for shards in [1, 3] {
        let service = AuthService::start(judge.clone());
        let url = service.url();
        let usual = [
            "--auth-http-url",
            &url,
            "--allow-anonymous",
            "--admin-listen",
            "127.0.0.1:0",
        ];
        let broker = Broker::start(shards, &[&usual[..], flags].concat());
        scenario(&broker, &service);
        broker.assert_well();
    }
}

/// The return code of this CONNECT.
fn code(broker: &Broker, connect: &Connect) -> u8 {
    let mut client = broker.dial();
    client.send(connect.encode());
    match client.recv() {
        Packet::Connack { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

fn verdicts(metrics: &Metrics, outcome: &str) -> u64 {
    metrics.sum("ringmq_auth_http_verdicts_total", &[("outcome", outcome)])
}

/// Lets in whoever has the password, as whatever the test wants.
fn judge(more: Value) -> impl Fn(&Asked) -> Reply + Clone + Send + Sync + 'static {
    move |asked: &Asked| {
        let mut answer = more.clone();
        answer["allow"] = json!(asked.body["password"] == PASSWORD);
        Reply::Json(answer)
    }
}

#[test]
fn the_service_is_asked_what_the_client_said_and_decides() {
    let folder = Folder::new();
    let token = folder.write("token", "a-token-of-some-length\n");
    let flags = ["--auth-http-token-file", &token, "--log", "text/trace"];
    each(&flags, judge(json!({})), |broker, service| {
        let right = Connect::new("meter 7").user("ann", PASSWORD);
        assert_eq!(code(broker, &right), 0);
        assert_eq!(
            code(broker, &Connect::new("meter 8").user("ann", "wrong-of-the-test")),
            4
        );
        let mut binary = Connect::new("").user("", "");
        binary.password = Some(b"\xff\x00".to_vec());
        assert_eq!(code(broker, &binary), 4);
        let mut bare = right;
        bare.password = None;
        assert_eq!(code(broker, &bare), 4);
        let asked = service.asked();
        let address = "127.0.0.1";
        let bodies: Vec<&Value> = asked.iter().map(|asked| &asked.body).collect();
        assert_eq!(
            bodies,
            [
                &json!({"client_id": "meter 7", "user_name": "ann", "password": PASSWORD, "address": address}),
                &json!({"client_id": "meter 8", "user_name": "ann", "password": "wrong-of-the-test", "address": address}),
                &json!({"client_id": "", "user_name": "", "password_base64": "/wA=", "address": address}),
                &json!({"client_id": "meter 7", "user_name": "ann", "address": address}),
            ]
        );
        for asked in &asked {
            assert_eq!(asked.line, "POST /mqtt?realm=7 HTTP/1.1");
            for header in [
                "content-type: application/json",
                "authorization: Bearer a-token-of-some-length",
                &format!("host: {}", service.addr),
            ] {
                assert!(asked.headers.iter().any(|it| it == header), "{header}: {asked:?}");
            }
        }
        // Who gives no name is nobody, and nobody is asked.
        assert_eq!(code(broker, &Connect::new("anonymous")), 0);
        assert_eq!(service.asked().len(), 4);
        let metrics = broker.metrics();
        assert_eq!((verdicts(&metrics, "allowed"), verdicts(&metrics, "denied")), (1, 3));
        let told = broker.log_lines(|line| line.contains("of-the-test") || line.contains("a-token"));
        assert!(told.is_empty(), "{told:?}");
    });
}

/// Behind a proxy the service is told where the client is, as the proxy says.
#[test]
fn the_client_s_address_is_the_one_that_its_proxy_names() {
    for shards in [1, 3] {
        let service = AuthService::start(judge(json!({})));
        let url = service.url();
        let flags = [
            "--auth-http-url",
            &url,
            "--proxy-protocol",
            "--proxy-trusted",
            "127.0.0.1",
        ];
        let broker = Broker::start(shards, &flags);
        for (header, address) in [
            ("PROXY TCP4 192.0.2.7 192.0.2.1 5000 1883\r\n", "192.0.2.7"),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 5000 1883\r\n", "2001:db8::7"),
            (
                "PROXY TCP6 ::ffff:192.0.2.8 ::ffff:192.0.2.1 5000 1883\r\n",
                "192.0.2.8",
            ),
            ("PROXY UNKNOWN\r\n", "127.0.0.1"),
        ] {
            // Its home may be another shard than the one that read the header.
            let id = broker.id_on(shards - 1, address);
            let connect = Connect::new(&id).user("ann", PASSWORD);
            let mut client = broker.dial();
            client.send([header.as_bytes(), &connect.encode()].concat());
            assert!(matches!(client.recv(), Packet::Connack { code: 0, .. }));
            assert_eq!(service.asked().last().expect("asked").text("address"), address);
        }
    }
}

/// What the answer allows counts on every path, whatever the file says; the answer's name is the client's.
#[test]
fn a_list_in_the_answer_is_the_client_s() {
    let folder = Folder::new();
    let acl = folder.write(
        "acl",
        "topic readwrite #\nuser ann\ntopic readwrite shared/#\nuser bob\ntopic readwrite #\n",
    );
    let judge = |asked: &Asked| {
        Reply::Json(match asked.text("user_name") {
            "narrow" => json!({"allow": true, "user_name": "ann",
                "acl": ["topic read narrow/+", "topic deny narrow/secret", "pattern write from/%u"]}),
            "closed" => json!({"allow": true, "user_name": "ann", "acl": []}),
            "file" => json!({"allow": true, "user_name": "ann"}),
            _ => json!({"allow": true}),
        })
    };
    each(&["--acl-file", &acl], judge, |broker, _| {
        let come = |id: &str, user: &str| broker.connect_as(&Connect::new(id).user(user, "x")).0;
        let subscribe = |client: &mut Client, filters: &[&str], codes: &[u8]| {
            let filters: Vec<_> = filters.iter().map(|filter| (*filter, 1)).collect();
            client.send(wire::subscribe(7, &filters));
            let codes = codes.to_vec();
            client.expect(&Packet::Suback { id: 7, codes });
        };
        let mut bob = come(&broker.id_on(0, "bob"), "bob");
        bob.subscribe("#", 1);
        let mut publisher = come("publisher", "bob");
        let id = broker.id_on(broker.shards - 1, "ann");
        let mut ann = come(&id, "narrow");
        subscribe(&mut ann, &["shared/#", "narrow/+"], &[0x80, 1]);
        for topic in ["narrow/secret", "shared/x", "narrow/open"] {
            publisher.publish(topic, "x", 1);
            bob.expect_message(topic, "x", 1);
        }
        ann.expect_message("narrow/open", "x", 1);
        // What may not be published is acknowledged, and goes nowhere.
        ann.publish("shared/x", "no", 1);
        ann.publish("from/ann", "yes", 1);
        bob.expect_message("from/ann", "yes", 1);
        drop(ann);
        let mut ann = come(&id, "closed");
        subscribe(&mut ann, &["shared/#", "narrow/+"], &[0x80, 0x80]);
        ann.publish("from/ann", "no", 1);
        drop(ann);
        // Without a list of its own the same user is judged by the file.
        let mut ann = come(&id, "file");
        ann.publish("from/ann", "no", 1);
        ann.publish("shared/x", "yes", 1);
        bob.expect_message("shared/x", "yes", 1);
        bob.expect_silence();
    });
}

#[test]
fn what_the_service_says_ends_when_it_says() {
    let judge = |asked: &Asked| match asked.text("user_name") {
        "brief" => Reply::Json(json!({"allow": true, "expires_in": 1.5})),
        _ => Reply::Json(json!({"allow": true, "expires_in": 1e15})),
    };
    each(&[], judge, |broker, _| {
        let (mut watcher, _) = broker.connect_as(&Connect::new("watcher").user("lasting", "x"));
        watcher.subscribe("will", 1);
        let id = broker.id_on(broker.shards - 1, "ann");
        let connect = Connect::new(&id)
            .user("brief", "x")
            .will(publish("will", "gone").qos(1, 0));
        let (mut client, _) = broker.connect_as(&connect);
        client.ping();
        client.expect_close();
        watcher.expect_message("will", "gone", 1);
        broker.await_log(|line| line.contains("reason=\"authorization_expired\"") && line.contains(&id));
        watcher.ping();
    });
}

/// The service is not asked about whom somebody here knows.
#[test]
fn passwords_and_tokens_go_before_the_service() {
    let folder = Folder::new();
    let passwords = folder.write("passwords", ANN);
    let secret = folder.write("secret", "a secret of at least thirty-two bytes");
    let flags = [
        "--password-file",
        &passwords,
        "--jwt-key-file",
        &secret,
        "--jwt-algorithm",
        "HS256",
    ];
    each(&flags, judge(json!({})), |broker, service| {
        let known = |user: &str, password: &str| code(broker, &Connect::new("known").user(user, password));
        assert_eq!(known("ann", "secret"), 0);
        assert_eq!(known("ann", PASSWORD), 4);
        // Signed with another key: it is a token, and a bad one.
        let forged = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjk5OTk5OTk5OTl9.AAAA";
        assert_eq!(known("bob", forged), 4);
        assert!(service.asked().is_empty(), "{:?}", service.asked());
        assert_eq!(known("bob", PASSWORD), 0);
        assert_eq!(known("bob", "secret"), 4);
        assert_eq!(service.asked().len(), 2);
    });
}

#[test]
fn what_was_allowed_is_remembered_and_nothing_else() {
    let judge = |asked: &Asked| match asked.text("user_name") {
        "brief" => Reply::Json(json!({"allow": true, "expires_in": 3})),
        "gone" => Reply::status("500 Oops", "", ""),
        _ => judge(json!({"user_name": "somebody"}))(asked),
    };
    each(&["--auth-http-cache", "3600"], judge, |broker, service| {
        let right = Connect::new("ann").user("ann", PASSWORD);
        for _ in 0..3 {
            assert_eq!(code(broker, &right), 0);
        }
        assert_eq!(service.asked().len(), 1);
        for (connect, expected) in [
            (Connect::new("other").user("ann", PASSWORD), 0),
            (Connect::new("ann").user("bob", PASSWORD), 0),
            (Connect::new("ann").user("ann", "wrong"), 4),
            (Connect::new("ann").user("ann", "wrong"), 4),
            (Connect::new("ann").user("gone", PASSWORD), 3),
            (Connect::new("ann").user("gone", PASSWORD), 3),
        ] {
            assert_eq!(code(broker, &connect), expected, "{connect:?}");
        }
        assert_eq!(service.asked().len(), 7);
        let metrics = broker.metrics();
        let counted = ["allowed", "denied", "failed", "remembered", "overloaded"];
        assert_eq!(counted.map(|outcome| verdicts(&metrics, outcome)), [3, 2, 2, 2, 0]);
        // A reload forgets.
        tls::reload(broker);
        assert_eq!(code(broker, &right), 0);
        assert_eq!(service.asked().len(), 8);
        // What is remembered ends when the service said, for whoever comes in by it too.
        let brief = Connect::new("brief").user("brief", "x");
        let remembered = || verdicts(&broker.metrics(), "remembered");
        let mut by_memory = loop {
            let (_first, before) = (broker.connect_as(&brief), remembered());
            let (again, _) = broker.connect_as(&brief);
            // Unless the machine was so slow that it had ended by then.
            if remembered() > before {
                break again;
            }
        };
        by_memory.expect_close();
        broker.await_log(|line| line.contains("authorization_expired"));
        let (before, deadline) = (service.asked().len(), Instant::now() + PATIENCE);
        while service.asked().len() == before {
            assert!(Instant::now() < deadline, "it is remembered for longer than it is true");
            assert_eq!(code(broker, &brief), 0);
        }
    });
}

#[test]
fn what_is_remembered_ends_by_itself() {
    each(&["--auth-http-cache", "1"], judge(json!({})), |broker, service| {
        let deadline = Instant::now() + PATIENCE;
        while service.asked().len() < 3 {
            assert!(Instant::now() < deadline, "not asked again");
            assert_eq!(code(broker, &Connect::new("ann").user("ann", PASSWORD)), 0);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn a_reload_asks_another_service_with_another_token_or_changes_nothing() {
    for shards in [1, 3] {
        let folder = Folder::new();
        let services = [(); 2].map(|()| AuthService::start(judge(json!({}))));
        let token = folder.write("token", "the-first-token-of-two\n");
        let settings = |service: &AuthService, more: &str| {
            let text = format!(
                "auth_http_url = \"{}\"\nauth_http_token_file = \"{token}\"\nallow_anonymous = true\n{more}",
                service.url()
            );
            folder.write("r.toml", text)
        };
        let broker = Broker::start(shards, &["--config", &settings(&services[0], "")]);
        let mut served = broker.connect_as(&Connect::new("served").user("ann", PASSWORD)).0;
        let asked = || services.each_ref().map(|service| service.asked().len());
        let comes_in = || assert_eq!(code(&broker, &Connect::new("ann").user("ann", PASSWORD)), 0);
        assert_eq!(asked(), [1, 0]);

        settings(&services[1], "auth_http_timeout = 7\n");
        folder.write("token", "the-second-token-of-two\n");
        tls::reload(&broker);
        comes_in();
        assert_eq!(asked(), [1, 1]);
        let header = "authorization: Bearer the-second-token-of-two".to_owned();
        assert!(services[1].asked()[0].headers.contains(&header));

        // A bad one of anything leaves all as it was.
        for (bad, says) in [
            ("auth_http_timeout = 0\n", "--auth-http-timeout"),
            ("auth_http_ca = \"/nowhere\"\n", "--auth-http-ca"),
        ] {
            settings(&services[0], bad);
            broker.signal("HUP");
            broker.await_log(|line| line.contains("not reloaded") && line.contains(says));
            comes_in();
        }
        settings(&services[0], "");
        folder.write("token", "short\n");
        broker.signal("HUP");
        broker.await_log(|line| line.contains("not reloaded") && line.contains("token"));
        comes_in();
        assert_eq!(asked(), [1, 4]);
        served.ping();
        broker.assert_well();
    }
}

/// A service in Python, and Mosquitto's clients.
#[test]
fn others_services_and_clients_get_along() {
    if !is_installed("mosquitto_pub") || !is_installed("python3") {
        return;
    }
    let script = r#"
import http.server, json, sys
class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        allow = asked["password"] == "pass wörd"
        answer = json.dumps({"allow": allow, "acl": ["topic read in/#", "pattern write in/%c"]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;
    let python = Process::spawn(Command::new("python3").args(["-c", script]));
    let port = python.await_output(|output| output.lines().next().map(str::to_owned));
    let url = format!("http://localhost:{port}/");
    on_shards(&[1, 3], &["--auth-http-url", &url, "--allow-anonymous"], |broker| {
        let port = broker.addr.port().to_string();
        let mosquitto = |name: &str, id: &str, args: &[&str]| {
            let mut command = program(name);
            command
                .args(["-h", "127.0.0.1", "-p", &port, "-i", id, "-u", "ann", "-q", "1"])
                .args(args);
            command
        };
        let publish = |id: &str, password: &str, topic: &str| {
            let mut command = mosquitto("mosquitto_pub", id, &["-r", "-P", password, "-t", topic, "-m", id]);
            command
                .stderr(Stdio::null())
                .status()
                .expect("it is installed")
                .success()
        };
        assert!(!publish("eve", "guess", "in/eve"));
        // It is acknowledged, and goes nowhere.
        assert!(publish("other", "pass wörd", "in/somebody"));
        assert!(publish("meter", "pass wörd", "in/meter"));
        let args = ["-P", "pass wörd", "-t", "in/#", "-C", "1", "-W", "30"];
        let mut subscriber = Process::spawn(&mut mosquitto("mosquitto_sub", "sub", &args));
        assert!(subscriber.wait().success());
        assert_eq!(subscriber.output(), "meter\n");
        let (mut client, _) = broker.connect_as(&Connect::new("all").user("ann", "pass wörd"));
        client.subscribe("in/#", 1);
        client.expect_retained("in/meter", "meter", 1);
        client.expect_silence();
    });
}
