//! `ewma`: by weight, divided by how long the server takes to answer a SYN; LVS has no such scheduler. Good for servers
//! whose speed differs and changes: neighbours on their hosts, other sites, garbage collection.
//!
//! A server is drawn by weight and taken with the chance `shortest mean / its mean`, so that shares are as
//! `weight / mean` without a look at all servers. The mean ([`ResponseTime`](crate::service::ResponseTime)) is known where
//! answers pass the director, under NAT; a server without one is taken as drawn, so without NAT this is a draw by weight.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use super::random_draw::{Lottery, WeightSums};
use super::{Arrival, Candidates};
use crate::service::Destination;

/// Draws before the last one is taken in any case: of servers that are 16 times slower than the fastest, one in three
/// draws ends so, which is what a server that has become slow is still asked by.
const DRAWS: usize = 16;
/// The shortest mean is looked for among all servers every so many choices.
const LOOKED_FOR_EVERY: u32 = 64;

/// The lots.
#[derive(Debug)]
pub struct FastestAnswer {
    lottery: Lottery,
    sums: WeightSums,
    /// Microseconds, as of the last look and every server met since; 0: none is known.
    shortest: AtomicU32,
    /// Choices made.
    choices: AtomicU32,
}

impl FastestAnswer {
    pub(super) fn new(candidates: Candidates<'_>) -> Self {
        Self {
            lottery: Lottery::default(),
            sums: WeightSums::new(candidates),
            shortest: AtomicU32::new(0),
            choices: AtomicU32::new(0),
        }
    }

    pub(super) fn pick<'s>(
        &self,
        candidates: Candidates<'s>,
        arrival: &Arrival<'_>,
    ) -> Option<&'s Destination> {
        let mean = |found: &Destination| {
            let times = &found.shared.response_time;
            times.mean(arrival.microsecond, arrival.now)
        };
        let choice = self.choices.fetch_add(1, Relaxed);
        if choice.is_multiple_of(LOOKED_FOR_EVERY) {
            let usable = candidates.iter().filter(|found| found.is_usable());
            let shortest = usable.filter_map(mean).min();
            self.shortest.store(shortest.unwrap_or(0), Relaxed);
        }
        let mut draw = self.lottery.draw(arrival.hash);
        let mut last = None;
        for _ in 0..DRAWS {
            let place = self.sums.place(draw.below(self.sums.total()));
            let Some(found) = candidates.at(place).filter(|found| found.is_usable()) else {
                continue;
            };
            let Some(mean) = mean(found) else {
                return Some(found);
            };
            let shortest = match self.shortest.load(Relaxed) {
                0 => mean,
                known => known.min(mean),
            };
            if draw.below(mean.into()) < u64::from(shortest) {
                return Some(found);
            }
            last = Some(found);
        }
        // Nearly all are overloaded: any that is not.
        last.or_else(|| candidates.iter().find(|found| found.is_usable()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::FastestAnswer;
    use super::super::test_pool::Pool;
    use crate::clock::{Microsecond, Tick};

    /// Shares of 80,000 choices after each server has taken so long to answer.
    fn shares(weights: &[u32], times: &[u32]) -> Vec<u32> {
        let pool = Pool::new(FastestAnswer, weights);
        for (number, time) in (0..).zip(times) {
            let times = &pool.destination(number).shared.response_time;
            times.sent(number, Microsecond(0), Tick(0));
            times.answered(number, Microsecond(*time), Tick(0));
        }
        pool.shares(80_000)
    }

    fn assert_shares(found: &[u32], wanted: &[u32]) {
        for (share, wanted) in found.iter().zip(wanted) {
            assert!(share.abs_diff(*wanted) < 800, "{found:?}");
        }
    }

    #[test]
    fn equally_fast_servers_are_drawn_by_weight() {
        let found = shares(&[1, 0, 2, 5], &[300; 4]);
        assert_shares(&found, &[10_000, 0, 20_000, 50_000]);
        // Nothing is known of any.
        assert_shares(&shares(&[1, 3], &[]), &[20_000, 60_000]);
    }

    #[test]
    fn a_server_three_times_slower_has_a_third() {
        assert_shares(&shares(&[1, 1], &[100, 300]), &[60_000, 20_000]);
        assert_shares(&shares(&[1, 3], &[100, 300]), &[40_000, 40_000]);
    }

    #[test]
    fn a_very_slow_server_is_still_asked() {
        let found = shares(&[1, 1], &[100, 3_000_000]);
        assert!(found[1] < 800, "{found:?}");
        let found = shares(&[1], &[3_000_000]);
        assert_eq!(found, [80_000]);
    }

    #[test]
    fn none_without_a_usable_server() {
        assert_eq!(Pool::new(FastestAnswer, &[0, 0]).pick(), None);
        assert_eq!(Pool::new(FastestAnswer, &[]).pick(), None);
        let mut limits = vec![(100, 1); 50];
        limits.push((1, 0));
        let pool = Pool::with_limits(FastestAnswer, &limits);
        (0..50).for_each(|number| pool.set_counts(number, 1, 0));
        assert_eq!(pool.shares(1000)[50], 1000);
    }
}
