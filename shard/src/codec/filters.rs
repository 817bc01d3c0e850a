//! The Topic Filters of SUBSCRIBE and UNSUBSCRIBE, left on the wire.
//!
//! The decoder walks them once, so that a packet with a bad filter at its end has no effect at all; the caller walks
//! them again to act on them. Neither walk allocates.

use super::CodecError;
use super::decoder::Fields;
use super::packet::QoS;

/// The filters of a SUBSCRIBE, still on the wire: checked by the decoder, walked without allocation.
///
/// Invariant: `wire` is `count` times (two-byte length, that many bytes of UTF-8 without U+0000, QoS byte 0..=2), and
/// `count` is not 0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscribeFilters<'a> {
    pub(super) wire: &'a [u8],
    count: usize,
}

impl<'a> SubscribeFilters<'a> {
    /// Checks that `wire`, a whole SUBSCRIBE payload, is filters and nothing else. O(bytes).
    pub(super) fn check(wire: &'a [u8]) -> Result<Self, CodecError> {
        let mut fields = Fields::new(wire);
        let mut count = 0;
        while !fields.is_empty() {
            filter_and_qos(&mut fields)?;
            count += 1;
        }
        // [MQTT-3.8.3-3]
        if count == 0 {
            Err(CodecError::NoFilters)
        } else {
            Ok(SubscribeFilters { wire, count })
        }
    }

    /// Each Topic Filter and the QoS asked for it, in the order of the packet. Not yet valid Topic Filters.
    #[must_use]
    pub fn iter(&self) -> SubscribeFilterIter<'a> {
        SubscribeFilterIter {
            fields: Fields::new(self.wire),
            left: self.count,
        }
    }

    /// How many; never 0 [MQTT-3.8.3-3].
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.count
    }
}

impl<'a> IntoIterator for &SubscribeFilters<'a> {
    type Item = (&'a str, QoS);
    type IntoIter = SubscribeFilterIter<'a>;

    fn into_iter(self) -> SubscribeFilterIter<'a> {
        self.iter()
    }
}

/// Walks [`SubscribeFilters`].
#[derive(Clone, Debug)]
pub struct SubscribeFilterIter<'a> {
    fields: Fields<'a>,
    left: usize,
}

impl<'a> Iterator for SubscribeFilterIter<'a> {
    type Item = (&'a str, QoS);

    fn next(&mut self) -> Option<(&'a str, QoS)> {
        self.left = self.left.checked_sub(1)?;
        Some(filter_and_qos(&mut self.fields).expect("check() walked the same bytes"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SubscribeFilterIter<'_> {}

/// The filters of an UNSUBSCRIBE, still on the wire: checked by the decoder, walked without allocation.
///
/// Invariant: `wire` is `count` times (two-byte length, that many bytes of UTF-8 without U+0000), and `count` is not 0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnsubscribeFilters<'a> {
    pub(super) wire: &'a [u8],
    count: usize,
}

impl<'a> UnsubscribeFilters<'a> {
    /// Checks that `wire`, a whole UNSUBSCRIBE payload, is filters and nothing else. O(bytes).
    pub(super) fn check(wire: &'a [u8]) -> Result<Self, CodecError> {
        let mut fields = Fields::new(wire);
        let mut count = 0;
        while !fields.is_empty() {
            fields.string()?;
            count += 1;
        }
        // [MQTT-3.10.3-2]
        if count == 0 {
            Err(CodecError::NoFilters)
        } else {
            Ok(UnsubscribeFilters { wire, count })
        }
    }

    /// Each Topic Filter, in the order of the packet. Not yet valid Topic Filters.
    #[must_use]
    pub fn iter(&self) -> UnsubscribeFilterIter<'a> {
        UnsubscribeFilterIter {
            fields: Fields::new(self.wire),
            left: self.count,
        }
    }

    /// How many; never 0 [MQTT-3.10.3-2].
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.count
    }
}

impl<'a> IntoIterator for &UnsubscribeFilters<'a> {
    type Item = &'a str;
    type IntoIter = UnsubscribeFilterIter<'a>;

    fn into_iter(self) -> UnsubscribeFilterIter<'a> {
        self.iter()
    }
}

/// Walks [`UnsubscribeFilters`].
#[derive(Clone, Debug)]
pub struct UnsubscribeFilterIter<'a> {
    fields: Fields<'a>,
    left: usize,
}

impl<'a> Iterator for UnsubscribeFilterIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        Some(self.fields.string().expect("check() walked the same bytes"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for UnsubscribeFilterIter<'_> {}

/// One entry of a SUBSCRIBE payload.
fn filter_and_qos<'a>(fields: &mut Fields<'a>) -> Result<(&'a str, QoS), CodecError> {
    let filter = fields.string()?;
    // The upper six bits are reserved, and 3 is no QoS [MQTT-3.8.3-4].
    let qos = QoS::from_bits(fields.byte()?).ok_or(CodecError::InvalidQoS)?;
    Ok((filter, qos))
}
