//! An immutable view of one generation: services, destinations, forwarding table, timeouts.
//!
//! The publisher compiles a snapshot beside the running one and hands every worker an `Arc` of it; a worker looks for a
//! newer one at each loop boundary. Counters and scheduler state live on in the next snapshot ([`DestinationShared`],
//! [`Scheduler`]). Whoever publishes keeps the old snapshot until every worker has left it, so that nothing large is
//! ever freed on a worker.

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use hashbrown::HashMap;

use crate::check_path::{CheckPath, CheckPaths};
use crate::clock::Tick;
use crate::connection::{ForwardingMethod, Timeouts};
use crate::counters::TrafficCounters;
use crate::forwarding_table::ForwardingTable;
use crate::scheduler::{Binding, Candidates, Scheduler, SchedulerKind};
use crate::service::Leaf;
use crate::service::{
    Classifier, Destination, DestinationShared, DestinationSpec, MarkRule, ServiceIdentity,
    ServiceLookup, ServiceSpec, VirtualService,
};
use crate::settings::IpvsSettings;
use crate::synchronisation::{Backup, Master};

/// What a snapshot is compiled from. Numbers are dense: they index a table.
#[derive(Debug, Clone, Default)]
pub struct SnapshotSpec {
    /// Counts up with every snapshot.
    pub generation: u64,
    /// When it is compiled: new schedulers begin then.
    pub now: Tick,
    /// The services.
    pub services: Vec<ServiceSpec>,
    /// Removed destinations that connections still refer to.
    pub removed: Vec<DestinationSpec>,
    /// Lifetimes of idle connections.
    pub timeouts: Timeouts,
    /// The settings of IPVS.
    pub settings: IpvsSettings,
    /// Which packets have which firewall mark; the first that matches decides.
    pub marks: Vec<MarkRule>,
    /// Numbers of services of which a destination was edited since the snapshot before, though nothing may have changed by
    /// that: `wrr` begins anew at the front of its list (`ip_vs_wrr_dest_changed`).
    pub edited: Vec<u32>,
    /// While other directors are told of connections: what that needs.
    pub master: Option<Arc<Master>>,
    /// While connections of other directors are taken over: how they come to the workers.
    pub backup: Option<Arc<Backup>>,
    /// Ways of health checks.
    pub check_paths: Vec<CheckPath>,
}

/// What makes of a snapshot the next one, where only some services change: see [`Snapshot::catch_up`].
#[derive(Debug, Clone, Default)]
pub struct SnapshotChange {
    /// Counts up with every snapshot.
    pub generation: u64,
    /// When it is compiled.
    pub now: Tick,
    /// The services that change or are new, whole.
    pub services: Vec<ServiceSpec>,
    /// Those that are gone.
    pub gone: Vec<ServiceIdentity>,
    /// Removed destinations of all of them that connections still refer to.
    pub removed: Vec<DestinationSpec>,
    /// Numbers that destinations had to which no connection refers any more.
    pub freed: Vec<u32>,
    /// As [`SnapshotSpec::edited`].
    pub edited: Vec<u32>,
    /// As [`SnapshotSpec::check_paths`]: all of them.
    pub check_paths: Vec<CheckPath>,
}

/// One generation.
#[derive(Debug, Clone)]
pub struct Snapshot {
    generation: u64,
    services: ServiceLookup,
    destinations: Vec<Option<Destination>>,
    forwarding: Arc<ForwardingTable>,
    timeouts: Timeouts,
    /// The same, as destinations without any of their own have them at hand.
    shared_timeouts: Arc<Timeouts>,
    /// Where packets of removed destinations count.
    uncounted: Arc<[CachePadded<TrafficCounters>]>,
    settings: IpvsSettings,
    /// Destinations that are reached by one.
    tunnels: usize,
    master: Option<Arc<Master>>,
    backup: Option<Arc<Backup>>,
    /// Servers of services by their addresses, while other directors name them so.
    servers: HashMap<(u32, SocketAddr), u32>,
    is_backup_only: bool,
    check_paths: Option<Box<CheckPaths>>,
}

