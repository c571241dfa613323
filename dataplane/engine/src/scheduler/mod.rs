//! Who gets the next connection: one file a scheduler, each choosing as Linux' does, in sequence.
//!
//! Schedulers run only for packets without a connection. They see the destinations in the kernel's order (the last
//! added first) and keep their own state in atomics, shared by all workers, so that shares are exact over the box and
//! not only on each core.

use std::sync::Arc;

mod load_tree;
mod round_robin;
mod weighted_least_connection;
mod weighted_round_robin;

pub use self::load_tree::{Load, LoadTree};
use self::round_robin::RoundRobin;
use self::weighted_least_connection::WeightedLeastConnection;
use self::weighted_round_robin::WeightedRoundRobin;
use crate::service::Destination;

/// A scheduler's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchedulerKind {
    /// `rr`.
    RoundRobin,
    /// `wrr`.
    WeightedRoundRobin,
    /// `wlc`.
    WeightedLeastConnection,
}

/// The destinations of a service, in order.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'s> {
    /// Numbers, the last added first.
    pub list: &'s [u32],
    /// All destinations of the snapshot, by number.
    pub all: &'s [Option<Destination>],
}

impl<'s> Candidates<'s> {
    /// The destination at a place of the list.
    pub fn at(&self, place: usize) -> Option<&'s Destination> {
        self.all.get(*self.list.get(place)? as usize)?.as_ref()
    }

    /// All with their places.
    pub fn iter(&self) -> impl Iterator<Item = &'s Destination> + use<'s, '_> {
        (0..self.list.len()).filter_map(|place| self.at(place))
    }
}

/// A scheduler with its state.
#[derive(Debug)]
pub enum Scheduler {
    /// `rr`.
    RoundRobin(RoundRobin),
    /// `wrr`.
    WeightedRoundRobin(WeightedRoundRobin),
    /// `wlc`.
    WeightedLeastConnection(WeightedLeastConnection),
}

impl Scheduler {
    /// A scheduler for a service that is new, or changed: then `previous` is the one before with its list, and what
    /// Linux keeps over such a change is kept.
    pub fn new(
        kind: SchedulerKind,
        candidates: Candidates<'_>,
        previous: Option<(&Self, &[u32])>,
    ) -> Self {
        match kind {
            SchedulerKind::RoundRobin => Self::RoundRobin(match previous {
                Some((Self::RoundRobin(old), list)) => old.after_change(list, candidates.list),
                _ => RoundRobin::default(),
            }),
            SchedulerKind::WeightedRoundRobin => Self::WeightedRoundRobin(match previous {
                Some((Self::WeightedRoundRobin(old), _)) => old.after_change(candidates),
                _ => WeightedRoundRobin::new(candidates),
            }),
            SchedulerKind::WeightedLeastConnection => {
                Self::WeightedLeastConnection(WeightedLeastConnection::new(candidates))
            }
        }
    }

    /// Its kind.
    pub fn kind(&self) -> SchedulerKind {
        match self {
            Self::RoundRobin(_) => SchedulerKind::RoundRobin,
            Self::WeightedRoundRobin(_) => SchedulerKind::WeightedRoundRobin,
            Self::WeightedLeastConnection(_) => SchedulerKind::WeightedLeastConnection,
        }
    }

    /// Where destinations keep their loads, for schedulers that choose by them.
    pub fn load_tree(&self) -> Option<&Arc<LoadTree>> {
        match self {
            Self::WeightedLeastConnection(state) => Some(state.tree()),
            Self::RoundRobin(_) | Self::WeightedRoundRobin(_) => None,
        }
    }

    /// The destination of a new connection; none when no destination takes any.
    pub fn pick<'s>(&self, candidates: Candidates<'s>) -> Option<&'s Destination> {
        match self {
            Self::RoundRobin(state) => state.pick(candidates),
            Self::WeightedRoundRobin(state) => state.pick(candidates),
            Self::WeightedLeastConnection(state) => state.pick(candidates),
        }
    }
}
