//! Chains of free entries, linked through the entries themselves: nothing is allocated, and a list of millions costs
//! nothing. A chain belongs to one worker at a time.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::queue::ArrayQueue;

use super::table::ConnectionTable;

/// A chain of free entries: first and last number, how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FreeChain {
    head: u32,
    tail: u32,
    count: u32,
}

/// A list of free entries, perhaps empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FreeList(Option<FreeChain>);

impl FreeList {
    /// How many.
    pub fn count(&self) -> u32 {
        self.0.map_or(0, |chain| chain.count)
    }

    /// Puts an entry in front.
    pub fn push(&mut self, table: &ConnectionTable, number: u32) {
        link(table, number, self.0);
        self.0 = Some(match self.0 {
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

    /// Takes the first entry. The one after it is asked for: it is the next to be written.
    pub fn pop(&mut self, table: &ConnectionTable) -> Option<u32> {
        let first = self.0?;
        let link = table
            .connection(first.head)
            .map_or(0, |entry| entry.link().load(Relaxed));
        let next = link
            .checked_sub(1)
            .and_then(|next| u32::try_from(next).ok());
        if let Some(next) = next {
            table.prefetch_entry(next);
        }
        self.0 = next.map(|head| FreeChain {
            head,
            count: first.count.saturating_sub(1),
            ..first
        });
        Some(first.head)
    }

    /// Puts a chain in front.
    pub fn join(&mut self, table: &ConnectionTable, from: FreeChain) {
        link(table, from.tail, self.0);
        self.0 = Some(match self.0 {
            Some(chain) => FreeChain {
                head: from.head,
                tail: chain.tail,
                count: from.count + chain.count,
            },
            None => from,
        });
    }

    /// All of it; the list is empty afterwards.
    pub fn take(&mut self) -> Option<FreeChain> {
        self.0.take()
    }
}

/// Chains that wait in an exchange, at most.
const CHAINS_MAX: usize = 64;

/// Where workers with many free entries leave some for those with none.
#[derive(Debug)]
pub(super) struct FreeExchange {
    chains: ArrayQueue<FreeChain>,
    /// A worker found nothing here.
    asked_for: AtomicBool,
}

impl Default for FreeExchange {
    fn default() -> Self {
        Self {
            chains: ArrayQueue::new(CHAINS_MAX),
            asked_for: AtomicBool::new(false),
        }
    }
}

impl FreeExchange {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Whether a worker has come here in vain since something was left last.
    #[inline]
    pub fn is_asked_for(&self) -> bool {
        self.asked_for.load(Relaxed)
    }

    /// Takes a chain, or asks for one.
    pub fn take(&self) -> Option<FreeChain> {
        let found = self.chains.pop();
        if found.is_none() && !self.is_asked_for() {
            self.asked_for.store(true, Relaxed);
        }
        found
    }

    /// Leaves a chain.
    ///
    /// # Errors
    /// The chain, when too many wait already.
    pub fn give(&self, chain: FreeChain) -> Result<(), FreeChain> {
        self.asked_for.store(false, Relaxed);
        self.chains.push(chain)
    }
}

fn link(table: &ConnectionTable, number: u32, next: Option<FreeChain>) {
    let next = next.map_or(0, |chain| u64::from(chain.head) + 1);
    if let Some(entry) = table.connection(number) {
        entry.link().store(next, Relaxed);
    }
}
