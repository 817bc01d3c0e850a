//! MQTT 3.1.1 control packets: their types, the decoder and the encoder.
//!
//! Read [`packet`] first. Packets borrow from the bytes they were decoded from; nothing is copied. This module has
//! never heard of a session: it knows which bytes are a packet, not which packets are allowed when.

pub mod packet;

pub use packet::*;
