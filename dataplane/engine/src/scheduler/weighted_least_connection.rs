//! `wlc`: fewest connections for its weight (`ip_vs_wlc.c`), the default. Good for requests of unequal length.
//!
//! The choice is Linux' own, the usable destination with the least overhead by weight and of equals the first in the
//! list, but read from a [`LoadTree`] that every change of a count keeps true, so it costs the same with 3 servers and
//! with 300.

use std::sync::Arc;

use super::{Candidates, LoadTree};
use crate::service::Destination;

/// The loads of a service's destinations.
#[derive(Debug)]
pub struct WeightedLeastConnection {
    tree: Arc<LoadTree>,
}

impl WeightedLeastConnection {
    pub(super) fn new(candidates: Candidates<'_>) -> Self {
        Self {
            tree: Arc::new(LoadTree::new(candidates.list.len())),
        }
    }

    pub(super) fn tree(&self) -> &Arc<LoadTree> {
        &self.tree
    }

    pub(super) fn pick<'s>(&self, candidates: Candidates<'s>) -> Option<&'s Destination> {
        let least = self
            .tree
            .first_least()
            .and_then(|place| candidates.at(place));
        // The tree may be a moment old: a destination that has just become unusable is passed over.
        least
            .filter(|found| found.is_usable())
            .or_else(|| candidates.iter().find(|found| found.is_usable()))
    }
}
