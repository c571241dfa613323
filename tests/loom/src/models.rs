//! The models: each is one small race, run in every order that loom finds.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

use super::Direction;
use super::index::{Candidate, Index, Inserted};
use super::quiescence::Quiescence;
use crate::memory::Line;
use crate::sync::AtomicU64;

/// Involuntary switches between threads, at most: two or three find nearly every race, say loom's authors.
const SWITCHES_MAX: usize = 6;
/// A key in the only bucket; its tag.
const KEY: u64 = 7;
const OTHER_KEY: u64 = 8;
const THIRD_KEY: u64 = 9;

fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(SWITCHES_MAX, model);
}

fn explore_up_to(switches: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

/// An index of one bucket.
fn bucket() -> Arc<Vec<Line>> {
    Arc::new(vec![Line::zeroed()])
}

/// Inserts an entry under a key; the model's entries of one tag are of one key.
fn insert(lines: &[Line], key: u64, number: u32) -> Inserted {
    Index::new(lines).insert(key, number, Direction::Inbound, |_| true)
}

fn find(lines: &[Line], key: u64) -> Option<u32> {
    Index::new(lines)
        .find(key, |_| true)
        .map(|found| found.number)
}

fn taken_slots(lines: &[Line]) -> usize {
    let slots = lines.iter().flat_map(|line| &line.0[1..]);
    slots.filter(|slot| slot.load(Relaxed) != 0).count()
}

/// Two workers insert the same key while a third looks it up: one wins, the other is told of the winner, and nobody ever
/// sees the loser.
pub fn two_inserts_of_one_key() {
    explore(|| {
        let lines = bucket();
        let (first, second) = (spawn_insert(&lines, KEY, 1), spawn_insert(&lines, KEY, 2));
        let seen = find(&lines, KEY);
        let winner = agreed(first, second);
        assert!(seen.is_none_or(|seen| seen == winner), "saw the loser");
        assert_eq!(find(&lines, KEY), Some(winner));
        assert_eq!(taken_slots(&lines), 1);
    });
}

/// The same while a third worker inserts another key of the bucket; and the first one's entry has stood for a flow of the
/// bucket before, so that control still names its number.
pub fn two_inserts_when_a_number_comes_back() {
    // With three switches it takes more than minutes; two show what there was to be seen.
    explore_up_to(2, || {
        let lines = bucket();
        assert_eq!(insert(&lines, OTHER_KEY, 1), Inserted::New);
        assert!(Index::new(&lines).remove(OTHER_KEY, 1, Direction::Inbound));
        let (first, second) = (spawn_insert(&lines, KEY, 1), spawn_insert(&lines, KEY, 2));
        assert_eq!(insert(&lines, OTHER_KEY, 3), Inserted::New);
        let winner = agreed(first, second);
        assert_eq!(
            (find(&lines, KEY), find(&lines, OTHER_KEY)),
            (Some(winner), Some(3))
        );
        assert_eq!(taken_slots(&lines), 2);
    });
}

fn spawn_insert(lines: &Arc<Vec<Line>>, key: u64, number: u32) -> JoinHandle<Inserted> {
    let lines = Arc::clone(lines);
    thread::spawn(move || insert(&lines, key, number))
}

/// The winner of two inserts, of entries 1 and 2, if one was told of the other.
fn agreed(first: JoinHandle<Inserted>, second: JoinHandle<Inserted>) -> u32 {
    let told_of = |number| {
        Inserted::Exists(Candidate {
            number,
            direction: Direction::Inbound,
        })
    };
    match (first.join(), second.join()) {
        (Ok(Inserted::New), Ok(told)) if told == told_of(1) => 1,
        (Ok(told), Ok(Inserted::New)) if told == told_of(2) => 2,
        other => panic!("{other:?}"),
    }
}

/// Two workers insert different keys of one bucket: both are there.
pub fn two_keys_of_one_bucket() {
    explore(|| {
        let lines = bucket();
        let other = {
            let lines = Arc::clone(&lines);
            thread::spawn(move || insert(&lines, OTHER_KEY, 2))
        };
        assert_eq!(insert(&lines, KEY, 1), Inserted::New);
        assert!(matches!(other.join(), Ok(Inserted::New)));
        assert_eq!(
            (find(&lines, KEY), find(&lines, OTHER_KEY)),
            (Some(1), Some(2))
        );
        assert_eq!(taken_slots(&lines), 2);
    });
}

/// A home of two buckets is full and one key lies in the second. That one is removed while two others are inserted, for
/// one of which there is room in the first: whoever says that all keys lie in the first does not hide the other.
pub fn a_home_that_shrinks_hides_no_key() {
    explore_up_to(2, || {
        let lines = Arc::new(vec![Line::zeroed(), Line::zeroed()]);
        let filler = |number: u32| 100 + u64::from(number);
        for number in 10..17 {
            assert_eq!(insert(&lines, filler(number), number), Inserted::New);
        }
        assert_eq!(insert(&lines, KEY, 1), Inserted::New);
        assert!(Index::new(&lines).remove(filler(10), 10, Direction::Inbound));
        let remover = {
            let lines = Arc::clone(&lines);
            thread::spawn(move || Index::new(&lines).remove(KEY, 1, Direction::Inbound))
        };
        let other = {
            let lines = Arc::clone(&lines);
            thread::spawn(move || insert(&lines, OTHER_KEY, 2))
        };
        assert_eq!(insert(&lines, THIRD_KEY, 3), Inserted::New);
        assert!(matches!(remover.join(), Ok(true)));
        assert!(matches!(other.join(), Ok(Inserted::New)));
        assert_eq!(find(&lines, KEY), None);
        assert_eq!(
            (find(&lines, OTHER_KEY), find(&lines, THIRD_KEY)),
            (Some(2), Some(3))
        );
        assert_eq!(find(&lines, filler(16)), Some(16));
    });
}

/// One worker removes an entry, another inserts one under the same key, a third looks it up: each sees one or the other
/// or none, and the new one is there if its insert said so.
pub fn remove_insert_and_lookup() {
    explore(|| {
        let lines = bucket();
        assert_eq!(insert(&lines, KEY, 1), Inserted::New);
        let remover = {
            let lines = Arc::clone(&lines);
            thread::spawn(move || Index::new(&lines).remove(KEY, 1, Direction::Inbound))
        };
        let inserter = {
            let lines = Arc::clone(&lines);
            thread::spawn(move || insert(&lines, KEY, 2))
        };
        let seen = Index::new(&lines).first(KEY).map(|found| found.number);
        assert!(seen.is_none_or(|number| number == 1 || number == 2));
        assert!(matches!(remover.join(), Ok(true)));
        let left = match inserter.join() {
            Ok(Inserted::New) => Some(2),
            Ok(Inserted::Exists(found)) if found.number == 1 => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(find(&lines, KEY), left);
        assert_eq!(taken_slots(&lines), usize::from(left.is_some()));
    });
}

/// An entry that one worker unlinks is written again only when another, which is awake, has let go of it.
pub fn nothing_is_reused_before_a_reader_has_passed() {
    explore(|| {
        let quiescence = Arc::new(Quiescence::new(1));
        let linked = Arc::new(AtomicU64::new(1));
        // loom watches every access to it.
        let entry = Arc::new(UnsafeCell::new(()));
        quiescence.online(0);
        let reader = {
            let (quiescence, linked) = (Arc::clone(&quiescence), Arc::clone(&linked));
            let entry = Arc::clone(&entry);
            thread::spawn(move || {
                for _ in 0..2 {
                    if linked.load(Acquire) == 1 {
                        entry.with(|_| ());
                    }
                    quiescence.pass(0);
                    thread::yield_now();
                }
                quiescence.offline(0);
            })
        };
        linked.store(0, Release);
        let stamp = quiescence.stamp();
        while !quiescence.has_passed(stamp) {
            thread::yield_now();
        }
        entry.with_mut(|_| ());
        assert!(reader.join().is_ok());
    });
}

/// The same when the reader wakes at that moment, and goes to sleep again.
pub fn nothing_is_reused_in_the_hands_of_one_that_wakes() {
    explore(|| {
        let quiescence = Arc::new(Quiescence::new(1));
        let linked = Arc::new(AtomicU64::new(1));
        let entry = Arc::new(UnsafeCell::new(()));
        let reader = {
            let (quiescence, linked) = (Arc::clone(&quiescence), Arc::clone(&linked));
            let entry = Arc::clone(&entry);
            thread::spawn(move || {
                quiescence.online(0);
                if linked.load(Acquire) == 1 {
                    entry.with(|_| ());
                }
                quiescence.offline(0);
            })
        };
        linked.store(0, Release);
        let stamp = quiescence.stamp();
        if quiescence.has_passed(stamp) {
            entry.with_mut(|_| ());
        }
        assert!(reader.join().is_ok());
    });
}
