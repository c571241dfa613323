//! IP in IP: the packet, one hop less, behind an outer header to the server (RFC 2003, RFC 2473, RFC 4213).
//!
//! The outer header is the kernel's (`ip_vs_tunnel_xmit`, seen in `golden/`): TTL and DF are the inner packet's, TOS
//! too but that "congestion experienced" becomes ECT(0), the identification is 0 under DF, and 6in4 never sets DF.

use std::net::IpAddr;

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use crate::connection::Family;
use crate::fate::Fate;
use crate::frame::Frame;
use crate::wire::ethernet::ethertype;
use crate::wire::ipv4::{DONT_FRAGMENT, IPV4_BYTES, Ipv4Header};
use crate::wire::ipv6::{IPV6_BYTES, Ipv6Header};
use crate::wire::protocol;

const ECN_MASK: u8 = 0x03;
const ECN_CONGESTION_EXPERIENCED: u8 = 0x03;
const ECN_CAPABLE_0: u8 = 0x02;

/// The outer header of one tunnel: what is the same for all of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
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
}

impl Outer {
    /// A tunnel between these; none when they are of different families.
    pub fn new(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses = [source.octets(), destination.octets()];
                let [from, to] = addresses.map(u32::from_ne_bytes);
                let sum = (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff);
                Some(Self::V4(OuterV4 { addresses, sum }))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(Self::V6([source.octets(), destination.octets()]))
            }
            _ => None,
        }
    }

    /// Bytes of the outer header to a server of this address.
    pub fn bytes_to(server: IpAddr) -> usize {
        if server.is_ipv4() {
            IPV4_BYTES
        } else {
            IPV6_BYTES
        }
    }

    /// Bytes of the header.
    #[inline(always)]
    pub fn bytes(&self) -> usize {
        match self {
            Self::V4(_) => IPV4_BYTES,
            Self::V6(_) => IPV6_BYTES,
        }
    }

    /// Its family.
    #[inline]
    pub fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// The EtherType of what begins with it.
    #[inline(always)]
    pub fn ethertype(&self) -> U16 {
        U16::new(match self {
            Self::V4(_) => ethertype::IPV4,
            Self::V6(_) => ethertype::IPV6,
        })
    }

    /// Writes the header for the packet `inner` over the first bytes of `room`. `identification` is used when
    /// fragmentation is allowed. Nothing happens when there is no room.
    #[inline(always)]
    pub fn write(&self, room: &mut [u8], inner: &Inner, identification: u16) {
        match self {
            Self::V4(outer) => {
                if let Some(header) = room.first_chunk_mut() {
                    outer.write(header, inner, identification);
                }
            }
            Self::V6([source, destination]) => {
                if let Ok((header, _)) = Ipv6Header::mut_from_prefix(room) {
                    header.version_class_label = U32::new(6 << 28 | u32::from(inner.tos) << 20);
                    header.payload_length = U16::new(inner.bytes);
                    header.next_header = inner.protocol;
                    header.hop_limit = inner.ttl;
                    header.source = *source;
                    header.destination = *destination;
                }
            }
        }
    }
}

impl OuterV4 {
    /// As three words, written once each: what is put together elsewhere first, or read back in other widths to be
    /// summed, has not left the store buffer yet, and the processor waits.
    #[inline(always)]
    fn write(&self, header: &mut [u8; IPV4_BYTES], inner: &Inner, identification: u16) {
        const VERSION_IHL: u8 = 0x45;
        let [length_high, length_low] = inner.bytes.saturating_add(IPV4_BYTES as u16).to_be_bytes();
        let [id_high, id_low] = if inner.dont_fragment {
            [0, 0]
        } else {
            identification.to_be_bytes()
        };
        let flags = if inner.dont_fragment {
            DONT_FRAGMENT
        } else {
            0
        };
        let [flags_high, flags_low] = flags.to_be_bytes();
        let first = u32::from_ne_bytes([VERSION_IHL, inner.tos, length_high, length_low]);
        let second = u32::from_ne_bytes([id_high, id_low, flags_high, flags_low]);
        let third = u16::from_ne_bytes([inner.ttl, inner.protocol]);
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

/// Puts the outer header in front of the IP packet at offset `ip`; afterwards it is the one at `ip`. What lay before
/// stays in front, overwritten from behind. `identification` is used when fragmentation is allowed.
///
/// # Errors
/// [`Fate::NoHeadroom`].
pub fn encapsulate<F: Frame>(
    frame: &mut F,
    ip: usize,
    family: Family,
    outer: &Outer,
    identification: u16,
) -> Result<(), Fate> {
    let packet = frame.bytes().get(ip..).unwrap_or_default();
    let inner = Inner::read(packet, family).ok_or(Fate::NoHeadroom)?;
    if !frame.prepend(outer.bytes()) {
        return Err(Fate::NoHeadroom);
    }
    let room = frame.bytes_mut().get_mut(ip..).unwrap_or_default();
    outer.write(room, &inner, identification);
    Ok(())
}
