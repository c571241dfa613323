//! A service's destinations with a scheduler, for the tests of schedulers: every choice is bound, as an active
//! connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Arrival, Scheduler, SchedulerKind};
use crate::clock::{Microsecond, Tick};
use crate::connection::{FlowKey, ForwardingMethod, State};
use crate::forward::tunnel::Encapsulation;
use crate::forwarding_table::ForwardingTable;
use crate::service::{Destination, DestinationSpec, ServiceIdentity, ServiceSpec, VirtualService};
use crate::settings::IpvsSettings;
use crate::snapshot::{Snapshot, SnapshotSpec};
use crate::wire::protocol;

/// The virtual address of every pool.
pub const VIP: &str = "192.0.2.100:80";

/// A service in a snapshot of its own.
pub struct Pool {
    snapshot: Snapshot,
    spec: SnapshotSpec,
}

fn destination(number: u32, weight: u32, upper_threshold: u32) -> DestinationSpec {
    let [_, _, high, low] = (number + 11).to_be_bytes();
    DestinationSpec {
        number,
        address: IpAddr::from([10, 1, high, low]),
        port: 80,
        method: ForwardingMethod::DirectRoute,
        encapsulation: Encapsulation::default(),
        weight,
        upper_threshold,
        lower_threshold: 0,
    }
}

impl Pool {
    /// Destinations 0, 1, ... of these weights; the list is in this order.
    pub fn new(scheduler: SchedulerKind, weights: &[u32]) -> Self {
        let limits: Vec<(u32, u32)> = weights.iter().map(|weight| (*weight, 0)).collect();
        Self::with_limits(scheduler, &limits)
    }

    /// Destinations of these weights and upper thresholds.
    pub fn with_limits(scheduler: SchedulerKind, limits: &[(u32, u32)]) -> Self {
        let destinations = limits.iter().zip(0..);
        let service = ServiceSpec {
            number: 0,
            identity: ServiceIdentity::Address {
                protocol: protocol::TCP,
                address: vip().ip(),
                port: vip().port(),
            },
            persistence: None,
            one_packet: false,
            timeouts: None,
            scheduler,
            destinations: destinations
                .map(|((weight, upper), number)| destination(number, *weight, *upper))
                .collect(),
        };
        let spec = SnapshotSpec {
            services: vec![service],
            ..SnapshotSpec::default()
        };
        let forwarding = Arc::new(ForwardingTable::new(1, Vec::new(), &[], &[]));
        Self {
            snapshot: Snapshot::compile(&spec, forwarding, None, 1),
            spec,
        }
    }

    /// The same pool after a change of its service.
    pub fn edited(mut self, edit: impl FnOnce(&mut ServiceSpec)) -> Self {
        self.spec.generation += 1;
        edit(&mut self.spec.services[0]);
        let forwarding = Arc::clone(self.snapshot.forwarding());
        let snapshot = Snapshot::compile(&self.spec, forwarding, Some(&self.snapshot), 1);
        Self { snapshot, ..self }
    }

    /// The same pool after a setting of all services was changed.
    pub fn tuned(mut self, edit: impl FnOnce(&mut IpvsSettings)) -> Self {
        edit(&mut self.spec.settings);
        self.edited(|_| {})
    }

    /// The same pool after a destination was removed.
    pub fn without(self, number: u32) -> Self {
        self.edited(|service| service.destinations.retain(|found| found.number != number))
    }

    /// The same pool after a destination was given another weight.
    pub fn weighted(self, number: u32, weight: u32) -> Self {
        self.edited(|service| {
            for found in &mut service.destinations {
                if found.number == number {
                    found.weight = weight;
                }
            }
        })
    }

    fn service(&self) -> &VirtualService {
        self.snapshot.services().iter().next().unwrap()
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Scheduler {
        &self.service().scheduler
    }

    /// A destination.
    pub fn destination(&self, number: u32) -> &Destination {
        self.snapshot.destination(number).unwrap()
    }

    /// Gives a destination this many connections.
    pub fn set_counts(&self, number: u32, active: u32, inactive: u32) {
        let found = self.destination(number);
        for (state, wanted) in [(State::Established, active), (State::Close, inactive)] {
            let have = || {
                let counts = found.shared.counts();
                if state.is_active() {
                    counts.active
                } else {
                    counts.inactive
                }
            };
            (have()..wanted).for_each(|_| found.bind(state));
            (wanted..have()).for_each(|_| found.unbind(state));
        }
    }

    /// The choice for a flow at a time.
    pub fn pick_at(
        &self,
        now: Tick,
        client: SocketAddr,
        virtual_address: SocketAddr,
    ) -> Option<u32> {
        let key = FlowKey::from_sockets(protocol::TCP, client, virtual_address).unwrap();
        let arrival = Arrival {
            key: &key,
            is_quoted: false,
            // As good as a keyed hash for what is drawn here, and the same in every run.
            hash: key.addresses[0].wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(key.ports),
            now,
            microsecond: Microsecond(0),
        };
        let candidates = self.snapshot.candidates(self.service());
        let chosen = self.scheduler().pick(candidates, &arrival);
        chosen.map(|found| found.spec.number)
    }

    /// The choice for a client's flow; nothing is bound.
    pub fn pick_for(&self, client: SocketAddr) -> Option<u32> {
        self.pick_at(Tick(0), client, vip())
    }

    /// The next choice; nothing is bound.
    pub fn pick(&self) -> Option<u32> {
        self.pick_for(client(0))
    }

    /// The next choices, each bound; ends where there is none.
    pub fn picks(&self, number: u32) -> Vec<u32> {
        let picks = (0..number).map_while(|flow| {
            let chosen = self.pick_for(client(flow))?;
            self.destination(chosen).bind(State::SynRecv);
            Some(chosen)
        });
        picks.collect()
    }

    /// How often each destination is chosen for so many clients; nothing is bound.
    pub fn shares(&self, clients: u32) -> Vec<u32> {
        let mut shares = vec![0; self.service().destinations.len()];
        for chosen in (0..clients).filter_map(|flow| self.pick_for(client(flow))) {
            shares[chosen as usize] += 1;
        }
        shares
    }
}

fn vip() -> SocketAddr {
    VIP.parse().unwrap()
}

/// Client addresses, each another.
pub fn client(flow: u32) -> SocketAddr {
    let address = IpAddr::from((0xc633_0000_u32 + flow).to_be_bytes());
    SocketAddr::new(address, 40_000)
}
