//! The fields of a packet's body, one after the other (section 1.5).

use crate::codec::CodecError;
use crate::codec::packet::PacketId;

/// What is left of a body. Every read takes bytes from the front, or fails with [`CodecError::Truncated`].
#[derive(Clone, Debug)]
pub(in crate::codec) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    pub(in crate::codec) fn new(body: &'a [u8]) -> Fields<'a> {
        Fields { rest: body }
    }

    #[inline]
    pub(in crate::codec) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    #[inline]
    pub(in crate::codec) fn byte(&mut self) -> Result<u8, CodecError> {
        let (&byte, rest) = self.rest.split_first().ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    /// Two bytes, the higher first.
    #[inline]
    pub(in crate::codec) fn integer(&mut self) -> Result<u16, CodecError> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(bytes))
    }

    /// A Packet Identifier, which is not 0 [MQTT-2.3.1-1].
    #[inline]
    pub(in crate::codec) fn packet_id(&mut self) -> Result<PacketId, CodecError> {
        PacketId::new(self.integer()?).ok_or(CodecError::ZeroPacketId)
    }

    /// A two-byte length and that many bytes.
    #[inline]
    pub(in crate::codec) fn binary(&mut self) -> Result<&'a [u8], CodecError> {
        let len = usize::from(self.integer()?);
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A two-byte length and that many bytes of text.
    ///
    /// Well-formed UTF-8, which has no surrogates and no overlong forms [MQTT-1.5.3-1], and no U+0000
    /// [MQTT-1.5.3-2]. U+FEFF is a character like any other [MQTT-1.5.3-3]. So are control characters and
    /// non-characters: the standard lets a receiver close on them, and devices in the field send them.
    #[inline]
    pub(in crate::codec) fn string(&mut self) -> Result<&'a str, CodecError> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| CodecError::InvalidUtf8)?;
        if has_nul(bytes) {
            Err(CodecError::NulInString)
        } else {
            Ok(text)
        }
    }

    /// Everything that is left.
    #[inline]
    pub(in crate::codec) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// That nothing is left.
    #[inline]
    pub(in crate::codec) fn end(&self) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(CodecError::TrailingBytes { count }),
        }
    }
}

/// Whether a byte is 0; eight at a time, the last eight overlapping those before.
///
/// On topics of 13 to 90 bytes this makes decoding a PUBLISH a fifth faster than `contains(&0)` does (18 → 14 ns at 40
/// bytes).
#[inline]
fn has_nul(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes.contains(&0);
    };
    let (words, _) = bytes.as_chunks();
    words.iter().fold(nul_bits(*last), |bits, word| bits | nul_bits(*word)) != 0
}

/// Not 0 if a byte of `word` is: subtracting 1 from each borrows into the upper bit of a 0, which had none.
#[inline]
fn nul_bits(word: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const UPPER_BITS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    word.wrapping_sub(ONES) & !word & UPPER_BITS
}
