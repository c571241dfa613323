//! A fragment as it lies in its frame.

use zerocopy::FromBytes;

use crate::connection::Family;
use crate::wire::ethernet::{ETHERNET_BYTES, EthernetHeader, VLAN_TAG_BYTES, VlanTag, ethertype};
use crate::wire::icmp::ICMP_BYTES;
use crate::wire::ipv4::{FRAGMENT_OFFSET_MASK, Ipv4Header};
use crate::wire::ipv6::{
    FRAGMENT_HEADER_BYTES, FragmentHeader, IPV6_BYTES, Ipv6Header, find_fragment_header,
};
use crate::wire::protocol;
use crate::wire::sctp::SCTP_BYTES;
use crate::wire::tcp::TCP_BYTES;
use crate::wire::udp::UDP_BYTES;

/// More tags than any network stacks.
const VLAN_TAGS_MAX: usize = 2;
/// More fragments follow (RFC 791).
pub(super) const MORE_FRAGMENTS: u16 = 0x2000;
pub(super) const DONT_FRAGMENT: u16 = 0x4000;

/// What fragments of one datagram have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DatagramKey {
    pub source: u128,
    pub destination: u128,
    pub identification: u32,
    pub protocol: u8,
    pub family: Family,
}

/// One fragment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub key: DatagramKey,
    /// Offset of the IP header in the frame.
    pub ip: usize,
    /// Offset of the payload in the frame: what is behind the IP header, or behind IPv6's fragment header.
    pub payload: usize,
    /// Bytes of payload.
    pub length: usize,
    /// Where they are in the datagram.
    pub offset: usize,
    /// Whether others follow.
    pub more: bool,
    /// Bytes of the whole IP packet that the fragment is.
    pub packet_bytes: u16,
    /// DF of IPv4.
    pub dont_fragment: bool,
}

impl Piece {
    /// Whether a first fragment of IPv6 has all headers in it: without, it is not one (RFC 8200 4.5,
    /// `ipv6frag_thdr_truncated`).
    pub fn has_headers(&self) -> bool {
        let is_first = self.offset == 0 && self.key.family == Family::V6;
        let headers = match self.key.protocol {
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => transport_bytes(self.key.protocol),
            _ => 1,
        };
        !is_first || self.length >= headers
    }

    /// Protocol and offset in the frame of what is behind the headers of IP.
    pub fn transport(&self) -> (u8, usize) {
        (self.key.protocol, self.payload)
    }

    /// Whether the datagram of this first fragment was translated although it does not have the whole transport header:
    /// then Linux has moved the rest of that into it and forgets how the datagram came.
    pub fn is_rewritten_in(&self, datagram: &[u8]) -> bool {
        if self.length >= transport_bytes(self.key.protocol) {
            return false;
        }
        let header = datagram.get(self.ip..).unwrap_or_default();
        let ends = (self.key.source, self.key.destination);
        match self.key.family {
            Family::V4 => Ipv4Header::ref_from_prefix(header).is_ok_and(|(header, _)| {
                header.protocol == self.key.protocol
                    && ends != (header.source.get().into(), header.destination.get().into())
            }),
            // Only of SCTP: other headers are there, see above.
            Family::V6 => Ipv6Header::ref_from_prefix(header).is_ok_and(|(header, _)| {
                header.next_header == self.key.protocol
                    && ends
                        != (
                            u128::from_be_bytes(header.source),
                            u128::from_be_bytes(header.destination),
                        )
            }),
        }
    }

    /// Where it ends in the datagram.
    pub fn end(&self) -> usize {
        self.offset + self.length
    }

