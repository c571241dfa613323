//! `lblc`: each destination address has its server, until that has too much to do (`ip_vs_lblc.c`). Good for caches
//! behind a firewall mark, where each address is best kept by one cache; a service of one address has one server at a
//! time.
//!
//! A new address goes where `wlc` would send it, and stays. It moves, again as `wlc` says, when its server is gone or
//! drained, or has more active connections than its weight while another has less than half of its own: so weights are
//! numbers of connections here. Thresholds keep a server from new addresses only, as in Linux. How many addresses are
//! remembered, and how long, is said in [`address_index`](super::address_index); the memory, 320 KiB a service,
//! outlives changes of it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::address_index::{AddressIndex, AddressKey, Asked, SLOTS};
use super::{Arrival, Binding, Candidates, LoadTree, weighted_least_connection};
use crate::service::Destination;

/// A slot without a server; servers are 1 + their number.
const NONE: u32 = 0;

/// The addresses' servers.
#[derive(Debug)]
struct Memory {
    index: AddressIndex,
    servers: Box<[AtomicU32]>,
}

/// The addresses' servers, and the loads of all.
#[derive(Debug)]
pub struct LocalityBased {
    tree: Arc<LoadTree>,
    memory: Arc<Memory>,
    /// `lblc_expiration`, in ticks.
    expiration: u32,
}

impl LocalityBased {
    pub(super) fn new(candidates: Candidates<'_>, binding: Binding) -> Self {
        let memory = Arc::new(Memory {
            index: AddressIndex::new(binding.now),
            servers: (0..SLOTS).map(|_| AtomicU32::new(NONE)).collect(),
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
        let memory = &*self.memory;
        let address = AddressKey::destination(&arrival.as_it_goes());
        let asked = Asked {
            now: arrival.now,
            expiration: self.expiration,
        };
        let slot = memory.index.find(address, asked);
        let known =
            slot.and_then(|slot| member(candidates, memory.servers.get(slot)?.load(Acquire)));
        let kept = known.filter(|found| found.spec.weight > 0 && !is_overworked(found, candidates));
        if kept.is_some() {
            return kept;
        }
        let chosen = self.tree.choose(candidates)?;
        let forget = |slot: usize| {
            if let Some(server) = memory.servers.get(slot) {
                server.store(NONE, Release);
            }
        };
        let slot = slot.or_else(|| memory.index.claim(address, asked, forget));
        if let Some(server) = slot.and_then(|slot| memory.servers.get(slot)) {
            server.store(chosen.spec.number + 1, Release);
        }
        Some(chosen)
    }
}

/// The destination of a remembered server, as long as the service has it.
pub(super) fn member<'s>(candidates: Candidates<'s>, server: u32) -> Option<&'s Destination> {
    let number = server.checked_sub(1)?;
    // A server that was removed, and any number that was given to another service's since.
    candidates
        .list
        .contains(&number)
        .then(|| candidates.all.get(number as usize)?.as_ref())?
}

/// More active connections than its weight, while another server has less than half of its own. Servers that take no
/// connections count too, as in Linux.
pub(super) fn is_overworked(found: &Destination, candidates: Candidates<'_>) -> bool {
    let active = |found: &Destination| u64::from(found.shared.counts().active);
    let weight = |found: &Destination| u64::from(found.spec.weight);
    active(found) > weight(found)
        && candidates
            .iter()
            .any(|other| active(other) * 2 < weight(other))
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::LocalityBased;
    use super::super::address_index::LOOK_PERIOD;
    use super::super::test_pool::{Pool, client};
    use crate::clock::{Tick, seconds};

    /// The server of a destination address.
    fn server(pool: &Pool, address: u32, now: Tick) -> Option<u32> {
        pool.pick_at(now, client(1), client(address))
    }

    #[test]
    fn an_address_stays_until_its_server_is_overworked() {
        let pool = Pool::new(LocalityBased, &[2, 2]);
        assert_eq!(server(&pool, 1, Tick(0)), Some(0));
        pool.set_counts(0, 2, 0);
        assert_eq!(server(&pool, 1, Tick(0)), Some(0), "not above its weight");
        assert_eq!(
            server(&pool, 2, Tick(0)),
            Some(1),
            "a new address goes by load"
        );
        pool.set_counts(0, 3, 0);
        pool.set_counts(1, 1, 0);
        assert_eq!(
            server(&pool, 1, Tick(0)),
            Some(0),
            "the other has half of its weight"
        );
        pool.set_counts(1, 0, 9);
        assert_eq!(server(&pool, 1, Tick(0)), Some(1));
        pool.set_counts(0, 0, 0);
        assert_eq!(server(&pool, 1, Tick(0)), Some(1), "it has moved");
    }

    #[test]
    fn an_address_leaves_a_server_that_is_drained_or_gone_and_no_other() {
        for drained in [true, false] {
            let pool = Pool::new(LocalityBased, &[1000, 1000, 1000]);
            let addresses = 0..300;
            let before: Vec<_> = addresses
                .clone()
                .map(|address| {
                    let chosen = server(&pool, address, Tick(0)).unwrap();
                    pool.set_counts(
                        chosen,
                        0,
                        pool.destination(chosen).shared.counts().inactive + 1,
                    );
                    chosen
                })
                .collect();
            let pool = if drained {
                pool.weighted(1, 0)
            } else {
                pool.without(1)
            };
            for (address, before) in addresses.zip(before) {
                let after = server(&pool, address, Tick(1)).unwrap();
                assert_ne!(after, 1);
                assert!(before == 1 || before == after);
            }
        }
    }

    #[test]
    fn an_address_is_forgotten_in_time() {
        let pool = Pool::new(LocalityBased, &[9, 9]);
        assert_eq!(server(&pool, 1, Tick(0)), Some(0));
        pool.set_counts(0, 1, 0);
        let day = seconds(86_400);
        assert_eq!(server(&pool, 1, Tick(day - 1)), Some(0));
        assert_eq!(server(&pool, 1, Tick(2 * day - 2)), Some(0));
        let pool = pool.tuned(|settings| settings.lblc_expiration = LOOK_PERIOD);
        let looked = Tick(2 * day - 2).after(LOOK_PERIOD);
        assert_eq!(
            server(&pool, 1, looked),
            Some(0),
            "not long enough at the last look"
        );
        assert_eq!(server(&pool, 1, looked.after(2 * LOOK_PERIOD)), Some(1));
    }

    #[test]
    fn none_without_a_server() {
        let pool = Pool::new(LocalityBased, &[1]);
        assert_eq!(pool.pick(), Some(0));
        let pool = pool.weighted(0, 0);
        assert_eq!(pool.pick(), None);
        assert_eq!(pool.without(0).pick(), None);
    }
}
