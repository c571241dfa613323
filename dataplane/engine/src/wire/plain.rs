//! The frames that nearly all traffic is made of, as one struct each: untagged Ethernet, IP without options or extension
//! headers, and the first 20 bytes of TCP or UDP. Every field is at a fixed offset, so that one look at the length of
//! the frame is enough for all of them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::EthernetHeader;
use super::ipv4::Ipv4Header;
use super::ipv6::Ipv6Header;
use super::tcp::TCP_BYTES;

/// Ethernet, IPv4 of 20 bytes, and 20 bytes more.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PlainV4 {
    /// Link header.
    pub ethernet: EthernetHeader,
    /// IP header.
    pub ip: Ipv4Header,
    /// TCP, or UDP and the beginning of its payload.
    pub transport: [u8; TCP_BYTES],
}

/// Ethernet, IPv6 and 20 bytes more.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PlainV6 {
    /// Link header.
    pub ethernet: EthernetHeader,
    /// IP header.
    pub ip: Ipv6Header,
    /// TCP, or UDP and the beginning of its payload.
    pub transport: [u8; TCP_BYTES],
}

/// Bytes of a [`PlainV4`].
pub const PLAIN_V4_BYTES: usize = size_of::<PlainV4>();
/// Bytes of a [`PlainV6`].
pub const PLAIN_V6_BYTES: usize = size_of::<PlainV6>();

const _: () = assert!(PLAIN_V4_BYTES == 54 && PLAIN_V6_BYTES == 74);
