//! NAT (IPVS: masquerading): one address and one port of a packet are replaced, and every checksum that covers them is
//! mended incrementally (RFC 1624), so a packet whose checksum was wrong stays wrong, as in Linux. A UDP packet that came
//! without a checksum gets one, as in Linux, over IPv6 too. SCTP's, a CRC over the whole packet, is made anew when the port
//! changes, as in Linux: there a wrong one does become right.

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use crate::connection::Direction;
use crate::wire::checksum::{Change, Sum};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::protocol;
use crate::wire::sctp;
use crate::wire::tcp::TcpHeader;
use crate::wire::udp::{UDP_BYTES, UdpHeader};

/// Which end of a packet is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl End {
    /// The end that is replaced of packets in this direction.
    #[inline(always)]
    pub fn replaced(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::Destination,
            Direction::Outbound => Self::Source,
        }
    }
}

/// Translates an IPv4 packet and takes a hop off. `packet` starts with the IP header, `transport` is the offset of the
/// transport header in it. Nothing happens when the headers are not there, which parsing has excluded.
pub fn translate_v4(
    packet: &mut [u8],
    transport: usize,
    protocol: u8,
    end: End,
    address: u32,
    port: u16,
) {
    let Some((before, segment)) = packet.split_at_mut_checked(transport) else {
        return;
    };
    let Ok((header, _)) = Ipv4Header::mut_from_prefix(before) else {
        return;
    };
    if !is_special(segment, protocol) {
        return rewrite_v4(header, segment, protocol, end, address, port);
    }
    rewrite_v4(header, &mut [], protocol, end, address, port);
    let addresses = Sum::default()
        .add32(header.source.get())
        .add32(header.destination.get());
    translate_special(segment, protocol, end, port, addresses);
}

/// Translates a header and the beginning of a segment or datagram that has a checksum.
#[inline(always)]
pub fn rewrite_v4(
    header: &mut Ipv4Header,
    segment: &mut [u8],
    protocol: u8,
    end: End,
    address: u32,
    port: u16,
) {
    let field = match end {
        End::Source => &mut header.source,
        End::Destination => &mut header.destination,
    };
    let address = U32::new(address);
    let change = Change::of_ipv4(field.to_bytes(), address.to_bytes());
    *field = address;
    header.ttl = header.ttl.wrapping_sub(1);
    // One hop less is one less in the word that TTL is the high byte of.
    let checksum = change.apply(header.checksum.to_bytes(), [1, 0], [0, 0]);
    header.checksum = U16::from_bytes(checksum);
    translate_segment(segment, protocol, end, port, change);
}

/// Translates an IPv6 packet and takes a hop off; as [`translate_v4`].
pub fn translate_v6(
    packet: &mut [u8],
    transport: usize,
    protocol: u8,
    end: End,
    address: [u64; 2],
    port: u16,
) {
    let Some((before, segment)) = packet.split_at_mut_checked(transport) else {
        return;
    };
    let Ok((header, _)) = Ipv6Header::mut_from_prefix(before) else {
        return;
    };
    if !is_special(segment, protocol) {
        return rewrite_v6(header, segment, protocol, end, address, port);
    }
    rewrite_v6(header, &mut [], protocol, end, address, port);
    let addresses = Sum::of(&header.source).plus(Sum::of(&header.destination));
    translate_special(segment, protocol, end, port, addresses);
}

/// Translates a header and the beginning of a segment or datagram that has a checksum.
#[inline(always)]
pub fn rewrite_v6(
    header: &mut Ipv6Header,
    segment: &mut [u8],
    protocol: u8,
    end: End,
    address: [u64; 2],
    port: u16,
) {
    let field = match end {
        End::Source => &mut header.source,
        End::Destination => &mut header.destination,
    };
    let [high, low] = address;
    let address = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    let change = Change::of_ipv6(*field, address);
    *field = address;
    header.hop_limit = header.hop_limit.wrapping_sub(1);
    translate_segment(segment, protocol, end, port, change);
}

/// Replaces a port and mends the checksum.
#[inline(always)]
fn translate_segment(segment: &mut [u8], protocol: u8, end: End, port: u16, change: Change) {
    let Some(old_port) = replace_port(segment, end, port) else {
        return;
    };
    let new_port = port.to_be_bytes();
    if protocol == protocol::TCP {
        if let Ok((header, _)) = TcpHeader::mut_from_prefix(segment) {
            let checksum = change.apply(header.checksum.to_bytes(), old_port, new_port);
            header.checksum = U16::from_bytes(checksum);
        }
    } else if let Ok((header, _)) = UdpHeader::mut_from_prefix(segment) {
        let checksum = change.apply(header.checksum.to_bytes(), old_port, new_port);
        header
            .checksum
            .set(udp_checksum(u16::from_be_bytes(checksum)));
    }
}

/// What the short way does not know: everything but TCP, and UDP with a checksum.
#[inline]
fn is_special(segment: &[u8], protocol: u8) -> bool {
    match protocol {
        protocol::TCP => false,
        protocol::UDP => is_unchecked_udp(segment),
        _ => true,
    }
}

/// Replaces the port of such a segment and makes its checksum. `addresses` is the sum of the packet's, translated.
#[cold]
fn translate_special(segment: &mut [u8], protocol: u8, end: End, port: u16, addresses: Sum) {
    let old_port = replace_port(segment, end, port);
    if protocol == protocol::UDP {
        fill_udp_checksum(segment, addresses);
    } else if old_port != Some(port.to_be_bytes()) {
        sctp::fill_checksum(segment);
    }
}

