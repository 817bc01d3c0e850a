//! The client's half of a WebSocket (RFC 6455), with the subprotocol `mqtt`. tungstenite knows the form of the frames.

use std::io::{self, Cursor};

use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::broken;

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) struct WebSocket {
    /// As in the request's `Host`.
    pub(crate) host: String,
    pub(crate) path: String,
}

#[derive(Debug)]
pub(super) struct WebSocketLayer {
    state: State,
    /// An incomplete answer or header.
    tail: Vec<u8>,
    /// Of the frame whose header came last: what its payload is, and how much of it is to come.
    frame: Payload,
    left: u64,
    /// From which the masks are made. They keep proxies from being misled (RFC 6455, section 10.3), and here there are none.
    masks: u32,
}

#[derive(Debug)]
enum State {
    /// The request is to be sent.
    New {
        request: String,
        key: String,
    },
    /// It is sent; what is to follow waits for the answer.
    Asked {
        key: String,
        held: Vec<u8>,
    },
    Open,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Payload {
    Mqtt,
    Ignored,
    Ping,
}

impl WebSocketLayer {
    pub(super) fn new(wanted: &WebSocket) -> WebSocketLayer {
        let key = generate_key();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            wanted.path, wanted.host
        );
        WebSocketLayer {
            state: State::New { request, key },
            tail: Vec::new(),
            frame: Payload::Ignored,
            left: 0,
            masks: 0,
        }
    }

    /// All of `mqtt` in one frame.
    pub(super) fn seal(&mut self, mqtt: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.state {
            State::New { request, key } => {
                wire.extend_from_slice(request.as_bytes());
                let (key, held) = (std::mem::take(key), mqtt.to_vec());
                self.state = State::Asked { key, held };
                Ok(())
            }
            State::Asked { held, .. } => {
                held.extend_from_slice(mqtt);
                Ok(())
            }
            State::Open if mqtt.is_empty() => Ok(()),
            State::Open => self.put(OpCode::Data(Data::Binary), mqtt, wire),
        }
    }

    pub(super) fn open(&mut self, received: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.tail);
        bytes.extend_from_slice(received);
        let mut rest = &bytes[..];
        if let State::Asked { key, held } = &mut self.state {
            let Some(end) = rest.windows(4).position(|it| it == b"\r\n\r\n") else {
                self.tail = bytes;
                return Ok(());
            };
            check_answer(&rest[..end], key)?;
            rest = &rest[end + 4..];
            let held = std::mem::take(held);
            self.state = State::Open;
            self.seal(&held, wire)?;
        }
        loop {
            let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
            let (payload, behind) = rest.split_at(taken);
            match self.frame {
                Payload::Mqtt => plain.extend_from_slice(payload),
                Payload::Ignored => {}
                // A payload in pieces is answered in pieces, which nobody minds.
                Payload::Ping if taken > 0 => self.put(OpCode::Control(Control::Pong), payload, wire)?,
                Payload::Ping => {}
            }
            self.left -= taken as u64;
            rest = behind;
            let mut cursor = Cursor::new(rest);
            let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(broken)? else {
                break;
            };
            if header.mask.is_some() {
                return Err(broken("the broker masks its frames"));
            }
            let size = usize::try_from(cursor.position()).expect("a header is short");
            rest = &rest[size..];
            self.left = length;
            self.frame = match header.opcode {
                OpCode::Data(Data::Binary | Data::Continue) => Payload::Mqtt,
                OpCode::Control(Control::Ping) => Payload::Ping,
                OpCode::Control(Control::Pong | Control::Close) => Payload::Ignored,
                other => return Err(broken(format_args!("a frame of type {other} was not expected"))),
            };
        }
        self.tail = rest.to_vec();
        Ok(())
    }

    fn put(&mut self, opcode: OpCode, payload: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        self.masks = self.masks.wrapping_mul(0x9E37_79B1).wrapping_add(0x85EB_CA6B);
        let mask = self.masks.to_ne_bytes();
        let header = FrameHeader {
            is_final: true,
            rsv1: false,
            rsv2: false,
            rsv3: false,
            opcode,
            mask: Some(mask),
        };
        header.format(payload.len() as u64, wire).map_err(io::Error::other)?;
        wire.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Ok(())
    }
}

/// `101`, for this key and for MQTT.
fn check_answer(answer: &[u8], key: &str) -> io::Result<()> {
    let answer = String::from_utf8_lossy(answer);
    let mut lines = answer.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        return Err(broken(format_args!(
            "the broker answers the WebSocket request with {status:?}"
        )));
    }
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let has = |name: &str, value: &str| {
        let fits = |(its, given): &&(&str, &str)| its.eq_ignore_ascii_case(name) && given.trim() == value;
        headers.iter().any(|header| fits(&header))
    };
    if !has("Sec-WebSocket-Accept", &derive_accept_key(key.as_bytes())) || !has("Sec-WebSocket-Protocol", "mqtt") {
        return Err(broken("the broker answers some other WebSocket request"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An open connection and its key's answer.
    fn open() -> WebSocketLayer {
        let wanted = WebSocket {
            host: "h".to_owned(),
            path: "/mqtt".to_owned(),
        };
        let mut layer = WebSocketLayer::new(&wanted);
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        layer.seal(b"first", &mut wire).unwrap();
        let State::Asked { key, .. } = &layer.state else {
            unreachable!("it has asked")
        };
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        wire.clear();
        for byte in answer.bytes() {
            layer.open(&[byte], &mut plain, &mut wire).unwrap();
        }
        let unmasked: Vec<u8> = (0..5).map(|at| wire[6 + at] ^ wire[2 + at % 4]).collect();
        assert_eq!(
            (&wire[..2], &unmasked[..]),
            (&[0x82, 0x85][..], &b"first"[..]),
            "what waited follows"
        );
        layer
    }

    #[test]
    fn frames_come_in_any_pieces_with_pings_between() {
        let frames = [
            &[0x02, 3, b'a', b'b', b'c'][..],
            &[0x89, 2, b'h', b'i'],
            &[0x80, 1, b'd'],
            &[0x82, 126, 0, 2, b'e', b'f'],
            &[0x8a, 0],
            &[0x82, 1, b'g'],
        ]
        .concat();
        for cut in 1..frames.len() {
            let (mut layer, mut plain, mut wire) = (open(), Vec::new(), Vec::new());
            for part in frames.chunks(cut) {
                layer.open(part, &mut plain, &mut wire).unwrap();
            }
            assert_eq!(plain, b"abcdefg", "in pieces of {cut}");
            assert_eq!(wire[0], 0x8a, "the ping is answered");
        }
    }

    #[test]
    fn another_answer_and_masked_frames_are_refused() {
        for answer in [
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        ] {
            let wanted = WebSocket {
                host: "h".to_owned(),
                path: "/".to_owned(),
            };
            let mut layer = WebSocketLayer::new(&wanted);
            layer.seal(&[], &mut Vec::new()).unwrap();
            assert!(layer.open(answer.as_bytes(), &mut Vec::new(), &mut Vec::new()).is_err());
        }
        let masked = [0x82, 0x81, 1, 2, 3, 4, b'x'];
        assert!(open().open(&masked, &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
