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

/// What of the lab changes in a scenario.
#[derive(Debug, Clone)]
pub struct Topology {
    /// MTU of `cl0` and `rs0`.
    pub mtu: [u16; 2],
    /// VLAN of the wires; the recorder's have none.
    pub vlan: [Option<u16>; 2],
    /// Networks by way of the client gateway.
    pub by_gateway: Vec<(IpAddr, u8)>,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            mtu: [1500; 2],
            vlan: [None; 2],
            by_gateway: vec![
                (Ipv4Addr::UNSPECIFIED.into(), 0),
                (Ipv6Addr::UNSPECIFIED.into(), 0),
            ],
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Topology {
    /// Whether an address is the director's own.
    pub fn is_local(address: IpAddr) -> bool {
        local_networks()
            .iter()
            .any(|(network, length)| match (network, address) {
                (IpAddr::V4(network), IpAddr::V4(address)) => {
                    (network.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(*length)
                }
                (IpAddr::V6(network), IpAddr::V6(address)) => {
                    (network.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(*length)
                }
                _ => false,
            })
    }

    /// The forwarding table at a moment.
    pub fn forwarding_table(&self, generation: u32) -> ForwardingTable {
        let [cl_mtu, rs_mtu] = self.mtu;
        let ports = vec![
            PortSpec {
                mac: mac(Wire::Cl),
                other_macs: Vec::new(),
                mtu: cl_mtu,
                addresses: vec![
                    (address("192.0.2.1"), 24),
                    (address("192.0.2.100"), 32),
                    (address("2001:db8::1"), 64),
                    (address("2001:db8::100"), 128),
                ],
            },
            PortSpec {
                mac: mac(Wire::Rs),
                other_macs: Vec::new(),
                mtu: rs_mtu,
                addresses: vec![(address("10.1.0.1"), 24), (address("2001:db8:1::1"), 64)],
            },
        ];
        ForwardingTable::new(generation, ports, &self.routes(), &self.neighbours())
    }

    fn interfaces(&self) -> [Interface; 2] {
        let [client_vlan, server_vlan] = self.vlan;
        [(CL, client_vlan), (RS, server_vlan)].map(|(port, vlan)| Interface { port, vlan })
    }

    fn routes(&self) -> Vec<RouteSpec> {
        let [client_side, server_side] = self.interfaces();
        let route = |address, prefix_length, target| RouteSpec {
            address,
            prefix_length,
            target,
            preferred_source: None,
        };
        let local = local_networks()
            .into_iter()
            .map(|(network, length)| route(network, length, RouteTarget::Local));
        let on_link = [
            ("192.0.2.0", 24, client_side),
            ("2001:db8::", 64, client_side),
            ("10.1.0.0", 24, server_side),
            ("2001:db8:1::", 64, server_side),
        ]
        .map(|(network, length, interface)| {
            route(address(network), length, RouteTarget::OnLink(interface))
        });
        let by_gateway = self.by_gateway.iter().map(|(network, length)| {
            let gateway = gateway(network.is_ipv4());
            route(
                *network,
                *length,
                RouteTarget::Gateway(client_side, gateway),
            )
        });
        local.chain(on_link).chain(by_gateway).collect()
    }

    fn neighbours(&self) -> Vec<NeighbourSpec> {
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
        gateways.into_iter().chain(servers).collect()
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
