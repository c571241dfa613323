//! `wrr`: in turn, as often as the weights say, heavy destinations first (`ip_vs_wrr.c`). Good for unequal servers and
//! short, equal requests.
//!
//! The classic interleaving, not the smooth one: a level falls from the largest weight to the smallest step by step
//! (the step is the weights' greatest common divisor), and on each level every destination with at least that weight
//! is chosen once. Level and place change together in one word.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::utils::CachePadded;

use super::Candidates;
use crate::service::Destination;

/// Where the interleaving stands.
#[derive(Debug)]
pub struct WeightedRoundRobin {
    /// `level << 32 | place`, the place being 1 + that of the last choice in the list, 0 before the first.
    position: CachePadded<AtomicU64>,
    /// Greatest common divisor of the weights.
    step: u32,
    /// The level a round starts at: above every weight but one step.
    top: u32,
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

impl WeightedRoundRobin {
    pub(super) fn new(candidates: Candidates<'_>) -> Self {
        let weights = || {
            candidates
                .iter()
                .map(|destination| destination.spec.weight)
                .filter(|weight| *weight > 0)
        };
        let step = weights().fold(0, greatest_common_divisor).max(1);
        let top = weights().max().map_or(0, |heaviest| heaviest - (step - 1));
        Self {
            position: CachePadded::new(AtomicU64::new(u64::from(top) << 32)),
            step,
            top,
        }
    }

    /// A changed list starts from its front; the level stays where it can.
    pub(super) fn after_change(&self, candidates: Candidates<'_>) -> Self {
        let next = Self::new(candidates);
        let level = u32::try_from(self.position.load(Relaxed) >> 32).unwrap_or(0);
        let level = if level == 0 || level > next.top {
            next.top
        } else if next.step > 1 {
            level / next.step * next.step + 1
        } else {
            level
        };
        next.position.store(u64::from(level) << 32, Relaxed);
        next
    }

    pub(super) fn pick<'s>(&self, candidates: Candidates<'s>) -> Option<&'s Destination> {
        loop {
            let position = self.position.load(Relaxed);
            let (next, chosen) = self.advance(position, candidates)?;
            if self
                .position
                .compare_exchange_weak(position, next, Relaxed, Relaxed)
                .is_ok()
            {
                return Some(chosen);
            }
        }
    }

    /// The next choice and the position after it. Looks at every destination on every level at most once more than a
    /// whole round.
    #[allow(clippy::cast_possible_truncation)] // the halves are meant
    fn advance<'s>(
        &self,
        position: u64,
        candidates: Candidates<'s>,
    ) -> Option<(u64, &'s Destination)> {
        if self.top == 0 {
            return None;
        }
        let (mut level, mut place) = ((position >> 32) as u32, position as u32 as usize);
        // Usable destinations may have lost the weights `top` was computed from (overload): one whole round, no more.
        let heaviest = candidates
            .iter()
            .filter(|found| found.is_usable())
            .map(|found| found.spec.weight)
            .max()?;
        loop {
            while let Some(destination) = candidates.at(place) {
                place += 1;
                if destination.is_usable() && destination.spec.weight >= level {
                    return Some((u64::from(level) << 32 | place as u64, destination));
                }
            }
            place = 0;
            level = match level.checked_sub(self.step) {
                None | Some(0) => self.top,
                Some(lower) => lower,
            };
            // Levels no usable destination reaches are passed over at once.
            if level > heaviest {
                level -= (level - heaviest).div_ceil(self.step) * self.step;
            }
        }
    }
}
