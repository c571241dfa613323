//! IPv6 and its extension headers, RFC 8200.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::protocol;

/// IPv6 header, 40 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version_class_label: U32,
    /// Bytes after this header.
    pub payload_length: U16,
    /// Protocol or extension header that follows.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

/// Bytes of the fixed header.
pub const IPV6_BYTES: usize = size_of::<Ipv6Header>();
/// The smallest MTU of an IPv6 link, bytes.
pub const IPV6_MTU_MIN: u16 = 1280;

const _: () = assert!(IPV6_BYTES == 40);

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = fragment_header::NUMBER;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// A longer chain than any sane sender makes; the bound of the walk.
const EXTENSION_HEADERS_MAX: usize = 8;

impl Ipv6Header {
    /// Traffic class.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        let [high, low, ..] = self.version_class_label.get().to_be_bytes();
        (high << 4) | (low >> 4)
    }
}

/// Fragment header, 8 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FragmentHeader {
    /// What the datagram begins with.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in bytes, a multiple of 8; the lowest bit: more follow.
    pub offset_and_more: U16,
    /// The datagram.
    pub identification: U32,
}

/// Bytes of a fragment header.
pub const FRAGMENT_HEADER_BYTES: usize = size_of::<FragmentHeader>();

/// The number by which a fragment header is announced.
pub mod fragment_header {
    /// IANA.
    pub const NUMBER: u8 = 44;
}

/// Offset of the fragment header in a packet, which starts with the fixed header. `None` without one, or when the chain
/// runs past the packet's end.
pub fn find_fragment_header(packet: &[u8], next_header: u8) -> Option<usize> {
    let (mut kind, mut offset) = (next_header, IPV6_BYTES);
    for _ in 0..EXTENSION_HEADERS_MAX {
        if kind == FRAGMENT {
            return Some(offset);
        }
        if !matches!(kind, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            return None;
        }
        let [next, length, ..] = *packet.get(offset..)?.first_chunk::<8>()?;
        offset += (usize::from(length) + 1) << 3;
        kind = next;
    }
    None
}

/// As much of the packet as is in every fragment of it: the header and the extension headers that are for hops on the way,
/// and the destination's before them (`ip6_find_1stfragopt`); and where in it the next one is announced.
pub fn in_every_fragment(packet: &[u8]) -> Option<(usize, usize)> {
    const NEXT_HEADER_AT: usize = 6;
    let (mut end, mut announced_at) = (IPV6_BYTES, NEXT_HEADER_AT);
    let mut was_routed = false;
    for _ in 0..EXTENSION_HEADERS_MAX {
        match *packet.get(announced_at)? {
            HOP_BY_HOP => {}
            ROUTING => was_routed = true,
            DESTINATION_OPTIONS if !was_routed => {}
            _ => break,
        }
        let [_, length, ..] = *packet.get(end..)?.first_chunk::<8>()?;
        announced_at = end;
        end += (usize::from(length) + 1) << 3;
    }
    Some((end, announced_at))
}

/// Where the chain of extension headers ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpperLayer {
    /// Protocol number of the upper layer.
    pub protocol: u8,
    /// Its offset from the start of the fixed header, bytes.
    pub offset: usize,
    /// Whether the packet is a fragment (an atomic fragment, RFC 6946, is not).
    pub is_fragment: bool,
    /// Whether it is a fragment other than the first: what is at `offset` is data and no header.
    pub is_later_fragment: bool,
    /// Whether an authentication header (RFC 4302) is in the chain.
    pub is_authenticated: bool,
}

