//! The bytes of MQTT 3.1.1, as far as a load generator needs them.
//!
//! This is deliberately not the broker's codec: a generator that validates everything costs as much as what it
//! measures, and one that shares the broker's decoder cannot see that decoder's mistakes. So: [`frame`] cuts a buffer
//! into packets and looks no further, [`packet`] writes the few packets that are not on the path of a message,
//! [`template`] holds a PUBLISH encoded ahead, and [`stamp`] is the payload that makes each message countable.
//! Knows no socket and no scenario.

pub(crate) mod frame;
pub(crate) mod packet;
pub(crate) mod stamp;
pub(crate) mod template;
pub(crate) mod topic;
