//! Where packets leave: the kernel's routes and neighbours as workers use them.
//!
//! An *adjacency* is a resolved next hop: egress port, both MAC addresses, VLAN, MTU. Destinations keep the number of
//! theirs in the snapshot, connections cache the number of the way back to the client together with the generation of
//! the table it was found in, so that a changed route or MAC is used by the very next packet.

use std::net::{IpAddr, Ipv4Addr};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::wire::ethernet::MacAddress;

/// A port as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Its MAC address, which its frames come from.
    pub mac: MacAddress,
    /// Other MAC addresses whose frames are for the director: those of interfaces on its TAP, as VRRP makes.
    pub other_macs: Vec<MacAddress>,
    /// Largest IP packet it sends, bytes.
    pub mtu: u16,
    /// The director's addresses on it with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Whether its device fills in checksums of UDP.
    pub fills_udp_checksums: bool,
}

/// An interface of the kernel: a port, or a VLAN on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Number of the port.
    pub port: u16,
    /// VLAN id, when tagged.
    pub vlan: Option<u16>,
}

/// What a route says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteTarget {
    /// To the director itself.
    Local,
    /// Nowhere: unreachable, prohibit, blackhole.
    Unreachable,
    /// The destination is a neighbour on this interface.
    OnLink(Interface),
    /// By way of a gateway.
    Gateway(Interface, IpAddr),
}

/// A route of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// Network address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_length: u8,
    /// Where to.
    pub target: RouteTarget,
    /// The source address the kernel would use.
    pub preferred_source: Option<IpAddr>,
}

/// A neighbour of the kernel with a known MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourSpec {
    /// On which interface.
    pub interface: Interface,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: MacAddress,
}

/// A resolved next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adjacency {
    /// Egress port and VLAN.
    pub interface: Interface,
    /// The neighbour's MAC and the port's, as they stand in a frame: together, so that they are written together.
    pub macs: [MacAddress; 2],
    /// Largest IP packet, bytes.
    pub mtu: u16,
}

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// Number of an adjacency.
    Adjacent(u32),
    /// The MAC of this neighbour is not known.
    Unresolved(Interface, IpAddr),
    /// The director itself.
    Local,
    /// No route.
    Unreachable,
}

#[derive(Debug, Clone, Copy)]
struct Route {
    target: RouteTarget,
    preferred_source: Option<IpAddr>,
}

/// Routes of one family, a map a prefix length, longest first. The kernel's tables have few lengths, and connections
/// cache what they found.
#[derive(Debug, Default)]
struct RoutesByLength(Vec<(u8, HashMap<u128, Route>)>);

/// The kernel's forwarding, frozen.
#[derive(Debug, Default)]
pub struct ForwardingTable {
    generation: u32,
    ports: Vec<PortSpec>,
    smallest_mtu: u16,
    adjacencies: Vec<Adjacency>,
    neighbours: HashMap<(Interface, IpAddr), u32>,
    v4: RoutesByLength,
    v6: RoutesByLength,
}

impl RoutesByLength {
    /// The first route of a prefix wins: the caller lists better metrics first.
    fn insert(&mut self, spec: &RouteSpec) {
        let length = spec.prefix_length;
        let place = match self.0.binary_search_by(|(known, _)| length.cmp(known)) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, (length, HashMap::new()));
                place
            }
        };
        let route = Route {
            target: spec.target,
            preferred_source: spec.preferred_source,
        };
        if let Some((_, routes)) = self.0.get_mut(place) {
            routes.entry(masked(spec.address, length)).or_insert(route);
        }
    }

    fn find(&self, address: IpAddr) -> Option<Route> {
        self.0
            .iter()
            .find_map(|(length, routes)| routes.get(&masked(address, *length)).copied())
    }
}

/// The network part of an address, as a number with the address's first bit on top.
fn masked(address: IpAddr, length: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    bits & u128::MAX
        .checked_shl(128 - u32::from(length.min(128)))
        .unwrap_or(0)
}

