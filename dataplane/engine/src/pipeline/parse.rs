//! First stage: bytes to [`Meta`]. Every length is checked here, once; later stages rely on the offsets.
//!
//! Checks come in the order of the RFCs: Ethernet, VLAN tags, IP version, header length, total length, header checksum
//! (RFC 1812 5.2.2), fragments before ports, transport header. A frame to another MAC than the director's, and everything
//! that is not TCP, UDP, SCTP, ESP, AH or an ICMP error, is the kernel's.

use std::num::NonZeroU16;

use zerocopy::FromBytes;

use super::meta::{Kind, Meta};
use super::plain;
use crate::connection::sctp_state::Event;
use crate::connection::{ConnectionTable, Family, FlowKey};
use crate::fate::Fate;
use crate::forwarding_table::ForwardingTable;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{
    ETHERNET_BYTES, EthernetHeader, MacAddress, VLAN_TAG_BYTES, VlanTag, ethertype,
};
use crate::wire::gre::GreHeader;
use crate::wire::gue::{GUE_BYTES, GueHeader};
use crate::wire::icmp::{self, ICMP_BYTES, IcmpHeader};
use crate::wire::ipv4::{FRAGMENT_OFFSET_MASK, IPV4_BYTES, Ipv4Header};
use crate::wire::ipv4_options;
use crate::wire::ipv6::{IPV6_BYTES, Ipv6Header, upper_layer};
use crate::wire::protocol;
use crate::wire::sctp::SctpHeader;
use crate::wire::tcp::TcpHeader;
use crate::wire::udp::{UDP_BYTES, UdpHeader};

/// UDP port 500 (ISAKMP, RFC 2408) at both ends.
pub(super) const ISAKMP_PORTS: u32 = 500 << 16 | 500;
/// More tags than any network stacks.
const VLAN_TAGS_MAX: usize = 2;

/// The MAC addresses whose frames are the director's.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnMacs<'f> {
    port: MacAddress,
    /// Those of interfaces on the port's TAP: VRRP's, above all, which take all of a service's packets.
    others: &'f [MacAddress],
}

impl<'f> OwnMacs<'f> {
    /// Those of a port of the forwarding table; none without such a port.
    pub fn of(forwarding: &'f ForwardingTable, port: u16) -> Self {
        let spec = forwarding.port(usize::from(port));
        Self {
            port: spec.map_or([0; 6], |spec| spec.mac),
            others: spec.map_or(&[], |spec| &spec.other_macs),
        }
    }

    fn contain(&self, mac: MacAddress) -> bool {
        mac == self.port || self.others.contains(&mac)
    }
}

/// Reads a frame into `meta`, whatever that held before. `verified`: the device has found the checksum of an IPv4 header
/// right.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], verified: bool, macs: &OwnMacs<'_>, meta: &mut Meta) {
    if !plain::parse(bytes, verified, macs.port, meta) {
        parse_odd(bytes, verified, macs, meta);
    }
}

/// What is not plain, or to another MAC than the port's own; apart, so that frames that are do not carry this along.
#[inline(never)]
fn parse_odd(bytes: &[u8], verified: bool, macs: &OwnMacs<'_>, meta: &mut Meta) {
    let is_to = |mac: &&MacAddress| bytes.starts_with(*mac);
    let other = macs.others.iter().find(is_to);
    if !other.is_some_and(|mac| plain::parse(bytes, verified, *mac, meta)) {
        parse_any(bytes, macs, meta);
    }
}

/// The long way, for any frame.
pub(super) fn parse_any(bytes: &[u8], macs: &OwnMacs<'_>, meta: &mut Meta) {
    meta.is_plain = false;
    meta.candidate = None;
    meta.ip_bytes = 0;
    meta.tcp_flags = 0;
    meta.kind = match parse_ethernet(bytes, macs, meta) {
        Ok(kind) | Err(kind) => kind,
    };
}

/// The error is a kind too: a packet that is not for the engine, or broken.
type Parsed = Result<Kind, Kind>;

const PUNT: Kind = Kind::Punt(Fate::Punted);

