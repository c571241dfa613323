//! UDP, RFC 768.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// UDP header, 8 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Header and payload in bytes.
    pub length: U16,
    /// Checksum over pseudo header, header and payload; 0: none (IPv4 only).
    pub checksum: U16,
}

/// Bytes of the header.
pub const UDP_BYTES: usize = size_of::<UdpHeader>();
/// Where the checksum stands in the header.
pub const UDP_CHECKSUM_OFFSET: usize = 6;

const _: () = assert!(UDP_BYTES == 8);