impl ForwardingTable {
    /// The table of one moment. `generation` differs from every earlier one's that connections may remember and is not 0.
    pub fn new(
        generation: u32,
        ports: Vec<PortSpec>,
        routes: &[RouteSpec],
        neighbours: &[NeighbourSpec],
    ) -> Self {
        let mut table = Self {
            generation,
            smallest_mtu: ports.iter().map(|port| port.mtu).min().unwrap_or(0),
            ports,
            ..Self::default()
        };
        for neighbour in neighbours {
            table.add_neighbour(neighbour);
        }
        for route in routes {
            if route.address.is_ipv4() {
                &mut table.v4
            } else {
                &mut table.v6
            }
            .insert(route);
        }
        table
    }

    fn add_neighbour(&mut self, spec: &NeighbourSpec) {
        let Some(port) = self.ports.get(usize::from(spec.interface.port)) else {
            return;
        };
        let (Ok(number), Entry::Vacant(place)) = (
            u32::try_from(self.adjacencies.len()),
            self.neighbours.entry((spec.interface, spec.address)),
        ) else {
            return;
        };
        place.insert(number);
        self.adjacencies.push(Adjacency {
            interface: spec.interface,
            macs: [spec.mac, port.mac],
            mtu: port.mtu,
        });
    }

    /// Its generation.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// A port.
    #[inline]
    pub fn port(&self, port: usize) -> Option<&PortSpec> {
        self.ports.get(port)
    }

    /// The smallest MTU of its ports, bytes of an IP packet.
    #[inline]
    pub fn smallest_mtu(&self) -> u16 {
        self.smallest_mtu
    }

    /// An adjacency by its number.
    #[inline]
    pub fn adjacency(&self, number: u32) -> Option<&Adjacency> {
        self.adjacencies.get(number as usize)
    }

    /// The adjacency of a neighbour, if its MAC is known.
    pub fn neighbour(&self, interface: Interface, address: IpAddr) -> Option<&Adjacency> {
        self.neighbours
            .get(&(interface, address))
            .and_then(|number| self.adjacency(*number))
    }

    /// Where packets to this address go: longest prefix, then the neighbour.
    pub fn route(&self, address: IpAddr) -> NextHop {
        let Some(route) = self.find(address) else {
            return NextHop::Unreachable;
        };
        let (interface, neighbour) = match route.target {
            RouteTarget::Local => return NextHop::Local,
            RouteTarget::Unreachable => return NextHop::Unreachable,
            RouteTarget::OnLink(interface) => (interface, address),
            RouteTarget::Gateway(interface, gateway) => (interface, gateway),
        };
        match self.neighbours.get(&(interface, neighbour)) {
            Some(number) => NextHop::Adjacent(*number),
            None => NextHop::Unresolved(interface, neighbour),
        }
    }

    /// The director's address that packets to `address` come from: the route's, else one on the egress port that
    /// shares the next hop's network, else the first of the family there.
    pub fn source_address(&self, address: IpAddr) -> Option<IpAddr> {
        let route = self.find(address)?;
        let (interface, neighbour) = match route.target {
            RouteTarget::OnLink(interface) => (interface, address),
            RouteTarget::Gateway(interface, gateway) => (interface, gateway),
            RouteTarget::Local | RouteTarget::Unreachable => return None,
        };
        let own = &self.port(usize::from(interface.port))?.addresses;
        let family = || {
            own.iter()
                .filter(|(own, _)| own.is_ipv4() == address.is_ipv4())
        };
        route
            .preferred_source
            .or_else(|| {
                let same_network = |(own, length): &&(IpAddr, u8)| {
                    masked(*own, *length) == masked(neighbour, *length)
                };
                family().find(same_network).map(|(own, _)| *own)
            })
            .or_else(|| {
                family()
                    .map(|(own, _)| *own)
                    .find(|own| !is_link_local(*own))
            })
    }

    /// Whether an IPv4 address is this machine's or a broadcast's: what Linux does not take for another's (`inet_addr_type`).
    pub fn is_own_or_broadcast(&self, address: Ipv4Addr) -> bool {
        let broadcast_of = |(own, length): &(IpAddr, u8)| match own {
            IpAddr::V4(own) if *length < 31 => {
                let hosts = u32::MAX.checked_shr((*length).into()).unwrap_or(0);
                address.to_bits() == own.to_bits() | hosts
            }
            _ => false,
        };
        let is_local = || {
            let route = self.find(address.into());
            route.is_some_and(|route| matches!(route.target, RouteTarget::Local))
        };
        let mut addresses = self.ports.iter().flat_map(|port| &port.addresses);
        address.octets()[0] == 0
            || address.is_broadcast()
            || address.is_multicast()
            || is_local()
            || addresses.any(broadcast_of)
    }

