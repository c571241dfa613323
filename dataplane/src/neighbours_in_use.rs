//! Which neighbours packets will need: the next hops of every destination, and the gateways clients are behind. Pure.
//!
//! Kept by service, so that a change of one service costs that service's routes and no others.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use pollux_api::{Configuration, ServiceEntry, ServiceId};

use crate::kernel::{self, KernelView, NeighbourKey};

/// Gateways kept resolved for clients, at most: a router has few, and each costs a question every some seconds.
const GATEWAYS_MAX: usize = 1024;

/// The neighbours that a configuration needs, with the kernel's routes as they were.
#[derive(Debug, Default)]
pub struct NeighboursInUse {
    view: Arc<KernelView>,
    by_service: HashMap<ServiceId, Vec<NeighbourKey>>,
    /// Of how many destinations each is the next hop.
    uses: BTreeMap<NeighbourKey, usize>,
    gateways: BTreeSet<NeighbourKey>,
}

impl NeighboursInUse {
    /// Those of all services, by these routes.
    pub fn new(in_force: &Configuration, view: Arc<KernelView>) -> Self {
        let gateways = view
            .routes
            .values()
            .filter_map(|route| match &route.target {
                kernel::RouteTarget::Send(next_hops) => {
                    let first = next_hops.first()?;
                    Some((first.egress, first.gateway?))
                }
                _ => None,
            });
        let gateways = gateways.take(GATEWAYS_MAX).collect();
        let mut all = Self {
            view,
            gateways,
            ..Self::default()
        };
        // Servers are those of many services.
        let mut known = HashMap::new();
        for entry in &in_force.services {
            all.add(entry, &mut known);
        }
        all
    }

    /// Takes over services, each as it is in force now, if it is; true when other neighbours are needed than before.
    pub fn follow<'a>(
        &mut self,
        services: impl Iterator<Item = (ServiceId, Option<Cow<'a, ServiceEntry>>)>,
    ) -> bool {
        let mut is_other = false;
        for (id, entry) in services {
            let before = self.by_service.remove(&id).unwrap_or_default();
            if let Some(entry) = entry {
                is_other |= self.add(&entry, &mut HashMap::new());
            }
            // Afterwards, so that one that stays in use is seen to.
            for key in before {
                is_other |= self.remove(key);
            }
        }
        is_other
    }

    /// All of them.
    pub fn keys(&self) -> BTreeSet<NeighbourKey> {
        let next_hops = self.uses.keys().copied();
        next_hops.chain(self.gateways.iter().copied()).collect()
    }

    fn add(
        &mut self,
        entry: &ServiceEntry,
        known: &mut HashMap<IpAddr, Option<NeighbourKey>>,
    ) -> bool {
        let mut is_new = false;
        let mut keys = Vec::with_capacity(entry.destinations.len());
        for server in &entry.destinations {
            let address = server.id.address();
            let key = known
                .entry(address)
                .or_insert_with(|| next_hop(&self.view, address));
            if let Some(key) = *key {
                keys.push(key);
                let uses = self.uses.entry(key).or_default();
                is_new |= *uses == 0;
                *uses += 1;
            }
        }
        self.by_service.insert(entry.service.id, keys);
        is_new
    }

    fn remove(&mut self, key: NeighbourKey) -> bool {
        let Some(uses) = self.uses.get_mut(&key) else {
            return false;
        };
        *uses -= 1;
        let is_gone = *uses == 0;
        if is_gone {
            self.uses.remove(&key);
        }
        is_gone
    }
}

fn next_hop(view: &KernelView, address: IpAddr) -> Option<NeighbourKey> {
    match &view.route(address)?.target {
        kernel::RouteTarget::Send(next_hops) => {
            let first = next_hops.first()?;
            Some((first.egress, first.gateway.unwrap_or(address)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pollux_api::{Destination, ForwardingMethod, Protocol, Tunnel, VirtualService, Weight};
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{Egress, NextHop, Route, RouteTarget, TapIndex};

    /// 203.0.113.0/28 is on the link, everything below 203.0.113.128 behind one gateway, the rest nowhere.
    fn view() -> Arc<KernelView> {
        let egress = Egress {
            tap: TapIndex::new(0),
            vlan: None,
        };
        let route = |gateway: Option<&str>| Route {
            target: RouteTarget::Send(vec![NextHop {
                egress,
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                weight: 1,
            }]),
            preferred_source: None,
            mtu: None,
        };
        let routes = [
            ("203.0.113.0/28", route(None)),
            ("203.0.113.0/25", route(Some("203.0.113.1"))),
        ];
        let routes = routes.map(|(prefix, route)| (prefix.parse().unwrap(), route));
        Arc::new(KernelView {
            routes: Arc::new(routes.into()),
            ..KernelView::default()
        })
    }

    fn id(port: u16) -> ServiceId {
        ServiceId::address(
            Protocol::Tcp,
            format!("198.51.100.1:{}", port + 1).parse().unwrap(),
        )
    }

    fn entry(service: u16, servers: &[u8]) -> ServiceEntry {
        let server = |number: &u8| Destination {
            id: format!("203.0.113.{number}:80").parse().unwrap(),
            method: ForwardingMethod::Nat,
            tunnel: Tunnel::default(),
            weight: Weight::default(),
            upper_threshold: 0,
            lower_threshold: 0,
        };
        ServiceEntry {
            service: VirtualService::new(id(service)),
            destinations: servers.iter().map(server).collect(),
        }
    }

    proptest! {
        /// Followed service by service or found anew, they are the same; and a difference is told.
        #[test]
        fn what_is_followed_is_what_is_found(
            steps in prop::collection::vec(
                (0..4_u16, prop::option::of(prop::collection::btree_set(any::<u8>(), 0..4))),
                1..20,
            ),
        ) {
            let mut now = Configuration::default();
            let mut followed = NeighboursInUse::new(&now, view());
            for (service, servers) in steps {
                let before = followed.keys();
                now.services.remove(id(service));
                let entry = servers.map(|servers| entry(service, &Vec::from_iter(servers)));
                if let Some(entry) = &entry {
                    now.services.push(entry.clone());
                }
                let is_other = followed.follow([(id(service), entry.map(Cow::Owned))].into_iter());
                let found = NeighboursInUse::new(&now, view());
                prop_assert_eq!(followed.keys(), found.keys());
                prop_assert_eq!(&followed.uses, &found.uses);
                prop_assert!(is_other || before == followed.keys());
            }
        }
    }
}
