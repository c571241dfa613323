//! Third stage, first tier: a plain packet of a known connection whose way is clear. Nearly all packets end here.
//!
//! Everything that could send the packet another way is looked at before anything is changed, so that a packet this tier
//! does not take is as it was, counted nowhere, and the next tier (`decide`) starts afresh. What this tier does to a
//! packet is what that one would do, at offsets known when the program was compiled.

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::U16;

use super::meta::Meta;
use super::worker::Context;
use super::{Verdict, Worker};
use crate::connection::{Connection, Direction, Family, ForwardingMethod};
use crate::forward::direct_route;
use crate::forward::masquerade::{self, End};
use crate::forward::tunnel::{Inner, Outer, OuterV4, Stamp, SummedBy};
use crate::forwarding_table::Adjacency;
use crate::frame::Frame;
use crate::service::Destination;
use crate::wire::ethernet::{ETHERNET_BYTES, EthernetHeader, ethertype};
use crate::wire::ipv4::IPV4_BYTES;
use crate::wire::plain::{PlainV4, PlainV6};
use crate::wire::protocol;
use crate::wire::tcp::flag;

impl Worker {
    /// The verdict on a packet of this tier; `None`, and nothing done, for any other packet.
    #[inline(always)]
    pub(super) fn hit<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &Meta,
    ) -> Option<Verdict> {
        // A SYN may open a new connection on the ports of an old one.
        if !meta.is_plain || meta.tcp_flags & flag::SYN != 0 || meta.ttl <= 1 {
            return None;
        }
        let candidate = meta.candidate?;
        let connection = context.table.connection(candidate.number)?;
        let direction = candidate.direction;
        if !connection.matches_but_ftp(&meta.key, direction) {
            return None;
        }
        let destination = context.snapshot.destination(connection.destination())?;
        let life = connection.life();
        let is_steady = life.is_steady(context.now, &destination.timeouts, meta.steady, direction);
        if !is_steady && !life.is_alive_and_uncounted(context.now) {
            return None;
        }
        let verdict = match direction {
            Direction::Inbound => {
                let verdict = self.hit_inbound(frame, meta, &connection, destination)?;
                self.count_inbound(destination, meta);
                verdict
            }
            Direction::Outbound => {
                let verdict = hit_outbound(context, frame, meta, &connection)?;
                self.count_outbound(destination, meta);
                verdict
            }
        };
        if !is_steady {
            self.step_apart(context, meta, connection, destination, direction);
        }
        Some(verdict)
    }

    /// Few packets come here, and those that do not keep their registers. The connection by value: a reference would keep
    /// it in memory on the way that does not come here.
    #[inline(never)]
    fn step_apart(
        &self,
        context: &Context<'_>,
        meta: &Meta,
        connection: Connection<'_>,
        destination: &Destination,
        direction: Direction,
    ) {
        self.step(context, meta, &connection, destination, (direction, false));
    }

    #[inline(always)]
    fn hit_inbound<F: Frame>(
        &mut self,
        frame: &mut F,
        meta: &Meta,
        connection: &Connection<'_>,
        destination: &Destination,
    ) -> Option<Verdict> {
        let way = untagged(destination.adjacency.as_ref())?;
        if !destination.available || meta.ip_bytes > destination.mtu {
            return None;
        }
        match connection.method() {
            ForwardingMethod::Masquerade => {
                translate(frame, meta, connection, Direction::Inbound, way)?;
            }
            ForwardingMethod::DirectRoute => {
                let (link, packet) = EthernetHeader::mut_from_prefix(frame.bytes_mut()).ok()?;
                link.set_macs(way.macs);
                direct_route::decrement_ttl(packet, meta.key.family);
            }
            ForwardingMethod::Tunnel => {
                // Of a server that has another method by now: its MTU is that without the tunnel.
                if destination.overhead == 0 {
                    return None;
                }
                let outer = destination.outer.as_ref()?;
                self.encapsulate(frame, meta, outer, way)?;
            }
        }
        Some(Verdict::Forward {
            port: way.interface.port,
        })
    }

    /// Puts the outer and the link header in front of the packet. `None`, and nothing done, without room for them.
    #[inline(always)]
    fn encapsulate<F: Frame>(
        &mut self,
        frame: &mut F,
        meta: &Meta,
        outer: &Outer,
        way: &Adjacency,
    ) -> Option<()> {
        if frame.headroom().len() < outer.bytes() {
            return None;
        }
        if let Some(outer) = outer.v4_alone()
            && meta.key.family == Family::V4
        {
            return self.v4_in_v4(frame, meta, outer, way);
        }
        match meta.key.family {
            Family::V4 => {
                let (plain, _) = PlainV4::mut_from_prefix(frame.bytes_mut()).ok()?;
                plain.ip.decrement_ttl();
                let inner = Inner::of_v4(&plain.ip, meta.ip_bytes);
                self.put_in_front(frame, meta, outer, way, inner)
            }
            Family::V6 => {
                let (plain, _) = PlainV6::mut_from_prefix(frame.bytes_mut()).ok()?;
                plain.ip.hop_limit = plain.ip.hop_limit.wrapping_sub(1);
                let inner = Inner::of_v6(&plain.ip, meta.ip_bytes);
                self.put_in_front(frame, meta, outer, way, inner)
            }
        }
    }

    /// The tunnel that nearly all are, with all that is known of it before the program runs.
    #[inline(always)]
    fn v4_in_v4<F: Frame>(
        &mut self,
        frame: &mut F,
        meta: &Meta,
        outer: &OuterV4,
        way: &Adjacency,
    ) -> Option<()> {
        let (plain, _) = PlainV4::mut_from_prefix(frame.bytes_mut()).ok()?;
        plain.ip.decrement_ttl();
        let inner = Inner::of_v4(&plain.ip, meta.ip_bytes);
        let identification = if outer.may_fragment(&inner) {
            self.next_identification()
        } else {
            0
        };
        frame.truncate(ETHERNET_BYTES + usize::from(meta.ip_bytes));
        // There is room.
        let _ = frame.prepend(IPV4_BYTES);
        let (headers, _) = frame
            .bytes_mut()
            .split_first_chunk_mut::<{ ETHERNET_BYTES + IPV4_BYTES }>()?;
        let (link, header) = EthernetHeader::mut_from_prefix(headers).ok()?;
        link.set_macs(way.macs);
        link.ethertype = U16::new(ethertype::IPV4);
        outer.write(
            header.first_chunk_mut()?,
            &inner,
            (protocol::IPIP, meta.ip_bytes),
            identification,
        );
        Some(())
    }

    /// Once for each family of the packet, so that the compiler knows what of `inner` is a constant.
    #[inline(always)]
    fn put_in_front<F: Frame>(
        &mut self,
        frame: &mut F,
        meta: &Meta,
        outer: &Outer,
        way: &Adjacency,
        inner: Inner,
    ) -> Option<()> {
        frame.truncate(ETHERNET_BYTES + usize::from(meta.ip_bytes));
        // There is room.
        let _ = frame.prepend(outer.bytes());
        let (link, room) = EthernetHeader::mut_from_prefix(frame.bytes_mut()).ok()?;
        link.set_macs(way.macs);
        link.ethertype = outer.ethertype();
        let stamp = Stamp {
            identification: self.next_identification(),
            flow_hash: meta.hash,
        };
        if outer.leaves_checksum() {
            outer.write(room, &inner, stamp, SummedBy::Device);
            frame.leave_udp_checksum(
                ETHERNET_BYTES as u16,
                outer.ip_bytes() as u16,
                outer.family(),
            );
        } else {
            outer.write(room, &inner, stamp, SummedBy::Cpu);
        }
        Some(())
    }
}

