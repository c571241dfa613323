//! Tunnels: the packet, one hop less, behind an outer header to the server: IP in IP (RFC 2003, RFC 2473, RFC 4213), or
//! IP with GRE or GUE between ([`super::tunnel_gre`], [`super::tunnel_gue`]).
//!
//! The outer header is the kernel's (`ip_vs_tunnel_xmit`, seen in `golden/`): TTL and DF are the inner packet's, TOS
//! too but that "congestion experienced" becomes ECT(0), the identification is 0 under DF, and 6in4 never sets DF.

use std::net::IpAddr;

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use super::tunnel_gre;
use super::tunnel_gue;
use crate::connection::Family;
use crate::fate::Fate;
use crate::frame::Frame;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::ethertype;
use crate::wire::ipv4::{DONT_FRAGMENT, IPV4_BYTES, Ipv4Header};
use crate::wire::ipv6::{IPV6_BYTES, Ipv6Header};
use crate::wire::protocol;

/// What stands between the outer IP header and the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encapsulation {
    /// Nothing: IP in IP.
    #[default]
    Ipip,
    /// A GRE header.
    Gre {
        /// With a checksum over header and packet.
        checksum: bool,
    },
    /// A UDP and a GUE header.
    Gue {
        /// The server's UDP port, host byte order.
        port: u16,
        /// With a UDP checksum.
        checksum: bool,
    },
}

impl Encapsulation {
    /// Whether an IPv4 packet, of which this is the beginning, is one of such a tunnel.
    pub fn is_in(self, packet: &[u8]) -> bool {
        let Ok((header, _)) = Ipv4Header::ref_from_prefix(packet) else {
            return false;
        };
        match self {
            Self::Ipip => header.protocol == protocol::IPIP,
            Self::Gre { .. } => header.protocol == protocol::GRE,
            Self::Gue { port, .. } => {
                let to = packet.get(header.header_bytes() + 2..);
                let to = to.and_then(|bytes| bytes.first_chunk());
                header.protocol == protocol::UDP && to == Some(&port.to_be_bytes())
            }
        }
    }

    /// Bytes of it.
    #[inline(always)]
    pub fn bytes(self) -> usize {
        match self {
            Self::Ipip => 0,
            Self::Gre { checksum } => tunnel_gre::bytes(checksum),
            Self::Gue { .. } => tunnel_gue::BYTES,
        }
    }
}

/// Who makes the checksum of UDP that covers a packet in a GUE tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SummedBy {
    /// We do.
    Cpu,
    /// The device that sends it, of the pseudo header's sum that is in the field ([`Frame::leave_udp_checksum`]).
    Device,
}

/// What differs from packet to packet besides the packet itself.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Identification of an outer IPv4 header that may be fragmented.
    pub identification: u16,
    /// Hash of the flow: the packets of one take one way through the network and to one queue of the server.
    pub flow_hash: u64,
}

const ECN_MASK: u8 = 0x03;
const ECN_CONGESTION_EXPERIENCED: u8 = 0x03;
const ECN_CAPABLE_0: u8 = 0x02;

/// The outer headers of one tunnel: what is the same for all of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    ip: OuterIp,
    encapsulation: Encapsulation,
    /// Whether the device on the way to the server fills in checksums of UDP.
    device_sums: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OuterIp {
    /// To a server's IPv4 address.
    V4(OuterV4),
    /// To a server's IPv6 address: the director's address and the server's.
    V6([[u8; 16]; 2]),
}

/// An outer IPv4 header but for what each packet brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterV4 {
    /// The director's address and the server's.
    addresses: [[u8; 4]; 2],
    /// Sum of the addresses, in the machine's byte order.
    sum: u32,
    /// Whether it forbids fragmentation when the packet in it does (`pmtu_disc`).
    copies_df: bool,
}

