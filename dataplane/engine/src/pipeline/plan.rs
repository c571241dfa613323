//! Between look-up and decision: the servers of a burst's new connections are chosen ahead, so that the buckets of their
//! answers' keys are asked for together. A bucket that is asked for when its connection is opened comes from memory
//! while the worker waits: that was half of what a new connection cost.
//!
//! Every choice is the one that would have been made in turn. So only schedulers that look at nothing which a connection
//! changes are asked ahead ([`VirtualService::chooses_ahead`]), in the order of the frames, and not past a frame of which
//! only the decision can say whether it opens a connection.

use arrayvec::ArrayVec;

use super::Worker;
use super::meta::{Kind, Meta};
use super::schedule::{answers_key, opens};
use super::worker::{BURST, Context};
use crate::connection::ForwardingMethod;
use crate::scheduler::Arrival;
use crate::service::{Destination, VirtualService};

/// Servers chosen for flows that have no connection yet, in the order of the burst's frames.
#[derive(Debug, Default)]
pub(super) struct Plans {
    /// Hash of the flow, number of the destination.
    chosen: ArrayVec<(u64, u32), BURST>,
    /// Those before this one were taken or passed over.
    next: usize,
}

impl Plans {
    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        self.chosen.clear();
        self.next = 0;
    }

    fn contains(&self, flow: u64) -> bool {
        self.chosen.iter().any(|(hash, _)| *hash == flow)
    }

    fn take(&mut self, flow: u64) -> Option<u32> {
        let rest = self.chosen.get(self.next..)?;
        let place = rest.iter().position(|(hash, _)| *hash == flow)?;
        let (_, destination) = rest.get(place)?;
        self.next += place + 1;
        Some(*destination)
    }
}

impl Worker {
    /// Chooses the servers of the burst's new connections, as far as that can be known.
    #[inline(never)]
    pub(super) fn plan(&mut self, context: &Context<'_>, metas: &[Meta]) {
        if context.table.was_full(context.now) {
            // A flow that gets no entry is not to take another one's turn.
            return;
        }
        for meta in metas {
            if meta.kind != Kind::Flow || !opens(meta) {
                continue;
            }
            if meta.candidate.is_some() {
                return;
            }
            if self.plans.contains(meta.hash) || !meta.key.has_host_source() {
                continue;
            }
            let Some(service) = context.snapshot.services().find(&meta.key) else {
                continue;
            };
            if !service.chooses_ahead || !self.plan_one(context, meta, service) {
                return;
            }
        }
    }

    fn plan_one(&mut self, context: &Context<'_>, meta: &Meta, service: &VirtualService) -> bool {
        let candidates = context.snapshot.candidates(service);
        let arrival = Arrival {
            key: &meta.key,
            hash: meta.hash,
            now: context.now,
        };
        let Some(chosen) = service.scheduler.pick(candidates, &arrival) else {
            return false;
        };
        if chosen.spec.method == ForwardingMethod::Masquerade
            && let Some(key) = answers_key(&meta.key, chosen)
        {
            context.table.prefetch(context.table.hash(&key));
        }
        // One for each frame at most: there is room.
        let plan = (meta.hash, chosen.spec.number);
        self.plans.chosen.try_push(plan).is_ok()
    }

    /// The server that was chosen for this flow; it is chosen once.
    pub(super) fn take_plan<'c>(
        &mut self,
        context: &Context<'c>,
        meta: &Meta,
    ) -> Option<&'c Destination> {
        let number = self.plans.take(meta.hash)?;
        context.snapshot.destination(number)
    }
}
