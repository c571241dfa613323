//! Connections of a persistent service: after a template, which ties the client to a destination (`ip_vs_sched_persist`).

use super::Worker;
use super::drop_entry::counts_packets;
use super::meta::Meta;
use super::refuse::Way;
use super::schedule::{FTP, Scheduled, full, is_one_packet, new_connection};
use super::without_entry::Answer;
use super::worker::Context;
use crate::connection::{Direction, Family, FlowKey, Hit, NewConnection, State, Template};
use crate::fate::Fate;
use crate::scheduler::Arrival;
use crate::service::{
    Destination, Persistence, PersistenceEngine, ServiceIdentity, VirtualService,
};
use crate::wire::udp::UDP_BYTES;
use crate::wire::{protocol, sip};

/// A template may end between being found and being used; once is enough but for a lost race.
const ATTEMPTS: usize = 3;

impl Worker {
    /// Makes a connection after the client's template, which is made if need be; to a server that is not asked, but wanted,
    /// if there is one.
    pub(super) fn schedule_persistent<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
        service: &'c VirtualService,
        client: Client<'_>,
        wanted: Option<&'c Destination>,
    ) -> Result<Scheduled<'c>, Fate> {
        for _ in 0..ATTEMPTS {
            let found = self.template(context, meta, service, client, wanted)?;
            let Some((template, destination)) = found else {
                return full(context, service, meta);
            };
            let virtual_port = meta.key.destination_port();
            // Only a service of one port has its servers' ports; others keep the packet's.
            let port = if virtual_port == service.identity.port() {
                destination.port_for(virtual_port)
            } else {
                virtual_port
            };
            if is_one_packet(service, meta) {
                template.connection.renew(context.now);
                if wanted.is_some() {
                    // A server's own datagram, which goes to the client: as if it answered.
                    template.connection.assure();
                } else {
                    template.connection.count_packet();
                    self.tell_template(context, &template, client.call);
                }
                self.count_connection(destination);
                return Ok(Scheduled::OnePacket(destination, port));
            }
            let is_child = template.connection.adopt(context.now);
            if !is_child {
                // One of so many is not missed: the others keep the template.
                let crowded = template.connection.life().has_all_children();
                if !crowded || !template.connection.renew(context.now) {
                    continue;
                }
            }
            let new = NewConnection {
                control: is_child.then_some(template.number),
                ..new_connection(context, meta, service, destination, port)
            };
            let opened = self.open(context, &new, destination);
            match &opened {
                Ok((_, true)) => destination.bind(new.state),
                // Another worker was faster, or there is no room.
                _ if is_child => template.connection.release_child(context.now),
                _ => {}
            }
            return match opened {
                Err(Fate::TableFull) => full(context, service, meta),
                other => other.map(|(hit, _)| Scheduled::Connection(hit)),
            };
        }
        Err(Fate::TableFull)
    }

    /// The client's template and its destination; none when there is no room for one.
    fn template<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
        service: &'c VirtualService,
        client: Client<'_>,
        wanted: Option<&'c Destination>,
    ) -> Result<Option<(Hit<'c>, &'c Destination)>, Fate> {
        if let Some(found) = context.table.find_template(&client.key, context.now) {
            let is_wanted = |found: &&Destination| {
                wanted.is_none_or(|wanted| wanted.spec.number == found.spec.number)
            };
            if let Some(destination) = destination_of(context, &found).filter(is_wanted) {
                return Ok(Some((found, destination)));
            }
            context.table.retire_template(&found);
        }
        let candidates = context.snapshot.candidates(service);
        let arrival = Arrival {
            key: &meta.key,
            is_quoted: meta.is_error(),
            hash: meta.hash,
            now: context.now,
            microsecond: self.microsecond,
        };
        let chosen = wanted.or_else(|| service.scheduler.pick(candidates, &arrival));
        let chosen = chosen.ok_or(Fate::NoDestination)?;
        let counts_packets = service.one_packet && counts_packets(context);
        let new = NewConnection {
            counts_packets,
            ..new_template(service, chosen, client)
        };
        match self.open(context, &new, chosen) {
            Ok((hit, true)) => {
                chosen.bind(new.state);
                Ok(Some((hit, chosen)))
            }
            // Another worker's, of a moment ago.
            Ok((hit, false)) => {
                let number = hit.connection.destination();
                let destination = context.snapshot.destination(number);
                Ok(Some((hit, destination.ok_or(Fate::DestinationRemoved)?)))
            }
            Err(Fate::TableFull) => Ok(None),
            Err(fate) => Err(fate),
        }
    }
}

