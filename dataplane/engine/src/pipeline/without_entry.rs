//! Flows that found the table full: they are served without an entry. The flow's hash says which destination a client's
//! packets go to, always the same one while the service does not change.
//!
//! Under NAT the answers must be translated back. Their source, a server's address and port, says which service they are
//! of when only one service sends there; the client's flow follows from that, and its hash must choose this very server,
//! or the packet is nobody's answer and the kernel's. What needs a connection's state is not done for such flows: ICMP
//! errors about them are the kernel's.

use std::net::IpAddr;

use super::decide::ip_packet;
use super::meta::Meta;
use super::persist::destination_without_entry;
use super::refuse::Way;
use super::worker::Context;
use super::{Verdict, Worker, deliver};
use crate::connection::{Family, FlowKey, ForwardingMethod};
use crate::fate::Fate;
use crate::forward::masquerade::{End, translate_v4, translate_v6};
use crate::frame::Frame;
use crate::scheduler::Candidates;
use crate::service::{Destination, VirtualService};

/// An answer of such a flow.
#[derive(Clone, Copy)]
pub(super) struct Answer<'c> {
    /// Who sent it.
    pub destination: &'c Destination,
    /// The client's flow, to the virtual service.
    pub inbound: FlowKey,
}

impl Answer<'_> {
    /// The virtual service's address, which it comes from in the client's eyes.
    pub fn from(&self) -> IpAddr {
        self.inbound.destination_address()
    }
}

/// The destination of a client's flow without an entry; none when no destination takes any, or when the answers of the
/// chosen one could not be told from another service's.
pub(super) fn destination_by_hash<'c>(
    context: &Context<'c>,
    service: &'c VirtualService,
    inbound: &FlowKey,
    hash: u64,
) -> Option<&'c Destination> {
    let candidates = context.snapshot.candidates(service);
    let chosen = match &service.persistence {
        Some(persistence) => {
            let choose = |hash| choose(candidates, hash);
            destination_without_entry(context, service, persistence, inbound, choose)
        }
        None => choose(candidates, hash),
    }?;
    let spec = &chosen.spec;
    let translated = spec.method == ForwardingMethod::Masquerade;
    let services = context.snapshot.services();
    (!translated || services.is_only_one_of(inbound.protocol, spec.address, spec.port))
        .then_some(chosen)
}

/// What a packet of no service is an answer of, if it is one of a flow without an entry.
pub(super) fn answer<'c>(context: &Context<'c>, meta: &Meta) -> Option<Answer<'c>> {
    let (inbound, service) = context.snapshot.services().of_answer(&meta.key)?;
    let hash = context.table.hash(&inbound);
    let destination = destination_by_hash(context, service, &inbound, hash)?;
    let source = meta.key.source();
    let is_its_own = destination.spec.method == ForwardingMethod::Masquerade
        && destination.spec.address == source.ip()
        && destination.spec.port == source.port();
    is_its_own.then_some(Answer {
        destination,
        inbound,
    })
}

/// A usable destination by the flow's hash, by weight: the same one on every worker while the service does not change.
fn choose<'s>(candidates: Candidates<'s>, hash: u64) -> Option<&'s Destination> {
    let usable = || candidates.iter().filter(|found| found.is_usable());
    let total: u64 = usable().map(|found| u64::from(found.spec.weight)).sum();
    let mut share = hash.checked_rem(total)?;
    usable().find(|found| match share.checked_sub(found.spec.weight.into()) {
        Some(rest) => {
            share = rest;
            false
        }
        None => true,
    })
}

impl Worker {
    /// A client's packet goes on to the destination of its hash.
    #[cold]
    pub(super) fn without_entry<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        destination: &Destination,
    ) -> Result<Verdict, Fate> {
        let port = destination.port_for(meta.key.destination_port());
        let verdict = self.one_packet(context, ingress, frame, meta, (destination, port));
        if !matches!(verdict, Ok(Verdict::Split)) {
            self.counters.without_entry.add(1);
        }
        verdict
    }

    /// A client's packet goes on to this port of the destination, without any connection.
    pub(super) fn one_packet<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        (destination, port): (&Destination, u16),
    ) -> Result<Verdict, Fate> {
        let way = Way::to_server(destination, destination.spec.method, meta.key.family);
        let stopped = self.check_way(context, ingress, frame, meta, way);
        if !matches!(stopped, Some(Verdict::Split)) {
            // One that is to be cut comes once more.
            self.count_inbound(destination, meta);
        }
        if let Some(verdict) = stopped {
            return Ok(verdict);
        }
        let spec = &destination.spec;
        if spec.method != ForwardingMethod::Masquerade {
            return self.send_on(context, frame, meta, destination, spec.method);
        }
        let server = FlowKey::from_sockets(
            meta.key.protocol,
            meta.key.source(),
            (spec.address, port).into(),
        );
        // A server of the other family is none of NAT's.
        translate(
            frame,
            meta,
            End::Destination,
            &server.ok_or(Fate::TableFull)?,
        );
        self.deliver_to(context, frame, meta, way)
    }

    /// A server's answer goes back to the client, from the virtual service.
    #[cold]
    pub(super) fn answer_without_entry<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        answer: Answer<'_>,
    ) -> Result<Verdict, Fate> {
        let verdict = self.answer_one_packet(context, ingress, frame, meta, answer);
        if matches!(verdict, Ok(Verdict::Forward { .. } | Verdict::Hold { .. })) {
            self.counters.without_entry.add(1);
        }
        verdict
    }

    /// The same of one that never was to have a connection.
    pub(super) fn answer_one_packet<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        answer: Answer<'_>,
    ) -> Result<Verdict, Fate> {
        let forwarding = context.snapshot.forwarding();
        let client = answer.inbound.source().ip();
        let next_hop = forwarding.route(client);
        let way = Way::to_client(next_hop, forwarding.mtu_to(client), meta.key.family);
        if let Some(verdict) = self.check_way(context, ingress, frame, meta, way) {
            return Ok(verdict);
        }
        self.count_outbound(answer.destination, meta);
        translate(frame, meta, End::Source, &answer.inbound);
        self.deliver_to(context, frame, meta, way)
    }

    fn deliver_to<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &Meta,
        way: Way,
    ) -> Result<Verdict, Fate> {
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

/// Replaces one end of the packet by the destination of `to`.
fn translate<F: Frame>(frame: &mut F, meta: &Meta, end: End, to: &FlowKey) {
    let transport = meta.header_bytes();
    let packet = ip_packet(frame, meta);
    let port = to.destination_port();
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    match to.family {
        Family::V4 => {
            let address = to.addresses[0] as u32;
            translate_v4(packet, transport, to.protocol, end, address, port);
        }
        Family::V6 => {
            let [_, _, high, low] = to.addresses;
            translate_v6(packet, transport, to.protocol, end, [high, low], port);
        }
    }
}
