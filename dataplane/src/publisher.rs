//! The one place where what runs is changed: transactions and the kernel's news become snapshots.
//!
//! ```text
//! Transaction ─► Configuration::apply ─► numbers ─► state file ─┐
//!                                                               ├─► Snapshot ─► swap ─► every worker has it ─► answer
//! KernelView ───────────────────► ForwardingTable ──────────────┘
//! ```
//!
//! A transaction is checked whole before anything of it is done. It is stored before it runs, so that whatever was
//! answered "done" is what a data plane that comes back runs.

mod part;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dpdk_bindings::Member;
use pollux_api::line::{Failure, FailureCode};
use pollux_api::{Configuration, ServiceId, Transaction};
use pollux_engine::Snapshot;
use pollux_engine::counters::WorkerCounters;
use pollux_engine::forwarding_table::ForwardingTable;
use tokio::sync::Mutex;

use crate::busy_share::{BusyShare, BusyShareSampler};
use crate::compile;
use crate::compile::PortFacts;
use crate::kernel::{KernelView, MirrorHandle};
use crate::neighbours_in_use::NeighboursInUse;
use crate::numbering::DestinationNumber;
use crate::port::OpenPort;
use crate::state::{NextState, State};
use crate::state_files::{Record, StateDirectory};
use crate::synchronisation::Daemons;
use crate::totals::Totals;
use crate::trash::Trash;
use crate::worker::{Shared, now_nanoseconds, tick_of};
use part::{Part, Spare};

/// How often the publisher looks whether every worker has a new snapshot.
const ACKNOWLEDGE_POLL: Duration = Duration::from_millis(1);
/// A worker that does not come by in this time is stuck.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often removed destinations are looked at ([`Trash`]).
const TRASH_PERIOD: Duration = Duration::from_secs(2);
/// Over which the workers' busy shares are measured.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// Changes what runs, and tells how it does ([`crate::reports`]).
pub struct Publisher {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ports: Vec<OpenPort>,
    pub(crate) cores: Vec<u16>,
    pub(crate) counters: Vec<Arc<WorkerCounters>>,
    pub(crate) busy_share: BusyShare,
    state_directory: Arc<StateDirectory>,
    mirror: MirrorHandle,
    running: Mutex<Running>,
}

/// The workers, as far as the control side reaches.
pub struct Workers {
    /// Table, snapshot, stop.
    pub shared: Arc<Shared>,
    /// Their ports.
    pub ports: Vec<OpenPort>,
    /// Their cores, by worker.
    pub cores: Vec<u16>,
    /// Their counters, by worker.
    pub counters: Vec<Arc<WorkerCounters>>,
}

/// What runs.
pub(crate) struct Running {
    pub state: State,
    pub totals: Totals,
    trash: Trash,
    neighbours: NeighboursInUse,
    forwarding: Arc<ForwardingTable>,
    pub daemons: Daemons,
    spare: Option<Spare>,
}

/// The first snapshot of a process: what is needed before there are workers.
pub struct FirstSnapshot {
    /// To be given to the workers.
    pub snapshot: Arc<Snapshot>,
    forwarding: Arc<ForwardingTable>,
    view: Arc<KernelView>,
    daemons: Daemons,
}

impl FirstSnapshot {
    /// Compiles what was stored last against the kernel as it is, and starts the daemons of synchronisation that ran.
    pub fn compile(
        state: &State,
        ports: &[OpenPort],
        view: Arc<KernelView>,
        (workers, entries): (usize, u32),
    ) -> Self {
        let forwarding = Arc::new(compile::forwarding(1, &facts(ports), &view));
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        let configuration = state.configuration.in_force();
        let nothing = BTreeSet::new();
        let first = (1, tick_of(now_nanoseconds()));
        let mut spec = compile::services(&configuration, &names, &state.numbering, first, &nothing);
        spec.check_paths = compile::check_paths(&state.configuration);
        let mut daemons = Daemons::new(entries, workers);
        match daemons.prepare(&state.configuration, false) {
            Ok(prepared) => daemons.adopt(prepared, &state.configuration),
            Err(failure) => log::error!("{failure}"),
        }
        daemons.put_into(&mut spec);
        let snapshot = Arc::new(Snapshot::compile(
            &spec,
            Arc::clone(&forwarding),
            None,
            workers,
        ));
        Self {
            snapshot,
            forwarding,
            view,
            daemons,
        }
    }
}

