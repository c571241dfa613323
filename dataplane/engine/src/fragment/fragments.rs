//! One worker's fragments: what waits, and what becomes of a datagram when it is whole.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::cut::{Cuts, cut};
use super::datagram::Datagram;
use super::piece::{DONT_FRAGMENT, Piece};
use super::slot::{Added, PIECES_MAX, Slot, Waiting};
use crate::clock::{Tick, seconds};
use crate::connection::Family;
use crate::fate::Fate;
use crate::frame::Frame;
use crate::pipeline::{Context, Verdict, Whole, Worker};

/// Datagrams that wait at once; more, and the oldest goes.
const SLOTS: usize = 128;
/// Fragments that wait at once, of all datagrams: they are taken from the same buffers as what is received.
const WAITING_MAX: usize = 1024;
/// How long a datagram waits for its rest: Linux' `ipfrag_time` and `ip6frag_time`.
const PATIENCE_V4: u32 = seconds(30);
const PATIENCE_V6: u32 = seconds(60);
/// Frames of one datagram, at most: the largest one, cut for the narrowest way.
const OUTGOING_MAX: usize = 2 * PIECES_MAX;

/// A frame and what is to be done with it, as if [`Worker::process`] had said so.
#[derive(Debug)]
pub struct Outgoing<F> {
    /// The port on whose account it stands.
    pub ingress: u16,
    /// The frame.
    pub frame: F,
    /// What to do.
    pub verdict: Verdict,
}

/// Fragments that wait, and the buffer in which datagrams are whole.
#[derive(Debug)]
pub struct Fragments<F> {
    slots: Vec<Slot<F>>,
    waiting: usize,
    datagram: Datagram,
    outgoing: VecDeque<Outgoing<F>>,
    /// Frames of the current datagram that can be written anew.
    reusable: ArrayVec<F, PIECES_MAX>,
}

impl<F: Frame> Default for Fragments<F> {
    fn default() -> Self {
        Self {
            slots: Vec::with_capacity(SLOTS),
            waiting: 0,
            datagram: Datagram::default(),
            outgoing: VecDeque::with_capacity(OUTGOING_MAX),
            reusable: ArrayVec::new(),
        }
    }
}

impl<F: Frame> Fragments<F> {
    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is to be sent, oldest first; to be emptied after each call of the others.
    pub fn outgoing(&mut self) -> impl Iterator<Item = Outgoing<F>> {
        self.outgoing.drain(..)
    }

    /// The next of [`Fragments::outgoing`].
    pub fn next_outgoing(&mut self) -> Option<Outgoing<F>> {
        self.outgoing.pop_front()
    }

    /// Takes a fragment in, or lets one through that will never be put together. When its datagram is whole, that is decided about and cut again; `spare` gives frames that
    /// it needs beyond those it came in.
    pub fn gather(
        &mut self,
        worker: &mut Worker,
        context: &Context<'_>,
        ingress: u16,
        frame: F,
        spare: &mut impl FnMut() -> Option<F>,
    ) {
        let Some(piece) = Piece::read(frame.bytes()) else {
            worker.count(ingress, Fate::FragmentBroken);
            return;
        };
        if !piece.has_headers() {
            let mut frame = frame;
            let verdict = worker.lone_fragment(context, ingress, &mut frame, piece.transport());
            self.outgoing.push_back(Outgoing {
                ingress,
                frame,
                verdict,
            });
            return;
        }
        let new = Waiting {
            piece,
            ingress,
            frame,
        };
        let place = self.place_of(worker, context.now, &piece);
        let Some(slot) = self.slots.get_mut(place) else {
            worker.count(ingress, Fate::FragmentsFull);
            return;
        };
        match slot.add(new) {
            Added::Waits => self.note_waiting(worker, ingress),
            Added::Whole => {
                self.note_waiting(worker, ingress);
                self.decide(worker, context, place, spare);
            }
            Added::Refused(refused, fate) => {
                worker.count(refused.ingress, fate);
                if slot.pieces.is_empty() {
                    self.slots.swap_remove(place);
                }
            }
            Added::Spoilt(refused, fate) => {
                worker.count(refused.ingress, fate);
                self.give_up(worker, place, fate);
            }
        }
    }

    /// Cuts a packet that is too large for its way ([`Verdict::Split`]).
    pub fn split(
        &mut self,
        worker: &mut Worker,
        context: &Context<'_>,
        ingress: u16,
        frame: F,
        spare: &mut impl FnMut() -> Option<F>,
    ) {
        if !self.datagram.refill([frame.bytes(), &[], &[]]) {
            worker.count(ingress, Fate::NoFragmentRoom);
            return;
        }
        // There is room for one.
        let _ = self.reusable.try_push(frame);
        let whole = Whole {
            fragment_max: None,
            is_counted: true,
        };
        let verdict = worker.process_whole(context, ingress, &mut self.datagram, whole);
        self.send(worker, verdict, &[ingress], &[], spare);
    }

