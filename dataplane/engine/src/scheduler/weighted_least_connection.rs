//! `wlc`: fewest connections for its weight (`ip_vs_wlc.c`), the default. Good for requests of unequal length.

use super::Candidates;
use crate::service::Destination;

/// The usable destination with the least overhead by weight; of equals, the first in the list.
pub(super) fn pick<'s>(candidates: Candidates<'s>) -> Option<&'s Destination> {
    let mut least: Option<(&Destination, u64)> = None;
    for found in candidates.iter().filter(|found| found.is_usable()) {
        let overhead = found.shared.counts().overhead();
        let better = least.is_none_or(|(best, best_overhead)| {
            // best_overhead / best.weight > overhead / found.weight, without division.
            u128::from(best_overhead) * u128::from(found.spec.weight)
                > u128::from(overhead) * u128::from(best.spec.weight)
        });
        if better {
            least = Some((found, overhead));
        }
    }
    least.map(|(found, _)| found)
}
