//! A WebSocket client that others wrote (tungstenite), as a stream of bytes; and a raw one, which a test makes break the rules.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Error, Message, WebSocket};

use super::client::{Client, PATIENCE, Stream};

/// Payload of binary messages, in and out; what is written at once is one message.
#[derive(Debug)]
pub struct WebSocketStream {
    pub socket: WebSocket<Stream>,
    /// Of the last message, what was not read so far.
    rest: Bytes,
    /// What the broker has closed it with.
    pub close_code: Option<CloseCode>,
}

impl Read for WebSocketStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(payload)) => self.rest = payload,
                Ok(Message::Close(frame)) => self.close_code = frame.map(|frame| frame.code),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("the broker sent {other:?}"),
                Err(Error::ConnectionClosed) => return Ok(0),
                Err(Error::Io(error)) => return Err(error),
                Err(Error::Protocol(_)) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) => panic!("reading a WebSocket: {error}"),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

impl Write for WebSocketStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.send(Message::Binary(Bytes::copy_from_slice(bytes))) {
            Ok(()) => Ok(bytes.len()),
            Err(Error::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client behind an upgrade to `/mqtt`, over TLS where it has a configuration for that.
pub fn dial(addr: SocketAddr, config: Option<&Arc<ClientConfig>>) -> Client {
    let stream = match config {
        None => Stream::Tcp(socket(addr)),
        Some(config) => Stream::Tls(Box::new(super::tls::stream(addr, "localhost", config))),
    };
    upgrade(stream)
}

/// A client behind an upgrade to `/mqtt` on this stream.
pub fn upgrade(stream: Stream) -> Client {
    let mut request = "ws://localhost/mqtt".into_client_request().expect("an address");
    let protocol = HeaderValue::from_static("mqtt");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    let (socket, answer) = tungstenite::client(request, stream).expect("an upgrade");
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
    Client::over_websocket(WebSocketStream {
        socket,
        rest: Bytes::new(),
        close_code: None,
    })
}

/// A socket that waits for as long as anything may take.
pub fn socket(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&addr, PATIENCE).expect("the broker accepts connections");
    socket.set_nodelay(true).expect("an option of every TCP socket");
    socket.set_write_timeout(Some(PATIENCE)).expect("not zero");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket
}

/// The request of a browser.
pub fn request(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// The subprotocol, as a line of [`request`].
pub const MQTT: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

/// An open WebSocket whose frames are the test's own.
pub fn raw(addr: SocketAddr) -> TcpStream {
    let mut socket = socket(addr);
    socket
        .write_all(request("/mqtt", MQTT).as_bytes())
        .expect("the connection is open");
    let answer = head(&mut socket);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    socket
}

/// Reads up to the blank line.
pub fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let count = socket.read(&mut byte).expect("an answer");
        assert_eq!(count, 1, "the end of the stream after {head:?}");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// A masked frame: its first byte and its payload.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xa1, 0x02, 0xf3, 0x44];
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            bytes.push(0xfe);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0xff);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The next frame of the broker: its first byte and its payload; `None` at the end of the stream.
pub fn read_frame(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut exact = |len: usize| {
        let mut bytes = vec![0; len];
        socket.read_exact(&mut bytes).map(|()| bytes)
    };
    let head = match exact(2) {
        Ok(head) => head,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
        Err(error) => panic!("reading a frame: {error}"),
    };
    let number = |bytes: Vec<u8>| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let len = match head[1] {
        126 => number(exact(2).expect("a length")),
        127 => number(exact(8).expect("a length")),
        len => usize::from(len),
    };
    Some((head[0], exact(len).expect("the payload")))
}
