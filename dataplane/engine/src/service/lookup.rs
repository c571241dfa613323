//! Which service a packet without a connection is for: protocol, virtual address, virtual port.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::{ServiceSpec, VirtualService};
use crate::connection::{Family, FlowKey};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ServiceKey {
    address: [u64; 2],
    port: u16,
    protocol: u8,
    family: Family,
}

/// All services of a snapshot by what packets carry.
#[derive(Debug, Default)]
pub struct ServiceLookup {
    services: HashMap<ServiceKey, VirtualService>,
}

impl ServiceLookup {
    /// Adds a service.
    pub fn insert(&mut self, spec: &ServiceSpec, service: VirtualService) {
        let (address, family) = match spec.address {
            IpAddr::V4(v4) => ([u64::from(v4.to_bits()), 0], Family::V4),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                #[allow(clippy::cast_possible_truncation)] // both halves are taken
                let halves = [(bits >> 64) as u64, bits as u64];
                (halves, Family::V6)
            }
        };
        self.services.insert(
            ServiceKey {
                address,
                port: spec.port,
                protocol: spec.protocol,
                family,
            },
            service,
        );
    }

    /// The service this packet's destination is.
    pub fn find(&self, key: &FlowKey) -> Option<&VirtualService> {
        let [a, _, c, d] = key.addresses;
        let address = match key.family {
            Family::V4 => [a & 0xffff_ffff, 0],
            Family::V6 => [c, d],
        };
        let port = key.destination_port();
        self.services.get(&ServiceKey {
            address,
            port,
            protocol: key.protocol,
            family: key.family,
        })
    }

    /// Whether there is none at all: then IPVS is off, as in Linux.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &VirtualService> {
        self.services.values()
    }
}
