//! Which destination addresses `lblc` and `lblcr` remember: a table of fixed size from an address to the number of a
//! slot, in which they keep what they know of it.
//!
//! At most [`SLOTS`] addresses are remembered, eight to a bucket. One more in a full bucket takes the place of the one
//! that was not asked for longest; one that was not asked for in [`EXPIRATION`] is forgotten. (Linux forgets after the
//! same time and, with more than 16384 addresses, what was not asked for in six minutes; it refuses to remember more
//! than 24576.) Nothing is ever allocated or locked: every word is an atomic.
//!
//! A slot changes hands in three steps: its key becomes [`RESERVED`], the owner empties it, the new key is written. So
//! nobody finds a new address with the old one's servers. Races that remain cost an address its memory, never a packet:
//! two workers may remember one address in two slots (the second is forgotten in time), and one that found a slot just
//! before it changed hands may write its choice into the new address's slot (a server of the same service all the same).

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::clock::{Tick, seconds};
use crate::connection::{Family, FlowKey};
use crate::memory::Line;

/// Slots of a bucket: the words of a line.
const WAYS: usize = 8;
const BUCKET_BITS: u32 = 11;

/// Addresses remembered, at most.
pub(super) const SLOTS: usize = WAYS << BUCKET_BITS;

/// An address that nothing was sent to for this long is forgotten: Linux' `lblc_expiration` and `lblcr_expiration`.
pub(super) const EXPIRATION: u32 = seconds(24 * 60 * 60);

/// Key of a slot that was never used.
const EMPTY: u64 = 0;
/// Key of a slot that changes hands.
const RESERVED: u64 = 1;

/// Where a slot of some words lies in lines.
pub(super) fn lines(words: usize) -> Box<[Line]> {
    let line = || Line(std::array::from_fn(|_| AtomicU64::new(0)));
    (0..words.div_ceil(WAYS)).map(|_| line()).collect()
}

/// An address: one word, of IPv4 addresses another for each, of IPv6 addresses the same for two of them once in 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressKey(u64);

impl AddressKey {
    /// The destination address of a packet.
    pub fn destination(key: &FlowKey) -> Self {
        let [a, _, c, d] = key.addresses;
        let word = match key.family {
            Family::V4 => a & 0xffff_ffff | 1 << 32,
            Family::V6 => mix(c) ^ d,
        };
        Self(mix(word).max(RESERVED + 1))
    }

    fn bucket(self) -> usize {
        (self.0 >> (u64::BITS - BUCKET_BITS)) as usize
    }
}

