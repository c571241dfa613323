//! Snapshots of what changed: a change of some services costs those services, however many others there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use pollux_api::ServiceId;
use pollux_engine::service::ServiceSpec;
use pollux_engine::{Snapshot, Tick};

use super::Running;
use crate::compile;
use crate::numbering::DestinationNumber;
use crate::state::{NextState, State};

/// A snapshot that was the running one before the last change of some services. It becomes the next one, so that a change
/// costs neither the memory nor the time of all services.
pub(super) struct Spare {
    snapshot: Arc<Snapshot>,
    /// What the running one has that this one lacks.
    missing: Part,
}

/// A part of what runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    services: Vec<ServiceId>,
    /// Numbers of destinations to which no connection refers any more.
    freed: Vec<DestinationNumber>,
}

/// Of more services than this, compiling everything costs no more.
const PART_MAX: usize = 256;

impl Part {
    /// What a transaction changes; none when that is not only services, or too many of them.
    pub fn of(before: &State, next: &NextState) -> Option<Self> {
        let (before, after) = (&before.configuration, &next.state.configuration);
        let is_of_services = before.settings == after.settings
            && before.marks == after.marks
            && before.sync == after.sync
            && next.changed.len() <= PART_MAX;
        is_of_services.then(|| Self {
            services: next.changed.clone(),
            freed: Vec::new(),
        })
    }

    /// Numbers that became free.
    pub fn of_freed(freed: Vec<DestinationNumber>) -> Self {
        Self {
            services: Vec::new(),
            freed,
        }
    }
}

impl Spare {
    /// A snapshot that ran until a part of it changed.
    pub fn new(snapshot: Arc<Snapshot>, changed: Part) -> Self {
        Self {
            snapshot,
            missing: changed,
        }
    }
}

/// A snapshot, and the services of it that were compiled, if not all.
pub(super) type Compiled = (Arc<Snapshot>, Option<Vec<ServiceSpec>>);

impl Running {
    /// Everything.
    pub(super) fn compile_all(
        &self,
        ports: &[&str],
        current: &Snapshot,
        when: (u64, Tick),
        edited: &BTreeSet<ServiceId>,
        workers: usize,
    ) -> Compiled {
        let State {
            configuration,
            numbering,
            ..
        } = &self.state;
        let in_force = configuration.in_force();
        let mut spec = compile::services(&in_force, ports, numbering, when, edited);
        spec.check_paths = compile::check_paths(configuration);
        self.daemons.put_into(&mut spec);
        let forwarding = Arc::clone(&self.forwarding);
        let next = Snapshot::compile(&spec, forwarding, Some(current), workers);
        (Arc::new(next), None)
    }

    /// The part; all else has to be as in `current`.
    pub(super) fn compile_part(
        &mut self,
        part: &Part,
        current: &Arc<Snapshot>,
        when: (u64, Tick),
        edited: &BTreeSet<ServiceId>,
    ) -> Compiled {
        let spare = self.spare.take();
        // Whoever looks at one right now keeps it.
        let spare = spare.filter(|spare| Arc::strong_count(&spare.snapshot) == 1);
        let Spare {
            mut snapshot,
            missing,
        } = spare.unwrap_or_else(|| Spare {
            snapshot: Arc::new(Snapshot::clone(current)),
            missing: Part::default(),
        });
        let services = missing.services.iter().chain(&part.services);
        let services: BTreeSet<ServiceId> = services.copied().collect();
        let freed = missing.freed.iter().chain(&part.freed).copied();
        let change = compile::change(&self.state, services.into_iter(), freed, when, edited);
        Arc::make_mut(&mut snapshot).catch_up(&change, current);
        (snapshot, Some(change.services))
    }
}
