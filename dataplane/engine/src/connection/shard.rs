//! A worker's part of the table: its free entries, the entries it sweeps, and those that wait to be reused.
//!
//! Entries come to a shard in chunks; the shard sweeps those chunks for as long as the process lives ([`super::sweep`]).
//! Whoever takes an entry out of use keeps its number: it waits in *limbo* until every worker has passed a loop boundary,
//! then joins the free list of that worker's shard. A worker that runs dry says so, and others leave it chains of free
//! entries.

use std::collections::VecDeque;
use std::ops::Range;

use super::entry::{Connection, NewConnection};
use super::free_chain::FreeList;
use super::life::{Life, REFRESH_TICKS};
use super::sweep::Sweeper;
use super::table::{CHUNK, ConnectionTable, Hit, InsertError, KeyHashes};
use super::{Family, State, Timeouts};
use crate::clock::Tick;

/// Batches that may wait in limbo; more are joined to the youngest.
const LIMBO_BATCHES: usize = 64;
/// So many more free entries than the reserve and a part is left for others, should they need it.
const PLENTY: u32 = 4 * CHUNK;
/// Of a free list longer than this a part is left for a worker that has none.
const ENOUGH_TO_SHARE: u32 = CHUNK / 4;

#[derive(Debug, Clone, Copy)]
struct Limbo {
    stamp: u64,
    chains: [FreeList; 2],
}

/// An entry that was taken out of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its destination's number.
    pub destination: u32,
    /// Its last state.
    pub state: State,
}

/// One worker's allocator and sweeper.
#[derive(Debug)]
pub struct Shard {
    worker: usize,
    /// Chunks of entries without and with room for IPv6.
    pub(super) chunks: [Vec<u32>; 2],
    /// The same, a bit for each chunk of the table.
    is_mine: Vec<u64>,
    /// Free entries without and with room for IPv6.
    free: [FreeList; 2],
    /// The rest of the last chunk of either kind, never used yet.
    fresh: [Range<u32>; 2],
    /// Freed in this loop.
    freed: [FreeList; 2],
    limbo: VecDeque<Limbo>,
    /// Entries in limbo.
    waiting: [u32; 2],
    pub(super) sweeper: Sweeper,
    created: u64,
    in_use: u64,
    /// The time, as it was last told.
    pub(super) now: Tick,
}

impl Shard {
    /// The shard of one of `workers` workers. Chunks that an earlier process had handed out are dealt out evenly, and
    /// `on_found` is told of every connection in them.
    ///
    /// The shards of all workers are to be made before any of them is used: an entry of an earlier process that one
    /// worker ends would else be found free by another's new shard.
    pub fn new(
        table: &ConnectionTable,
        worker: usize,
        workers: usize,
        mut on_found: impl FnMut(Connection<'_>),
    ) -> Self {
        let chunks_max = (table.size().connections() / CHUNK) as usize;
        let mut shard = Self {
            worker,
            chunks: [(); 2].map(|()| Vec::with_capacity(chunks_max)),
            is_mine: vec![0; chunks_max.div_ceil(64)],
            free: [FreeList::default(); 2],
            fresh: [0..0, 0..0],
            freed: [FreeList::default(); 2],
            limbo: VecDeque::with_capacity(LIMBO_BATCHES),
            waiting: [0; 2],
            sweeper: Sweeper::default(),
            created: 0,
            in_use: 0,
            now: Tick::default(),
        };
        for chunk in table
            .chunks_inherited()
            .filter(|chunk| *chunk as usize % workers.max(1) == worker)
        {
            shard.adopt(chunk, table.is_wide(chunk * CHUNK));
            for number in chunk * CHUNK..(chunk + 1) * CHUNK {
                match table.connection(number) {
                    Some(entry) if entry.life().is_used() => {
                        shard.in_use += 1;
                        let established = entry.life().is_established();
                        table.expendables().note(number, !established);
                        on_found(entry);
                    }
                    _ => push(table, &mut shard.free, number),
                }
            }
        }
        shard
    }

    /// Number of this worker.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Connections made by this worker less those it ended: summed over all workers, the entries in use.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Connections made by this worker.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Inserts a connection unless its flow has one.
    ///
    /// # Errors
    /// [`InsertError`]; the table is as it was.
    pub fn insert<'t>(
        &mut self,
        table: &'t ConnectionTable,
        new: &NewConnection,
        now: Tick,
        timeouts: &Timeouts,
    ) -> Result<Hit<'t>, InsertError<'t>> {
        self.now = now;
        let hashes = table.hashes_of_new(new);
        // The bucket of the answers' key comes while the entry is written.
        table.prefetch_buckets(hashes);
        if !self.has_room(table, new.inbound.family) {
            return Err(InsertError::Full);
        }
        let number = self
            .allocate(table, new.inbound.family)
            .ok_or(InsertError::Full)?;
        let connection = table.connection(number).ok_or(InsertError::Full)?;
        let timeout = match (new.template, new.lifetime) {
            (Some(template), _) => template.timeout.saturating_add(REFRESH_TICKS),
            (None, Some(lifetime)) => lifetime,
            (None, None) => timeouts.of(new.state),
        };
        let written = connection.write(new, now.after(timeout));
        let linked = if written {
            table.link(number, new, hashes)
        } else {
            Err(InsertError::Full)
        };
        if let Err(error) = linked {
            connection.abandon();
            push(table, &mut self.freed, number);
            return Err(error);
        }
        connection.set_live();
        table
            .expendables()
            .note(number, !new.state.is_established());
        self.in_use = self.in_use.wrapping_add(1);
        self.created += 1;
        Ok(Hit {
            number,
            direction: super::Direction::Inbound,
            connection,
        })
    }

