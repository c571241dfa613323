//! Third stage: what becomes of a frame that `hit` did not take. Tiers by cost: a connection is known, but something about
//! the packet or its way is out of the ordinary; none is known (find a service, schedule, insert); not ours (punt).

use std::net::Ipv4Addr;

use zerocopy::FromBytes;

use super::icmp_error::Problem;
use super::icmp_related::{self, Layout};
use super::meta::{Kind, Meta};
use super::refuse::{Refusal, Way};
use super::schedule::Scheduled;
use super::worker::{Context, unbind};
use super::{Verdict, Worker, deliver, parse};
use crate::connection::sctp_state::{self, Event};
use crate::connection::{
    Connection, Direction, Ended, Family, ForwardingMethod, Hit, Life, State, Transition, tcp_state,
};
use crate::fate::Fate;
use crate::forward::direct_route;
use crate::forward::masquerade::{End, translate_v4, translate_v6};
use crate::forward::tunnel::{self, Stamp};
use crate::forwarding_table::NextHop;
use crate::fragment::network_header;
use crate::frame::Frame;
use crate::service::Destination;
use crate::settings::Defence;
use crate::wire::ethernet::FRAME_BYTES_MIN;
use crate::wire::ipv4::Ipv4Header;
use crate::wire::protocol;
use crate::wire::tcp::flag;

