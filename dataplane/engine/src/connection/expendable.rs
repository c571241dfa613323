//! Which entries may be ended to make room: a bit for each, set while the connection has not got established.
//!
//! A hint that is looked at instead of the entries: finding one that may go among thousands that may not costs a few
//! words. Set when an entry comes into use, cleared by whoever finds it established, put right by the sweep's rounds.
//! Before an entry is ended, it is asked itself.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::table::CHUNK;
use crate::memory::Line;

const _: () = assert!(CHUNK / WORD <= 8);

/// Entries of a word.
pub(super) const WORD: u32 = u64::BITS;

/// The bits, by entry number: those of a chunk on half a line of their own, as chunks next to each other often belong to
/// different workers.
#[derive(Debug)]
pub(super) struct Expendables(Box<[Line]>);

impl Expendables {
    /// Of a table of so many entries, none of them expendable.
    pub fn new(entries: u32) -> Self {
        let lines = (0..entries.div_ceil(CHUNK)).map(|_| Line(std::array::from_fn(|_| 0.into())));
        Self(lines.collect())
    }

    #[inline]
    fn word(&self, number: u32) -> Option<&AtomicU64> {
        let line = self.0.get((number / CHUNK) as usize)?;
        line.0.get((number % CHUNK / WORD) as usize)
    }

    /// An entry in use is, or is not, expendable. Only for entries in this worker's hands: another worker does not take
    /// it into use meanwhile. Writes only when that is new.
    #[inline]
    pub fn note(&self, number: u32, expendable: bool) {
        let Some(word) = self.word(number) else {
            return;
        };
        let bit = 1 << (number % WORD);
        match (word.load(Relaxed) & bit != 0, expendable) {
            (false, true) => {
                word.fetch_or(bit, Relaxed);
            }
            (true, false) => {
                word.fetch_and(!bit, Relaxed);
            }
            _ => {}
        }
    }

    /// The first expendable entry from this one on, in the word of its bit.
    #[inline]
    pub fn next_in_word(&self, number: u32) -> Option<u32> {
        let word = self.word(number)?.load(Relaxed);
        let rest = word & u64::MAX << (number % WORD);
        (rest != 0).then(|| number / WORD * WORD + rest.trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_noted_and_not_what_was_taken_back() {
        let bits = Expendables::new(130);
        for number in [3, 63, 64, 129] {
            bits.note(number, true);
        }
        bits.note(63, false);
        bits.note(1000, true);
        assert_eq!(bits.next_in_word(0), Some(3));
        assert_eq!(bits.next_in_word(3), Some(3));
        assert_eq!(bits.next_in_word(4), None);
        assert_eq!(bits.next_in_word(64), Some(64));
        assert_eq!(bits.next_in_word(65), None);
        assert_eq!(bits.next_in_word(128), Some(129));
        assert_eq!(bits.next_in_word(1000), None);
    }
}