    /// Gives up datagrams whose rest has not come in time.
    pub fn expire(&mut self, worker: &Worker, now: Tick) {
        let mut place = 0;
        while let Some(slot) = self.slots.get(place) {
            if slot.expires.has_passed(now) {
                self.give_up(worker, place, Fate::FragmentTimeout);
            } else {
                place += 1;
            }
        }
    }

    fn note_waiting(&mut self, worker: &Worker, ingress: u16) {
        self.waiting += 1;
        if let Some(port) = worker.counters().port(ingress.into()) {
            port.held.add(1);
        }
    }

    /// The slot of the fragment's datagram, a new one if need be.
    fn place_of(&mut self, worker: &Worker, now: Tick, piece: &Piece) -> usize {
        let known = self.slots.iter().position(|slot| slot.key == piece.key);
        if let Some(place) = known.filter(|_| self.waiting < WAITING_MAX) {
            return place;
        }
        if self.slots.len() >= SLOTS || self.waiting >= WAITING_MAX {
            let ages = self.slots.iter().enumerate();
            let oldest = ages.max_by_key(|(_, slot)| slot.expires.until(now));
            if let Some((place, _)) = oldest {
                self.give_up(worker, place, Fate::FragmentsFull);
            }
        }
        let known = self.slots.iter().position(|slot| slot.key == piece.key);
        known.unwrap_or_else(|| {
            let patience = match piece.key.family {
                Family::V4 => PATIENCE_V4,
                Family::V6 => PATIENCE_V6,
            };
            self.slots.push(Slot::new(piece.key, now.after(patience)));
            self.slots.len() - 1
        })
    }

    /// Frees a slot; all that waited in it meets this fate.
    fn give_up(&mut self, worker: &Worker, place: usize, fate: Fate) {
        let slot = self.slots.swap_remove(place);
        for waiting in slot.pieces {
            self.waiting -= 1;
            if let Some(port) = worker.counters().port(waiting.ingress.into()) {
                port.held.subtract(1);
                port.count(fate);
            }
        }
    }

    /// A datagram is whole.
    fn decide(
        &mut self,
        worker: &mut Worker,
        context: &Context<'_>,
        place: usize,
        spare: &mut impl FnMut() -> Option<F>,
    ) {
        let slot = self.slots.swap_remove(place);
        let mut accounts = ArrayVec::<u16, PIECES_MAX>::new();
        let mut lengths = ArrayVec::<usize, PIECES_MAX>::new();
        for waiting in &slot.pieces {
            self.waiting -= 1;
            if let Some(port) = worker.counters().port(waiting.ingress.into()) {
                port.held.subtract(1);
            }
            // As many as fragments.
            let _ = accounts.try_push(waiting.ingress);
            let _ = lengths.try_push(waiting.piece.length);
        }
        let largest = slot.pieces.iter().map(|waiting| waiting.piece.packet_bytes);
        let fragment_max = largest.max();
        let ingress = accounts.first().copied().unwrap_or(0);
        if !put_together(&mut self.datagram, &slot.pieces) {
            accounts
                .iter()
                .for_each(|ingress| worker.count(*ingress, Fate::FragmentBroken));
            return;
        }
        let whole = Whole {
            fragment_max,
            is_counted: false,
        };
        let verdict = worker.process_whole(context, ingress, &mut self.datagram, whole);
        let first = slot.pieces.first().map(|waiting| waiting.piece);
        if first.is_some_and(|first| first.is_rewritten_in(self.datagram.bytes())) {
            lengths.clear();
        }
        if let Verdict::Punt(_) = verdict {
            self.outgoing
                .extend(slot.pieces.into_iter().map(|waiting| Outgoing {
                    ingress: waiting.ingress,
                    frame: waiting.frame,
                    verdict: Verdict::Punt(Fate::PuntedFragment),
                }));
            return;
        }
        let frames = slot.pieces.into_iter().map(|waiting| waiting.frame);
        self.reusable.extend(frames);
        self.send(worker, verdict, &accounts, &lengths, spare);
    }