impl Worker {
    /// The verdict on any frame but a hit.
    #[inline(never)]
    pub(super) fn decide<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
    ) -> Verdict {
        if meta.ip_bytes != 0 {
            // What lies behind the packet is not part of it; a short frame stays padded.
            let end = usize::from(meta.ip) + usize::from(meta.ip_bytes);
            frame.truncate(end.max(FRAME_BYTES_MIN));
        }
        let fate = match meta.kind {
            Kind::Drop(fate) => return self.drop_as(ingress, fate),
            Kind::Punt(fate) => return Verdict::Punt(fate),
            // Without any service of its family, IPVS is off, as in Linux: even known connections are the kernel's.
            Kind::Fragment if !context.snapshot.services().serve(meta.key.family) => {
                return Verdict::Punt(Fate::PuntedFragment);
            }
            _ if !context.snapshot.services().serve(meta.key.family) => {
                return Verdict::Punt(Fate::Punted);
            }
            Kind::Fragment if ends_here(context, frame, meta) => {
                return Verdict::Punt(Fate::PuntedFragment);
            }
            Kind::Fragment => {
                let of_ipsec = self.ipsec_fragment(context, ingress, frame, meta);
                return of_ipsec.unwrap_or(Verdict::Gather);
            }
            _ if context.snapshot.is_backup_only() && !self.is_answer(context, meta) => {
                return Verdict::Punt(Fate::Punted);
            }
            Kind::Related { .. } => return self.related(context, ingress, frame, meta),
            Kind::TunnelError { inner } => self.tunnel_error(context, frame, meta, inner),
            Kind::Flow | Kind::Ipsec => self.flow(context, ingress, frame, meta),
        };
        fate.unwrap_or_else(|fate| self.drop_as(ingress, fate))
    }

    /// Whether a packet goes the way back of a connection: all that a director does which is nothing but a backup.
    #[cold]
    fn is_answer(&self, context: &Context<'_>, meta: &Meta) -> bool {
        let known = self.known_connection(context, meta);
        known.is_some_and(|hit| hit.direction == Direction::Outbound)
    }

    #[inline]
    pub(super) fn flow<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
    ) -> Result<Verdict, Fate> {
        let mut over = None;
        let known = self.known_connection(context, meta).filter(|hit| {
            over = self.end_if_over(context, hit, meta);
            over.is_none()
        });
        let found = known.or_else(|| self.awaited(context, meta));
        let scheduled = match found {
            Some(hit) => Ok(Scheduled::Connection(hit)),
            // It is never scheduled (`ah_esp_conn_schedule`).
            None if meta.kind == Kind::Ipsec => Ok(Scheduled::NotOurs),
            None => self.schedule(context, meta, frame.bytes()),
        };
        // In Linux the old connection's timer ends it, a moment later: it still counts when the new one is scheduled.
        if let Some(ended) = over {
            unbind(context.snapshot, ended);
        }
        let hit = match scheduled {
            Ok(Scheduled::Connection(hit)) => hit,
            Ok(Scheduled::NotOurs) => return Ok(Verdict::Punt(Fate::Punted)),
            Ok(Scheduled::ToBeCut) => return Ok(Verdict::Split),
            Ok(Scheduled::WithoutEntry(destination)) => {
                if !self.is_counted() {
                    self.sign_options(context, frame, meta, Direction::Inbound, None);
                }
                return self.without_entry(context, ingress, frame, meta, destination);
            }
            Ok(Scheduled::OnePacket(destination, port)) => {
                self.sign_options(context, frame, meta, Direction::Inbound, None);
                return self.one_packet(context, ingress, frame, meta, (destination, port));
            }
            Ok(Scheduled::OnePacketAnswer(answer)) => {
                self.sign_options(
                    context,
                    frame,
                    meta,
                    Direction::Outbound,
                    Some(answer.from()),
                );
                return self.answer_one_packet(context, ingress, frame, meta, answer);
            }
            Ok(Scheduled::AnswerWithoutEntry(answer)) => {
                if !self.is_counted() {
                    self.sign_options(context, frame, meta, Direction::Outbound, None);
                }
                return self.answer_without_entry(context, ingress, frame, meta, answer);
            }
            Err(fate @ Fate::NoDestination) => {
                let refusal = Refusal::to_client(Problem::NoDestination, fate);
                return Ok(self.refuse(context, ingress, frame, meta, refusal));
            }
            Err(fate @ Fate::NoConnection) => {
                // Linux has taken the hop off before it looks, and quotes what it has.
                direct_route::decrement_ttl(ip_packet(frame, meta), meta.key.family);
                let refusal = Refusal::to_server(Problem::NoDestination, fate);
                return Ok(self.refuse(context, ingress, frame, meta, refusal));
            }
            Err(fate) => return Err(fate),
        };
        if meta.has_ip_options() && !self.is_counted() {
            let masked = hit.connection.method() == ForwardingMethod::Masquerade;
            let new_source =
                masked.then(|| hit.connection.key(Direction::Inbound).destination_address());
            self.sign_options(context, frame, meta, hit.direction, new_source);
        }
        match hit.direction {
            Direction::Inbound => self.inbound(context, ingress, frame, meta, &hit),
            Direction::Outbound => self.outbound(context, ingress, frame, meta, &hit),
        }
    }

    /// Whether the packet has been here before, and is only to be cut now.
    fn is_counted(&self) -> bool {
        self.whole.is_some_and(|whole| whole.is_counted)
    }

    #[inline]
    pub(super) fn known_connection<'c>(
        &self,
        context: &Context<'c>,
        meta: &Meta,
    ) -> Option<Hit<'c>> {
        context
            .table
            .confirm(meta.candidate, &meta.key, meta.hash, context.now)
    }

    /// Whether this packet is not to go by the connection on its ports: it opens a new one where an old one is over
    /// (`conn_reuse_mode`), or that one's destination is not to be had any more (`expire_nodest_conn`). Then the old one
    /// ends, and is the caller's to unbind.
    #[inline]
    fn end_if_over(&mut self, context: &Context<'_>, hit: &Hit<'_>, meta: &Meta) -> Option<Ended> {
        if hit.direction == Direction::Outbound {
            return None;
        }
        let settings = context.snapshot.settings();
        let connection = &hit.connection;
        let opens = is_new(meta);
        if !opens && !settings.expire_nodest_conn {
            return None;
        }
        let found = context.snapshot.destination(connection.destination());
        let takes_none = found.is_some_and(|found| found.spec.weight == 0);
        let unavailable = found.is_none_or(|found| !found.available);
        if settings.expire_nodest_conn && (unavailable || (opens && takes_none)) {
            return self.end_now(context, hit.number, |_| true);
        }
        // What a template or FTP has made stays with its server.
        if !opens || settings.conn_reuse_mode == 0 || connection.control().is_some() {
            return None;
        }
        let one_way_too = settings.conn_reuse_mode & 2 != 0;
        let over = |life: Life| match life.state() {
            State::TimeWait | State::Close | State::SctpClosed => true,
            State::FinWait => one_way_too && life.no_output(),
            _ => false,
        };
        if over(connection.life()) {
            self.end_now(context, hit.number, over)
        } else {
            None
        }
    }

    /// Ends a connection that no other depends on, if `condition` still holds of it; the caller unbinds it.
    fn end_now(
        &mut self,
        context: &Context<'_>,
        number: u32,
        condition: impl Fn(Life) -> bool,
    ) -> Option<Ended> {
        self.shard.end(context.table, number, |life| {
            life.children() == 0 && condition(life)
        })
    }

    #[inline]
    fn inbound<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        hit: &Hit<'_>,
    ) -> Result<Verdict, Fate> {
        let connection = &hit.connection;
        let found = context.snapshot.destination(connection.destination());
        let destination = found
            .filter(|destination| destination.available)
            .ok_or(Fate::DestinationRemoved)?;
        let how = (Direction::Inbound, is_secure(context));
        if !self.is_counted() {
            self.account(context, meta, connection, destination, how);
            connection.count_packet();
            self.tell(context, (hit.number, connection), (meta, frame.bytes()));
        }
        let way = Way::to_server(destination, connection.method(), meta.key.family);
        if let Some(verdict) = self.check_way(context, ingress, frame, meta, way) {
            if connection.method() != ForwardingMethod::Masquerade {
                self.count_answer(destination, frame, verdict);
            }
            return Ok(verdict);
        }
        let changed;
        let meta = if connection.is_ftp_control() {
            changed = self.ftp_control(context, frame, (meta, destination.mtu), hit)?;
            &changed
        } else {
            meta
        };
        self.send_to_server(context, frame, meta, connection, destination)
    }

    /// A packet of a connection passes: the connection's state takes its step, by the `secure` table or the usual one, and
    /// the destination counts both.
    #[inline(always)]
    pub(super) fn account(
        &self,
        context: &Context<'_>,
        meta: &Meta,
        connection: &Connection<'_>,
        destination: &Destination,
        (direction, secure): (Direction, bool),
    ) {
        self.step(context, meta, connection, destination, (direction, secure));
        match direction {
            Direction::Inbound => self.count_inbound(destination, meta),
            Direction::Outbound => self.count_outbound(destination, meta),
        }
    }

    /// The connection's state takes the step that this packet makes it take.
    #[inline(always)]
    pub(super) fn step(
        &self,
        context: &Context<'_>,
        meta: &Meta,
        connection: &Connection<'_>,
        destination: &Destination,
        (direction, secure): (Direction, bool),
    ) {
        let timeouts = &destination.timeouts;
        let moved = connection.advance(context.now, timeouts, direction, |state, side| {
            next_state(state, side, meta, secure)
        });
        if let Some(moved) = moved {
            self.has_moved(context, connection, destination, (moved, direction));
        }
    }

    /// A connection has changed its state, or been answered for the first time: its destination counts it anew, and the
    /// template it was made after has proved itself (`ip_vs_control_assure_ct`).
    #[inline(never)]
    fn has_moved(
        &self,
        context: &Context<'_>,
        connection: &Connection<'_>,
        destination: &Destination,
        (moved, direction): (Transition, Direction),
    ) {
        if destination.is_timed && direction == Direction::Outbound {
            let times = &destination.shared.response_time;
            times.answered(connection.fingerprint(), self.microsecond, context.now);
        }
        if moved.answered {
            let counter = if self.shard.is_mine(context.table.number_of(connection)) {
                &self.counters.answers_met
            } else {
                &self.counters.answers_apart
            };
            counter.add(1);
        }
        destination.moved(moved.before, moved.after);
        if matches!(
            moved.after,
            State::Established | State::Udp | State::SctpEstablished
        ) {
            assure_control(context, connection);
        }
    }

    /// Rewrites or encapsulates a packet from the client and sends it off.
    #[inline]
    fn send_to_server<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &Meta,
        connection: &Connection<'_>,
        destination: &Destination,
    ) -> Result<Verdict, Fate> {
        if connection.method() == ForwardingMethod::Masquerade {
            translate(frame, meta, connection, Direction::Inbound);
            let forwarding = context.snapshot.forwarding();
            return deliver::deliver(
                forwarding,
                frame,
                meta.ip.into(),
                meta.key.family,
                destination.next_hop,
                &mut self.neighbours,
            );
        }
        self.send_on(context, frame, meta, destination, connection.method())
    }

    /// Tunnels a packet from the client to the server, or sends it there as it is.
    #[inline]
    pub(super) fn send_on<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &Meta,
        destination: &Destination,
        method: ForwardingMethod,
    ) -> Result<Verdict, Fate> {
        let mut outer = meta.key.family;
        match method {
            // Translated by the caller.
            ForwardingMethod::Masquerade => return Err(Fate::TableFull),
            ForwardingMethod::DirectRoute => {
                direct_route::decrement_ttl(ip_packet(frame, meta), meta.key.family)
            }
            ForwardingMethod::Tunnel => {
                direct_route::decrement_ttl(ip_packet(frame, meta), meta.key.family);
                let header = destination.outer.as_ref().ok_or(Fate::NoRoute)?;
                let stamp = Stamp {
                    identification: self.next_identification(),
                    flow_hash: meta.hash,
                };
                cut_padding(frame, meta);
                tunnel::encapsulate(frame, meta.ip.into(), meta.key.family, header, stamp)?;
                outer = header.family();
            }
        }
        deliver::deliver(
            context.snapshot.forwarding(),
            frame,
            meta.ip.into(),
            outer,
            destination.next_hop,
            &mut self.neighbours,
        )
    }

    #[inline]
    fn outbound<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        hit: &Hit<'_>,
    ) -> Result<Verdict, Fate> {
        let connection = &hit.connection;
        let (next_hop, mtu) = way_back(context, connection);
        let way = Way::to_client(next_hop, mtu, meta.key.family);
        let is_counted = self.is_counted();
        let stopped = self.check_way(context, ingress, frame, meta, way);
        // Linux looks at the way before IPVS sees an answer (`ip_forward`): what goes no further changes no state.
        let goes_on = matches!(stopped, None | Some(Verdict::Split | Verdict::Punt(_)));
        // A worker that has not taken the snapshot yet in which the destination is new: a step that it cannot count there
        // is not taken. The next packet takes it.
        let found = context.snapshot.destination(connection.destination());
        // What FTP's helper makes of it is what counts (`handle_response`).
        let changed;
        let meta = if connection.is_ftp_control() && stopped.is_none() {
            let helped = self.ftp_control(context, frame, (meta, mtu), hit);
            if let (Err(_), Some(destination)) = (&helped, found) {
                connection.put_off(context.now, &destination.timeouts);
            }
            changed = helped?;
            &changed
        } else {
            meta
        };
        if let Some(destination) = found.filter(|_| goes_on && !is_counted) {
            let how = (Direction::Outbound, is_secure(context));
            self.account(context, meta, connection, destination, how);
        }
        if let Some(verdict) = stopped {
            return Ok(verdict);
        }
        translate(frame, meta, connection, Direction::Outbound);
        deliver::deliver(
            context.snapshot.forwarding(),
            frame,
            meta.ip.into(),
            meta.key.family,
            next_hop,
            &mut self.neighbours,
        )
    }

    /// An ICMP error about a known connection goes on to the other side; about anything else, to the kernel, unless it is
    /// to open one (`schedule_icmp`).
    fn related<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
    ) -> Verdict {
        if let Some(hit) = self.known_connection(context, meta) {
            return self.relay_error(context, ingress, frame, meta, &hit);
        }
        let verdict = match parse::gue_error(frame.bytes(), meta, context.table) {
            Some((meta, inner)) => self.tunnel_error(context, frame, &meta, inner),
            None if context.snapshot.settings().schedule_icmp => {
                self.error_of_no_connection(context, ingress, frame, meta)
            }
            None => Ok(Verdict::Punt(Fate::Punted)),
        };
        if matches!(verdict, Ok(Verdict::Punt(_))) {
            self.count_passing(context, meta);
        }
        verdict.unwrap_or_else(|fate| self.drop_as(ingress, fate))
    }

    /// An ICMP error goes on to the other side of its connection.
    pub(super) fn relay_error<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        meta: &Meta,
        hit: &Hit<'_>,
    ) -> Verdict {
        let Some(at) = Layout::of(meta) else {
            return Verdict::Punt(Fate::Punted);
        };
        let connection = &hit.connection;
        // What is not translated is as wrong when it arrives as it was.
        if connection.method() == ForwardingMethod::Masquerade
            && !icmp_related::is_intact(ip_packet(frame, meta), at.icmp, meta.key.family)
        {
            return self.drop_as(ingress, Fate::IcmpBadChecksum);
        }
        let destination = context.snapshot.destination(connection.destination());
        let (next_hop, mtu) = match (hit.direction, destination) {
            (Direction::Outbound, _) => way_back(context, connection),
            (Direction::Inbound, Some(destination)) if destination.available => {
                (destination.next_hop, destination.mtu)
            }
            (Direction::Inbound, _) => return self.drop_as(ingress, Fate::DestinationRemoved),
        };
        if meta.ttl <= 1 || next_hop == NextHop::Local {
            return Verdict::Punt(Fate::Punted);
        }
        if meta.ip_bytes > mtu {
            // No error about an error (RFC 1122 3.2.2).
            return self.drop_as(ingress, Fate::TooBig);
        }
        match (hit.direction, destination) {
            (Direction::Inbound, Some(destination)) => self.count_inbound(destination, meta),
            (Direction::Outbound, Some(destination)) => self.count_outbound(destination, meta),
            _ => {}
        }
        let sent = match (connection.method(), destination) {
            (ForwardingMethod::Tunnel | ForwardingMethod::DirectRoute, Some(destination)) => {
                self.send_to_server(context, frame, meta, connection, destination)
            }
            _ => {
                icmp_related::translate(ip_packet(frame, meta), at, connection, hit.direction);
                deliver::deliver(
                    context.snapshot.forwarding(),
                    frame,
                    meta.ip.into(),
                    meta.key.family,
                    next_hop,
                    &mut self.neighbours,
                )
            }
        };
        sent.unwrap_or_else(|fate| self.drop_as(ingress, fate))
    }

    /// What the director tells a client about its packet passes IPVS on the way out, and counts there as an answer of the
    /// server; under NAT it is not recognised as one.
    #[cold]
    fn count_answer<F: Frame>(&self, destination: &Destination, frame: &F, verdict: Verdict) {
        if matches!(verdict, Verdict::Answer { .. } | Verdict::HoldAnswer { .. })
            && let Some((_, ip)) = network_header(frame.bytes())
        {
            self.count_outbound_bytes(destination, frame.bytes().len().saturating_sub(ip));
        }
    }

    /// An error of the servers' side about a packet that reached a server as it was sent: the kernel forwards it, and IPVS
    /// counts it as an answer.
    fn count_passing(&self, context: &Context<'_>, meta: &Meta) {
        let request = context.table.find(&meta.key.reversed(), context.now);
        let passing = request.filter(|hit| {
            meta.ttl > 1
                && hit.direction == Direction::Inbound
                && hit.connection.method() != ForwardingMethod::Masquerade
        });
        let destination =
            passing.and_then(|hit| context.snapshot.destination(hit.connection.destination()));
        if let Some(destination) = destination {
            self.count_outbound(destination, meta);
        }
    }

    #[inline]
    pub(super) fn count_inbound(&self, destination: &Destination, meta: &Meta) {
        if let Some(traffic) = destination.traffic(self.number) {
            traffic.inbound_packets.add(1);
            traffic.inbound_bytes.add(meta.ip_bytes.into());
        }
    }

    #[inline]
    pub(super) fn count_outbound(&self, destination: &Destination, meta: &Meta) {
        self.count_outbound_bytes(destination, meta.ip_bytes.into());
    }

    /// A packet of so many bytes.
    #[inline]
    pub(super) fn count_outbound_bytes(&self, destination: &Destination, bytes: usize) {
        if let Some(traffic) = destination.traffic(self.number) {
            traffic.outbound_packets.add(1);
            traffic.outbound_bytes.add(bytes as u64);
        }
    }
}

