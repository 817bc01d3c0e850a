//! What must survive, and when it is safe.
//!
//! The shard appends a [`Record`] for each change of state that a restart must find again, and gets the record's
//! number ([`Lsn`]) back. Whatever promises that change to a client (PUBACK, PUBREC, SUBACK, …) leaves only once the
//! store calls that number durable. [`MemoryStore`] calls everything durable at once and keeps nothing, so a broker
//! without a disk pays one comparison.

mod memory;
mod record;

pub use memory::MemoryStore;
pub use record::Record;

use thiserror::Error;

/// A record's number: rises with each record of one shard's store. Zero is durable from the start.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lsn(pub u64);

/// Where a shard's records go. One per shard, used from that shard only.
pub trait Storage {
    /// Takes a record; it becomes durable later, in the order of numbers.
    ///
    /// # Errors
    /// [`StoreError`]: the record is not taken and never will be. The connection that asked for it closes without the
    /// acknowledgement, so the client sends again.
    fn append(&mut self, record: Record<'_>) -> Result<Lsn, StoreError>;

    /// Everything up to here is durable. When it rises outside of `append`, the caller of the shard says
    /// [`Event::Durable`](crate::shard::Event::Durable).
    fn durable(&self) -> Lsn;

    /// True if nothing is ever read back: then no shard waits for another's store.
    fn is_volatile(&self) -> bool;
}

/// A record could not be taken.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum StoreError {
    /// No space, or over the configured size.
    #[error("the store is full")]
    Full,
    /// The device or file system refused.
    #[error("the store failed")]
    Failed,
}

impl StoreError {
    /// The reason in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            StoreError::Full => "store_full",
            StoreError::Failed => "store_failed",
        }
    }
}