    /// Whether there is an entry for a new connection of this family; then the next one inserted gets it.
    #[inline]
    pub fn has_room(&mut self, table: &ConnectionTable, family: Family) -> bool {
        kinds_for(family)
            .iter()
            .any(|wide| self.has_entry(*wide) || self.refill(table, *wide))
    }

    #[inline]
    fn has_entry(&self, wide: bool) -> bool {
        let kind = usize::from(wide);
        let is_free = self.free.get(kind).is_some_and(|free| free.count() > 0);
        is_free || self.fresh.get(kind).is_some_and(|fresh| !fresh.is_empty())
    }

    /// Ends a connection if `condition` still holds of it. `None` when it does not, or another worker was faster.
    pub fn end(
        &mut self,
        table: &ConnectionTable,
        number: u32,
        condition: impl Fn(Life) -> bool,
    ) -> Option<Ended> {
        let connection = table.connection(number)?;
        let hashes = table.hashes_of(&connection);
        self.end_hashed(table, number, hashes, condition)
    }

    /// [`Shard::end`] of an entry whose keys' hashes are known: it must be in this worker's hands since they were read.
    pub(super) fn end_hashed(
        &mut self,
        table: &ConnectionTable,
        number: u32,
        hashes: KeyHashes,
        condition: impl Fn(Life) -> bool,
    ) -> Option<Ended> {
        let connection = table.connection(number)?;
        let last = connection.kill_if(condition)?;
        let ended = Ended {
            destination: connection.destination(),
            state: last.state(),
        };
        if let Some(control) = connection.control()
            && let Some(control) = table.connection(control)
        {
            let until = last.expires();
            control.release_child(if until.has_passed(self.now) {
                until
            } else {
                self.now
            });
            let life = control.life();
            if life.is_live() && life.children() == 0 && !life.is_established() {
                table.expendables().note(number, true);
            }
        }
        table.unlink(number, hashes);
        push(table, &mut self.freed, number);
        self.in_use = self.in_use.wrapping_sub(1);
        Some(ended)
    }

    /// Entries this shard sweeps.
    pub fn entries(&self) -> u32 {
        let chunks = self.chunks.iter().map(Vec::len).sum::<usize>();
        u32::try_from(chunks)
            .unwrap_or(u32::MAX)
            .saturating_mul(CHUNK)
    }

    fn adopt(&mut self, chunk: u32, wide: bool) {
        if let Some(chunks) = self.chunks.get_mut(usize::from(wide)) {
            chunks.push(chunk);
        }
        if let Some(word) = self.is_mine.get_mut(chunk as usize / 64) {
            *word |= 1 << (chunk % 64);
        }
    }

    /// Whether this worker made the connection with this number, but for the few entries that a worker without any was
    /// given by another: those are of the one that gave them.
    pub fn is_mine(&self, number: u32) -> bool {
        let chunk = number / CHUNK;
        let word = self.is_mine.get(chunk as usize / 64);
        word.is_some_and(|word| word >> (chunk % 64) & 1 == 1)
    }

    /// Entries of a kind that are free, or will be when every worker has passed a loop boundary.
    pub(super) fn available(&self, kind: usize) -> u32 {
        let count = |lists: &[FreeList; 2]| lists.get(kind).map_or(0, FreeList::count);
        let fresh = self
            .fresh
            .get(kind)
            .map_or(0, |fresh| fresh.end - fresh.start);
        let waiting = self.waiting.get(kind).copied().unwrap_or(0);
        count(&self.free) + count(&self.freed) + fresh + waiting
    }

    /// At each loop boundary: what was freed goes to limbo, what every worker has let go of becomes free, and a part of
    /// a long free list is left for workers that have none.
    pub fn turn(&mut self, table: &ConnectionTable) {
        self.move_to_limbo(table);
        while let Some(batch) = self
            .limbo
            .front()
            .filter(|batch| table.quiescence().has_passed(batch.stamp))
        {
            let chains = batch.chains;
            for ((to, waiting), mut from) in self.free.iter_mut().zip(&mut self.waiting).zip(chains)
            {
                *waiting = waiting.saturating_sub(from.count());
                if let Some(chain) = from.take() {
                    to.join(table, chain);
                }
            }
            self.limbo.pop_front();
        }
        for wide in [false, true] {
            self.share(table, wide);
        }
    }

