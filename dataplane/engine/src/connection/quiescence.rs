//! Quiescent states: how a freed entry, or an old snapshot, is known to be in nobody's hands.
//!
//! A worker holds entry numbers and snapshot references only within one loop. At each loop boundary it publishes the
//! epoch it has seen. What was unlinked under epoch `e` may be reused once every worker has published an epoch of at
//! least `e`. A worker that sleeps says so and is not waited for.

use std::sync::atomic::Ordering;

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU64, fence};

const OFFLINE: u64 = u64::MAX;

/// The epochs of all workers.
#[derive(Debug)]
pub struct Quiescence {
    epoch: CachePadded<AtomicU64>,
    workers: Box<[CachePadded<AtomicU64>]>,
}

impl Quiescence {
    /// For so many workers, all offline.
    pub fn new(workers: usize) -> Self {
        Self {
            epoch: CachePadded::new(AtomicU64::new(1)),
            workers: (0..workers)
                .map(|_| CachePadded::new(AtomicU64::new(OFFLINE)))
                .collect(),
        }
    }

    /// The worker is at a loop boundary: it holds nothing.
    #[inline]
    pub fn pass(&self, worker: usize) {
        if let Some(seen) = self.workers.get(worker) {
            // Acquire: what was unlinked before the epoch read here was raised is seen as unlinked from here on.
            let epoch = self.epoch.load(Ordering::Acquire);
            if seen.load(Ordering::Relaxed) != epoch {
                seen.store(epoch, Ordering::Release);
            }
        }
    }

    /// The worker holds nothing and will look at nothing before [`Quiescence::online`].
    pub fn offline(&self, worker: usize) {
        if let Some(seen) = self.workers.get(worker) {
            seen.store(OFFLINE, Ordering::Release);
        }
    }

    /// The worker is back.
    pub fn online(&self, worker: usize) {
        if let Some(seen) = self.workers.get(worker) {
            seen.store(self.epoch.load(Ordering::Acquire), Ordering::Relaxed);
            // The store must be visible before any table read that follows: pairs with the fence in `stamp`.
            fence(Ordering::SeqCst);
        }
    }

    /// Ends an epoch: what was unlinked before this call is free once [`Quiescence::has_passed`] says so of the stamp.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        let stamp = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        fence(Ordering::SeqCst);
        stamp
    }

    /// Whether every worker has passed a loop boundary since the stamp was taken.
    pub fn has_passed(&self, stamp: u64) -> bool {
        self.workers
            .iter()
            .all(|seen| seen.load(Ordering::Acquire) >= stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_every_worker_awake_and_no_other() {
        let quiescence = Quiescence::new(3);
        quiescence.online(0);
        quiescence.online(1);
        let stamp = quiescence.stamp();
        assert!(!quiescence.has_passed(stamp));
        quiescence.pass(0);
        assert!(!quiescence.has_passed(stamp));
        quiescence.offline(1);
        assert!(quiescence.has_passed(stamp));
        let later = quiescence.stamp();
        assert!(!quiescence.has_passed(later));
        quiescence.online(1);
        quiescence.pass(0);
        quiescence.pass(1);
        assert!(quiescence.has_passed(later));
    }
}
