//! Clients that the service has let in lately, so that it need not be asked about each of their connections.
//!
//! Only what it allowed is remembered, under a digest that nobody can compute without the key of this table: no name or
//! password is kept that was not in the answer.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::error::Unspecified;
use ring::hmac;
use ring::rand::SystemRandom;
use ringmq_shard::shard::Verified;

use super::Client;

/// A table of verdicts with a key of its own. Nothing is in it while `keep_for` is 0.
pub(super) struct Cache {
    key: hmac::Key,
    /// After the answer; earlier where that says so.
    keep_for: Duration,
    table: Mutex<Table>,
}

/// What a client said, as one number.
pub(super) type Digest = [u8; 32];

/// Invariants: `by_age` has each key of `by_digest` once, under its entry's `age`; `bytes` is the sum of the entries';
/// `by_digest.len() <= ENTRIES_MAX`, `bytes <= BYTES_MAX`.
#[derive(Default)]
struct Table {
    by_digest: HashMap<Digest, Entry>,
    /// The oldest first.
    by_age: BTreeMap<u64, Digest>,
    /// Of the next entry.
    age: u64,
    bytes: usize,
}

struct Entry {
    verified: Verified,
    /// When what was verified ends, wherever that is kept; `None`: never.
    expires_at: Option<Instant>,
    /// When the service is asked again; not after `expires_at`.
    until: Instant,
    age: u64,
    /// Of the answer, for what is kept of it is about as large.
    bytes: usize,
}

impl Cache {
    /// # Errors
    /// The system has no randomness for its key.
    pub(super) fn new(keep_for: Duration) -> Result<Cache, Unspecified> {
        Ok(Cache {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
            keep_for,
            table: Mutex::default(),
        })
    }

    /// Of everything that the service is told of the client.
    pub(super) fn digest(&self, client: &Client<'_>) -> Digest {
        let mut digest = hmac::Context::with_key(&self.key);
        let credentials = client.credentials;
        let address = client.address.map(|address| address.to_string());
        // Each with its length, so that nothing moves from one to the next; what is absent is not what is empty.
        for part in [
            Some(credentials.client_id.as_bytes()),
            Some(credentials.user_name.as_bytes()),
            credentials.password.as_deref(),
            address.as_deref().map(str::as_bytes),
        ] {
            let len = part.map_or(u64::MAX, |part| part.len() as u64);
            digest.update(&len.to_be_bytes());
            digest.update(part.unwrap_or_default());
        }
        digest.sign().as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }

    /// Who it is, if the service has said so lately, with what is left of its time.
    pub(super) fn recall(&self, client: &Client<'_>, now: Instant) -> Option<Verified> {
        if self.keep_for.is_zero() {
            return None;
        }
        let digest = self.digest(client);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = table.by_digest.get(&digest)?;
        if entry.until <= now {
            table.remove(&digest);
            return None;
        }
        Some(Verified {
            expires_in: entry.expires_at.map(|at| at.saturating_duration_since(now)),
            ..entry.verified.clone()
        })
    }

    /// Keeps what an answer of so many bytes has said.
    pub(super) fn remember(&self, client: &Client<'_>, verified: &Verified, bytes: usize, now: Instant) {
        if self.keep_for.is_zero() {
            return;
        }
        let expires_at = verified.expires_in.and_then(|expires_in| now.checked_add(expires_in));
        let until = now + self.keep_for;
        let entry = Entry {
            verified: verified.clone(),
            expires_at,
            until: expires_at.map_or(until, |expires_at| until.min(expires_at)),
            age: 0,
            bytes,
        };
        let digest = self.digest(client);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.insert(digest, entry);
    }
}

impl Table {
    /// The oldest make room.
    fn insert(&mut self, digest: Digest, entry: Entry) {
        self.remove(&digest);
        while self.by_digest.len() >= ENTRIES_MAX || self.bytes + entry.bytes > BYTES_MAX {
            let Some(oldest) = self.by_age.first_key_value().map(|(_, digest)| *digest) else {
                break;
            };
            self.remove(&oldest);
        }
        let age = self.age;
        self.age += 1;
        self.bytes += entry.bytes;
        self.by_age.insert(age, digest);
        self.by_digest.insert(digest, Entry { age, ..entry });
        debug_assert_eq!(self.by_age.len(), self.by_digest.len());
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(entry) = self.by_digest.remove(digest) {
            self.by_age.remove(&entry.age);
            self.bytes -= entry.bytes;
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("keep_for", &self.keep_for)
            .finish_non_exhaustive()
    }
}

/// Some hundred bytes each, beside what answers say.
const ENTRIES_MAX: usize = 10_000;
/// Of answers. One has 64 KiB at most, so there is room for a thousand of the largest.
const BYTES_MAX: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ringmq_shard::shard::{Credentials, UserName};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn credentials(client_id: &str, user_name: &str, password: Option<&[u8]>) -> Credentials {
        Credentials {
            client_id: client_id.into(),
            user_name: user_name.into(),
            password: password.map(Into::into),
        }
    }