fn facts(ports: &[OpenPort]) -> Vec<PortFacts> {
    ports.iter().map(facts_of).collect()
}

fn facts_of(port: &OpenPort) -> PortFacts {
    PortFacts {
        mac: port.mac,
        mtu: port.mtu,
        fills_udp_checksums: port.fills_udp_checksums,
    }
}

/// Has the devices receive frames for the MACs that the kernel has on their TAPs, and of the VLANs there.
fn tell_devices(ports: &[OpenPort], view: &KernelView) {
    for (port, number) in ports.iter().zip(0..) {
        let macs = compile::other_macs(number, &facts_of(port), view);
        port.wire.set_other_macs(&port.name, &macs);
        let vlans = view.vlans.iter().filter(|(tap, _)| tap.get() == number);
        let vlans = vlans.map(|(_, vlan)| *vlan).collect();
        port.wire.set_vlans(&port.name, &vlans);
    }
}

impl Publisher {
    /// The publisher of workers that already run with `first`, compiled from `state`.
    pub fn new(
        workers: Workers,
        state_directory: StateDirectory,
        state: State,
        first: FirstSnapshot,
        mirror: MirrorHandle,
    ) -> Self {
        let FirstSnapshot {
            forwarding,
            view,
            daemons,
            ..
        } = first;
        let Workers {
            shared,
            ports,
            cores,
            counters,
        } = workers;
        tell_devices(&ports, &view);
        let neighbours = NeighboursInUse::new(&state.in_force(), view);
        mirror.set_in_use(neighbours.keys());
        let running = Mutex::new(Running {
            state,
            totals: Totals::default(),
            trash: Trash::default(),
            neighbours,
            forwarding,
            daemons,
            spare: None,
        });
        let busy_share = BusyShare::new(counters.len());
        Self {
            shared,
            ports,
            cores,
            counters,
            busy_share,
            state_directory: Arc::new(state_directory),
            mirror,
            running,
        }
    }

    /// Follows the kernel and empties the trash until the mirror ends.
    pub async fn run(&self) {
        let mut mirror = self.mirror.clone();
        let mut trash = tokio::time::interval(TRASH_PERIOD);
        let mut sample = tokio::time::interval(SAMPLE_PERIOD);
        let mut sampler = BusyShareSampler::new(&self.counters);
        loop {
            tokio::select! {
                more = mirror.changed() => {
                    if !more {
                        return;
                    }
                    self.follow_kernel(mirror.view()).await;
                }
                _ = trash.tick() => {
                    self.empty_trash().await;
                    self.fold_state().await;
                }
                _ = sample.tick() => sampler.sample(&self.counters, &self.busy_share),
            }
        }
    }

