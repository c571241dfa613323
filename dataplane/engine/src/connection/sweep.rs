//! A worker goes round its shard's entries: those whose time has come are ended, and when the table is full, those that
//! never got established.
//!
//! What ends an entry is memory latency: its line, and the bucket of each of its keys. So entries are ended in batches:
//! all lines of a batch are asked for before the first is used.
//!
//! **Full.** Once every entry is in some shard, each shard keeps a *reserve* of free ones: whenever it has fewer, it ends
//! connections that never got established, the next ones its clock hand comes to. A flood of SYNs is served from the
//! reserve while what is ended in its favour waits in limbo; the hand comes to the flood's own entries last. Established
//! connections are never ended.

use arrayvec::ArrayVec;

use super::Shard;
use super::entry::Connection;
use super::expendable::WORD;
use super::life::Life;
use super::shard::Ended;
use super::state::State;
use super::table::{CHUNK, ConnectionTable, KeyHashes};
use crate::clock::Tick;

/// Entries ended at a time, so that the latency of their lines overlaps.
const BATCH: usize = 32;
/// How many entries ahead of the one looked at are asked for.
const LOOK_AHEAD: u32 = 16;
/// Part of its entries that a shard keeps free once the table is full, and bounds of it. The largest covers what a worker
/// can open while another one holds up the reuse of entries for a millisecond.
const RESERVE_ONE_IN: u32 = 32;
const RESERVE_MIN: u32 = 32;
const RESERVE_MAX: u32 = 4096;
/// Entries ended, and looked at for that, in one call to make room, at most.
const EVICTIONS_MAX: u32 = 128;
const EVICTION_LOOKS_MAX: u32 = 256;
/// Words of [`Expendables`](super::expendable::Expendables) looked at for that: at most, and when there was no entry to
/// end the last time.
const EVICTION_WORDS_MAX: u32 = 1024;
const EVICTION_WORDS_MIN: u32 = 64;

/// How much a sweep may do, or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepBudget {
    /// Entries looked at.
    pub looks: u32,
    /// Entries ended.
    pub removals: u32,
}

impl SweepBudget {
    /// So many entries are looked at, and all of them ended if their time has come.
    pub fn looks(looks: u32) -> Self {
        Self {
            looks,
            removals: looks,
        }
    }
}

/// A place in a shard's entries.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    chunk: usize,
    offset: u32,
}

impl Cursor {
    /// The entry at the cursor, which moves on; none, and back to the front, at the end.
    fn advance(&mut self, chunks: &[u32]) -> Option<u32> {
        let Some(chunk) = chunks.get(self.chunk) else {
            *self = Self::default();
            return None;
        };
        let number = chunk * CHUNK + self.offset;
        self.offset += 1;
        if self.offset == CHUNK {
            self.move_to_next_chunk();
        }
        Some(number)
    }

    /// The entry at the cursor, which stays; back to the front at the end. None when there are no chunks.
    fn current(&mut self, chunks: &[u32]) -> Option<u32> {
        if self.chunk >= chunks.len() {
            *self = Self::default();
        }
        Some(chunks.get(self.chunk)? * CHUNK + self.offset)
    }

    /// Moves past an entry of the same chunk.
    fn skip_to_after(&mut self, number: u32) {
        self.offset = number % CHUNK + 1;
        if self.offset == CHUNK {
            self.move_to_next_chunk();
        }
    }

    fn move_to_next_chunk(&mut self) {
        *self = Self {
            chunk: self.chunk + 1,
            offset: 0,
        };
    }
}

/// The live entries that a round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveCounts {
    /// By state, in the order of [`State::ALL`].
    pub by_state: [u32; State::ALL.len()],
    /// Those with room for IPv6, whichever family took them.
    pub wide: u32,
}

impl LiveCounts {
    /// One entry more.
    #[inline]
    fn note(&mut self, state: State, is_wide: bool) {
        if let Some(count) = self.by_state.get_mut(state as usize) {
            *count += 1;
        }
        self.wide += u32::from(is_wide);
    }
}

/// Where a shard's rounds stand.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    /// Next entry to sweep, of which kind.
    cursor: Cursor,
    wide: bool,
    /// Of this round so far, and of the last whole one until it is asked for.
    live: LiveCounts,
    round: Option<LiveCounts>,
    /// Of entries without and with room for IPv6.
    hands: [Hand; 2],
}

/// Where the search for entries of a kind that may be ended stands.
#[derive(Debug)]
struct Hand {
    cursor: Cursor,
    /// How many words are looked at.
    words: u32,
    /// Every chunk of the kind is in some worker's hands.
    dealt_out: bool,
}

impl Default for Hand {
    fn default() -> Self {
        Self {
            cursor: Cursor::default(),
            words: EVICTION_WORDS_MAX,
            dealt_out: false,
        }
    }
}

