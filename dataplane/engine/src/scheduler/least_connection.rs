//! `lc`: fewest connections (`ip_vs_lc.c`), whatever the weight. Good for equal servers and requests of unequal length.

use super::Load;
use crate::service::ConnectionCounts;

/// The overhead: an active connection weighs 256 inactive ones.
pub(super) fn load(counts: ConnectionCounts, _weight: u32) -> Load {
    Load::number(counts.overhead())
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::LeastConnection;
    use super::super::test_pool::Pool;

    #[test]
    fn goes_by_connections_and_not_by_weight() {
        let pool = Pool::new(LeastConnection, &[1, 2, 3]);
        assert_eq!(pool.picks(7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn an_active_connection_weighs_256_inactive_ones() {
        let pool = Pool::new(LeastConnection, &[1, 1]);
        pool.set_counts(0, 1, 0);
        pool.set_counts(1, 0, 255);
        assert_eq!(pool.pick(), Some(1));
        pool.set_counts(1, 0, 256);
        assert_eq!(pool.pick(), Some(0), "of equals the first");
        pool.set_counts(1, 0, 257);
        assert_eq!(pool.pick(), Some(0));
    }
}
