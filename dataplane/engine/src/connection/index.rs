//! The index of the connection table: cache-line buckets of tags and entry numbers, lock-free.
//!
//! ```text
//! bucket   word 0    control: winner's number (32) | its slot (7) | farthest displacement (4) | version (21)
//!          words 1-7 slots:   number (32) | tag (16) | displacement (4) | direction (1) | state (2)
//! ```
//!
//! A key's *home* bucket comes from its hash. When the home has no empty slot the key goes to one of the next
//! [`REACH`]` - 1` buckets; the home's control word says how far its keys may lie, so a lookup reads one line unless
//! the home has overflowed, and writes nothing. With half of the slots in use, which is the most there is, one home in
//! seven has overflowed, and an insert that finds no slot within reach is not to be seen in a billion.
//!
//! **Insert if absent.** All inserts of keys with one home are put in order by compare-and-swap on the home's control
//! word, and nothing ever waits:
//! 1. read control; *help*: if the slot it names is still tentative, commit it;
//! 2. look for the key among the committed slots; found: give back an own tentative slot, answer with the entry found;
//! 3. claim any empty slot within reach, tentative (once);
//! 4. swap control from what step 1 read to (own number, own slot, version + 1). Done: nobody else won since step 1,
//!    so the key was absent; commit the slot. Failed: somebody else won; start over.
//!
//! Step 4 also says how far the home's keys lie now, which step 2 has seen, its own included. It may say less than
//! before: every earlier winner's slot was committed before step 2 looked (step 1), and a later winner raises it again.
//! Without that, each home would be read as far as its keys ever lay, after some hours of full load 2.5 buckets more.
//!
//! Step 1 makes every winner visible before the next one can win, so two workers never both insert one key. The slot
//! named by control cannot be mistaken for a later one (ABA): a number is reused only after every worker has passed a
//! loop boundary (see [`super::quiescence`]), nobody holds a control word across one, and step 3 passes over the slot in
//! which control says the same number won in its former life.
//!
//! **Remove.** Only the worker that took an entry out of use removes its slots, by a store of 0.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::Direction;
use crate::memory::Line;
use crate::sync::AtomicU64;

/// Slots of a bucket.
pub(super) const SLOTS: usize = 7;
/// Buckets a key may lie in: its home and the next ones.
pub(super) const REACH: usize = 16;

const TENTATIVE: u64 = 1 << 53;
const COMMITTED: u64 = 2 << 53;
const STATE_MASK: u64 = 3 << 53;
const OUTBOUND: u64 = 1 << 52;
const DISPLACEMENT_SHIFT: u32 = 48;
const DISPLACEMENT_MASK: u64 = 15 << DISPLACEMENT_SHIFT;
const TAG_SHIFT: u32 = 32;
const NUMBER_MASK: u64 = 0xffff_ffff;
/// What must be equal for a slot to be looked at: state, displacement, tag.
const MATCH_MASK: u64 = STATE_MASK | DISPLACEMENT_MASK | 0xffff << TAG_SHIFT;

/// A slot whose tag fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The entry's number.
    pub number: u32,
    /// Which of its keys the slot stands for.
    pub direction: Direction,
}

/// What came of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    /// The key was absent and leads to the entry now.
    New,
    /// The key leads to this entry already.
    Exists(Candidate),
    /// No empty slot within reach.
    Full,
}

/// The buckets, as lines of the table's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index<'t> {
    buckets: &'t [Line],
}

const _: () = assert!(
    REACH <= 16 && REACH * SLOTS <= 128,
    "control has the bits for it"
);

#[derive(Clone, Copy)]
struct Control(u64);

impl Control {
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    fn number(self) -> u32 {
        self.0 as u32
    }

    /// Displacement and slot of the last winner.
    fn winner(self) -> (usize, usize) {
        let place = ((self.0 >> 32) & 0x7f) as usize;
        (place / SLOTS, place % SLOTS)
    }