/// The template that a connection was made after has proved itself (`ip_vs_control_assure_ct`).
pub(super) fn assure_control(context: &Context<'_>, connection: &Connection<'_>) {
    if let Some(control) = connection.control()
        && let Some(control) = context.table.connection(control)
    {
        control.assure();
    }
}

/// Whether TCP states follow the table that believes clients less (`secure_tcp`).
#[inline]
pub(super) fn is_secure(context: &Context<'_>) -> bool {
    let mode = context.snapshot.settings().secure_tcp;
    mode != Defence::Never && mode.is_up(context.table.was_full(context.now))
}

#[inline]
pub(super) fn next_state(state: State, side: tcp_state::Side, meta: &Meta, secure: bool) -> State {
    if meta.key.is_tcp() && secure {
        tcp_state::next_secure(state, side, meta.tcp_flags)
    } else if meta.key.is_tcp() {
        tcp_state::next(state, side, meta.tcp_flags)
    } else if !meta.is_plain && meta.key.protocol == protocol::SCTP {
        // Never plain, so that UDP hits do not ask.
        sctp_state::next(state, side, meta.sctp_event)
    } else {
        State::Udp
    }
}

/// Whether a packet begins a connection: with SYN or INIT.
fn is_new(meta: &Meta) -> bool {
    if meta.key.protocol == protocol::SCTP {
        meta.sctp_event == Event::Init
    } else {
        meta.tcp_flags & flag::SYN != 0
    }
}

