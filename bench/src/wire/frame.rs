//! Cuts a byte stream into Control Packets.

/// One whole Control Packet inside a receive buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// The first byte of the fixed header: type in the high half, flags in the low half.
    pub(crate) first: u8,
    /// Everything after the fixed header; Remaining Length bytes.
    pub(crate) body: &'a [u8],
    /// The whole packet, fixed header included.
    pub(crate) bytes: &'a [u8],
}

/// The peer sent something that cannot be a Control Packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The Remaining Length runs over four bytes (section 2.2.3).
    #[error("the Remaining Length is longer than four bytes")]
    RemainingLength,
    /// A PUBLISH whose topic or Packet Identifier does not fit in it.
    #[error("a PUBLISH is shorter than its own header says")]
    ShortPublish,
}

/// The packet at the start of `buffer`, or `None` where more bytes are needed. O(1), copies nothing.
///
/// # Errors
/// [`FrameError::RemainingLength`]: the stream is out of step and the connection is of no further use.
#[inline]
pub(crate) fn next(buffer: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let [first, second, ..] = *buffer else { return Ok(None) };
    let (head, len) = if second < 0x80 {
        (2, usize::from(second))
    } else {
        match long_length(buffer)? {
            Some(parts) => parts,
            None => return Ok(None),
        }
    };
    match buffer.get(..head + len) {
        Some(bytes) => Ok(Some(Frame {
            first,
            body: &bytes[head..],
            bytes,
        })),
        None => Ok(None),
    }
}

/// Fixed header size and Remaining Length, for lengths of 128 bytes and more.
#[inline]
fn long_length(buffer: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut len = 0;
    for (at, &byte) in buffer[1..].iter().take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(Some((at + 2, len)));
        }
    }
    if buffer.len() > 4 {
        Err(FrameError::RemainingLength)
    } else {
        Ok(None)
    }
}

/// A PUBLISH taken apart; the topic is not validated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publish<'a> {
    /// 0, 1 or 2; the reserved value 3 is passed on and never matches.
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: &'a [u8],
    /// 0 at QoS 0.
    pub(crate) id: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Takes apart a frame of type 3.
    ///
    /// # Errors
    /// [`FrameError::ShortPublish`]: the lengths inside contradict the frame's.
    #[inline]
    pub(crate) fn parse(frame: &Frame<'a>) -> Result<Publish<'a>, FrameError> {
        let qos = frame.first >> 1 & 0b11;
        let (head, rest) = frame.body.split_first_chunk::<2>().ok_or(FrameError::ShortPublish)?;
        let (topic, rest) = rest
            .split_at_checked(usize::from(u16::from_be_bytes(*head)))
            .ok_or(FrameError::ShortPublish)?;
        let (id, payload) = if qos == 0 {
            (0, rest)
        } else {
            let (id, payload) = rest.split_first_chunk::<2>().ok_or(FrameError::ShortPublish)?;
            (u16::from_be_bytes(*id), payload)
        };
        Ok(Publish {
            qos,
            retain: frame.first & 1 != 0,
            topic,
            id,
            payload,
        })
    }
}

/// The Packet Identifier at the start of `body`; 0, which is none, where there is no room for one.
#[inline]
pub(crate) fn packet_id(body: &[u8]) -> u16 {
    body.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_buffers_ask_for_more() {
        let packet = [0x30, 0x05, 0x00, 0x01, b'a', b'h', b'i'];
        for cut in 0..packet.len() {
            assert!(next(&packet[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let frame = next(&packet).unwrap().unwrap();
        assert_eq!((frame.first, frame.body, frame.bytes.len()), (0x30, &packet[2..], 7));
    }

    #[test]
    fn long_remaining_lengths_are_read() {
        let mut packet = vec![0x30, 0x80, 0x01];
        packet.resize(3 + 128, 7);
        assert!(next(&packet[..130]).unwrap().is_none());
        assert_eq!(next(&packet).unwrap().unwrap().body.len(), 128);
        assert!(next(&[0x30, 0xff, 0xff]).unwrap().is_none());
    }

    #[test]
    fn five_length_bytes_are_refused() {
        assert_eq!(
            next(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]).unwrap_err(),
            FrameError::RemainingLength
        );
    }

    #[test]
    fn publish_is_taken_apart() {
        let frame = next(&[0x33, 0x07, 0x00, 0x01, b'a', 0x12, 0x34, b'h', b'i'])
            .unwrap()
            .unwrap();
        let publish = Publish::parse(&frame).unwrap();
        assert_eq!((publish.qos, publish.retain, publish.id), (1, true, 0x1234));
        assert_eq!((publish.topic, publish.payload), (&b"a"[..], &b"hi"[..]));
    }

    #[test]
    fn publish_with_a_topic_past_its_end_is_refused() {
        let frame = next(&[0x30, 0x03, 0x00, 0x09, b'a']).unwrap().unwrap();
        assert_eq!(Publish::parse(&frame).unwrap_err(), FrameError::ShortPublish);
    }
}
