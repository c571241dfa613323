//! ICMP errors about a masqueraded connection: outer and embedded addresses and the embedded port are translated, so
//! that each side hears about the addresses it knows (`ip_vs_nat_icmp`).
//!
//! Translated are the outer header's checksum, the embedded header's and the ICMP message's, all incrementally; not the
//! embedded transport checksum, which few routers quote whole.

use std::net::{IpAddr, SocketAddr};

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::U32;

use super::meta::{Kind, Meta};
use crate::connection::{Connection, Direction, Family};
use crate::forward::masquerade::{End, replace_port};
use crate::wire::checksum::{Sum, update};
use crate::wire::icmp::IcmpHeader;
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::protocol;

/// Where the parts of the message lie, from the start of the outer IP header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub icmp: usize,
    pub inner: usize,
    /// None when it has no ports.
    pub inner_transport: Option<usize>,
}

impl Layout {
    /// Where they lie in the packet that this is known of; none when it is no error.
    pub fn of(meta: &Meta) -> Option<Self> {
        let Kind::Related {
            inner,
            inner_transport,
        } = meta.kind
        else {
            return None;
        };
        let from_ip = |offset: u16| usize::from(offset.saturating_sub(meta.ip));
        Some(Self {
            icmp: from_ip(meta.transport),
            inner: from_ip(inner),
            inner_transport: inner_transport.map(|offset| from_ip(offset.get())),
        })
    }
}

/// Whether the error's checksum is right: one that was damaged may be about anything. `packet` starts with the outer IP
/// header and ends with it; `icmp` is the offset of the message.
pub(super) fn is_intact(packet: &[u8], icmp: usize, family: Family) -> bool {
    let Some((outer, message)) = packet.split_at_checked(icmp) else {
        return false;
    };
    let pseudo_header = match (family, Ipv6Header::ref_from_prefix(outer)) {
        (Family::V4, _) => Sum::default(),
        (Family::V6, Ok((header, _))) => Sum::of(&header.source)
            .plus(Sum::of(&header.destination))
            .add32(u32::try_from(message.len()).unwrap_or(0))
            .add16(protocol::ICMPV6.into()),
        (Family::V6, Err(_)) => return false,
    };
    Sum::of(message).plus(pseudo_header).finish() == 0
}

/// Translates the error in `packet`, which starts with the outer IP header, and takes a hop off.
pub(super) fn translate(
    packet: &mut [u8],
    at: Layout,
    connection: &Connection<'_>,
    direction: Direction,
) {
    // Inbound: the client's side complains about an answer; the server is told, as the one that sent it. Outbound: the
    // server's side complains about a request; the client is told, by the virtual service it sent it to.
    let (outer_end, inner_end) = match direction {
        Direction::Inbound => (End::Destination, End::Source),
        Direction::Outbound => (End::Source, End::Destination),
    };
    match connection.key(Direction::Inbound).family {
        Family::V4 => {
            let (address, port) = connection.translation_v4(direction);
            translate_v4(packet, at, outer_end, inner_end, address, port);
        }
        Family::V6 => {
            let (address, port) = connection.translation_v6(direction);
            translate_v6(packet, at, outer_end, inner_end, address, port);
        }
    }
}

/// Translates an error of a client's side for a server that has no connection, and takes a hop off.
pub(super) fn translate_to_server(packet: &mut [u8], at: Layout, server: SocketAddr) {
    let (outer_end, inner_end) = (End::Destination, End::Source);
    let port = server.port();
    match server.ip() {
        IpAddr::V4(address) => {
            translate_v4(packet, at, outer_end, inner_end, address.to_bits(), port);
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            #[allow(clippy::cast_possible_truncation)] // both halves are taken
            let halves = [(bits >> 64) as u64, bits as u64];
            translate_v6(packet, at, outer_end, inner_end, halves, port);
        }
    }
}

fn translate_v4(
    packet: &mut [u8],
    at: Layout,
    outer_end: End,
    inner_end: End,
    address: u32,
    port: u16,
) {
    let Some((outer, message)) = packet.split_at_mut_checked(at.icmp) else {
        return;
    };
    let Ok((header, _)) = Ipv4Header::mut_from_prefix(outer) else {
        return;
    };
    header.decrement_ttl();
    replace_v4(header, outer_end, address);
    let embedded = |message: &mut [u8]| -> Option<(Sum, Sum)> {
        let inner = message.get_mut(at.inner - at.icmp..)?;
        let (header, _) = Ipv4Header::mut_from_prefix(inner).ok()?;
        let old_checksum = header.checksum.get();
        let (old, new) = replace_v4(header, inner_end, address);
        let (old, new) = (old.add16(old_checksum), new.add16(header.checksum.get()));
        replace_inner_port(message, at, inner_end, port, (old, new))
    };
    if let Some((old, new)) = embedded(message) {
        mend(message, old, new);
    }
}

/// Replaces the embedded packet's port, if it has one, and adds what was there and what is to the sums.
fn replace_inner_port(
    message: &mut [u8],
    at: Layout,
    end: End,
    port: u16,
    (old, new): (Sum, Sum),
) -> Option<(Sum, Sum)> {
    let Some(transport) = at.inner_transport else {
        return Some((old, new));
    };
    let old_port = replace_port(message.get_mut(transport - at.icmp..)?, end, port)?;
    Some((old.add16(u16::from_be_bytes(old_port)), new.add16(port)))
}

fn replace_v4(header: &mut Ipv4Header, end: End, address: u32) -> (Sum, Sum) {
    let field = match end {
        End::Source => &mut header.source,
        End::Destination => &mut header.destination,
    };
    let (old, new) = (
        Sum::default().add32(field.get()),
        Sum::default().add32(address),
    );
    *field = U32::new(address);
    header.checksum.set(update(header.checksum.get(), old, new));
    (old, new)
}

fn translate_v6(
    packet: &mut [u8],
    at: Layout,
    outer_end: End,
    inner_end: End,
    address: [u64; 2],
    port: u16,
) {
    let Some((outer, message)) = packet.split_at_mut_checked(at.icmp) else {
        return;
    };
    let Ok((header, _)) = Ipv6Header::mut_from_prefix(outer) else {
        return;
    };
    header.hop_limit = header.hop_limit.wrapping_sub(1);
    // ICMPv6's checksum covers the outer addresses too (RFC 4443 2.3).
    let (outer_old, outer_new) = replace_v6(header, outer_end, address);
    let embedded = |message: &mut [u8]| -> Option<(Sum, Sum)> {
        let inner = message.get_mut(at.inner - at.icmp..)?;
        let (header, _) = Ipv6Header::mut_from_prefix(inner).ok()?;
        let (old, new) = replace_v6(header, inner_end, address);
        replace_inner_port(message, at, inner_end, port, (old, new))
    };
    if let Some((old, new)) = embedded(message) {
        mend(message, old.plus(outer_old), new.plus(outer_new));
    }
}

fn replace_v6(header: &mut Ipv6Header, end: End, address: [u64; 2]) -> (Sum, Sum) {
    let field = match end {
        End::Source => &mut header.source,
        End::Destination => &mut header.destination,
    };
    let old = Sum::of(field);
    let [high, low] = address;
    *field = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    (old, Sum::default().add64(high).add64(low))
}

fn mend(message: &mut [u8], old: Sum, new: Sum) {
    if let Ok((header, _)) = IcmpHeader::mut_from_prefix(message) {
        header.checksum.set(update(header.checksum.get(), old, new));
    }
}
