//! `sed`: where the new connection would be served soonest, counting itself (`ip_vs_sed.c`). Good for servers of very
//! different speed: while little runs the fast ones get all of it, where `wlc` would give each idle server one.

use super::Load;
use crate::service::ConnectionCounts;

/// `(active + 1) / weight`.
pub(super) fn load(counts: ConnectionCounts, weight: u32) -> Load {
    Load::ratio(u64::from(counts.active) + 1, weight)
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::ShortestExpectedDelay;
    use super::super::test_pool::Pool;

    #[test]
    fn counts_the_connection_that_comes() {
        let pool = Pool::new(ShortestExpectedDelay, &[1, 4]);
        // 1/1 against 1/4, 2/4, 3/4, 4/4 and then 2/1 against 4/4, 5/4.
        assert_eq!(pool.picks(6), [1, 1, 1, 0, 1, 1]);
    }

    #[test]
    fn inactive_connections_weigh_nothing() {
        let pool = Pool::new(ShortestExpectedDelay, &[1, 1]);
        pool.set_counts(0, 0, 1000);
        assert_eq!(pool.pick(), Some(0));
    }
}
