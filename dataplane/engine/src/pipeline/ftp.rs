//! FTP under NAT: a client and a server agree over the control connection where the data connection goes, and name
//! addresses that the other side does not know. The director reads along, makes the data connection's entry ahead, and
//! puts the virtual address in the place of the server's (`ip_vs_ftp.c`). So it is for every TCP connection under NAT to
//! a virtual port 21, as with the kernel's `ip_vs_ftp` loaded; nothing is to be switched on.
//!
//! * `PORT`, `EPRT`: the server will connect, from the port below its own: an entry from there to the client.
//! * `PASV`, `EPSV`: the reply says where the server listens: an entry from any port of the client's to there, which the
//!   first packet puts in place of `any`. The reply may change its length; what follows is renumbered
//!   ([`crate::connection::ftp_control`]).
//!
//! An entry made ahead is in state LISTEN and a child of the control connection, which does not end before it. Unlike
//! the kernel, a reply that the server sends again is rewritten again.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use zerocopy::FromBytes;

use super::Worker;
use super::decide::{cut_padding, ip_packet};
use super::drop_entry::counts_packets;
use super::meta::Meta;
use super::worker::{Context, unbind};
use crate::connection::ftp_control::{FtpControl, Waiting};
use crate::connection::{
    Connection, Direction, Family, FlowKey, ForwardingMethod, Hit, InsertError, NewConnection,
    State,
};
use crate::fate::Fate;
use crate::frame::Frame;
use crate::wire::checksum::{Sum, update};
use crate::wire::ftp::{self, Command, Reply, Text};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::protocol;
use crate::wire::tcp::{TcpHeader, flag};

/// An entry in the way may have to be removed before a new one fits; once is enough but for a lost race.
const ATTEMPTS: usize = 3;

