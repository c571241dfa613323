//! A packet without a connection: is it for a service, and which destination gets it?

use super::Worker;
use super::decide::next_state;
use super::meta::Meta;
use super::without_entry::{Answer, answer, destination_by_hash};
use super::worker::{Context, unbind};
use crate::connection::{
    Family, FlowKey, ForwardingMethod, Hit, InsertError, NewConnection, State, tcp_state,
};
use crate::fate::Fate;
use crate::scheduler::{Arrival, Candidates};
use crate::service::{Destination, VirtualService};
use crate::wire::tcp::flag;

/// An entry in the way may have to be removed before a new connection fits; once is enough but for a lost race.
const ATTEMPTS: usize = 3;

/// What becomes of a packet without a connection.
pub(super) enum Scheduled<'c> {
    /// It has one now.
    Connection(Hit<'c>),
    /// The table is full, and its flow goes to this destination, always the same one, without an entry.
    WithoutEntry(&'c Destination),
    /// It answers a flow without an entry.
    AnswerWithoutEntry(Answer<'c>),
    /// It is the kernel's.
    NotOurs,
}

impl Worker {
    /// What a packet without a connection is to be done with.
    ///
    /// # Errors
    /// Why the packet goes no further.
    pub(super) fn schedule<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
    ) -> Result<Scheduled<'c>, Fate> {
        let opens = opens(meta);
        let was_full = context.table.was_full(context.now);
        if !opens && !was_full {
            return Ok(Scheduled::NotOurs);
        }
        let Some(service) = context.snapshot.services().find(&meta.key) else {
            let answer = was_full.then(|| answer(context, meta)).flatten();
            return Ok(answer.map_or(Scheduled::NotOurs, Scheduled::AnswerWithoutEntry));
        };
        // Answers to such a source would go to many, or come back: the kernel knows what to do with a martian.
        if !meta.key.has_host_source() {
            return Ok(Scheduled::NotOurs);
        }
        let candidates = context.snapshot.candidates(service);
        if !opens {
            // Perhaps a flow that found the table full when it began.
            let found = destination_by_hash(context, candidates, &meta.key, meta.hash);
            return Ok(found.map_or(Scheduled::NotOurs, Scheduled::WithoutEntry));
        }
        // Asked first: a flow that gets no entry is not to take another one's turn.
        if !self.shard.has_room(context.table, meta.key.family) {
            return full(context, candidates, meta);
        }
        let (chosen, bound) = match self.take_plan(context, meta) {
            Some(planned) => planned,
            None => {
                let arrival = Arrival {
                    key: &meta.key,
                    hash: meta.hash,
                    now: context.now,
                };
                let chosen = service.scheduler.pick(candidates, &arrival);
                (chosen.ok_or(Fate::NoDestination)?, None)
            }
        };
        let opened = self.open(context, meta, service, chosen);
        match (&opened, bound) {
            (Ok((_, true)), None) => chosen.bind(first_state(meta, chosen)),
            (Ok((_, true)), Some(_)) | (_, None) => {}
            // Another worker was faster, or there is no room: it counts for nothing.
            (_, Some(state)) => chosen.unbind(state),
        }
        match opened {
            Err(Fate::TableFull) => full(context, candidates, meta),
            other => other.map(|(hit, _)| Scheduled::Connection(hit)),
        }
    }

    /// Inserts a connection to the chosen destination, unless another worker has just inserted one of the same flow; and
    /// whether it did, so that the caller has it counted for the destination.
    fn open<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
        service: &VirtualService,
        chosen: &Destination,
    ) -> Result<(Hit<'c>, bool), Fate> {
        let new = new_connection(meta, service, chosen);
        for _ in 0..ATTEMPTS {
            let timeouts = context.snapshot.timeouts();
            match self
                .shard
                .insert(context.table, &new, context.now, timeouts)
            {
                Ok(hit) => {
                    self.counters.connections_created.add(1);
                    if let Some(traffic) = chosen.traffic(self.number) {
                        traffic.connections.add(1);
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

    /// Ends an entry in the way if it has expired or, when `over_is_enough`, if its connection is over.
    fn clear_away(&mut self, context: &Context<'_>, number: u32, over_is_enough: bool) {
        let ended = self.shard.end(context.table, number, |life| {
            let over = matches!(life.state(), State::TimeWait | State::Close);
            life.expires().has_passed(context.now) || (over_is_enough && over)
        });
        if let Some(ended) = ended {
            unbind(context.snapshot, ended);
        }
    }
}

/// Whether a packet may open a connection: Linux schedules any TCP segment that has SYN set, and no other.
#[inline]
pub(super) fn opens(meta: &Meta) -> bool {
    !meta.key.is_tcp() || meta.tcp_flags & flag::SYN != 0
}

/// A new flow finds the table full.
#[cold]
fn full<'c>(
    context: &Context<'c>,
    candidates: Candidates<'c>,
    meta: &Meta,
) -> Result<Scheduled<'c>, Fate> {
    context.table.note_full(context.now);
    if !candidates.iter().any(Destination::is_usable) {
        return Err(Fate::NoDestination);
    }
    destination_by_hash(context, candidates, &meta.key, meta.hash)
        .map(Scheduled::WithoutEntry)
        .ok_or(Fate::TableFull)
}

/// The state that a new connection begins in.
pub(super) fn first_state(meta: &Meta, chosen: &Destination) -> State {
    let side = match chosen.spec.method {
        ForwardingMethod::Masquerade => tcp_state::Side::Input,
        ForwardingMethod::Tunnel | ForwardingMethod::DirectRoute => tcp_state::Side::InputOnly,
    };
    next_state(State::None, side, meta)
}

fn new_connection(meta: &Meta, service: &VirtualService, chosen: &Destination) -> NewConnection {
    let spec = &chosen.spec;
    NewConnection {
        inbound: meta.key,
        outbound: answers_key(&meta.key, chosen),
        destination: spec.number,
        service: service.number,
        method: spec.method,
        state: first_state(meta, chosen),
    }
}

/// Destination to client, as answers under NAT come; none when the destination is of the other family.
pub(super) fn answers_key(inbound: &FlowKey, chosen: &Destination) -> Option<FlowKey> {
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
    key.ports = u32::from(chosen.spec.port) << 16 | key.ports & 0xffff;
    debug_assert_eq!(key.destination_address(), inbound.source().ip());
    Some(key)
}
