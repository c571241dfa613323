//! A packet without a connection: is it for a service, and which destination gets it?

use zerocopy::FromBytes;

use super::Worker;
use super::decide::{assure_control, is_secure, next_state};
use super::drop_entry::counts_packets;
use super::meta::Meta;
use super::persist::Client;
use super::without_entry::{Answer, answer, destination_by_hash};
use super::worker::{Context, unbind};
use crate::clock::seconds;
use crate::connection::sctp_state::Event;
use crate::connection::{
    Family, FlowKey, ForwardingMethod, Hit, InsertError, NewConnection, State, tcp_state,
};
use crate::fate::Fate;
use crate::scheduler::Arrival;
use crate::service::{Destination, ServiceIdentity, VirtualService};
use crate::settings::Defence;
use crate::wire::ipv6::{Ipv6Header, upper_layer};
use crate::wire::protocol;
use crate::wire::tcp::flag;

/// An entry in the way may have to be removed before a new connection fits; once is enough but for a lost race.
const ATTEMPTS: usize = 3;

/// What becomes of a packet without a connection.
pub(super) enum Scheduled<'c> {
    /// It has one now.
    Connection(Hit<'c>),
    /// The table is full, and its flow goes to this destination, always the same one, without an entry.
    WithoutEntry(&'c Destination),
    /// It goes to this port of the destination and leaves no connection behind.
    OnePacket(&'c Destination, u16),
    /// It goes to the client and leaves no connection behind.
    OnePacketAnswer(Answer<'c>),
    /// It answers a flow without an entry.
    AnswerWithoutEntry(Answer<'c>),
    /// It leaves no connection behind, and is decided about once it lies by itself, to be cut.
    ToBeCut,
    /// It is the kernel's.
    NotOurs,
}

impl Worker {
    /// What a packet without a connection, which is in this frame, is to be done with.
    ///
    /// # Errors
    /// Why the packet goes no further.
    pub(super) fn schedule<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
        frame: &[u8],
    ) -> Result<Scheduled<'c>, Fate> {
        let opens = opens(context, meta);
        let was_full = context.table.was_full(context.now);
        let services = context.snapshot.services();
        if !opens {
            // Linux wants a chunk to look at (`sctp_conn_schedule`).
            let is_empty = meta.key.protocol == protocol::SCTP && meta.sctp_event == Event::Nothing;
            if is_empty && services.find(&meta.key, self.ingress).is_some() {
                return Err(Fate::TransportTruncated);
            }
            if !was_full {
                return self.not_ours(context, meta);
            }
        }
        let planned = self.plans.service_of(meta.hash);
        let service = match planned.and_then(|place| services.at(place)) {
            None => match authenticated(meta, frame) {
                None => services.find(&meta.key, self.ingress),
                Some(outer) => services.find_marked(&meta.key, &outer, self.ingress),
            },
            planned => planned,
        };
        let Some(service) = service else {
            if let Some(call) = self.call_of_server(context, meta, frame)? {
                return Ok(call);
            }
            let answer = was_full.then(|| answer(context, meta)).flatten();
            return match answer {
                Some(answer) => Ok(Scheduled::AnswerWithoutEntry(answer)),
                None => self.not_ours(context, meta),
            };
        };
        self.schedule_for(context, (meta, frame), service, opens)
    }

    /// The same of an ICMP error: about a packet that a connection would have sent to `meta.key`'s source. `outer` is the
    /// error's own flow, by which it has its firewall mark.
    ///
    /// # Errors
    /// Why the error goes no further.
    pub(super) fn schedule_error<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
        outer: &FlowKey,
    ) -> Result<Scheduled<'c>, Fate> {
        let services = context.snapshot.services();
        match services.find_marked(&meta.key, outer, self.ingress) {
            // No persistence engine looks into what an error quotes.
            Some(service) => self.schedule_for(context, (meta, &[]), service, true),
            None => Ok(Scheduled::NotOurs),
        }
    }

    fn schedule_for<'c>(
        &mut self,
        context: &Context<'c>,
        (meta, frame): (&Meta, &[u8]),
        service: &'c VirtualService,
        opens: bool,
    ) -> Result<Scheduled<'c>, Fate> {
        // Answers to such a source would go to many, or come back: the kernel knows what to do with a martian.
        if !meta.key.has_host_source() {
            return Ok(Scheduled::NotOurs);
        }
        if is_one_packet(service, meta) && self.may_have_to_be_cut(context, service, meta, frame) {
            return Ok(Scheduled::ToBeCut);
        }
        if opens && self.is_to_drop(context) {
            return Err(Fate::DropPacket);
        }
        // The server opens these (`ip_vs_schedule`): under NAT there is a connection already.
        if meta.key.source().port() == FTP_DATA {
            return Ok(Scheduled::NotOurs);
        }
        let candidates = context.snapshot.candidates(service);
        if !opens {
            // Perhaps a flow that found the table full when it began.
            let found = destination_by_hash(context, service, &meta.key, meta.hash);
            return Ok(found.map_or(Scheduled::NotOurs, Scheduled::WithoutEntry));
        }
        // Asked first: a flow that gets no entry is not to take another one's turn.
        let needs_entry = !is_one_packet(service, meta) || service.persistence.is_some();
        if needs_entry && !self.shard.has_room(context.table, meta.key.family) {
            return full(context, service, meta);
        }
        if let Some(persistence) = &service.persistence {
            let client = Client::of(context, meta, service, persistence, frame)?;
            let scheduled = self.schedule_persistent(context, meta, service, client, None);
            // Data of FTP may be the kernel's, where the service has no server (`ip_vs_leave`).
            let is_past = service.identity.port() == FTP && meta.key.destination_port() != FTP;
            return match scheduled {
                Err(Fate::NoDestination) if is_past => Ok(Scheduled::NotOurs),
                scheduled => scheduled,
            };
        }
        let virtual_port = meta.key.destination_port();
        if !matches!(service.identity, ServiceIdentity::Fwmark { .. })
            && service.identity.port() != virtual_port
        {
            // Other ports of a service's address are for its persistent clients. Data of FTP may be the kernel's.
            return if service.identity.port() == 0 {
                Err(Fate::NoDestination)
            } else {
                Ok(Scheduled::NotOurs)
            };
        }
        let (chosen, bound) = match self.take_plan(context, meta) {
            Some(planned) => planned,
            None => {
                let arrival = Arrival {
                    key: &meta.key,
                    is_quoted: meta.is_error(),
                    hash: meta.hash,
                    now: context.now,
                    microsecond: self.microsecond,
                };
                let chosen = service.scheduler.pick(candidates, &arrival);
                (chosen.ok_or(Fate::NoDestination)?, None)
            }
        };
        if is_one_packet(service, meta) {
            self.count_connection(chosen);
            return Ok(Scheduled::OnePacket(chosen, chosen.port_for(virtual_port)));
        }
        let new = new_connection(
            context,
            meta,
            service,
            chosen,
            chosen.port_for(virtual_port),
        );
        let opened = self.open(context, &new, chosen);
        match (&opened, bound) {
            (Ok((_, true)), None) => chosen.bind(new.state),
            (Ok((_, true)), Some(_)) | (_, None) => {}
            // Another worker was faster, or there is no room: it counts for nothing.
            (_, Some(state)) => chosen.unbind(state),
        }
        match opened {
            Err(Fate::TableFull) => full(context, service, meta),
            other => other.map(|(hit, _)| Scheduled::Connection(hit)),
        }
    }

    /// Inserts a connection to the chosen destination, unless another worker has just inserted one of the same flow; and
    /// whether it did, so that the caller has it counted for the destination.
    pub(super) fn open<'c>(
        &mut self,
        context: &Context<'c>,
        new: &NewConnection,
        chosen: &Destination,
    ) -> Result<(Hit<'c>, bool), Fate> {
        for _ in 0..ATTEMPTS {
            let timeouts = &chosen.timeouts;
            match self.shard.insert(context.table, new, context.now, timeouts) {
                Ok(hit) => {
                    self.counters.connections_created.add(1);
                    Self::begin_telling(context, hit.number);
                    if chosen.is_timed && new.outbound.is_some() && new.inbound.is_tcp() {
                        let fingerprint = hit.connection.fingerprint();
                        let times = &chosen.shared.response_time;
                        times.sent(fingerprint, self.microsecond, context.now);
                    }
                    if new.template.is_none() {
                        self.count_connection(chosen);
                    }
                    if new.state == State::Established {
                        // `sloppy_tcp`: one of which the beginning was not seen.
                        assure_control(context, &hit.connection);
                    }
                    return Ok((hit, true));
                }
                Err(InsertError::Exists(hit)) if hit.connection.life().is_alive(context.now) => {
                    return Ok((hit, false));
                }
                Err(InsertError::Exists(hit)) => self.clear_away(context, hit.number, false),
                Err(InsertError::ReplyKeyTaken(hit)) => self.clear_away(context, hit.number, true),
                Err(InsertError::Full) => return Err(Fate::TableFull),
            }
        }
        Err(Fate::ReplyKeyTaken)
    }

    pub(super) fn count_connection(&self, chosen: &Destination) {
        if let Some(traffic) = chosen.traffic(self.number) {
            traffic.connections.add(1);
        }
    }

    /// A packet of no connection and no service. A server behind NAT is told so, if it is to be (`nat_icmp_send`), but for
    /// resets (`is_tcp_reset`, `is_sctp_abort`); one without hops has the kernel's answer to that.
    fn not_ours<'c>(&self, context: &Context<'c>, meta: &Meta) -> Result<Scheduled<'c>, Fate> {
        let source = meta.key.source();
        let tell = context.snapshot.settings().nat_icmp_send
            && meta.ttl > 1
            && meta.tcp_flags & flag::RST == 0
            && meta.sctp_event != Event::Abort
            && context.snapshot.services().has_real_service(
                meta.key.protocol,
                source.ip(),
                source.port(),
            );
        if tell {
            return Err(Fate::NoConnection);
        }
        Ok(Scheduled::NotOurs)
    }

    /// Whether `drop_packet` drops this packet: one in each `am_droprate`, counted by worker (`ip_vs_todrop`).
    fn is_to_drop(&mut self, context: &Context<'_>) -> bool {
        let settings = context.snapshot.settings();
        if settings.drop_packet == Defence::Never
            || !settings
                .drop_packet
                .is_up(context.table.was_full(context.now))
        {
            return false;
        }
        self.until_drop = self.until_drop.saturating_sub(1);
        if self.until_drop > 0 {
            return false;
        }
        self.until_drop = settings.am_droprate;
        true
    }

    /// Ends an entry in the way if it has expired or, when `over_is_enough`, if its connection is over.
    pub(super) fn clear_away(&mut self, context: &Context<'_>, number: u32, over_is_enough: bool) {
        let ended = self.shard.end(context.table, number, |life| {
            let over = matches!(
                life.state(),
                State::TimeWait | State::Close | State::SctpClosed
            );
            life.is_over(context.now) || (over_is_enough && over)
        });
        if let Some(ended) = ended {
            unbind(context.snapshot, ended);
        }
    }
}

