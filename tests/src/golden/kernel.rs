//! What the kernel's own stack, behind IPVS, does with a packet that IPVS lets pass: what a punted frame must have come to
//! in the trace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pollux_engine::wire::ethernet::ETHERNET_BYTES;
use pollux_engine::wire::ipv4_options;
use pollux_engine::wire::protocol;

use super::compare;
use super::packet;
use super::topology::Topology;
use super::trace::{Frame, Wire};

const RESET: u8 = 0x04;

/// An IP packet, read loosely: the traces hold no malformed ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'f> {
    bytes: &'f [u8],
    is_v4: bool,
    pub(super) protocol: u8,
    is_fragment: bool,
    /// What comes after IP and its extensions.
    pub(super) payload: &'f [u8],
}

impl<'f> Packet<'f> {
    pub(super) fn read(frame: &'f [u8]) -> Option<Self> {
        let bytes = frame.get(ETHERNET_BYTES..)?;
        let is_v4 = bytes.first()? >> 4 == 4;
        const FRAGMENT: u8 = 44;
        const EXTENSIONS: [u8; 3] = [0, 43, 60];
        let mut header = if is_v4 {
            usize::from(bytes.first()? & 15) * 4
        } else {
            40
        };
        let mut protocol = *bytes.get(if is_v4 { 9 } else { 6 })?;
        while !is_v4 && EXTENSIONS.contains(&protocol) {
            protocol = *bytes.get(header)?;
            header += 8 * (usize::from(*bytes.get(header + 1)?) + 1);
        }
        let is_cut_v4 = is_v4 && bytes.get(6..8)? != [0x40, 0] && bytes.get(6..8)? != [0, 0];
        Some(Self {
            bytes,
            is_v4,
            protocol,
            is_fragment: is_cut_v4 || !is_v4 && protocol == FRAGMENT,
            payload: bytes.get(header..)?,
        })
    }

    fn address(&self, v4_at: usize, v6_at: usize) -> Option<IpAddr> {
        Some(if self.is_v4 {
            Ipv4Addr::from(*self.bytes.get(v4_at..)?.first_chunk()?).into()
        } else {
            Ipv6Addr::from(*self.bytes.get(v6_at..)?.first_chunk()?).into()
        })
    }

    pub(super) fn source(&self) -> Option<IpAddr> {
        self.address(12, 8)
    }

    pub(super) fn destination(&self) -> Option<IpAddr> {
        self.address(16, 24)
    }

    /// Whether the checksum of its segment is right, as far as there is one that the stack looks at.
    pub(super) fn has_right_checksum(&self) -> bool {
        let (Some(source), Some(destination)) = (self.source(), self.destination()) else {
            return true;
        };
        match self.protocol {
            protocol::UDP if self.is_v4 && self.payload.get(6..8) == Some(&[0, 0]) => true,
            protocol::TCP | protocol::UDP => {
                let end = |address| SocketAddr::new(address, 0);
                packet::checksum(end(source), end(destination), self.protocol, self.payload) == 0
            }
            _ => true,
        }
    }

    /// Bytes but for TTL or hop limit, the header's checksum and options, in which the stack records the route.
    fn without_hops(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        if self.is_v4 {
            let options = self.bytes.len() - self.payload.len();
            bytes[20..options].fill(0);
            bytes[8] = 0;
            bytes[10..12].fill(0);
        } else {
            bytes[7] = 0;
        }
        bytes
    }

    fn hops(&self) -> u8 {
        self.bytes[if self.is_v4 { 8 } else { 7 }]
    }
}

