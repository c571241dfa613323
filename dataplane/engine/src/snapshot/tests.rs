//! A snapshot that catches up is the one that would have been compiled whole, after any history.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::connection::{FlowKey, State};
use crate::forward::tunnel::Encapsulation;
use crate::wire::protocol;

const SERVICES: u32 = 5;
const SERVERS: u32 = 6;

/// A server as the test chooses it.
#[derive(Debug, Clone)]
enum Server {
    Live {
        weight: u32,
        method: u8,
        upper: u32,
    },
    /// Removed, and connections still refer to it.
    Removed,
}

/// A service as the test chooses it.
#[derive(Debug, Clone)]
struct Service {
    kind: u8,
    timeout: Option<u32>,
}

/// A service that is made or changed, or goes; and what becomes of servers of it, none: forgotten.
type Edit = (u32, Option<Service>, Vec<(u32, Option<Server>)>);

/// One transaction: of a few services, or of what concerns all of them.
#[derive(Debug, Clone)]
struct Step {
    services: Vec<Edit>,
    is_edited: bool,
    /// Connections of these servers come.
    bound: Vec<(u32, u32)>,
    settings: Option<(bool, bool)>,
    /// Removed servers are forgotten.
    forget: bool,
    /// Whether somebody looks at the snapshot that would be the spare one.
    is_watched: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let server = prop_oneof![
        3 => (0..3_u32, 0..3_u8, 0..3_u32)
            .prop_map(|(weight, method, upper)| Some(Server::Live { weight, method, upper })),
        2 => Just(Some(Server::Removed)),
        1 => Just(None),
    ];
    let servers = prop::collection::vec((0..SERVERS, server), 0..4);
    let service =
        (0..8_u8, prop::option::of(1..3_u32)).prop_map(|(kind, timeout)| Service { kind, timeout });
    let one = (0..SERVICES, prop::option::weighted(0.8, service), servers);
    (
        prop::collection::vec(one, 0..3),
        any::<bool>(),
        prop::collection::vec((0..SERVICES, 0..SERVERS), 0..3),
        prop::option::weighted(0.1, any::<(bool, bool)>()),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(services, is_edited, bound, settings, forget, is_watched)| Step {
                services,
                is_edited,
                bound,
                settings,
                forget,
                is_watched,
            },
        )
}

/// What runs.
#[derive(Debug, Clone, Default)]
struct World {
    services: BTreeMap<u32, Service>,
    servers: BTreeMap<(u32, u32), Server>,
    settings: IpvsSettings,
}

fn identity(service: u32) -> ServiceIdentity {
    if service == SERVICES - 1 {
        return ServiceIdentity::Fwmark {
            mark: 7,
            family: crate::connection::Family::V4,
        };
    }
    ServiceIdentity::Address {
        protocol: protocol::TCP,
        address: IpAddr::from([198, 51, 100, 1]),
        // FTP, any port, and others.
        port: [21, 0, 80, 443][service as usize],
    }
}

fn number_of(service: u32, server: u32) -> u32 {
    service * SERVERS + server
}