impl Worker {
    /// A packet of a control connection, before it is translated: what it says is taken up, its numbers are mended, and
    /// a reply is rewritten. The notes of the packet as it is then.
    ///
    /// # Errors
    /// [`Fate::TableFull`], [`Fate::ReplyKeyTaken`]: no entry for the data connection. The packet is dropped, as in
    /// Linux; perhaps there is one when it is sent again. [`Fate::TooBig`]: it has grown past `mtu`.
    /// [`Fate::HelperBadChecksum`].
    #[inline(never)]
    pub(super) fn ftp_control<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        (meta, mtu): (&Meta, u16),
        hit: &Hit<'_>,
    ) -> Result<Meta, Fate> {
        // The kernel looks at the checksums of what a helper has a part in (`tcp_dnat_handler`, `tcp_snat_handler`).
        if !is_intact(frame, meta) {
            return Err(Fate::HelperBadChecksum);
        }
        let connection = &hit.connection;
        let mut meta = *meta;
        if connection.life().state() != State::Established {
            if meta.tcp_flags & flag::SYN != 0 && hit.direction == Direction::Inbound {
                // Another connection, by the entry of an old one.
                connection.change_ftp_control(|_| Some(FtpControl::default()));
            }
        } else if hit.direction == Direction::Inbound {
            self.read_command(context, frame, &meta, hit)?;
        } else {
            self.read_reply(context, frame, &mut meta, hit)?;
        }
        let control = connection.ftp_control();
        if !control.is_unshifted() {
            renumber(frame, &meta, control, hit.direction);
        }
        if meta.ip_bytes > mtu {
            return Err(Fate::TooBig);
        }
        Ok(meta)
    }

    fn read_command<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &Meta,
        hit: &Hit<'_>,
    ) -> Result<(), Fate> {
        let connection = &hit.connection;
        let found = segment(frame, meta);
        let found = found.and_then(|(_, text)| ftp::command(text, meta.key.family));
        let Some(command) = found else {
            return Ok(());
        };
        let waiting = match command {
            Command::Passive => Waiting::Passive,
            Command::ExtendedPassive => Waiting::ExtendedPassive,
            Command::Active(client) => {
                let virtual_end = connection.key(Direction::Inbound).destination();
                let mut server = connection.key(Direction::Outbound).source();
                server.set_port(server.port().wrapping_sub(1));
                let below = SocketAddr::new(virtual_end.ip(), virtual_end.port().wrapping_sub(1));
                self.await_data(context, hit, (client, below, server))?;
                Waiting::Nothing
            }
        };
        connection.change_ftp_control(|control| Some(control.waiting_for(waiting)));
        Ok(())
    }

    fn read_reply<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        meta: &mut Meta,
        hit: &Hit<'_>,
    ) -> Result<(), Fate> {
        let connection = &hit.connection;
        let found = awaited_reply(frame, meta, connection);
        let Some((reply, text, sequence)) = found else {
            return Ok(());
        };
        let inbound = connection.key(Direction::Inbound);
        let client = SocketAddr::new(inbound.source().ip(), 0);
        let virtual_end = SocketAddr::new(inbound.destination_address(), reply.server.port());
        self.await_data(context, hit, (client, virtual_end, reply.server))?;
        let grows = text.len().saturating_sub(reply.text.len());
        if frame.headroom().len() < grows {
            return Err(Fate::NoHeadroom);
        }
        let step = signed(text.len()) - signed(reply.text.len());
        // A connection that has been put off by megabytes goes on without.
        let counted = connection.change_ftp_control(|control| control.replied(sequence, step));
        if counted.is_some() {
            replace(frame, meta, &reply.text, &text);
        }
        Ok(())
    }

    /// Makes the entry of a data connection: the client's end, the virtual one, and the server's. A client's port of 0
    /// is any port.
    fn await_data(
        &mut self,
        context: &Context<'_>,
        hit: &Hit<'_>,
        (client, virtual_end, server): (SocketAddr, SocketAddr, SocketAddr),
    ) -> Result<(), Fate> {
        let control = &hit.connection;
        let keys = FlowKey::from_sockets(protocol::TCP, client, virtual_end)
            .zip(FlowKey::from_sockets(protocol::TCP, server, client));
        let destination = context.snapshot.destination(control.destination());
        let Some(((inbound, outbound), destination)) = keys.zip(destination) else {
            return Ok(());
        };
        let new = NewConnection {
            inbound,
            outbound: Some(outbound),
            destination: control.destination(),
            destination_port: server.port(),
            service: control.service(),
            method: ForwardingMethod::Masquerade,
            state: State::Listen,
            template: None,
            control: Some(hit.number),
            counts_packets: counts_packets(context),
            lifetime: None,
            is_synced: false,
        };
        if client.port() == 0 {
            context.table.note_awaited(context.now);
        }
        let timeouts = &destination.timeouts;
        for _ in 0..ATTEMPTS {
            if !control.adopt_data() {
                return Ok(());
            }
            let inserted = self
                .shard
                .insert(context.table, &new, context.now, timeouts);
            let error = match inserted {
                Err(error) => error,
                Ok(made) => {
                    Self::begin_telling(context, made.number);
                    self.counters.connections_created.add(1);
                    destination.bind(new.state);
                    return Ok(());
                }
            };
            control.release_child(context.now);
            match error {
                InsertError::Full => {
                    context.table.note_full(context.now);
                    return Err(Fate::TableFull);
                }
                InsertError::ReplyKeyTaken(found) => self.clear_away(context, found.number, true),
                InsertError::Exists(found) => {
                    let life = found.connection.life();
                    // Sent again; or its client has two sessions, with servers that listen at the same port.
                    let same = found.connection.key(Direction::Outbound) == outbound;
                    let over = matches!(life.state(), State::TimeWait | State::Close);
                    if life.is_alive(context.now) && !over && (same || client.port() != 0) {
                        return Ok(());
                    }
                    let ended = self
                        .shard
                        .end(context.table, found.number, |life| life.children() == 0);
                    if let Some(ended) = ended {
                        unbind(context.snapshot, ended);
                    }
                }
            }
        }
        Err(Fate::ReplyKeyTaken)
    }

    /// The connection of a packet that is the first of an awaited one: its entry, from any port, gives way to one of its
    /// own (`ip_vs_conn_fill_cport`).
    #[inline]
    pub(super) fn awaited<'c>(&mut self, context: &Context<'c>, meta: &Meta) -> Option<Hit<'c>> {
        let found = context.table.find_awaited(&meta.key, context.now)?;
        self.bind_port(context, meta, &found)
    }

    #[inline(never)]
    fn bind_port<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
        found: &Hit<'_>,
    ) -> Option<Hit<'c>> {
        let (table, now) = (context.table, context.now);
        let awaited = found.connection;
        let destination = context.snapshot.destination(awaited.destination())?;
        let mut outbound = awaited.key(Direction::Outbound);
        outbound.ports = outbound.ports & 0xffff_0000 | meta.key.ports >> 16;
        let number = awaited.control();
        let control = number.and_then(|number| table.connection(number));
        let control = control.filter(Connection::adopt_data);
        let new = NewConnection {
            inbound: meta.key,
            outbound: Some(outbound),
            destination: awaited.destination(),
            destination_port: awaited.destination_port(),
            service: awaited.service(),
            method: ForwardingMethod::Masquerade,
            state: State::Listen,
            template: None,
            control: number.filter(|_| control.is_some()),
            counts_packets: counts_packets(context),
            lifetime: None,
            is_synced: false,
        };
        // One of several workers gets it.
        let hit = match self.shard.end(table, found.number, |_| true) {
            Some(ended) => {
                unbind(context.snapshot, ended);
                let timeouts = &destination.timeouts;
                self.shard.insert(table, &new, now, timeouts).ok()
            }
            None => None,
        };
        if let Some(made) = &hit {
            Self::begin_telling(context, made.number);
            self.counters.connections_created.add(1);
            destination.bind(new.state);
            return hit;
        }
        if let Some(control) = control {
            control.release_child(now);
        }
        table.find(&meta.key, now)
    }
}