impl Snapshot {
    /// Compiles a snapshot for so many workers. What `previous` has of a destination's counters and a service's
    /// scheduler state is carried over by number.
    pub fn compile(
        spec: &SnapshotSpec,
        forwarding: Arc<ForwardingTable>,
        previous: Option<&Self>,
        workers: usize,
    ) -> Self {
        let live = spec.services.iter().flat_map(|service| {
            let destinations = service.destinations.iter();
            destinations.map(move |found| (found, Some(service)))
        });
        let gone = spec.removed.iter().map(|found| (found, None));
        let all: Vec<(&DestinationSpec, Option<&ServiceSpec>)> = live.chain(gone).collect();
        let length = all
            .iter()
            .map(|(found, _)| found.number as usize + 1)
            .max()
            .unwrap_or(0);
        let timeouts = Arc::new(spec.timeouts);
        let uncounted: Arc<[CachePadded<TrafficCounters>]> =
            (0..workers).map(|_| CachePadded::default()).collect();
        let mut destinations: Vec<Option<Destination>> = vec![None; length];
        let common = Common {
            forwarding: &forwarding,
            timeouts: &timeouts,
            uncounted: &uncounted,
            settings: &spec.settings,
        };
        for (found, service) in all {
            let before = previous.and_then(|snapshot| snapshot.destination(found.number));
            let compiled = compile_destination(found, service, before, common);
            if let Some(place) = destinations.get_mut(found.number as usize) {
                *place = Some(compiled);
            }
        }
        flush(
            &mut destinations,
            spec.settings.expire_nodest_conn,
            previous,
        );
        let old: HashMap<u32, &VirtualService> = previous
            .into_iter()
            .flat_map(|snapshot| snapshot.services.iter())
            .map(|old| (old.number, old))
            .collect();
        let mut services = ServiceLookup::new(Classifier::new(&spec.marks));
        for service in &spec.services {
            let before = old.get(&service.number).copied().zip(previous);
            let binding = Binding {
                family: service.identity.family(),
                now: spec.now,
                tuning: service.scheduler.tuning(&spec.settings),
            };
            let is_edited = spec.edited.contains(&service.number);
            let before = (before, is_edited);
            let compiled = compile_service(service, &destinations, before, binding);
            plant(&compiled, &mut destinations);
            services.insert(service, compiled);
        }
        let tunnels = destinations
            .iter()
            .flatten()
            .filter(|found| found.spec.method == ForwardingMethod::Tunnel)
            .count();
        let servers = if spec.backup.is_some() {
            servers_by_address(&spec.services)
        } else {
            HashMap::new()
        };
        Self {
            generation: spec.generation,
            services,
            tunnels,
            master: spec.master.clone(),
            servers,
            is_backup_only: spec.backup.is_some() && spec.settings.backup_only,
            backup: spec.backup.clone(),
            destinations,
            forwarding,
            timeouts: spec.timeouts,
            shared_timeouts: timeouts,
            uncounted,
            settings: spec.settings,
            check_paths: CheckPaths::new(
                &spec.check_paths,
                previous.and_then(|snapshot| snapshot.check_paths.as_deref()),
            ),
        }
    }

    /// Makes of a snapshot that no worker has any more the one after `current`: the same as compiling it whole, at the cost of
    /// the services that differ. `change` has all services that differ from this snapshot's, be it between this and
    /// `current`. All else has to be as in `current`: routes, settings, marks, daemons.
    pub fn catch_up(&mut self, change: &SnapshotChange, current: &Self) {
        self.generation = change.generation;
        for identity in change.gone.iter().copied() {
            self.take_out(identity);
        }
        for service in &change.services {
            self.take_out(service.identity);
        }
        for number in &change.freed {
            self.put(*number, None);
        }
        let live = change.services.iter().flat_map(|service| {
            let destinations = service.destinations.iter();
            destinations.map(move |found| (found, Some(service)))
        });
        let gone = change.removed.iter().map(|found| (found, None));
        for (found, service) in live.chain(gone) {
            let before = current.destination(found.number);
            let common = Common {
                forwarding: &self.forwarding,
                timeouts: &self.shared_timeouts,
                uncounted: &self.uncounted,
                settings: &self.settings,
            };
            let compiled = compile_destination(found, service, before, common);
            self.put(found.number, Some(compiled));
        }
        let is_set = self.settings.expire_nodest_conn;
        flush(&mut self.destinations, is_set, Some(current));
        for service in &change.services {
            let before = current.services.get(service.identity);
            let before = before.filter(|old| old.number == service.number);
            let before = before.map(|old| (old, current));
            let binding = Binding {
                family: service.identity.family(),
                now: change.now,
                tuning: service.scheduler.tuning(&self.settings),
            };
            let is_edited = change.edited.contains(&service.number);
            let compiled =
                compile_service(service, &self.destinations, (before, is_edited), binding);
            plant(&compiled, &mut self.destinations);
            if self.backup.is_some() {
                let servers = servers_by_address(std::slice::from_ref(service));
                self.servers.extend(servers);
            }
            self.services.insert(service, compiled);
        }
        self.check_paths = CheckPaths::new(&change.check_paths, current.check_paths.as_deref());
    }

