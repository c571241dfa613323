//! `fo`: everything to the server of the largest weight that takes connections (`ip_vs_fo.c`). Good for one server and
//! its stand-ins.

use super::Load;
use crate::service::ConnectionCounts;

/// Less the larger the weight.
pub(super) fn load(_counts: ConnectionCounts, weight: u32) -> Load {
    Load::number(u64::from(u32::MAX - weight))
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::WeightedFailover;
    use super::super::test_pool::Pool;

    #[test]
    fn the_next_one_when_the_best_is_overloaded() {
        let pool = Pool::new(WeightedFailover, &[1, 3, 3, 2]);
        assert_eq!(pool.picks(3), [1, 1, 1]);
        let pool = Pool::with_limits(WeightedFailover, &[(1, 0), (3, 2), (2, 1)]);
        assert_eq!(pool.picks(5), [1, 1, 2, 0, 0]);
    }
}