/// Walks the extension headers of `packet`, which starts with the fixed header. `None` when they run past its end
/// or there are more than a sane sender makes.
#[inline]
pub fn upper_layer(packet: &[u8], next_header: u8) -> Option<UpperLayer> {
    let mut found = UpperLayer {
        protocol: next_header,
        offset: IPV6_BYTES,
        is_fragment: false,
        is_later_fragment: false,
        is_authenticated: false,
    };
    // By far the most packets have no extension header.
    if matches!(
        next_header,
        protocol::TCP | protocol::UDP | protocol::ICMPV6
    ) {
        return Some(found);
    }
    for _ in 0..EXTENSION_HEADERS_MAX {
        let bytes = match found.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT | AUTHENTICATION => {
                *packet.get(found.offset..)?.first_chunk::<8>()?
            }
            _ => return Some(found),
        };
        let [next, length, offset_high, offset_low, ..] = bytes;
        found.offset += match found.protocol {
            FRAGMENT => {
                let offset_and_more = u16::from_be_bytes([offset_high, offset_low]);
                found.is_fragment |= offset_and_more & 0xfff9 != 0;
                found.is_later_fragment |= offset_and_more & 0xfff8 != 0;
                8
            }
            AUTHENTICATION => {
                found.is_authenticated = true;
                (usize::from(length) + 2) << 2
            }
            _ => (usize::from(length) + 1) << 3,
        };
        found.protocol = next;
        if found.offset > packet.len() {
            return None;
        }
        if found.is_later_fragment {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(chain: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0; IPV6_BYTES];
        chain
            .iter()
            .for_each(|header| packet.extend_from_slice(header));
        packet
    }

    #[test]
    fn walks_options_routing_and_fragment() {
        let packet = packet(&[
            &[ROUTING, 0, 0, 0, 0, 0, 0, 0],
            &[FRAGMENT, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[protocol::TCP, 0, 0, 1, 0, 0, 0, 7],
            &[0; 20],
        ]);
        let found = upper_layer(&packet, HOP_BY_HOP).unwrap();
        assert_eq!(
            found,
            UpperLayer {
                protocol: protocol::TCP,
                offset: 72,
                is_fragment: true,
                is_later_fragment: false,
                is_authenticated: false,
            }
        );
    }

    #[test]
    fn an_authentication_header_is_passed_and_told_of() {
        let packet = packet(&[&[protocol::TCP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], &[0; 20]]);
        let found = upper_layer(&packet, AUTHENTICATION).unwrap();
        assert_eq!((found.protocol, found.offset), (protocol::TCP, 52));
        assert!(found.is_authenticated);
    }

    #[test]
    fn options_before_the_fragment_header_are_in_every_fragment() {
        let mut options = packet(&[&[protocol::UDP, 0, 0, 0, 0, 0, 0, 0], &[0; 8]]);
        options[6] = DESTINATION_OPTIONS;
        assert_eq!(in_every_fragment(&options), Some((48, 40)));
        options[6] = protocol::UDP;
        assert_eq!(in_every_fragment(&options), Some((40, 6)));
        options[6] = DESTINATION_OPTIONS;
        options.truncate(44);
        assert_eq!(in_every_fragment(&options), None);
    }

    #[test]
    fn an_atomic_fragment_is_whole() {
        let packet = packet(&[&[protocol::UDP, 0, 0, 0, 0, 0, 0, 7], &[0; 8]]);
        assert!(!upper_layer(&packet, FRAGMENT).unwrap().is_fragment);
    }

    #[test]
    fn a_chain_past_the_end_or_without_end_is_refused() {
        assert_eq!(
            upper_layer(
                &packet(&[&[protocol::TCP, 9, 0, 0, 0, 0, 0, 0]]),
                HOP_BY_HOP
            ),
            None
        );
        assert_eq!(
            upper_layer(
                &packet(&[&[HOP_BY_HOP, 0, 0, 0, 0, 0, 0, 0][..]; 20]),
                HOP_BY_HOP
            ),
            None
        );
        assert_eq!(upper_layer(&packet(&[&[1, 2, 3]]), ROUTING), None);
    }

    #[test]
    fn class_is_read_across_the_nibbles() {
        use zerocopy::FromZeros;
        let mut header = Ipv6Header::new_zeroed();
        header.version_class_label = U32::new(0x6ab1_2345);
        assert_eq!(header.traffic_class(), 0xab);
    }
}
