//! ICMP errors the director itself makes: time exceeded, fragmentation needed, packet too big, unreachable.
//!
//! The packet that caused the error becomes the answer, in place: its head stays as the embedded packet and new headers
//! go in front. A client hears from the virtual IP, a server from the director's address on its side, as in Linux. Rates
//! are limited per worker (RFC 1812 4.3.2.8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros};

use crate::clock::{TICKS_PER_SECOND, Tick};
use crate::frame::Frame;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{ICMP_BYTES, IcmpHeader, v4, v6};
use crate::wire::ipv4::{IPV4_BYTES, Ipv4Header};
use crate::wire::ipv6::{IPV6_BYTES, IPV6_MTU_MIN, Ipv6Header};
use crate::wire::protocol;

/// TTL and hop limit of what the director makes itself.
const OWN_TTL: u8 = 64;
/// An ICMP error is at most this long in all (RFC 1812 4.3.2.3).
const ICMPV4_ERROR_BYTES_MAX: usize = 576;
/// The kernel's TOS of an error: the packet's, with precedence "internetwork control".
const TOS_MASK: u8 = 0x1e;
const TOS_INTERNETWORK_CONTROL: u8 = 0xc0;

/// What to tell the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    TimeExceeded,
    /// The largest packet that would have passed, bytes.
    TooBig(u16),
    NoDestination,
    HostUnreachable,
    NetworkUnreachable,
    /// What a router said of the tunnel that the packet went through: type, code and the word after the checksum.
    OfTunnel(u8, u8, u32),
}

impl Problem {
    /// Type, code and the word after the checksum.
    fn v4(self) -> (u8, u8, u32) {
        use v4::DESTINATION_UNREACHABLE as UNREACHABLE;
        match self {
            Self::TimeExceeded => (v4::TIME_EXCEEDED, 0, 0),
            Self::TooBig(mtu) => (UNREACHABLE, v4::FRAGMENTATION_NEEDED, mtu.into()),
            Self::NoDestination => (UNREACHABLE, v4::PORT_UNREACHABLE, 0),
            Self::HostUnreachable => (UNREACHABLE, v4::HOST_UNREACHABLE, 0),
            Self::NetworkUnreachable => (UNREACHABLE, v4::NETWORK_UNREACHABLE, 0),
            Self::OfTunnel(kind, code, rest) => (kind, code, rest),
        }
    }

    /// The same for ICMPv6, which knows no errors of tunnels.
    fn v6(self) -> Option<(u8, u8, u32)> {
        use v6::DESTINATION_UNREACHABLE as UNREACHABLE;
        Some(match self {
            Self::TimeExceeded => (v6::TIME_EXCEEDED, 0, 0),
            Self::TooBig(mtu) => (v6::PACKET_TOO_BIG, 0, mtu.into()),
            Self::NoDestination => (UNREACHABLE, v6::PORT_UNREACHABLE, 0),
            Self::HostUnreachable => (UNREACHABLE, v6::ADDRESS_UNREACHABLE, 0),
            Self::NetworkUnreachable => (UNREACHABLE, v6::NO_ROUTE, 0),
            Self::OfTunnel(..) => return None,
        })
    }
}

/// At most this many errors a second and worker; short bursts pass.
const ERRORS_PER_SECOND: u32 = 10_000;

/// A token bucket over ticks.
#[derive(Debug)]
pub(super) struct ErrorBudget {
    tokens: u32,
    refilled: Tick,
}

impl ErrorBudget {
    pub fn new() -> Self {
        Self {
            tokens: ERRORS_PER_SECOND,
            refilled: Tick::default(),
        }
    }

