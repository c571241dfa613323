//! `ovf`: the server of the largest weight that has not more active connections than its weight (`ip_vs_ovf.c`). Good
//! for filling servers one after the other, so that the rest may sleep; refuses when all are full.

use super::{Load, weighted_failover};
use crate::service::ConnectionCounts;

/// As `fo`, but unusable when full. A server of weight 3 is full with 4, as in Linux.
pub(super) fn load(counts: ConnectionCounts, weight: u32) -> Load {
    if counts.active > weight {
        Load::UNUSABLE
    } else {
        weighted_failover::load(counts, weight)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::WeightedOverflow;
    use super::super::test_pool::Pool;

    #[test]
    fn fills_one_after_the_other_then_refuses() {
        let pool = Pool::new(WeightedOverflow, &[1, 2]);
        assert_eq!(pool.picks(5), [1, 1, 1, 0, 0]);
        assert_eq!(pool.pick(), None);
        pool.set_counts(1, 2, 9);
        assert_eq!(pool.pick(), Some(1));
    }
}
