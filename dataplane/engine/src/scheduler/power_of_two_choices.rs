//! `p2c`: the less loaded of two different servers drawn by weight; LVS has no such scheduler. Good for hundreds of
//! servers, and for many directors that share servers: close to `wlc`, but a server that is new or has become empty is
//! not sent everything by all directors at once.
//!
//! Load is `wlc`'s: connections by weight, an active one weighing 256 inactive ones; of equals the first drawn. A draw
//! writes nothing but the count of draws.

use super::random_draw::{Draw, Lottery, WeightSums};
use super::{Arrival, Candidates, Load, weighted_least_connection};
use crate::service::Destination;

/// Pairs drawn before all servers are looked at: so many are in vain only when most servers are overloaded.
const PAIRS: usize = 4;

/// The lots.
#[derive(Debug)]
pub struct PowerOfTwoChoices {
    lottery: Lottery,
    sums: WeightSums,
}

impl PowerOfTwoChoices {
    pub(super) fn new(candidates: Candidates<'_>) -> Self {
        Self {
            lottery: Lottery::default(),
            sums: WeightSums::new(candidates),
        }
    }

    pub(super) fn pick<'s>(
        &self,
        candidates: Candidates<'s>,
        arrival: &Arrival<'_>,
    ) -> Option<&'s Destination> {
        let mut draw = self.lottery.draw(arrival.hash);
        (0..PAIRS)
            .find_map(|_| self.less_loaded(candidates, &mut draw))
            .or_else(|| {
                let usable = candidates.iter().filter(|found| found.is_usable());
                usable.min_by_key(|found| load(found))
            })
    }

    /// Of a pair that is drawn; none when neither takes connections.
    fn less_loaded<'s>(
        &self,
        candidates: Candidates<'s>,
        draw: &mut Draw,
    ) -> Option<&'s Destination> {
        let total = self.sums.total();
        let first = self.sums.place(draw.below(total));
        let (before, weight) = self.sums.at(first)?;
        // The second is drawn as if the first were not there.
        let number = draw.below(total - weight);
        let second = self.sums.place(if number < before {
            number
        } else {
            number + weight
        });
        let pair = [first, second].map(|place| candidates.at(place));
        let usable = pair.into_iter().flatten().filter(|found| found.is_usable());
        usable.min_by_key(|found| load(found))
    }
}

fn load(found: &Destination) -> Load {
    weighted_least_connection::load(found.shared.counts(), found.spec.weight)
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::PowerOfTwoChoices;
    use super::super::test_pool::Pool;

    #[test]
    fn idle_servers_are_drawn_by_weight() {
        let shares = Pool::new(PowerOfTwoChoices, &[1, 0, 2, 5]).shares(80_000);
        for (share, wanted) in shares.iter().zip([10_000u32, 0, 20_000, 50_000]) {
            assert!(share.abs_diff(wanted) < 800, "{shares:?}");
        }
    }

    #[test]
    fn of_two_different_ones_the_less_loaded() {
        let pool = Pool::new(PowerOfTwoChoices, &[1, 1]);
        pool.set_counts(0, 1, 0);
        assert_eq!(pool.shares(1000), [0, 1000]);
        let one = Pool::new(PowerOfTwoChoices, &[3]);
        assert_eq!(one.shares(10), [10]);
    }

    #[test]
    fn connections_that_stay_end_up_by_weight() {
        let pool = Pool::new(PowerOfTwoChoices, &[1, 2, 3, 4]);
        let picks = pool.picks(10_000);
        for (number, weight) in (0..).zip([1, 2, 3, 4]) {
            let share = picks.iter().filter(|chosen| **chosen == number).count();
            assert!(share.abs_diff(1000 * weight) < 20, "{number}: {share}");
        }
    }

    #[test]
    fn looks_at_all_when_most_are_overloaded() {
        let mut limits = vec![(100, 1); 50];
        limits.push((1, 0));
        let pool = Pool::with_limits(PowerOfTwoChoices, &limits);
        (0..50).for_each(|number| pool.set_counts(number, 1, 0));
        assert_eq!(pool.shares(1000)[50], 1000);
        assert_eq!(Pool::new(PowerOfTwoChoices, &[0, 0]).pick(), None);
        assert_eq!(Pool::new(PowerOfTwoChoices, &[]).pick(), None);
    }
}