    fn move_to_limbo(&mut self, table: &ConnectionTable) {
        if self.freed.iter().all(|freed| freed.count() == 0) {
            return;
        }
        let stamp = table.quiescence().stamp();
        let chains = std::mem::take(&mut self.freed);
        for (waiting, chain) in self.waiting.iter_mut().zip(&chains) {
            *waiting += chain.count();
        }
        let full = self.limbo.len() == LIMBO_BATCHES;
        match self.limbo.back_mut().filter(|_| full) {
            Some(youngest) => {
                youngest.stamp = stamp;
                for (to, mut from) in youngest.chains.iter_mut().zip(chains) {
                    if let Some(chain) = from.take() {
                        to.join(table, chain);
                    }
                }
            }
            None => self.limbo.push_back(Limbo { stamp, chains }),
        }
    }

    /// Leaves up to a chunk's worth of free entries for others.
    fn share(&mut self, table: &ConnectionTable, wide: bool) {
        let reserve = self.reserve(wide);
        let Some(free) = self.free.get_mut(usize::from(wide)) else {
            return;
        };
        let exchange = table.exchange(wide);
        let needless = if exchange.is_asked_for() {
            ENOUGH_TO_SHARE
        } else {
            reserve + PLENTY
        };
        if free.count() <= needless || !exchange.is_empty() {
            return;
        }
        let mut gift = FreeList::default();
        for _ in 0..CHUNK.min(free.count() / 2) {
            if let Some(number) = free.pop(table) {
                gift.push(table, number);
            }
        }
        if let Some(chain) = gift.take()
            && let Err(chain) = exchange.give(chain)
        {
            free.join(table, chain);
        }
    }

    fn allocate(&mut self, table: &ConnectionTable, family: Family) -> Option<u32> {
        kinds_for(family).iter().find_map(|wide| {
            let own = self
                .free
                .get_mut(usize::from(*wide))
                .and_then(|free| free.pop(table));
            own.or_else(|| self.fresh.get_mut(usize::from(*wide))?.next())
        })
    }

    fn refill(&mut self, table: &ConnectionTable, wide: bool) -> bool {
        let fresh = self.fresh.get_mut(usize::from(wide));
        if let Some((fresh, chunk)) = fresh.zip(table.take_chunk(wide)) {
            *fresh = chunk * CHUNK..(chunk + 1) * CHUNK;
            self.adopt(chunk, wide);
            return true;
        }
        self.take_gift(table, wide)
    }

    /// Takes free entries that another worker has left. Whether there were any; if not, they are asked for.
    pub(super) fn take_gift(&mut self, table: &ConnectionTable, wide: bool) -> bool {
        let free = self.free.get_mut(usize::from(wide));
        let Some((free, gift)) = free.zip(table.exchange(wide).take()) else {
            return false;
        };
        free.join(table, gift);
        true
    }
}

/// Entries with room for IPv6 are the last that IPv4 takes.
fn kinds_for(family: Family) -> &'static [bool] {
    match family {
        Family::V4 => &[false, true],
        Family::V6 => &[true],
    }
}

fn push(table: &ConnectionTable, lists: &mut [FreeList; 2], number: u32) {
    if let Some(list) = lists.get_mut(usize::from(table.is_wide(number))) {
        list.push(table, number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Direction, FlowKey, ForwardingMethod, TableSize};
    use super::*;
    use crate::clock::seconds;
    use crate::memory::Memory;

    /// A flow's first packets are on two workers, which choose different servers; a packet that fits the loser's entry
    /// comes before the loser is told. Nobody would take back a step of an entry that is given up.
    #[test]
    fn a_packet_steps_no_entry_that_is_being_inserted() {
        let size = TableSize::for_connections(TableSize::CONNECTIONS_MIN);
        let memory = Memory::anonymous(size.lines(), false).unwrap();
        let table = ConnectionTable::create(memory, size, 1, [1, 2, 3, 4, 5, 6]).unwrap();
        let mut shard = Shard::new(&table, 0, 1, |_| {});
        let (now, timeouts) = (Tick(0), Timeouts::default());
        let answers = FlowKey::v4(6, 3, 1, 8080 << 16 | 4000);
        let new = NewConnection {
            inbound: FlowKey::v4(6, 1, 2, 4000 << 16 | 80),
            outbound: Some(answers),
            destination: 0,
            service: 0,
            method: ForwardingMethod::Masquerade,
            state: State::SynRecv,
            destination_port: 0,
            template: None,
            control: None,
            counts_packets: false,
            lifetime: None,
            is_synced: false,
        };
        let reset = || {
            let hit = table.find(&answers, now).unwrap();
            hit.connection
                .advance(now, &timeouts, Direction::Outbound, |_, _| State::Close)
        };
        assert!(shard.has_room(&table, Family::V4));
        let number = shard.allocate(&table, Family::V4).unwrap();
        let entry = table.connection(number).unwrap();
        assert!(entry.write(&new, now.after(seconds(60))));
        table.link(number, &new, table.hashes_of_new(&new)).unwrap();
        let written = entry.life();
        assert_eq!((reset(), entry.life()), (None, written));
        entry.set_live();
        let moved = reset().unwrap();
        assert_eq!((moved.before, moved.after), (State::SynRecv, State::Close));
    }
}