/// The reply that the client waits for, or the last one, sent again; what is to stand in it; and its sequence number.
fn awaited_reply<F: Frame>(
    frame: &F,
    meta: &Meta,
    connection: &Connection<'_>,
) -> Option<(Reply, Text, u32)> {
    let (header, text) = segment(frame, meta)?;
    let (header, _) = TcpHeader::ref_from_prefix(header).ok()?;
    let sequence = header.sequence.get();
    let control = connection.ftp_control();
    let waiting = match control.waiting() {
        Waiting::Nothing if !control.is_repeated(sequence) => return None,
        Waiting::Nothing if text.starts_with(b"227") => Waiting::Passive,
        Waiting::Nothing => Waiting::ExtendedPassive,
        waiting => waiting,
    };
    let virtual_address = connection.key(Direction::Inbound).destination_address();
    let (reply, new) = match (waiting, virtual_address) {
        (Waiting::Passive, IpAddr::V4(address)) => {
            let reply = ftp::passive_reply(text)?;
            let new = ftp::passive_text(address, reply.server.port());
            (reply, new)
        }
        _ => {
            let server = connection.key(Direction::Outbound).source().ip();
            let reply = ftp::extended_passive_reply(text, server)?;
            let new = ftp::extended_passive_text(reply.server.port());
            (reply, new)
        }
    };
    Some((reply, new, sequence))
}

/// The TCP header with its options, and what it carries.
fn segment<'f, F: Frame>(frame: &'f F, meta: &Meta) -> Option<(&'f [u8], &'f [u8])> {
    let bytes = frame.bytes().get(meta.transport.into()..end_of(meta))?;
    bytes.split_at_checked(header_bytes(bytes))
}

fn header_bytes(segment: &[u8]) -> usize {
    let words =
        TcpHeader::ref_from_prefix(segment).map_or(0, |(header, _)| header.data_offset >> 4);
    usize::from(words) * 4
}

fn end_of(meta: &Meta) -> usize {
    usize::from(meta.ip) + usize::from(meta.ip_bytes)
}

#[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation)] // of a text of a few bytes
fn signed(length: usize) -> i32 {
    length as i32
}

/// Whether the checksum is right.
fn is_intact<F: Frame>(frame: &F, meta: &Meta) -> bool {
    let bytes = frame.bytes();
    let Some(segment) = bytes.get(meta.transport.into()..end_of(meta)) else {
        return false;
    };
    let Some(packet) = bytes.get(meta.ip.into()..) else {
        return false;
    };
    let addresses = match meta.key.family {
        Family::V4 => packet.get(12..20),
        Family::V6 => packet.get(8..40),
    };
    let length = u32::try_from(segment.len()).unwrap_or(0);
    let sum = Sum::of(addresses.unwrap_or_default())
        .add16(protocol::TCP.into())
        .add32(length)
        .plus(Sum::of(segment));
    sum.finish() == 0
}

/// Puts `new` in the place of a part of what a segment carries, and mends lengths and checksums. There is room in front
/// of the frame for what it grows by: all before the text moves there.
fn replace<F: Frame>(frame: &mut F, meta: &mut Meta, old: &Range<usize>, new: &str) {
    cut_padding(frame, meta);
    let transport = usize::from(meta.transport);
    let Some((header, _)) = segment(frame, meta) else {
        return;
    };
    let start = transport + header.len() + old.start;
    let end = transport + header.len() + old.end;
    let before = sum_of_segment(frame, meta);
    if new.len() > old.len() {
        let grows = new.len() - old.len();
        if !frame.prepend(grows) {
            return;
        }
        frame.bytes_mut().copy_within(grows..grows + start, 0);
        meta.ip_bytes = meta.ip_bytes.saturating_add(length16(grows));
    } else {
        let shrinks = old.len() - new.len();
        frame.bytes_mut().copy_within(end.., end - shrinks);
        meta.ip_bytes = meta.ip_bytes.saturating_sub(length16(shrinks));
        cut_padding(frame, meta);
    }
    if let Some(text) = frame.bytes_mut().get_mut(start..start + new.len()) {
        text.copy_from_slice(new.as_bytes());
    }
    write_length(ip_packet(frame, meta), meta);
    let after = sum_of_segment(frame, meta);
    mend_checksum(frame, meta, before, after);
}