/// What a client's template is known by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'f> {
    key: FlowKey,
    /// Its address, when the key has it only mixed with a call's tag.
    address: Option<[u64; 2]>,
    /// That call's Call-ID, in the packet.
    call: Option<&'f [u8]>,
}

impl<'f> Client<'f> {
    /// The client that a packet of this flow, in this frame, comes from.
    ///
    /// # Errors
    /// [`Fate::NoCallId`].
    pub fn of(
        context: &Context<'_>,
        meta: &Meta,
        service: &VirtualService,
        persistence: &Persistence,
        frame: &'f [u8],
    ) -> Result<Self, Fate> {
        let key = template_key(service, persistence, &meta.key);
        let Some(PersistenceEngine::Sip) = persistence.engine else {
            return Ok(Self {
                key,
                address: None,
                call: None,
            });
        };
        let call = call_id_in(meta, frame).ok_or(Fate::NoCallId)?;
        Ok(Self {
            key: key.of_call(context.table.tag_of_call(call)),
            address: Some(persistence.client(&meta.key)),
            call: Some(call),
        })
    }
}

/// The Call-ID in the datagram.
pub(super) fn call_id_in<'f>(meta: &Meta, frame: &'f [u8]) -> Option<&'f [u8]> {
    if meta.key.protocol != protocol::UDP {
        return None;
    }
    let end = usize::from(meta.ip) + usize::from(meta.ip_bytes);
    let message = frame.get(usize::from(meta.transport) + UDP_BYTES..end)?;
    sip::call_id(message)
}

impl Worker {
    /// A server under NAT begins a call (`ip_vs_sip_conn_out`): its datagram opens a connection of the client it is for, which
    /// goes to it, and so will the call. None when the packet is nothing of the kind.
    ///
    /// # Errors
    /// Why the packet goes no further.
    pub(super) fn call_of_server<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
        frame: &[u8],
    ) -> Result<Option<Scheduled<'c>>, Fate> {
        if !context.snapshot.services().has_engines() || meta.key.protocol != protocol::UDP {
            return Ok(None);
        }
        let Some((flow, service)) = context.snapshot.services().of_caller(&meta.key) else {
            return Ok(None);
        };
        let Some(persistence) = service.persistence.filter(|found| found.engine.is_some()) else {
            return Ok(None);
        };
        let sender = meta.key.source();
        let candidates = context.snapshot.candidates(service);
        let destination = candidates
            .iter()
            .find(|found| (found.spec.address, found.spec.port) == (sender.ip(), sender.port()));
        let inbound = Meta {
            key: flow,
            hash: context.table.hash(&flow),
            candidate: None,
            ..*meta
        };
        let client = Client::of(context, &inbound, service, &persistence, frame);
        let (Some(destination), Ok(client)) = (destination, client) else {
            return Ok(None);
        };
        let receiver = flow.source().ip();
        let forwarding = context.snapshot.forwarding();
        let (next_hop, mtu) = (forwarding.route(receiver), forwarding.mtu_to(receiver));
        let way = Way::to_client(next_hop, mtu, flow.family);
        if !self.is_forwarded(frame, meta, way) {
            // The kernel tells the server.
            return Ok(Some(Scheduled::NotOurs));
        }
        if is_one_packet(service, &inbound) && self.is_too_large(meta, mtu) {
            return Ok(Some(Scheduled::ToBeCut));
        }
        if !self.shard.has_room(context.table, flow.family) {
            return Ok(None);
        }
        let wanted = Some(destination);
        Ok(
            match self.schedule_persistent(context, &inbound, service, client, wanted)? {
                Scheduled::Connection(hit) => Some(Scheduled::Connection(Hit {
                    direction: Direction::Outbound,
                    ..hit
                })),
                // It has no connection, and goes out as one.
                Scheduled::OnePacket(destination, _) => Some(Scheduled::OnePacketAnswer(Answer {
                    destination,
                    inbound: flow,
                })),
                _ => None,
            },
        )
    }
}

