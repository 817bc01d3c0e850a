//! Filters without wildcards: a hash table of text.

use hashbrown::HashTable;

use super::{ShortHash, TextHasher};

/// Text to value. Invariant: each entry is found by its text.
pub(super) struct ExactTable<V> {
    entries: HashTable<Exact<V>>,
    hasher: TextHasher,
}

struct Exact<V> {
    text: Box<str>,
    hash: ShortHash,
    value: V,
}

const _: () = assert!(size_of::<Exact<u32>>() == 24);

impl<V> ExactTable<V> {
    pub(super) fn new(hasher: TextHasher) -> ExactTable<V> {
        ExactTable {
            entries: HashTable::new(),
            hasher,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn get(&self, text: &str) -> Option<&V> {
        if self.entries.is_empty() {
            return None;
        }
        let hash = self.hash(text);
        self.entries
            .find(hash.spread(), |entry| entry.is(text, hash))
            .map(|entry| &entry.value)
    }

    pub(super) fn get_mut(&mut self, text: &str) -> Option<&mut V> {
        let hash = self.hash(text);
        self.entries
            .find_mut(hash.spread(), |entry| entry.is(text, hash))
            .map(|entry| &mut entry.value)
    }

    pub(super) fn insert(&mut self, text: &str, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(text) {
            return Some(std::mem::replace(old, value));
        }
        let hash = self.hash(text);
        let entry = Exact {
            text: text.into(),
            hash,
            value,
        };
        self.entries
            .insert_unique(hash.spread(), entry, |entry| entry.hash.spread());
        None
    }

    pub(super) fn remove(&mut self, text: &str) -> Option<V> {
        let hash = self.hash(text);
        let entry = self
            .entries
            .find_entry(hash.spread(), |entry| entry.is(text, hash))
            .ok()?;
        Some(entry.remove().0.value)
    }

    /// In no order that means anything: sort it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|entry| (&*entry.text, &entry.value))
    }

    pub(super) fn check_invariants(&self) {
        for entry in &self.entries {
            let found = self.get(&entry.text).expect("an entry is found by its text");
            assert!(std::ptr::eq(found, &raw const entry.value), "no text is there twice");
        }
    }

    #[inline]
    fn hash(&self, text: &str) -> ShortHash {
        ShortHash::new(self.hasher.hash(text.as_bytes()))
    }
}

impl<V> Exact<V> {
    #[inline]
    fn is(&self, text: &str, hash: ShortHash) -> bool {
        self.hash == hash && &*self.text == text
    }
}
