//! What every payload carries: who sent it, its number, and when it was meant to leave.
//!
//! ```text
//! byte   0..3        3..8       8..14            14..16  16..
//!        publisher   sequence   intended time    check   fill, the same in every message
//!        u24         u40        u48 nanoseconds  u16
//! ```
//! All little-endian. Sixteen bytes, so that it fits the payload size of the Open MQTT Benchmark Suite. Times are of
//! the monotonic clock, whose low 48 bits wrap after 78 hours: differences are taken modulo that.

/// Least payload size that can be counted, bytes.
pub(crate) const STAMP_BYTES: usize = 16;
/// Most publishing streams of one run; the width of the field.
pub(crate) const STREAMS_MAX: usize = 1 << 24;

const SEQUENCE_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << 48) - 1;

/// The countable part of a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    /// The publishing stream: one publisher and one topic. Below [`STREAMS_MAX`].
    pub(crate) stream: u32,
    /// From 0, without gaps, per stream.
    pub(crate) sequence: u64,
    /// When the schedule wanted it sent (open loop) or when it was sent (closed loop); nanoseconds.
    pub(crate) sent_at: u64,
}

impl Stamp {
    #[inline]
    pub(crate) fn encode(self) -> [u8; STAMP_BYTES] {
        let who = u64::from(self.stream) | self.sequence << (64 - SEQUENCE_BITS);
        let when = self.sent_at & TIME_MASK;
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&who.to_le_bytes());
        bytes[8..].copy_from_slice(&(when | check(who, when) << 48).to_le_bytes());
        bytes
    }

    /// Reads the stamp at the start of `payload`; `None` where it is too short or its check fails.
    #[inline]
    pub(crate) fn decode(payload: &[u8]) -> Option<Stamp> {
        let (head, _) = payload.split_first_chunk::<STAMP_BYTES>()?;
        let (who, rest) = head.split_first_chunk::<8>()?;
        let who = u64::from_le_bytes(*who);
        let tail = u64::from_le_bytes(*rest.first_chunk::<8>()?);
        let when = tail & TIME_MASK;
        let stamp = Stamp {
            stream: (who & (STREAMS_MAX as u64 - 1)) as u32,
            sequence: who >> (64 - SEQUENCE_BITS),
            sent_at: when,
        };
        (check(who, when) == tail >> 48).then_some(stamp)
    }

    /// Nanoseconds from [`Stamp::sent_at`] to `now`.
    #[inline]
    pub(crate) fn age(self, now: u64) -> u64 {
        now.wrapping_sub(self.sent_at) & TIME_MASK
    }
}

/// Sixteen bits that change with any single bit of the rest: the multiplication by an odd number carries every input
/// bit upwards, and the top is what is kept. Two multiplications, no table.
#[inline]
fn check(who: u64, when: u64) -> u64 {
    (who.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) ^ when).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 48
}

/// The fill of a payload of `size` bytes, from byte 0; the stamp goes over its start.
pub(crate) fn fill(size: usize) -> Vec<u8> {
    (0..size).map(|at| b"ringmq-bench/"[at % 13]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        stream: 0xabcdef,
        sequence: 0x12_3456_789a,
        sent_at: 0x1122_3344_5566,
    };

    #[test]
    fn decode_reads_what_encode_wrote() {
        assert_eq!(Stamp::decode(&STAMP.encode()), Some(STAMP));
        assert_eq!(STAMP.encode()[..8], [0xef, 0xcd, 0xab, 0x9a, 0x78, 0x56, 0x34, 0x12]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for bit in 0..STAMP_BYTES * 8 {
            let mut bytes = STAMP.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::decode(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn foreign_payloads_are_no_stamps() {
        assert_eq!(Stamp::decode(b"short"), None);
        assert_eq!(Stamp::decode(&fill(64)), None);
    }

    #[test]
    fn age_survives_the_wrap_of_the_clock() {
        let stamp = Stamp {
            sent_at: TIME_MASK - 4,
            ..STAMP
        };
        assert_eq!(stamp.age((1 << 48) + 5), 10);
    }
}
