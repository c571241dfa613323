//! The recorder's lab as the director's forwarding table: two wires, permanent neighbours, MTU 1500.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pollux_engine::forwarding_table::{
    ForwardingTable, Interface, NeighbourSpec, PortSpec, RouteSpec, RouteTarget,
};
use pollux_engine::wire::ethernet::MacAddress;

use super::trace::Wire;

/// The client gateway's MAC.
pub const GATEWAY_MAC: MacAddress = [2, 0, 0, 0, 0, 2];
/// Servers of the lab, numbered from 1.
pub const SERVERS: u8 = 6;

const CL: u16 = 0;
const RS: u16 = 1;

/// The port's number on a wire.
pub fn port(wire: Wire) -> u16 {
    match wire {
        Wire::Cl => CL,
        Wire::Rs => RS,
    }
}

/// The director's MAC on a wire.
pub fn mac(wire: Wire) -> MacAddress {
    match wire {
        Wire::Cl => [2, 0, 0, 0, 0, 1],
        Wire::Rs => [2, 0, 0, 0, 1, 1],
    }
}

/// A server's MAC.
pub fn server_mac(server: u8) -> MacAddress {
    [2, 0, 0, 0, 1, 0x10 + server]
}

/// A server's IPv4 address.
pub fn server_v4(server: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, 10 + server).into()
}

/// A server's IPv6 address: the decimal digits of `1N` read as hexadecimal ones.
pub fn server_v6(server: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10 + u16::from(server)).into()
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the director itself.
    Local,
    /// To whoever is on the wire.
    OnLink(Wire),
    /// To a gateway on one of the wires.
    Via(IpAddr),
}

/// What of the lab changes in a scenario.
#[derive(Debug, Clone)]
pub struct Topology {
    /// MTU of `cl0` and `rs0`.
    pub mtu: [u16; 2],
    /// VLAN of the wires; the recorder's have none.
    pub vlan: [Option<u16>; 2],
    /// Whether its NICs fill in checksums of UDP.
    pub fills_udp_checksums: bool,
    /// Networks by way of the client gateway.
    pub by_gateway: Vec<(IpAddr, u8)>,
    /// Routes that a scenario made; of a network that has none any more, none.
    routes: Vec<(IpAddr, u8, Option<Target>)>,
    /// Addresses that a scenario gave.
    addresses: Vec<(Option<Wire>, IpAddr, u8)>,
    /// Addresses that it took away.
    removed: Vec<IpAddr>,
    /// Neighbours that it made, or took away.
    neighbours: Vec<(Wire, IpAddr, Option<MacAddress>)>,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            mtu: [1500; 2],
            vlan: [None; 2],
            fills_udp_checksums: false,
            by_gateway: vec![
                (Ipv4Addr::UNSPECIFIED.into(), 0),
                (Ipv6Addr::UNSPECIFIED.into(), 0),
            ],
            routes: Vec::new(),
            addresses: Vec::new(),
            removed: Vec::new(),
            neighbours: Vec::new(),
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Topology {
    /// Whether an address is the director's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.local_networks()
            .iter()
            .any(|(network, length)| is_in(address, *network, *length))
    }

    /// Whether the director has somewhere to send what is for this address.
    pub fn has_route(&self, address: IpAddr) -> bool {
        self.all_routes()
            .iter()
            .any(|route| is_in(address, route.address, route.prefix_length))
    }

    /// Where the director sends what is for this address: the longest route's.
    fn towards(&self, address: IpAddr) -> Option<(Interface, IpAddr)> {
        let routes = self.all_routes().into_iter();
        let longest = routes
            .filter(|route| is_in(address, route.address, route.prefix_length))
            .max_by_key(|route| route.prefix_length)?;
        match longest.target {
            RouteTarget::OnLink(interface) => Some((interface, address)),
            RouteTarget::Gateway(interface, gateway) => Some((interface, gateway)),
            _ => None,
        }
    }

