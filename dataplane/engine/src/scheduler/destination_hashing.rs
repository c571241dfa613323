//! `dh`: by the packet's destination address (`ip_vs_dh.c`). Good for caches behind a firewall mark, where each address
//! belongs to one cache; a service of one address sends everything to one server.
//!
//! 256 buckets are dealt to the servers in turn, weights not counting. A flow whose bucket's server takes no
//! connections is refused.

use super::{Arrival, Candidates, address_hash};
use crate::service::Destination;

const BUCKET_BITS: u32 = 8;
const BUCKETS: usize = 1 << BUCKET_BITS;

/// Whose each bucket is.
#[derive(Debug)]
pub struct DestinationHashing {
    /// Places of the list; empty when the list is. There are no more places than buckets in it.
    buckets: Box<[u8]>,
}

impl DestinationHashing {
    pub(super) fn new(candidates: Candidates<'_>) -> Self {
        // A server beyond the last bucket has none.
        let places = (0..=u8::MAX).take(candidates.list.len());
        Self {
            buckets: places.cycle().take(BUCKETS).collect(),
        }
    }

    pub(super) fn pick<'s>(
        &self,
        candidates: Candidates<'s>,
        arrival: &Arrival<'_>,
    ) -> Option<&'s Destination> {
        let address = address_hash::destination(&arrival.as_it_goes());
        let bucket = address_hash::hash_32(address, BUCKET_BITS) as usize;
        let place = *self.buckets.get(bucket)?;
        candidates
            .at(place.into())
            .filter(|found| found.is_usable())
    }
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerKind::DestinationHashing;
    use super::super::test_pool::{Pool, client};
    use crate::clock::Tick;

    fn shares(pool: &Pool, addresses: u32) -> Vec<u32> {
        let mut shares = vec![0; 4];
        for address in 0..addresses {
            let mut virtual_address = client(address);
            virtual_address.set_port(80);
            match pool.pick_at(Tick(0), client(7), virtual_address) {
                Some(number) => shares[number as usize] += 1,
                None => shares[3] += 1,
            }
        }
        shares
    }

    #[test]
    fn addresses_are_dealt_evenly_and_clients_do_not_count() {
        let pool = Pool::new(DestinationHashing, &[1, 2, 3]);
        let all = shares(&pool, 3000);
        assert!(
            all[..3].iter().all(|share| (900..1100).contains(share)),
            "{all:?}"
        );
        let one = pool.pick();
        assert!((0..100).all(|flow| pool.pick_for(client(flow)) == one));
    }

    #[test]
    fn a_server_without_weight_refuses_its_addresses() {
        let pool = Pool::new(DestinationHashing, &[1, 1, 1]);
        let before = shares(&pool, 3000);
        let after = shares(&pool.weighted(1, 0), 3000);
        assert_eq!(after, [before[0], 0, before[2], before[1]]);
        assert_eq!(Pool::new(DestinationHashing, &[]).pick(), None);
    }
}
