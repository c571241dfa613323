//! The hashes of `sh`, `dh` and `mh`, bit for bit Linux', so that a Pollux and a Linux director agree.
//!
//! All take an address as one word in host byte order: an IPv4 address as it is, an IPv6 address as the exclusive or of
//! its four words.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::connection::{Family, FlowKey};

/// The kernel's `GOLDEN_RATIO_32`: 2^32 divided by the golden ratio, squared.
const GOLDEN_RATIO_32: u32 = 0x61c8_8647;

#[allow(clippy::cast_possible_truncation)] // all halves are taken
fn fold_v6(high: u64, low: u64) -> u32 {
    let folded = high ^ low;
    (folded >> 32) as u32 ^ folded as u32
}

/// The source address of a packet as one word.
#[allow(clippy::cast_possible_truncation)] // the high half is meant
pub(super) fn source(key: &FlowKey) -> u32 {
    let [a, b, ..] = key.addresses;
    match key.family {
        Family::V4 => (a >> 32) as u32,
        Family::V6 => fold_v6(a, b),
    }
}

/// The destination address of a packet as one word.
#[allow(clippy::cast_possible_truncation)] // the low half is meant
pub(super) fn destination(key: &FlowKey) -> u32 {
    let [a, _, c, d] = key.addresses;
    match key.family {
        Family::V4 => a as u32,
        Family::V6 => fold_v6(c, d),
    }
}

/// A server's address as one word in a service of this family. The kernel folds by the service's family, not the
/// server's: in an IPv4 service an IPv6 server (of a tunnel) counts by its first word.
#[allow(clippy::cast_possible_truncation)] // the halves are meant
pub(super) fn server(address: IpAddr, service: Family) -> u32 {
    match (address, service) {
        (IpAddr::V4(v4), _) => v4.to_bits(),
        (IpAddr::V6(v6), Family::V4) => (v6.to_bits() >> 96) as u32,
        (IpAddr::V6(v6), Family::V6) => fold_v6((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
    }
}

/// The source port, for hashes that take it.
pub(super) fn source_port(key: &FlowKey) -> u32 {
    key.ports >> 16
}

/// `hash_32`: multiplicative, the upper `bits` of the product.
pub(super) fn hash_32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(GOLDEN_RATIO_32) >> (32 - bits)
}

/// `hsiphash` of one word on a 64-bit machine: SipHash-1-3 of its bytes in little-endian order, the lower half.
#[allow(clippy::cast_possible_truncation)] // said above
pub(super) fn hsiphash(value: u32, key: u64) -> u32 {
    SipHasher13::new_with_keys(key, key).hash(&value.to_le_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_32_is_the_kernels() {
        // By hand: 0x61c88647 itself, then its double, of 8 bits.
        assert_eq!(hash_32(1, 8), 0x61);
        assert_eq!(hash_32(2, 8), 0xc3);
        assert_eq!(hash_32(u32::MAX, 8), 0x9e);
    }

    #[test]
    fn addresses_fold_by_the_services_family() {
        let v6: IpAddr = "2001:db8:c:d::1234".parse().unwrap();
        assert_eq!(server(v6, Family::V4), 0x2001_0db8);
        assert_eq!(server(v6, Family::V6), 0x2001_0db8 ^ 0x000c_000d ^ 0x1234);
        let v4: IpAddr = "10.1.0.11".parse().unwrap();
        assert_eq!(server(v4, Family::V4), 0x0a01_000b);
        assert_eq!(server(v4, Family::V6), 0x0a01_000b);
        let key = FlowKey::from_sockets(
            6,
            "[2001:db8::1]:40000".parse().unwrap(),
            "[2001:db8:1::2]:80".parse().unwrap(),
        )
        .unwrap();
        assert_eq!(source(&key), 0x2001_0db8 ^ 1);
        assert_eq!(destination(&key), 0x2001_0db8 ^ 0x0001_0000 ^ 2);
        assert_eq!(source_port(&key), 40_000);
    }
}