/// Whether the stack of the lab's director, without IPVS, answers `frame` by `out`.
///
/// # Errors
/// What it would have done, for people.
pub fn answers(frame: &[u8], out: &[Frame], topology: &Topology) -> Result<(), String> {
    let packet = Packet::read(frame).ok_or("not an IP packet")?;
    let destination = packet.destination().ok_or("no destination")?;
    let options = packet
        .bytes
        .get(20..packet.bytes.len() - packet.payload.len());
    if packet.is_v4 && options.is_some_and(|options| !ipv4_options::is_forwarded(options)) {
        let told = |out: &Packet<'_>| out.payload.starts_with(&[12, 0]);
        if out.is_empty() || is_answered(&packet, out, told) {
            return Ok(());
        }
    }
    if out.is_empty() && !compare::is_recorded(frame) {
        return Ok(());
    }
    let is_route_missing = !topology.has_route(destination);
    let (expected, done) = if is_route_missing {
        (
            "called the network unreachable, or kept silent",
            out.is_empty() || is_answered(&packet, out, is_network_unreachable),
        )
    } else if !topology.is_local(destination) && packet.hops() <= 1 {
        (
            "said that no hops are left",
            // Not of a later fragment, nor before it has gathered them for nf_conntrack.
            is_answered(&packet, out, is_time_exceeded) || packet.is_fragment && out.is_empty(),
        )
    } else if !topology.is_local(destination) && packet.is_fragment {
        // IPVS gathers what passes, and lets it go again with the last one, whole if it fits.
        let goes_on = |out: &Frame| {
            Packet::read(&out.bytes).is_some_and(|out| {
                let ends = |packet: &Packet<'_>| (packet.source(), packet.destination());
                ends(&out) == ends(&packet) && out.hops() + 1 == packet.hops()
            })
        };
        (
            "gathered it, or forwarded it and those before",
            out.iter().all(goes_on),
        )
    } else if !topology.is_local(destination) && out.iter().all(asks_for_neighbour) {
        // The frame waits for the answer.
        (
            "asked who has the address",
            !out.is_empty() && !topology.has_neighbour(destination),
        )
    } else if !topology.is_local(destination)
        && packet.bytes.len() > topology.mtu_towards(destination).into()
    {
        (
            "said that it is too big, or cut it",
            is_answered(&packet, out, is_too_big) || is_cut(&packet, out),
        )
    } else if !topology.is_local(destination) {
        ("forwarded with a hop less", is_forwarded(&packet, out))
    } else if packet.is_fragment {
        // The last one to come makes the packet whole; what is in it is not known here.
        (
            "kept until the packet is whole, or answered then",
            out.is_empty() || is_answered(&packet, out, |_| true),
        )
    } else if !packet.has_right_checksum() {
        ("taken in silence what is damaged", out.is_empty())
    } else {
        answer_of_local_stack(&packet, out)
    };
    if done {
        return Ok(());
    }
    let out: Vec<&str> = out.iter().map(|frame| frame.text.as_str()).collect();
    Err(format!(
        "engine punted, and the kernel's stack would have: {expected}; the trace has {out:?}"
    ))
}

/// So many ICMP messages the kernel sends at once (`icmp_msgs_burst`), of all its work, and then 1000 a second.
pub const MESSAGES_AT_ONCE: usize = 50;

/// ICMP messages of the kernel's own among frames.
pub fn messages(out: &[Frame]) -> usize {
    let own = |frame: &&Frame| {
        Packet::read(&frame.bytes)
            .is_some_and(|packet| matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6))
    };
    out.iter().filter(own).count()
}

/// Whether a packet may be answered by an ICMP error at all: it is none itself.
pub fn may_be_told(frame: &[u8]) -> bool {
    Packet::read(frame).is_some_and(|packet| packet.protocol != protocol::ICMP)
}

/// Whether it is ICMP or ICMPv6 itself: what comes out may be a packet that came in.
pub fn is_icmp(frame: &[u8]) -> bool {
    let packet = Packet::read(frame);
    packet.is_some_and(|packet| matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6))
}

/// "Reassembly time exceeded": what the stack says 30 s after the first fragment of a packet that never got whole.
pub fn is_about_reassembly(frame: &Frame) -> bool {
    Packet::read(&frame.bytes).is_some_and(|packet| {
        (packet.protocol == protocol::ICMP && packet.payload.starts_with(&[11, 1]))
            || (packet.protocol == protocol::ICMPV6 && packet.payload.starts_with(&[3, 1]))
    })
}

/// Whether all that came out is an ICMP error, to a server.
pub fn is_error_to_server(out: &[Frame]) -> bool {
    let [out] = out else { return false };
    let is_error = |packet: Packet<'_>| match packet.payload.first() {
        Some(kind) if packet.protocol == protocol::ICMP => matches!(kind, 3..=5 | 11 | 12),
        Some(kind) => packet.protocol == protocol::ICMPV6 && *kind < 128,
        None => false,
    };
    out.port == Wire::Rs && Packet::read(&out.bytes).is_some_and(is_error)
}

fn is_forwarded(packet: &Packet<'_>, out: &[Frame]) -> bool {
    let [out] = out else { return false };
    Packet::read(&out.bytes).is_some_and(|out| {
        out.without_hops() == packet.without_hops() && out.hops() + 1 == packet.hops()
    })
}

