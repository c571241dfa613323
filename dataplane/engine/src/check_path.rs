//! Health checks by the way that connections take: to a virtual address on one server, by the server's method.
//!
//! The sockets of checks are the director's kernel's, which has virtual addresses itself and takes no packet from one. So
//! a socket asks the *server's* address at a port that is a number, from one of the [`CHECK_PORTS`]. On its way out of the TAP
//! such a packet becomes one to the virtual address, in a tunnel if that is the method, to the next hop that the kernel
//! has found for the server. The answer comes from the virtual address, as to any client, and on its way to the kernel becomes
//! one from the server and the number again. ICMP errors about such packets do, too.
//!
//! What a packet to the server was for is remembered by its port ([`CheckPorts`]): each port belongs to one socket at a
//! time. Such packets have one hop left (inside of a tunnel), so that a server without the virtual address cannot send them
//! back, to be balanced to another server as any client's.

use std::hash::Hasher;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use crate::connection::Family;
use crate::forward::masquerade::{End, translate_v4, translate_v6};
use crate::forward::tunnel::{Encapsulation, Outer, Stamp, encapsulate};
use crate::frame::Frame;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{ETHERNET_BYTES, VLAN_TAG_BYTES, ethertype};
use crate::wire::icmp::{self, ICMP_BYTES, IcmpHeader};
use crate::wire::ipv4::{IPV4_BYTES, Ipv4Header};
use crate::wire::ipv6::{IPV6_BYTES, Ipv6Header};
use crate::wire::protocol;

/// Ports of the director's that checks come from: above those that Linux gives to sockets by itself
/// (`net.ipv4.ip_local_port_range`).
pub const CHECK_PORTS: RangeInclusive<u16> = 61_000..=65_535;

const PORTS: usize = (*CHECK_PORTS.end() - *CHECK_PORTS.start()) as usize + 1;

/// Tags that are looked through.
const VLAN_TAGS_MAX: usize = 2;

/// The hops that the packet itself has left at the server.
const HOPS: u8 = 1;

/// The hops of a tunnel's outer header: Linux' default.
const OUTER_HOPS: u8 = 64;

/// One way to a virtual address on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPath {
    /// TCP or UDP, by its protocol number.
    pub protocol: u8,
    /// The server's address.
    pub server: IpAddr,
    /// The port at which sockets ask for this way, host byte order.
    pub number: u16,
    /// The virtual address that is asked there; of the server's family.
    pub address: IpAddr,
    /// Its port, host byte order.
    pub port: u16,
    /// The tunnel; none for direct routing.
    pub tunnel: Option<Encapsulation>,
}

impl CheckPath {
    fn key(&self) -> u64 {
        key(self.protocol, self.server, self.number)
    }
}

/// Of 64 bits, so that different ways have different ones.
fn key(protocol: u8, server: IpAddr, number: u16) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write_u8(protocol);
    match server {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hasher.write_u16(number);
    hasher.finish()
}

/// What was last asked from each port, by protocol and family: the key of a way.
#[derive(Debug)]
pub struct CheckPorts([Box<[AtomicU64]>; 4]);

impl Default for CheckPorts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| {
            (0..PORTS).map(|_| AtomicU64::new(0)).collect()
        }))
    }
}

impl CheckPorts {
    fn slot(&self, family: Family, protocol: u8, port: u16) -> Option<&AtomicU64> {
        let list = match (family, protocol) {
            (Family::V4, protocol::TCP) => 0,
            (Family::V4, protocol::UDP) => 1,
            (Family::V6, protocol::TCP) => 2,
            (Family::V6, protocol::UDP) => 3,
            _ => return None,
        };
        let place = port.checked_sub(*CHECK_PORTS.start())?;
        self.0.get(list)?.get(usize::from(place))
    }
}

/// The ways of a snapshot.
#[derive(Debug, Clone)]
pub struct CheckPaths {
    paths: HashMap<u64, CheckPath>,
    /// Known to the snapshots before and after, too.
    ports: Arc<CheckPorts>,
}

/// What became of a packet of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not one of a check: it is as it was.
    Other,
    /// Made one to the virtual address.
    Translated,
    /// One that cannot be made one: larger than the link takes.
    TooLarge,
}

/// Where a packet's parts begin, and its ends.
#[derive(Debug, Clone, Copy)]
struct Layout {
    ip: usize,
    family: Family,
    protocol: u8,
    transport: usize,
    /// Of the IP packet: what follows is padding.
    end: usize,
    source: IpAddr,
    destination: IpAddr,
}

impl CheckPaths {
    /// These ways; none if there are none. What `previous` remembers is kept.
    pub fn new(paths: &[CheckPath], previous: Option<&Self>) -> Option<Box<Self>> {
        if paths.is_empty() {
            return None;
        }
        let ports = previous.map_or_else(Arc::default, |known| Arc::clone(&known.ports));
        let paths = paths.iter().map(|path| (path.key(), path.clone()));
        Some(Box::new(Self {
            paths: paths.collect(),
            ports,
        }))
    }

