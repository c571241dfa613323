//! IP in IP: the packet, one hop less, behind an outer header to the server (RFC 2003, RFC 2473, RFC 4213).
//!
//! The outer header is the kernel's (`ip_vs_tunnel_xmit`, seen in `golden/`): TTL and DF are the inner packet's, TOS
//! too but that "congestion experienced" becomes ECT(0), the identification is 0 under DF, and 6in4 never sets DF.

use std::net::IpAddr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros};

use crate::connection::Family;
use crate::fate::Fate;
use crate::frame::Frame;
use crate::wire::checksum::Sum;
use crate::wire::ipv4::{DONT_FRAGMENT, IPV4_BYTES, Ipv4Header};
use crate::wire::ipv6::{IPV6_BYTES, Ipv6Header};
use crate::wire::protocol;

const ECN_MASK: u8 = 0x03;
const ECN_CONGESTION_EXPERIENCED: u8 = 0x03;
const ECN_CAPABLE_0: u8 = 0x02;

/// What the outer header takes over from the inner one.
struct Inner {
    protocol: u8,
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
    bytes: u16,
}

/// Puts the outer header in front of the IP packet at offset `ip`; afterwards it is the one at `ip`. What lay before
/// stays in front, overwritten from behind. `identification` is used when fragmentation is allowed.
///
/// # Errors
/// [`Fate::NoHeadroom`], and [`Fate::NoRoute`] when the addresses are of different families.
#[inline]
pub fn encapsulate<F: Frame>(
    frame: &mut F,
    ip: usize,
    family: Family,
    source: IpAddr,
    destination: IpAddr,
    identification: u16,
) -> Result<(), Fate> {
    let inner =
        read_inner(frame.bytes().get(ip..).unwrap_or_default(), family).ok_or(Fate::NoRoute)?;
    let outer_bytes = if destination.is_ipv4() {
        IPV4_BYTES
    } else {
        IPV6_BYTES
    };
    if !frame.prepend(outer_bytes) {
        return Err(Fate::NoHeadroom);
    }
    let outer = frame.bytes_mut().get_mut(ip..).unwrap_or_default();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (header, _) = Ipv4Header::mut_from_prefix(outer).map_err(|_| Fate::NoHeadroom)?;
            *header = outer_v4(
                &inner,
                source.to_bits(),
                destination.to_bits(),
                identification,
            );
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (header, _) = Ipv6Header::mut_from_prefix(outer).map_err(|_| Fate::NoHeadroom)?;
            *header = Ipv6Header::new_zeroed();
            header.version_class_label = U32::new(6 << 28 | u32::from(inner.tos) << 20);
            header.payload_length = U16::new(inner.bytes);
            header.next_header = inner.protocol;
            header.hop_limit = inner.ttl;
            header.source = source.octets();
            header.destination = destination.octets();
        }
        _ => return Err(Fate::NoRoute),
    }
    Ok(())
}

/// The outer IPv4 header. Its checksum is summed from the values at hand: reading back what was just written in other
/// widths would stall the processor.
#[inline]
fn outer_v4(inner: &Inner, source: u32, destination: u32, identification: u16) -> Ipv4Header {
    const VERSION_IHL: u8 = 0x45;
    let total_length = inner.bytes.saturating_add(IPV4_BYTES as u16);
    let (identification, flags) = if inner.dont_fragment {
        (0, DONT_FRAGMENT)
    } else {
        (identification, 0)
    };
    let checksum = Sum::default()
        .add16(u16::from_be_bytes([VERSION_IHL, inner.tos]))
        .add16(total_length)
        .add16(identification)
        .add16(flags)
        .add16(u16::from_be_bytes([inner.ttl, inner.protocol]))
        .add32(source)
        .add32(destination)
        .finish();
    Ipv4Header {
        version_ihl: VERSION_IHL,
        tos: inner.tos,
        total_length: U16::new(total_length),
        identification: U16::new(identification),
        flags_fragment: U16::new(flags),
        ttl: inner.ttl,
        protocol: inner.protocol,
        checksum: U16::new(checksum),
        source: U32::new(source),
        destination: U32::new(destination),
    }
}

#[inline]
fn read_inner(packet: &[u8], family: Family) -> Option<Inner> {
    let bytes = u16::try_from(packet.len()).ok()?;
    let inner = match family {
        Family::V4 => {
            let (header, _) = Ipv4Header::ref_from_prefix(packet).ok()?;
            Inner {
                protocol: protocol::IPIP,
                tos: header.tos,
                ttl: header.ttl,
                dont_fragment: header.dont_fragment(),
                bytes,
            }
        }
        Family::V6 => {
            let (header, _) = Ipv6Header::ref_from_prefix(packet).ok()?;
            Inner {
                protocol: protocol::IPV6,
                tos: header.traffic_class(),
                ttl: header.hop_limit,
                dont_fragment: false,
                bytes,
            }
        }
    };
    let congested = inner.tos & ECN_MASK == ECN_CONGESTION_EXPERIENCED;
    let tos = if congested {
        inner.tos & !ECN_MASK | ECN_CAPABLE_0
    } else {
        inner.tos
    };
    Some(Inner { tos, ..inner })
}