/// A connection that an ICMP error has opened waits so long for its first packet, in ticks (`ip_vs_conn_new`).
const OF_AN_ERROR: u32 = seconds(3);
/// Port of FTP's data connections at the server (RFC 959).
pub(super) const FTP_DATA: u16 = 20;
/// Where its control connections go; those of data, of persistent clients, to any port.
pub(super) const FTP: u16 = 21;

/// Whether a packet may open a connection: Linux schedules any TCP segment that has SYN and not RST set, SCTP that begins
/// with INIT and, if it is told to be sloppy, any without RST or ABORT (`tcp_conn_schedule`, `sctp_conn_schedule`).
#[inline]
pub(super) fn opens(context: &Context<'_>, meta: &Meta) -> bool {
    if meta.key.protocol == protocol::SCTP {
        return match meta.sctp_event {
            Event::Init => true,
            Event::Abort | Event::Nothing => false,
            _ => context.snapshot.settings().sloppy_sctp,
        };
    }
    if !meta.key.is_tcp() {
        return true;
    }
    let flags = meta.tcp_flags & (flag::SYN | flag::RST);
    flags == flag::SYN || (flags == 0 && context.snapshot.settings().sloppy_tcp)
}

/// Of a packet with an authentication header of IPv6, the flow by which rules for firewall marks know it: nftables, unlike
/// IPVS, sees no ports behind such a header (`nft_set_pktinfo_ipv6`).
#[inline]
fn authenticated(meta: &Meta, frame: &[u8]) -> Option<FlowKey> {
    meta.has_extension_headers()
        .then(|| authenticated_in(meta, frame))
        .flatten()
}

