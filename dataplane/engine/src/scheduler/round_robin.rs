//! `rr`: every usable destination in turn, whatever its weight (`ip_vs_rr.c`). Good for equal servers and short, equal
//! requests.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::Candidates;
use crate::service::Destination;

/// The last choice.
#[derive(Debug, Default)]
pub struct RoundRobin {
    /// Number of the last destination chosen, plus 1; 0 before the first choice.
    last: AtomicU64,
}

impl RoundRobin {
    /// When the destination chosen last was removed, the turn goes on from the one before it in the old list.
    pub(super) fn after_change(&self, old: &[u32], new: &[u32]) -> Self {
        let last = self.last.load(Relaxed);
        let place = old.iter().position(|number| u64::from(*number) + 1 == last);
        let kept = place.and_then(|place| {
            let before = old.get(..=place).unwrap_or_default();
            before.iter().rev().find(|number| new.contains(number))
        });
        Self {
            last: AtomicU64::new(kept.map_or(0, |number| u64::from(*number) + 1)),
        }
    }

    pub(super) fn pick<'s>(&self, candidates: Candidates<'s>) -> Option<&'s Destination> {
        loop {
            let last = self.last.load(Relaxed);
            let place = candidates
                .list
                .iter()
                .position(|number| u64::from(*number) + 1 == last);
            let first = place.map_or(0, |place| place + 1);
            let order = (first..candidates.list.len()).chain(0..first);
            let chosen = order
                .filter_map(|place| candidates.at(place))
                .find(|found| found.is_usable())?;
            let next = u64::from(chosen.spec.number) + 1;
            if self
                .last
                .compare_exchange_weak(last, next, Relaxed, Relaxed)
                .is_ok()
            {
                return Some(chosen);
            }
        }
    }
}