impl Outer {
    /// A tunnel between these; none when they are of different families.
    pub fn new(source: IpAddr, destination: IpAddr, encapsulation: Encapsulation) -> Option<Self> {
        let ip = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses = [source.octets(), destination.octets()];
                let [from, to] = addresses.map(u32::from_ne_bytes);
                let sum = (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff);
                OuterIp::V4(OuterV4 {
                    addresses,
                    sum,
                    copies_df: true,
                })
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                OuterIp::V6([source.octets(), destination.octets()])
            }
            _ => return None,
        };
        Some(Self {
            ip,
            encapsulation,
            device_sums: false,
        })
    }

    /// The same, on a way whose device fills in checksums of UDP, or not.
    #[must_use]
    pub fn with_device_sums(self, device_sums: bool) -> Self {
        Self {
            device_sums,
            ..self
        }
    }

    /// Whether the checksum is the device's to fill in, of a packet that is sent as it is.
    #[inline(always)]
    pub fn leaves_checksum(&self) -> bool {
        self.device_sums
            && matches!(
                self.encapsulation,
                Encapsulation::Gue { checksum: true, .. }
            )
    }

    /// The same, but that the network may fragment whatever is in it.
    #[must_use]
    pub fn without_df(mut self) -> Self {
        if let OuterIp::V4(outer) = &mut self.ip {
            outer.copies_df = false;
        }
        self
    }

    /// Bytes of the outer headers to a server of this address.
    pub fn bytes_to(server: IpAddr, encapsulation: Encapsulation) -> usize {
        let ip = if server.is_ipv4() {
            IPV4_BYTES
        } else {
            IPV6_BYTES
        };
        ip + encapsulation.bytes()
    }

    /// Bytes of the headers.
    #[inline(always)]
    pub fn bytes(&self) -> usize {
        self.ip_bytes() + self.encapsulation.bytes()
    }

    /// Bytes of the IP header.
    #[inline(always)]
    pub fn ip_bytes(&self) -> usize {
        match self.ip {
            OuterIp::V4(_) => IPV4_BYTES,
            OuterIp::V6(_) => IPV6_BYTES,
        }
    }

    /// The header of IP in IP to an IPv4 address, if it is that.
    #[inline(always)]
    pub fn v4_alone(&self) -> Option<&OuterV4> {
        match (&self.ip, self.encapsulation) {
            (OuterIp::V4(outer), Encapsulation::Ipip) => Some(outer),
            _ => None,
        }
    }

    /// The family of the outer IP header.
    #[inline]
    pub fn family(&self) -> Family {
        match self.ip {
            OuterIp::V4(_) => Family::V4,
            OuterIp::V6(_) => Family::V6,
        }
    }

    /// The EtherType of what begins with it.
    #[inline(always)]
    pub fn ethertype(&self) -> U16 {
        U16::new(match self.ip {
            OuterIp::V4(_) => ethertype::IPV4,
            OuterIp::V6(_) => ethertype::IPV6,
        })
    }

    /// The addresses as a transport checksum's pseudo header covers them.
    fn address_sum(&self) -> Sum {
        match self.ip {
            OuterIp::V4(OuterV4 { addresses, .. }) => Sum::of(addresses.as_flattened()),
            OuterIp::V6(addresses) => Sum::of(addresses.as_flattened()),
        }
    }

    /// Writes the headers for the packet `inner` over the first bytes of `room`; the packet follows. Nothing happens
    /// when there is no room.
    #[inline(always)]
    pub fn write(&self, room: &mut [u8], inner: &Inner, stamp: Stamp, summed_by: SummedBy) {
        // What would be longer than IP can say is longer than any link takes, which was looked at before.
        let (protocol, bytes) = match self.encapsulation {
            Encapsulation::Ipip => (inner.protocol, inner.bytes),
            other => (
                self.write_between(other, room, inner, stamp, summed_by),
                inner.bytes.wrapping_add(other.bytes() as u16),
            ),
        };
        match &self.ip {
            OuterIp::V4(outer) => {
                if let Some(header) = room.first_chunk_mut() {
                    outer.write(header, inner, (protocol, bytes), stamp.identification);
                }
            }
            OuterIp::V6([source, destination]) => {
                if let Ok((header, _)) = Ipv6Header::mut_from_prefix(room) {
                    header.version_class_label = U32::new(6 << 28 | u32::from(inner.tos) << 20);
                    header.payload_length = U16::new(bytes);
                    header.next_header = protocol;
                    header.hop_limit = inner.ttl;
                    header.source = *source;
                    header.destination = *destination;
                }
            }
        }
    }

    /// Writes what stands between; gives its protocol number.
    #[inline(never)]
    fn write_between(
        &self,
        encapsulation: Encapsulation,
        room: &mut [u8],
        inner: &Inner,
        stamp: Stamp,
        summed_by: SummedBy,
    ) -> u8 {
        let start = self.ip_bytes();
        let end = start + encapsulation.bytes() + usize::from(inner.bytes);
        let segment = room.get_mut(start..end).unwrap_or_default();
        match encapsulation {
            Encapsulation::Ipip => inner.protocol,
            Encapsulation::Gre { checksum } => {
                tunnel_gre::write(segment, inner.protocol, checksum);
                protocol::GRE
            }
            Encapsulation::Gue { port, checksum } => {
                let checksum = checksum.then(|| (self.address_sum(), summed_by));
                let source = tunnel_gue::source_port(stamp.flow_hash);
                tunnel_gue::write(segment, inner.protocol, [source, port], checksum);
                protocol::UDP
            }
        }
    }
}

