//! The body of the fuzz target `websocket`: whatever a client sends, as a request or as frames, and however it is cut, the outcome
//! is the same, and what RFC 6455 says.
//!
//! Of an input the first byte says how the stream is cut, the second whether it is a request (even) or frames (odd); the rest
//! is the stream.

use super::WebSocketError;
use super::frames::{End, Frames};
use super::upgrade;
use crate::config::WebSocketConfig;

/// Takes `script` as a stream from a client; panics where the outcome is another than it should be.
pub fn fuzz_websocket(script: &[u8]) {
    let [cut, kind, stream @ ..] = script else { return };
    let piece = usize::from(*cut) + 1;
    if kind % 2 == 0 {
        fuzz_request(stream, piece);
    } else {
        fuzz_frames(stream, piece);
    }
}

fn fuzz_request(stream: &[u8], piece: usize) {
    let config = WebSocketConfig {
        path: "/mqtt".to_owned(),
        origins: vec!["https://a.example".to_owned()],
    };
    let whole = upgrade::judge(stream, stream.len(), &config);
    let mut received = Vec::new();
    let mut in_pieces = Ok(None);
    for part in stream.chunks(piece) {
        received.extend_from_slice(part);
        in_pieces = upgrade::judge(&received, part.len(), &config);
        if !matches!(in_pieces, Ok(None)) {
            break;
        }
    }
    assert_eq!(in_pieces, whole, "in pieces of {piece}");
    match whole {
        Ok(None) => {}
        Ok(Some((size, answer))) => {
            // The values of headers that mean nothing here need not be text.
            let request = String::from_utf8_lossy(&stream[..size]);
            // A line may end without CR (RFC 9112, section 2.2).
            let (line, headers) = request.split_once('\n').expect("it ends");
            let line = line.trim_end_matches('\r');
            let path = line
                .strip_prefix("GET ")
                .and_then(|line| line.strip_suffix(" HTTP/1.1"));
            let path = path.expect("it is for something").split('?').next().unwrap_or_default();
            assert!(path == "/mqtt" || path.ends_with("/mqtt"), "{line}");
            assert!(headers.to_ascii_lowercase().contains("sec-websocket-key"), "{headers}");
            let answer = str::from_utf8(&answer).expect("so is its answer");
            assert!(
                answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"),
                "{answer}"
            );
            assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{answer}");
        }
        Err(error) => {
            let refusal = upgrade::refusal(error);
            assert!(error.status().is_some() && refusal.starts_with(b"HTTP/1.1 4") && refusal.len() < 1_024);
        }
    }
}

fn fuzz_frames(stream: &[u8], piece: usize) {
    let whole = decode(stream, stream.len().max(1));
    let in_pieces = decode(stream, piece);
    assert_eq!(in_pieces, whole, "in pieces of {piece}");
    let (payload, end) = model(stream);
    assert_eq!(whole.payload, payload);
    match (end, whole.end) {
        (Expected::Nothing, None) => {}
        (Expected::Broken, Some(End::Broken(error))) => assert_eq!(error.status(), None),
        (Expected::Closed(wanted), Some(End::Closed(code))) => assert_eq!(wanted, code),
        (Expected::Unclear, Some(End::Closed(_) | End::Broken(_))) => {}
        // tungstenite says so before the header is whole.
        (Expected::Nothing, Some(End::Broken(WebSocketError::ReservedOpcode))) => {}
        (expected, got) => panic!("{got:?}, not {expected:?}"),
    }
}

#[derive(Debug, Eq, PartialEq)]
struct Outcome {
    payload: Vec<u8>,
    end: Option<End>,
    ping: Option<Vec<u8>>,
}

fn decode(stream: &[u8], piece: usize) -> Outcome {
    let mut frames = Frames::new();
    let (mut payload, mut end) = (Vec::new(), None);
    for part in stream.chunks(piece) {
        let mut part = part.to_vec();
        let (filled, ended) = frames.decode(&mut part);
        payload.extend_from_slice(&part[..filled]);
        end = ended;
        if end.is_some() {
            break;
        }
    }
    let ping = frames.ping;
    Outcome { payload, end, ping }
}

#[derive(Debug)]
enum Expected {
    Nothing,
    Closed(u16),
    Broken,
    /// A close code of which the RFC says little.
    Unclear,
}

/// Sections 5.2 to 5.5 and 7.4, as they stand there.
fn model(mut stream: &[u8]) -> (Vec<u8>, Expected) {
    let (mut payload, mut in_message) = (Vec::new(), false);
    loop {
        let Some((header, rest)) = Header::read(stream) else {
            return (payload, Expected::Nothing);
        };
        if !header.is_allowed(in_message) {
            return (payload, Expected::Broken);
        }
        let length = usize::try_from(header.length).expect("at most 4 GiB are allowed");
        let here: Vec<u8> = rest
            .iter()
            .take(length)
            .zip(header.mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        let is_whole = here.len() == length;
        stream = &rest[here.len()..];
        match header.opcode {
            0 | 2 => {
                payload.extend_from_slice(&here);
                in_message = !header.is_final;
            }
            8 if is_whole => return (payload, close(&here)),
            _ => {}
        }
        if !is_whole {
            return (payload, Expected::Nothing);
        }
    }
}

fn close(said: &[u8]) -> Expected {
    let [high, low, reason @ ..] = said else {
        return if said.is_empty() {
            Expected::Closed(1000)
        } else {
            Expected::Broken
        };
    };
    match u16::from_be_bytes([*high, *low]) {
        _ if str::from_utf8(reason).is_err() => Expected::Broken,
        0..1000 | 1005 | 1006 | 1015 => Expected::Broken,
        code @ (1000..=1003 | 1007..=1011 | 3000..5000) => Expected::Closed(code),
        _ => Expected::Unclear,
    }
}

struct Header {
    is_final: bool,
    reserved: u8,
    opcode: u8,
    is_masked: bool,
    mask: [u8; 4],
    length: u64,
    is_shortest: bool,
}

impl Header {
    /// `None`: it is not whole.
    fn read(stream: &[u8]) -> Option<(Header, &[u8])> {
        let ([first, second], rest) = stream.split_first_chunk()?;
        let (length, is_shortest, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = u64::from(u16::from_be_bytes(*length));
                (length, length >= 126, rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = u64::from_be_bytes(*length);
                (length, length > 0xffff && length < 1 << 63, rest)
            }
            short => (u64::from(short), true, rest),
        };
        let is_masked = second & 0x80 != 0;
        let (mask, rest) = if is_masked {
            rest.split_first_chunk()?
        } else {
            (&[0; 4], rest)
        };
        let header = Header {
            is_final: first & 0x80 != 0,
            reserved: first & 0x70,
            opcode: first & 0x0f,
            is_masked,
            mask: *mask,
            length,
            is_shortest,
        };
        Some((header, rest))
    }

    fn is_allowed(&self, in_message: bool) -> bool {
        let fits = match self.opcode {
            0 => in_message,
            2 => !in_message,
            8..=10 => self.is_final && self.length <= 125,
            // Text is not MQTT [MQTT-6.0.0-1], and the others are reserved.
            _ => false,
        };
        fits && self.reserved == 0 && self.is_masked && self.is_shortest && self.length <= 1 << 32
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// Every input of the committed corpus, through the function that the fuzzer calls.
    #[test]
    fn the_corpus_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/websocket");
        let mut inputs = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Shown if it fails.
            println!("{}", path.display());
            fuzz_websocket(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 10, "{inputs}");
    }

    proptest! {
        #[test]
        fn any_bytes_have_one_outcome(script in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_websocket(&script);
        }
    }
}
