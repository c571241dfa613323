//! `lblcr`: each destination address has a set of servers, which grows while they have too much to do (`ip_vs_lblcr.c`).
//! Good for caches behind a firewall mark where some addresses are too much for one cache.
//!
//! A packet goes to the least loaded server of its address's set. When there is none, or that has more active
//! connections than its weight while another server has less than half of its own, the server that `wlc` would choose
//! joins the set. A set of several that did not change for `lblcr_expiration` loses its most loaded server.
//!
//! How many addresses are remembered, and how long, is said in [`address_index`](super::address_index); the memory,
//! 2.25 MiB a service, outlives changes of it. A set has at most 14 servers (Linux knows no limit): one more takes the
//! place of one that the service has no more, else of the most loaded.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::address_index::{AddressIndex, AddressKey, Asked, SLOTS, lines};
use super::locality_based::{is_overworked, member};
use super::{Arrival, Binding, Candidates, LoadTree, weighted_least_connection};
use crate::clock::Tick;
use crate::memory::Line;
use crate::service::Destination;

/// Lines of a slot.
const SET_LINES: usize = 2;
/// Words of a set before its members: when it changed, and how many have joined it.
const HEADER: usize = 2;
/// A member's word that holds none. Others are `joined as << 32 | 1 + number`.
const NONE: u64 = 0;

/// The addresses' sets.
#[derive(Debug)]
struct Memory {
    index: AddressIndex,
    sets: Box<[Line]>,
}

/// The addresses' sets, and the loads of all servers.
#[derive(Debug)]
pub struct LocalityBasedReplicated {
    tree: Arc<LoadTree>,
    memory: Arc<Memory>,
    /// `lblcr_expiration`, in ticks.
    expiration: u32,
}

impl LocalityBasedReplicated {
    pub(super) fn new(candidates: Candidates<'_>, binding: Binding) -> Self {
        let memory = Arc::new(Memory {
            index: AddressIndex::new(binding.now),
            sets: lines(SLOTS * SET_LINES * 8),
        });
        Self::with(candidates, binding, memory)
    }

    pub(super) fn after_change(&self, candidates: Candidates<'_>, binding: Binding) -> Self {
        Self::with(candidates, binding, Arc::clone(&self.memory))
    }

    fn with(candidates: Candidates<'_>, binding: Binding, memory: Arc<Memory>) -> Self {
        let destinations = candidates.list.len();
        Self {
            tree: Arc::new(LoadTree::new(destinations, weighted_least_connection::load)),
            memory,
            expiration: binding.tuning,
        }
    }

    pub(super) fn tree(&self) -> &Arc<LoadTree> {
        &self.tree
    }

    pub(super) fn pick<'s>(
        &self,
        candidates: Candidates<'s>,
        arrival: &Arrival<'_>,
    ) -> Option<&'s Destination> {
        let address = AddressKey::destination(&arrival.as_it_goes());
        let asked = Asked {
            now: arrival.now,
            expiration: self.expiration,
        };
        let known = self.memory.index.find(address, asked);
        let set = known.and_then(|slot| self.memory.set(slot));
        if let Some(set) = set {
            let least = set.least_loaded(candidates);
            // The one that is chosen now may be the one that goes: it serves this packet still.
            set.shrink(candidates, asked);
            let kept = least.filter(|found| !is_overworked(found, candidates));
            if kept.is_some() {
                return kept;
            }
        }
        let chosen = self.tree.choose(candidates)?;
        let set = set.or_else(|| {
            let empty = |slot| {
                if let Some(set) = self.memory.set(slot) {
                    set.empty();
                }
            };
            let slot = self.memory.index.claim(address, asked, empty)?;
            self.memory.set(slot)
        });
        if let Some(set) = set {
            set.insert(chosen, candidates, arrival.now);
        }
        Some(chosen)
    }
}

impl Memory {
    fn set(&self, slot: usize) -> Option<Set<'_>> {
        let lines = self.sets.get(slot * SET_LINES..(slot + 1) * SET_LINES)?;
        let (first, rest) = lines.split_first()?;
        let ([changed, joined], first_members) = first.0.split_first_chunk::<HEADER>()?;
        Some(Set {
            changed,
            joined,
            first_members,
            rest,
        })
    }
}

