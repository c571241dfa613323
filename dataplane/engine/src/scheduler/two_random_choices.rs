//! `twos`: the less loaded of two drawn by weight (`ip_vs_twos.c`). Good for many directors that share servers without
//! knowing of each other's connections; `p2c` is the better draw where Linux need not be matched.
//!
//! Drawn as Linux draws: a number from 0 to the sum of the weights, the end included, so that the first of the list has
//! one chance more than its weight says; and both draws may be the same server.

use super::random_draw::Lottery;
use super::{Arrival, Candidates, weighted_least_connection};
use crate::service::Destination;

/// The lots.
#[derive(Debug, Default)]
pub struct TwoRandomChoices {
    lottery: Lottery,
}

impl TwoRandomChoices {
    pub(super) fn pick<'s>(
        &self,
        candidates: Candidates<'s>,
        arrival: &Arrival<'_>,
    ) -> Option<&'s Destination> {
        let usable = || candidates.iter().filter(|found| found.is_usable());
        let total: u64 = usable().map(|found| u64::from(found.spec.weight)).sum();
        let mut draw = self.lottery.draw(arrival.hash);
        let drawn = [draw.below(total + 1), draw.below(total + 1)];
        let [first, second] = drawn.map(|number| {
            let mut sum = 0;
            usable().find(|found| {
                sum += u64::from(found.spec.weight);
                number <= sum
            })
        });
        // A server that became unusable since the weights were added up may leave a draw without one.
        let (Some(first), Some(second)) = (first, second) else {
            return first.or(second).or_else(|| usable().next());
        };
        let load = |found: &Destination| {
            weighted_least_connection::load(found.shared.counts(), found.spec.weight)
        };
        Some(if load(second) < load(first) {
            second
        } else {
            first
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::TwoRandomChoices;
    use super::super::test_pool::Pool;

    #[test]
    fn idle_servers_are_drawn_by_weight_the_first_with_one_chance_more() {
        let shares = Pool::new(TwoRandomChoices, &[1, 2, 3]).shares(70_000);
        // Of 0 to 6: 0 and 1, 2 and 3, 4 to 6.
        for (share, wanted) in shares.iter().zip([20_000u32, 20_000, 30_000]) {
            assert!(share.abs_diff(wanted) < 700, "{shares:?}");
        }
    }

    #[test]
    fn of_two_the_less_loaded() {
        let pool = Pool::new(TwoRandomChoices, &[1, 1]);
        pool.set_counts(0, 5, 0);
        // Only where both draws are the first one: 2/3 of 2/3.
        let shares = pool.shares(90_000);
        assert!(shares[0].abs_diff(40_000) < 900, "{shares:?}");
        let pool = Pool::with_limits(TwoRandomChoices, &[(1, 0), (1, 1), (0, 0)]);
        pool.set_counts(1, 1, 0);
        assert_eq!(pool.shares(1000), [1000, 0, 0]);
        assert_eq!(Pool::new(TwoRandomChoices, &[0]).pick(), None);
    }
}