#[cold]
fn authenticated_in(meta: &Meta, frame: &[u8]) -> Option<FlowKey> {
    let packet = frame.get(meta.ip.into()..)?;
    let (header, _) = Ipv6Header::ref_from_prefix(packet).ok()?;
    let upper = upper_layer(packet, header.next_header)?;
    upper.is_authenticated.then_some(FlowKey {
        protocol: protocol::AH,
        ports: 0,
        ..meta.key
    })
}

/// Whether a packet leaves no connection behind.
pub(super) fn is_one_packet(service: &VirtualService, meta: &Meta) -> bool {
    service.one_packet && meta.key.protocol == protocol::UDP
}

/// A new flow finds the table full.
#[cold]
pub(super) fn full<'c>(
    context: &Context<'c>,
    service: &'c VirtualService,
    meta: &Meta,
) -> Result<Scheduled<'c>, Fate> {
    context.table.note_full(context.now);
    let candidates = context.snapshot.candidates(service);
    match destination_by_hash(context, service, &meta.key, meta.hash) {
        Some(found) => Ok(Scheduled::WithoutEntry(found)),
        None if candidates.iter().any(Destination::is_usable) => Err(Fate::TableFull),
        None => Err(Fate::NoDestination),
    }
}

/// The state that a new connection begins in. Its first packet steps it once more, which changes nothing of TCP's and
/// UDP's states; a second INIT is another event than the first.
pub(super) fn first_state(context: &Context<'_>, meta: &Meta, chosen: &Destination) -> State {
    let is_udp = meta.key.protocol == protocol::UDP;
    if meta.key.protocol == protocol::SCTP || (meta.is_error() && !is_udp) {
        return State::None;
    }
    let side = match chosen.spec.method {
        ForwardingMethod::Masquerade => tcp_state::Side::Input,
        ForwardingMethod::Tunnel | ForwardingMethod::DirectRoute => tcp_state::Side::InputOnly,
    };
    next_state(State::None, side, meta, is_secure(context))
}

