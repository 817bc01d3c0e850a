//! Clients whose password is a token: made by programs that nobody here wrote, or by a test that bends the rules.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use common::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

const SECRET: &str = "a secret of at least thirty-two bytes";

fn in_seconds(seconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_secs() + seconds
}

/// What is signed.
fn message(algorithm: &str, claims: &Value) -> String {
    let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    format!("{}.{}", part(&json!({"alg": algorithm, "typ": "JWT"})), part(claims))
}

/// By Python's hmac.
fn hs256(claims: &Value) -> String {
    let script = "import base64, hashlib, hmac, sys\n\
        tag = hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), hashlib.sha256).digest()\n\
        print(sys.argv[2] + '.' + base64.urlsafe_b64encode(tag).rstrip(b'=').decode(), end='')";
    let message = message("HS256", claims);
    let output = Command::new("python3").args(["-c", script, SECRET, &message]).output();
    String::from_utf8(output.expect("python3 is installed").stdout).expect("text")
}

/// By openssl, with the key in this file.
fn rs256(key: &str, claims: &Value) -> String {
    let message = message("RS256", claims);
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let mut input = openssl.stdin.take().expect("it is piped");
    input.write_all(message.as_bytes()).expect("it reads");
    drop(input);
    let signature = openssl.wait_with_output().expect("it ends").stdout;
    format!("{message}.{}", Base64UrlUnpadded::encode_string(&signature))
}

fn es256(pair: &rcgen::KeyPair, claims: &Value) -> String {
    let message = message("ES256", claims);
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der(), &random);
    let signature = key
        .expect("a key")
        .sign(&random, message.as_bytes())
        .expect("randomness");
    format!("{message}.{}", Base64UrlUnpadded::encode_string(signature.as_ref()))
}

/// Who says no name comes in too: what looks whether the broker is well does that.
fn with_secret(folder: &Folder) -> [String; 5] {
    let file = folder.write("secret", format!("{SECRET}\n"));
    ["--jwt-key-file", &file, "--jwt-algorithm", "HS256", "--allow-anonymous"].map(str::to_owned)
}

