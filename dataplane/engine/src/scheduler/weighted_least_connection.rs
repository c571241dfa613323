//! `wlc`: fewest connections for its weight (`ip_vs_wlc.c`), the default. Good for requests of unequal length.

use super::Load;
use crate::service::ConnectionCounts;

/// Overhead by weight, as a fraction: Linux multiplies crosswise instead, with the same outcome.
pub(super) fn load(counts: ConnectionCounts, weight: u32) -> Load {
    Load::ratio(counts.overhead(), weight)
}