#[inline]
fn parse_ethernet(bytes: &[u8], macs: &OwnMacs<'_>, meta: &mut Meta) -> Parsed {
    let (header, mut rest) =
        EthernetHeader::ref_from_prefix(bytes).map_err(|_| Kind::Drop(Fate::EthernetTruncated))?;
    if !macs.contain(header.destination) {
        return Err(PUNT);
    }
    let mut kind = header.ethertype.get();
    let mut ip = ETHERNET_BYTES;
    for _ in 0..VLAN_TAGS_MAX {
        if !matches!(kind, ethertype::VLAN | ethertype::SERVICE_VLAN) {
            break;
        }
        let (tag, after) =
            VlanTag::ref_from_prefix(rest).map_err(|_| Kind::Drop(Fate::EthernetTruncated))?;
        kind = tag.ethertype.get();
        rest = after;
        ip += VLAN_TAG_BYTES;
    }
    meta.ip = offset(ip);
    match kind {
        ethertype::IPV4 => parse_ipv4(rest, meta),
        ethertype::IPV6 => parse_ipv6(rest, meta),
        _ => Err(PUNT),
    }
}

#[inline]
fn parse_ipv4(bytes: &[u8], meta: &mut Meta) -> Parsed {
    let (header, _) =
        Ipv4Header::ref_from_prefix(bytes).map_err(|_| Kind::Drop(Fate::Ipv4Truncated))?;
    let header_bytes = header.header_bytes();
    let total = usize::from(header.total_length.get());
    if header.version_ihl >> 4 != 4 || header_bytes < IPV4_BYTES || total < header_bytes {
        return Err(Kind::Drop(Fate::Ipv4BadHeader));
    }
    let packet = bytes.get(..total).ok_or(Kind::Drop(Fate::Ipv4Truncated))?;
    let (whole_header, payload) = packet
        .split_at_checked(header_bytes)
        .ok_or(Kind::Drop(Fate::Ipv4Truncated))?;
    let intact = if header_bytes == IPV4_BYTES {
        header.checksum_is_right()
    } else {
        Sum::of(whole_header).finish() == 0
    };
    if !intact {
        return Err(Kind::Drop(Fate::Ipv4BadChecksum));
    }
    meta.ip_bytes = offset(total);
    meta.ttl = header.ttl;
    meta.transport = meta.ip.saturating_add(offset(header_bytes));
    let options = whole_header.get(IPV4_BYTES..).unwrap_or_default();
    if !ipv4_options::is_forwarded(options) {
        return Err(PUNT);
    }
    if !matches!(
        header.protocol,
        protocol::TCP
            | protocol::UDP
            | protocol::SCTP
            | protocol::ICMP
            | protocol::ESP
            | protocol::AH
    ) {
        return Err(PUNT);
    }
    if header.is_fragment() {
        meta.key.family = Family::V4;
        return Err(Kind::Fragment);
    }
    if header.protocol == protocol::ICMP {
        return parse_icmpv4(payload, meta);
    }
    let (kind, protocol, ports) = parse_transport(header.protocol, payload, meta)?;
    let ends = (header.source.get(), header.destination.get());
    meta.key = FlowKey::v4(protocol, ends.0, ends.1, ports);
    Ok(kind)
}

#[inline]
fn parse_ipv6(bytes: &[u8], meta: &mut Meta) -> Parsed {
    let (header, _) =
        Ipv6Header::ref_from_prefix(bytes).map_err(|_| Kind::Drop(Fate::Ipv6Truncated))?;
    if header.version_class_label.get() >> 28 != 6 {
        return Err(Kind::Drop(Fate::Ipv6BadHeader));
    }
    let total = IPV6_BYTES + usize::from(header.payload_length.get());
    let packet = bytes.get(..total).ok_or(Kind::Drop(Fate::Ipv6Truncated))?;
    let upper = upper_layer(packet, header.next_header).ok_or(Kind::Drop(Fate::Ipv6BadHeader))?;
    // A jumbogram's length does not fit, and no link here carries one.
    meta.ip_bytes = u16::try_from(total).map_err(|_| Kind::Drop(Fate::Ipv6BadHeader))?;
    meta.ttl = header.hop_limit;
    meta.transport = meta.ip.saturating_add(offset(upper.offset));
    if upper.is_fragment {
        meta.key.family = Family::V6;
        return Err(Kind::Fragment);
    }
    if !matches!(
        upper.protocol,
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::ICMPV6 | protocol::ESP
    ) {
        return Err(PUNT);
    }
    let payload = packet
        .get(upper.offset..)
        .ok_or(Kind::Drop(Fate::Ipv6BadHeader))?;
    if upper.protocol == protocol::ICMPV6 {
        return parse_icmpv6(payload, meta);
    }
    let (kind, protocol, ports) = parse_transport(upper.protocol, payload, meta)?;
    meta.key = FlowKey::v6(protocol, &header.source, &header.destination, ports);
    Ok(kind)
}