/// Whether a template still leads to this destination (`ip_vs_check_template`).
fn holds(context: &Context<'_>, destination: &Destination) -> bool {
    let is_quiescent = destination.spec.weight == 0;
    destination.available
        && !(is_quiescent && context.snapshot.settings().expire_quiescent_template)
}

/// The destination of a template, if it still leads there.
fn destination_of<'c>(context: &Context<'c>, template: &Hit<'_>) -> Option<&'c Destination> {
    let number = template.connection.destination();
    let found = context.snapshot.destination(number);
    found.filter(|destination| holds(context, destination))
}

/// Where a client's flows go that get no entry: with its others, or, when it has no template, always to one destination,
/// by the hash that `choose` is given.
pub(super) fn destination_without_entry<'c>(
    context: &Context<'c>,
    service: &VirtualService,
    persistence: &Persistence,
    flow: &FlowKey,
    choose: impl FnOnce(u64) -> Option<&'c Destination>,
) -> Option<&'c Destination> {
    let key = template_key(service, persistence, flow);
    let template = context.table.find_template(&key, context.now);
    let kept = template.and_then(|template| destination_of(context, &template));
    kept.or_else(|| choose(context.table.hash(&key)))
}

/// What a client's template is found by: of a service of one port the virtual address and that port, of FTP and of all ports
/// the address, of a firewall mark the mark in the place of the address.
fn template_key(service: &VirtualService, persistence: &Persistence, key: &FlowKey) -> FlowKey {
    let [high, low] = persistence.client(key);
    let [a, _, c, d] = key.addresses;
    let virtual_port = key.destination_port();
    let of_one_port = virtual_port == service.identity.port();
    let keeps_port = of_one_port && virtual_port != FTP;
    let (protocol, destination) = match service.identity {
        ServiceIdentity::Fwmark { mark, family } => {
            let mark = u64::from(mark);
            // As the kernel writes it: into the first four bytes of the address.
            let address = match family {
                Family::V4 => [mark, 0],
                Family::V6 => [mark << 32, 0],
            };
            (protocol::IP, address)
        }
        ServiceIdentity::Address { .. } => match key.family {
            Family::V4 => (key.protocol, [a & 0xffff_ffff, 0]),
            Family::V6 => (key.protocol, [c, d]),
        },
    };
    let addresses = match key.family {
        Family::V4 => [high << 32 | destination[0], 0, 0, 0],
        Family::V6 => [high, low, destination[0], destination[1]],
    };
    FlowKey {
        addresses,
        ports: if keeps_port { virtual_port.into() } else { 0 },
        protocol,
        family: key.family,
    }
    .template()
}

fn new_template(
    service: &VirtualService,
    chosen: &Destination,
    client: Client<'_>,
) -> NewConnection {
    let timeout = service.persistence.map_or(0, |found| found.timeout);
    NewConnection {
        inbound: client.key,
        outbound: None,
        destination: chosen.spec.number,
        destination_port: if client.key.destination_port() == 0 {
            0
        } else {
            chosen.spec.port
        },
        service: service.number,
        method: chosen.spec.method,
        state: State::Template,
        template: Some(Template {
            timeout,
            caller: client.address,
        }),
        control: None,
        counts_packets: false,
        lifetime: None,
        is_synced: false,
    }
}