    fn of(credentials: &Credentials) -> Client<'_> {
        Client {
            credentials,
            address: None,
        }
    }

    fn verified(user_name: &str, expires_in: Option<Duration>) -> Verified {
        Verified {
            expires_in,
            ..UserName::from(user_name).into()
        }
    }

    #[test]
    fn every_part_of_what_a_client_says_counts() {
        let cache = Cache::new(MINUTE).unwrap();
        let addresses: [Option<IpAddr>; 2] = [None, Some("192.0.2.1".parse().unwrap())];
        let mut digests = Vec::new();
        for credentials in [
            credentials("a", "bc", Some(b"d")),
            credentials("ab", "c", Some(b"d")),
            credentials("a", "b", Some(b"cd")),
            credentials("a", "bcd", Some(b"")),
            credentials("a", "bcd", None),
            credentials("a", "BCD", None),
        ] {
            for address in addresses {
                let client = Client {
                    credentials: &credentials,
                    address,
                };
                assert_eq!(cache.digest(&client), cache.digest(&client));
                digests.push(cache.digest(&client));
            }
        }
        let all = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), all);
        // Another table has another key.
        let ann = credentials("a", "ann", None);
        assert_ne!(cache.digest(&of(&ann)), Cache::new(MINUTE).unwrap().digest(&of(&ann)));
    }

    #[test]
    fn what_was_allowed_is_known_for_its_time() {
        let (cache, now) = (Cache::new(MINUTE).unwrap(), Instant::now());
        let (ann, bob) = (credentials("1", "ann", None), credentials("2", "bob", None));
        cache.remember(&of(&ann), &verified("ann", None), 10, now);
        cache.remember(&of(&bob), &verified("robert", Some(MINUTE / 2)), 10, now);
        let later = now + MINUTE / 3;
        assert_eq!(cache.recall(&of(&ann), later), Some(verified("ann", None)));
        assert_eq!(
            cache.recall(&of(&bob), later),
            Some(verified("robert", Some(MINUTE / 6)))
        );
        assert_eq!(cache.recall(&of(&credentials("1", "ann", Some(b""))), later), None);
        assert_eq!(cache.recall(&of(&bob), now + MINUTE / 2), None, "its own time is over");
        assert!(cache.recall(&of(&ann), now + MINUTE / 2).is_some());
        // A question in between makes nothing last longer.
        assert_eq!(cache.recall(&of(&ann), now + MINUTE), None);
        let table = cache.table.lock().unwrap();
        assert_eq!((table.by_digest.len(), table.by_age.len(), table.bytes), (0, 0, 0));
    }

    #[test]
    fn a_time_that_never_comes_is_no_end() {
        let (cache, now) = (Cache::new(MINUTE).unwrap(), Instant::now());
        let ann = credentials("1", "ann", None);
        cache.remember(&of(&ann), &verified("ann", Some(Duration::MAX)), 1, now);
        assert_eq!(cache.recall(&of(&ann), now), Some(verified("ann", None)));
        assert_eq!(cache.recall(&of(&ann), now + MINUTE), None);
    }

    #[test]
    fn without_a_time_nothing_is_kept() {
        let (cache, now) = (Cache::new(Duration::ZERO).unwrap(), Instant::now());
        let ann = credentials("1", "ann", None);
        cache.remember(&of(&ann), &verified("ann", None), 1, now);
        assert_eq!(cache.recall(&of(&ann), now), None);
        assert!(cache.table.lock().unwrap().by_digest.is_empty());
    }

    #[test]
    fn the_oldest_make_room() {
        let (cache, now) = (Cache::new(MINUTE).unwrap(), Instant::now());
        let client = |n: usize| credentials(&n.to_string(), "ann", None);
        let known = |n| cache.recall(&of(&client(n)), now).is_some();
        for n in 0..ENTRIES_MAX {
            cache.remember(&of(&client(n)), &verified("ann", None), 1, now);
        }
        // Once more is not one more, and makes it the youngest.
        cache.remember(&of(&client(0)), &verified("ann", None), 1, now);
        assert!(known(0) && known(1));
        cache.remember(&of(&client(ENTRIES_MAX)), &verified("ann", None), 1, now);
        assert!(known(0) && !known(1) && known(2) && known(ENTRIES_MAX));
        // A few large ones take the place of many.
        for n in 0..=BYTES_MAX / 65_536 {
            cache.remember(&of(&client(n)), &verified("ann", None), 65_536, now);
        }
        let table = cache.table.lock().unwrap();
        assert_eq!(table.by_digest.len(), BYTES_MAX / 65_536);
        assert_eq!(table.bytes, BYTES_MAX);
        assert_eq!(table.by_age.len(), table.by_digest.len());
    }
}
