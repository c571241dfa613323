//! IPv4, RFC 791.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Sum;

/// IPv4 header without options, 20 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version (4 bits), header length in 32-bit words (4 bits).
    pub version_ihl: u8,
    /// DSCP (6 bits), ECN (2 bits).
    pub tos: u8,
    /// Header and payload in bytes.
    pub total_length: U16,
    /// Identification.
    pub identification: U16,
    /// Flags (3 bits), fragment offset in units of 8 bytes (13 bits).
    pub flags_fragment: U16,
    /// Time to live, hops.
    pub ttl: u8,
    /// IP protocol number of the payload.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    /// Source address.
    pub source: U32,
    /// Destination address.
    pub destination: U32,
}

/// Bytes of a header without options.
pub const IPV4_BYTES: usize = size_of::<Ipv4Header>();
/// Don't fragment, in `flags_fragment`.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments or an offset: the packet is a fragment.
pub const FRAGMENT_MASK: u16 = 0x3fff;
/// Fragment offset, in units of 8 bytes.
pub const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

const _: () = assert!(IPV4_BYTES == 20);

impl Ipv4Header {
    /// Header length in bytes as the header claims it.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) << 2
    }

    /// Source in the high half, destination in the low one.
    #[inline(always)]
    pub fn addresses(&self) -> u64 {
        // They stand last: one load.
        let bytes = self.as_bytes().last_chunk().copied();
        bytes.map_or(0, u64::from_be_bytes)
    }

    /// Whether the sender forbids fragmentation.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_fragment.get() & DONT_FRAGMENT != 0
    }

    /// Whether this is a fragment of a larger packet.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.flags_fragment.get() & FRAGMENT_MASK != 0
    }

    /// Whether the checksum of a header without options is right. The sum is taken in the machine's byte order, which
    /// only swaps its bytes (RFC 1071 2(B)).
    #[inline]
    pub fn checksum_is_right(&self) -> bool {
        let (words, _) = self.as_bytes().as_chunks::<4>();
        let sum: u64 = words
            .iter()
            .map(|word| u64::from(u32::from_ne_bytes(*word)))
            .sum();
        // Five words of 32 bits: two folds, the first of three parts, are enough.
        let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    /// One hop less, with the checksum mended. The caller has seen that `ttl` is above 1.
    #[inline(always)]
    pub fn decrement_ttl(&mut self) {
        self.ttl = self.ttl.wrapping_sub(1);
        // One less in its word is one more in the complement (RFC 1624), in whichever byte order (RFC 1071 2(B)).
        let checksum = u16::from_ne_bytes(self.checksum.to_bytes());
        let (sum, carry) = checksum.overflowing_add(u16::from_ne_bytes([1, 0]));
        self.checksum = U16::from_bytes((sum + u16::from(carry)).to_ne_bytes());
    }

    /// Computes and writes the checksum of a header without options.
    pub fn fill_checksum(&mut self) {
        self.checksum = U16::ZERO;
        self.checksum = U16::new(Sum::of(self.as_bytes()).finish());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decrement_keeps_the_checksum_right() {
        for ttl in 2..=255u8 {
            let mut header = Ipv4Header::new_zeroed();
            header.version_ihl = 0x45;
            header.ttl = ttl;
            header.source = U32::new(0xc000_0201);
            header.fill_checksum();
            header.decrement_ttl();
            assert!(header.checksum_is_right());
            let kept = header.checksum;
            header.fill_checksum();
            assert_eq!(kept, header.checksum, "ttl {ttl}");
        }
    }

    use zerocopy::FromZeros;
}