/// No socket is open on the lab's director.
fn answer_of_local_stack(packet: &Packet<'_>, out: &[Frame]) -> (&'static str, bool) {
    let kind = packet.payload.first().copied().unwrap_or(0);
    match packet.protocol {
        protocol::TCP
            if packet
                .payload
                .get(13)
                .is_some_and(|flags| flags & RESET != 0) =>
        {
            ("kept silent about a reset", out.is_empty())
        }
        protocol::TCP => ("reset the connection", is_answer(packet, out, is_reset)),
        protocol::UDP => (
            "called the port unreachable",
            is_answer(packet, out, is_port_unreachable),
        ),
        // The lab's kernel has no SCTP and no IPsec of its own; over IPv6 it names the header it does not know.
        protocol::SCTP | protocol::ESP | protocol::AH => (
            "called the protocol unreachable",
            is_answer(packet, out, is_protocol_unreachable),
        ),
        protocol::ICMP if kind == 8 => (
            "echoed",
            is_answer(packet, out, |out| out.payload.first() == Some(&0)),
        ),
        protocol::ICMPV6 if kind == 128 => (
            "echoed",
            is_answer(packet, out, |out| out.payload.first() == Some(&129)),
        ),
        _ => ("taken it in silence", out.is_empty()),
    }
}

fn is_answer(packet: &Packet<'_>, out: &[Frame], is_right: impl Fn(&Packet<'_>) -> bool) -> bool {
    let [out] = out else { return false };
    Packet::read(&out.bytes).is_some_and(|out| {
        (out.source(), out.destination()) == (packet.destination(), packet.source())
            && is_right(&out)
    })
}

/// From whatever address of the director's.
fn is_answered(packet: &Packet<'_>, out: &[Frame], is_right: impl Fn(&Packet<'_>) -> bool) -> bool {
    let [out] = out else { return false };
    Packet::read(&out.bytes)
        .is_some_and(|out| out.destination() == packet.source() && is_right(&out))
}

/// ARP, or a solicitation of the neighbour's.
fn asks_for_neighbour(out: &Frame) -> bool {
    const ARP: [u8; 2] = [8, 6];
    let is_solicitation = Packet::read(&out.bytes)
        .is_some_and(|out| out.protocol == protocol::ICMPV6 && out.payload.first() == Some(&135));
    out.bytes.get(12..14) == Some(&ARP) || is_solicitation
}

/// A tool in the director asks for the name of an address.
pub fn is_lookup(frame: &Frame) -> bool {
    Packet::read(&frame.bytes).is_some_and(|packet| {
        packet.protocol == protocol::UDP
            && packet.payload.get(2..4) == Some(&[0, 53])
            && packet
                .source()
                .is_some_and(|source| Topology::default().is_local(source))
            && packet.destination().is_some_and(|to| !is_of_lab(to))
    })
}

/// The director says which multicast groups it listens to.
pub fn is_membership(frame: &Frame) -> bool {
    const IGMP: u8 = 2;
    const REPORT_V6: u8 = 143;
    Packet::read(&frame.bytes).is_some_and(|packet| {
        packet.protocol == IGMP
            || packet.protocol == protocol::ICMPV6 && packet.payload.first() == Some(&REPORT_V6)
    })
}

fn is_of_lab(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[10, 1, 0]),
        IpAddr::V6(address) => address.segments().starts_with(&[0x2001, 0xdb8]),
    }
}

fn is_too_big(out: &Packet<'_>) -> bool {
    out.payload
        .starts_with(if out.is_v4 { &[3, 4] } else { &[2, 0] })
}

fn is_cut(packet: &Packet<'_>, out: &[Frame]) -> bool {
    let is_piece = |out: &Frame| {
        Packet::read(&out.bytes).is_some_and(|out| {
            let ends = |packet: &Packet<'_>| (packet.source(), packet.destination());
            out.is_fragment && ends(&out) == ends(packet) && out.hops() + 1 == packet.hops()
        })
    };
    out.len() > 1 && out.iter().all(is_piece)
}

fn is_network_unreachable(out: &Packet<'_>) -> bool {
    out.payload
        .starts_with(if out.is_v4 { &[3, 0] } else { &[1, 0] })
}

fn is_time_exceeded(out: &Packet<'_>) -> bool {
    out.payload
        .starts_with(if out.is_v4 { &[11, 0] } else { &[3, 0] })
}

fn is_reset(out: &Packet<'_>) -> bool {
    out.protocol == protocol::TCP && out.payload.get(13).is_some_and(|flags| flags & RESET != 0)
}

fn is_protocol_unreachable(out: &Packet<'_>) -> bool {
    out.payload
        .starts_with(if out.is_v4 { &[3, 2] } else { &[4, 1] })
}

fn is_port_unreachable(out: &Packet<'_>) -> bool {
    out.payload
        .starts_with(if out.is_v4 { &[3, 3] } else { &[1, 4] })
}