    /// Whether the next hop to an address is one whose MAC address is known.
    pub fn has_neighbour(&self, address: IpAddr) -> bool {
        let Some((_, hop)) = self.towards(address) else {
            return false;
        };
        self.all_neighbours()
            .iter()
            .any(|known| known.address == hop)
    }

    /// The most that the way to an address carries.
    pub fn mtu_towards(&self, address: IpAddr) -> u16 {
        let towards = self.towards(address);
        towards.map_or(u16::MAX, |(interface, _)| {
            self.mtu[usize::from(interface.port == RS)]
        })
    }

    /// Makes a route, or takes it away.
    pub fn route(&mut self, network: IpAddr, length: u8, target: Option<Target>) {
        self.by_gateway.retain(|route| *route != (network, length));
        self.routes
            .retain(|route| (route.0, route.1) != (network, length));
        self.routes.push((network, length, target));
    }

    /// Gives an address, and with it the network that it is of.
    pub fn add_address(&mut self, wire: Option<Wire>, address: IpAddr, length: u8) {
        self.removed.retain(|removed| *removed != address);
        self.addresses.push((wire, address, length));
    }

    /// Takes an address away.
    pub fn remove_address(&mut self, address: IpAddr) {
        self.addresses.retain(|own| own.1 != address);
        self.removed.push(address);
    }

    /// Makes a permanent neighbour, or takes it away.
    pub fn neighbour(&mut self, wire: Wire, address: IpAddr, mac: Option<MacAddress>) {
        self.neighbours
            .retain(|known| (known.0, known.1) != (wire, address));
        self.neighbours.push((wire, address, mac));
    }

    fn local_networks(&self) -> Vec<(IpAddr, u8)> {
        let own = self.addresses.iter().map(|(_, address, _)| {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            (*address, whole)
        });
        let routes = self.routes.iter();
        let routed = routes
            .filter(|route| route.2 == Some(Target::Local))
            .map(|route| (route.0, route.1));
        let without = |known: &(IpAddr, u8)| !self.removed.contains(&known.0);
        let mut local: Vec<_> = local_networks()
            .into_iter()
            .filter(|known| {
                let mut routes = self.routes.iter();
                without(known) && !routes.any(|route| (route.0, route.1) == *known)
            })
            .collect();
        local.extend(own.chain(routed));
        local
    }

    /// The forwarding table at a moment.
    pub fn forwarding_table(&self, generation: u32) -> ForwardingTable {
        let [cl_mtu, rs_mtu] = self.mtu;
        let own = |wire: Wire, given: &[(&str, u8)]| {
            let given = given.iter().map(|(text, length)| (address(text), *length));
            let given = given.filter(|(address, _)| !self.removed.contains(address));
            let added = self.addresses.iter();
            let added = added.filter(|added| added.0 == Some(wire));
            given.chain(added.map(|added| (added.1, added.2))).collect()
        };
        let ports = vec![
            PortSpec {
                mac: mac(Wire::Cl),
                other_macs: Vec::new(),
                mtu: cl_mtu,
                addresses: own(
                    Wire::Cl,
                    &[
                        ("192.0.2.1", 24),
                        ("192.0.2.100", 32),
                        ("2001:db8::1", 64),
                        ("2001:db8::100", 128),
                    ],
                ),
                fills_udp_checksums: self.fills_udp_checksums,
            },
            PortSpec {
                mac: mac(Wire::Rs),
                other_macs: Vec::new(),
                mtu: rs_mtu,
                addresses: own(Wire::Rs, &[("10.1.0.1", 24), ("2001:db8:1::1", 64)]),
                fills_udp_checksums: self.fills_udp_checksums,
            },
        ];
        ForwardingTable::new(
            generation,
            ports,
            &self.all_routes(),
            &self.all_neighbours(),
        )
    }

    fn interfaces(&self) -> [Interface; 2] {
        let [client_vlan, server_vlan] = self.vlan;
        [(CL, client_vlan), (RS, server_vlan)].map(|(port, vlan)| Interface { port, vlan })
    }

