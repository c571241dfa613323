//! `schedule_icmp`: an ICMP error about a packet of no connection opens one, as the packet that it quotes would have been
//! answered, and goes to the server that was chosen (`ip_vs_in_icmp`). The connection is in no state yet, and ends after
//! three seconds unless a packet of it comes. Errors about tunnels' outer packets open none.

use std::net::SocketAddr;

use zerocopy::FromBytes;

use super::decide::{cut_padding, ip_packet};
use super::icmp_related::{self, Layout};
use super::meta::Meta;
use super::refuse::Way;
use super::schedule::Scheduled;
use super::worker::Context;
use super::{Verdict, Worker, deliver};
use crate::connection::{Family, FlowKey, ForwardingMethod};
use crate::fate::Fate;
use crate::frame::Frame;
use crate::service::Destination;
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::protocol;

impl Worker {
    /// Where an error goes that is about no connection.
    ///
    /// # Errors
    /// Why it goes no further: nobody is told of an error's fate (RFC 1122 3.2.2).
    #[cold]
    pub(super) fn error_of_no_connection<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
    ) -> Result<Verdict, Fate> {
        let has_ports = Layout::of(meta).is_some_and(|at| at.inner_transport.is_some());
        let outer = own_flow(ip_packet(frame, meta), meta.key.family);
        // AH and ESP are never scheduled.
        let Some(outer) = outer.filter(|_| has_ports) else {
            return Ok(Verdict::Punt(Fate::Punted));
        };
        match self.schedule_error(context, meta, &outer)? {
            Scheduled::Connection(hit) => Ok(self.relay_error(context, ingress, frame, meta, &hit)),
            Scheduled::OnePacket(destination, port) => {
                self.relay_error_once(context, frame, meta, destination, port)
            }
            // Without an entry nothing is known of the flow that the error is about.
            Scheduled::WithoutEntry(_)
            | Scheduled::AnswerWithoutEntry(_)
            | Scheduled::OnePacketAnswer(_)
            | Scheduled::ToBeCut
            | Scheduled::NotOurs => Ok(Verdict::Punt(Fate::Punted)),
        }
    }

    /// To the destination without a connection.
    fn relay_error_once<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &Meta,
        destination: &Destination,
        port: u16,
    ) -> Result<Verdict, Fate> {
        let at = Layout::of(meta).ok_or(Fate::NoConnection)?;
        let is_translated = destination.spec.method == ForwardingMethod::Masquerade;
        if is_translated
            && !icmp_related::is_intact(ip_packet(frame, meta), at.icmp, meta.key.family)
        {
            return Err(Fate::IcmpBadChecksum);
        }
        let way = Way::to_server(destination, destination.spec.method, meta.key.family);
        if meta.ttl <= 1 {
            return Ok(Verdict::Punt(Fate::Punted));
        }
        if meta.ip_bytes > way.mtu {
            return Err(Fate::TooBig);
        }
        self.count_inbound(destination, meta);
        if !is_translated {
            return self.send_on(context, frame, meta, destination, destination.spec.method);
        }
        let server = SocketAddr::new(destination.spec.address, port);
        icmp_related::translate_to_server(ip_packet(frame, meta), at, server);
        cut_padding(frame, meta);
        deliver::deliver(
            context.snapshot.forwarding(),
            frame,
            meta.ip.into(),
            meta.key.family,
            way.next_hop,
            &mut self.neighbours,
        )
    }
}

/// The flow that the error itself is of; it has no ports.
fn own_flow(packet: &[u8], family: Family) -> Option<FlowKey> {
    Some(match family {
        Family::V4 => {
            let (header, _) = Ipv4Header::ref_from_prefix(packet).ok()?;
            let (source, destination) = (header.source.get(), header.destination.get());
            FlowKey::v4(protocol::ICMP, source, destination, 0)
        }
        Family::V6 => {
            let (header, _) = Ipv6Header::ref_from_prefix(packet).ok()?;
            FlowKey::v6(protocol::ICMPV6, &header.source, &header.destination, 0)
        }
    })
}