    /// Reads a frame; none when it is no fragment.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let (kind, ip) = network_header(frame)?;
        let rest = frame.get(ip..)?;
        match kind {
            ethertype::IPV4 => Self::read_v4(rest, ip),
            ethertype::IPV6 => Self::read_v6(rest, ip),
            _ => None,
        }
    }

    fn read_v4(packet: &[u8], ip: usize) -> Option<Self> {
        let (header, _) = Ipv4Header::ref_from_prefix(packet).ok()?;
        let header_bytes = header.header_bytes();
        let total = header.total_length.get();
        let flags = header.flags_fragment.get();
        Some(Self {
            key: DatagramKey {
                source: header.source.get().into(),
                destination: header.destination.get().into(),
                identification: header.identification.get().into(),
                protocol: header.protocol,
                family: Family::V4,
            },
            ip,
            payload: ip + header_bytes,
            length: usize::from(total).checked_sub(header_bytes)?,
            offset: usize::from(flags & FRAGMENT_OFFSET_MASK) * 8,
            more: flags & MORE_FRAGMENTS != 0,
            packet_bytes: total,
            dont_fragment: flags & DONT_FRAGMENT != 0,
        })
        .filter(|_| header.is_fragment())
    }

    fn read_v6(packet: &[u8], ip: usize) -> Option<Self> {
        let (header, _) = Ipv6Header::ref_from_prefix(packet).ok()?;
        let total = header.payload_length.get().checked_add(IPV6_BYTES as u16)?;
        let at = find_fragment_header(packet, header.next_header)?;
        let (fragment, _) = FragmentHeader::ref_from_prefix(packet.get(at..)?).ok()?;
        let payload = at + FRAGMENT_HEADER_BYTES;
        let offset_and_more = fragment.offset_and_more.get();
        Some(Self {
            key: DatagramKey {
                source: u128::from_be_bytes(header.source),
                destination: u128::from_be_bytes(header.destination),
                identification: fragment.identification.get(),
                protocol: fragment.next_header,
                family: Family::V6,
            },
            ip,
            payload: ip + payload,
            length: usize::from(total).checked_sub(payload)?,
            offset: usize::from(offset_and_more & 0xfff8),
            more: offset_and_more & 1 != 0,
            packet_bytes: total,
            dont_fragment: false,
        })
    }
}

/// As much of a transport header as Linux wants in one piece.
fn transport_bytes(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => TCP_BYTES,
        protocol::UDP => UDP_BYTES,
        protocol::SCTP => SCTP_BYTES,
        protocol::ICMPV6 => ICMP_BYTES,
        _ => 0,
    }
}

/// Type and offset of what is behind the link header and its VLAN tags.
pub(crate) fn network_header(frame: &[u8]) -> Option<(u16, usize)> {
    let (header, mut rest) = EthernetHeader::ref_from_prefix(frame).ok()?;
    let mut kind = header.ethertype.get();
    let mut offset = ETHERNET_BYTES;
    for _ in 0..VLAN_TAGS_MAX {
        if !matches!(kind, ethertype::VLAN | ethertype::SERVICE_VLAN) {
            break;
        }
        let (tag, after) = VlanTag::ref_from_prefix(rest).ok()?;
        kind = tag.ethertype.get();
        rest = after;
        offset += VLAN_TAG_BYTES;
    }
    Some((kind, offset))
}

/// Which of so many workers gathers this fragment: all of a datagram go to the same one, whichever received them.
pub fn owner(frame: &[u8], workers: usize) -> usize {
    let Some(piece) = Piece::read(frame) else {
        return 0;
    };
    let DatagramKey {
        source,
        destination,
        identification,
        ..
    } = piece.key;
    let mixed = source ^ destination.rotate_left(64) ^ u128::from(identification);
    #[allow(clippy::cast_possible_truncation)] // both halves are taken
    let folded = (mixed as u64 ^ (mixed >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(folded).unwrap_or(0) % workers.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(family: Family, protocol: u8, length: usize) -> Piece {
        Piece {
            key: DatagramKey {
                source: 0x0a00_0001,
                destination: 0x0a00_0002,
                identification: 1,
                protocol,
                family,
            },
            ip: 0,
            payload: 20,
            length,
            offset: 0,
            more: true,
            packet_bytes: 28,
            dont_fragment: false,
        }
    }

    #[test]
    fn a_first_fragment_of_ipv6_has_the_transport_header() {
        assert!(!piece(Family::V6, protocol::TCP, 16).has_headers());
        assert!(piece(Family::V6, protocol::TCP, 24).has_headers());
        assert!(piece(Family::V6, protocol::UDP, 8).has_headers());
        assert!(piece(Family::V6, protocol::SCTP, 8).has_headers());
        assert!(piece(Family::V4, protocol::TCP, 8).has_headers());
        let second = Piece {
            offset: 8,
            ..piece(Family::V6, protocol::TCP, 8)
        };
        assert!(second.has_headers());
    }

    #[test]
    fn only_translated_headers_are_written_to() {
        let datagram = |destination: u8| {
            let mut packet = vec![0x45; 40];
            packet[9] = protocol::TCP;
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, destination]);
            packet
        };
        let tiny = piece(Family::V4, protocol::TCP, 8);
        assert!(!tiny.is_rewritten_in(&datagram(2)));
        assert!(tiny.is_rewritten_in(&datagram(3)));
        let long = piece(Family::V4, protocol::TCP, 24);
        assert!(!long.is_rewritten_in(&datagram(3)));
    }
}
