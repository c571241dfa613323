//! What the director writes into the options of a packet that it forwards.

use std::net::{IpAddr, Ipv4Addr};

use super::decide::ip_packet;
use super::meta::Meta;
use super::worker::{Context, Worker};
use crate::connection::Direction;
use crate::frame::Frame;
use crate::wire::ipv4_options::{self, Signature};

impl Worker {
    /// A packet with IP options says by which addresses it came: from a client by the one it was sent to
    /// (`ip_options_compile`), from a server by its new source, or without one by the director's towards the client
    /// (`ip_rt_get_source`). When, it says beside the address that its sender sees of the director.
    #[inline]
    pub(super) fn sign_options<F: Frame>(
        &self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &Meta,
        direction: Direction,
        new_source: Option<IpAddr>,
    ) {
        if !meta.has_ip_options() {
            return;
        }
        let forwarding = context.snapshot.forwarding();
        let sent_to = meta.key.destination_address();
        let (by, seen) = match direction {
            Direction::Inbound => (Some(sent_to), Some(sent_to)),
            Direction::Outbound => (
                new_source.or_else(|| forwarding.source_address(sent_to)),
                forwarding.source_address(meta.key.source().ip()),
            ),
        };
        let bits = |address| match address {
            Some(IpAddr::V4(address)) => Some(Ipv4Addr::to_bits(address)),
            _ => None,
        };
        let header = ip_packet(frame, meta).get_mut(..meta.header_bytes());
        if let (Some(header), Some(route)) = (header, bits(by)) {
            let signature = Signature {
                route,
                seen: bits(seen).unwrap_or(0),
                clock: self.wall_clock,
            };
            ipv4_options::sign(header, &signature, |address| {
                forwarding.is_own_or_broadcast(Ipv4Addr::from_bits(address))
            });
        }
    }
}
