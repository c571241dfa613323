//! First stage, the short way: [`Meta`] of a plain packet (see [`crate::wire::plain`]), TCP or UDP with a checksum, whole.
//!
//! What it says of a packet is what `parse` would say; it only does not know every packet.

use zerocopy::FromBytes;

use super::meta::{Kind, Meta};
use crate::connection::{FlowKey, Steady};
use crate::wire::ethernet::{ETHERNET_BYTES, FRAME_BYTES_MIN, MacAddress, ethertype};
use crate::wire::ipv4::IPV4_BYTES;
use crate::wire::ipv6::IPV6_BYTES;
use crate::wire::plain::{PlainV4, PlainV6};
use crate::wire::protocol;
use crate::wire::tcp::{TCP_BYTES, TcpHeader};
use crate::wire::udp::{UDP_BYTES, UdpHeader};

const IP: u16 = ETHERNET_BYTES as u16;
const TRANSPORT_V4: u16 = (ETHERNET_BYTES + IPV4_BYTES) as u16;
const TRANSPORT_V6: u16 = (ETHERNET_BYTES + IPV6_BYTES) as u16;

/// Reads a plain packet into `meta`; false, and `meta` anything, when it is not one.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], verified: bool, port_mac: MacAddress, meta: &mut Meta) -> bool {
    // The shorter of the two, so that one look at the length is enough for IPv4.
    let Ok((plain, _)) = PlainV4::ref_from_prefix(bytes) else {
        return false;
    };
    if plain.ethernet.destination != port_mac {
        return false;
    }
    match plain.ethernet.ethertype.get() {
        ethertype::IPV4 => parse_v4(plain, bytes, verified, meta).is_some(),
        ethertype::IPV6 => parse_v6(bytes, meta).is_some(),
        _ => false,
    }
}

#[inline(always)]
fn parse_v4(plain: &PlainV4, bytes: &[u8], verified: bool, meta: &mut Meta) -> Option<()> {
    const VERSION_IHL: u8 = 0x45;
    let header = &plain.ip;
    let total = header.total_length.get();
    if header.version_ihl != VERSION_IHL
        || header.is_fragment()
        || !fits(total, bytes)
        || !(verified || header.checksum_is_right())
    {
        return None;
    }
    let (ports, flags, steady) =
        parse_transport(&plain.transport, header.protocol, total, IPV4_BYTES)?;
    meta.kind = Kind::Flow;
    meta.is_plain = true;
    meta.key = FlowKey::of_v4(header.protocol, header.addresses(), ports);
    meta.candidate = None;
    meta.ip = IP;
    meta.transport = TRANSPORT_V4;
    meta.ip_bytes = total;
    meta.ttl = header.ttl;
    meta.tcp_flags = flags;
    meta.steady = steady;
    Some(())
}

#[inline(always)]
fn parse_v6(bytes: &[u8], meta: &mut Meta) -> Option<()> {
    let (plain, _) = PlainV6::ref_from_prefix(bytes).ok()?;
    let header = &plain.ip;
    let total = header.payload_length.get().checked_add(IPV6_BYTES as u16)?;
    if header.version_class_label.get() >> 28 != 6 || !fits(total, bytes) {
        return None;
    }
    let protocol = header.next_header;
    let (ports, flags, steady) = parse_transport(&plain.transport, protocol, total, IPV6_BYTES)?;
    meta.kind = Kind::Flow;
    meta.is_plain = true;
    meta.key = FlowKey::v6(protocol, &header.source, &header.destination, ports);
    meta.candidate = None;
    meta.ip = IP;
    meta.transport = TRANSPORT_V6;
    meta.ip_bytes = total;
    meta.ttl = header.hop_limit;
    meta.tcp_flags = flags;
    meta.steady = steady;
    Some(())
}

/// Whether the frame holds the packet and no more, but for padding of a short frame.
#[inline(always)]
fn fits(total: u16, frame: &[u8]) -> bool {
    let end = ETHERNET_BYTES + usize::from(total);
    (end..=end.max(FRAME_BYTES_MIN)).contains(&frame.len())
}

/// Ports, TCP flags and the state that stays, of a segment or datagram that begins `header_bytes` into a packet of `total` bytes. UDP without a
/// checksum is left to the long way, which knows how to make one.
#[inline(always)]
fn parse_transport(
    transport: &[u8; TCP_BYTES],
    protocol: u8,
    total: u16,
    header_bytes: usize,
) -> Option<(u32, u8, Steady)> {
    let (needed, flags, steady) = match protocol {
        protocol::TCP => {
            let (header, _) = TcpHeader::ref_from_prefix(transport).ok()?;
            let steady = Steady::of_tcp(header.flags);
            (header_bytes + TCP_BYTES, header.flags, steady)
        }
        protocol::UDP => {
            let (header, _) = UdpHeader::ref_from_prefix(transport).ok()?;
            if header.checksum.get() == 0 {
                return None;
            }
            (header_bytes + UDP_BYTES, 0, Steady::UDP)
        }
        _ => return None,
    };
    let [a, b, c, d, ..] = *transport;
    let ports = u32::from_be_bytes([a, b, c, d]);
    (usize::from(total) >= needed).then_some((ports, flags, steady))
}
