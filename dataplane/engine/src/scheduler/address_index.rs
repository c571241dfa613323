//! Which destination addresses `lblc` and `lblcr` remember: a table of fixed size from an address to the number of a
//! slot, in which they keep what they know of it.
//!
//! At most [`SLOTS`] addresses are remembered, eight to a bucket. One more in a full bucket takes the place of the one
//! that was not asked for longest. One that was not asked for in a time that is set is forgotten at the next look, of which
//! there is one each half hour, as in Linux. (That forgets, with more than 16384 addresses, also what was not asked for in
//! six minutes; it refuses to remember more than 24576.) Nobody has to look: an address knows when it was asked for last,
//! and from that follows which look has come since. Nothing is ever allocated or locked: every word is an atomic.
//!
//! A slot changes hands in three steps: its key becomes [`RESERVED`], the owner empties it, the new key is written. So
//! nobody finds a new address with the old one's servers. Races that remain cost an address its memory, never a packet:
//! two workers may remember one address in two slots (the second is forgotten in time), and one that found a slot just
//! before it changed hands may write its choice into the new address's slot (a server of the same service all the same).

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::clock::Tick;
use crate::connection::{Family, FlowKey};
use crate::memory::Line;

/// Slots of a bucket: the words of a line.
const WAYS: usize = 8;
const BUCKET_BITS: u32 = 11;

/// Addresses remembered, at most.
pub(super) const SLOTS: usize = WAYS << BUCKET_BITS;

/// Ticks between two looks: 30 runs of a timer of 60 s, which comes 1.44 s late each time as the kernel's timer wheel has it
/// (`COUNT_FOR_FULL_EXPIRATION`, `CHECK_EXPIRE_INTERVAL`).
pub(super) const LOOK_PERIOD: u32 = 30 * 6144;

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
    /// When it began.
    began: Tick,
    keys: Box<[Line]>,
    /// Ticks of last use.
    used: Box<[Line]>,
}

/// The time of a question, and how long an address may not have been asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub now: Tick,
    /// In ticks.
    pub expiration: u32,
}

impl AddressIndex {
    /// Remembers nothing yet.
    pub fn new(now: Tick) -> Self {
        Self {
            began: now,
            keys: lines(SLOTS),
            used: lines(SLOTS),
        }
    }

    /// Whether an address that was used last then was forgotten at the last look.
    fn is_over(&self, used: &AtomicU64, asked: Asked) -> bool {
        let since = asked.now.0.wrapping_sub(self.began.0) % LOOK_PERIOD;
        let last_look = Tick(asked.now.0.wrapping_sub(since));
        tick(used).after(asked.expiration).has_passed(last_look)
    }

    /// The slot of an address that is remembered; it is in use now.
    pub fn find(&self, address: AddressKey, asked: Asked) -> Option<usize> {
        let (keys, used) = self.bucket(address)?;
        let way = position(keys, address)?;
        let used = used.0.get(way)?;
        if self.is_over(used, asked) {
            return None;
        }
        touch(used, asked.now);
        Some(address.bucket() * WAYS + way)
    }

    /// A slot for an address that is not remembered; `empty` takes out what is in it. None when other workers take all
    /// that could be had.
    pub fn claim(&self, address: AddressKey, asked: Asked, empty: impl Fn(usize)) -> Option<usize> {
        let (keys, used) = self.bucket(address)?;
        let way = position(keys, address).or_else(|| worst(keys, used, asked.now))?;
        let (key, used) = keys.0.get(way).zip(used.0.get(way))?;
        let slot = address.bucket() * WAYS + way;
        let old = key.load(Acquire);
        if old == address.0 && !self.is_over(used, asked) {
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
        touch(used, asked.now);
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
    use crate::clock::seconds;
    use std::net::{IpAddr, SocketAddr};

    fn address(number: u32) -> AddressKey {
        let to = SocketAddr::new(IpAddr::from(number.to_be_bytes()), 80);
        let from = "198.51.100.7:4000".parse().unwrap();
        AddressKey::destination(&FlowKey::from_sockets(6, from, to).unwrap())
    }

    const DAY: u32 = seconds(86_400);

    fn at(now: Tick) -> Asked {
        Asked {
            now,
            expiration: DAY,
        }
    }

    fn remember(index: &AddressIndex, number: u32, now: Tick) -> usize {
        let address = address(number);
        let found = index.find(address, at(now));
        found.unwrap_or_else(|| index.claim(address, at(now), |_| {}).unwrap())
    }

    #[test]
    fn remembers_each_in_a_slot_of_its_own() {
        let index = AddressIndex::new(Tick(0));
        let slots: Vec<usize> = (0..2000)
            .map(|number| remember(&index, number, Tick(0)))
            .collect();
        let mut distinct = slots.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), slots.len());
        assert!(slots.iter().all(|slot| *slot < SLOTS));
        for (number, slot) in (0..).zip(slots) {
            assert_eq!(index.find(address(number), at(Tick(1))), Some(slot));
        }
    }

    #[test]
    fn forgets_at_a_look_what_was_not_used_for_long() {
        let start = Tick(u32::MAX - 100);
        let index = AddressIndex::new(start);
        let slot = remember(&index, 1, start);
        let asked = |now, expiration| Asked { now, expiration };
        let find =
            |ticks, expiration| index.find(address(1), asked(start.after(ticks), expiration));
        // Nobody looks before the half hour is over; and who asks then is remembered from then on.
        assert_eq!(find(LOOK_PERIOD - 1, seconds(60)), Some(slot));
        assert_eq!(find(LOOK_PERIOD + 5, seconds(60)), Some(slot));
        let later = start.after(2 * LOOK_PERIOD);
        assert_eq!(
            index.find(address(1), asked(later, LOOK_PERIOD)),
            Some(slot)
        );
        let later = later.after(LOOK_PERIOD);
        assert_eq!(index.find(address(1), asked(later, LOOK_PERIOD)), None);
        let emptied = std::cell::Cell::new(None);
        index.claim(address(1), asked(later, LOOK_PERIOD), |slot| {
            emptied.set(Some(slot));
        });
        assert_eq!(emptied.get(), Some(slot));
    }

    #[test]
    fn a_full_bucket_loses_the_one_used_longest_ago() {
        let index = AddressIndex::new(Tick(0));
        let wanted = address(0).bucket();
        let same: Vec<u32> = (0..)
            .filter(|number| address(*number).bucket() == wanted)
            .take(9)
            .collect();
        for (tick, number) in (0..).zip(&same[..8]) {
            remember(&index, *number, Tick(tick));
        }
        assert!(index.find(address(same[0]), at(Tick(100))).is_some());
        remember(&index, same[8], Tick(101));
        let known: Vec<bool> = same
            .iter()
            .map(|number| index.find(address(*number), at(Tick(102))).is_some())
            .collect();
        assert_eq!(
            known,
            [true, false, true, true, true, true, true, true, true]
        );
    }

    #[test]
    fn workers_at_once_find_what_they_remembered_or_nothing() {
        let index = AddressIndex::new(Tick(0));
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
                        let now = at(Tick(round));
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