/// What it is, and protocol and ports (`source << 16 | destination`) of the flow it belongs to.
#[inline]
fn parse_transport(protocol: u8, payload: &[u8], meta: &mut Meta) -> Result<(Kind, u8, u32), Kind> {
    const TRUNCATED: Kind = Kind::Drop(Fate::TransportTruncated);
    if is_ipsec(protocol) {
        return Ok((Kind::Ipsec, protocol::UDP, ISAKMP_PORTS));
    }
    if protocol == protocol::TCP {
        let (header, _) = TcpHeader::ref_from_prefix(payload).map_err(|_| TRUNCATED)?;
        meta.tcp_flags = header.flags;
    }
    if protocol == protocol::SCTP {
        SctpHeader::ref_from_prefix(payload).map_err(|_| TRUNCATED)?;
        meta.sctp_event = Event::of(payload);
    }
    // UDP's whole header must be there; the others' are.
    let header = payload.first_chunk::<UDP_BYTES>().ok_or(TRUNCATED)?;
    let [a, b, c, d, ..] = *header;
    Ok((Kind::Flow, protocol, u32::from_be_bytes([a, b, c, d])))
}

/// Whether packets of the protocol follow those of UDP port 500, by which their keys were agreed on
/// (`ip_vs_proto_ah_esp.c`).
pub(super) fn is_ipsec(protocol: u8) -> bool {
    matches!(protocol, protocol::ESP | protocol::AH)
}

/// An ICMP error about one of ours carries the packet the director sent, so the flow to look up is its reverse.
fn parse_icmpv4(payload: &[u8], meta: &mut Meta) -> Parsed {
    let (header, embedded) = IcmpHeader::ref_from_prefix(payload).map_err(|_| PUNT)?;
    if !icmp::v4::is_related_error(header.kind) {
        return Err(PUNT);
    }
    let (inner, _) = Ipv4Header::ref_from_prefix(embedded).map_err(|_| PUNT)?;
    let header_bytes = inner.header_bytes();
    let first_fragment = inner.flags_fragment.get() & FRAGMENT_OFFSET_MASK == 0;
    if inner.version_ihl >> 4 != 4 || header_bytes < IPV4_BYTES || !first_fragment {
        return Err(PUNT);
    }
    let quoted = embedded.get(header_bytes..).ok_or(PUNT)?;
    match inner.protocol {
        protocol::IPIP => return parse_tunnel_error(quoted, header_bytes, meta),
        protocol::GRE => {
            let (gre, _) = GreHeader::ref_from_prefix(quoted).map_err(|_| PUNT)?;
            let bytes = gre.header_bytes().ok_or(PUNT)?;
            let packet = quoted.get(bytes..).ok_or(PUNT)?;
            return parse_tunnel_error(packet, header_bytes + bytes, meta);
        }
        _ => {}
    }
    let (protocol, ports) = embedded_flow(embedded, header_bytes, inner.protocol)?;
    let ends = (inner.source.get(), inner.destination.get());
    meta.key = FlowKey::v4(protocol, ends.0, ends.1, ports).reversed();
    Ok(related(meta, header_bytes, inner.protocol))
}

