//! Keyed hashing. Clients choose their identifiers and topics, so no table here may hash them with a known key; and
//! no run may depend on a key nobody handed in.

use ahash::RandomState;

use crate::shard::ShardId;

/// A hasher for tables, from the seed of a shard.
#[must_use]
pub fn table_hasher(seed: u64) -> RandomState {
    RandomState::with_seeds(
        seed,
        seed.rotate_left(16) ^ 0x9e37_79b9_7f4a_7c15,
        !seed,
        seed.rotate_left(48),
    )
}

/// Where clients and retained topics live: the same function on every shard.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    hasher: RandomState,
    shards: u16,
}

impl Placement {
    pub(crate) fn new(shards: u16, placement_seed: u64) -> Placement {
        assert!(shards > 0, "a broker has at least one shard");
        Placement {
            hasher: table_hasher(placement_seed),
            shards,
        }
    }

    /// How many there are.
    pub(crate) fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard of everything that belongs to this Client Identifier.
    pub(crate) fn home(&self, client_id: &str) -> ShardId {
        self.place(client_id, 0x636c_6965_6e74)
    }

    /// The shard that owns the retained message of this topic.
    pub(crate) fn retained_owner(&self, topic: &str) -> ShardId {
        self.place(topic, 0x7265_7461_696e)
    }

    fn place(&self, key: &str, domain: u64) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        let hash = self.hasher.hash_one((domain, key));
        // The high half times the count, not a modulo: no division, and no bias worth speaking of.
        let place = ((hash >> 32) * u64::from(self.shards)) >> 32;
        ShardId(u16::try_from(place).expect("less than the number of shards"))
    }

    /// A number that stays with a publisher, to choose a member of a shared group by.
    pub(crate) fn sticky(&self, client_id: &str) -> u32 {
        let hash = self.hasher.hash_one((0x7374_6963_6b79_u64, client_id));
        u32::try_from(hash >> 32).expect("half of the bits")
    }
}

/// The home shard of a client: all that belongs to this Client Identifier lives there.
#[must_use]
pub fn home(client_id: &str, shards: u16, placement_seed: u64) -> ShardId {
    Placement::new(shards, placement_seed).home(client_id)
}

/// The shard that owns the retained message of a topic.
#[must_use]
pub fn retained_owner(topic: &str, shards: u16, placement_seed: u64) -> ShardId {
    Placement::new(shards, placement_seed).retained_owner(topic)
}

/// Random numbers from a seed (splitmix64): the same seed gives the same numbers. Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_spread_over_all_shards() {
        let mut clients = [0u32; 7];
        for n in 0..7_000 {
            clients[home(&format!("client-{n}"), 7, 42).index()] += 1;
        }
        assert!(clients.iter().all(|count| (800..1_200).contains(count)), "{clients:?}");
    }

    #[test]
    fn the_placement_seed_decides_the_home() {
        let moved = (0..100)
            .filter(|n| home(&n.to_string(), 8, 1) != home(&n.to_string(), 8, 2))
            .count();
        assert!(moved > 50, "{moved}");
        assert_eq!(home("a", 8, 1), home("a", 8, 1));
    }
}
