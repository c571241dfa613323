//! The least loaded destination without looking at all of them: a tree of minima over the destinations' loads.
//!
//! A leaf is a destination's load, in the service's order; an inner word is the least of the eight below it, which share
//! a cache line. A change of one load is carried up, a choice goes down: three lines each for up to 512 destinations.
//!
//! Workers change loads at the same time without waiting for each other. Every word is written from what lies below it
//! at that moment, so it is right once they pause; between two changes of one line an upper word may for a moment name
//! what was the least just before, as a scan over moving counters would.
//!
//! Adding a connection to one of several equally loaded destinations changes the least of no line: a change is carried up
//! only as far as it changes something. Now and then one goes all the way, so what two workers that overtook each other
//! left behind does not stay.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::Candidates;
use crate::memory::Line;
use crate::service::{ConnectionCounts, Destination};

/// Words of a line.
const ARITY: usize = 8;
/// The load of a destination that takes no new connections.
const UNUSABLE: u64 = u64::MAX;
/// One of so many changes of a destination goes all the way.
const THOROUGH_EVERY: u64 = 16;
/// A line whose least changed while it was carried up is carried up again, this often.
const ATTEMPTS: usize = 3;

/// How loaded a destination is: an order, not a quantity. Equal ratios are equal loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load(u64);

impl Load {
    /// Takes no new connections.
    pub const UNUSABLE: Self = Self(UNUSABLE);

    /// `load / weight`. Rounded to a double, so ratios are told apart as long as load times weight is below 2^53; the
    /// bits of non-negative doubles are ordered as the numbers are.
    #[allow(clippy::cast_precision_loss)] // said above
    pub fn ratio(load: u64, weight: u32) -> Self {
        if weight == 0 {
            Self::UNUSABLE
        } else {
            Self((load as f64 / f64::from(weight)).to_bits())
        }
    }

    /// A load that is a number; [`u64::MAX`] is none.
    pub fn number(load: u64) -> Self {
        Self(load)
    }
}

/// What a scheduler takes for the load of a destination that takes new connections, by its counts and its weight.
pub type Measure = fn(ConnectionCounts, u32) -> Load;

/// The tree of one service.
#[derive(Debug)]
pub struct LoadTree {
    measure: Measure,
    /// Leaves first; the last level is one line.
    levels: Box<[Box<[Line]>]>,
}

/// A word of a level, by its place in it.
#[inline(always)]
fn word_at(level: &[Line], at: usize) -> Option<&AtomicU64> {
    level.get(at / ARITY)?.0.get(at % ARITY)
}

fn least(line: &Line) -> u64 {
    first_least_of(line).1
}

/// The first slot with the least word, and that. Four pairs, then two, then one: eight one after the other would take
/// more than twice as long.
#[inline(always)]
fn first_least_of(line: &Line) -> (usize, u64) {
    let [a, b, c, d, e, f, g, h] = &line.0;
    let word = |slot: usize, word: &AtomicU64| (slot, word.load(Acquire));
    let left = less(less(word(0, a), word(1, b)), less(word(2, c), word(3, d)));
    let right = less(less(word(4, e), word(5, f)), less(word(6, g), word(7, h)));
    less(left, right)
}

#[inline(always)]
fn less(first: (usize, u64), second: (usize, u64)) -> (usize, u64) {
    if second.1 < first.1 { second } else { first }
}

impl LoadTree {
    /// For so many destinations, all unusable until [`LoadTree::refresh`].
    pub fn new(destinations: usize, measure: Measure) -> Self {
        let mut levels = Vec::new();
        let mut lines = destinations.div_ceil(ARITY).max(1);
        loop {
            let level = (0..lines).map(|_| Line(std::array::from_fn(|_| UNUSABLE.into())));
            levels.push(level.collect());
            if lines == 1 {
                return Self {
                    measure,
                    levels: levels.into(),
                };
            }
            lines = lines.div_ceil(ARITY);
        }
    }

    /// The destination at this place of the list has other counts now. Every sixteenth time, by its counts, the change is
    /// carried all the way.
    pub fn refresh(&self, place: usize, destination: &Destination) {
        let load = self.load(destination);
        if destination
            .shared
            .counts()
            .total()
            .is_multiple_of(THOROUGH_EVERY)
        {
            self.set(place, load);
        } else if self.leaf(place).is_some_and(|leaf| load.0 < leaf) {
            self.lower(place, load);
        } else {
            self.carry(place, load);
        }
    }

    fn leaf(&self, place: usize) -> Option<u64> {
        word_at(self.levels.first()?, place).map(|word| word.load(Acquire))
    }

    /// Carries a load that has become less up as far as it is the least: nothing else has to be looked at.
    fn lower(&self, place: usize, load: Load) {
        let mut at = place;
        for level in &self.levels {
            match word_at(level, at) {
                Some(word) if load.0 < word.load(Acquire) => word.store(load.0, Release),
                _ => return,
            }
            at /= ARITY;
        }
    }

