//! What clients and servers say to each other: whole conversations and parts of them, some of it odd.

use std::net::SocketAddr;

use pollux_engine::wire::protocol;

use super::ftp;
use super::kinds::{self, Kind};
use super::plan::Action;
use super::segment::{self, TcpFields};
use super::world::{Chance, World};
use crate::golden::director::Outcome;
use crate::golden::packet::{self, IpHeader};
use crate::golden::trace::Wire;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;

const CLIENTS: [[&str; 6]; 2] = [
    [
        "198.51.100.7",
        "198.51.100.8",
        "198.51.101.7",
        "198.18.3.1",
        "198.18.3.200",
        "100.64.0.5",
    ],
    [
        "2001:db8:c::7",
        "2001:db8:c::8",
        "2001:db8:c:1::7",
        "2001:db8:d::9",
        "2001:db8:d:2::9",
        "2001:db8:e::1",
    ],
];

/// How often what is odd comes: once in so many packets, never for 0. Each scenario has its own taste.
#[derive(Debug, Clone, Copy)]
pub struct Taste {
    /// In fragments.
    pub fragments: usize,
    /// Options of IPv4, extension headers of IPv6.
    pub options: usize,
    /// Hop limits, types of service, without DF.
    pub headers: usize,
    /// As large as the wire takes.
    pub large: usize,
    /// Flags and chunks that do not fit.
    pub unfit: usize,
    /// Wrong checksums, or none.
    pub checksums: usize,
}

impl Taste {
    /// Of a scenario.
    pub fn new(world: &mut World) -> Self {
        let mut often = || world.chance.of(&[0, 0, 0, 30, 8, 3]);
        Self {
            fragments: often(),
            options: often(),
            headers: often(),
            large: often(),
            unfit: often(),
            checksums: often(),
        }
    }
}

/// A flow of a client's.
#[derive(Debug, Clone)]
pub struct Flow {
    protocol: u8,
    client: SocketAddr,
    target: SocketAddr,
    stage: usize,
    kind: Kind,
    /// Whether the server begins.
    pub is_active: bool,
    /// Whether an end has closed it.
    is_closing: bool,
    /// The call it belongs to.
    call: &'static str,
    /// What each side has said, client and server, as TCP counts.
    said: [u32; 2],
    /// Who got its last packet, and where as the server sees it.
    pub server: Option<(u8, SocketAddr)>,
    /// The last IP packets to the server and to the client, as they came out.
    pub delivered: [Option<Vec<u8>>; 2],
}

impl Flow {
    /// A flow that nobody has begun.
    pub fn between(protocol: u8, client: SocketAddr, target: SocketAddr) -> Self {
        Self {
            protocol,
            client,
            target,
            stage: 0,
            kind: Kind::Plain,
            is_active: false,
            is_closing: false,
            call: "",
            said: [1000, 5000],
            server: None,
            delivered: [None, None],
        }
    }

    /// A flow of some client to a target of a service.
    pub fn new(world: &mut World, kind: Kind, (number, target): (u8, SocketAddr)) -> Self {
        // Every connection that FTP is controlled by has a port of its own, see `may_begin_anew`.
        let port = match kind {
            Kind::Ftp => 41_000 + u16::try_from(world.plan.steps.len()).unwrap(),
            _ => 40_000 + u16::try_from(world.chance.below(24)).unwrap(),
        };
        let chance = &mut world.chance;
        let address = chance.of(&CLIENTS[usize::from(target.is_ipv6())]);
        let mut target = target;
        // Past the service, sometimes.
        if chance.one_in(25) {
            target.set_port(81);
        }
        let client = SocketAddr::new(address.parse().unwrap(), port);
        Self {
            kind,
            call: kinds::call(chance),
            ..Self::between(number, client, target)
        }
    }

    /// Whether two are the same flow.
    pub fn is(&self, other: &Self) -> bool {
        (self.protocol, self.client, self.target) == (other.protocol, other.client, other.target)
    }

    /// Where it comes from.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Where it goes to.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// The next packet of it; and a flow that comes of what it says.
    pub fn go_on(&mut self, world: &mut World, taste: Taste) -> Option<Self> {
        if self.kind == Kind::Ftp
            && self.stage > 2
            && self.server.is_some()
            && !world.chance.one_in(6)
        {
            return ftp::go_on(world, taste, self);
        }
        self.next(world, taste);
        None
    }

