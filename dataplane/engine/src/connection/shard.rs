//! A worker's part of the table: its free entries, the entries it sweeps, and those that wait to be reused.
//!
//! Entries come to a shard in chunks; the shard sweeps those chunks for as long as the process lives. Whoever takes an
//! entry out of use keeps its number: it waits in *limbo* until every worker has passed a loop boundary, then joins the
//! free list of that worker's shard. Free lists are chained through the entries themselves, so nothing is allocated and
//! a list of millions costs nothing. A worker that runs dry says so, and others leave it chains of free entries.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use super::entry::{Connection, Life, NewConnection};
use super::table::{CHUNK, ConnectionTable, Hit, InsertError};
use super::{Family, State, Timeouts};
use crate::clock::Tick;

/// A chain of free entries: first and last number, how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FreeChain {
    head: u32,
    tail: u32,
    count: u32,
}

/// Batches that may wait in limbo; more are joined to the youngest.
const LIMBO_BATCHES: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Limbo {
    stamp: u64,
    chains: [Option<FreeChain>; 2],
}

/// An entry that was taken out of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its destination's number.
    pub destination: u32,
    /// Its last state.
    pub state: State,
}

/// Entries looked at, and ended, in one loop to make room.
const EVICTION_LOOKS: u32 = 512;
const EVICTIONS: u32 = 128;

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
            *self = Self {
                chunk: self.chunk + 1,
                offset: 0,
            };
        }
        Some(number)
    }
}

