//! The store of a broker that keeps nothing across restarts.

use super::{Lsn, Record, Storage, StoreError};

/// Takes everything, keeps nothing, calls it durable at once: sessions live in the shard's memory only.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryStore;

impl Storage for MemoryStore {
    #[inline]
    fn append(&mut self, _record: Record<'_>) -> Result<Lsn, StoreError> {
        Ok(Lsn(0))
    }

    #[inline]
    fn durable(&self) -> Lsn {
        Lsn(0)
    }

    #[inline]
    fn is_volatile(&self) -> bool {
        true
    }
}