    /// Takes a service out of the lookup; its destinations stay until others are put in their places.
    fn take_out(&mut self, identity: ServiceIdentity) {
        let destinations = &self.destinations;
        let spec = |number: u32| {
            let found = destinations.get(number as usize)?.as_ref();
            Some(&found?.spec)
        };
        let Some(service) = self.services.remove(identity, spec) else {
            return;
        };
        if !self.servers.is_empty() {
            for found in service.destinations.iter().filter_map(|it| spec(*it)) {
                let address = SocketAddr::new(found.address, found.port);
                self.servers.remove(&(service.number, address));
            }
        }
    }

    fn put(&mut self, number: u32, destination: Option<Destination>) {
        let place = number as usize;
        if place >= self.destinations.len() {
            self.destinations.resize_with(place + 1, || None);
        }
        let is_tunnel = |found: &Option<Destination>| {
            let method = found.as_ref().map(|found| found.spec.method);
            usize::from(method == Some(ForwardingMethod::Tunnel))
        };
        if let Some(known) = self.destinations.get_mut(place) {
            self.tunnels = self.tunnels + is_tunnel(&destination) - is_tunnel(known);
            *known = destination;
        }
    }

    /// Its generation.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The services.
    #[inline]
    pub fn services(&self) -> &ServiceLookup {
        &self.services
    }

    /// A destination by its number, removed ones included.
    #[inline]
    pub fn destination(&self, number: u32) -> Option<&Destination> {
        self.destinations.get(number as usize)?.as_ref()
    }

    /// A service's destinations for its scheduler.
    #[inline]
    pub fn candidates<'s>(&'s self, service: &'s VirtualService) -> Candidates<'s> {
        Candidates {
            list: &service.destinations,
            all: &self.destinations,
        }
    }

    /// The kernel's routes and neighbours.
    #[inline]
    pub fn forwarding(&self) -> &Arc<ForwardingTable> {
        &self.forwarding
    }

    /// Lifetimes of idle connections.
    #[inline]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// The settings of IPVS.
    #[inline]
    pub fn settings(&self) -> &IpvsSettings {
        &self.settings
    }

    /// The ways of health checks, if there are any.
    #[inline]
    pub fn check_paths(&self) -> Option<&CheckPaths> {
        self.check_paths.as_deref()
    }

    /// Whether packets may get an outer header.
    #[inline]
    pub fn has_tunnels(&self) -> bool {
        self.tunnels != 0
    }

    /// What telling other directors of connections needs, while they are told.
    #[inline]
    pub fn master(&self) -> Option<&Master> {
        self.master.as_deref()
    }

    /// How connections of other directors come to the workers, while they are taken over.
    #[inline]
    pub fn backup(&self) -> Option<&Backup> {
        self.backup.as_deref()
    }

    /// Whether packets are looked at for the sake of other directors.
    #[inline]
    pub(crate) fn is_synchronised(&self) -> bool {
        self.master.is_some() || self.is_backup_only
    }

    /// Whether packets of clients are the kernel's because this director is nothing but a backup.
    #[inline]
    pub(crate) fn is_backup_only(&self) -> bool {
        self.is_backup_only
    }

    /// A server of a service by its address, while connections of other directors are taken over.
    pub(crate) fn server_at(&self, service: u32, address: SocketAddr) -> Option<&Destination> {
        self.destination(*self.servers.get(&(service, address))?)
    }

    /// Judges every destination's load by this snapshot's thresholds and tells its scheduler: once after all workers
    /// have moved to this snapshot, because those that had not yet changed counts by the one before.
    pub fn refresh_loads(&self) {
        self.refresh(self.destinations.iter().flatten());
    }

    /// The same of these services only: of others nothing has changed.
    pub fn refresh_loads_of(&self, services: &[ServiceSpec]) {
        let specs = services.iter().flat_map(|service| &service.destinations);
        self.refresh(specs.filter_map(|spec| self.destination(spec.number)));
    }

    #[allow(clippy::unused_self)] // they are this one's
    fn refresh<'s>(&'s self, destinations: impl Iterator<Item = &'s Destination>) {
        for destination in destinations.filter(|found| found.available) {
            destination.judge_overload();
            destination.refresh_load();
        }
    }
}

