//! MQTT 3.1.1 control packets: their types, the decoder and the encoder.
//!
//! Read [`packet`] first, then [`decoder`]. Packets borrow from the bytes they were decoded from; nothing is copied.
//! This module has never heard of a session: it knows which bytes are a packet, not which packets are allowed when,
//! nor from whom. Nor does it know topics: a Topic Name or Filter here is a string of the standard, and `topic` says
//! whether it is a valid one.

pub mod decoder;
pub mod encoder;
pub mod error;
mod filters;
#[doc(hidden)]
pub mod fuzz;
pub mod packet;

#[cfg(test)]
mod tests;

pub use decoder::{Decoded, decode, decode_again, decode_publish_head, frame_len};
pub use encoder::*;
pub use error::CodecError;
pub use filters::{SubscribeFilterIter, UnsubscribeFilterIter};
pub use packet::*;

/// The largest Remaining Length its four bytes can say (section 2.2.3).
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// The largest packet there is, in bytes: one byte of type and flags, four of Remaining Length, and the rest.
pub const PACKET_BYTES_MAX: usize = 1 + 4 + REMAINING_LENGTH_MAX;

/// The longest string or binary field, in bytes: what its two-byte length can say [MQTT-4.7.3-3].
pub const STRING_BYTES_MAX: usize = 65_535;