    pub fn take(&mut self, now: Tick) -> bool {
        let elapsed = self
            .refilled
            .until(now)
            .unsigned_abs()
            .min(TICKS_PER_SECOND);
        if elapsed > 0 {
            self.refilled = now;
            let refill = elapsed * (ERRORS_PER_SECOND / TICKS_PER_SECOND);
            self.tokens = (self.tokens + refill).min(ERRORS_PER_SECOND);
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }
}

/// Makes the error of the packet at offset `ip`; it comes from `speaker`. False, the frame spoilt, when it may not be
/// answered (RFC 1122 3.2.2: not to a source that is no single host) or has no room in front.
pub(super) fn answer<F: Frame>(
    frame: &mut F,
    ip: usize,
    speaker: IpAddr,
    problem: Problem,
    identification: u16,
) -> bool {
    match speaker {
        IpAddr::V4(speaker) => answer_v4(frame, ip, speaker, problem, identification),
        IpAddr::V6(speaker) => answer_v6(frame, ip, speaker, problem),
    }
}

fn answer_v4<F: Frame>(
    frame: &mut F,
    ip: usize,
    speaker: Ipv4Addr,
    problem: Problem,
    identification: u16,
) -> bool {
    let (kind, code, rest) = problem.v4();
    frame.truncate(ip + ICMPV4_ERROR_BYTES_MAX - IPV4_BYTES - ICMP_BYTES);
    let Ok((original, _)) =
        Ipv4Header::ref_from_prefix(frame.bytes().get(ip..).unwrap_or_default())
    else {
        return false;
    };
    let original = *original;
    let source = original.source.get().to_be_bytes();
    let single_host = source[0] != 0 && source[0] < 224;
    if !single_host || !frame.prepend(IPV4_BYTES + ICMP_BYTES) {
        return false;
    }
    let packet = frame.bytes_mut().get_mut(ip..).unwrap_or_default();
    let Some(total_length) = u16::try_from(packet.len()).ok() else {
        return false;
    };
    let Ok((header, message)) = Ipv4Header::mut_from_prefix(packet) else {
        return false;
    };
    *header = Ipv4Header {
        version_ihl: 0x45,
        tos: original.tos & TOS_MASK | TOS_INTERNETWORK_CONTROL,
        total_length: U16::new(total_length),
        identification: U16::new(identification),
        flags_fragment: U16::ZERO,
        ttl: OWN_TTL,
        protocol: protocol::ICMP,
        checksum: U16::ZERO,
        source: U32::new(speaker.to_bits()),
        destination: original.source,
    };
    header.fill_checksum();
    write_message(message, kind, code, rest, Sum::default())
}

fn answer_v6<F: Frame>(frame: &mut F, ip: usize, speaker: Ipv6Addr, problem: Problem) -> bool {
    let Some((kind, code, rest)) = problem.v6() else {
        return false;
    };
    frame.truncate(ip + usize::from(IPV6_MTU_MIN) - IPV6_BYTES - ICMP_BYTES);
    let Ok((original, _)) =
        Ipv6Header::ref_from_prefix(frame.bytes().get(ip..).unwrap_or_default())
    else {
        return false;
    };
    let original = *original;
    let single_host = original.source != [0; 16] && original.source[0] != 0xff;
    if !single_host || !frame.prepend(IPV6_BYTES + ICMP_BYTES) {
        return false;
    }
    let packet = frame.bytes_mut().get_mut(ip..).unwrap_or_default();
    let Ok((header, message)) = Ipv6Header::mut_from_prefix(packet) else {
        return false;
    };
    let Some(length) = u16::try_from(message.len()).ok() else {
        return false;
    };
    *header = Ipv6Header::new_zeroed();
    header.version_class_label = U32::new(6 << 28);
    header.payload_length = U16::new(length);
    header.next_header = protocol::ICMPV6;
    header.hop_limit = OWN_TTL;
    header.source = speaker.octets();
    header.destination = original.source;
    let addresses = Sum::of(&header.source).plus(Sum::of(&header.destination));
    write_message(
        message,
        kind,
        code,
        rest,
        addresses.add16(length).add16(protocol::ICMPV6.into()),
    )
}

fn write_message(message: &mut [u8], kind: u8, code: u8, rest: u32, pseudo_header: Sum) -> bool {
    let Ok((header, _)) = IcmpHeader::mut_from_prefix(message) else {
        return false;
    };
    *header = IcmpHeader {
        kind,
        code,
        checksum: U16::ZERO,
        rest: U32::new(rest),
    };
    let checksum = Sum::of(message).plus(pseudo_header).finish();
    if let Ok((header, _)) = IcmpHeader::mut_from_prefix(message) {
        header.checksum = U16::new(checksum);
    }
    true
}
