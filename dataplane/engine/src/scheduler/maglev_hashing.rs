//! `mh`: by the client's address, over a Maglev table (`ip_vs_mh.c`). Good for clients that must stay with one server on
//! any director, and for services whose clients should hardly move when a server comes or goes.
//!
//! The table is Linux' (4093 buckets by default, the same hashes with the same keys), so directors of both kinds, however
//! many, send a client to the same server, if the setting `mh_tab_index` says what `CONFIG_IP_VS_MH_TAB_INDEX` says in their
//! kernels. Servers take buckets in turn, each as many in a row as its weight says after all weights were divided by what
//! they have in common, and halved until the largest has no more than half as many bits as that index (below 64 by
//! default). A server that is drained (weight 0) keeps its buckets, by the last weight it had, so that nobody else's clients
//! move; a data plane that starts anew does not know that weight, and leaves out servers that are drained then.
//!
//! When a server is removed, its clients move, and some of others', the fewer the more buckets there are. Of all clients of
//! servers of one weight, at most: with 4093 buckets (12) 0.9 % of five servers, 1.2 % of ten and 2.1 % of thirty; with 8191
//! (13) 0.9 % of ten, with 16381 (14) 0.9 % of thirty, with 65521 (16) 0.6 % of a hundred. A bucket is two bytes.
//!
//! A flow whose bucket's server takes no connections is refused, unless `mh-fallback` probes other buckets. With
//! `mh-bounded` it also goes on when the server has more connections than its share and so many percent: consistent
//! hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016).

use super::bounded_load::Bound;
use super::{Arrival, Binding, Candidates, MaglevFlags, address_hash};
use crate::connection::Family;
use crate::service::Destination;

/// Buckets by `mh_tab_index`, from [`INDEX_MIN`] on: primes, so that every step walks over all of them.
const PRIMES: [u32; 10] = [
    251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071,
];
const INDEX_MIN: u32 = 8;
/// Keys of the two hashes, both halves alike.
const FIRST_KEY: u64 = 2_654_435_761;
const SECOND_KEY: u64 = 2_654_446_892;

/// Whose each bucket is.
#[derive(Debug)]
pub struct MaglevHashing {
    flags: MaglevFlags,
    size: Size,
    /// Places of the list; empty when no server ever had a weight.
    buckets: Box<[u16]>,
}

/// How many buckets a table has.
#[derive(Debug, Clone, Copy)]
struct Size {
    buckets: u32,
    /// Weights are dealt by with no more bits than this.
    weight_bits: u32,
}

impl Size {
    /// That of a table of this `mh_tab_index`.
    fn of_index(index: u32) -> Self {
        let index = index.clamp(INDEX_MIN, INDEX_MIN + PRIMES.len() as u32 - 1);
        let place = (index - INDEX_MIN) as usize;
        Self {
            buckets: PRIMES.get(place).copied().unwrap_or(PRIMES[0]),
            weight_bits: index / 2,
        }
    }

    /// The bucket of a word.
    fn bucket(self, word: u32, key: u64) -> u32 {
        address_hash::hsiphash(word, key) % self.buckets
    }

    /// The bucket to look at after so many others, for a flow whose own is `start`.
    fn probe(self, flow: u32, start: u32, offset: u32) -> u32 {
        self.bucket(
            flow.wrapping_add((offset + start) % self.buckets),
            FIRST_KEY,
        )
    }
}

/// A server that takes buckets.
struct Taker {
    place: u16,
    /// The bucket it looks at next.
    next: u32,
    /// How far it goes when that is taken.
    step: u32,
    /// Buckets in a row.
    turns: u32,
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

impl MaglevHashing {
    pub(super) fn new(candidates: Candidates<'_>, binding: Binding, flags: MaglevFlags) -> Self {
        let size = Size::of_index(binding.tuning);
        Self {
            flags,
            size,
            buckets: fill(&takers(candidates, binding.family, size), size),
        }
    }

    /// Whose each bucket is: places of the list.
    #[cfg(test)]
    pub(super) fn buckets(&self) -> &[u16] {
        &self.buckets
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
        let flow = address_hash::source(arrival.key).wrapping_add(port);
        if let Some(excess) = self.flags.bounded {
            let bound = Bound::new(candidates, excess)?;
            let start = self.size.bucket(flow, FIRST_KEY);
            let mut probed = (0..Bound::PROBES).filter_map(|offset| {
                let bucket = if offset == 0 {
                    start
                } else {
                    self.size.probe(flow, start, offset - 1)
                };
                self.server(candidates, bucket)
            });
            return probed
                .find(|found| bound.has_room(found))
                .or_else(|| bound.emptiest(candidates));
        }
        let start = self.size.bucket(flow, FIRST_KEY);
        let first = self.server(candidates, start)?;
        if first.is_usable() {
            return Some(first);
        }
        // Not worth probing thousands of buckets for what is not there.
        if !self.flags.fallback || !candidates.iter().any(Destination::is_usable) {
            return None;
        }
        (0..self.size.buckets)
            .filter_map(|offset| self.server(candidates, self.size.probe(flow, start, offset)))
            .find(|found| found.is_usable())
    }

    fn server<'s>(&self, candidates: Candidates<'s>, bucket: u32) -> Option<&'s Destination> {
        let place = *self.buckets.get(bucket as usize)?;
        candidates.at(place.into())
    }
}

fn takers(candidates: Candidates<'_>, family: Family, size: Size) -> Vec<Taker> {
    let weights = || candidates.iter().map(|found| found.last_weight);
    let common = weights().fold(0, greatest_common_divisor).max(1);
    let largest = weights().max().unwrap_or(0) / common;
    let shift = (u32::BITS - largest.leading_zeros()).saturating_sub(size.weight_bits);
    // Beyond so many servers, hardly one of which would have more than a bucket, none has any.
    let places = (0..=u16::MAX).zip(candidates.iter());
    let weighty = places.filter(|(_, found)| found.last_weight > 0);
    weighty
        .map(|(place, found)| {
            let spec = &found.spec;
            let word = address_hash::server(spec.address, family).wrapping_add(spec.port.into());
            Taker {
                place,
                next: size.bucket(word, FIRST_KEY),
                step: address_hash::hsiphash(word, SECOND_KEY) % (size.buckets - 1) + 1,
                turns: ((found.last_weight / common) >> shift).max(1),
            }
        })
        .collect()
}

/// Deals the buckets: each server in turn takes the next free ones on its own way through the table.
fn fill(takers: &[Taker], size: Size) -> Box<[u16]> {
    if takers.is_empty() {
        return Box::default();
    }
    let mut buckets: Vec<Option<u16>> = vec![None; size.buckets as usize];
    let mut ways: Vec<u32> = takers.iter().map(|taker| taker.next).collect();
    let mut left = size.buckets;
    while left > 0 {
        for (taker, way) in takers.iter().zip(&mut ways) {
            for _ in 0..taker.turns.min(left) {
                // A prime number of buckets: the way comes by every one, so by a free one.
                while buckets.get(*way as usize).is_some_and(Option::is_some) {
                    *way = (*way + taker.step) % size.buckets;
                }
                if let Some(free) = buckets.get_mut(*way as usize) {
                    *free = Some(taker.place);
                }
                left -= 1;
            }
        }
    }
    buckets.into_iter().flatten().collect()
}