/// Says of removed destinations whether their connections end. A removal ends, while that is set, also those of what was
/// removed before; what was removed before it was set waits otherwise, each connection for its next packet.
fn flush(destinations: &mut [Option<Destination>], is_set: bool, previous: Option<&Snapshot>) {
    let Some(previous) = previous.filter(|_| is_set) else {
        return;
    };
    let before = |found: &Destination| previous.destination(found.spec.number);
    let is_removal = destinations
        .iter()
        .flatten()
        .any(|found| !found.available && before(found).is_none_or(|before| before.available));
    for found in destinations.iter_mut().flatten() {
        let was_flushed = before(found).is_some_and(|before| before.is_flushed);
        found.is_flushed = !found.available && (is_removal || was_flushed);
    }
}

fn servers_by_address(services: &[ServiceSpec]) -> HashMap<(u32, SocketAddr), u32> {
    let servers = services.iter().flat_map(|service| {
        let destinations = service.destinations.iter();
        destinations.map(|found| {
            let address = SocketAddr::new(found.address, found.port);
            ((service.number, address), found.number)
        })
    });
    servers.collect()
}

/// Gives every destination its place in the scheduler's tree, and the tree the loads as they are; or has its answers timed.
fn plant(service: &VirtualService, destinations: &mut [Option<Destination>]) {
    if service.scheduler.kind() == SchedulerKind::FastestAnswer {
        for number in &service.destinations {
            if let Some(Some(destination)) = destinations.get_mut(*number as usize) {
                destination.is_timed = true;
            }
        }
    }
    let Some(tree) = service.scheduler.load_tree() else {
        return;
    };
    for (place, number) in service.destinations.iter().enumerate() {
        if let Some(Some(destination)) = destinations.get_mut(*number as usize) {
            destination.leaf = Some(Leaf {
                tree: Arc::clone(tree),
                place,
            });
            destination.refresh_load();
        }
    }
}

/// What destinations of a snapshot have in common.
#[derive(Clone, Copy)]
struct Common<'a> {
    forwarding: &'a ForwardingTable,
    timeouts: &'a Arc<Timeouts>,
    uncounted: &'a Arc<[CachePadded<TrafficCounters>]>,
    settings: &'a IpvsSettings,
}

/// A destination of that service; of none once it is removed.
fn compile_destination(
    spec: &DestinationSpec,
    service: Option<&ServiceSpec>,
    before: Option<&Destination>,
    common: Common<'_>,
) -> Destination {
    let workers = common.uncounted.len();
    let shared = before.map_or_else(
        || Arc::new(DestinationShared::new(workers)),
        |old| Arc::clone(&old.shared),
    );
    let available = service.is_some();
    let mut compiled = Destination::new(spec.clone(), available, common.forwarding, shared);
    compiled.one_packet = service.is_some_and(|service| service.one_packet);
    compiled.timeouts = match service.and_then(|service| service.timeouts) {
        Some(own) => Arc::new(own),
        None => Arc::clone(common.timeouts),
    };
    // A drained server is known by the weight it had, unless it was removed in between.
    if let Some(old) = before.filter(|old| available && old.available && spec.weight == 0) {
        compiled.last_weight = old.last_weight;
    }
    // A removed one is judged when it comes back.
    if available {
        compiled.judge_overload();
    } else {
        compiled.count_into(common.uncounted);
    }
    if !common.settings.pmtu_disc {
        compiled.ignore_df();
    }
    compiled
}

fn compile_service(
    spec: &ServiceSpec,
    destinations: &[Option<Destination>],
    (before, is_edited): (Option<(&VirtualService, &Snapshot)>, bool),
    binding: Binding,
) -> VirtualService {
    let list: Box<[u32]> = spec.destinations.iter().map(|found| found.number).collect();
    let candidates = Candidates {
        list: &list,
        all: destinations,
    };
    let unchanged = before.filter(|(old, snapshot)| {
        !is_edited
            && old.scheduler.kind() == spec.scheduler
            && old.scheduler.tuning() == binding.tuning
            && old.destinations == list
            && candidates.iter().all(|new| {
                snapshot
                    .destination(new.spec.number)
                    .is_some_and(|old| old.spec == new.spec)
            })
    });
    let scheduler = match unchanged {
        Some((old, _)) => Arc::clone(&old.scheduler),
        None => {
            let previous = before.map(|(old, _)| (&*old.scheduler, &*old.destinations));
            Arc::new(Scheduler::new(
                spec.scheduler,
                binding,
                candidates,
                previous,
            ))
        }
    };
    let has_thresholds = spec
        .destinations
        .iter()
        .any(|found| found.upper_threshold != 0);
    VirtualService {
        number: spec.number,
        identity: spec.identity,
        persistence: spec.persistence,
        one_packet: spec.one_packet,
        destinations: list,
        binds_ahead: has_thresholds || scheduler.kind().looks_at_load(),
        scheduler,
    }
}

#[cfg(test)]
mod tests;
