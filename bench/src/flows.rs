//! Which client a packet comes from: flows by number, reckoned rather than stored, so that picking one costs no memory
//! access and leaves the caches to the engine.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Ports a client uses before the next client's turn.
const PORTS_EACH: u64 = 1 << 14;
const FIRST_PORT: u16 = 1024;
/// Clients of ordinary flows have addresses from here on: 10.0.0.0.
const CLIENTS: u32 = 0x0a00_0000;
/// Sources of a flood have addresses from here on, one a SYN: 32.0.0.0/3, in which none is special (RFC 6890).
const FLOODERS: u32 = 0x2000_0000;
const FLOODER_BITS: u32 = 29;

/// A client's address and port. For IPv6 the address is the last 32 bits of one in 2001:db8:c::/64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// Its address.
    pub address: u32,
    /// Its port.
    pub port: u16,
}

impl Client {
    /// The client of an ordinary flow.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // fewer than 2^38 flows are used
    pub fn of_flow(flow: u64) -> Self {
        Self {
            address: CLIENTS.wrapping_add((flow / PORTS_EACH) as u32),
            port: FIRST_PORT + (flow % PORTS_EACH) as u16,
        }
    }

    /// The source of a SYN of a flood: another address each time, in no order.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low bits are meant
    pub fn of_flood(number: u64) -> Self {
        // An odd factor permutes the numbers of so many bits.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) as u32;
        Self {
            address: FLOODERS | (mixed & ((1 << FLOODER_BITS) - 1)),
            port: FIRST_PORT + ((number >> FLOODER_BITS) % PORTS_EACH) as u16,
        }
    }
}

/// In which order flows are picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Any flow, each time: every packet misses the caches that hold fewer connections than there are.
    Random,
    /// One after the other. Kinder to caches than traffic is.
    Sequential,
}

/// Picks flows out of a range of numbers.
#[derive(Debug, Clone)]
pub struct Picker {
    first: u64,
    flows: u64,
    order: Order,
    state: u64,
}

impl Picker {
    /// Picks from `flows` flows, the first of which has the number `first`. The seed differs from worker to worker.
    pub fn new(first: u64, flows: u64, order: Order, seed: u64) -> Self {
        let state = match order {
            Order::Random => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            Order::Sequential => 0,
        };
        Self {
            first,
            flows: flows.max(1),
            order,
            state,
        }
    }

    /// The next flow's number.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the high half of a product
    pub fn pick(&mut self) -> u64 {
        let place = match self.order {
            Order::Random => {
                // xorshift64*, scaled to the range by its high bits.
                self.state ^= self.state >> 12;
                self.state ^= self.state << 25;
                self.state ^= self.state >> 27;
                let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
                ((u128::from(random) * u128::from(self.flows)) >> 64) as u64
            }
            Order::Sequential => {
                let place = self.state;
                self.state = if place + 1 == self.flows {
                    0
                } else {
                    place + 1
                };
                place
            }
        };
        self.first + place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_flow_has_a_client_of_its_own() {
        let clients: HashSet<Client> = (0..200_000).map(Client::of_flow).collect();
        assert_eq!(clients.len(), 200_000);
        let flood: HashSet<Client> = (0..200_000).map(Client::of_flood).collect();
        assert_eq!(flood.len(), 200_000);
        assert!(clients.is_disjoint(&flood));
        let addresses: HashSet<u32> = flood.iter().map(|client| client.address).collect();
        assert_eq!(addresses.len(), 200_000, "a source sends one SYN");
        // Frames from 127.0.0.0/8 would be dropped before they are looked up.
        let may_send = |address: &u32| (32..64).contains(&(address >> 24));
        assert!(addresses.iter().all(may_send));
        assert_ne!(
            Client::of_flood(0).port,
            Client::of_flood(1 << FLOODER_BITS).port
        );
    }

    #[test]
    fn sequential_goes_round() {
        let mut picker = Picker::new(100, 3, Order::Sequential, 1);
        let picked: Vec<u64> = (0..5).map(|_| picker.pick()).collect();
        assert_eq!(picked, [100, 101, 102, 100, 101]);
    }

    #[test]
    fn random_reaches_all_of_them_about_as_often() {
        let mut picker = Picker::new(1000, 64, Order::Random, 7);
        let mut count = [0_u32; 64];
        for _ in 0..64_000 {
            count[usize::try_from(picker.pick() - 1000).unwrap()] += 1;
        }
        assert!(
            count.iter().all(|count| (800..1200).contains(count)),
            "{count:?}"
        );
    }
}