impl OuterV4 {
    /// Whether the network may fragment what has this header before such a packet.
    #[inline(always)]
    pub fn may_fragment(&self, inner: &Inner) -> bool {
        !(inner.dont_fragment && self.copies_df)
    }

    /// Writes the header for `bytes` bytes of a protocol. As three words, written once each: what is put together elsewhere first, or read back in other widths to be
    /// summed, has not left the store buffer yet, and the processor waits.
    #[inline(always)]
    pub fn write(
        &self,
        header: &mut [u8; IPV4_BYTES],
        inner: &Inner,
        (protocol, bytes): (u8, u16),
        identification: u16,
    ) {
        const VERSION_IHL: u8 = 0x45;
        let [length_high, length_low] = bytes.wrapping_add(IPV4_BYTES as u16).to_be_bytes();
        let may_fragment = self.may_fragment(inner);
        let [id_high, id_low] = if may_fragment {
            identification.to_be_bytes()
        } else {
            [0, 0]
        };
        let flags = if may_fragment { 0 } else { DONT_FRAGMENT };
        let [flags_high, flags_low] = flags.to_be_bytes();
        let first = u32::from_ne_bytes([VERSION_IHL, inner.tos, length_high, length_low]);
        let second = u32::from_ne_bytes([id_high, id_low, flags_high, flags_low]);
        let third = u16::from_ne_bytes([inner.ttl, protocol]);
        // Seven words of 16 bits and a sum of four: two folds are enough.
        let halves = |word: u32| (word >> 16) + (word & 0xffff);
        let sum = self.sum + halves(first) + halves(second) + u32::from(third);
        #[allow(clippy::cast_possible_truncation)] // folded: it fits
        let checksum = !(halves(halves(sum)) as u16);
        let [source, destination] = self.addresses;
        let (words, _) = header.as_chunks_mut::<4>();
        if let [word0, word1, word2, word3, word4] = words {
            *word0 = first.to_ne_bytes();
            *word1 = second.to_ne_bytes();
            let [ttl, protocol] = third.to_ne_bytes();
            let [high, low] = checksum.to_ne_bytes();
            *word2 = [ttl, protocol, high, low];
            *word3 = source;
            *word4 = destination;
        }
    }
}

/// What the outer header takes over from the inner one, which has one hop less already.
#[derive(Debug, Clone, Copy)]
pub struct Inner {
    protocol: u8,
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
    bytes: u16,
}

impl Inner {
    /// An IPv4 packet of so many bytes.
    #[inline(always)]
    pub fn of_v4(header: &Ipv4Header, bytes: u16) -> Self {
        Self {
            protocol: protocol::IPIP,
            tos: outer_tos(header.tos),
            ttl: header.ttl,
            dont_fragment: header.dont_fragment(),
            bytes,
        }
    }

    /// An IPv6 packet of so many bytes.
    #[inline(always)]
    pub fn of_v6(header: &Ipv6Header, bytes: u16) -> Self {
        Self {
            protocol: protocol::IPV6,
            tos: outer_tos(header.traffic_class()),
            ttl: header.hop_limit,
            dont_fragment: false,
            bytes,
        }
    }

    fn read(packet: &[u8], family: Family) -> Option<Self> {
        let bytes = u16::try_from(packet.len()).ok()?;
        Some(match family {
            Family::V4 => Self::of_v4(Ipv4Header::ref_from_prefix(packet).ok()?.0, bytes),
            Family::V6 => Self::of_v6(Ipv6Header::ref_from_prefix(packet).ok()?.0, bytes),
        })
    }
}

#[inline(always)]
fn outer_tos(tos: u8) -> u8 {
    if tos & ECN_MASK == ECN_CONGESTION_EXPERIENCED {
        tos & !ECN_MASK | ECN_CAPABLE_0
    } else {
        tos
    }
}

/// Puts the outer headers in front of the IP packet at offset `ip`; afterwards they begin there. What lay before stays
/// in front, overwritten from behind. The frame ends with the packet.
///
/// # Errors
/// [`Fate::NoHeadroom`].
pub fn encapsulate<F: Frame>(
    frame: &mut F,
    ip: usize,
    family: Family,
    outer: &Outer,
    stamp: Stamp,
) -> Result<(), Fate> {
    let packet = frame.bytes().get(ip..).unwrap_or_default();
    let inner = Inner::read(packet, family).ok_or(Fate::NoHeadroom)?;
    if !frame.prepend(outer.bytes()) {
        return Err(Fate::NoHeadroom);
    }
    let room = frame.bytes_mut().get_mut(ip..).unwrap_or_default();
    // Whether it is cut into fragments is not known here.
    outer.write(room, &inner, stamp, SummedBy::Cpu);
    Ok(())
}