/// The way back to the client: from the connection's cache, or from the forwarding table into it.
#[inline]
fn way_back(context: &Context<'_>, connection: &Connection<'_>) -> (NextHop, u16) {
    let forwarding = context.snapshot.forwarding();
    let mtu = |number| {
        forwarding
            .adjacency(number)
            .map_or(0, |adjacency| adjacency.mtu)
    };
    let may_cache = !connection.is_ftp_control();
    if may_cache && let Some(number) = connection.cached_route(forwarding.generation()) {
        return (NextHop::Adjacent(number), mtu(number));
    }
    let client = connection.key(Direction::Inbound).source().ip();
    let next_hop = forwarding.route(client);
    match next_hop {
        NextHop::Adjacent(number) if may_cache => {
            connection.cache_route(forwarding.generation(), number);
            (next_hop, mtu(number))
        }
        NextHop::Adjacent(number) => (next_hop, mtu(number)),
        _ => (next_hop, forwarding.mtu_to(client)),
    }
}

/// The IP packet in the frame.
#[inline]
pub(super) fn ip_packet<'f, F: Frame>(frame: &'f mut F, meta: &Meta) -> &'f mut [u8] {
    let start = usize::from(meta.ip);
    let end = start + usize::from(meta.ip_bytes);
    frame.bytes_mut().get_mut(start..end).unwrap_or_default()
}

