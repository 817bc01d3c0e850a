//! How fast one address may connect, without a table of addresses.
//!
//! An address has a place in each of two rows, by a keyed hash, and the place says when its allowance is full again; of its two
//! numbers the smaller one counts (a count-min sketch with conservative update: Estan and Varghese, 2002). So memory is the same
//! whoever comes, nothing is to be forgotten, and nobody can choose to be taken for somebody else: two addresses share both places by
//! chance, one in 2³². When a flood comes from so many addresses that most places are taken, newcomers share those: then
//! they all together come at the rate of the places, instead of without limit or not at all.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ringmq_shard::time::Instant;

use super::rate::Rate;
use crate::config::ConnectionRates;
use crate::error::AddressRateError;
use crate::runtime::report::{Rejection, Reports};

/// The addresses that connect to one listener, on whichever shards: behind a proxy, that which reads the header.
#[derive(Debug)]
pub(crate) struct AddressRates {
    rate: Rate,
    per_second: u32,
    keys: RandomState,
    /// When each place's allowance is full, in nanoseconds. Asked once per connection, so the lock is on no message's path.
    rows: Mutex<[Box<[u64]>; 2]>,
    reports: Arc<Reports>,
}

impl AddressRates {
    /// `None`: an address has no limit.
    pub(super) fn new(rates: ConnectionRates, reports: &Arc<Reports>) -> Option<Arc<AddressRates>> {
        let row = || vec![0; PLACES].into_boxed_slice();
        (rates.address > 0).then(|| {
            Arc::new(AddressRates {
                rate: Rate::new(rates.address, rates.address_burst),
                per_second: rates.address,
                keys: RandomState::new(),
                rows: Mutex::new([row(), row()]),
                reports: Arc::clone(reports),
            })
        })
    }

    /// Counts one more connection from there. O(1).
    ///
    /// # Errors
    /// There were too many: it is to be closed, and was counted so.
    pub(crate) fn admit(&self, address: IpAddr, now: Instant) -> Result<(), AddressRateError> {
        let hash = self.keys.hash_one(holder(address));
        let places = [hash as usize % PLACES, (hash >> 32) as usize % PLACES];
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = rows[0][places[0]].min(rows[1][places[1]]);
        if self.rate.next(full_at, now) > now {
            drop(rows);
            self.reports.reject(Rejection::AddressRate);
            return Err(AddressRateError {
                per_second: self.per_second,
            });
        }
        let spent = self.rate.spent(full_at, now);
        for (row, place) in rows.iter_mut().zip(places) {
            row[place] = row[place].max(spent);
        }
        Ok(())
    }
}

/// What one client can have many of: an address of IPv4, but a whole /64 of IPv6.
fn holder(address: IpAddr) -> (bool, u64) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u64::from(address.to_bits())),
        IpAddr::V6(address) => (true, (address.to_bits() >> 64) as u64),
    }
}

/// In each of two rows, 8 bytes each: 1 MiB for a listener that limits addresses.
const PLACES: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn limited(per_second: u32, burst: u32) -> (Arc<AddressRates>, Arc<Reports>) {
        let reports = Arc::new(Reports::new(1));
        let rates = ConnectionRates {
            listener: 0,
            address: per_second,
            address_burst: burst,
        };
        (AddressRates::new(rates, &reports).unwrap(), reports)
    }

    fn admitted(rates: &AddressRates, address: &str, now: Instant, tries: usize) -> usize {
        let address: IpAddr = address.parse().unwrap();
        (0..tries).filter(|_| rates.admit(address, now).is_ok()).count()
    }

    #[test]
    fn an_address_has_its_burst_and_its_rate_and_others_have_theirs() {
        let (rates, reports) = limited(2, 5);
        let now = Instant::from_millis(70_000);
        assert_eq!(admitted(&rates, "192.0.2.1", now, 20), 5);
        assert_eq!(admitted(&rates, "::ffff:192.0.2.1", now, 20), 0, "the same client");
        assert_eq!(admitted(&rates, "192.0.2.2", now, 20), 5);
        // Nobody has a /64 in part.
        assert_eq!(admitted(&rates, "2001:db8:0:1::1", now, 20), 5);
        assert_eq!(admitted(&rates, "2001:db8:0:1:ffff::2", now, 20), 0);
        assert_eq!(admitted(&rates, "2001:db8:0:2::1", now, 20), 5);
        assert_eq!(
            reports.rejected()[Rejection::AddressRate as usize],
            15 + 20 + 15 + 15 + 20 + 15
        );
        let later = Instant::from_millis(71_500);
        assert_eq!(admitted(&rates, "192.0.2.1", later, 20), 3);
        // What waited long enough is as if it had never come.
        assert_eq!(admitted(&rates, "192.0.2.1", Instant::from_millis(100_000), 20), 5);
    }

    #[test]
    fn without_a_rate_there_is_nothing_to_ask() {
        let rates = ConnectionRates {
            address_burst: 100,
            ..ConnectionRates::default()
        };
        assert!(AddressRates::new(rates, &Arc::new(Reports::new(1))).is_none());
    }

    /// From some thousand addresses at their limits, an innocent one is not noticeably worse off.
    #[test]
    fn a_flood_from_thousands_of_addresses_is_taken_for_nobody_else() {
        let (rates, _) = limited(1, 1);
        let now = Instant::from_millis(1_000);
        for n in 0..5_000_u32 {
            for _ in 0..3 {
                let _ = rates.admit(Ipv4Addr::from_bits(0x0A00_0000 + n).into(), now);
            }
        }
        let innocent = (0..1_000_u32).filter(|n| {
            let address = Ipv4Addr::from_bits(0xC000_0200 + n);
            rates.admit(address.into(), now).is_ok()
        });
        // One in two hundred is expected to share both places with others.
        assert!(innocent.count() > 950);
    }

    /// From more addresses than there are places: bounded, and yet newcomers come in.
    #[test]
    fn a_flood_from_everywhere_neither_lets_all_in_nor_locks_all_out() {
        let (rates, _) = limited(1, 1);
        let now = Instant::from_millis(1_000);
        let flood = (0..600_000_u64).filter(|n| {
            let address = Ipv6Addr::from_bits(u128::from(*n) << 64);
            rates.admit(address.into(), now).is_ok()
        });
        let let_in = flood.count();
        assert!(let_in <= 2 * PLACES, "{let_in}");
        let later = Instant::from_millis(2_000);
        let newcomers = (0..1_000_u32).filter(|n| rates.admit(Ipv4Addr::from_bits(*n).into(), later).is_ok());
        assert!(newcomers.count() > 900);
    }
}