    fn farthest(self) -> usize {
        ((self.0 >> 39) & 15) as usize
    }

    /// After a win of a slot, when other keys of the home lie up to `others` buckets away.
    fn won_by(self, number: u32, displacement: usize, slot: usize, others: usize) -> Self {
        let place = (displacement * SLOTS + slot) as u64;
        let farthest = others.max(displacement) as u64;
        let version = (self.0 >> 43).wrapping_add(1);
        Self(version << 43 | farthest << 39 | place << 32 | u64::from(number))
    }
}

/// The high half of a slot, which has everything but the entry's number: what is looked for in all slots at once.
const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The places of a bucket's slots whose high halves equal `wanted` under `mask`, lowest first; word 0 is no slot. All
/// slots are looked at, whichever fits: a loop that ends at the right one ends anywhere, and the processor guesses wrong
/// each time. A slot that matters is loaded once more: it may have changed since.
#[inline(always)]
fn places(bucket: &Line, mask: u64, wanted: u64) -> Places {
    Places(bucket.high_halves_equal(high(mask), high(wanted)) & !1)
}

/// Places in a bucket, a bit for each.
struct Places(u32);

impl Iterator for Places {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let place = (self.0 != 0).then(|| self.0.trailing_zeros() as usize);
        self.0 &= self.0.wrapping_sub(1);
        place
    }
}

#[allow(clippy::cast_possible_truncation)] // the low half is meant
fn candidate(slot: u64) -> Candidate {
    let direction = if slot & OUTBOUND == 0 {
        Direction::Inbound
    } else {
        Direction::Outbound
    };
    Candidate {
        number: slot as u32,
        direction,
    }
}

/// What a committed slot of this hash looks like at a displacement, without number and direction.
#[inline]
fn pattern(hash: u64, displacement: usize) -> u64 {
    COMMITTED | (displacement as u64) << DISPLACEMENT_SHIFT | (hash & 0xffff) << TAG_SHIFT
}

impl<'t> Index<'t> {
    #[inline]
    pub fn new(buckets: &'t [Line]) -> Self {
        Self { buckets }
    }

