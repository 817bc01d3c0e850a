//! One pinned executor per shard, and what lies between them.
//!
//! Read [`executor`] first: the turn. [`sockets`] reads, writes and closes for it, a [`connection`] each;
//! [`mesh`] carries batches between shards and [`doorbell`] wakes the one that sleeps; [`ready`] and [`reap`] are
//! the two ways in which the executor's ring and the turn meet. Relies on `ringmq_shard` for all that is MQTT, and
//! on glommio for the ring.

pub(crate) mod clock;
mod connection;
mod deadlines;
mod doorbell;
pub(crate) mod executor;
pub(crate) mod mesh;
mod ready;
mod reap;
pub(crate) mod report;
pub(crate) mod sockets;
