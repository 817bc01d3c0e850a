//! Frames of a client, taken apart where they lie.
//!
//! Payload is unmasked and moved together in the caller's buffer, so a frame of any length needs no memory: what is kept
//! between two reads is the part of a header (14 bytes at most), where in a payload the client is, and what a control
//! frame says (125 bytes at most). Knows no socket; whoever reads decides what is answered.

use std::io::Cursor;

use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::WebSocketError;

/// Where in a client's stream of frames its last byte was.
///
/// Invariants: `header_len < HEADER_BYTES_MAX`; while `left > 0`, `header_len == 0`; `said` has what a control frame that is
/// under way has brought, else it is empty.
#[derive(Debug)]
pub(super) struct Frames {
    /// A header that is not whole, its first `header_len` bytes.
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    /// Payload of the frame under way that has not come yet.
    left: u64,
    kind: OpCode,
    /// The mask, turned so that its first byte is for the next one that comes.
    mask: [u8; 4],
    /// A message has begun and not ended: only continuations and control frames may come.
    in_message: bool,
    said: Vec<u8>,
    /// What the last ping said, until its pong is made; earlier ones need none (section 5.5.3).
    pub(super) ping: Option<Vec<u8>>,
}

/// What comes behind the payload that was given out: nothing any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The client closes, and is answered with this code.
    Closed(u16),
    /// It broke a rule.
    Broken(WebSocketError),
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames {
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            left: 0,
            kind: OpCode::Data(Data::Binary),
            mask: [0; 4],
            in_message: false,
            said: Vec::new(),
            ping: None,
        }
    }

    /// Takes what arrived, and leaves its payload at the beginning of `bytes`: how much there is, and whether that was all that
    /// will ever come. O(bytes), in place.
    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> (usize, Option<End>) {
        let (mut at, mut filled) = (0, 0);
        while at < bytes.len() {
            if self.left == 0 {
                match self.take_header(&bytes[at..]) {
                    Ok(taken) => at += taken,
                    Err(error) => return (filled, Some(End::Broken(error))),
                }
            } else {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.unmask(&mut bytes[at..at + here]);
                if let OpCode::Control(_) = self.kind {
                    self.said.extend_from_slice(&bytes[at..at + here]);
                } else {
                    bytes.copy_within(at..at + here, filled);
                    filled += here;
                }
                at += here;
                self.left -= here as u64;
            }
            if self.left == 0
                && self.header_len == 0
                && let Some(end) = self.frame_ended()
            {
                return (filled, Some(end));
            }
        }
        (filled, None)
    }

    /// Takes what belongs to a header; says how much that was.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, WebSocketError> {
        let before = self.header_len;
        let more = bytes.len().min(HEADER_BYTES_MAX - before);
        self.header[before..before + more].copy_from_slice(&bytes[..more]);
        let mut cursor = Cursor::new(&self.header[..before + more]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| match error {
            Error::Protocol(ProtocolError::InvalidOpcode(_)) => WebSocketError::ReservedOpcode,
            _ => WebSocketError::Length,
        })?;
        let Some((header, length)) = parsed else {
            self.header_len += more;
            return Ok(more);
        };
        let size = usize::try_from(cursor.position()).expect("at most the size of a header");
        self.begin(&header, length, size)?;
        self.header_len = 0;
        Ok(size - before)
    }

    fn begin(&mut self, header: &FrameHeader, length: u64, size: usize) -> Result<(), WebSocketError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(WebSocketError::ReservedBits);
        }
        self.mask = header.mask.ok_or(WebSocketError::Unmasked)?;
        if size != header.len(length) || length >> 63 != 0 {
            return Err(WebSocketError::Length);
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > CONTROL_BYTES_MAX => {
                return Err(WebSocketError::ControlFrame);
            }
            OpCode::Control(_) => {}
            OpCode::Data(Data::Text) => return Err(WebSocketError::TextFrame),
            OpCode::Data(kind) => {
                if self.in_message != (kind == Data::Continue) {
                    return Err(WebSocketError::Fragments);
                }
                self.in_message = !header.is_final;
            }
        }
        if length > FRAME_BYTES_MAX {
            return Err(WebSocketError::FrameTooLarge {
                limit: FRAME_BYTES_MAX,
                got: length,
            });
        }
        (self.kind, self.left) = (header.opcode, length);
        Ok(())
    }

    fn unmask(&mut self, bytes: &mut [u8]) {
        let mask: [u8; 16] = std::array::from_fn(|index| self.mask[index % 4]);
        let mut chunks = bytes.chunks_exact_mut(16);
        for chunk in &mut chunks {
            chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        }
        let rest = chunks.into_remainder();
        rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        self.mask.rotate_left(rest.len() % 4);
    }

    /// All of a frame is there.
    fn frame_ended(&mut self) -> Option<End> {
        let OpCode::Control(kind) = self.kind else {
            return None;
        };
        // What follows is about the next frame.
        self.kind = OpCode::Data(Data::Continue);
        let said = std::mem::take(&mut self.said);
        match kind {
            Control::Ping => self.ping = Some(said),
            Control::Close => return Some(close(&said)),
            Control::Pong | Control::Reserved(_) => {}
        }
        None
    }
}