/// An ICMP error about a UDP packet of no connection may be about the outer packet of a GUE tunnel: the notes for it as
/// such, and the offset of the client's packet.
#[cold]
pub(super) fn gue_error(bytes: &[u8], meta: &Meta, table: &ConnectionTable) -> Option<(Meta, u16)> {
    let Kind::Related {
        inner,
        inner_transport,
    } = meta.kind
    else {
        return None;
    };
    let end = usize::from(meta.ip) + usize::from(meta.ip_bytes);
    let inner_transport = inner_transport?.get();
    let quoted = bytes.get(usize::from(inner_transport)..end)?;
    if meta.key.family != Family::V4 || meta.key.protocol != protocol::UDP {
        return None;
    }
    let (_, rest) = UdpHeader::ref_from_prefix(quoted).ok()?;
    let (gue, packet) = GueHeader::ref_from_prefix(rest).ok()?;
    if gue.version_length != 0 || gue.protocol != protocol::IPIP || gue.flags.get() != 0 {
        return None;
    }
    let mut meta = *meta;
    let outer_bytes = usize::from(inner_transport - inner) + UDP_BYTES + GUE_BYTES;
    let Ok(Kind::TunnelError { inner }) = parse_tunnel_error(packet, outer_bytes, &mut meta) else {
        return None;
    };
    meta.candidate = None;
    meta.hash = table.hash(&meta.key);
    Some((meta, inner))
}

/// An ICMP error about the outer packet of a tunnel may quote enough to tell whose packet was in it.
fn parse_tunnel_error(packet: &[u8], outer_header_bytes: usize, meta: &mut Meta) -> Parsed {
    let (header, _) = Ipv4Header::ref_from_prefix(packet).map_err(|_| PUNT)?;
    let header_bytes = header.header_bytes();
    let first_fragment = header.flags_fragment.get() & FRAGMENT_OFFSET_MASK == 0;
    if header.version_ihl >> 4 != 4 || header_bytes < IPV4_BYTES || !first_fragment {
        return Err(PUNT);
    }
    let (protocol, ports) = embedded_flow(packet, header_bytes, header.protocol)?;
    let ends = (header.source.get(), header.destination.get());
    meta.key = FlowKey::v4(protocol, ends.0, ends.1, ports);
    let inner = usize::from(meta.transport) + ICMP_BYTES + outer_header_bytes;
    Ok(Kind::TunnelError {
        inner: offset(inner),
    })
}

fn parse_icmpv6(payload: &[u8], meta: &mut Meta) -> Parsed {
    let (header, embedded) = IcmpHeader::ref_from_prefix(payload).map_err(|_| PUNT)?;
    if !icmp::v6::is_error(header.kind) {
        return Err(PUNT);
    }
    let (inner, _) = Ipv6Header::ref_from_prefix(embedded).map_err(|_| PUNT)?;
    let upper = upper_layer(embedded, inner.next_header).ok_or(PUNT)?;
    if upper.is_later_fragment {
        return Err(PUNT);
    }
    let (protocol, ports) = embedded_flow(embedded, upper.offset, upper.protocol)?;
    meta.key = FlowKey::v6(protocol, &inner.source, &inner.destination, ports).reversed();
    Ok(related(meta, upper.offset, upper.protocol))
}

/// Protocol and ports of the flow that an embedded packet belongs to.
fn embedded_flow(embedded: &[u8], at: usize, protocol: u8) -> Result<(u8, u32), Kind> {
    if is_ipsec(protocol) {
        return Ok((protocol::UDP, ISAKMP_PORTS));
    }
    if !matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        return Err(PUNT);
    }
    let ports = embedded
        .get(at..)
        .and_then(|transport| transport.first_chunk::<4>())
        .ok_or(PUNT)?;
    Ok((protocol, u32::from_be_bytes(*ports)))
}

fn related(meta: &Meta, inner_header_bytes: usize, inner_protocol: u8) -> Kind {
    let inner = meta.transport.saturating_add(offset(ICMP_BYTES));
    let inner_transport = inner.saturating_add(offset(inner_header_bytes));
    Kind::Related {
        inner,
        inner_transport: NonZeroU16::new(inner_transport).filter(|_| !is_ipsec(inner_protocol)),
    }
}

/// An offset within a packet of at most 65,535 bytes.
#[inline]
fn offset(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}