/// The frame ends where its IP packet does.
pub(super) fn cut_padding<F: Frame>(frame: &mut F, meta: &Meta) {
    frame.truncate(usize::from(meta.ip) + usize::from(meta.ip_bytes));
}

#[inline]
fn translate<F: Frame>(
    frame: &mut F,
    meta: &Meta,
    connection: &Connection<'_>,
    direction: Direction,
) {
    let end = End::replaced(direction);
    let transport = match meta.kind {
        // Behind the IP header there is nothing that may be rewritten.
        Kind::Ipsec => usize::from(meta.ip_bytes),
        _ => meta.header_bytes(),
    };
    let packet = ip_packet(frame, meta);
    match meta.key.family {
        Family::V4 => {
            let (address, port) = connection.translation_v4(direction);
            translate_v4(packet, transport, meta.key.protocol, end, address, port);
        }
        Family::V6 => {
            let (address, port) = connection.translation_v6(direction);
            translate_v6(packet, transport, meta.key.protocol, end, address, port);
        }
    }
}

/// Whether a fragment of IPv4 goes no further than here, by its TTL, nor is for this machine: then Linux says so, of the first one,
/// before it gathers any (`ip_forward`).
#[cold]
fn ends_here<F: Frame>(context: &Context<'_>, frame: &F, meta: &Meta) -> bool {
    let header = frame.bytes().get(meta.ip.into()..).unwrap_or_default();
    meta.key.family == Family::V4
        && meta.ttl <= 1
        && Ipv4Header::ref_from_prefix(header).is_ok_and(|(header, _)| {
            let to = Ipv4Addr::from_bits(header.destination.get());
            !context.snapshot.forwarding().is_own_or_broadcast(to)
        })
}
