//! What the director writes into the options of a packet that it forwards.

use std::net::IpAddr;

use super::decide::ip_packet;
use super::meta::Meta;
use super::worker::Context;
use crate::connection::{Direction, Family};
use crate::frame::Frame;
use crate::wire::ipv4::IPV4_BYTES;
use crate::wire::ipv4_options;

/// A packet with IP options says by which addresses it came: from a client by the one it was sent to (`ip_options_compile`),
/// from a server by its new source, or without one by the director's towards the client (`ip_rt_get_source`).
#[inline]
pub(super) fn record_route<F: Frame>(
    context: &Context<'_>,
    frame: &mut F,
    meta: &Meta,
    direction: Direction,
    new_source: Option<IpAddr>,
) {
    let header_bytes = usize::from(meta.transport.saturating_sub(meta.ip));
    if meta.key.family == Family::V4 && header_bytes > IPV4_BYTES {
        let sent_to = meta.key.destination_address();
        let by = match direction {
            Direction::Inbound => Some(sent_to),
            Direction::Outbound => {
                let own = || context.snapshot.forwarding().source_address(sent_to);
                new_source.or_else(own)
            }
        };
        let header = ip_packet(frame, meta).get_mut(..header_bytes);
        if let (Some(header), Some(IpAddr::V4(by))) = (header, by) {
            ipv4_options::record_route(header, by.to_bits());
        }
    }
}
