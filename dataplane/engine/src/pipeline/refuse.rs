//! Packets that go no further, and what their senders are told: no hops left, too large for the way, no way at all; and
//! what routers say of the tunnels to the servers.

use zerocopy::FromBytes;

use super::decide::{cut_padding, ip_packet};
use super::icmp_error::{self, Problem};
use super::icmp_related;
use super::meta::{Kind, Meta};
use super::worker::Context;
use super::{Verdict, Worker, deliver};
use crate::connection::{Direction, Family, ForwardingMethod};
use crate::fate::Fate;
use crate::forward::direct_route;
use crate::forwarding_table::NextHop;
use crate::frame::Frame;
use crate::service::{Destination, VirtualService};
use crate::wire::icmp::{ICMP_BYTES, IcmpHeader, v4};
use crate::wire::ipv4::{IPV4_BYTES, Ipv4Header};
use crate::wire::ipv6::IPV6_MTU_MIN;

/// The smallest IPv4 MTU that is believed (RFC 791).
const IPV4_MTU_MIN: u32 = 68;

/// No tunnel's headers are longer: IPv6, UDP and GUE with its private data.
const TUNNEL_BYTES_MAX: u16 = 64;

/// Where a packet of a connection is to go.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub direction: Direction,
    pub next_hop: NextHop,
    /// The largest packet, before a tunnel's headers; 0: none passes.
    pub mtu: u16,
    /// Bytes of those headers.
    pub overhead: u16,
    /// IP version on the link.
    pub family: Family,
    /// Whether packets of IPv4 go in fragments even if they forbid it.
    pub ignores_df: bool,
}

impl Way {
    /// The way to a server by this method, which need not be that of new connections.
    #[inline]
    pub fn to_server(destination: &Destination, method: ForwardingMethod, family: Family) -> Self {
        let (mtu, overhead) = if method == destination.spec.method {
            (destination.mtu, destination.overhead)
        } else {
            destination.room_by(method)
        };
        Self {
            direction: Direction::Inbound,
            next_hop: destination.next_hop,
            mtu,
            overhead,
            family: destination.outer.map_or(family, |outer| outer.family()),
            ignores_df: destination.ignores_df,
        }
    }

    /// The way to a client.
    #[inline]
    pub fn to_client(next_hop: NextHop, mtu: u16, family: Family) -> Self {
        Self {
            direction: Direction::Outbound,
            next_hop,
            mtu,
            overhead: 0,
            family,
            ignores_df: false,
        }
    }

    /// The largest packet on the link.
    fn link_mtu(self) -> u16 {
        self.mtu.saturating_add(self.overhead)
    }
}

/// Why a packet goes no further, and who hears of it.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    problem: Problem,
    fate: Fate,
    direction: Direction,
}

impl Refusal {
    /// The client hears of it.
    pub fn to_client(problem: Problem, fate: Fate) -> Self {
        Self {
            problem,
            fate,
            direction: Direction::Inbound,
        }
    }

    /// The server hears of it.
    pub fn to_server(problem: Problem, fate: Fate) -> Self {
        Self {
            problem,
            fate,
            direction: Direction::Outbound,
        }
    }
}