    /// A packet that the kernel sends by a link that takes IP packets of `mtu` bytes.
    pub fn to_server<F: Frame>(&self, frame: &mut F, mtu: usize) -> Outcome {
        let Some(layout) = Layout::read(frame.bytes(), 0) else {
            return Outcome::Other;
        };
        let Some([from, to]) = layout.ports(frame.bytes()) else {
            return Outcome::Other;
        };
        let slot = self.ports.slot(layout.family, layout.protocol, from);
        let key = key(layout.protocol, layout.destination, to);
        let (Some(slot), Some(path)) = (slot, self.paths.get(&key)) else {
            return Outcome::Other;
        };
        let outer = path.tunnel.and_then(|tunnel| {
            Outer::new(layout.source, layout.destination, tunnel).map(Outer::without_df)
        });
        let bytes = layout.end - layout.ip + outer.as_ref().map_or(0, Outer::bytes);
        if bytes > mtu {
            return Outcome::TooLarge;
        }
        // Before the packet is on its way, so that its answer finds it.
        slot.store(key, Ordering::Relaxed);
        frame.truncate(layout.end);
        let packet = frame.bytes_mut().get_mut(layout.ip..).unwrap_or_default();
        layout.replace(packet, End::Destination, path.address, path.port);
        // Before there is a tunnel, whose checksum may cover it.
        set_hops(packet, layout.family, HOPS);
        match outer {
            None => Outcome::Translated,
            Some(outer) => layout.put_in_tunnel(frame, &outer, from),
        }
    }

    /// A packet on its way to the kernel. True when it was one of a check, and has been made one of the server's own.
    pub fn from_server<F: Frame>(&self, frame: &mut F) -> bool {
        let Some(layout) = Layout::read(frame.bytes(), 0) else {
            return false;
        };
        if [protocol::ICMP, protocol::ICMPV6].contains(&layout.protocol) {
            return self.error_from_server(frame, layout).is_some();
        }
        let Some([from, to]) = layout.ports(frame.bytes()) else {
            return false;
        };
        let found = self.asked_from(layout.family, layout.protocol, to);
        let Some(path) = found.filter(|path| (path.address, path.port) == (layout.source, from))
        else {
            return false;
        };
        let packet = frame
            .bytes_mut()
            .get_mut(layout.ip..layout.end)
            .unwrap_or_default();
        layout.replace(packet, End::Source, path.server, path.number);
        true
    }

    fn asked_from(&self, family: Family, protocol: u8, port: u16) -> Option<&CheckPath> {
        let slot = self.ports.slot(family, protocol, port)?;
        self.paths.get(&slot.load(Ordering::Relaxed))
    }

    /// An ICMP error that quotes a packet to the virtual address: it quotes one to the server afterwards.
    fn error_from_server<F: Frame>(&self, frame: &mut F, layout: Layout) -> Option<()> {
        let icmp = frame.bytes().get(layout.transport..layout.end)?;
        let (header, _) = IcmpHeader::ref_from_prefix(icmp).ok()?;
        let is_error = match layout.family {
            Family::V4 => icmp::v4::is_related_error(header.kind),
            Family::V6 => icmp::v6::is_error(header.kind),
        };
        let quoted = Layout::read_ip(frame.bytes(), layout.transport + ICMP_BYTES, layout.family);
        let quoted = quoted.filter(|_| is_error)?;
        let [from, to] = quoted.ports(frame.bytes())?;
        let path = self.asked_from(quoted.family, quoted.protocol, from)?;
        if (path.address, path.port) != (quoted.destination, to) {
            return None;
        }
        let packet = frame.bytes_mut().get_mut(quoted.ip..layout.end)?;
        quoted.replace(packet, End::Destination, path.server, path.number);
        let icmp = frame.bytes_mut().get_mut(layout.transport..layout.end)?;
        let (header, _) = IcmpHeader::mut_from_prefix(icmp).ok()?;
        header.checksum = U16::ZERO;
        let source = if layout.source == path.address {
            path.server
        } else {
            layout.source
        };
        let pseudo_header = match (source, layout.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let length = u32::try_from(icmp.len()).unwrap_or_default();
                Sum::of(&source.octets())
                    .plus(Sum::of(&destination.octets()))
                    .add32(length)
                    .add16(protocol::ICMPV6.into())
            }
            _ => Sum::default(),
        };
        let checksum = Sum::of(icmp).plus(pseudo_header).finish();
        let (header, _) = IcmpHeader::mut_from_prefix(icmp).ok()?;
        header.checksum = U16::new(checksum);
        // The kernel takes no packet from an address of its own.
        let packet = frame.bytes_mut().get_mut(layout.ip..layout.end)?;
        match source {
            IpAddr::V4(source) => {
                let (header, _) = Ipv4Header::mut_from_prefix(packet).ok()?;
                header.source = U32::new(source.into());
                header.fill_checksum();
            }
            IpAddr::V6(source) => {
                let (header, _) = Ipv6Header::mut_from_prefix(packet).ok()?;
                header.source = source.octets();
            }
        }
        Some(())
    }
}

