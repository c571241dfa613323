//! How many connections a server may have before `mh-bounded` sends new ones elsewhere.

use super::Candidates;
use super::Load;
use crate::service::Destination;

/// The limit at one moment: each server's share, by weight, of all connections and the new one, and so many percent,
/// rounded up. As the limits add up to more than there are connections, some server always has room.
///
/// Connections are counted as thresholds count them, active and inactive alike. Workers that choose at the same moment
/// may go beyond a limit by one each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// Connections of all usable servers and the new one, times 100 and so many percent.
    allowed: u128,
    /// Weights of all usable servers, times 100.
    weights: u128,
}

impl Bound {
    /// Buckets that are looked at before all servers are.
    pub(super) const PROBES: u32 = 64;

    /// The limit now; none when no server takes connections.
    pub(super) fn new(candidates: Candidates<'_>, excess_percent: u16) -> Option<Self> {
        let usable = candidates.iter().filter(|found| found.is_usable());
        let (connections, weights) = usable.fold((0, 0), |(connections, weights), found| {
            let total = found.shared.counts().total();
            (connections + total, weights + u64::from(found.spec.weight))
        });
        (weights > 0).then(|| Self {
            allowed: (u128::from(connections) + 1) * (100 + u128::from(excess_percent)),
            weights: u128::from(weights) * 100,
        })
    }

    /// Whether it may have one more.
    pub(super) fn has_room(&self, found: &Destination) -> bool {
        let limit = (self.allowed * u128::from(found.spec.weight)).div_ceil(self.weights);
        found.is_usable() && u128::from(found.shared.counts().total()) < limit
    }

    /// The one with the fewest connections for its weight: when probing has found none with room.
    pub(super) fn emptiest<'s>(&self, candidates: Candidates<'s>) -> Option<&'s Destination> {
        let usable = candidates.iter().filter(|found| found.is_usable());
        usable.min_by_key(|found| Load::ratio(found.shared.counts().total(), found.spec.weight))
    }
}
