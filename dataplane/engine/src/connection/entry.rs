//! One connection in the table: a hot line, and for IPv6 a wide line, made of atomics.
//!
//! ```text
//! hot line   0 life      expires (tick) | state | flags | packets |  changes; compare-and-swap only
//!                        children
//!            1 client    client | virtual address      (IPv4)        fixed from publication to reclamation
//!            2 server    destination | client address  (IPv4)        fixed
//!            3 ports     client | virtual | destination | client     fixed
//!            4 identity  destination number | protocol | family | method
//!            5 service   controlling entry + 1 | service number      fixed; 0 without a controlling entry
//!            6 route     forwarding table generation | adjacency     a cache: any worker may overwrite it
//!                        of a template: its timeout in ticks
//!                        of FTP's control: [`super::ftp_control`]    changes; compare-and-swap only
//!            7 link      next entry of a free list                   only while free
//! wide line  0..4 client and virtual address, 4..8 destination and client address (IPv6)
//! ```
//!
//! The inbound key is words 1 (or wide 0..4) and the high half of 3; the outbound key, by which answers under NAT are
//! found, is words 2 (or wide 4..8) and the low half of 3. What the server sees as its peer is stored, not derived, so
//! that full NAT needs no other layout.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::life::{LIVE, Life, REFRESH_TICKS, Transition};
use super::tcp_state::Side;
use super::{Family, FlowKey, State, Timeouts};
use crate::clock::Tick;
use crate::memory::Line;

/// How packets of a connection reach its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ForwardingMethod {
    /// Network address translation, both directions through the director.
    Masquerade,
    /// IP in IP to the server, which answers the client itself.
    Tunnel,
    /// To the server's MAC unchanged; the server answers the client itself.
    DirectRoute,
}

impl ForwardingMethod {
    fn from_number(number: u64) -> Self {
        match number & 0x0f {
            0 => Self::Masquerade,
            1 => Self::Tunnel,
            _ => Self::DirectRoute,
        }
    }
}

/// Which way a packet of a connection goes: client to director to server is inbound, the way back outbound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client.
    Inbound,
    /// From the server.
    Outbound,
}

/// What makes an entry a template: a client's tie to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// How long it lives after the last connection that came of it, in ticks.
    pub timeout: u32,
    /// The client's address in the words of a key, when the key has it mixed with a call's tag ([`FlowKey::of_call`]).
    pub caller: Option<[u64; 2]>,
}

/// What a new connection is made of.
#[derive(Debug, Clone, Copy)]
pub struct NewConnection {
    /// Client to virtual address.
    pub inbound: FlowKey,
    /// Destination to client, as answers come; none when the destination is of the other family.
    pub outbound: Option<FlowKey>,
    /// Number of the destination.
    pub destination: u32,
    /// Port of the destination, host byte order; of a template, 0 when connections keep theirs.
    pub destination_port: u16,
    /// Number of the service.
    pub service: u32,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// First state.
    pub state: State,
    /// It is no connection, but what connections of a client are made after.
    pub template: Option<Template>,
    /// The entry that controls it, which has counted it ([`Connection::adopt`]).
    pub control: Option<u32>,
    /// Whether its first packets from the client are to be counted ([`Life::packets`]).
    pub counts_packets: bool,
    /// How long it lives before its first state change, in ticks; none: as long as its state says.
    pub lifetime: Option<u32>,
    /// Another director has told of it.
    pub is_synced: bool,
}

/// The number of no destination: that of a connection which another director has told of, and whose server is not known here.
pub const UNBOUND: u32 = u32::MAX;

/// In the byte of the method: a template.
const TEMPLATE: u64 = 0x80;
/// There too: a control connection of FTP, whose packets are not to be translated only.
const FTP_CONTROL: u64 = 0x40;
/// There too: a template of a call.
const CALL: u64 = 0x20;
/// There too: another director has told of it.
const SYNCED: u64 = 0x10;
/// FTP's port for them (RFC 959).
const FTP_PORT: u16 = 21;
/// Where in the word of the identity protocol and family stand, after it was shifted by 32.
const KIND: u64 = 0xffff;

/// An entry of the table.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'t> {
    hot: &'t Line,
    wide: Option<&'t Line>,
}

impl<'t> Connection<'t> {
    pub(super) fn new(hot: &'t Line, wide: Option<&'t Line>) -> Self {
        Self { hot, wide }
    }

