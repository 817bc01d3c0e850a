use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use ringmq_shard::shard::UserName;
use serde_json::{Value, json};

use super::*;

fn credentials(password: Option<&[u8]>) -> Credentials {
    Credentials {
        client_id: "id".into(),
        user_name: "ann".into(),
        password: password.map(Into::into),
    }
}

fn question(credentials: &Credentials, address: Option<&str>) -> Value {
    let client = Client {
        credentials,
        address: address.map(|address| address.parse().unwrap()),
    };
    serde_json::from_slice(&client.question()).unwrap()
}

#[test]
fn the_service_is_told_what_the_client_said() {
    assert_eq!(
        question(&credentials(Some(b"s\"cret \xc3\xa4")), Some("192.0.2.7")),
        json!({"client_id": "id", "user_name": "ann", "password": "s\"cret ä", "address": "192.0.2.7"})
    );
    assert_eq!(
        question(&credentials(Some(b"\xff\x00\xfe")), Some("2001:db8::1")),
        json!({"client_id": "id", "user_name": "ann", "password_base64": "/wD+", "address": "2001:db8::1"})
    );
    assert_eq!(
        question(&credentials(Some(b"")), None),
        json!({"client_id": "id", "user_name": "ann", "password": ""})
    );
    assert_eq!(
        question(&credentials(None), None),
        json!({"client_id": "id", "user_name": "ann"})
    );
}

fn service(url: &str, timeout: Duration) -> Service {
    let config = AuthHttpConfig {
        url: url.parse().unwrap(),
        timeout,
        token_file: None,
        ca_file: None,
        threads: 1,
        cache: Duration::ZERO,
    };
    Service::read(&config).unwrap()
}

/// What a server does that has read the whole request.
enum Server<'a> {
    Answers(&'a [u8]),
    /// And stays, as long as the other end does.
    SaysNothing,
    /// A byte now and then.
    Drips(&'a [u8]),
}

/// What comes of asking it.
fn asked(server: &Server<'_>, timeout: Duration) -> Result<Result<Verified, AuthenticationError>, ServiceError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/auth?realm=1", listener.local_addr().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut some = [0; 1_024];
                let read = socket.read(&mut some).unwrap();
                assert!(read > 0, "the whole request comes");
                request.extend_from_slice(&some[..read]);
            }
            assert!(request.starts_with(b"POST /auth?realm=1 HTTP/1.1\r\n"));
            match server {
                // It may be cut off.
                Server::Answers(answer) => drop(socket.write_all(answer)),
                Server::SaysNothing => assert_eq!(socket.read(&mut [0]).unwrap_or_default(), 0),
                Server::Drips(answer) => {
                    for byte in *answer {
                        if socket.write_all(&[*byte]).is_err() {
                            break;
                        }
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        });
        let credentials = credentials(Some(b"secret"));
        service(&url, timeout).ask(&Client {
            credentials: &credentials,
            address: None,
        })
    })
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

const ALLOWED: &str = r#"{"allow": true}"#;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn only_200_with_an_answer_counts() {
    let padded = |len: usize| format!("{ALLOWED}{}", " ".repeat(len - ALLOWED.len()));
    let ann = Ok(UserName::from("ann").into());
    for (bytes, verdict) in [
        (answer("200 OK", "", ALLOWED), &ann),
        (answer("200 OK", "Content-Type: text/html\r\n", ALLOWED), &ann),
        (answer("200 OK", "", &padded(65_536)), &ann),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{\"allow\": true}\r\n0\r\n\r\n".to_vec(),
            &ann,
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n{\"allow\": true}".to_vec(), &ann),
        (
            answer("200 OK", "", r#"{"allow": false}"#),
            &Err(AuthenticationError::BadCredentials),
        ),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..60.min(bytes.len())]).into_owned();
        let judged = asked(&Server::Answers(&bytes), LONG).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(&judged, verdict, "{shown}");
    }
    let chunk = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n{}",
        padded(65_537)
    );
    for (bytes, label, expected) in [
        (answer("201 Created", "", ALLOWED), "status", "status 201"),
        (answer("204 No Content", "", ""), "status", "status 204"),
        (answer("401 Unauthorized", "", ALLOWED), "status", "status 401"),
        (answer("500 Oops", "", ALLOWED), "status", "status 500"),
        (
            answer("302 Found", "Location: http://127.0.0.1:1/\r\n", ALLOWED),
            "status",
            "status 302",
        ),
        (
            answer("307 Temporary Redirect", "Location: /other\r\n", ALLOWED),
            "status",
            "status 307",
        ),
        (answer("200 OK", "", "yes"), "answer", "JSON"),
        (answer("200 OK", "", ""), "answer", "JSON"),
        (answer("200 OK", "", &padded(65_537)), "answer", "more than 65536"),
        (chunk.into_bytes(), "answer", "more than 65536"),
        // It ends in the middle, or is no HTTP.
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"allow\": true}".to_vec(),
            "exchange",
            "",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-".to_vec(), "exchange", ""),
        (b"".to_vec(), "exchange", ""),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "exchange", ""),
        (
            answer("200 OK", &format!("X: {}\r\n", "x".repeat(70_000)), ALLOWED),
            "exchange",
            "",
        ),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..60.min(bytes.len())]).into_owned();
        let error = asked(&Server::Answers(&bytes), LONG).expect_err(&shown);
        assert_eq!(error.label(), label, "{shown}: {error}");
        assert!(error.to_string().contains(expected), "{shown}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn silence_and_absence_are_told_apart() {
    let second = Duration::from_secs(1);
    let slow = answer("200 OK", "", &format!("{ALLOWED}{}", " ".repeat(100)));
    for server in [Server::SaysNothing, Server::Drips(&slow)] {
        let error = asked(&server, second).expect_err("it takes too long");
        assert_eq!(
            error.to_string(),
            "no answer within 1 s, the time of --auth-http-timeout"
        );
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let credentials = credentials(None);
    let client = Client {
        credentials: &credentials,
        address: None,
    };
    for (url, expected) in [
        (format!("http://{free}/"), "refused"),
        ("http://no-such-host.invalid/".to_owned(), ""),
    ] {
        let error = service(&url, LONG).ask(&client).expect_err(&url);
        assert_eq!(error.label(), "exchange");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn tokens_are_shown_to_nobody_else() {
    let folder = std::env::temp_dir().join(format!("ringmq-service-{}", std::process::id()));
    std::fs::write(&folder, "a-token-of-some-length\n").unwrap();
    let config = AuthHttpConfig {
        url: "http://127.0.0.1/".parse().unwrap(),
        timeout: LONG,
        token_file: Some(folder.clone()),
        ca_file: None,
        threads: 1,
        cache: Duration::ZERO,
    };
    let service = Service::read(&config);
    std::fs::remove_file(&folder).unwrap();
    let shown = format!("{:?}", service.unwrap());
    assert!(shown.contains("127.0.0.1") && !shown.contains("a-token"), "{shown}");
}