#[inline]
fn is_unchecked_udp(segment: &[u8]) -> bool {
    UdpHeader::ref_from_prefix(segment).is_ok_and(|(header, _)| header.checksum.get() == 0)
}

/// Computes the checksum of a UDP packet that has none.
#[cold]
fn fill_udp_checksum(segment: &mut [u8], addresses: Sum) {
    let datagram = datagram_of(segment);
    let length = u32::try_from(datagram.len()).unwrap_or(0);
    let pseudo_header = addresses.add16(protocol::UDP.into()).add32(length);
    let full = Sum::of(datagram).plus(pseudo_header).finish();
    if let Ok((header, _)) = UdpHeader::mut_from_prefix(segment) {
        header.checksum.set(udp_checksum(full));
    }
}

/// The datagram without what may lie behind it in the packet.
fn datagram_of(segment: &[u8]) -> &[u8] {
    let length = UdpHeader::ref_from_prefix(segment).map_or(0, |(header, _)| header.length.get());
    match segment.get(..length.into()) {
        Some(datagram) if datagram.len() >= UDP_BYTES => datagram,
        _ => segment,
    }
}

/// In UDP 0 means "none", so a sum of 0 is written as its other form (RFC 768).
#[inline]
fn udp_checksum(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// Replaces a port of a TCP or UDP header; returns the old one as it stood there.
#[inline(always)]
pub(crate) fn replace_port(segment: &mut [u8], end: End, port: u16) -> Option<[u8; 2]> {
    let at = if end == End::Source { 0 } else { 2 };
    let field = segment.get_mut(at..)?.first_chunk_mut::<2>()?;
    Some(std::mem::replace(field, port.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::TCP_CHECKSUM_OFFSET;
    use crate::wire::udp::UDP_CHECKSUM_OFFSET;
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    fn v4_packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = Ipv4Header::new_zeroed();
        header.version_ihl = 0x45;
        header.ttl = 64;
        header.protocol = protocol;
        header.source = U32::new(0xc000_020a);
        header.destination = U32::new(0xc633_6401);
        header
            .total_length
            .set(u16::try_from(20 + payload.len()).unwrap());
        header.fill_checksum();
        let mut packet = header.as_bytes().to_vec();
        packet.extend_from_slice(payload);
        let offset = 20
            + if protocol == protocol::TCP {
                TCP_CHECKSUM_OFFSET
            } else {
                UDP_CHECKSUM_OFFSET
            };
        packet[offset..offset + 2].fill(0);
        let sum = full_v4(&packet);
        packet[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    /// The checksum over pseudo header and segment; 0 for a packet whose checksum is right.
    fn full_v4(packet: &[u8]) -> u16 {
        let length = u16::try_from(packet.len() - 20).unwrap();
        Sum::of(&packet[12..])
            .add16(packet[9].into())
            .add16(length)
            .finish()
    }

    fn v6_packet(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![
            0x60,
            0,
            0,
            0,
            0,
            u8::try_from(payload.len()).unwrap(),
            protocol::TCP,
            64,
        ];
        packet.extend_from_slice(&[
            0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ]);
        packet.extend_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend_from_slice(payload);
        packet[56..58].fill(0);
        let sum = full_v6(&packet);
        packet[56..58].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn full_v6(packet: &[u8]) -> u16 {
        let length = u16::try_from(packet.len() - 40).unwrap();
        Sum::of(&packet[8..])
            .add16(protocol::TCP.into())
            .add16(length)
            .finish()
    }

    proptest! {
        #[test]
        fn checksums_stay_right(
            payload in prop::collection::vec(any::<u8>(), 20..60),
            address in any::<u32>(),
            port in any::<u16>(),
            source in any::<bool>(),
            tcp in any::<bool>(),
        ) {
            let end = if source { End::Source } else { End::Destination };
            let protocol = if tcp { protocol::TCP } else { protocol::UDP };
            let mut packet = v4_packet(protocol, &payload);
            prop_assume!(tcp || packet[26..28] != [0, 0]);
            translate_v4(&mut packet, 20, protocol, end, address, port);
            prop_assert_eq!(Sum::of(&packet[..20]).finish(), 0);
            prop_assert_eq!(full_v4(&packet), 0);
            prop_assert_eq!(packet[8], 63);

            let mut packet = v6_packet(&payload);
            let halves = [u64::from(address) << 32 | 0x0db8, u64::from(port)];
            translate_v6(&mut packet, 40, protocol::TCP, end, halves, port);
            prop_assert_eq!(full_v6(&packet), 0);
            prop_assert_eq!(packet[7], 63);
        }
    }

    #[test]
    fn a_missing_udp_checksum_is_filled_in() {
        let mut packet = v4_packet(protocol::UDP, &[0x12, 0x34, 0, 53, 0, 9, 0, 0, 7]);
        packet[26..28].fill(0);
        translate_v4(
            &mut packet,
            20,
            protocol::UDP,
            End::Destination,
            0xcb00_710b,
            5353,
        );
        assert_ne!(packet[26..28], [0, 0]);
        assert_eq!(full_v4(&packet), 0);
    }
}
