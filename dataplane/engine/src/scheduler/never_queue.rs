//! `nq`: an idle server if there is one, else as `sed` (`ip_vs_nq.c`). Good for servers of very different speed when no
//! request shall wait while a server has nothing to do.

use super::{Load, shortest_expected_delay};
use crate::service::ConnectionCounts;

/// Nothing when it is idle: the first idle server of the list is the first of equals.
pub(super) fn load(counts: ConnectionCounts, weight: u32) -> Load {
    if counts.active == 0 {
        Load::number(0)
    } else {
        shortest_expected_delay::load(counts, weight)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::NeverQueue;
    use super::super::test_pool::Pool;

    #[test]
    fn idle_servers_first_then_as_sed() {
        let pool = Pool::new(NeverQueue, &[1, 4]);
        // Both are idle; then 2/1 against 2/4, 3/4, ..., 8/4, where the first of equals is the other.
        assert_eq!(pool.picks(9), [0, 1, 1, 1, 1, 1, 1, 1, 0]);
    }
}