/// The servers of one address.
#[derive(Debug, Clone, Copy)]
struct Set<'m> {
    /// Tick of the last change.
    changed: &'m AtomicU64,
    /// Servers that have joined so far.
    joined: &'m AtomicU64,
    first_members: &'m [AtomicU64],
    rest: &'m [Line],
}

/// A member as its word says: the order of joining, and the destination unless the service has it no more.
#[derive(Debug, Clone, Copy)]
struct Member<'m, 's> {
    word: &'m AtomicU64,
    value: u64,
    destination: Option<&'s Destination>,
}

impl<'m> Set<'m> {
    fn words(self) -> impl Iterator<Item = &'m AtomicU64> {
        let rest = self.rest.iter().flat_map(|line| &line.0);
        self.first_members.iter().chain(rest)
    }

    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    fn members<'s>(self, candidates: Candidates<'s>) -> impl Iterator<Item = Member<'m, 's>> {
        self.words().filter_map(move |word| {
            let value = word.load(Acquire);
            (value != NONE).then(|| Member {
                word,
                value,
                destination: member(candidates, value as u32),
            })
        })
    }

    /// Of equals the one that joined last: the kernel's list has it first.
    fn least_loaded<'s>(self, candidates: Candidates<'s>) -> Option<&'s Destination> {
        let found = self.members(candidates).filter_map(|member| {
            let found = member.destination.filter(|found| found.is_usable())?;
            Some((found, member.value >> 32))
        });
        let least = found.min_by_key(|(found, joined)| (load(found), Reverse(*joined)));
        least.map(|(found, _)| found)
    }

    /// The member to do without: one that the service has no more, else the most loaded. Of equals the one that joined
    /// last, for the same reason. Drained servers do not count, as in Linux.
    fn dispensable<'s>(self, candidates: Candidates<'s>) -> Option<Member<'m, 's>> {
        let weighty = self
            .members(candidates)
            .filter(|member| member.destination.is_none_or(|found| found.spec.weight > 0));
        weighty.max_by_key(|member| {
            (
                member.destination.is_none(),
                member.destination.map(load),
                member.value >> 32,
            )
        })
    }

    /// Takes out a member when the set has several and has not changed for longer than `asked.expiration`.
    fn shrink(self, candidates: Candidates<'_>, asked: Asked) {
        let Asked { now, expiration } = asked;
        #[allow(clippy::cast_possible_truncation)] // a tick was stored
        let changed = Tick(self.changed.load(Relaxed) as u32);
        if changed.until(now) <= expiration.cast_signed() || self.members(candidates).count() < 2 {
            return;
        }
        if let Some(gone) = self.dispensable(candidates) {
            // Lost to another worker, that has taken it out.
            let _ = gone
                .word
                .compare_exchange(gone.value, NONE, AcqRel, Relaxed);
            self.changed.store(now.0.into(), Relaxed);
        }
    }

    /// Puts a server into the set unless it is in it.
    fn insert(self, found: &Destination, candidates: Candidates<'_>, now: Tick) {
        let server = u64::from(found.spec.number) + 1;
        if self
            .members(candidates)
            .any(|member| member.value & 0xffff_ffff == server)
        {
            return;
        }
        self.changed.store(now.0.into(), Relaxed);
        let value = self.joined.fetch_add(1, Relaxed) << 32 | server;
        let take =
            |word: &AtomicU64, old| word.compare_exchange(old, value, AcqRel, Relaxed).is_ok();
        if self.words().any(|word| take(word, NONE)) {
            return;
        }
        if let Some(gone) = self.dispensable(candidates) {
            // When another worker was faster, the set is without this server for now.
            let _ = take(gone.word, gone.value);
        }
    }

    fn empty(self) {
        self.words().for_each(|word| word.store(NONE, Release));
        self.joined.store(0, Relaxed);
    }
}

