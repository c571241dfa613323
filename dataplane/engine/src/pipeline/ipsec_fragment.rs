//! Fragments of AH and ESP over IPv4 that servers send: Linux gathers none of them (`dont_defrag` of `ip_vs_proto_ah_esp.c`), for
//! their connection is known by addresses alone. Those for this machine have been gathered before IPVS sees them.

use std::net::Ipv4Addr;

use zerocopy::FromBytes;

use super::meta::{Kind, Meta};
use super::parse::{ISAKMP_PORTS, is_ipsec};
use super::worker::Context;
use super::{Verdict, Worker};
use crate::connection::{Direction, Family, FlowKey, ForwardingMethod};
use crate::fate::Fate;
use crate::frame::Frame;
use crate::wire::ipv4::Ipv4Header;
use crate::wire::protocol;

impl Worker {
    /// What becomes of this fragment for itself; none when it is to be gathered.
    #[cold]
    pub(super) fn ipsec_fragment<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
    ) -> Option<Verdict> {
        let bytes = frame.bytes().get(meta.ip.into()..)?;
        let (header, _) = Ipv4Header::ref_from_prefix(bytes).ok()?;
        let [from, to] = [header.source, header.destination].map(|address| address.get());
        if meta.key.family != Family::V4 || !is_ipsec(header.protocol) {
            return None;
        }
        let forwarding = context.snapshot.forwarding();
        let key = FlowKey::v4(protocol::UDP, from, to, ISAKMP_PORTS);
        let services = context.snapshot.services();
        if forwarding.is_own_or_broadcast(Ipv4Addr::from_bits(to))
            || services.find(&key, ingress).is_some()
        {
            return None;
        }
        let known = context.table.find(&key, context.now).is_some_and(|hit| {
            hit.direction == Direction::Outbound
                && hit.connection.method() == ForwardingMethod::Masquerade
        });
        if !known {
            return Some(Verdict::Punt(Fate::PuntedFragment));
        }
        let meta = Meta {
            kind: Kind::Ipsec,
            key,
            hash: context.table.hash(&key),
            candidate: None,
            ..*meta
        };
        let sent = self.flow(context, ingress, frame, &meta);
        Some(sent.unwrap_or_else(|fate| self.drop_as(ingress, fate)))
    }
}