    /// Number of the home bucket: the high half of the hash, scaled.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline]
    fn bucket(&self, home: usize, displacement: usize) -> Option<&'t Line> {
        let at = home + displacement;
        let at = if at < self.buckets.len() {
            at
        } else {
            at - self.buckets.len()
        };
        self.buckets.get(at)
    }

    #[inline]
    fn control(&self, home: usize) -> Option<&'t AtomicU64> {
        self.buckets.get(home).map(|bucket| &bucket.0[0])
    }

    #[inline]
    fn slots(&self, home: usize, displacement: usize) -> &'t [AtomicU64] {
        self.bucket(home, displacement)
            .and_then(|bucket| bucket.0.split_first())
            .map_or(&[], |(_, slots)| slots)
    }

    /// The line a lookup of this hash reads first.
    #[inline]
    pub fn home_line(&self, hash: u64) -> Option<&'t Line> {
        self.buckets.get(self.home(hash))
    }

    /// The first slot whose tag fits. Its entry must be compared; if it differs, [`Index::find`] looks at the others.
    #[inline]
    pub fn first(&self, hash: u64) -> Option<Candidate> {
        let home = self.home(hash);
        let bucket = self.buckets.get(home)?;
        let wanted = pattern(hash, 0);
        let fitting = places(bucket, MATCH_MASK, wanted).0;
        if let Some(slot) = bucket.0.get(fitting.trailing_zeros() as usize) {
            let slot = slot.load(Acquire);
            // It may have been removed between the two looks: then it is as if it had not been there.
            if slot & MATCH_MASK == wanted {
                return Some(candidate(slot));
            }
        }
        if Control(bucket.0[0].load(Acquire)).farthest() == 0 {
            return None;
        }
        self.first_further_on(hash)
    }

    #[inline(never)]
    fn first_further_on(&self, hash: u64) -> Option<Candidate> {
        self.find(hash, |_| true)
    }

    /// The committed slot of this hash that `is_it` accepts.
    pub fn find(&self, hash: u64, is_it: impl Fn(Candidate) -> bool) -> Option<Candidate> {
        let home = self.home(hash);
        let farthest = Control(self.control(home)?.load(Acquire)).farthest();
        (0..=farthest).find_map(|displacement| {
            let wanted = pattern(hash, displacement);
            let fits = |slot: &AtomicU64| {
                let slot = slot.load(Acquire);
                (slot & MATCH_MASK == wanted)
                    .then(|| candidate(slot))
                    .filter(|found| is_it(*found))
            };
            self.slots(home, displacement).iter().find_map(fits)
        })
    }

    /// Inserts a key's slot unless `is_same` accepts one that is there.
    pub fn insert(
        &self,
        hash: u64,
        number: u32,
        direction: Direction,
        is_same: impl Fn(Candidate) -> bool,
    ) -> Inserted {
        let home = self.home(hash);
        let Some(control_word) = self.control(home) else {
            return Inserted::Full;
        };
        let mut claimed: Option<(usize, usize, &AtomicU64, u64)> = None;
        loop {
            let control = Control(control_word.load(Acquire));
            self.help(home, control);
            let others = match self.survey(home, control, hash, &is_same) {
                Ok(farthest) => farthest,
                Err(found) => {
                    if let Some((.., slot, _)) = claimed {
                        slot.store(0, Release);
                    }
                    return Inserted::Exists(found);
                }
            };
            if claimed.is_none() {
                claimed = self.claim(control, hash, number, direction);
            }
            let Some((displacement, place, slot, tentative)) = claimed else {
                return Inserted::Full;
            };
            let won = control.won_by(number, displacement, place, others);
            if control_word
                .compare_exchange(control.0, won.0, AcqRel, Relaxed)
                .is_ok()
            {
                // A helper may have been faster; then this fails and the slot is as it should be.
                let _ = slot.compare_exchange(tentative, commit(tentative), AcqRel, Relaxed);
                return Inserted::New;
            }
        }
    }

    /// Looks for the key as [`Index::find`] does. When it is absent: how far the keys of this home lie.
    fn survey(
        &self,
        home: usize,
        control: Control,
        hash: u64,
        is_same: impl Fn(Candidate) -> bool,
    ) -> Result<usize, Candidate> {
        let mut farthest = 0;
        for displacement in 0..=control.farthest() {
            let Some(bucket) = self.bucket(home, displacement) else {
                continue;
            };
            let wanted = pattern(hash, displacement);
            for place in places(bucket, MATCH_MASK, wanted) {
                let word = bucket.0.get(place).map_or(0, |slot| slot.load(Acquire));
                if word & MATCH_MASK == wanted && is_same(candidate(word)) {
                    return Err(candidate(word));
                }
            }
            // Empty slots have displacement 0, which is as far as keys lie anyway.
            let own = (displacement as u64) << DISPLACEMENT_SHIFT;
            if displacement > 0 && places(bucket, DISPLACEMENT_MASK, own).0 != 0 {
                farthest = displacement;
            }
        }
        Ok(farthest)
    }

    /// Commits the slot of the last winner if its owner has not come to it.
    fn help(&self, home: usize, control: Control) {
        if control.0 == 0 {
            return;
        }
        let (displacement, place) = control.winner();
        if let Some(slot) = self.slots(home, displacement).get(place) {
            let word = slot.load(Acquire);
            let own = TENTATIVE | (displacement as u64) << DISPLACEMENT_SHIFT;
            let same_number = word & NUMBER_MASK == u64::from(control.number());
            if same_number && word & (STATE_MASK | DISPLACEMENT_MASK) == own {
                let _ = slot.compare_exchange(word, commit(word), AcqRel, Relaxed);
            }
        }
    }

    /// Takes the nearest empty slot, tentatively; not the one in which control says that this very number won before,
    /// when the entry stood for another flow: a helper would commit it.
    #[inline(always)]
    fn claim(
        &self,
        control: Control,
        hash: u64,
        number: u32,
        direction: Direction,
    ) -> Option<(usize, usize, &'t AtomicU64, u64)> {
        let side = if direction == Direction::Outbound {
            OUTBOUND
        } else {
            0
        };
        let home = self.home(hash);
        let confusable = (control.number() == number).then(|| control.winner());
        for displacement in 0..REACH.min(self.buckets.len()) {
            let tentative =
                pattern(hash, displacement) ^ COMMITTED | TENTATIVE | side | u64::from(number);
            let bucket = self.bucket(home, displacement)?;
            for place in places(bucket, STATE_MASK, 0) {
                // Word 0 is the control's; slots are numbered without it.
                let (slot, place) = (bucket.0.get(place)?, place - 1);
                if confusable != Some((displacement, place))
                    && slot.compare_exchange(0, tentative, AcqRel, Relaxed).is_ok()
                {
                    return Some((displacement, place, slot, tentative));
                }
            }
        }
        None
    }

    /// Removes the slot of a key that leads to this entry. True when there was one. Only for who alone may.
    pub fn remove(&self, hash: u64, number: u32, direction: Direction) -> bool {
        self.slot_of(hash, number, direction)
            .inspect(|(slot, _)| slot.store(0, Release))
            .is_some()
    }

    /// The same where several may try at once: true for one of them.
    pub fn remove_once(&self, hash: u64, number: u32, direction: Direction) -> bool {
        self.slot_of(hash, number, direction)
            .is_some_and(|(slot, whole)| slot.compare_exchange(whole, 0, AcqRel, Relaxed).is_ok())
    }

    fn slot_of(
        &self,
        hash: u64,
        number: u32,
        direction: Direction,
    ) -> Option<(&'t AtomicU64, u64)> {
        let home = self.home(hash);
        let side = if direction == Direction::Outbound {
            OUTBOUND
        } else {
            0
        };
        (0..REACH.min(self.buckets.len())).find_map(|displacement| {
            let whole = pattern(hash, displacement) | side | u64::from(number);
            let bucket = self.bucket(home, displacement)?;
            places(bucket, !NUMBER_MASK, whole)
                .filter_map(|place| bucket.0.get(place))
                .find(|slot| slot.load(Acquire) == whole)
                .map(|slot| (slot, whole))
        })
    }
}

