//! Generic UDP Encapsulation (draft-ietf-intarea-gue-09): four bytes behind a UDP header.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// GUE header, version 0, without optional fields, 4 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct GueHeader {
    /// Version (2 bits), control message (1 bit), length of optional fields in 32-bit words (5 bits).
    pub version_length: u8,
    /// IP protocol number of the payload.
    pub protocol: u8,
    /// Which optional fields follow.
    pub flags: U16,
}

/// Bytes of the header.
pub const GUE_BYTES: usize = size_of::<GueHeader>();

const _: () = assert!(GUE_BYTES == 4);