/// A connection to this port of the chosen destination.
#[inline(always)]
pub(super) fn new_connection(
    context: &Context<'_>,
    meta: &Meta,
    service: &VirtualService,
    chosen: &Destination,
    port: u16,
) -> NewConnection {
    let spec = &chosen.spec;
    NewConnection {
        inbound: meta.key,
        outbound: answers_key(&meta.key, chosen, port),
        destination: spec.number,
        destination_port: port,
        service: service.number,
        method: spec.method,
        state: first_state(context, meta, chosen),
        template: None,
        control: None,
        counts_packets: counts_packets(context),
        lifetime: meta.is_error().then_some(OF_AN_ERROR),
        is_synced: false,
    }
}

/// Destination to client, as answers under NAT come; none when the destination is of the other family.
pub(super) fn answers_key(inbound: &FlowKey, chosen: &Destination, port: u16) -> Option<FlowKey> {
    let mut key = inbound.reversed();
    match (chosen.spec.address, key.family) {
        (std::net::IpAddr::V4(address), Family::V4) => {
            key.addresses[0] = u64::from(address.to_bits()) << 32 | key.addresses[0] & 0xffff_ffff;
        }
        (std::net::IpAddr::V6(address), Family::V6) => {
            let bits = address.to_bits();
            #[allow(clippy::cast_possible_truncation)] // both halves are taken
            let halves = [(bits >> 64) as u64, bits as u64];
            key.addresses[..2].copy_from_slice(&halves);
        }
        _ => return None,
    }
    key.ports = u32::from(port) << 16 | key.ports & 0xffff;
    debug_assert_eq!(key.destination_address(), inbound.source().ip());
    Some(key)
}