impl Worker {
    /// Is there a way, are hops left, and is the packet small enough? If not, the sender is told. A packet to the
    /// director itself is the kernel's.
    #[inline(always)]
    pub(super) fn check_way<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        way: Way,
    ) -> Option<Verdict> {
        if meta.ttl > 1
            && meta.ip_bytes <= way.mtu
            && matches!(way.next_hop, NextHop::Adjacent(_))
            && self.whole.is_none()
        {
            return None;
        }
        self.look_closer(context, ingress, frame, meta, way)
    }

    #[cold]
    fn look_closer<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        way: Way,
    ) -> Option<Verdict> {
        let (problem, fate) = match way.next_hop {
            NextHop::Local => return Some(Verdict::Punt(Fate::Punted)),
            // A server is a host, a client a part of the network: as Linux says it.
            NextHop::Unreachable if way.direction == Direction::Inbound => {
                (Problem::HostUnreachable, Fate::NoRoute)
            }
            NextHop::Unreachable => (Problem::NetworkUnreachable, Fate::NoRoute),
            _ if meta.ttl <= 1 => (Problem::TimeExceeded, Fate::TimeExceeded),
            // Nothing fits, and the kernel tells nobody.
            _ if way.mtu == 0 => return Some(self.drop_as(ingress, Fate::TooBig)),
            _ if meta.ip_bytes <= way.mtu => {
                self.take_way(way, meta.key.family);
                return None;
            }
            _ if self.may_be_cut(ip_packet(frame, meta), meta, way) => {
                if self.whole.is_none() {
                    return Some(Verdict::Split);
                }
                self.take_way(way, meta.key.family);
                return None;
            }
            _ => (Problem::TooBig(way.mtu), Fate::TooBig),
        };
        if fate == Fate::TooBig && way.direction == Direction::Inbound {
            // Linux has taken the hop off before it looks at the size, and quotes what it has.
            direct_route::decrement_ttl(ip_packet(frame, meta), meta.key.family);
        }
        let refusal = Refusal {
            problem,
            fate,
            direction: way.direction,
        };
        Some(self.refuse(context, ingress, frame, meta, refusal))
    }

    /// Whether a packet that is larger than its way may go in fragments: of IPv4 without DF, or in a tunnel whatever DF
    /// says if it is not to be heeded (`ensure_mtu_is_adequate`), and of IPv6 one that came in
    /// fragments small enough (`ip_exceeds_mtu`, `__mtu_check_toobig_v6`).
    fn may_be_cut(&self, packet: &[u8], meta: &Meta, way: Way) -> bool {
        let fragment_max = self.whole.and_then(|whole| whole.fragment_max);
        match meta.key.family {
            Family::V4 => way.ignores_df || !is_dont_fragment(packet),
            Family::V6 => fragment_max.is_some_and(|largest| largest <= way.mtu),
        }
    }

    /// Whether a packet that Linux forwards comes before IPVS: without a way, hops or room its sender has been told by then.
    #[cold]
    pub(super) fn is_forwarded(&self, frame: &[u8], meta: &Meta, way: Way) -> bool {
        let start = usize::from(meta.ip);
        let packet = frame.get(start..start + usize::from(meta.ip_bytes));
        let fits = meta.ip_bytes <= way.mtu
            || packet.is_some_and(|packet| self.may_be_cut(packet, meta, way));
        way.next_hop != NextHop::Unreachable && meta.ttl > 1 && fits
    }

    /// Whether a packet that does not lie by itself yet is larger than that.
    pub(super) fn is_too_large(&self, meta: &Meta, mtu: u16) -> bool {
        self.whole.is_none() && meta.ip_bytes > mtu
    }

    /// Whether a client's datagram, of which no connection is kept, may have to be cut on its way, whichever destination gets
    /// it. It is decided about only once it lies by itself: it is not to take two turns.
    #[inline]
    pub(super) fn may_have_to_be_cut(
        &self,
        context: &Context<'_>,
        service: &VirtualService,
        meta: &Meta,
        frame: &[u8],
    ) -> bool {
        let room = context.snapshot.forwarding().smallest_mtu();
        meta.kind == Kind::Flow
            && meta.key.family == Family::V4
            && self.is_too_large(meta, room.saturating_sub(TUNNEL_BYTES_MAX))
            && is_too_large_for_one(context, service, meta, frame)
    }

    /// Notes for a whole datagram how large its fragments may be: as the way takes, and no larger than they came, unless
    /// the outer header is another one: then it goes whole if the way takes it.
    fn take_way(&mut self, way: Way, family: Family) {
        let Some(whole) = self.whole else {
            return;
        };
        // Linux forgets it, too, when it puts an IPv6 header in front.
        let is_kept = way.family == family && (way.overhead == 0 || family == Family::V4);
        let came = whole.fragment_max.filter(|_| is_kept);
        let smallest = match family {
            Family::V4 => 0,
            Family::V6 => IPV6_MTU_MIN,
        };
        let largest = came.map_or(u16::MAX, |came| came.max(smallest));
        self.cut_limit = usize::from(way.link_mtu().min(largest));
        let link_mtu = usize::from(way.link_mtu());
        self.cut_above = match came {
            Some(_) => self.cut_above.min(link_mtu),
            None => link_mtu,
        };
    }

    /// The packet goes no further and its sender is told why, rate and route permitting.
    #[cold]
    pub(super) fn refuse<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        refusal: Refusal,
    ) -> Verdict {
        self.count(ingress, refusal.fate);
        let forwarding = context.snapshot.forwarding();
        let sender = meta.key.source().ip();
        let speaker = match refusal.direction {
            Direction::Inbound => Some(meta.key.destination_address()),
            Direction::Outbound => forwarding.source_address(sender),
        };
        let next_hop = forwarding.route(sender);
        let identification = self.next_identification();
        let ip = usize::from(meta.ip);
        cut_padding(frame, meta);
        let is_reachable = matches!(next_hop, NextHop::Adjacent(_) | NextHop::Unresolved(..));
        let made = is_reachable
            && self.error_budget.take(context.now)
            && speaker.is_some_and(|speaker| {
                icmp_error::answer(frame, ip, speaker, refusal.problem, identification)
            });
        if !made {
            return Verdict::Drop;
        }
        match deliver::deliver(
            forwarding,
            frame,
            ip,
            meta.key.family,
            next_hop,
            &mut self.neighbours,
        ) {
            Ok(Verdict::Forward { port }) => {
                self.counters.icmp_errors_sent.add(1);
                Verdict::Answer { port }
            }
            // Nobody else may ever ask for this neighbour: with tunnels, servers answer the clients themselves.
            Ok(Verdict::Hold { place }) => {
                self.counters.icmp_errors_sent.add(1);
                Verdict::HoldAnswer { place }
            }
            _ => Verdict::Drop,
        }
    }

    /// A router's error about the outer packet of a tunnel becomes one about the client's packet in it, from the virtual
    /// IP to the client (`ip_vs_in_icmp`). The client's packet is at offset `inner`; `meta.key` is its flow.
    ///
    /// # Errors
    /// Why the client is not told.
    #[cold]
    pub(super) fn tunnel_error<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &Meta,
        inner: u16,
    ) -> Result<Verdict, Fate> {
        let Some(hit) = self.known_connection(context, meta) else {
            return Ok(Verdict::Punt(Fate::Punted));
        };
        let destination = context.snapshot.destination(hit.connection.destination());
        let through_tunnel = hit.direction == Direction::Inbound
            && hit.connection.method() == ForwardingMethod::Tunnel;
        // Without a server at that address by such a tunnel, of whatever service, Linux takes it for somebody else's.
        let quoted = usize::from(meta.transport) + ICMP_BYTES;
        let quoted = frame.bytes().get(quoted..).unwrap_or_default();
        let services = context.snapshot.services();
        let is_known = |destination: &&Destination| {
            through_tunnel && services.has_tunnel(destination.spec.address, quoted)
        };
        let Some(destination) = destination.filter(is_known) else {
            return Ok(Verdict::Punt(Fate::Punted));
        };
        let icmp = meta.header_bytes();
        if !icmp_related::is_intact(ip_packet(frame, meta), icmp, meta.key.family) {
            return Err(Fate::IcmpBadChecksum);
        }
        let problem =
            problem_of_tunnel(frame, meta, inner, destination).ok_or(Fate::NeedsFragmentation)?;
        let told = meta.ip_bytes.saturating_sub(inner.saturating_sub(meta.ip));
        let forwarding = context.snapshot.forwarding();
        let (ip, speaker) = (usize::from(meta.ip), meta.key.destination_address());
        let next_hop = forwarding.route(meta.key.source().ip());
        let identification = self.next_identification();
        cut_padding(frame, meta);
        frame.trim_front(usize::from(inner.saturating_sub(meta.ip)));
        if !icmp_error::answer(frame, ip, speaker, problem, identification) {
            return Err(Fate::NoHeadroom);
        }
        // Linux counts what it was told and what it tells.
        let answered = frame.bytes().len().saturating_sub(ip);
        for bytes in [usize::from(told), answered] {
            self.count_outbound_bytes(destination, bytes);
        }
        deliver::deliver(
            forwarding,
            frame,
            ip,
            meta.key.family,
            next_hop,
            &mut self.neighbours,
        )
    }
}