    fn all_routes(&self) -> Vec<RouteSpec> {
        let [client_side, server_side] = self.interfaces();
        let route = |address, prefix_length, target| RouteSpec {
            address,
            prefix_length,
            target,
            preferred_source: None,
        };
        let local = self.local_networks();
        let local = local
            .into_iter()
            .map(|(network, length)| route(network, length, RouteTarget::Local));
        let of = |wire: Wire| [client_side, server_side][usize::from(wire == Wire::Rs)];
        let made = self.routes.iter().filter_map(|(network, length, target)| {
            let target = match (*target)? {
                // Among the local networks.
                Target::Local => return None,
                Target::OnLink(wire) => RouteTarget::OnLink(of(wire)),
                Target::Via(gateway) => RouteTarget::Gateway(of(wire_of(gateway)), gateway),
            };
            Some(route(*network, *length, target))
        });
        let connected = self.addresses.iter().filter_map(|(wire, address, length)| {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            let target = RouteTarget::OnLink(of((*wire)?));
            (*length < whole).then(|| route(*address, *length, target))
        });
        let on_link = [
            ("192.0.2.0", 24, client_side),
            ("2001:db8::", 64, client_side),
            ("10.1.0.0", 24, server_side),
            ("2001:db8:1::", 64, server_side),
        ]
        .map(|(network, length, interface)| {
            route(address(network), length, RouteTarget::OnLink(interface))
        })
        .into_iter()
        .filter(|known| {
            let mut routes = self.routes.iter();
            !routes.any(|route| (route.0, route.1) == (known.address, known.prefix_length))
        });
        let by_gateway = self.by_gateway.iter().map(|(network, length)| {
            let gateway = gateway(network.is_ipv4());
            route(
                *network,
                *length,
                RouteTarget::Gateway(client_side, gateway),
            )
        });
        local
            .chain(on_link)
            .chain(connected)
            .chain(by_gateway)
            .chain(made)
            .collect()
    }

    fn all_neighbours(&self) -> Vec<NeighbourSpec> {
        let [client_side, server_side] = self.interfaces();
        let neighbour = |interface, address, mac| NeighbourSpec {
            interface,
            address,
            mac,
        };
        let gateways =
            [true, false].map(|is_v4| neighbour(client_side, gateway(is_v4), GATEWAY_MAC));
        let servers = (1..=SERVERS).flat_map(|server| {
            [server_v4(server), server_v6(server)]
                .map(|address| neighbour(server_side, address, server_mac(server)))
        });
        let given = gateways.into_iter().chain(servers).filter(|known| {
            let mut made = self.neighbours.iter();
            !made.any(|made| made.1 == known.address)
        });
        let made = self.neighbours.iter().filter_map(|(wire, address, mac)| {
            let interface = [client_side, server_side][usize::from(*wire == Wire::Rs)];
            Some(neighbour(interface, *address, (*mac)?))
        });
        given.chain(made).collect()
    }
}

fn is_in(address: IpAddr, network: IpAddr, length: u8) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(length)
        }
        _ => false,
    }
}

/// The wire that a gateway is on: the servers' if its address is of their network.
fn wire_of(gateway: IpAddr) -> Wire {
    let networks = [("10.1.0.0", 24), ("2001:db8:1::", 64)];
    let is_server = |(network, length)| is_in(gateway, address(network), length);
    if networks.into_iter().any(is_server) {
        Wire::Rs
    } else {
        Wire::Cl
    }
}

fn gateway(is_v4: bool) -> IpAddr {
    address(if is_v4 { "192.0.2.2" } else { "2001:db8::2" })
}

fn local_networks() -> Vec<(IpAddr, u8)> {
    let hosts = [
        "192.0.2.1",
        "192.0.2.100",
        "10.1.0.1",
        "2001:db8::1",
        "2001:db8::100",
        "2001:db8:1::1",
    ];
    let networks = [("203.0.113.0", 24), ("2001:db8:f::", 64)];
    let host = |text: &str| (address(text), if text.contains(':') { 128 } else { 32 });
    hosts
        .map(host)
        .into_iter()
        .chain(networks.map(|(text, length)| (address(text), length)))
        .collect()
}
