//! By server: how packets reach it, and which addresses they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use pollux_api::{
    Configuration, Destination, Family, ForwardingMethod, ServiceId, Tunnel, TunnelChecksum,
    TunnelType,
};

/// A server, in whichever services it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNeeds {
    /// Its address.
    pub address: IpAddr,
    /// Its services, each with its method.
    pub services: Vec<(ServiceId, ForwardingMethod)>,
    /// The addresses it is to take packets for, by the way on which they come.
    pub ways: BTreeMap<Way, BTreeSet<Virtual>>,
}

/// How packets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the server's own address.
    Nat,
    /// To the server's MAC.
    Direct,
    /// Wrapped: what wraps them, the port of GUE, whether there is a checksum, and the family of what is inside.
    Tunnel(TunnelWay),
}

/// How packets are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelWay {
    /// 0 IPIP, 1 GRE, 2 GUE: `TunnelType`, which has no order.
    kind: u8,
    /// The server's UDP port for GUE.
    pub port: u16,
    /// Whether GRE has a checksum.
    pub checksum: bool,
    /// Whether what is inside is IPv6.
    pub carries_ipv6: bool,
}

impl TunnelWay {
    fn new(tunnel: Tunnel, family: Family) -> Self {
        Self {
            kind: match tunnel.tunnel_type {
                TunnelType::Ipip => 0,
                TunnelType::Gre => 1,
                TunnelType::Gue => 2,
            },
            port: tunnel.port.map_or(0, Into::into),
            checksum: tunnel.tunnel_type == TunnelType::Gre
                && tunnel.checksum != TunnelChecksum::Nocsum,
            carries_ipv6: family == Family::Ipv6,
        }
    }

    /// What wraps them.
    pub fn tunnel_type(self) -> TunnelType {
        match self.kind {
            0 => TunnelType::Ipip,
            1 => TunnelType::Gre,
            _ => TunnelType::Gue,
        }
    }
}

/// What packets are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Virtual {
    /// One address.
    Host(IpAddr),
    /// All of a network, which a firewall mark's rule names.
    Network(IpNet),
    /// Whatever gets this firewall mark: no rule says to which addresses.
    Mark(u32),
}

/// Every server of a service, or of all, in the order of their addresses.
pub fn of(configuration: &Configuration, service: Option<ServiceId>) -> Vec<ServerNeeds> {
    let mut found: BTreeMap<IpAddr, ServerNeeds> = BTreeMap::new();
    for entry in &configuration.services {
        let id = entry.service.id;
        if service.is_some_and(|wanted| wanted != id) {
            continue;
        }
        let virtuals = virtuals(configuration, id);
        for destination in configuration.servers_and_sorry_server(entry) {
            let address = destination.id.address();
            let needs = found.entry(address).or_insert_with(|| ServerNeeds {
                address,
                services: Vec::new(),
                ways: BTreeMap::new(),
            });
            // A server may be in a service with several ports.
            let known = (id, destination.method);
            if !needs.services.contains(&known) {
                needs.services.push(known);
            }
            needs
                .ways
                .entry(way(destination, id))
                .or_default()
                .extend(&virtuals);
        }
    }
    found.into_values().collect()
}

fn way(destination: &Destination, service: ServiceId) -> Way {
    match destination.method {
        ForwardingMethod::Nat => Way::Nat,
        ForwardingMethod::Direct => Way::Direct,
        ForwardingMethod::Tunnel => {
            Way::Tunnel(TunnelWay::new(destination.tunnel, service.family()))
        }
    }
}

/// The addresses of a service; of a firewall mark's, those that its rules name.
fn virtuals(configuration: &Configuration, id: ServiceId) -> BTreeSet<Virtual> {
    let service = match id {
        ServiceId::Address(service) => return [Virtual::Host(service.endpoint.address())].into(),
        ServiceId::Fwmark(service) => service,
    };
    let is_ipv6 = service.family == Family::Ipv6;
    let rules = configuration
        .marks
        .iter()
        .filter(|rule| rule.mark == service.fwmark);
    let named: BTreeSet<Virtual> = rules
        .filter_map(|rule| rule.destination)
        .filter(|network| network.addr().is_ipv6() == is_ipv6)
        .map(|network| {
            if network.prefix_len() == network.max_prefix_len() {
                Virtual::Host(network.addr())
            } else {
                Virtual::Network(network)
            }
        })
        .collect();
    if named.is_empty() {
        return [Virtual::Mark(service.fwmark.get())].into();
    }
    named
}