    /// Carries out a verdict on the whole packet, with frames on these ports' accounts.
    fn send(
        &mut self,
        worker: &mut Worker,
        verdict: Verdict,
        accounts: &[u16],
        as_came: &[usize],
        spare: &mut impl FnMut() -> Option<F>,
    ) {
        let Self {
            datagram,
            outgoing,
            reusable,
            ..
        } = self;
        // The packet is counted once; the other frames it came in have the same fate.
        let others = |worker: &Worker, fate: Fate| {
            for ingress in accounts.iter().skip(1) {
                worker.count(*ingress, fate);
            }
        };
        let first = accounts.first().copied().unwrap_or(0);
        let begin = outgoing.len();
        let one = |frame: F, verdict| Outgoing {
            ingress: first,
            frame,
            verdict,
        };
        match verdict {
            Verdict::Forward { .. } | Verdict::Hold { .. } => {
                let (limit, above) = worker.cut_limits();
                let cuts = Cuts {
                    as_came,
                    limit,
                    above,
                    identification: worker.next_identification().into(),
                };
                let next = || reusable.pop_at(0).or_else(&mut *spare);
                let done = |frame| outgoing.push_back(one(frame, verdict));
                let written = cut(datagram.bytes(), cuts, next, done);
                if written.is_none() {
                    outgoing.truncate(begin);
                    accounts
                        .iter()
                        .for_each(|ingress| worker.count(*ingress, Fate::NoFragmentRoom));
                }
                settle(outgoing.range_mut(begin..), accounts, worker);
            }
            Verdict::Answer { .. } | Verdict::HoldAnswer { .. } => {
                others(worker, worker.last_fate());
                if let Some(mut frame) = reusable.pop()
                    && frame.refill([datagram.bytes(), &[], &[]])
                {
                    outgoing.push_back(one(frame, verdict));
                }
            }
            Verdict::Punt(fate) => {
                if let Some(frame) = reusable.pop() {
                    outgoing.push_back(one(frame, Verdict::Punt(fate)));
                }
            }
            Verdict::Drop => others(worker, worker.last_fate()),
            // It is no fragment, and may be split: neither is said of it.
            Verdict::Gather | Verdict::Split => {
                accounts
                    .iter()
                    .for_each(|ingress| worker.count(*ingress, Fate::NoFragmentRoom));
            }
        }
        reusable.clear();
    }
}

/// Every frame that was received meets one fate: of those sent each stands for one that came, as long as there are any; more
/// are on nobody's account; and where fewer are sent, the rest has been forwarded too.
fn settle<'f, F: 'f>(
    sent: impl ExactSizeIterator<Item = &'f mut Outgoing<F>>,
    accounts: &[u16],
    worker: &Worker,
) {
    let count = sent.len();
    if count == 0 {
        return;
    }
    for (number, outgoing) in sent.enumerate() {
        match accounts.get(number) {
            Some(ingress) => outgoing.ingress = *ingress,
            None => {
                outgoing.verdict = match outgoing.verdict {
                    Verdict::Forward { port } => Verdict::Answer { port },
                    Verdict::Hold { place } => Verdict::HoldAnswer { place },
                    other => other,
                };
            }
        }
    }
    for ingress in accounts.iter().skip(count) {
        worker.count(*ingress, Fate::Forwarded);
    }
}

/// Writes the packet that a datagram's fragments make up, with the link header of the first. DF stays if the largest
/// fragment had it (`ip_frag_reasm`).
fn put_together<F: Frame>(datagram: &mut Datagram, pieces: &[Waiting<F>]) -> bool {
    let Some(first) = pieces.first() else {
        return false;
    };
    let piece = &first.piece;
    let bytes = first.frame.bytes();
    let fragment_header = match piece.key.family {
        Family::V4 => 0,
        Family::V6 => crate::wire::ipv6::FRAGMENT_HEADER_BYTES,
    };
    let Some(headers) = bytes.get(..piece.payload - fragment_header) else {
        return false;
    };
    if !datagram.refill([headers, &[], &[]]) {
        return false;
    }
    for waiting in pieces {
        let Piece {
            payload, length, ..
        } = waiting.piece;
        let part = waiting.frame.bytes().get(payload..payload + length);
        if !part.is_some_and(|part| datagram.extend(part)) {
            return false;
        }
    }
    let largest = pieces
        .iter()
        .map(|waiting| waiting.piece.packet_bytes)
        .max();
    let keeps_df = pieces
        .iter()
        .any(|waiting| waiting.piece.dont_fragment && Some(waiting.piece.packet_bytes) == largest);
    let packet = datagram.bytes_mut().get_mut(piece.ip..).unwrap_or_default();
    match piece.key.family {
        Family::V4 => mend_v4(packet, piece.payload - piece.ip, keeps_df),
        Family::V6 => mend_v6(packet, piece.key.protocol),
    }
    .is_some()
}

fn mend_v4(packet: &mut [u8], header_bytes: usize, dont_fragment: bool) -> Option<()> {
    let total = u16::try_from(packet.len()).ok()?;
    let flags = if dont_fragment { DONT_FRAGMENT } else { 0 };
    packet.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
    packet.get_mut(6..8)?.copy_from_slice(&flags.to_be_bytes());
    let header = packet.get_mut(..header_bytes)?;
    super::cut::fill_checksum(header);
    Some(())
}

/// The fragment header is gone: what announced it announces the protocol.
fn mend_v6(packet: &mut [u8], protocol: u8) -> Option<()> {
    use crate::wire::ipv6::{IPV6_BYTES, fragment_header};

    let payload = u16::try_from(packet.len().checked_sub(IPV6_BYTES)?).ok()?;
    packet
        .get_mut(4..6)?
        .copy_from_slice(&payload.to_be_bytes());
    let mut at = 6;
    let mut next = IPV6_BYTES;
    while *packet.get(at)? != fragment_header::NUMBER {
        let length = usize::from(*packet.get(next + 1)?);
        at = next;
        next += (length + 1) << 3;
    }
    *packet.get_mut(at)? = protocol;
    Some(())
}