    fn load(&self, destination: &Destination) -> Load {
        if destination.is_usable() {
            (self.measure)(destination.shared.counts(), destination.spec.weight)
        } else {
            Load::UNUSABLE
        }
    }

    /// The destination at this place of the list has one more connection.
    pub fn raise(&self, place: usize, destination: &Destination) {
        self.carry(place, self.load(destination));
    }

    /// The destination at this place of the list has this load now; it is carried all the way.
    fn set(&self, place: usize, load: Load) {
        self.climb(place, load, |_| false);
    }

    /// Carries a load up as far as it changes something.
    fn carry(&self, place: usize, load: Load) {
        self.climb(place, load, |unchanged| unchanged);
    }

    /// Carries a load up until `is_enough` of whether a word was right already.
    #[inline(always)]
    fn climb(&self, place: usize, load: Load, is_enough: impl Fn(bool) -> bool) {
        let mut at = place;
        let mut value = load.0;
        for level in &self.levels {
            let Some(word) = word_at(level, at) else {
                return;
            };
            if is_enough(word.load(Acquire) == value) {
                return;
            }
            word.store(value, Release);
            at /= ARITY;
            let Some(line) = level.get(at) else { return };
            value = least(line);
        }
        self.settle(place);
    }

    /// Another worker may have changed a neighbour meanwhile and been overtaken: then its change is carried up here.
    fn settle(&self, place: usize) {
        let mut at = place / ARITY;
        for pair in self.levels.windows(2) {
            let [below, above] = pair else { return };
            let Some((line, word)) = below.get(at).zip(word_at(above, at)) else {
                return;
            };
            for _ in 0..ATTEMPTS {
                let value = least(line);
                if word.load(Acquire) == value {
                    break;
                }
                word.store(value, Release);
            }
            at /= ARITY;
        }
    }

    /// The least loaded destination, of equals the first in the list; none when no destination takes connections.
    pub fn choose<'s>(&self, candidates: Candidates<'s>) -> Option<&'s Destination> {
        let least = self
            .first_least()
            .and_then(|place| candidates.at(place))
            .filter(|found| found.is_usable());
        // The tree may be a moment old: a destination that has just become unusable is passed over.
        least.or_else(|| {
            candidates
                .iter()
                .min_by_key(|found| self.load(found))
                .filter(|found| self.load(found) != Load::UNUSABLE)
        })
    }

    /// The place of the least loaded destination, of equals the first in the list; none when all are unusable.
    fn first_least(&self) -> Option<usize> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let line = level.get(at)?;
            let (slot, value) = first_least_of(line);
            if value == UNUSABLE {
                return None;
            }
            at = at * ARITY + slot;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measure(counts: ConnectionCounts, weight: u32) -> Load {
        Load::ratio(counts.overhead(), weight)
    }

    proptest! {
        #[test]
        fn agrees_with_a_scan(
            size in 1usize..600,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0u64..5000, 0u32..4, any::<bool>()), 1..200),
        ) {
            let tree = LoadTree::new(size, measure);
            let mut loads = vec![Load::UNUSABLE; size];
            for (place, overhead, weight, raise) in changes {
                let (place, load) = (place.index(size), Load::ratio(overhead, weight));
                loads[place] = load;
                if raise && tree.leaf(place).is_some_and(|leaf| load.0 < leaf) {
                    tree.lower(place, load);
                } else if raise {
                    tree.carry(place, load);
                } else {
                    tree.set(place, load);
                }
                let least = loads.iter().min().copied().unwrap();
                let scan = loads.iter().position(|load| *load == least && least != Load::UNUSABLE);
                prop_assert_eq!(tree.first_least(), scan);
            }
        }

        #[test]
        fn loads_order_as_fractions_do(a in 0u64..1 << 32, b in 1u32..1 << 16, c in 0u64..1 << 32, d in 1u32..1 << 16) {
            let exact = (u128::from(a) * u128::from(d)).cmp(&(u128::from(c) * u128::from(b)));
            prop_assert_eq!(Load::ratio(a, b).cmp(&Load::ratio(c, d)), exact);
        }
    }

    #[test]
    fn settles_after_concurrent_changes() {
        let tree = LoadTree::new(64, measure);
        std::thread::scope(|scope| {
            for half in 0..2usize {
                let tree = &tree;
                scope.spawn(move || {
                    for round in 0..20_000u64 {
                        tree.set((round as usize * 2 + half) % 64, Load::ratio(round, 1));
                    }
                });
            }
        });
        // One more change of each: whatever races left behind is gone.
        for place in 0..64 {
            tree.set(place, Load::ratio(100 + place as u64, 1));
        }
        assert_eq!(tree.first_least(), Some(0));
    }
}