fn length16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn write_length(packet: &mut [u8], meta: &Meta) {
    match meta.key.family {
        Family::V4 => {
            if let Ok((header, _)) = Ipv4Header::mut_from_prefix(packet) {
                let old = Sum::default().add16(header.total_length.get());
                header.total_length.set(meta.ip_bytes);
                let new = Sum::default().add16(meta.ip_bytes);
                header.checksum.set(update(header.checksum.get(), old, new));
            }
        }
        Family::V6 => {
            if let Ok((header, _)) = Ipv6Header::mut_from_prefix(packet) {
                let fixed = length16(size_of::<Ipv6Header>());
                header
                    .payload_length
                    .set(meta.ip_bytes.saturating_sub(fixed));
            }
        }
    }
}

/// The segment and its length, as the checksum covers them.
fn sum_of_segment<F: Frame>(frame: &F, meta: &Meta) -> Sum {
    let bytes = frame.bytes().get(meta.transport.into()..end_of(meta));
    let segment = bytes.unwrap_or_default();
    Sum::of(segment).add16(length16(segment.len()))
}

fn mend_checksum<F: Frame>(frame: &mut F, meta: &Meta, old: Sum, new: Sum) {
    let segment = frame.bytes_mut().get_mut(meta.transport.into()..);
    if let Ok((header, _)) = TcpHeader::mut_from_prefix(segment.unwrap_or_default()) {
        header.checksum.set(update(header.checksum.get(), old, new));
    }
}

/// Kinds of TCP options (RFC 9293, RFC 2018).
mod option {
    pub const END: u8 = 0;
    pub const NOTHING: u8 = 1;
    pub const SELECTIVE_ACKNOWLEDGEMENT: u8 = 5;
}

/// Numbers of the server's bytes are as the receiver counts them: in a segment's own number on the way to the client, in
/// what is acknowledged, selectively too, on the way to the server.
fn renumber<F: Frame>(frame: &mut F, meta: &Meta, control: FtpControl, direction: Direction) {
    let Some((header, _)) = segment(frame, meta) else {
        return;
    };
    let old = Sum::of(header);
    let range = usize::from(meta.transport)..usize::from(meta.transport) + header.len();
    let Some(bytes) = frame.bytes_mut().get_mut(range) else {
        return;
    };
    let Ok((header, options)) = TcpHeader::mut_from_prefix(bytes) else {
        return;
    };
    // What begins anew has numbers of its own: no segment of the connection, to nf_conntrack.
    let flags = header.flags & (flag::SYN | flag::ACK);
    let begins = match direction {
        Direction::Inbound => flags & flag::SYN != 0,
        Direction::Outbound => flags == flag::SYN,
    };
    if begins {
        return;
    }
    match direction {
        Direction::Outbound => {
            let sequence = control.to_client(header.sequence.get());
            header.sequence.set(sequence);
        }
        Direction::Inbound if header.flags & flag::ACK != 0 => {
            let acknowledged = control.to_server(header.acknowledgement.get());
            header.acknowledgement.set(acknowledged);
            selectively(options, |number| control.to_server(number));
        }
        Direction::Inbound => return,
    }
    let new = Sum::of(bytes);
    mend_checksum(frame, meta, old, new);
}

/// Changes the edges of every block of the options that is acknowledged selectively.
fn selectively(mut options: &mut [u8], change: impl Fn(u32) -> u32) {
    while let [kind, rest @ ..] = options {
        match *kind {
            option::END => return,
            option::NOTHING => options = rest,
            kind => {
                let Some((length, rest)) = rest.split_first_mut() else {
                    return;
                };
                let after = usize::from(*length).checked_sub(2);
                let Some((body, rest)) = after.and_then(|bytes| rest.split_at_mut_checked(bytes))
                else {
                    return;
                };
                if kind == option::SELECTIVE_ACKNOWLEDGEMENT {
                    for edge in body.as_chunks_mut::<4>().0 {
                        *edge = change(u32::from_be_bytes(*edge)).to_be_bytes();
                    }
                }
                options = rest;
            }
        }
    }
}