impl World {
    fn destination(&self, service: u32, server: u32) -> Option<(DestinationSpec, bool)> {
        let number = number_of(service, server);
        let address = IpAddr::from([203, 0, 113, 10 + server as u8]);
        let spec = DestinationSpec {
            number,
            address,
            // Some are those of several services.
            port: 80,
            method: ForwardingMethod::Masquerade,
            encapsulation: Encapsulation::default(),
            weight: 0,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        Some(match self.servers.get(&(service, server))? {
            Server::Removed => (spec, false),
            Server::Live {
                weight,
                method,
                upper,
            } => {
                let method = [
                    ForwardingMethod::Masquerade,
                    ForwardingMethod::Tunnel,
                    ForwardingMethod::DirectRoute,
                ][usize::from(*method)];
                let live = DestinationSpec {
                    method,
                    weight: *weight,
                    upper_threshold: *upper,
                    ..spec
                };
                (live, self.services.contains_key(&service))
            }
        })
    }

    fn destinations(&self, service: u32, live: bool) -> Vec<DestinationSpec> {
        let all = (0..SERVERS).filter_map(|server| self.destination(service, server));
        let wanted = all.filter(|(_, is_live)| *is_live == live);
        wanted.map(|(spec, _)| spec).collect()
    }

    fn service(&self, number: u32) -> Option<ServiceSpec> {
        let Service { kind, timeout } = self.services.get(&number)?;
        Some(ServiceSpec {
            number,
            identity: identity(number),
            scheduler: [
                SchedulerKind::RoundRobin,
                SchedulerKind::WeightedRoundRobin,
                SchedulerKind::WeightedLeastConnection,
                SchedulerKind::MaglevHashing(Default::default()),
                SchedulerKind::FastestAnswer,
                SchedulerKind::LocalityBased,
                SchedulerKind::WeightedFailover,
                SchedulerKind::DestinationHashing,
            ][usize::from(*kind)],
            persistence: None,
            one_packet: false,
            timeouts: timeout.map(|timeout| {
                let mut own = Timeouts::default();
                own.set(State::Established, timeout);
                own
            }),
            destinations: self.destinations(number, true),
        })
    }

    fn whole(&self, generation: u64, edited: Vec<u32>) -> SnapshotSpec {
        SnapshotSpec {
            generation,
            services: (0..SERVICES).filter_map(|it| self.service(it)).collect(),
            removed: (0..SERVICES)
                .flat_map(|service| self.destinations(service, false))
                .collect(),
            settings: self.settings,
            edited,
            ..SnapshotSpec::default()
        }
    }

    fn change(
        &self,
        generation: u64,
        edited: Vec<u32>,
        (services, freed): (&[u32], &[u32]),
    ) -> SnapshotChange {
        let gone = services.iter().filter(|it| self.service(**it).is_none());
        SnapshotChange {
            generation,
            services: services.iter().filter_map(|it| self.service(*it)).collect(),
            gone: gone.map(|it| identity(*it)).collect(),
            removed: services
                .iter()
                .flat_map(|service| self.destinations(*service, false))
                .collect(),
            freed: freed.to_vec(),
            edited,
            ..SnapshotChange::default()
        }
    }

    /// Does a step; the services that changed, and the numbers that became free.
    fn take(&mut self, step: &Step) -> (Vec<u32>, Vec<u32>) {
        let (mut changed, mut freed) = (Vec::new(), Vec::new());
        for (number, service, servers) in &step.services {
            changed.push(*number);
            match service {
                Some(service) => {
                    self.services.insert(*number, service.clone());
                }
                None => {
                    self.services.remove(number);
                }
            }
            for (server, wanted) in servers {
                let key = (*number, *server);
                match wanted {
                    Some(Server::Removed) if !self.servers.contains_key(&key) => {}
                    Some(wanted) if self.services.contains_key(number) => {
                        self.servers.insert(key, wanted.clone());
                    }
                    Some(_) => {}
                    None => {
                        if self.servers.remove(&key).is_some() {
                            freed.push(number_of(*number, *server));
                        }
                    }
                }
            }
        }
        // Of a service that is gone, all are removed.
        let services = &self.services;
        for ((service, _), server) in &mut self.servers {
            if !services.contains_key(service) {
                *server = Server::Removed;
            }
        }
        if step.forget {
            self.servers.retain(|(service, server), known| {
                let is_removed = matches!(known, Server::Removed);
                if is_removed {
                    freed.push(number_of(*service, *server));
                }
                !is_removed
            });
        }
        freed.retain(|number| {
            let key = (number / SERVERS, number % SERVERS);
            !self.servers.contains_key(&key)
        });
        changed.sort_unstable();
        changed.dedup();
        (changed, freed)
    }
}

/// Everything that packets can meet.
fn shown(snapshot: &Snapshot) -> Vec<String> {
    let mut shown = vec![format!(
        "{} {} {:?} {:?}",
        snapshot.generation(),
        snapshot.has_tunnels(),
        snapshot.services.families(),
        snapshot.services.has_engines()
    )];
    for number in 0..SERVICES * SERVERS {
        shown.push(format!("{:?}", snapshot.destination(number)));
    }
    for number in 0..SERVICES {
        let found = snapshot.services.get(identity(number));
        shown.push(format!("{found:?} {}", snapshot.services.mark_of(number)));
    }
    for server in 0..SERVERS {
        let address = IpAddr::from([203, 0, 113, 10 + server as u8]);
        let answer = FlowKey::from_sockets(
            protocol::TCP,
            (address, 80).into(),
            SocketAddr::from(([192, 0, 2, 7], 40_000)),
        );
        let lookup = &snapshot.services;
        let of_answer = answer.and_then(|answer| lookup.of_answer(&answer));
        shown.push(format!(
            "{server}: {} {} {:?}",
            lookup.has_real_service(protocol::TCP, address, 80),
            lookup.is_only_one_of(protocol::TCP, address, 80),
            of_answer.map(|(key, service)| (key, service.number)),
        ));
    }
    for port in [20, 21, 80, 443, 8080] {
        let packet = FlowKey::from_sockets(
            protocol::TCP,
            SocketAddr::from(([192, 0, 2, 7], 40_000)),
            SocketAddr::from(([198, 51, 100, 1], port)),
        );
        let found = packet.and_then(|packet| snapshot.services.find(&packet, 0));
        shown.push(format!("{port}: {:?}", found.map(|found| found.number)));
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn catching_up_is_compiling_whole(steps in prop::collection::vec(step(), 1..25)) {
        let forwarding = Arc::new(ForwardingTable::new(1, Vec::new(), &[], &[]));
        let mut world = World::default();
        let first = Snapshot::compile(&world.whole(0, Vec::new()), Arc::clone(&forwarding), None, 1);
        let (mut whole, mut running) = (first.clone(), first);
        let mut spare: Option<(Snapshot, Vec<u32>, Vec<u32>)> = None;
        for (step, generation) in steps.into_iter().zip(1..) {
            for (service, server) in &step.bound {
                for snapshot in [&whole, &running] {
                    let found = snapshot.destination(number_of(*service, *server));
                    if let Some(found) = found.filter(|found| found.available) {
                        found.bind(State::Established);
                    }
                }
            }
            let (changed, freed) = world.take(&step);
            let edited = if step.is_edited { changed.clone() } else { Vec::new() };
            if let Some((expire_nodest_conn, pmtu_disc)) = step.settings {
                world.settings.expire_nodest_conn = expire_nodest_conn;
                world.settings.pmtu_disc = pmtu_disc;
            }
            let spec = world.whole(generation, edited.clone());
            let next_whole = Snapshot::compile(&spec, Arc::clone(&forwarding), Some(&whole), 1);
            let next = if step.settings.is_some() {
                spare = None;
                Snapshot::compile(&spec, Arc::clone(&forwarding), Some(&running), 1)
            } else {
                let free = spare.take().filter(|_| !step.is_watched);
                let (mut next, mut services, mut gone) =
                    free.unwrap_or_else(|| (running.clone(), Vec::new(), Vec::new()));
                services.extend(&changed);
                services.sort_unstable();
                services.dedup();
                gone.extend(&freed);
                let change = world.change(generation, edited, (&services, &gone));
                next.catch_up(&change, &running);
                next
            };
            // Whose scheduler is the one it was is whose turn it stays.
            let kept = |next: &Snapshot, before: &Snapshot| -> Vec<bool> {
                let pairs = (0..SERVICES).map(|number| {
                    let [next, before] = [next, before].map(|it| it.services.get(identity(number)));
                    let both = next.zip(before);
                    both.is_some_and(|(next, before)| Arc::ptr_eq(&next.scheduler, &before.scheduler))
                });
                pairs.collect()
            };
            prop_assert_eq!(kept(&next, &running), kept(&next_whole, &whole));
            next_whole.refresh_loads();
            let specs: Vec<ServiceSpec> = changed.iter().filter_map(|it| world.service(*it)).collect();
            next.refresh_loads_of(&specs);
            for (parts, whole) in shown(&next).iter().zip(&shown(&next_whole)) {
                prop_assert_eq!(parts, whole);
            }
            if step.settings.is_none() {
                spare = Some((std::mem::replace(&mut running, next), changed, freed));
            } else {
                running = next;
            }
            whole = next_whole;
        }
    }
}
