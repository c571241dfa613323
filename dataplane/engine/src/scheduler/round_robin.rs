//! `rr`: every usable destination in turn, whatever its weight (`ip_vs_rr.c`). Good for equal servers and short, equal
//! requests.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::utils::CachePadded;

use super::Candidates;
use crate::service::Destination;

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct RoundRobin {
    /// 1 + the place of the last choice in the list; 0 before the first.
    next: CachePadded<AtomicUsize>,
}

impl RoundRobin {
    /// The turn in a changed list: after the last choice or, when that was removed, after the one before it.
    pub(super) fn after_change(&self, old: &[u32], new: &[u32]) -> Self {
        let before = old.get(..self.next.load(Relaxed)).unwrap_or(old);
        let kept = before
            .iter()
            .rev()
            .find_map(|number| new.iter().position(|other| other == number));
        Self {
            next: CachePadded::new(AtomicUsize::new(kept.map_or(0, |place| place + 1))),
        }
    }

    pub(super) fn pick<'s>(&self, candidates: Candidates<'s>) -> Option<&'s Destination> {
        loop {
            let next = self.next.load(Relaxed);
            let mut order = (next..candidates.list.len()).chain(0..next.min(candidates.list.len()));
            let usable = |place: &usize| candidates.at(*place).is_some_and(Destination::is_usable);
            let chosen = order.find(usable)?;
            if self
                .next
                .compare_exchange_weak(next, chosen + 1, Relaxed, Relaxed)
                .is_ok()
            {
                return candidates.at(chosen);
            }
        }
    }
}
