//! GRE, RFC 2784: what stands between the outer IP header and the packet.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first four bytes, and all of a header without a checksum.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct GreHeader {
    /// Which fields follow (high bits), version 0 (low 3 bits).
    pub flags_version: U16,
    /// EtherType of the payload.
    pub protocol: U16,
}

/// Bytes of a header without a checksum.
pub const GRE_BYTES: usize = size_of::<GreHeader>();
/// Bytes that a checksum adds: itself and 16 reserved bits.
pub const GRE_CHECKSUM_BYTES: usize = 4;
/// A checksum over header and payload follows, in [`GreHeader::flags_version`].
pub const CHECKSUM_PRESENT: u16 = 0x8000;

const _: () = assert!(GRE_BYTES == 4);

impl GreHeader {
    /// Bytes of a header with these flags; none when it has fields the director never writes.
    pub fn header_bytes(&self) -> Option<usize> {
        match self.flags_version.get() {
            0 => Some(GRE_BYTES),
            CHECKSUM_PRESENT => Some(GRE_BYTES + GRE_CHECKSUM_BYTES),
            _ => None,
        }
    }
}
