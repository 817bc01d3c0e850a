//! One pinned executor per shard, and what lies between them.
//!
//! Read [`executor`] first: the turn. [`sockets`] reads, writes and closes for it, a [`connection`] each;
//! [`mesh`] carries batches between shards; [`ring`] says which sockets have something and is where a shard sleeps, and
//! [`doorbell`] wakes it. [`users`] is what they all count in; [`trace`] passes on what an operator follows. Relies on `ringmq_shard` for all that is MQTT, and on glommio for the pinned thread.

pub(crate) mod clock;
mod connection;
mod deadlines;
pub(crate) mod doorbell;
pub(crate) mod executor;
pub(crate) mod mesh;
pub(crate) mod question;
pub(crate) mod report;
pub(crate) mod ring;
pub(crate) mod sockets;
mod sync;
pub(crate) mod trace;
pub(crate) mod users;