    /// Largest IP packet on the way to an address, bytes.
    pub fn mtu_to(&self, address: IpAddr) -> u16 {
        let port = match self.find(address).map(|route| route.target) {
            Some(RouteTarget::OnLink(interface) | RouteTarget::Gateway(interface, _)) => {
                interface.port
            }
            _ => return u16::MAX,
        };
        self.port(usize::from(port))
            .map_or(u16::MAX, |port| port.mtu)
    }

    fn find(&self, address: IpAddr) -> Option<Route> {
        if address.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        }
        .find(address)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Interface = Interface {
        port: 0,
        vlan: None,
    };
    const SERVER: Interface = Interface {
        port: 1,
        vlan: None,
    };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(network: &str, prefix_length: u8, target: RouteTarget) -> RouteSpec {
        RouteSpec {
            address: address(network),
            prefix_length,
            target,
            preferred_source: None,
        }
    }

    fn table() -> ForwardingTable {
        let port = |last, own: &[(&str, u8)]| PortSpec {
            mac: [2, 0, 0, 0, 0, last],
            other_macs: Vec::new(),
            mtu: 1500,
            addresses: own
                .iter()
                .map(|(text, length)| (address(text), *length))
                .collect(),
            fills_udp_checksums: false,
        };
        let gateway = address("192.0.2.254");
        ForwardingTable::new(
            7,
            vec![
                port(1, &[("192.0.2.1", 24), ("2001:db8:1::1", 64)]),
                port(
                    2,
                    &[
                        ("198.51.100.1", 32),
                        ("203.0.113.1", 24),
                        ("fe80::1", 64),
                        ("2001:db8:2::1", 64),
                    ],
                ),
            ],
            &[
                route("0.0.0.0", 0, RouteTarget::Gateway(CLIENT, gateway)),
                route("192.0.2.0", 24, RouteTarget::OnLink(CLIENT)),
                route("203.0.113.0", 24, RouteTarget::OnLink(SERVER)),
                route("203.0.113.1", 32, RouteTarget::Local),
                route("203.0.113.0", 24, RouteTarget::Unreachable),
                route("2001:db8:2::", 64, RouteTarget::OnLink(SERVER)),
                route("10.0.0.0", 8, RouteTarget::Unreachable),
            ],
            &[NeighbourSpec {
                interface: CLIENT,
                address: gateway,
                mac: [2, 0, 0, 0, 0, 9],
            }],
        )
    }

    #[test]
    fn longest_prefix_and_first_route_win() {
        let table = table();
        assert_eq!(table.route(address("8.8.8.8")), NextHop::Adjacent(0));
        assert_eq!(
            table.route(address("192.0.2.10")),
            NextHop::Unresolved(CLIENT, address("192.0.2.10"))
        );
        assert_eq!(table.route(address("203.0.113.1")), NextHop::Local);
        assert_eq!(
            table.route(address("203.0.113.11")),
            NextHop::Unresolved(SERVER, address("203.0.113.11"))
        );
        assert_eq!(table.route(address("10.1.2.3")), NextHop::Unreachable);
        assert_eq!(table.route(address("2001:db8:9::1")), NextHop::Unreachable);
        let macs = table.adjacency(0).unwrap().macs;
        assert_eq!(macs, [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]]);
    }

    #[test]
    fn tunnel_source_is_on_the_servers_network() {
        let table = table();
        assert_eq!(
            table.source_address(address("203.0.113.11")),
            Some(address("203.0.113.1"))
        );
        assert_eq!(
            table.source_address(address("2001:db8:2::11")),
            Some(address("2001:db8:2::1"))
        );
        assert_eq!(
            table.source_address(address("8.8.8.8")),
            Some(address("192.0.2.1"))
        );
        assert_eq!(table.source_address(address("203.0.113.1")), None);
    }
}