fn load(found: &Destination) -> super::Load {
    weighted_least_connection::load(found.shared.counts(), found.spec.weight)
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::LocalityBasedReplicated;
    use super::super::SchedulerState;
    use super::super::test_pool::{Pool, client};
    use super::*;
    use crate::clock::seconds;

    /// As the module says.
    const MEMBERS: u32 = 14;

    fn server(pool: &Pool, address: u32, now: Tick) -> Option<u32> {
        pool.pick_at(now, client(1), client(address))
    }

    /// A pool of two of weight 2 whose address 1 has both.
    fn both() -> Pool {
        let pool = Pool::new(LocalityBasedReplicated, &[2, 2]);
        assert_eq!(server(&pool, 1, Tick(0)), Some(0));
        pool.set_counts(0, 3, 0);
        assert_eq!(server(&pool, 1, Tick(0)), Some(1), "1 joins");
        pool
    }

    #[test]
    fn the_set_grows_when_its_servers_are_overworked() {
        let pool = both();
        pool.set_counts(0, 0, 0);
        pool.set_counts(1, 1, 0);
        assert_eq!(server(&pool, 1, Tick(0)), Some(0), "0 is still in it");
        pool.set_counts(0, 1, 0);
        assert_eq!(
            server(&pool, 1, Tick(0)),
            Some(1),
            "of equals the one that joined last"
        );
        assert_eq!(
            server(&pool, 2, Tick(0)),
            Some(0),
            "of all the first in the list"
        );
    }

    #[test]
    fn a_set_that_did_not_change_for_a_day_loses_its_most_loaded() {
        const DAY: u32 = seconds(86_400);
        for (idle, left) in [(DAY, 1), (DAY + 1, 0)] {
            let pool = both();
            pool.set_counts(0, 2, 0);
            pool.set_counts(1, 1, 0);
            // Used all day, or the address would be forgotten.
            for tick in [DAY / 2, DAY] {
                assert_eq!(server(&pool, 1, Tick(tick)), Some(1));
            }
            pool.set_counts(1, 9, 0);
            // The day is over now or not; this packet goes by the whole set all the same.
            assert_eq!(server(&pool, 1, Tick(idle)), Some(0));
            pool.set_counts(0, 2, 0);
            pool.set_counts(1, 1, 0);
            let wanted = if left == 1 { Some(1) } else { Some(0) };
            assert_eq!(server(&pool, 1, Tick(idle)), wanted);
        }
    }

    #[test]
    fn a_full_set_takes_one_more_in_place_of_another() {
        let many = MEMBERS + 5;
        let pool = Pool::new(LocalityBasedReplicated, &vec![2; many as usize]);
        let mut chosen = std::collections::HashSet::new();
        for round in 0..many {
            let found = server(&pool, 1, Tick(round)).unwrap();
            pool.set_counts(found, 3, 0);
            chosen.insert(found);
        }
        assert_eq!(chosen.len() as u32, many, "each was chosen once");
        let chosen = server(&pool, 1, Tick(many)).unwrap();
        // All are overworked and none is idle: it goes by the set, whose last member has come last.
        assert_eq!(chosen, many - 1);
        let address = AddressKey::destination(
            &crate::connection::FlowKey::from_sockets(6, client(1), client(1)).unwrap(),
        );
        let SchedulerState::LocalityBasedReplicated(state) = &pool.scheduler().state else {
            panic!("another scheduler");
        };
        let asked = Asked {
            now: Tick(many),
            expiration: seconds(86_400),
        };
        let set = state
            .memory
            .set(state.memory.index.find(address, asked).unwrap());
        let members = set
            .unwrap()
            .words()
            .filter(|word| word.load(Relaxed) != NONE);
        assert_eq!(members.count() as u32, MEMBERS);
    }

    #[test]
    fn servers_that_are_drained_or_gone_are_not_chosen() {
        let pool = both();
        pool.set_counts(0, 1, 0);
        let pool = pool.weighted(1, 0);
        assert_eq!(server(&pool, 1, Tick(1)), Some(0));
        let pool = pool.weighted(1, 2).without(0);
        assert_eq!(server(&pool, 1, Tick(2)), Some(1));
        let pool = pool.without(1);
        assert_eq!(server(&pool, 1, Tick(3)), None);
    }
}
