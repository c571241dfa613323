//! TCP, RFC 9293.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// TCP header without options, 20 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Sequence number.
    pub sequence: U32,
    /// Acknowledgement number.
    pub acknowledgement: U32,
    /// Header length in 32-bit words (high 4 bits), reserved.
    pub data_offset: u8,
    /// [`flag`]s.
    pub flags: u8,
    /// Window.
    pub window: U16,
    /// Checksum over pseudo header, header and payload.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

/// Bytes of a header without options.
pub const TCP_BYTES: usize = size_of::<TcpHeader>();
/// Where the checksum stands in the header.
pub const TCP_CHECKSUM_OFFSET: usize = 16;

const _: () = assert!(TCP_BYTES == 20);

/// Bits of [`TcpHeader::flags`].
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Synchronize.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Acknowledgement valid.
    pub const ACK: u8 = 0x10;
}