    pub(crate) async fn running(&self) -> tokio::sync::MutexGuard<'_, Running> {
        self.running.lock().await
    }

    /// Does a transaction, whole or not at all; returns the generation that every worker runs with then.
    ///
    /// # Errors
    /// A [`Failure`] for the asker; nothing was changed, but when a worker is stuck.
    pub async fn transact(&self, transaction: &Transaction) -> Result<u64, Failure> {
        let mut running = self.running.lock().await;
        let before = &running.state;
        if let Some(base) = transaction
            .base_generation
            .filter(|base| *base != before.generation)
        {
            let message = format!(
                "the configuration has changed: generation {} runs, the changes were made against {base}; look at it \
                 again and repeat them",
                before.generation
            );
            return Err(Failure::new(FailureCode::Conflict, message));
        }
        let next = before.apply(&transaction.changes)?;
        self.check_ingress(&next.state.configuration)?;
        let prepared = running.daemons.prepare(&next.state.configuration, true)?;
        let generation = next.state.generation;
        let record = Record::of_changes(generation, &transaction.changes, &next.numbered);
        self.state_directory
            .store(record, before)
            .map_err(|error| Failure::new(FailureCode::Internal, error))?;
        running.note_changes(&next, &self.shared.publication.current());
        let part = Part::of(&running.state, &next);
        let NextState { state, changed, .. } = next;
        let Running {
            daemons,
            state: known,
            neighbours,
            ..
        } = &mut *running;
        *known = state;
        daemons.adopt(prepared, &known.configuration);
        let in_force = |id: &ServiceId| (*id, known.configuration.service_in_force(*id));
        if neighbours.follow(changed.iter().map(in_force)) {
            self.mirror.set_in_use(neighbours.keys());
        }
        let edited = compile::edited(&transaction.changes);
        self.publish(&mut running, part, &edited).await?;
        Ok(running.state.generation)
    }

    fn port_names(&self) -> Vec<&str> {
        self.ports.iter().map(|port| port.name.as_str()).collect()
    }

    /// Rules may only name ports that are there.
    fn check_ingress(&self, configuration: &Configuration) -> Result<(), Failure> {
        let names = self.port_names();
        let unknown = configuration.marks.iter().find(|rule| {
            let ingress = rule.ingress.as_deref();
            ingress.is_some_and(|ingress| !names.contains(&ingress))
        });
        let Some(rule) = unknown else {
            return Ok(());
        };
        let message = format!(
            "the rule \"{rule}\" is about a port that is not there: write one of {}",
            names.join(", ")
        );
        Err(Failure::new(FailureCode::Invalid, message))
    }

    /// The kernel's tables have changed: workers get them at once.
    async fn follow_kernel(&self, view: Arc<KernelView>) {
        let mut running = self.running.lock().await;
        let generation = running.forwarding.generation().checked_add(1).unwrap_or(1);
        running.forwarding = Arc::new(compile::forwarding(generation, &facts(&self.ports), &view));
        tell_devices(&self.ports, &view);
        running.neighbours = NeighboursInUse::new(&running.state.in_force(), view);
        self.mirror.set_in_use(running.neighbours.keys());
        if let Err(error) = self.publish(&mut running, None, &BTreeSet::new()).await {
            log::error!("after a change of the kernel's tables: {error}");
        }
    }

    /// A port's device has been pulled out: workers drop its queues, and then it is given back.
    pub async fn let_go_of_port(&self, number: usize) {
        let (Some(gone), Some(port)) = (self.shared.gone.get(number), self.ports.get(number))
        else {
            return;
        };
        gone.store(true, Ordering::Release);
        let mut running = self.running.lock().await;
        if let Err(error) = self.publish(&mut running, None, &BTreeSet::new()).await {
            log::error!("while port {} was given up: {error}", port.name);
        }
        port.wire.let_go();
    }

    /// A member of a bond has been pulled out: it is given back once no worker is in the middle of sending on it.
    pub async fn let_go_of_member(&self, port: &OpenPort, member: Member) {
        let mut running = self.running.lock().await;
        match self.publish(&mut running, None, &BTreeSet::new()).await {
            Ok(()) => member.give_back(),
            Err(error) => {
                log::error!("while a member of port {} was given up: {error}", port.name);
                // A worker may still be there.
                std::mem::forget(member);
            }
        }
    }

    /// Numbers of removed destinations that had no connections for long enough become free.
    async fn empty_trash(&self) {
        let mut guard = self.running.lock().await;
        let running = &mut *guard;
        let snapshot = self.shared.publication.current();
        let idle = |number: &DestinationNumber| {
            snapshot
                .destination(number.get())
                .is_none_or(|found| found.shared.is_unused())
        };
        let removed: BTreeMap<DestinationNumber, ServiceId> = {
            let trash = running.state.numbering.trash();
            trash
                .map(|(number, service, _)| (number, service))
                .collect()
        };
        let unused = removed.keys().copied().filter(idle);
        let unused = running.trash.forget(Instant::now(), unused);
        if unused.is_empty() {
            return;
        }
        for number in &unused {
            if let Some(service) = removed.get(number) {
                running.totals.retire(*service, *number, &snapshot);
            }
            running.totals.forget_destination(*number, &snapshot);
        }
        let before = running.state.clone();
        running.state.release(unused.iter().copied());
        let record = Record::of_release(before.generation, &unused);
        if let Err(error) = self.state_directory.store(record, &before) {
            log::error!("{error}");
        }
        let part = Part::of_freed(unused);
        let published = self.publish(running, Some(part), &BTreeSet::new()).await;
        if let Err(error) = published {
            log::error!("after removed servers were forgotten: {error}");
        }
    }

    /// Writes the state file anew when it is time to, on a thread of its own.
    async fn fold_state(&self) {
        let state = {
            // Nobody stores anything in between.
            let running = self.running.lock().await;
            let fold = self.state_directory.begin_fold(Instant::now());
            fold.map(|fold| (running.state.clone(), fold))
        };
        if let Some((state, fold)) = state {
            let directory = Arc::clone(&self.state_directory);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = directory.fold(&state, fold) {
                    log::error!("{error}; nothing is lost, the journal has it");
                }
            });
        }
    }

    /// Compiles what has changed, be it everything, swaps, and waits until every worker has passed.
    async fn publish(
        &self,
        running: &mut Running,
        part: Option<Part>,
        edited: &BTreeSet<ServiceId>,
    ) -> Result<(), Failure> {
        let current = self.shared.publication.current();
        let when = (current.generation() + 1, tick_of(now_nanoseconds()));
        let compiled = match &part {
            Some(part) => running.compile_part(part, &current, when, edited),
            None => {
                running.spare = None;
                let names = self.port_names();
                running.compile_all(&names, &current, when, edited, self.counters.len())
            }
        };
        drop(current);
        let (next, changed) = compiled;
        let old = self.shared.publication.publish(Arc::clone(&next));
        let all_passed = async {
            while !self.shared.publication.all_have(when.0) {
                tokio::time::sleep(ACKNOWLEDGE_POLL).await;
            }
        };
        let in_time = tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, all_passed).await;
        if in_time.is_err() {
            // A worker may still hold it, and must not be the one to free it.
            std::mem::forget(old);
            let message = format!(
                "a worker has not taken the new configuration within {} s: it is stuck or its core is taken by \
                 something else; the change will run once it goes on. See `pollux show workers`",
                ACKNOWLEDGE_TIMEOUT.as_secs()
            );
            return Err(Failure::new(FailureCode::Internal, message));
        }
        match changed {
            Some(services) => next.refresh_loads_of(&services),
            None => next.refresh_loads(),
        }
        running.spare = part.map(|part| Spare::new(old, part));
        Ok(())
    }
}