/// How a close frame is answered: with its own code.
fn close(said: &[u8]) -> End {
    match said {
        [] => End::Closed(CloseCode::Normal.into()),
        [high, low, reason @ ..] => {
            let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
            if code.is_allowed() && str::from_utf8(reason).is_ok() {
                End::Closed(code.into())
            } else {
                End::Broken(WebSocketError::CloseFrame)
            }
        }
        [_] => End::Broken(WebSocketError::CloseFrame),
    }
}

/// The header of a frame that the broker sends, of this many bytes.
pub(super) fn header(kind: OpCode, length: usize) -> ([u8; SENT_HEADER_BYTES_MAX], usize) {
    let header = FrameHeader {
        opcode: kind,
        ..FrameHeader::default()
    };
    let mut bytes = [0; SENT_HEADER_BYTES_MAX];
    let size = header.len(length as u64);
    header
        .format(length as u64, &mut &mut bytes[..])
        .expect("the array has room for the longest header");
    (bytes, size)
}

/// A whole control frame.
pub(super) fn control(kind: Control, said: &[u8]) -> Vec<u8> {
    let (header, size) = header(OpCode::Control(kind), said.len());
    [&header[..size], said].concat()
}

/// Two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;
/// The same without mask: servers send none.
pub(super) const SENT_HEADER_BYTES_MAX: usize = 10;
/// RFC 6455, section 5.5.
const CONTROL_BYTES_MAX: u64 = 125;
/// Costs no memory, so it bounds nothing but mistakes: more than the largest packet of MQTT, many times.
const FRAME_BYTES_MAX: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::protocol::frame::Frame;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = match payload.len() {
            short @ 0..126 => vec![0x80 | short as u8],
            middle @ 126..65_536 => [&[0xfe][..], &(middle as u16).to_be_bytes()].concat(),
            long => [&[0xff][..], &(long as u64).to_be_bytes()].concat(),
        };
        let body = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [&[first][..], &length, &MASK]
            .concat()
            .into_iter()
            .chain(body)
            .collect()
    }

    fn decode_all(bytes: &[u8]) -> (Vec<u8>, Option<End>, Option<Vec<u8>>) {
        let mut frames = Frames::new();
        let mut buffer = bytes.to_vec();
        let (filled, end) = frames.decode(&mut buffer);
        buffer.truncate(filled);
        (buffer, end, frames.ping)
    }

    #[test]
    fn the_example_of_the_rfc_is_unmasked() {
        // Section 5.7, as binary.
        let bytes = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(decode_all(&bytes), (b"Hello".to_vec(), None, None));
    }

    #[test]
    fn fragments_and_pings_between_them_are_one_stream() {
        let bytes = [
            masked(0x02, b"on"),
            masked(0x89, b"first"),
            masked(0x00, b""),
            masked(0x89, b"are you there"),
            masked(0x8a, b"unasked"),
            masked(0x80, b"e "),
            masked(0x82, b""),
            masked(0x82, &[b'x'; 300]),
        ]
        .concat();
        let expected = [&b"one "[..], &[b'x'; 300]].concat();
        assert_eq!(decode_all(&bytes), (expected, None, Some(b"are you there".to_vec())));
    }

    #[test]
    fn frames_that_break_a_rule_end_it_with_the_code_for_it() {
        let mut not_minimal = masked(0x82, &[]);
        not_minimal.splice(1..2, [0xfe, 0, 125]);
        let header = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &MASK].concat();
        for (frame, expected, code) in [
            (masked(0x81, b"text"), WebSocketError::TextFrame, 1003),
            (vec![0x82, 0x01, b'x'], WebSocketError::Unmasked, 1002),
            (masked(0xc2, b"x"), WebSocketError::ReservedBits, 1002),
            (masked(0xa2, b"x"), WebSocketError::ReservedBits, 1002),
            (masked(0x92, b"x"), WebSocketError::ReservedBits, 1002),
            (masked(0x83, b"x"), WebSocketError::ReservedOpcode, 1002),
            (masked(0x8b, b"x"), WebSocketError::ReservedOpcode, 1002),
            (masked(0x80, b"x"), WebSocketError::Fragments, 1002),
            (
                [masked(0x02, b""), masked(0x82, b"x")].concat(),
                WebSocketError::Fragments,
                1002,
            ),
            (masked(0x09, b"x"), WebSocketError::ControlFrame, 1002),
            (masked(0x89, &[0; 126]), WebSocketError::ControlFrame, 1002),
            (not_minimal, WebSocketError::Length, 1002),
            (header(65_535), WebSocketError::Length, 1002),
            (header(1 << 63), WebSocketError::Length, 1002),
            (header(u64::MAX), WebSocketError::Length, 1002),
            (
                header((1 << 32) + 1),
                WebSocketError::FrameTooLarge {
                    limit: 1 << 32,
                    got: (1 << 32) + 1,
                },
                1009,
            ),
            (masked(0x88, &[3]), WebSocketError::CloseFrame, 1002),
            (masked(0x88, &1005_u16.to_be_bytes()), WebSocketError::CloseFrame, 1002),
            (masked(0x88, &[0x03, 0xe8, 0xff]), WebSocketError::CloseFrame, 1002),
        ] {
            let before = masked(0x82, b"before");
            let whole = [before, frame, masked(0x82, b"after")].concat();
            let (payload, end, _) = decode_all(&whole);
            assert_eq!(
                (&payload[..], end),
                (&b"before"[..], Some(End::Broken(expected))),
                "{whole:?}"
            );
            assert_eq!(expected.close_code(), code);
            assert_eq!(expected.status(), None);
        }
        assert_eq!(decode_all(&header(1 << 32)), (vec![], None, None));
    }

    #[test]
    fn close_is_answered_with_its_code_and_nothing_after_it_counts() {
        for (said, code) in [
            (&[][..], 1000),
            (&[0x03, 0xe8], 1000),
            (&[0x03, 0xe9, b'b', b'y', b'e'], 1001),
            (&[0x0f, 0xa0], 4000),
        ] {
            let bytes = [masked(0x88, said), masked(0x82, b"after")].concat();
            assert_eq!(decode_all(&bytes), (vec![], Some(End::Closed(code)), None));
        }
    }

    #[test]
    fn headers_that_are_sent_have_the_shortest_length() {
        for (length, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let (bytes, size) = header(OpCode::Data(Data::Binary), length);
            assert_eq!(&bytes[..size], expected);
        }
        assert_eq!(control(Control::Close, &1002_u16.to_be_bytes()), [0x88, 2, 0x03, 0xea]);
    }

    proptest! {
        /// However the stream is cut, and in frames of whatever size, the same payload comes out; framed by tungstenite.
        #[test]
        fn cuts_change_nothing(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..400), any::<[u8; 4]>(), any::<bool>()), 1..12),
            cuts in prop::collection::vec(1_usize..40, 1..40),
        ) {
            let (mut sent, mut expected, mut in_message) = (Vec::new(), Vec::new(), false);
            for (payload, mask, is_final) in pieces {
                let kind = if in_message { Data::Continue } else { Data::Binary };
                let mut frame = Frame::message(payload.clone(), OpCode::Data(kind), is_final);
                frame.header_mut().mask = Some(mask);
                frame.format(&mut sent).unwrap();
                let mut ping = Frame::ping(payload[..payload.len().min(125)].to_vec());
                ping.header_mut().mask = Some(mask);
                ping.format(&mut sent).unwrap();
                expected.extend(payload);
                in_message = !is_final;
            }
            let (mut frames, mut got, mut cuts) = (Frames::new(), Vec::new(), cuts.into_iter().cycle());
            let mut rest = &mut sent[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at_mut(cuts.next().unwrap().min(rest.len()));
                let (filled, end) = frames.decode(piece);
                prop_assert_eq!(end, None);
                got.extend_from_slice(&piece[..filled]);
                rest = after;
            }
            prop_assert_eq!(got, expected);
        }

        /// No bytes make it panic, or give out more than came.
        #[test]
        fn any_bytes_are_judged(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let len = bytes.len();
            prop_assert!(Frames::new().decode(&mut bytes).0 <= len);
        }
    }
}
