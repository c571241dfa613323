//! What the later stages know of a frame: offsets, the flow's key, its hash.

use std::num::NonZeroU16;

use crate::connection::sctp_state::Event;
use crate::connection::{Candidate, Family, FlowKey, Steady};
use crate::fate::Fate;
use crate::wire::ipv4::IPV4_BYTES;
use crate::wire::ipv6::IPV6_BYTES;

/// What kind of packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// TCP, UDP or SCTP: `key` is its flow.
    Flow,
    /// ESP or AH: `key` is the flow of UDP port 500 between the same two, which it follows. There are no ports in it.
    Ipsec,
    /// An ICMP error: `key` is the flow that the embedded packet's answers belong to.
    Related {
        /// Offset of the embedded IP header from the start of the frame.
        inner: u16,
        /// Offset of the embedded transport header from the start of the frame; none when it has no ports.
        inner_transport: Option<NonZeroU16>,
    },
    /// An ICMP error about the outer packet of a tunnel: `key` is the flow of the client's packet in it.
    TunnelError {
        /// Offset of the client's packet from the start of the frame.
        inner: u16,
    },
    /// A fragment, to be gathered with the rest of its datagram.
    Fragment,
    /// Not for the engine: the kernel's, counted as this.
    Punt(Fate),
    /// Broken: dropped and counted as this.
    Drop(Fate),
}

/// One frame's notes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub kind: Kind,
    /// Whether its headers are where those of a [`crate::wire::plain`] packet are.
    pub is_plain: bool,
    pub key: FlowKey,
    pub hash: u64,
    pub candidate: Option<Candidate>,
    /// Offset of the IP header: Ethernet and VLAN tags lie before it.
    pub ip: u16,
    /// Offset of the TCP, UDP, SCTP or ICMP header.
    pub transport: u16,
    /// Header and payload of the IP packet, bytes.
    pub ip_bytes: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// The state that it leaves as it is, of a plain packet.
    pub steady: Steady,
    /// What an SCTP packet means; of any other, nothing in particular.
    pub sctp_event: Event,
}

impl Kind {
    /// Whether `key` is a flow to look up.
    #[inline]
    pub fn has_flow(self) -> bool {
        matches!(
            self,
            Self::Flow | Self::Ipsec | Self::Related { .. } | Self::TunnelError { .. }
        )
    }
}

impl Meta {
    /// Whether it is an ICMP error.
    pub fn is_error(&self) -> bool {
        matches!(self.kind, Kind::Related { .. })
    }

    /// Bytes of the packet's own IP header, with options or extension headers.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        usize::from(self.transport.saturating_sub(self.ip))
    }

    /// Whether there are options in its IPv4 header.
    #[inline]
    pub fn has_ip_options(&self) -> bool {
        self.key.family == Family::V4 && self.header_bytes() > IPV4_BYTES
    }

    /// Whether there are extension headers of IPv6 in front of the flow's own.
    #[inline]
    pub fn has_extension_headers(&self) -> bool {
        self.key.family == Family::V6 && self.header_bytes() > IPV6_BYTES
    }

    pub const EMPTY: Self = Self {
        kind: Kind::Punt(Fate::Punted),
        is_plain: false,
        key: FlowKey::NONE,
        hash: 0,
        candidate: None,
        ip: 0,
        transport: 0,
        ip_bytes: 0,
        ttl: 0,
        tcp_flags: 0,
        steady: Steady::NONE,
        sctp_event: Event::Nothing,
    };
}
