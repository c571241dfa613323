//! A first fragment of IPv6 without the whole transport header. There must be one (RFC 8200 4.5), so such a datagram is not put
//! together; but Linux lets the fragment go on to IPVS, which looks at it as at a packet (`ipv6frag_thdr_truncated`).

use zerocopy::FromBytes;

use super::meta::Meta;
use super::parse::{self, OwnMacs};
use super::refuse::Way;
use super::worker::Context;
use super::{Verdict, Worker};
use crate::connection::{Direction, FlowKey, ForwardingMethod};
use crate::fate::Fate;
use crate::forwarding_table::NextHop;
use crate::frame::Frame;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::protocol;

impl Worker {
    /// What becomes of it; protocol and offset are those of what there is of the transport header.
    pub(crate) fn lone_fragment<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        (protocol, transport): (u8, usize),
    ) -> Verdict {
        let macs = OwnMacs::of(context.snapshot.forwarding(), ingress);
        let mut meta = Meta::EMPTY;
        parse::parse_any(frame.bytes(), &macs, &mut meta);
        self.neighbours.clear();
        self.ingress = ingress;
        let sent = match flow_of(frame.bytes(), usize::from(meta.ip), protocol, transport) {
            Some(key) => {
                meta.key = key;
                meta.hash = context.table.hash(&key);
                self.lone_of_flow(context, ingress, frame, &meta)
            }
            None => Err(Fate::FragmentBroken),
        };
        sent.unwrap_or_else(|fate| self.drop_as(ingress, fate))
    }

    /// A server that does not need it translated gets it as it is, and the connection stays in its state. Others do not, nor is
    /// one scheduled by it.
    fn lone_of_flow<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
    ) -> Result<Verdict, Fate> {
        let Some(hit) = context.table.find(&meta.key, context.now) else {
            let to = meta.key.destination_address();
            let is_own = context.snapshot.forwarding().route(to) == NextHop::Local
                || context
                    .snapshot
                    .services()
                    .find(&meta.key, ingress)
                    .is_some();
            return if is_own {
                Err(Fate::FragmentBroken)
            } else {
                Ok(Verdict::Punt(Fate::PuntedFragment))
            };
        };
        let connection = &hit.connection;
        let method = connection.method();
        if hit.direction == Direction::Outbound || method == ForwardingMethod::Masquerade {
            return Err(Fate::FragmentBroken);
        }
        let found = context.snapshot.destination(connection.destination());
        let destination = found
            .filter(|destination| destination.available)
            .ok_or(Fate::DestinationRemoved)?;
        connection.advance(
            context.now,
            &destination.timeouts,
            Direction::Inbound,
            |state, _| state,
        );
        self.count_inbound(destination, meta);
        connection.count_packet();
        let way = Way::to_server(destination, method, meta.key.family);
        match self.check_way(context, ingress, frame, meta, way) {
            Some(verdict) => Ok(verdict),
            None => self.send_on(context, frame, meta, destination, method),
        }
    }
}

/// The flow of a fragment, if it has at least ports.
fn flow_of(frame: &[u8], ip: usize, protocol: u8, transport: usize) -> Option<FlowKey> {
    if !matches!(protocol, protocol::TCP | protocol::UDP) {
        return None;
    }
    let (header, _) = Ipv6Header::ref_from_prefix(frame.get(ip..)?).ok()?;
    let ports = frame.get(transport..)?.first_chunk::<4>()?;
    Some(FlowKey::v6(
        protocol,
        &header.source,
        &header.destination,
        u32::from_be_bytes(*ports),
    ))
}
