//! SCTP, RFC 9260: the common header, the header of a chunk, and the checksum.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Common header, 12 bytes; chunks follow.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SctpHeader {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// What the receiver chose for the association; 0 with INIT.
    pub verification_tag: U32,
    /// CRC32c over the whole packet with 0 in this place, the low byte first; no pseudo header, so it does not cover the
    /// addresses.
    pub checksum: [u8; 4],
}

/// Header of a chunk, 4 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChunkHeader {
    /// What it is: [`chunk`].
    pub kind: u8,
    /// By kind.
    pub flags: u8,
    /// Bytes with this header, without the padding to a multiple of four.
    pub length: U16,
}

/// Bytes of the common header.
pub const SCTP_BYTES: usize = size_of::<SctpHeader>();
/// Bytes of a chunk's header.
pub const CHUNK_BYTES: usize = size_of::<ChunkHeader>();
/// Where the checksum stands in the common header.
const CHECKSUM_OFFSET: usize = 8;

const _: () = assert!(SCTP_BYTES == 12 && CHUNK_BYTES == 4);

/// Kinds of chunks that states depend on (RFC 9260 3.2).
pub mod chunk {
    /// INIT.
    pub const INIT: u8 = 1;
    /// INIT ACK.
    pub const INIT_ACK: u8 = 2;
    /// ABORT.
    pub const ABORT: u8 = 6;
    /// SHUTDOWN.
    pub const SHUTDOWN: u8 = 7;
    /// SHUTDOWN ACK.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// ERROR.
    pub const ERROR: u8 = 9;
    /// COOKIE ECHO.
    pub const COOKIE_ECHO: u8 = 10;
    /// COOKIE ACK.
    pub const COOKIE_ACK: u8 = 11;
    /// SHUTDOWN COMPLETE.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The checksum of an SCTP packet, whatever stands in its place; none when the packet is shorter than a header.
pub fn checksum(packet: &[u8]) -> Option<[u8; 4]> {
    let (before, rest) = packet.split_first_chunk::<CHECKSUM_OFFSET>()?;
    let (_, after) = rest.split_first_chunk::<4>()?;
    let crc = crc32c::crc32c(before);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    Some(crc32c::crc32c_append(crc, after).to_le_bytes())
}

/// Writes the checksum. Nothing happens to what is shorter than a header.
pub fn fill_checksum(packet: &mut [u8]) {
    if let Some(checksum) = checksum(packet)
        && let Ok((header, _)) = SctpHeader::mut_from_prefix(packet)
    {
        header.checksum = checksum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An INIT as a Linux client's stack sent it.
    const INIT: [u8; 32] = [
        0x9c, 0x40, 0x00, 0x50, 0, 0, 0, 0, 0x59, 0xa7, 0xb4, 0x1f, 1, 0, 0, 0x14, 0, 0, 0, 0x4d,
        0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 5,
    ];

    #[test]
    fn the_checksum_is_that_of_a_recorded_packet() {
        assert_eq!(checksum(&INIT), Some([0x59, 0xa7, 0xb4, 0x1f]));
        let mut damaged = INIT;
        damaged[8..12].fill(7);
        fill_checksum(&mut damaged);
        assert_eq!(damaged, INIT);
        assert_eq!(checksum(&INIT[..11]), None);
    }
}