/// SplitMix64's output: one to one.
fn mix(word: u64) -> u64 {
    let mixed = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The addresses.
#[derive(Debug)]
pub(super) struct AddressIndex {
    keys: Box<[Line]>,
    /// Ticks of last use.
    used: Box<[Line]>,
}

impl AddressIndex {
    /// Remembers nothing yet.
    pub fn new() -> Self {
        Self {
            keys: lines(SLOTS),
            used: lines(SLOTS),
        }
    }

    /// The slot of an address that is remembered; it is in use now.
    pub fn find(&self, address: AddressKey, now: Tick) -> Option<usize> {
        let (keys, used) = self.bucket(address)?;
        let way = position(keys, address)?;
        let used = used.0.get(way)?;
        if is_over(used, now) {
            return None;
        }
        touch(used, now);
        Some(address.bucket() * WAYS + way)
    }

    /// A slot for an address that is not remembered; `empty` takes out what is in it. None when other workers take all
    /// that could be had.
    pub fn claim(&self, address: AddressKey, now: Tick, empty: impl Fn(usize)) -> Option<usize> {
        let (keys, used) = self.bucket(address)?;
        let way = position(keys, address).or_else(|| worst(keys, used, now))?;
        let (key, used) = keys.0.get(way).zip(used.0.get(way))?;
        let slot = address.bucket() * WAYS + way;
        let old = key.load(Acquire);
        if old == address.0 && !is_over(used, now) {
            // Another worker was faster.
            return Some(slot);
        }
        if old == RESERVED
            || key
                .compare_exchange(old, RESERVED, AcqRel, Relaxed)
                .is_err()
        {
            return None;
        }
        empty(slot);
        touch(used, now);
        key.store(address.0, Release);
        Some(slot)
    }

    fn bucket(&self, address: AddressKey) -> Option<(&Line, &Line)> {
        self.keys
            .get(address.bucket())
            .zip(self.used.get(address.bucket()))
    }
}

fn position(keys: &Line, address: AddressKey) -> Option<usize> {
    keys.0.iter().position(|key| key.load(Acquire) == address.0)
}

#[allow(clippy::cast_possible_truncation)] // a tick was stored
fn tick(used: &AtomicU64) -> Tick {
    Tick(used.load(Relaxed) as u32)
}

fn is_over(used: &AtomicU64, now: Tick) -> bool {
    tick(used).after(EXPIRATION).has_passed(now)
}

/// Written only when it changes: workers read this line for every new connection.
fn touch(used: &AtomicU64, now: Tick) {
    if tick(used) != now {
        used.store(now.0.into(), Relaxed);
    }
}

/// The slot of a bucket whose loss costs least: an unused one, else the one used longest ago.
fn worst(keys: &Line, used: &Line, now: Tick) -> Option<usize> {
    let idle = |way: &usize| {
        let key = keys.0.get(*way).map_or(RESERVED, |key| key.load(Acquire));
        let idle = used.0.get(*way).map_or(0, |used| tick(used).until(now));
        match key {
            EMPTY => Some(i32::MAX),
            RESERVED => None,
            _ => Some(idle),
        }
    };
    (0..WAYS)
        .filter(|way| idle(way).is_some())
        .max_by_key(|way| (idle(way), std::cmp::Reverse(*way)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr};

    fn address(number: u32) -> AddressKey {
        let to = SocketAddr::new(IpAddr::from(number.to_be_bytes()), 80);
        let from = "198.51.100.7:4000".parse().unwrap();
        AddressKey::destination(&FlowKey::from_sockets(6, from, to).unwrap())
    }

    fn remember(index: &AddressIndex, number: u32, now: Tick) -> usize {
        let address = address(number);
        let found = index.find(address, now);
        found.unwrap_or_else(|| index.claim(address, now, |_| {}).unwrap())
    }

    #[test]
    fn remembers_each_in_a_slot_of_its_own() {
        let index = AddressIndex::new();
        let slots: Vec<usize> = (0..2000)
            .map(|number| remember(&index, number, Tick(0)))
            .collect();
        let mut distinct = slots.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), slots.len());
        assert!(slots.iter().all(|slot| *slot < SLOTS));
        for (number, slot) in (0..).zip(slots) {
            assert_eq!(index.find(address(number), Tick(1)), Some(slot));
        }
    }

    #[test]
    fn forgets_what_was_not_used_for_a_day() {
        let index = AddressIndex::new();
        let start = Tick(u32::MAX - 100);
        let slot = remember(&index, 1, start);
        assert_eq!(
            index.find(address(1), start.after(EXPIRATION - 1)),
            Some(slot)
        );
        let later = start.after(2 * EXPIRATION - 2);
        assert_eq!(index.find(address(1), later), Some(slot));
        assert_eq!(index.find(address(1), later.after(EXPIRATION)), None);
        let emptied = std::cell::Cell::new(None);
        index.claim(address(1), later.after(EXPIRATION), |slot| {
            emptied.set(Some(slot))
        });
        assert_eq!(emptied.get(), Some(slot));
    }

    #[test]
    fn a_full_bucket_loses_the_one_used_longest_ago() {
        let index = AddressIndex::new();
        let wanted = address(0).bucket();
        let same: Vec<u32> = (0..)
            .filter(|number| address(*number).bucket() == wanted)
            .take(9)
            .collect();
        for (tick, number) in (0..).zip(&same[..8]) {
            remember(&index, *number, Tick(tick));
        }
        assert!(index.find(address(same[0]), Tick(100)).is_some());
        remember(&index, same[8], Tick(101));
        let known: Vec<bool> = same
            .iter()
            .map(|number| index.find(address(*number), Tick(102)).is_some())
            .collect();
        assert_eq!(
            known,
            [true, false, true, true, true, true, true, true, true]
        );
    }

    #[test]
    fn workers_at_once_find_what_they_remembered_or_nothing() {
        let index = AddressIndex::new();
        let owners = lines(SLOTS);
        let owner = |slot: usize| &owners[slot / WAYS].0[slot % WAYS];
        std::thread::scope(|scope| {
            for worker in 0..2u32 {
                let (index, owner) = (&index, &owner);
                scope.spawn(move || {
                    for round in 0..60_000u32 {
                        // Each worker its own addresses, three times as many as there is room for.
                        let number = (round.wrapping_mul(2_654_435_761) % 24_000) * 2 + worker;
                        let address = address(number);
                        let now = Tick(round);
                        if let Some(slot) = index.find(address, now) {
                            let seen = owner(slot).load(Acquire);
                            // Changed hands since it was found, or still its own.
                            assert!(
                                seen == u64::from(number) + 1
                                    || index.find(address, now) != Some(slot)
                            );
                        } else if let Some(slot) = index.claim(address, now, |slot| {
                            owner(slot).store(u64::from(number) + 1, Release);
                        }) {
                            assert!(slot < SLOTS);
                        }
                    }
                });
            }
        });
    }
}