    fn next(&mut self, world: &mut World, taste: Taste) {
        let is_unfit = world.chance.one_in(taste.unfit);
        let stage = self.stage;
        self.stage += 1;
        match self.protocol {
            protocol::TCP if is_unfit => {
                let flags = world.chance.of(&[
                    0,
                    FIN,
                    RST,
                    ACK,
                    SYN | ACK,
                    SYN | FIN,
                    FIN | ACK,
                    RST | ACK,
                    0xff,
                    SYN | 0xc0,
                ]);
                let from_server = world.chance.one_in(3);
                self.tcp(world, taste, from_server, flags);
            }
            protocol::TCP => self.go_on_tcp(world, taste, stage),
            protocol::SCTP => self.go_on_sctp(world, taste, stage, is_unfit),
            _ if self.kind == Kind::Ipsec && stage > 0 && world.chance.one_in(2) => {
                self.follow(world, taste);
            }
            _ => {
                let from_server = stage > 0 && world.chance.one_in(2);
                let data = if self.kind == Kind::Sip {
                    kinds::sip_message(&mut world.chance, from_server, self.call)
                } else {
                    let length = self.length(world, taste, 8);
                    world.chance.bytes(length)
                };
                self.send(world, taste, from_server, |from, to| {
                    packet::udp_datagram(from, to, &data)
                });
            }
        }
    }

    fn go_on_tcp(&mut self, world: &mut World, taste: Taste, stage: usize) {
        let (from_server, flags) = match stage {
            0 => (self.is_active, SYN),
            1 => (!self.is_active, SYN | ACK),
            2 => (self.is_active, ACK),
            _ => {
                let from_server = world.chance.one_in(2);
                let flags = match world.chance.below(10) {
                    0 | 1 => FIN | ACK,
                    2 => RST,
                    3 => RST | ACK,
                    4 | 5 => PSH | ACK,
                    6 => SYN,
                    _ => ACK,
                };
                (from_server, flags)
            }
        };
        self.tcp(world, taste, from_server, flags);
    }

    /// Whether the client's SYN may come now. In the place of a control connection of FTP that is over, Linux drops it once,
    /// for nf_conntrack follows the old one; Pollux does not, on purpose, and what comes after differs.
    fn may_begin_anew(&self) -> bool {
        self.kind != Kind::Ftp || !self.is_closing
    }

