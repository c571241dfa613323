//! ICMP (RFC 792, RFC 1191) and ICMPv6 (RFC 4443): the eight bytes both have in front of an error's embedded packet.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// ICMP header, 8 bytes, in both versions.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum; in ICMPv6 over a pseudo header too.
    pub checksum: U16,
    /// Meaning by type: the next hop's MTU in the low half for ICMP 3/4, in all of it for ICMPv6 2/0.
    pub rest: U32,
}

/// Bytes of the header.
pub const ICMP_BYTES: usize = size_of::<IcmpHeader>();

const _: () = assert!(ICMP_BYTES == 8);

/// ICMP types.
pub mod v4 {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Its code: network unreachable.
    pub const NETWORK_UNREACHABLE: u8 = 0;
    /// Its code: host unreachable.
    pub const HOST_UNREACHABLE: u8 = 1;
    /// Its code: port unreachable.
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Its code: fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Source quench.
    pub const SOURCE_QUENCH: u8 = 4;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;

    /// Whether Linux IPVS relates an error of this type to a connection (`ip_vs_in_icmp`).
    #[inline]
    pub fn is_related_error(kind: u8) -> bool {
        matches!(
            kind,
            DESTINATION_UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED
        )
    }
}

/// ICMPv6 types.
pub mod v6 {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Its code: no route.
    pub const NO_ROUTE: u8 = 0;
    /// Its code: address unreachable.
    pub const ADDRESS_UNREACHABLE: u8 = 3;
    /// Its code: port unreachable.
    pub const PORT_UNREACHABLE: u8 = 4;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;

    /// Whether the type is an error: types below 128 (RFC 4443 2.1).
    #[inline]
    pub fn is_error(kind: u8) -> bool {
        kind & 0x80 == 0
    }
}
