//! The tuple a connection is found by, and its keyed hash.
//!
//! Addresses are packed into words so that a comparison is one (IPv4) or four (IPv6) integer comparisons: an IPv4 key
//! has `source << 32 | destination` in its first word, an IPv6 key the halves of source and destination in order.
//! All in host byte order.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::wire::protocol;

/// IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// Protocol, source and destination of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    /// Source and destination address.
    pub addresses: [u64; 4],
    /// `source << 16 | destination`.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// IP version.
    pub family: Family,
}

/// The secret of a table's hash. Who does not know it cannot aim many flows at one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u64; 6]);

impl HashKey {
    /// The secret made from a seed. The hash multiplies by the secret, so its words must have about as many ones as
    /// zeros all over, whatever the seed's look like (SplitMix64).
    pub fn from_seed(seed: [u64; 6]) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        Self(seed.map(|word| {
            state = state
                .wrapping_mul(0xd134_2543_de82_ef95)
                .wrapping_add(word | 1);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }
}

impl HashKey {
    /// SipHash of bytes, keyed with a part of the secret.
    pub fn of_bytes(&self, bytes: &[u8]) -> u64 {
        let [first, second, ..] = self.0;
        let mut hasher = SipHasher13::new_with_keys(first, second);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// High and low half of a 128-bit product, folded: foldhash's and wyhash's mixing step.
#[inline]
fn fold_multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[allow(clippy::cast_possible_truncation)] // both halves are taken
    let folded = (product as u64) ^ ((product >> 64) as u64);
    folded
}

impl FlowKey {
    /// A key of no flow.
    pub const NONE: Self = Self {
        addresses: [0; 4],
        ports: 0,
        protocol: 0,
        family: Family::V4,
    };

    /// A key of an IPv4 flow.
    #[inline]
    pub fn v4(protocol: u8, source: u32, destination: u32, ports: u32) -> Self {
        let addresses = u64::from(source) << 32 | u64::from(destination);
        Self::of_v4(protocol, addresses, ports)
    }

    /// A key of an IPv4 flow, `addresses` being `source << 32 | destination`.
    #[inline]
    pub fn of_v4(protocol: u8, addresses: u64, ports: u32) -> Self {
        Self {
            addresses: [addresses, 0, 0, 0],
            ports,
            protocol,
            family: Family::V4,
        }
    }

    /// A key of an IPv6 flow, addresses as on the wire.
    #[inline]
    pub fn v6(protocol: u8, source: &[u8; 16], destination: &[u8; 16], ports: u32) -> Self {
        let [source_high, source_low] = halves(source);
        let [destination_high, destination_low] = halves(destination);
        let addresses = [source_high, source_low, destination_high, destination_low];
        Self {
            addresses,
            ports,
            protocol,
            family: Family::V6,
        }
    }

    /// A key from socket addresses; none when they are of different families.
    pub fn from_sockets(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<Self> {
        let ports = u32::from(source.port()) << 16 | u32::from(destination.port());
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                Some(Self::v4(protocol, from.to_bits(), to.to_bits(), ports))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                Some(Self::v6(protocol, &from.octets(), &to.octets(), ports))
            }
            _ => None,
        }
    }

    /// The source's address in the words of a key.
    pub(crate) fn source_words(&self) -> [u64; 2] {
        let [high, low, ..] = self.addresses;
        match self.family {
            Family::V4 => [high >> 32, 0],
            Family::V6 => [high, low],
        }
    }

    /// The flow in the other direction.
    #[inline]
    #[must_use]
    pub fn reversed(&self) -> Self {
        let [a, b, c, d] = self.addresses;
        let addresses = match self.family {
            Family::V4 => [a.rotate_left(32), 0, 0, 0],
            Family::V6 => [c, d, a, b],
        };
        Self {
            addresses,
            ports: self.ports.rotate_left(16),
            ..*self
        }
    }

    /// Source address and port.
    pub fn source(&self) -> SocketAddr {
        self.reversed().destination()
    }

    /// Destination address and port.
    #[allow(clippy::cast_possible_truncation)] // the low halves are meant
    pub fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.destination_address(), self.ports as u16)
    }