/// Translates the answer of a server and sends it the way that was found for the last one.
#[inline(always)]
fn hit_outbound<F: Frame>(
    context: &Context<'_>,
    frame: &mut F,
    meta: &Meta,
    connection: &Connection<'_>,
) -> Option<Verdict> {
    let forwarding = context.snapshot.forwarding();
    let number = connection.cached_route(forwarding.generation())?;
    let way = untagged(forwarding.adjacency(number))?;
    if meta.ip_bytes > way.mtu || connection.method() != ForwardingMethod::Masquerade {
        return None;
    }
    translate(frame, meta, connection, Direction::Outbound, way)?;
    Some(Verdict::Forward {
        port: way.interface.port,
    })
}

/// Translates at fixed offsets and addresses the frame. `None`, and nothing done, when the frame is too short, which parsing has excluded.
#[inline(always)]
fn translate<F: Frame>(
    frame: &mut F,
    meta: &Meta,
    connection: &Connection<'_>,
    direction: Direction,
    way: &Adjacency,
) -> Option<()> {
    let end = End::replaced(direction);
    let protocol = meta.key.protocol;
    match meta.key.family {
        Family::V4 => {
            let (plain, _) = PlainV4::mut_from_prefix(frame.bytes_mut()).ok()?;
            let (address, port) = connection.translation_v4(direction);
            let PlainV4 {
                ethernet,
                ip,
                transport,
            } = plain;
            ethernet.set_macs(way.macs);
            masquerade::rewrite_v4(ip, transport, protocol, end, address, port);
        }
        Family::V6 => {
            let (plain, _) = PlainV6::mut_from_prefix(frame.bytes_mut()).ok()?;
            let (address, port) = connection.translation_v6(direction);
            let PlainV6 {
                ethernet,
                ip,
                transport,
            } = plain;
            ethernet.set_macs(way.macs);
            masquerade::rewrite_v6(ip, transport, protocol, end, address, port);
        }
    }
    Some(())
}

#[inline(always)]
fn untagged(adjacency: Option<&Adjacency>) -> Option<&Adjacency> {
    adjacency.filter(|adjacency| adjacency.interface.vlan.is_none())
}