impl Hand {
    /// The next entries that may be ended; their lines are asked for.
    fn next_expendables(
        &mut self,
        table: &ConnectionTable,
        chunks: &[u32],
        most: u32,
        budget: &mut EvictionBudget,
    ) -> Numbers {
        let mut found = Numbers::new();
        let most = BATCH.min(most as usize);
        while budget.words > 0 && budget.looks > 0 && found.len() < most {
            let Some(number) = self.cursor.current(chunks) else {
                break;
            };
            if let Some(number) = table.expendables().next_in_word(number) {
                self.cursor.skip_to_after(number);
                table.prefetch_entry(number);
                found.push(number);
                budget.looks -= 1;
            } else {
                self.cursor.skip_to_after(number | (WORD - 1));
                budget.words -= 1;
            }
        }
        found
    }
}

/// What one call may still look at to make room.
#[derive(Debug)]
struct EvictionBudget {
    words: u32,
    looks: u32,
}

type Numbers = ArrayVec<u32, BATCH>;

impl Shard {
    /// Looks at the next of this shard's entries, to the end of the round at most, and ends those whose time has come, and
    /// those without children that are doomed. Says what it did; `on_end` is told which it was, doomed or not.
    pub fn sweep(
        &mut self,
        table: &ConnectionTable,
        now: Tick,
        budget: SweepBudget,
        is_doomed: impl FnMut(&Connection<'_>) -> bool,
        on_end: impl FnMut(Ended, bool),
    ) -> SweepBudget {
        self.sweep_with_controls(table, now, budget, (is_doomed, |_, _: &_| {}), on_end)
    }

    /// [`Shard::sweep`], that tells besides of entries that live on for others though their time has come.
    pub(crate) fn sweep_with_controls<'t>(
        &mut self,
        table: &'t ConnectionTable,
        now: Tick,
        budget: SweepBudget,
        (mut is_doomed, mut on_outlived): (
            impl FnMut(&Connection<'_>) -> bool,
            impl FnMut(u32, &Connection<'t>),
        ),
        mut on_end: impl FnMut(Ended, bool),
    ) -> SweepBudget {
        self.now = now;
        let over = |life: Life| life.is_over(now);
        let over_or_counted = |live: &mut LiveCounts, number, life: Life| {
            let over = over(life);
            if !over {
                live.note(life.state(), table.is_wide(number));
            }
            over
        };
        let mut done = SweepBudget::default();
        let mut in_round = true;
        while in_round && done.looks < budget.looks && done.removals < budget.removals {
            let room = budget.removals - done.removals;
            let (mut batch, mut doomed) = (Numbers::new(), Numbers::new());
            let room = BATCH.min(room as usize);
            while done.looks < budget.looks && batch.len() + doomed.len() < room {
                let Some(number) = self.next_to_sweep() else {
                    in_round = false;
                    break;
                };
                done.looks += 1;
                let live = &mut self.sweeper.live;
                if is_to_end(table, number, |life| over_or_counted(live, number, life)) {
                    batch.push(number);
                    continue;
                }
                let Some(entry) = table.connection(number) else {
                    continue;
                };
                let life = entry.life();
                if is_childless(life) {
                    if is_doomed(&entry) {
                        doomed.push(number);
                    }
                } else if life.is_live() && life.expires().has_passed(now) {
                    on_outlived(number, &entry);
                }
            }
            let mut over_now = |ended| on_end(ended, false);
            done.removals += self.end_all(table, &batch, over, &mut over_now);
            let mut early = |ended| on_end(ended, true);
            done.removals += self.end_all(table, &doomed, is_childless, &mut early);
        }
        done
    }

    /// The next entry of the round; none at its end.
    fn next_to_sweep(&mut self) -> Option<u32> {
        let Sweeper { cursor, wide, .. } = &mut self.sweeper;
        let [narrow_chunks, wide_chunks] = &self.chunks;
        if !*wide {
            let number = cursor.advance(narrow_chunks);
            if number.is_some() {
                return number;
            }
        }
        let number = cursor.advance(wide_chunks);
        *wide = number.is_some();
        if number.is_none() {
            self.sweeper.round = Some(std::mem::take(&mut self.sweeper.live));
        }
        number
    }

    /// The live entries as they were when the last round came to them; once for each round.
    pub fn take_round(&mut self) -> Option<LiveCounts> {
        self.sweeper.round.take()
    }

    /// When the table is full and this worker's reserve of free entries has run low: ends connections that never got
    /// established, a bounded number. Established ones stay, whatever comes.
    pub fn make_room(&mut self, table: &ConnectionTable, now: Tick, mut on_end: impl FnMut(Ended)) {
        self.now = now;
        for wide in [false, true] {
            let missing = self.missing(table, wide);
            if missing > 0 {
                self.evict(table, now, wide, missing, &mut on_end);
            }
        }
    }

    /// Ends so many connections that never got established, if they are met among those looked at.
    fn evict(
        &mut self,
        table: &ConnectionTable,
        now: Tick,
        wide: bool,
        missing: u32,
        on_end: &mut impl FnMut(Ended),
    ) {
        let kind = usize::from(wide);
        let expendable =
            |life: Life| life.children() == 0 && !life.is_established() || life.is_over(now);
        let mut budget = EvictionBudget {
            words: self.sweeper.hands.get(kind).map_or(0, |hand| hand.words),
            looks: EVICTION_LOOKS_MAX,
        };
        let mut ended = 0;
        while ended < missing {
            let hand = self.sweeper.hands.get_mut(kind);
            let Some((hand, chunks)) = hand.zip(self.chunks.get(kind)) else {
                return;
            };
            let looked_at = hand.next_expendables(table, chunks, missing - ended, &mut budget);
            if looked_at.is_empty() {
                break;
            }
            let mut batch = Numbers::new();
            for number in looked_at {
                let Some(entry) = table.connection(number) else {
                    continue;
                };
                let life = entry.life();
                if life.is_live() && expendable(life) {
                    table.prefetch_wide(number);
                    batch.push(number);
                } else if life.is_live() {
                    table.expendables().note(number, false);
                }
            }
            ended += self.end_all(table, &batch, expendable, on_end);
        }
        // Where there is none, looking for one costs every loop: then less is looked at.
        if let Some(hand) = self.sweeper.hands.get_mut(kind) {
            hand.words = if ended > 0 {
                EVICTION_WORDS_MAX
            } else {
                (hand.words / 2).max(EVICTION_WORDS_MIN)
            };
        }
    }

    /// Free entries of a kind that this shard keeps in reserve.
    pub(super) fn reserve(&self, wide: bool) -> u32 {
        let chunks = self.chunks.get(usize::from(wide)).map_or(0, Vec::len);
        let entries = u32::try_from(chunks)
            .unwrap_or(u32::MAX)
            .saturating_mul(CHUNK);
        (entries / RESERVE_ONE_IN).clamp(RESERVE_MIN, RESERVE_MAX)
    }

    /// Entries of a kind that are to be freed; none as long as some were never used, or others have some to spare.
    fn missing(&mut self, table: &ConnectionTable, wide: bool) -> u32 {
        let exchange = table.exchange(wide);
        let asked = if exchange.is_asked_for() { CHUNK } else { 0 };
        let wanted = self.reserve(wide) + asked;
        if self.usable(wide) >= wanted {
            return 0;
        }
        let Some(hand) = self.sweeper.hands.get_mut(usize::from(wide)) else {
            return 0;
        };
        if !hand.dealt_out {
            // IPv4 takes entries with room for IPv6, too.
            hand.dealt_out = !table.has_chunk(true) && (wide || !table.has_chunk(false));
            return 0;
        }
        if !exchange.is_empty() {
            self.take_gift(table, wide);
        }
        wanted.saturating_sub(self.usable(wide)).min(EVICTIONS_MAX)
    }

    /// Free entries for connections that need this kind: IPv4 takes of the other kind what is beyond its reserve.
    fn usable(&self, wide: bool) -> u32 {
        let spare = self.available(1).saturating_sub(self.reserve(true));
        if wide {
            self.available(1)
        } else {
            self.available(0) + spare
        }
    }

    /// Ends those of these entries of which `condition` still holds; how many.
    fn end_all(
        &mut self,
        table: &ConnectionTable,
        numbers: &Numbers,
        condition: impl Fn(Life) -> bool,
        on_end: &mut impl FnMut(Ended),
    ) -> u32 {
        // The keys stay what they are: nobody writes the entry again before this worker has passed a loop boundary.
        let hashes: ArrayVec<KeyHashes, BATCH> = numbers
            .iter()
            .filter_map(|number| table.connection(*number))
            .map(|entry| {
                let hashes = table.hashes_of(&entry);
                table.prefetch_buckets(hashes);
                hashes
            })
            .collect();
        let mut ended = 0;
        for (number, hashes) in numbers.iter().zip(hashes) {
            if let Some(end) = self.end_hashed(table, *number, hashes, &condition) {
                on_end(end);
                ended += 1;
            }
        }
        ended
    }
}

fn is_childless(life: Life) -> bool {
    life.is_live() && life.children() == 0
}

/// Whether the sweep is to end an entry, by this condition. Asks for lines ahead.
#[inline]
fn is_to_end(table: &ConnectionTable, number: u32, condition: impl FnOnce(Life) -> bool) -> bool {
    table.prefetch_entry(number + LOOK_AHEAD);
    let Some(entry) = table.connection(number) else {
        return false;
    };
    let life = entry.life();
    if !life.is_live() {
        return false;
    }
    if condition(life) {
        table.prefetch_wide(number);
        return true;
    }
    table
        .expendables()
        .note(number, life.children() == 0 && !life.is_established());
    false
}
