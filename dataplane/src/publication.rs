//! The running snapshot, and which one each worker has.
//!
//! The publisher swaps one pointer and counts one number up; every worker looks at the number at each loop boundary,
//! takes the new snapshot when it changed, and says so. The publisher keeps the old snapshot until all have, and frees
//! it: no destructor of a snapshot ever runs on a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;
use pollux_engine::Snapshot;

/// What publisher and workers share.
#[derive(Debug)]
pub struct Publication {
    current: ArcSwap<Snapshot>,
    generation: CachePadded<AtomicU64>,
    seen: Box<[CachePadded<AtomicU64>]>,
}

impl Publication {
    /// With a first snapshot, for so many workers.
    pub fn new(first: Arc<Snapshot>, workers: usize) -> Self {
        Self {
            generation: CachePadded::new(AtomicU64::new(first.generation())),
            current: ArcSwap::new(first),
            seen: (0..workers)
                .map(|_| CachePadded::new(AtomicU64::new(0)))
                .collect(),
        }
    }

    /// The running snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The running snapshot's generation: what a worker looks at each loop.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes a snapshot of a higher generation the running one and returns the one before, to be kept until
    /// [`Publication::all_have`] the new one.
    #[must_use]
    pub fn publish(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        let generation = next.generation();
        let before = self.current.swap(next);
        self.generation.store(generation, Ordering::Release);
        before
    }

    /// A worker runs with this generation from now on, and holds no older one.
    pub fn acknowledge(&self, worker: usize, generation: u64) {
        if let Some(seen) = self.seen.get(worker) {
            seen.store(generation, Ordering::Release);
        }
    }

    /// The generation a worker runs with; 0 before its first loop.
    pub fn seen_by(&self, worker: usize) -> u64 {
        self.seen
            .get(worker)
            .map_or(0, |seen| seen.load(Ordering::Acquire))
    }

    /// Whether every worker runs with this generation or a later one.
    pub fn all_have(&self, generation: u64) -> bool {
        (0..self.seen.len()).all(|worker| self.seen_by(worker) >= generation)
    }
}