    /// Destination address.
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    pub fn destination_address(&self) -> IpAddr {
        let [a, _, c, d] = self.addresses;
        match self.family {
            Family::V4 => Ipv4Addr::from_bits(a as u32).into(),
            Family::V6 => Ipv6Addr::from_bits(u128::from(c) << 64 | u128::from(d)).into(),
        }
    }

    /// Whether the source is an address that a single host on a network may have (RFC 1812 5.3.7, RFC 4291 2.5).
    pub fn has_host_source(&self) -> bool {
        match self.source().ip() {
            IpAddr::V4(v4) => {
                let [first, ..] = v4.octets();
                (1..224).contains(&first) && !v4.is_loopback()
            }
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast(),
        }
    }

    /// Destination port.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    pub fn destination_port(&self) -> u16 {
        self.ports as u16
    }

    /// Whether the protocol is TCP.
    #[inline]
    pub fn is_tcp(&self) -> bool {
        self.protocol == protocol::TCP
    }

    /// The keyed hash.
    #[inline]
    pub fn hash(&self, key: &HashKey) -> u64 {
        let [k0, k1, k2, k3, k4, k5] = key.0;
        let [a, b, c, d] = self.addresses;
        let tail =
            u64::from(self.ports) | u64::from(self.protocol) << 32 | (self.family as u64) << 40;
        let addresses = match self.family {
            Family::V4 => a,
            Family::V6 => {
                fold_multiply(a ^ k2, b ^ k3) ^ fold_multiply(c ^ k3, d ^ k4).rotate_left(32)
            }
        };
        fold_multiply(fold_multiply(addresses ^ k0, tail ^ k1) ^ k4, k5 | 1)
    }
}

#[inline]
fn halves(address: &[u8; 16]) -> [u64; 2] {
    let bits = u128::from_be_bytes(*address);
    #[allow(clippy::cast_possible_truncation)] // both halves are taken
    let halves = [(bits >> 64) as u64, bits as u64];
    halves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key_of(seed: u64) -> HashKey {
        HashKey::from_seed([seed; 6])
    }

    fn key(source: &str, destination: &str) -> FlowKey {
        FlowKey::from_sockets(6, source.parse().unwrap(), destination.parse().unwrap()).unwrap()
    }

    #[test]
    fn reads_back_what_it_was_made_from() {
        for (source, destination) in [
            ("192.0.2.10:40000", "198.51.100.1:80"),
            ("[2001:db8::1]:1", "[2001:db8:ffff::2]:65535"),
        ] {
            let key = key(source, destination);
            assert_eq!(key.source().to_string(), source);
            assert_eq!(key.destination().to_string(), destination);
            assert_eq!(key.reversed().source().to_string(), destination);
            assert_eq!(key.reversed().reversed(), key);
        }
    }

    #[test]
    fn sequential_flows_spread_evenly_over_buckets() {
        const BUCKETS: u64 = 1 << 10;
        for seed in 0..20 {
            let secret = key_of(seed);
            let mut load = vec![0u32; 1 << 10];
            for port in 0..32_768u32 {
                let hash = FlowKey::v4(6, 0xc000_0200 + (port >> 12), 0xc633_6401, port << 16 | 80)
                    .hash(&secret);
                load[(((hash >> 32) * BUCKETS) >> 32) as usize] += 1;
            }
            // 32 on average; a Poisson count above 70 has a chance below 1e-8.
            assert!(
                load.iter().all(|count| *count < 70),
                "worst {:?}",
                load.iter().max()
            );
        }
    }

    proptest! {
        #[test]
        fn directions_hash_apart(source in any::<u32>(), destination in any::<u32>(), ports in any::<u32>()) {
            let key = FlowKey::v4(6, source, destination, ports);
            prop_assume!(key.reversed() != key);
            prop_assert_ne!(key.hash(&key_of(1)), key.reversed().hash(&key_of(1)));
        }
    }
}