fn flags(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// The return code that a client with this token gets.
fn code(broker: &Broker, token: &str) -> u8 {
    let mut client = broker.dial();
    client.send(Connect::new("judged").user("anybody", token).encode());
    match client.recv() {
        Packet::Connack { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_algorithm_lets_its_own_tokens_in_and_no_others() {
    let folder = Folder::new();
    let rsa = folder.path("rsa.key");
    let openssl = |args: &[&str]| {
        let status = Command::new("openssl").args(args).stderr(Stdio::null()).status();
        assert!(status.expect("openssl is installed").success());
    };
    openssl(&[
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-out",
        &rsa,
    ]);
    openssl(&["pkey", "-in", &rsa, "-pubout", "-out", &folder.path("rsa.pem")]);
    let pair = rcgen::KeyPair::generate().expect("randomness");
    folder.write("ec.pem", pair.public_key_pem());
    folder.write("secret", SECRET);
    let claims = json!({"sub": "ann", "exp": in_seconds(1_000)});
    let tokens = [hs256(&claims), rs256(&rsa, &claims), es256(&pair, &claims)];
    for (own, algorithm, key) in [(0, "HS256", "secret"), (1, "RS256", "rsa.pem"), (2, "ES256", "ec.pem")] {
        let key = folder.path(key);
        let flags = [
            "--jwt-algorithm",
            algorithm,
            "--jwt-key-file",
            &key,
            "--allow-anonymous",
        ];
        on_shards(&[1, 3], &flags, |broker| {
            for (at, token) in tokens.iter().enumerate() {
                assert_eq!(
                    code(broker, token),
                    if at == own { 0 } else { 4 },
                    "{algorithm}: {token}"
                );
            }
            let expired = json!({"sub": "ann", "exp": in_seconds(0) - 1_000});
            assert_eq!(
                code(
                    broker,
                    &[hs256(&expired), rs256(&rsa, &expired), es256(&pair, &expired)][own]
                ),
                4
            );
            assert_eq!(code(broker, "no token"), 4);
            let log = broker.log_lines(|line| line.contains(&tokens[own][..20]));
            assert!(log.is_empty(), "{log:?}");
        });
    }
}

/// What the claim `acl` says counts on every path, whatever the file says; the token's name is the client's.
#[test]
fn a_token_s_list_is_the_client_s() {
    let folder = Folder::new();
    let acl = folder.write(
        "acl",
        "topic readwrite #\nuser ann\ntopic readwrite shared/#\nuser bob\ntopic readwrite #\n",
    );
    let mut settings = with_secret(&folder).to_vec();
    settings.extend(["--acl-file".to_owned(), acl]);
    on_shards(&[1, 3], &flags(&settings), |broker| {
        let come = |id: &str, claims: Value| {
            let (client, _) = broker.connect_as(&Connect::new(id).user("x", &hs256(&claims)));
            client
        };
        let exp = in_seconds(1_000);
        let mut bob = come(&broker.id_on(0, "bob"), json!({"sub": "bob", "exp": exp}));
        bob.subscribe("#", 1);
        let mut publisher = come("publisher", json!({"sub": "bob", "exp": exp}));
        let own = json!([
            "topic read narrow/+",
            "topic deny narrow/secret",
            "pattern write from/%u"
        ]);
        let id = broker.id_on(broker.shards - 1, "ann");
        let mut ann = come(&id, json!({"sub": "ann", "exp": exp, "acl": own}));
        ann.send(wire_subscribe(7, &["shared/#", "narrow/+"]));
        ann.expect(&Packet::Suback {
            id: 7,
            codes: vec![0x80, 1],
        });
        for topic in ["narrow/secret", "shared/x", "narrow/open"] {
            publisher.publish(topic, "x", 1);
            bob.expect_message(topic, "x", 1);
        }
        ann.expect_message("narrow/open", "x", 1);
        // What may not be published is acknowledged, and goes nowhere.
        ann.publish("shared/x", "no", 1);
        ann.publish("from/ann", "yes", 1);
        bob.expect_message("from/ann", "yes", 1);
        // Without a list of its own the same user is judged by the file.
        drop(ann);
        let mut ann = come(&id, json!({"sub": "ann", "exp": exp}));
        ann.publish("from/ann", "no", 1);
        ann.publish("shared/x", "yes", 1);
        bob.expect_message("shared/x", "yes", 1);
        bob.expect_silence();
    });
}

fn wire_subscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<_> = filters.iter().map(|filter| (*filter, 1)).collect();
    common::wire::subscribe(id, &filters)
}

#[test]
fn a_token_that_expires_ends_its_connection() {
    let folder = Folder::new();
    on_shards(&[1, 3], &flags(&with_secret(&folder)), |broker| {
        let mut watcher = broker.dial();
        let lasting = json!({"sub": "watcher", "exp": in_seconds(1_000)});
        watcher.connect(&Connect::new("watcher").user("x", &hs256(&lasting)));
        watcher.subscribe("will", 1);
        // The clocks of issuer and broker may lie half a minute apart; this one is over in three seconds.
        let token = hs256(&json!({"sub": "ann", "exp": in_seconds(3) - 30}));
        let connect = Connect::new(&broker.id_on(broker.shards - 1, "ann")).user("x", &token);
        let (mut client, _) = broker.connect_as(&connect.will(publish("will", "gone").qos(1, 0)));
        client.ping();
        client.expect_close();
        watcher.expect_message("will", "gone", 1);
        let line = broker.await_log(|line| line.contains("reason=\"authorization_expired\""));
        assert!(line.contains("ann"), "{line}");
        watcher.ping();
    });
}

/// A user of the password file needs its password, and a token says who anybody else is.
#[test]
fn passwords_and_tokens_stand_side_by_side_and_the_key_is_read_again() {
    let folder = Folder::new();
    let mut settings = with_secret(&folder).to_vec();
    // `secret`, as mosquitto_passwd 2.0.11 wrote it.
    let passwords = "ann:$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==\n";
    settings.extend(["--password-file".to_owned(), folder.write("passwords", passwords)]);
    let token = hs256(&json!({"sub": "bob", "exp": in_seconds(1_000)}));
    for shards in [1, 3] {
        folder.write("secret", SECRET);
        let broker = Broker::start(shards, &flags(&settings));
        let judged = |user: &str, password: &str| {
            let mut client = broker.dial();
            client.send(Connect::new("judged").user(user, password).encode());
            client.recv()
        };
        let answer = |code| Packet::Connack {
            session_present: false,
            code,
        };
        assert_eq!(judged("ann", "secret"), answer(0));
        assert_eq!(judged("ann", "wrong"), answer(4));
        assert_eq!(judged("ann", &token), answer(4), "the file knows her");
        assert_eq!(judged("bob", &token), answer(0));
        assert_eq!(judged("bob", "secret"), answer(4));
        let (mut stays, _) = broker.connect_as(&Connect::new("stays").user("bob", &token));
        folder.write("secret", "another secret of thirty-two bytes, or so");
        tls::reload(&broker);
        assert_eq!(judged("bob", &token), answer(4));
        stays.ping();
        folder.write("secret", "short");
        broker.signal("HUP");
        broker.await_log(|line| line.contains("not reloaded") && line.contains("32 bytes"));
        assert_eq!(judged("ann", "secret"), answer(0));
        broker.assert_well();
    }
}
