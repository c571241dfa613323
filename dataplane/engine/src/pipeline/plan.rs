//! Between look-up and decision: the servers of a burst's new connections are chosen ahead, so that the buckets of their
//! answers' keys are asked for together. A bucket that is asked for when its connection is opened comes from memory
//! while the worker waits: that was half of what a new connection cost.
//!
//! Every choice is the one that would have been made in turn: in the order of the frames, and not past a frame of which
//! only the decision can say whether it opens a connection. Where a connection, by being there, may change who gets the
//! next one ([`VirtualService::binds_ahead`]), a planned one counts for its server at once; then nothing is planned past
//! a frame that may change a count either. A plan that comes to nothing is taken back.

use arrayvec::ArrayVec;

use super::Worker;
use super::meta::{Kind, Meta};
use super::schedule::{FTP_DATA, answers_key, first_state, is_one_packet, opens};
use super::worker::{BURST, Context};
use crate::connection::{ForwardingMethod, State};
use crate::scheduler::Arrival;
use crate::service::{Destination, ServiceIdentity, VirtualService};
use crate::settings::Defence;
use crate::wire::tcp::flag;

/// The server of a flow that has no connection yet.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// The flow's hash.
    flow: u64,
    /// The place of its service.
    service: usize,
    /// Number of the destination.
    destination: u32,
    /// In which state the connection counts for it already.
    bound: Option<State>,
    taken: bool,
}

/// Plans of a burst, in the order of its frames.
#[derive(Debug, Default)]
pub(super) struct Plans {
    plans: ArrayVec<Plan, BURST>,
    /// Flows that may have one: a bit for the low bits of each one's hash.
    maybe: [u64; 4],
    /// Those before this one were taken or passed over.
    next: usize,
}

impl Plans {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    fn contains(&self, flow: u64) -> bool {
        let (word, bit) = place_of(flow);
        self.maybe.get(word).is_some_and(|word| word & bit != 0)
            && self.plans.iter().any(|plan| plan.flow == flow)
    }

    fn push(&mut self, plan: Plan) {
        let (word, bit) = place_of(plan.flow);
        if let Some(word) = self.maybe.get_mut(word) {
            *word |= bit;
        }
        // One for each frame at most: there is room.
        let _ = self.plans.try_push(plan);
    }

    /// The place of the service that this flow is for, if it has a plan.
    pub fn service_of(&self, flow: u64) -> Option<usize> {
        let rest = self.plans.get(self.next..)?;
        let plan = rest.iter().find(|plan| plan.flow == flow)?;
        Some(plan.service)
    }

    fn take(&mut self, flow: u64) -> Option<Plan> {
        let rest = self.plans.get_mut(self.next..)?;
        let place = rest.iter().position(|plan| plan.flow == flow)?;
        self.next += place + 1;
        let plan = rest.get_mut(place)?;
        plan.taken = true;
        Some(*plan)
    }
}

impl Worker {
    /// Chooses the servers of the burst's new connections, as far as that can be known.
    #[inline(never)]
    pub(super) fn plan(&mut self, context: &Context<'_>, metas: &[Meta]) {
        if context.table.was_full(context.now)
            || context.snapshot.settings().drop_packet != Defence::Never
        {
            // A flow that gets no entry is not to take another one's turn.
            return;
        }
        let mut counts_may_change = false;
        let mut services = context.snapshot.services().in_a_row(self.ingress);
        for meta in metas {
            // It may take a turn, of which only the decision can say.
            if meta.is_error() && context.snapshot.settings().schedule_icmp {
                return;
            }
            if meta.kind != Kind::Flow || !opens(context, meta) {
                counts_may_change |= may_change_a_count(meta);
                continue;
            }
            // Which service it is for, only the decision can say, too.
            if meta.candidate.is_some() || meta.has_extension_headers() {
                return;
            }
            if self.plans.contains(meta.hash) || !meta.key.has_host_source() {
                continue;
            }
            let Some((place, service)) = services.find(&meta.key) else {
                continue;
            };
            // No other service's choices depend on these.
            if !is_planned(service, meta) {
                continue;
            }
            if (service.binds_ahead && counts_may_change)
                || !self.plan_one(context, meta, (place, service))
            {
                return;
            }
        }
    }

    fn plan_one(
        &mut self,
        context: &Context<'_>,
        meta: &Meta,
        (place, service): (usize, &VirtualService),
    ) -> bool {
        let candidates = context.snapshot.candidates(service);
        let arrival = Arrival {
            key: &meta.key,
            is_quoted: meta.is_error(),
            hash: meta.hash,
            now: context.now,
            microsecond: self.microsecond,
        };
        let Some(chosen) = service.scheduler.pick(candidates, &arrival) else {
            return false;
        };
        if chosen.spec.method == ForwardingMethod::Masquerade
            && let Some(key) = answers_key(
                &meta.key,
                chosen,
                chosen.port_for(meta.key.destination_port()),
            )
        {
            context.table.prefetch(context.table.hash(&key));
        }
        let bound = service
            .binds_ahead
            .then(|| first_state(context, meta, chosen));
        if let Some(state) = bound {
            chosen.bind(state);
        }
        self.plans.push(Plan {
            flow: meta.hash,
            service: place,
            destination: chosen.spec.number,
            bound,
            taken: false,
        });
        true
    }

    /// The server that was chosen for this flow, and the state in which the connection counts for it already.
    pub(super) fn take_plan<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
    ) -> Option<(&'c Destination, Option<State>)> {
        let plan = self.plans.take(meta.hash)?;
        Some((context.snapshot.destination(plan.destination)?, plan.bound))
    }

    /// Takes back what was planned and not done.
    #[inline(never)]
    pub(super) fn end_plans(&mut self, context: &Context<'_>) {
        for plan in self.plans.plans.drain(..).filter(|plan| !plan.taken) {
            if let Some(state) = plan.bound
                && let Some(destination) = context.snapshot.destination(plan.destination)
            {
                destination.unbind(state);
            }
        }
        self.plans.next = 0;
        self.plans.maybe = [0; 4];
    }
}

/// Which word of [`Plans::maybe`], and which bit of it.
#[inline]
fn place_of(flow: u64) -> (usize, u64) {
    ((flow >> 6) as usize & 3, 1 << (flow & 63))
}

/// Whether the scheduler alone says where the packet goes, and a connection is kept.
fn is_planned(service: &VirtualService, meta: &Meta) -> bool {
    let of_mark = matches!(service.identity, ServiceIdentity::Fwmark { .. });
    service.persistence.is_none()
        && !is_one_packet(service, meta)
        && (of_mark || service.identity.port() == meta.key.destination_port())
        && meta.key.source().port() != FTP_DATA
}

/// Whether a packet that opens nothing may make an active connection inactive, or the other way round: a segment with no
/// more than an acknowledgement does not.
fn may_change_a_count(meta: &Meta) -> bool {
    let flags = meta.tcp_flags & (flag::SYN | flag::FIN | flag::RST | flag::ACK);
    meta.kind == Kind::Flow && flags != flag::ACK
}