impl Running {
    /// Totals of services that go, of services that are new, and of destinations that come back to such a service, start anew.
    /// Those of a destination that comes back to the service it was removed from go on.
    fn note_changes(&mut self, next: &NextState, snapshot: &Snapshot) {
        let (before, after) = (
            &self.state.configuration.services,
            &next.state.configuration.services,
        );
        for service in &next.changed {
            match (before.contains(*service), after.contains(*service)) {
                (true, false) => self.totals.forget_service(*service),
                (false, true) => {
                    for number in self.state.removed_from(*service) {
                        self.totals.begin(number, snapshot);
                    }
                }
                _ => {}
            }
        }
    }

    /// Every destination that has a number, removed ones too.
    pub fn numbers(&self) -> impl Iterator<Item = DestinationNumber> {
        let all = self.state.numbering.destinations();
        all.map(|(number, ..)| number)
    }

    /// Every destination that has a number with this service, removed ones too.
    pub fn numbers_of(&self, service: ServiceId) -> impl Iterator<Item = DestinationNumber> {
        let all = self.state.numbering.destinations_of(service);
        all.map(|(number, _)| number)
    }

    /// The totals of a service and of its servers begin now.
    pub fn zero(&mut self, service: ServiceId, snapshot: &Snapshot) {
        let removed: BTreeSet<_> = self.state.removed_from(service).collect();
        let numbers: Vec<_> = self.numbers_of(service).collect();
        let listed = numbers.into_iter().filter(|it| !removed.contains(it));
        let removed = removed.iter().copied();
        self.totals.zero(service, listed, removed, snapshot);
    }
}

#[cfg(test)]
mod tests;