/// What the client is to hear; none when its packet may be fragmented, so that no size was its fault.
fn problem_of_tunnel<F: Frame>(
    frame: &mut F,
    meta: &Meta,
    inner: u16,
    destination: &Destination,
) -> Option<Problem> {
    let client_may_not_fragment = is_dont_fragment(frame.bytes().get(usize::from(inner)..)?);
    let message = frame.bytes().get(usize::from(meta.transport)..)?;
    let (header, _) = IcmpHeader::ref_from_prefix(message).ok()?;
    let (kind, code, rest) = (header.kind, header.code, header.rest.get());
    if (kind, code) != (v4::DESTINATION_UNREACHABLE, v4::FRAGMENTATION_NEEDED) {
        return Some(Problem::OfTunnel(kind, code, rest));
    }
    let headers = destination.outer.map_or(IPV4_BYTES, |outer| outer.bytes());
    let mtu = (rest & 0xffff).saturating_sub(u32::try_from(headers).unwrap_or(0));
    let mtu = mtu.max(IPV4_MTU_MIN).min(destination.mtu.into());
    client_may_not_fragment.then_some(Problem::OfTunnel(kind, code, mtu))
}

/// Whether a packet would have to be cut for one of the service's destinations.
#[cold]
fn is_too_large_for_one(
    context: &Context<'_>,
    service: &VirtualService,
    meta: &Meta,
    frame: &[u8],
) -> bool {
    let may_not = is_dont_fragment(frame.get(usize::from(meta.ip)..).unwrap_or_default());
    let candidates = context.snapshot.candidates(service);
    let mut all = candidates.iter();
    all.any(|found| meta.ip_bytes > found.mtu && (found.ignores_df || !may_not))
}

/// Whether DF is set.
fn is_dont_fragment(packet: &[u8]) -> bool {
    Ipv4Header::ref_from_prefix(packet).is_ok_and(|(header, _)| header.dont_fragment())
}