impl Layout {
    /// Of a frame: of an Ethernet header, tags and an IP packet, of which nothing is in another frame.
    fn read(frame: &[u8], tags: usize) -> Option<Self> {
        let type_at = ETHERNET_BYTES - 2 + tags * VLAN_TAG_BYTES;
        let kind = frame.get(type_at..)?.first_chunk()?;
        match u16::from_be_bytes(*kind) {
            ethertype::IPV4 => Self::read_ip(frame, type_at + 2, Family::V4),
            ethertype::IPV6 => Self::read_ip(frame, type_at + 2, Family::V6),
            ethertype::VLAN | ethertype::SERVICE_VLAN if tags < VLAN_TAGS_MAX => {
                Self::read(frame, tags + 1)
            }
            _ => None,
        }
    }

    /// Of a packet at an offset; the end of a quoted one may be missing. Neither Linux' sockets nor answers to them have
    /// options or extension headers.
    fn read_ip(frame: &[u8], ip: usize, family: Family) -> Option<Self> {
        let packet = frame.get(ip..)?;
        match family {
            Family::V4 => {
                let (header, _) = Ipv4Header::ref_from_prefix(packet).ok()?;
                let is_plain = header.version_ihl == 0x45 && !header.is_fragment();
                is_plain.then(|| Self {
                    ip,
                    family,
                    protocol: header.protocol,
                    transport: ip + IPV4_BYTES,
                    end: (ip + usize::from(header.total_length.get())).min(frame.len()),
                    source: IpAddr::V4(header.source.get().into()),
                    destination: IpAddr::V4(header.destination.get().into()),
                })
            }
            Family::V6 => {
                let (header, _) = Ipv6Header::ref_from_prefix(packet).ok()?;
                let length = IPV6_BYTES + usize::from(header.payload_length.get());
                Some(Self {
                    ip,
                    family,
                    protocol: header.next_header,
                    transport: ip + IPV6_BYTES,
                    end: (ip + length).min(frame.len()),
                    source: IpAddr::V6(header.source.into()),
                    destination: IpAddr::V6(header.destination.into()),
                })
            }
        }
    }

    /// Source and destination port, host byte order, of TCP and UDP.
    fn ports(&self, frame: &[u8]) -> Option<[u16; 2]> {
        if ![protocol::TCP, protocol::UDP].contains(&self.protocol) {
            return None;
        }
        let [from_high, from_low, to_high, to_low] =
            *frame.get(self.transport..self.end)?.first_chunk()?;
        Some([
            u16::from_be_bytes([from_high, from_low]),
            u16::from_be_bytes([to_high, to_low]),
        ])
    }

    /// Replaces an end of the packet, of which the first byte is that of its IP header.
    fn replace(&self, packet: &mut [u8], end: End, address: IpAddr, port: u16) {
        let transport = self.transport - self.ip;
        match address {
            IpAddr::V4(address) => {
                translate_v4(packet, transport, self.protocol, end, address.into(), port);
            }
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                #[allow(clippy::cast_possible_truncation)] // the low half
                let halves = [(bits >> 64) as u64, bits as u64];
                translate_v6(packet, transport, self.protocol, end, halves, port);
            }
        }
    }

    /// Puts the packet into a tunnel behind the link header that it has.
    fn put_in_tunnel<F: Frame>(&self, frame: &mut F, outer: &Outer, port: u16) -> Outcome {
        let link = frame.bytes().get(..self.ip).unwrap_or_default();
        let mut kept = ArrayVec::<u8, { ETHERNET_BYTES + VLAN_TAGS_MAX * VLAN_TAG_BYTES }>::new();
        kept.extend(link.iter().copied());
        let stamp = Stamp {
            identification: port,
            flow_hash: u64::from(port),
        };
        if encapsulate(frame, self.ip, self.family, outer, stamp).is_err() {
            return Outcome::TooLarge;
        }
        let room = frame.bytes_mut();
        if let Some(place) = room.get_mut(..kept.len()) {
            place.copy_from_slice(&kept);
        }
        // It was the packet's; a way through a router has more hops than one.
        let packet = room.get_mut(self.ip..).unwrap_or_default();
        set_hops(packet, outer.family(), OUTER_HOPS);
        Outcome::Translated
    }
}

/// Sets how many hops a packet without options has left.
fn set_hops(packet: &mut [u8], family: Family, hops: u8) {
    match family {
        Family::V4 => {
            if let Ok((header, _)) = Ipv4Header::mut_from_prefix(packet) {
                header.ttl = hops;
                header.fill_checksum();
            }
        }
        Family::V6 => {
            if let Ok((header, _)) = Ipv6Header::mut_from_prefix(packet) {
                header.hop_limit = hops;
            }
        }
    }
}

#[cfg(test)]
mod tests;