/// One worker's allocator and sweeper.
#[derive(Debug)]
pub struct Shard {
    worker: usize,
    chunks: Vec<u32>,
    /// Free entries without and with room for IPv6.
    free: [Option<FreeChain>; 2],
    /// The rest of the last chunk of either kind, never used yet.
    fresh: [Range<u32>; 2],
    /// Freed in this loop.
    freed: [Option<FreeChain>; 2],
    limbo: VecDeque<Limbo>,
    /// Next entry to sweep.
    cursor: Cursor,
    /// Next entry to look at for eviction.
    eviction_cursor: Cursor,
    /// A new connection found no free entry since the last eviction.
    starved: bool,
    in_use: u64,
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
            chunks: Vec::with_capacity(chunks_max),
            free: [None; 2],
            fresh: [0..0, 0..0],
            freed: [None; 2],
            limbo: VecDeque::with_capacity(LIMBO_BATCHES),
            cursor: Cursor::default(),
            eviction_cursor: Cursor::default(),
            starved: false,
            in_use: 0,
        };
        for chunk in table
            .chunks_inherited()
            .filter(|chunk| *chunk as usize % workers.max(1) == worker)
        {
            shard.chunks.push(chunk);
            for number in chunk * CHUNK..(chunk + 1) * CHUNK {
                match table.connection(number) {
                    Some(entry) if entry.life().is_used() => {
                        shard.in_use += 1;
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
        let Some(number) = self.allocate(table, new.inbound.family) else {
            self.starved = true;
            return Err(InsertError::Full);
        };
        let connection = table.connection(number).ok_or(InsertError::Full)?;
        let written = connection.write(new, now.after(timeouts.of(new.state)));
        let linked = if written {
            table.link(number, new)
        } else {
            Err(InsertError::Full)
        };
        if let Err(error) = linked {
            connection.abandon();
            push(table, &mut self.freed, number);
            return Err(error);
        }
        connection.set_live();
        self.in_use = self.in_use.wrapping_add(1);
        Ok(Hit {
            number,
            direction: super::Direction::Inbound,
            connection,
        })
    }

    /// Ends a connection if `condition` still holds of it. `None` when it does not, or another worker was faster.
    pub fn end(
        &mut self,
        table: &ConnectionTable,
        number: u32,
        condition: impl Fn(Life) -> bool,
    ) -> Option<Ended> {
        let connection = table.connection(number)?;
        let last = connection.kill_if(condition)?;
        let ended = Ended {
            destination: connection.destination(),
            state: last.state(),
        };
        table.unlink(number);
        push(table, &mut self.freed, number);
        self.in_use = self.in_use.wrapping_sub(1);
        Some(ended)
    }

    /// Sweeps up to `budget` of this shard's entries and ends those whose time has come.
    pub fn sweep(
        &mut self,
        table: &ConnectionTable,
        now: Tick,
        budget: u32,
        mut on_end: impl FnMut(Ended),
    ) {
        for _ in 0..budget {
            let Some(number) = self.cursor.advance(&self.chunks) else {
                return;
            };
            let over = |life: Life| life.expires().has_passed(now);
            let may_end = table
                .connection(number)
                .is_some_and(|entry| entry.life().is_live() && over(entry.life()));
            if let Some(ended) = may_end.then(|| self.end(table, number, over)).flatten() {
                on_end(ended);
            }
        }
    }

    /// When a new connection found no room: ends connections that never got established, a few of those met among
    /// the next entries of this shard. Established ones stay, whatever comes.
    pub fn evict(&mut self, table: &ConnectionTable, mut on_end: impl FnMut(Ended)) {
        if !std::mem::take(&mut self.starved) {
            return;
        }
        let mut evicted = 0;
        for _ in 0..EVICTION_LOOKS {
            let Some(number) = self.eviction_cursor.advance(&self.chunks) else {
                return;
            };
            let expendable = |life: Life| !life.is_established();
            let may_end = table
                .connection(number)
                .is_some_and(|entry| entry.life().is_live() && expendable(entry.life()));
            if let Some(ended) = may_end
                .then(|| self.end(table, number, expendable))
                .flatten()
            {
                on_end(ended);
                evicted += 1;
            }
            if evicted == EVICTIONS {
                return;
            }
        }
    }

    /// Whether a new connection has found no free entry since the last [`Shard::evict`].
    #[inline]
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Entries this shard sweeps.
    pub fn entries(&self) -> u32 {
        u32::try_from(self.chunks.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(CHUNK)
    }

    /// At each loop boundary: what was freed goes to limbo, what every worker has let go of becomes free, and a part of
    /// a long free list is left for workers that have none.
    pub fn turn(&mut self, table: &ConnectionTable) {
        if self.freed != [None; 2] {
            let stamp = table.quiescence().stamp();
            let batch = Limbo {
                stamp,
                chains: std::mem::take(&mut self.freed),
            };
            let full = self.limbo.len() == LIMBO_BATCHES;
            match self.limbo.back_mut().filter(|_| full) {
                Some(youngest) => {
                    youngest.stamp = stamp;
                    youngest
                        .chains
                        .iter_mut()
                        .zip(batch.chains)
                        .for_each(|(to, from)| join(table, to, from));
                }
                None => self.limbo.push_back(batch),
            }
        }
        while let Some(batch) = self
            .limbo
            .front()
            .filter(|batch| table.quiescence().has_passed(batch.stamp))
        {
            let chains = batch.chains;
            self.free
                .iter_mut()
                .zip(chains)
                .for_each(|(to, from)| join(table, to, from));
            self.limbo.pop_front();
        }
        for wide in [false, true] {
            self.share(table, wide);
        }
    }

    /// Leaves a chunk's worth of free entries for others when nobody could take a fresh chunk any more.
    fn share(&mut self, table: &ConnectionTable, wide: bool) {
        let exchange = table.exchange(wide);
        let Some(free) = self.free.get_mut(usize::from(wide)) else {
            return;
        };
        let plenty = free.is_some_and(|chain| chain.count > 4 * CHUNK);
        if !plenty || !exchange.is_empty() {
            return;
        }
        let mut gift = None;
        for _ in 0..CHUNK {
            if let Some(number) = pop(table, free) {
                push_one(table, &mut gift, number);
            }
        }
        if let Some(chain) = gift
            && exchange.push(chain).is_err()
        {
            join(table, free, Some(chain));
        }
    }

    fn allocate(&mut self, table: &ConnectionTable, family: Family) -> Option<u32> {
        // Entries with room for IPv6 are the last that IPv4 takes.
        let kinds: &[bool] = if family == Family::V6 {
            &[true]
        } else {
            &[false, true]
        };
        kinds.iter().find_map(|wide| {
            let own = self
                .free
                .get_mut(usize::from(*wide))
                .and_then(|free| pop(table, free));
            own.or_else(|| self.fresh.get_mut(usize::from(*wide))?.next())
                .or_else(|| self.refill(table, *wide))
        })
    }

    fn refill(&mut self, table: &ConnectionTable, wide: bool) -> Option<u32> {
        if let Some(chunk) = table.take_chunk(wide) {
            self.chunks.push(chunk);
            let fresh = self.fresh.get_mut(usize::from(wide))?;
            *fresh = chunk * CHUNK..(chunk + 1) * CHUNK;
            return fresh.next();
        }
        let gift = table.exchange(wide).pop()?;
        let free = self.free.get_mut(usize::from(wide))?;
        join(table, free, Some(gift));
        pop(table, free)
    }
}

fn push(table: &ConnectionTable, chains: &mut [Option<FreeChain>; 2], number: u32) {
    if let Some(chain) = chains.get_mut(usize::from(table.is_wide(number))) {
        push_one(table, chain, number);
    }
}

fn push_one(table: &ConnectionTable, chain: &mut Option<FreeChain>, number: u32) {
    let next = chain.map_or(0, |chain| u64::from(chain.head) + 1);
    if let Some(entry) = table.connection(number) {
        entry.link().store(next, Relaxed);
    }
    *chain = Some(match *chain {
        Some(chain) => FreeChain {
            head: number,
            tail: chain.tail,
            count: chain.count + 1,
        },
        None => FreeChain {
            head: number,
            tail: number,
            count: 1,
        },
    });
}

fn pop(table: &ConnectionTable, chain: &mut Option<FreeChain>) -> Option<u32> {
    let first = (*chain)?;
    let link = table
        .connection(first.head)
        .map_or(0, |entry| entry.link().load(Relaxed));
    let next = link
        .checked_sub(1)
        .and_then(|next| u32::try_from(next).ok());
    *chain = next.map(|head| FreeChain {
        head,
        count: first.count.saturating_sub(1),
        ..first
    });
    Some(first.head)
}

/// Puts `from` in front of `to`.
fn join(table: &ConnectionTable, to: &mut Option<FreeChain>, from: Option<FreeChain>) {
    let Some(from) = from else { return };
    let next = to.map_or(0, |chain| u64::from(chain.head) + 1);
    if let Some(entry) = table.connection(from.tail) {
        entry.link().store(next, Relaxed);
    }
    *to = Some(match *to {
        Some(chain) => FreeChain {
            head: from.head,
            tail: chain.tail,
            count: from.count + chain.count,
        },
        None => from,
    });
}