fn commit(tentative: u64) -> u64 {
    tentative ^ TENTATIVE | COMMITTED
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: fn(Candidate) -> bool = |_| true;
    const NONE: fn(Candidate) -> bool = |_| false;

    fn four_buckets() -> Vec<Line> {
        let line = || Line(std::array::from_fn(|_| AtomicU64::new(0)));
        std::iter::repeat_with(line).take(4).collect()
    }

    fn hash(home: u64, tag: u64) -> u64 {
        // Four buckets: the top two bits are the home.
        home << 62 | tag
    }

    #[test]
    fn finds_what_was_inserted_and_not_what_was_removed() {
        let lines = four_buckets();
        let index = Index::new(&lines);
        assert_eq!(index.first(hash(1, 7)), None);
        assert_eq!(
            index.insert(hash(1, 7), 42, Direction::Outbound, ANY),
            Inserted::New
        );
        let found = Candidate {
            number: 42,
            direction: Direction::Outbound,
        };
        assert_eq!(index.first(hash(1, 7)), Some(found));
        assert_eq!(index.first(hash(1, 8)), None);
        assert_eq!(index.first(hash(2, 7)), None);
        assert_eq!(
            index.insert(hash(1, 7), 43, Direction::Inbound, ANY),
            Inserted::Exists(found)
        );
        assert!(!index.remove(hash(1, 7), 42, Direction::Inbound));
        assert!(index.remove(hash(1, 7), 42, Direction::Outbound));
        assert_eq!(index.first(hash(1, 7)), None);
        assert!(
            lines
                .iter()
                .flat_map(|line| &line.0[1..])
                .all(|slot| slot.load(Relaxed) == 0)
        );
    }

    #[test]
    fn a_number_that_comes_back_is_not_taken_for_the_last_winner() {
        let lines = four_buckets();
        let index = Index::new(&lines);
        let inserted = index.insert(hash(1, 7), 42, Direction::Inbound, NONE);
        assert_eq!(inserted, Inserted::New);
        assert!(index.remove(hash(1, 7), 42, Direction::Inbound));
        // The entry is free and in use again for a flow of the same home, whose control still names it.
        let control = Control(index.control(1).unwrap().load(Relaxed));
        let claimed = index.claim(control, hash(1, 7), 42, Direction::Inbound);
        index.help(1, control);
        let (.., slot, tentative) = claimed.unwrap();
        assert_eq!(slot.load(Relaxed), tentative, "committed before it has won");
        assert_eq!(index.first(hash(1, 7)), None);
    }

    #[test]
    fn a_home_is_read_no_farther_than_its_keys_lie() {
        let lines = four_buckets();
        let index = Index::new(&lines);
        let farthest = || Control(index.control(1).unwrap().load(Relaxed)).farthest();
        let insert = |number: u32| {
            let inserted = index.insert(hash(1, 7), number, Direction::Inbound, NONE);
            assert_eq!(inserted, Inserted::New);
        };
        let slots = u32::try_from(SLOTS).unwrap();
        // The home's own slots, the next bucket's, one of the next but one.
        (0..=2 * slots).for_each(insert);
        assert_eq!(farthest(), 2);
        // A key that lies near does not hide that others lie far away.
        assert!(index.remove(hash(1, 7), 0, Direction::Inbound));
        insert(100);
        assert_eq!(farthest(), 2);
        for number in slots..=2 * slots {
            assert!(index.remove(hash(1, 7), number, Direction::Inbound));
        }
        assert!(index.remove(hash(1, 7), 100, Direction::Inbound));
        insert(101);
        assert_eq!(farthest(), 0);
        for number in (1..slots).chain([101]) {
            assert!(
                index
                    .find(hash(1, 7), |found| found.number == number)
                    .is_some()
            );
        }
        // Of a neighbour's keys that lie in this home's buckets nothing is counted.
        (200..=200 + slots).for_each(|number| {
            let inserted = index.insert(hash(2, 7), number, Direction::Inbound, NONE);
            assert_eq!(inserted, Inserted::New);
        });
        insert(102);
        assert_eq!(farthest(), 2);
        assert!(index.remove(hash(1, 7), 102, Direction::Inbound));
        assert!(index.remove(hash(1, 7), 101, Direction::Inbound));
        insert(103);
        assert_eq!(farthest(), 0);
    }

    #[test]
    fn overflows_into_the_next_buckets_round_the_end() {
        let lines = four_buckets();
        let index = Index::new(&lines);
        let total = u32::try_from(4 * SLOTS).unwrap();
        for number in 0..total {
            assert_eq!(
                index.insert(hash(3, 5), number, Direction::Inbound, NONE),
                Inserted::New
            );
        }
        assert_eq!(
            index.insert(hash(3, 5), 99, Direction::Inbound, NONE),
            Inserted::Full
        );
        assert_eq!(
            index.insert(hash(0, 5), 99, Direction::Inbound, NONE),
            Inserted::Full
        );
        for number in 0..total {
            let found = index.find(hash(3, 5), |found| found.number == number);
            assert_eq!(found.map(|found| found.number), Some(number));
            assert!(
                index
                    .find(hash(0, 5), |found| found.number == number)
                    .is_none(),
                "another home"
            );
        }
        for number in 0..total {
            assert!(index.remove(hash(3, 5), number, Direction::Inbound));
        }
        assert_eq!(index.first(hash(3, 5)), None);
    }
}
