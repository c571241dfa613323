//! `sh`: by the client's address (`ip_vs_sh.c`). Good for clients that must stay with one server without a table of
//! clients; `mh` does the same and moves fewer of them when a server comes or goes.
//!
//! 256 buckets are dealt to the servers in turn, each as many in a row as its weight says (one at weight 0). A flow
//! whose bucket's server takes no connections is refused, unless `sh-fallback` looks on from another bucket.

use super::{Arrival, Candidates, HashFlags, address_hash};
use crate::service::Destination;

const BUCKET_BITS: u32 = 8;
const BUCKETS: usize = 1 << BUCKET_BITS;

/// Whose each bucket is.
#[derive(Debug)]
pub struct SourceHashing {
    flags: HashFlags,
    /// Places of the list; empty when the list is. There are no more places than buckets in it.
    buckets: Box<[u8]>,
}

impl SourceHashing {
    pub(super) fn new(candidates: Candidates<'_>, flags: HashFlags) -> Self {
        // A server beyond the last bucket has none.
        let round = || {
            let places = (0..=u8::MAX).zip(candidates.iter());
            places.flat_map(|(place, found)| {
                std::iter::repeat_n(place, (found.spec.weight.max(1) as usize).min(BUCKETS))
            })
        };
        let rounds = std::iter::repeat_with(round).take_while(|_| !candidates.list.is_empty());
        Self {
            flags,
            buckets: rounds.flatten().take(BUCKETS).collect(),
        }
    }

    pub(super) fn pick<'s>(
        &self,
        candidates: Candidates<'s>,
        arrival: &Arrival<'_>,
    ) -> Option<&'s Destination> {
        let port = if self.flags.port {
            address_hash::source_port(arrival.key)
        } else {
            0
        };
        let address = address_hash::source(arrival.key);
        let hash = address_hash::hash_32(address.wrapping_add(port), BUCKET_BITS) as usize;
        let in_bucket = |bucket: usize| {
            let place = *self.buckets.get(bucket % BUCKETS)?;
            candidates
                .at(place.into())
                .filter(|found| found.is_usable())
        };
        let first = in_bucket(hash);
        if first.is_some() || !self.flags.fallback {
            return first;
        }
        // From the hash on, and by the hash again: the kernel adds it to every offset, which it has put in already.
        (0..BUCKETS).find_map(|offset| in_bucket(hash + (offset + hash) % BUCKETS))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_pool::{Pool, client};
    use super::super::{HashFlags, SchedulerKind};

    fn kind(fallback: bool, port: bool) -> SchedulerKind {
        SchedulerKind::SourceHashing(HashFlags { fallback, port })
    }

    #[test]
    fn shares_follow_the_weights() {
        let pool = Pool::new(kind(false, false), &[1, 2, 5]);
        let shares = pool.shares(8000);
        for (share, wanted) in shares.iter().zip([1000, 2000, 5000]) {
            assert!(share.abs_diff(wanted) < wanted / 10, "{shares:?}");
        }
    }

    #[test]
    fn a_heavy_server_has_every_bucket() {
        let pool = Pool::new(kind(true, false), &[1000, 1]);
        assert_eq!(pool.shares(100), [100, 0]);
        let many = Pool::new(kind(false, false), &[1; 300]);
        let shares = many.shares(10_000);
        assert!(shares[256..].iter().all(|share| *share == 0));
    }

    #[test]
    fn a_client_stays_whatever_its_port_unless_ports_count() {
        let picks = |port| {
            let pool = Pool::new(kind(false, port), &[1, 1, 1]);
            let mut client = client(7);
            let picks = (1..100).map(|port| {
                client.set_port(port);
                pool.pick_for(client)
            });
            picks.collect::<std::collections::HashSet<_>>().len()
        };
        assert_eq!(picks(false), 1);
        assert_eq!(picks(true), 3);
    }

    #[test]
    fn without_fallback_the_flows_of_a_drained_server_are_refused() {
        let before = Pool::new(kind(false, false), &[1, 1, 1]).shares(3000);
        let after = Pool::new(kind(false, false), &[1, 1, 1])
            .weighted(1, 0)
            .shares(3000);
        assert_eq!(after, [before[0], 0, before[2]]);
    }

    #[test]
    fn with_fallback_they_go_elsewhere_and_the_others_stay() {
        let pool = Pool::new(kind(true, false), &[1, 1, 1]);
        let before: Vec<_> = (0..3000).map(|flow| pool.pick_for(client(flow))).collect();
        let pool = pool.weighted(1, 0);
        for (flow, before) in (0..3000).zip(before) {
            let after = pool.pick_for(client(flow));
            assert!(after.is_some() && after != Some(1), "{after:?}");
            assert!(before == Some(1) || before == after);
        }
        let none = pool.weighted(0, 0).weighted(2, 0);
        assert_eq!(none.pick(), None);
        assert_eq!(Pool::new(kind(true, true), &[]).pick(), None);
    }
}
