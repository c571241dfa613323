//! Numbers for schedulers that draw lots. The engine has no source of chance: these come from the flow's hash, which is
//! keyed with the table's secret, and from how many were drawn before, so that nobody outside can foresee them and one
//! flow that comes again is drawn anew.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::utils::CachePadded;

use super::Candidates;

/// SplitMix64's step: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// How many draws there were, in steps.
#[derive(Debug, Default)]
pub(super) struct Lottery(CachePadded<AtomicU64>);

/// The numbers of one draw.
#[derive(Debug)]
pub(super) struct Draw(u64);

impl Lottery {
    /// A draw for a flow with this hash.
    pub fn draw(&self, hash: u64) -> Draw {
        Draw(hash ^ mix(self.0.fetch_add(STEP, Relaxed)))
    }
}

/// SplitMix64's output.
fn mix(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Draw {
    /// A number below this one; 0 below 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let product = u128::from(mix(self.0)) * u128::from(end);
        #[allow(clippy::cast_possible_truncation)] // the high half is below `end`
        let number = (product >> 64) as u64;
        number
    }
}

/// The sum of the weights up to each place of a list: a server by weight is a search in it, which costs the same, to a few
/// comparisons, with 3 servers and with 300.
#[derive(Debug)]
pub(super) struct WeightSums(Box<[u64]>);

impl WeightSums {
    pub fn new(candidates: Candidates<'_>) -> Self {
        let weights = candidates.iter().map(|found| u64::from(found.spec.weight));
        let sums = weights.scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self(sums.collect())
    }

    /// Of all weights.
    pub fn total(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// The sum before a place, and the weight there.
    pub fn at(&self, place: usize) -> Option<(u64, u64)> {
        let before = place.checked_sub(1).and_then(|place| self.0.get(place));
        let before = before.copied().unwrap_or(0);
        Some((before, self.0.get(place)? - before))
    }

    /// The place of the server that this number, below the sum of all weights, belongs to.
    pub fn place(&self, number: u64) -> usize {
        self.0.partition_point(|sum| *sum <= number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_evenly_whatever_the_flows() {
        // One flow that comes again and again, and flows that differ in the lowest bits only.
        for flows in [1, 4096] {
            let lottery = Lottery::default();
            let mut drawn = [0u32; 10];
            for flow in 0..100_000 {
                let mut draw = lottery.draw(flow % flows);
                drawn[draw.below(10) as usize] += 1;
                drawn[draw.below(10) as usize] += 1;
            }
            // 20000 each; the standard deviation is 134.
            assert!(
                drawn.iter().all(|count| count.abs_diff(20_000) < 700),
                "{drawn:?}"
            );
        }
    }
}