    /// Where its first line lies.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self.hot).addr()
    }

    pub(super) fn life_word(&self) -> &AtomicU64 {
        &self.hot.0[0]
    }

    /// The inbound key as it is to be listed, and the tag of a template's call, 48 bits of it.
    pub fn listed(&self) -> (FlowKey, Option<u64>) {
        let mut key = self.key(Direction::Inbound);
        if self.hot.0[4].load(Relaxed) >> 48 & CALL == 0 {
            return (key, None);
        }
        let [first, ..] = key.addresses;
        let tag = match (key.family, self.wide) {
            (Family::V6, Some(wide)) => {
                key.addresses[0] = wide.0[4].load(Relaxed);
                first ^ key.addresses[0]
            }
            _ => {
                let client = self.hot.0[2].load(Relaxed) << 32;
                key.addresses[0] = client | first & 0xffff_ffff;
                (first ^ client) >> 32
            }
        };
        let tag = tag & 0xffff_ffff | u64::from(key.ports >> 16) << 32;
        key.ports &= 0xffff;
        (key, Some(tag))
    }

    /// A number that connections of one time hardly ever share, of its client's address and ports.
    pub fn fingerprint(&self) -> u32 {
        let is_v6 = (self.hot.0[4].load(Relaxed) >> 40) & 0xff == Family::V6 as u64;
        let wide = self.wide.filter(|_| is_v6);
        let client = wide.map_or(&self.hot.0[1], |wide| &wide.0[1]);
        let mixed = client.load(Relaxed) ^ self.hot.0[3].load(Relaxed).rotate_left(21);
        #[allow(clippy::cast_possible_truncation)] // the high half
        let number = (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        number
    }

    /// The changing word.
    #[inline]
    pub fn life(&self) -> Life {
        Life::of_word(self.life_word().load(Acquire))
    }

    /// Writes a free entry; used (not yet live) from the last store on. False when the entry has no room for IPv6.
    pub(super) fn write(&self, new: &NewConnection, expires: Tick) -> bool {
        let outbound = new.outbound.unwrap_or(FlowKey {
            family: new.inbound.family,
            ..FlowKey::NONE
        });
        // Where others have their answers' key.
        let caller = new.template.and_then(|template| template.caller);
        let outbound = match caller {
            Some([high, low]) => FlowKey {
                addresses: [high, low, 0, 0],
                ..outbound
            },
            None => outbound,
        };
        match (new.inbound.family, self.wide) {
            (Family::V4, _) => {
                self.hot.0[1].store(new.inbound.addresses[0], Relaxed);
                self.hot.0[2].store(outbound.addresses[0], Relaxed);
            }
            (Family::V6, None) => return false,
            (Family::V6, Some(wide)) => {
                let words = new.inbound.addresses.iter().chain(&outbound.addresses);
                wide.0
                    .iter()
                    .zip(words)
                    .for_each(|(to, from)| to.store(*from, Relaxed));
            }
        }
        let answer_ports = match new.outbound {
            Some(key) => key.ports,
            None => u32::from(new.destination_port) << 16,
        };
        self.hot.0[3].store(
            u64::from(new.inbound.ports) << 32 | u64::from(answer_ports),
            Relaxed,
        );
        let identity = u64::from(new.destination)
            | u64::from(new.inbound.protocol) << 32
            | (new.inbound.family as u64) << 40
            | (new.method as u64) << 48
            | new.template.map_or(0, |_| TEMPLATE << 48)
            | caller.map_or(0, |_| CALL << 48)
            | if is_ftp_control(new) {
                FTP_CONTROL << 48
            } else {
                0
            }
            | if new.is_synced { SYNCED << 48 } else { 0 };
        self.hot.0[4].store(identity, Relaxed);
        let control = new.control.map_or(0, |number| u64::from(number) + 1);
        self.hot.0[5].store(control << 32 | u64::from(new.service), Relaxed);
        let timeout = new.template.map_or(0, |template| template.timeout);
        self.hot.0[6].store(timeout.into(), Relaxed);
        let answers_pass = new.method == ForwardingMethod::Masquerade;
        let life = Life::begun(new.state, expires, answers_pass, new.counts_packets);
        self.life_word().store(life.word(), Release);
        true
    }

    /// The entry is under all its keys: from now on it may be removed.
    pub(super) fn set_live(&self) {
        self.life_word().fetch_or(LIVE, AcqRel);
    }

    /// Takes a live entry out of use if `condition` still holds; the one caller that gets its last life must unlink it.
    pub(super) fn kill_if(&self, condition: impl Fn(Life) -> bool) -> Option<Life> {
        self.life_word()
            .fetch_update(AcqRel, Acquire, |word| {
                (Life::of_word(word).is_live() && condition(Life::of_word(word))).then_some(0)
            })
            .ok()
            .map(Life::of_word)
    }

    /// Frees an entry that was written but never came under its keys.
    pub(super) fn abandon(&self) {
        self.life_word().store(0, Release);
    }

    /// Whether the entry is the connection this packet belongs to, in this direction.
    #[inline]
    pub fn matches(&self, key: &FlowKey, direction: Direction) -> bool {
        self.matches_in(KIND, key, direction)
    }

    /// The same, but false for a control connection of FTP.
    #[inline]
    pub fn matches_but_ftp(&self, key: &FlowKey, direction: Direction) -> bool {
        self.matches_in(KIND | FTP_CONTROL << 16, key, direction)
    }

    #[inline(always)]
    fn matches_in(&self, mask: u64, key: &FlowKey, direction: Direction) -> bool {
        let identity = self.hot.0[4].load(Relaxed);
        let ports = self.hot.0[3].load(Relaxed);
        #[allow(clippy::cast_possible_truncation)] // the halves are meant
        let (word, ports) = match direction {
            Direction::Inbound => (&self.hot.0[1], (ports >> 32) as u32),
            Direction::Outbound => (&self.hot.0[2], ports as u32),
        };
        let kind = u64::from(key.protocol) | (key.family as u64) << 8;
        if (identity >> 32) & mask != kind || ports != key.ports {
            return false;
        }
        match (key.family, self.wide) {
            (Family::V4, _) => word.load(Relaxed) == key.addresses[0],
            (Family::V6, None) => false,
            (Family::V6, Some(wide)) => {
                let [a, b, c, d, e, f, g, h] = &wide.0;
                let words = if direction == Direction::Inbound {
                    [a, b, c, d]
                } else {
                    [e, f, g, h]
                };
                words
                    .iter()
                    .zip(&key.addresses)
                    .all(|(word, wanted)| word.load(Relaxed) == *wanted)
            }
        }
    }

    /// The key in one direction. An outbound key of a mixed-family connection has no addresses.
    #[allow(clippy::cast_possible_truncation)] // fields of packed words are meant
    pub fn key(&self, direction: Direction) -> FlowKey {
        let identity = self.hot.0[4].load(Relaxed);
        let ports = self.hot.0[3].load(Relaxed);
        let family = if (identity >> 40) & 0xff == Family::V6 as u64 {
            Family::V6
        } else {
            Family::V4
        };
        let mut addresses = [0; 4];
        match (family, self.wide) {
            (Family::V6, Some(wide)) => {
                let skip = if direction == Direction::Inbound {
                    0
                } else {
                    4
                };
                let words = wide.0.iter().skip(skip);
                addresses
                    .iter_mut()
                    .zip(words)
                    .for_each(|(to, from)| *to = from.load(Relaxed));
            }
            _ => {
                let word = if direction == Direction::Inbound {
                    1
                } else {
                    2
                };
                addresses[0] = self.hot.0.get(word).map_or(0, |word| word.load(Relaxed));
            }
        }
        let ports = if direction == Direction::Inbound {
            (ports >> 32) as u32
        } else {
            ports as u32
        };
        FlowKey {
            addresses,
            ports,
            protocol: (identity >> 32) as u8,
            family,
        }
    }

    /// Where an inbound IPv4 packet goes on to (the server), or what an outbound one comes from (the virtual service).
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // fields of packed words are meant
    pub fn translation_v4(&self, direction: Direction) -> (u32, u16) {
        let ports = self.hot.0[3].load(Relaxed);
        match direction {
            Direction::Inbound => (
                (self.hot.0[2].load(Relaxed) >> 32) as u32,
                (ports >> 16) as u16,
            ),
            Direction::Outbound => (self.hot.0[1].load(Relaxed) as u32, (ports >> 32) as u16),
        }
    }

    /// The same for IPv6, the address in two halves.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // fields of packed words are meant
    pub fn translation_v6(&self, direction: Direction) -> ([u64; 2], u16) {
        let ports = self.hot.0[3].load(Relaxed);
        let Some(wide) = self.wide else {
            return ([0; 2], 0);
        };
        let [_, _, c, d, e, f, ..] = &wide.0;
        match direction {
            Direction::Inbound => ([e.load(Relaxed), f.load(Relaxed)], (ports >> 16) as u16),
            Direction::Outbound => ([c.load(Relaxed), d.load(Relaxed)], (ports >> 32) as u16),
        }
    }

    /// Number of its destination.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    pub fn destination(&self) -> u32 {
        self.hot.0[4].load(Relaxed) as u32
    }

    /// How packets reach the destination.
    #[inline]
    pub fn method(&self) -> ForwardingMethod {
        ForwardingMethod::from_number(self.hot.0[4].load(Relaxed) >> 48)
    }

    /// Number of its service.
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    pub fn service(&self) -> u32 {
        self.hot.0[5].load(Relaxed) as u32
    }

    /// Whether answers are looked up by a key of their own.
    #[inline]
    pub fn has_outbound_key(&self) -> bool {
        // A template's byte has another bit set.
        (self.hot.0[4].load(Relaxed) >> 48) & (0xff & !(FTP_CONTROL | SYNCED))
            == ForwardingMethod::Masquerade as u64
    }

    /// Whether it is a control connection of FTP, under NAT.
    #[inline]
    pub fn is_ftp_control(&self) -> bool {
        self.hot.0[4].load(Relaxed) >> 48 & FTP_CONTROL != 0
    }

    /// Whether another director has told of it.
    pub fn is_synced(&self) -> bool {
        self.hot.0[4].load(Relaxed) >> 48 & SYNCED != 0
    }

    /// Takes over state and end from another director, the latter in `timeout` ticks. The change of state is the caller's to
    /// account for.
    pub(crate) fn become_synced(
        &self,
        state: State,
        now: Tick,
        timeout: u32,
    ) -> Option<Transition> {
        let mut end = now.after(timeout);
        if self.is_template() {
            self.route_word().store(timeout.into(), Relaxed);
            end = end.after(REFRESH_TICKS);
        }
        let mut before = None;
        self.change_life(|life| {
            before = Some(life.state());
            Some(life.in_state(state).ending_at(end))
        });
        before
            .filter(|before| *before != state)
            .map(|before| Transition {
                before,
                after: state,
                answered: false,
            })
    }

    /// The adjacency of the way back to the client, if it was found under this generation of the forwarding table.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    pub fn cached_route(&self, generation: u32) -> Option<u32> {
        let word = self.hot.0[6].load(Relaxed);
        ((word >> 32) as u32 == generation).then_some(word as u32)
    }

    /// Remembers the adjacency of the way back.
    #[inline]
    pub fn cache_route(&self, generation: u32, adjacency: u32) {
        self.hot.0[6].store(u64::from(generation) << 32 | u64::from(adjacency), Relaxed);
    }

    /// A packet has passed: steps the state and puts off the end. Writes only when something changed or half a second
    /// has gone by since the last write, so that packets of one connection on two cores do not fight over the line.
    /// The transition is this caller's to account for; none when the state stayed, but that the first answer came.
    #[inline(always)]
    pub fn advance(
        &self,
        now: Tick,
        timeouts: &Timeouts,
        direction: Direction,
        step: impl Fn(State, Side) -> State,
    ) -> Option<Transition> {
        let life = Life::of_word(self.life_word().load(Relaxed));
        if life.stepped(now, timeouts, direction, &step) == life {
            return None;
        }
        (*self).write_step(now, timeouts, direction, step)
    }

    /// Counts a packet from the client, if the connection's are.
    #[inline]
    pub fn count_packet(&self) {
        if self.life().is_counting() {
            self.change_life(|life| Some(life.with_packet()));
        }
    }

    /// By value: a reference would keep the connection in memory on the way that does not come here.
    #[inline(never)]
    fn write_step(
        self,
        now: Tick,
        timeouts: &Timeouts,
        direction: Direction,
        step: impl Fn(State, Side) -> State,
    ) -> Option<Transition> {
        let mut life = Life::of_word(self.life_word().load(Relaxed));
        loop {
            let next = life.stepped(now, timeouts, direction, &step);
            let written = if life == next {
                Ok(life.word())
            } else {
                self.life_word()
                    .compare_exchange_weak(life.word(), next.word(), AcqRel, Relaxed)
            };
            match written {
                Ok(_) => {
                    let (before, after) = (life.state(), next.state());
                    let answered = next.is_first_answer_after(life);
                    return (before != after || answered).then_some(Transition {
                        before,
                        after,
                        answered,
                    });
                }
                Err(current) => life = Life::of_word(current),
            }
        }
    }

    /// The word of the route, which templates and control connections of FTP use otherwise.
    pub(super) fn route_word(&self) -> &AtomicU64 {
        &self.hot.0[6]
    }

    /// The word of the service and of the controlling entry.
    pub(super) fn service_word(&self) -> &AtomicU64 {
        &self.hot.0[5]
    }

    /// The word of the ports.
    pub(super) fn ports_word(&self) -> &AtomicU64 {
        &self.hot.0[3]
    }

    /// Whether it is a template.
    #[inline]
    pub fn is_template(&self) -> bool {
        self.hot.0[4].load(Relaxed) >> 48 & TEMPLATE != 0
    }

    /// Next entry of a free list, as number + 1; 0 at its end.
    pub(super) fn link(&self) -> &AtomicU64 {
        &self.hot.0[7]
    }
}

/// As `tcp_app_conn_bind`: by the port that the client sees, whatever the server's is.
fn is_ftp_control(new: &NewConnection) -> bool {
    new.inbound.is_tcp()
        && new.inbound.destination_port() == FTP_PORT
        && new.method == ForwardingMethod::Masquerade
        && new.outbound.is_some()
}
