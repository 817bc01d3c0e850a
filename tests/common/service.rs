//! A service that says who clients are, over HTTP or HTTPS; what it says is up to the test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::client::PATIENCE;
use super::tls::Pair;

/// One question, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST /path HTTP/1.1`
    pub line: String,
    /// `name: value`, the name in lower case.
    pub headers: Vec<String>,
    pub body: Value,
}

impl Asked {
    /// A field of the question that is a text.
    pub fn text(&self, field: &str) -> &str {
        self.body[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field}: {self:?}"))
    }
}

/// What the service does.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status 200 with this JSON; the connection stays open.
    Json(Value),
    /// These bytes, and closes.
    Bytes(Vec<u8>),
    /// Nothing, until the other end hangs up.
    Silence,
}

impl Reply {
    /// An answer with this status and body.
    pub fn status(status: &str, headers: &str, body: &str) -> Reply {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}");
        Reply::Bytes(format!("{head}\r\n{body}").into_bytes())
    }
}

/// A running service; it stops when it is dropped.
pub struct AuthService {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    judge: Box<dyn Fn(&Asked) -> Reply + Send + Sync>,
    tls: Option<Arc<ServerConfig>>,
    asked: Mutex<Vec<Asked>>,
    more: Condvar,
    open: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
}

impl AuthService {
    /// On a free port of the loopback interface. `judge` runs on the connection's own thread, and may block.
    pub fn start(judge: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> AuthService {
        AuthService::start_at("127.0.0.1:0".parse().expect("an address"), None, judge)
    }

    /// At this address, with this certificate or plain.
    pub fn start_at(
        addr: SocketAddr,
        pair: Option<&Pair>,
        judge: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> AuthService {
        let listener = TcpListener::bind(addr).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            judge: Box::new(judge),
            tls: pair.map(tls),
            asked: Mutex::default(),
            more: Condvar::new(),
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for socket in listener.incoming() {
                    if shared.stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let socket = socket.expect("the listener is open");
                    let other = socket.try_clone().expect("a descriptor");
                    shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(other);
                    let shared = Arc::clone(&shared);
                    // What it meets at the end of a connection is the other side's business.
                    thread::spawn(move || {
                        let other = socket.try_clone().expect("a descriptor");
                        drop(shared.serve(socket));
                        let _ = other.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        AuthService {
            addr,
            shared,
            accepting: Some(accepting),
        }
    }

    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/mqtt?realm=7", self.addr)
    }

    /// Every question so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there were so many questions, and gives them.
    pub fn await_asked(&self, count: usize) -> Vec<Asked> {
        let deadline = Instant::now() + PATIENCE;
        let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while asked.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "asked {} times, not {count}", asked.len());
            asked = self.shared.more.wait_timeout(asked, left).expect("no thread panics").0;
        }
        asked.clone()
    }
}

impl Drop for AuthService {
    /// Nobody listens any more, and every connection is over.
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The listener waits for one more.
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for socket in self
            .shared
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        match &self.tls {
            None => self.answer(socket),
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).expect("a sound configuration");
                self.answer(StreamOwned::new(connection, socket))
            }
        }
    }

    fn answer(&self, stream: impl Read + Write) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(asked) = take_question(&mut stream)? {
            self.asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(asked.clone());
            self.more.notify_all();
            match (self.judge)(&asked) {
                Reply::Json(json) => {
                    let body = json.to_string();
                    let length = body.len();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                    stream.get_mut().write_all(answer.as_bytes())?;
                    stream.get_mut().flush()?;
                }
                Reply::Bytes(bytes) => {
                    stream.get_mut().write_all(&bytes)?;
                    return stream.get_mut().flush();
                }
                Reply::Silence => {
                    stream.read_to_end(&mut Vec::new())?;
                }
            }
        }
        Ok(())
    }
}

/// `None`: the connection is over.
fn take_question(stream: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut headers = Vec::new();
    for line in head.iter().skip(1) {
        let (name, value) = line.split_once(':').ok_or_else(broken)?;
        headers.push(format!("{}: {}", name.to_lowercase(), value.trim()));
    }
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).ok_or_else(broken)?];
    stream.read_exact(&mut body)?;
    Ok(Some(Asked {
        line: head.swap_remove(0),
        headers,
        body: serde_json::from_slice(&body)?,
    }))
}

fn tls(pair: &Pair) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of this provider")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.expect("key and certificate fit"))
}

/// What keeps judges waiting until it opens.
#[derive(Debug, Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opens: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opens.notify_all();
    }

    /// Waits until it is open, or for longer than any test.
    pub fn pass(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self
            .opens
            .wait_timeout_while(is_open, 3 * PATIENCE, |is_open| !*is_open);
        drop(wait.expect("no thread panics"));
    }
}
