//! Who gets the next connection: one file a scheduler, each choosing as Linux' does, in sequence.
//!
//! Schedulers run only for packets without a connection. They see the destinations in the kernel's order (the last
//! added first) and keep their own state in atomics, shared by all workers, so that shares are exact over the box and
//! not only on each core. Nothing here allocates but [`Scheduler::new`], which runs where snapshots are compiled.
//!
//! | choice by | schedulers |
//! |---|---|
//! | turn | `rr`, `wrr` |
//! | load, least first ([`LoadTree`]) | `lc`, `wlc`, `sed`, `nq`, `fo`, `ovf` |
//! | hash, over a table made when the snapshot is compiled | `sh`, `dh`, `mh` |
//! | what the destination address had before | `lblc`, `lblcr` |
//! | lot | `twos`, `p2c`, `ewma` |

use std::sync::Arc;

mod address_hash;
mod address_index;
mod bounded_load;
mod destination_hashing;
mod fastest_answer;
mod least_connection;
mod load_tree;
mod locality_based;
mod locality_based_replicated;
mod maglev_hashing;
mod never_queue;
mod power_of_two_choices;
mod random_draw;
mod round_robin;
mod shortest_expected_delay;
mod source_hashing;
#[cfg(test)]
mod test_pool;
#[cfg(test)]
mod tests;
mod two_random_choices;
mod weighted_failover;
mod weighted_least_connection;
mod weighted_overflow;
mod weighted_round_robin;

use self::destination_hashing::DestinationHashing;
use self::fastest_answer::FastestAnswer;
pub use self::load_tree::{Load, LoadTree, Measure};
use self::locality_based::LocalityBased;
use self::locality_based_replicated::LocalityBasedReplicated;
use self::maglev_hashing::MaglevHashing;
use self::power_of_two_choices::PowerOfTwoChoices;
use self::round_robin::RoundRobin;
use self::source_hashing::SourceHashing;
use self::two_random_choices::TwoRandomChoices;
use self::weighted_round_robin::WeightedRoundRobin;
use crate::clock::{Microsecond, Tick};
use crate::connection::{Family, FlowKey};
use crate::service::Destination;
use crate::settings::IpvsSettings;

/// A scheduler's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchedulerKind {
    /// `rr`.
    RoundRobin,
    /// `wrr`.
    WeightedRoundRobin,
    /// `lc`.
    LeastConnection,
    /// `wlc`.
    WeightedLeastConnection,
    /// `sed`.
    ShortestExpectedDelay,
    /// `nq`.
    NeverQueue,
    /// `fo`.
    WeightedFailover,
    /// `ovf`.
    WeightedOverflow,
    /// `sh`.
    SourceHashing(HashFlags),
    /// `dh`.
    DestinationHashing,
    /// `mh`.
    MaglevHashing(MaglevFlags),
    /// `lblc`.
    LocalityBased,
    /// `lblcr`.
    LocalityBasedReplicated,
    /// `twos`.
    TwoRandomChoices,
    /// `p2c`.
    PowerOfTwoChoices,
    /// `ewma`.
    FastestAnswer,
}

impl SchedulerKind {
    /// The setting of all services that it heeds: a change of that makes it anew. 0 when there is none.
    pub fn tuning(self, settings: &IpvsSettings) -> u32 {
        match self {
            Self::LocalityBased => settings.lblc_expiration,
            Self::LocalityBasedReplicated => settings.lblcr_expiration,
            Self::MaglevHashing(_) => settings.mh_tab_index.into(),
            _ => 0,
        }
    }

    /// Whether a new connection, by being there, may change who gets the next one.
    pub fn looks_at_load(self) -> bool {
        match self {
            Self::RoundRobin
            | Self::WeightedRoundRobin
            | Self::SourceHashing(_)
            | Self::DestinationHashing
            | Self::FastestAnswer => false,
            Self::MaglevHashing(flags) => flags.bounded.is_some(),
            Self::LeastConnection
            | Self::WeightedLeastConnection
            | Self::ShortestExpectedDelay
            | Self::NeverQueue
            | Self::WeightedFailover
            | Self::WeightedOverflow
            | Self::LocalityBased
            | Self::LocalityBasedReplicated
            | Self::TwoRandomChoices
            | Self::PowerOfTwoChoices => true,
        }
    }
}

/// What a scheduler is made with, besides its destinations.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// The service's.
    pub family: Family,
    /// When: a new one begins then.
    pub now: Tick,
    /// The setting that it heeds ([`SchedulerKind::tuning`]).
    pub tuning: u32,
}

/// Flags of `sh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HashFlags {
    /// `sh-fallback`: another destination instead of a refusal when the flow's own takes no connections.
    pub fallback: bool,
    /// `sh-port`: the client's port counts too.
    pub port: bool,
}

/// Flags of `mh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MaglevFlags {
    /// `mh-fallback`: another destination instead of a refusal when the flow's own takes no connections.
    pub fallback: bool,
    /// `mh-port`: the client's port counts too.
    pub port: bool,
    /// `mh-bounded`: another destination also when the flow's own has more than so many percent above its share.
    pub bounded: Option<u16>,
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

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'s Destination> + use<'s, '_> {
        (0..self.list.len()).filter_map(|place| self.at(place))
    }
}

/// The packet that opens a connection, as far as a scheduler may look at it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'p> {
    /// Who it is from and where it goes; of one that an ICMP error quotes, the connection's: from the client to the service.
    pub key: &'p FlowKey,
    /// Whether an error quotes it, by which it went the other way than its key (`ip_vs_iph_inverse`).
    pub is_quoted: bool,
    /// The key's hash, by the connection table's secret.
    pub hash: u64,
    /// When it came.
    pub now: Tick,
    /// The same, finer.
    pub microsecond: Microsecond,
}