    fn tcp(&mut self, world: &mut World, taste: Taste, from_server: bool, flags: u8) {
        let flags = if flags & SYN != 0 && !from_server && !self.may_begin_anew() {
            ACK
        } else {
            flags
        };
        self.is_closing |= flags & (FIN | RST) != 0;
        let options = if flags & SYN != 0 && world.chance.one_in(3) {
            world.chance.of(&[
                vec![2, 4, 5, 0xb4, 1, 3, 3, 7],
                vec![
                    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
                ],
                vec![0x22, 2, 1, 1],
                vec![0, 9, 9, 9],
            ])
        } else if world.chance.one_in(8) {
            vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]
        } else {
            Vec::new()
        };
        let side = usize::from(from_server);
        let heard = self.delivered[usize::from(!from_server)].as_deref();
        let heard = heard.and_then(segment::acknowledged).unwrap_or(5001);
        let fields = TcpFields {
            flags,
            sequence: self.said[side],
            acknowledgment: if flags & ACK == 0 { 0 } else { heard },
            options,
        };
        let said = self.said[side];
        self.said[side] += u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let length = if flags & (SYN | RST) == 0 {
            self.length(world, taste, 20 + fields.options.len())
        } else {
            0
        };
        let data = world.chance.bytes(length);
        self.said[side] += u32::try_from(length).unwrap();
        if !segment::is_sound(flags) {
            self.said[side] = said;
        }
        self.send(world, taste, from_server, |from, to| {
            segment::tcp(from, to, &fields, &data)
        });
    }

    /// AH or ESP, which go where the keys were made.
    fn follow(&mut self, world: &mut World, taste: Taste) {
        // AH over IPv6 is an extension header.
        let number = if self.client.is_ipv4() && world.chance.one_in(3) {
            protocol::AH
        } else {
            protocol::ESP
        };
        let from_server = world.chance.one_in(3);
        let length = world.chance.of(&[24, 60, 100]);
        let data = world.chance.bytes(length);
        let keys = std::mem::replace(&mut self.protocol, number);
        let port = |mut end: SocketAddr| {
            end.set_port(0);
            end
        };
        let server = self.server;
        let ends = (self.client, self.target);
        (self.client, self.target) = (port(ends.0), port(ends.1));
        self.server = server.map(|(number, address)| (number, port(address)));
        self.send(world, taste, from_server, |_, _| data.clone());
        self.protocol = keys;
        (self.client, self.target) = ends;
        self.server = server;
    }

    /// Text on a TCP connection, with the numbers that belong to it.
    pub fn say(&mut self, world: &mut World, taste: Taste, from_server: bool, text: &[u8]) {
        let side = usize::from(from_server);
        let heard = self.delivered[usize::from(!from_server)].as_deref();
        let fields = TcpFields {
            flags: PSH | ACK,
            sequence: self.said[side],
            acknowledgment: heard.and_then(segment::acknowledged).unwrap_or(0),
            options: Vec::new(),
        };
        self.said[side] += u32::try_from(text.len()).unwrap();
        // Whole, and as it is: what is lost on the way is said again in truth.
        let taste = Taste {
            fragments: 0,
            checksums: 0,
            ..taste
        };
        self.send(world, taste, from_server, |from, to| {
            segment::tcp(from, to, &fields, text)
        });
    }

    fn go_on_sctp(&mut self, world: &mut World, taste: Taste, stage: usize, is_unfit: bool) {
        let (from_server, kind) = match stage {
            _ if is_unfit => (
                world.chance.one_in(2),
                u8::try_from(world.chance.below(16)).unwrap(),
            ),
            0 => (false, INIT),
            1 => (true, INIT_ACK),
            2 => (false, COOKIE_ECHO),
            3 => (true, COOKIE_ACK),
            // DATA, SACK, HEARTBEAT and its ACK, ABORT, SHUTDOWN and its ACK and COMPLETE.
            _ => (
                world.chance.one_in(2),
                world
                    .chance
                    .of(&[0, 0, 0, 3, 3, 4, 5, 6, 7, 7, 8, 8, 14, 14]),
            ),
        };
        let mut chunks = vec![(kind, vec![0; 16])];
        if world.chance.one_in(4) {
            chunks.push((world.chance.of(&[0, 3, 7]), vec![7; 9]));
        }
        self.send(world, taste, from_server, |from, to| {
            segment::sctp(from, to, &chunks)
        });
    }

    /// How many bytes of data.
    fn length(&self, world: &mut World, taste: Taste, header: usize) -> usize {
        if world.chance.one_in(taste.large) {
            let most = 1500 - header - if self.client.is_ipv4() { 20 } else { 40 };
            return most - world.chance.of(&[0, 0, 1, 8, 20, 28, 32, 40, 41, 100]);
        }
        world.chance.of(&[0, 0, 1, 2, 5, 100])
    }

    /// Sends a payload one way or the other. A server that nobody knows of keeps silent, and so does one that answers its
    /// client past the director.
    fn send(
        &mut self,
        world: &mut World,
        taste: Taste,
        from_server: bool,
        payload: impl Fn(SocketAddr, SocketAddr) -> Vec<u8>,
    ) {
        let (sender, from, to) = match self.server {
            Some((number, address)) if from_server => (Some(number), address, self.client),
            _ if from_server => return,
            _ => (None, self.client, self.target),
        };
        let mut payload = payload(from, to);
        self.spoil(world, taste, &mut payload);
        let header = header(world, taste, from.is_ipv4(), payload.len());
        for bytes in pieces(world, taste, &header, (from, to), self.protocol, &payload) {
            let outcome = world.packet(sender, &bytes);
            self.note(&outcome);
        }
    }

    fn spoil(&self, world: &mut World, taste: Taste, payload: &mut [u8]) {
        if !world.chance.one_in(taste.checksums) {
            return;
        }
        match self.protocol {
            protocol::TCP => payload[17] ^= 0x55,
            protocol::UDP if world.chance.one_in(2) => payload[6..8].fill(0),
            protocol::UDP => payload[7] ^= 0x55,
            protocol::SCTP => payload[8] ^= 0x55,
            _ => {}
        }
    }

    /// Remembers who got what.
    fn note(&mut self, outcome: &Outcome) {
        let out = match outcome {
            Outcome::Out(wire, bytes) => Some((*wire, bytes)),
            Outcome::Fragments(sent) => sent.first().map(|(wire, bytes)| (*wire, bytes)),
            _ => None,
        };
        let Some((wire, frame)) = out else { return };
        let inner = &frame[14..];
        match wire {
            Wire::Cl => self.delivered[1] = Some(inner.to_vec()),
            Wire::Rs => {
                self.delivered[0] = Some(inner.to_vec());
                let number = frame[5].wrapping_sub(0x10);
                self.server = match segment::ends(inner) {
                    // Translated: it knows itself by its own address.
                    Some((from, to, _)) if from == self.client && to.ip() != self.target.ip() => {
                        Some((number, to))
                    }
                    _ => None,
                };
            }
        }
    }
}

