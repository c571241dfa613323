//! The share of the last second each worker spent with packets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pollux_engine::counters::WorkerCounters;

use crate::worker::now_nanoseconds;

/// Shares by worker, as bits of an `f64`.
#[derive(Debug)]
pub struct BusyShare(Vec<AtomicU64>);

/// The counters at the last look.
#[derive(Debug)]
pub struct BusyShareSampler {
    at: u64,
    busy: Vec<u64>,
}

impl BusyShare {
    /// All 0.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU64::new(0)).collect())
    }

    /// A worker's, 0 to 1.
    pub fn of(&self, worker: usize) -> f64 {
        self.0
            .get(worker)
            .map_or(0.0, |share| f64::from_bits(share.load(Ordering::Relaxed)))
    }
}

impl BusyShareSampler {
    /// A first look.
    pub fn new(counters: &[Arc<WorkerCounters>]) -> Self {
        Self {
            at: now_nanoseconds(),
            busy: counters
                .iter()
                .map(|worker| worker.busy_nanoseconds.get())
                .collect(),
        }
    }

    /// Another look: the shares since the last one.
    #[allow(clippy::cast_precision_loss)] // a share needs no 64 bits
    pub fn sample(&mut self, counters: &[Arc<WorkerCounters>], shares: &BusyShare) {
        let now = now_nanoseconds();
        let elapsed = now.saturating_sub(self.at).max(1);
        self.at = now;
        for ((worker, before), share) in counters.iter().zip(&mut self.busy).zip(&shares.0) {
            let busy = worker.busy_nanoseconds.get();
            let part = busy.saturating_sub(*before) as f64 / elapsed as f64;
            *before = busy;
            share.store(part.min(1.0).to_bits(), Ordering::Relaxed);
        }
    }
}