impl Arrival<'_> {
    /// From where to where the packet itself goes. Linux' schedulers by destination take that of one that an error quotes
    /// too, which is the client; those by source take the client's in either case.
    fn as_it_goes(&self) -> FlowKey {
        if self.is_quoted {
            self.key.reversed()
        } else {
            *self.key
        }
    }
}

/// A scheduler with its state.
#[derive(Debug)]
pub struct Scheduler {
    kind: SchedulerKind,
    tuning: u32,
    state: SchedulerState,
}

#[derive(Debug)]
enum SchedulerState {
    RoundRobin(RoundRobin),
    WeightedRoundRobin(WeightedRoundRobin),
    /// All that choose by load alone.
    LeastLoaded(Arc<LoadTree>),
    SourceHashing(SourceHashing),
    DestinationHashing(DestinationHashing),
    MaglevHashing(MaglevHashing),
    LocalityBased(LocalityBased),
    LocalityBasedReplicated(LocalityBasedReplicated),
    TwoRandomChoices(TwoRandomChoices),
    PowerOfTwoChoices(PowerOfTwoChoices),
    FastestAnswer(FastestAnswer),
}

impl Scheduler {
    /// A scheduler for a service that is new, or changed: then `previous` is the one before with its
    /// list, and what Linux keeps over such a change is kept.
    pub fn new(
        kind: SchedulerKind,
        binding: Binding,
        candidates: Candidates<'_>,
        previous: Option<(&Self, &[u32])>,
    ) -> Self {
        use SchedulerKind as Kind;
        use SchedulerState as State;
        let old = previous.map(|(old, list)| (&old.state, list));
        let least_loaded =
            |measure| State::LeastLoaded(Arc::new(LoadTree::new(candidates.list.len(), measure)));
        let state = match kind {
            Kind::RoundRobin => State::RoundRobin(match old {
                Some((State::RoundRobin(old), list)) => old.after_change(list, candidates.list),
                _ => RoundRobin::default(),
            }),
            Kind::WeightedRoundRobin => State::WeightedRoundRobin(match old {
                Some((State::WeightedRoundRobin(old), _)) => old.after_change(candidates),
                _ => WeightedRoundRobin::new(candidates),
            }),
            Kind::LeastConnection => least_loaded(least_connection::load),
            Kind::WeightedLeastConnection => least_loaded(weighted_least_connection::load),
            Kind::ShortestExpectedDelay => least_loaded(shortest_expected_delay::load),
            Kind::NeverQueue => least_loaded(never_queue::load),
            Kind::WeightedFailover => least_loaded(weighted_failover::load),
            Kind::WeightedOverflow => least_loaded(weighted_overflow::load),
            Kind::SourceHashing(flags) => {
                State::SourceHashing(SourceHashing::new(candidates, flags))
            }
            Kind::DestinationHashing => {
                State::DestinationHashing(DestinationHashing::new(candidates))
            }
            Kind::MaglevHashing(flags) => {
                State::MaglevHashing(MaglevHashing::new(candidates, binding, flags))
            }
            Kind::LocalityBased => State::LocalityBased(match old {
                Some((State::LocalityBased(old), _)) => old.after_change(candidates, binding),
                _ => LocalityBased::new(candidates, binding),
            }),
            Kind::LocalityBasedReplicated => State::LocalityBasedReplicated(match old {
                Some((State::LocalityBasedReplicated(old), _)) => {
                    old.after_change(candidates, binding)
                }
                _ => LocalityBasedReplicated::new(candidates, binding),
            }),
            Kind::TwoRandomChoices => State::TwoRandomChoices(TwoRandomChoices::default()),
            Kind::PowerOfTwoChoices => State::PowerOfTwoChoices(PowerOfTwoChoices::new(candidates)),
            Kind::FastestAnswer => State::FastestAnswer(FastestAnswer::new(candidates)),
        };
        Self {
            kind,
            tuning: binding.tuning,
            state,
        }
    }

    /// The setting it was made with ([`Binding::tuning`]).
    pub fn tuning(&self) -> u32 {
        self.tuning
    }

    /// Its kind.
    pub fn kind(&self) -> SchedulerKind {
        self.kind
    }

    /// Where destinations keep their loads, for schedulers that choose by them.
    pub fn load_tree(&self) -> Option<&Arc<LoadTree>> {
        match &self.state {
            SchedulerState::LeastLoaded(tree) => Some(tree),
            SchedulerState::LocalityBased(state) => Some(state.tree()),
            SchedulerState::LocalityBasedReplicated(state) => Some(state.tree()),
            _ => None,
        }
    }

    /// The destination of a new connection; none when no destination takes it.
    pub fn pick<'s>(
        &self,
        candidates: Candidates<'s>,
        arrival: &Arrival<'_>,
    ) -> Option<&'s Destination> {
        match &self.state {
            SchedulerState::RoundRobin(state) => state.pick(candidates),
            SchedulerState::WeightedRoundRobin(state) => state.pick(candidates),
            SchedulerState::LeastLoaded(tree) => tree.choose(candidates),
            SchedulerState::SourceHashing(state) => state.pick(candidates, arrival),
            SchedulerState::DestinationHashing(state) => state.pick(candidates, arrival),
            SchedulerState::MaglevHashing(state) => state.pick(candidates, arrival),
            SchedulerState::LocalityBased(state) => state.pick(candidates, arrival),
            SchedulerState::LocalityBasedReplicated(state) => state.pick(candidates, arrival),
            SchedulerState::TwoRandomChoices(state) => state.pick(candidates, arrival),
            SchedulerState::PowerOfTwoChoices(state) => state.pick(candidates, arrival),
            SchedulerState::FastestAnswer(state) => state.pick(candidates, arrival),
        }
    }
}