/// A header of the family.
fn header(world: &mut World, taste: Taste, is_v4: bool, payload: usize) -> IpHeader {
    let mut header = IpHeader::default();
    let mut steps = world.plan.steps.iter();
    let is_marked =
        steps.any(|step| matches!(step, Action::Command(line) if line.starts_with("nft")));
    let chance = &mut world.chance;
    if chance.one_in(taste.headers) {
        header.hops = chance.of(&[1, 2, 63, 255]);
    }
    if chance.one_in(taste.headers) {
        header.tos = chance.of(&[1, 2, 3, 0x10, 0xb8, 0xff]);
    }
    if chance.one_in(taste.headers) {
        header.flags_fragment = 0;
        header.identification = chance.number();
    }
    if payload < 1400 && chance.one_in(taste.options) {
        if is_v4 {
            header.options = chance.of(&[
                // Nothing; record route with room; router alert.
                vec![1, 1, 1, 0],
                vec![7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                vec![148, 4, 0, 0],
                // Times: alone, with addresses, beside the director's address, without room.
                vec![68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                vec![68, 20, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                vec![68, 12, 5, 3, 10, 1, 0, 1, 0, 0, 0, 0],
                vec![68, 8, 9, 0x10, 1, 2, 3, 4],
                // Record route and a time; what nobody knows.
                vec![7, 7, 4, 0, 0, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0, 1],
                vec![0x1e, 4, 7, 7],
            ]);
        } else {
            header.extensions.push(extension(chance));
            if chance.one_in(4) {
                header.extensions.push(extension(chance));
            }
            // nft's `l4proto` is AH, Pollux' marks go by what is behind.
            if is_marked {
                header
                    .extensions
                    .retain(|(number, _)| *number != protocol::AH);
            }
            // What is for hops on the way comes first, and once.
            header.extensions.sort_by_key(|(number, _)| *number);
            header.extensions.dedup_by_key(|(number, _)| *number);
        }
    }
    header
}

/// An extension header of IPv6, and its bytes after the next header's number.
fn extension(chance: &mut Chance) -> (u8, Vec<u8>) {
    const HOP_BY_HOP: u8 = 0;
    const DESTINATION_OPTIONS: u8 = 60;
    // Padding; something that nobody knows and everybody is to pass over.
    let options = |chance: &mut Chance| {
        chance.of(&[
            vec![0, 1, 4, 0, 0, 0, 0],
            vec![1, 0x1e, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ])
    };
    match chance.below(4) {
        0 => (HOP_BY_HOP, options(chance)),
        // Index, sequence number and check value in words, less two.
        1 => {
            let length = chance.of(&[4, 2]);
            let mut body = vec![length, 0, 0];
            body.extend(chance.bytes(4 * usize::from(length) + 4));
            (protocol::AH, body)
        }
        _ => (DESTINATION_OPTIONS, options(chance)),
    }
}

/// The packet whole, or in fragments of any order, one of which may be missing or come twice.
fn pieces(
    world: &mut World,
    taste: Taste,
    header: &IpHeader,
    ends: (SocketAddr, SocketAddr),
    number: u8,
    payload: &[u8],
) -> Vec<Vec<u8>> {
    let whole = || vec![header.packet(ends.0, ends.1, number, payload)];
    if payload.len() < 32 || !world.chance.one_in(taste.fragments) {
        return whole();
    }
    let chance = &mut world.chance;
    // A first one of IPv6 without the whole header of TCP is none: Pollux drops it, Linux takes it for a packet.
    let least = if number == protocol::TCP && ends.0.is_ipv6() {
        3
    } else {
        1
    };
    let eighths = (payload.len() / 8).saturating_sub(least).max(1);
    let mut starts = vec![0];
    for _ in 0..=chance.below(2) {
        starts.push(8 * (least + chance.below(eighths)));
    }
    starts.retain(|start| *start < payload.len());
    starts.sort_unstable();
    starts.dedup();
    let mut header = IpHeader {
        identification: chance.number(),
        ..header.clone()
    };
    // It is for the whole packet, not for a piece.
    header
        .extensions
        .retain(|(number, _)| *number != protocol::AH);
    let mut pieces = segment::fragments(&header, ends, number, payload, &starts);
    chance.shuffle(&mut pieces);
    if chance.one_in(10) {
        // The kernel gives up what it gathered, in time, and tells its sender; IPVS counts that.
        pieces.pop();
        world.has_gaps = true;
    } else if chance.one_in(10) {
        let again = pieces[0].clone();
        pieces.insert(1, again);
    }
    pieces
}
