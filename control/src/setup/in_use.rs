//! What the kernel uses a NIC for, so that nobody cuts off the branch he sits on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::ssh;
use crate::host::{Root, network, pci::PciDevice};

/// `ip`'s words for the default routes.
const DEFAULT_IPV4: &[&str] = &["route", "show", "default"];
const DEFAULT_IPV6: &[&str] = &["-6", "route", "show", "default"];

/// What goes over the interfaces of a machine.
#[derive(Debug, Default)]
pub struct Uses {
    interfaces: Vec<network::Interface>,
    default_route: BTreeSet<String>,
    ssh: BTreeSet<String>,
}

/// What an interface is needed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// It has these addresses, and is up.
    Addresses(String),
    /// This, without which the machine may be out of reach.
    Lifeline(&'static str),
}

impl Uses {
    /// Looks at addresses, routes and connections.
    pub fn read(root: &Root) -> Self {
        let interfaces = network::interfaces(root).unwrap_or_default();
        let default_route = [DEFAULT_IPV4, DEFAULT_IPV6]
            .into_iter()
            .flat_map(|words| interfaces_of(&routes(root, words)))
            .flat_map(|name| with_those_below(root, &name))
            .collect();
        let addresses = ssh::addresses(root);
        let ssh = interfaces
            .iter()
            .filter(|interface| {
                let mut own = interface
                    .addresses
                    .iter()
                    .filter_map(|address| address.local);
                own.any(|address| addresses.contains(&address))
            })
            .flat_map(|interface| with_those_below(root, &interface.name))
            .collect();
        Self {
            interfaces,
            default_route,
            ssh,
        }
    }

    /// The gravest use of a NIC, with the interface that has it.
    pub fn of(&self, device: &PciDevice) -> Option<(String, Use)> {
        let lifelines = [
            (&self.default_route, "the default route"),
            (&self.ssh, "an SSH connection"),
        ];
        for (names, what) in lifelines {
            if let Some(name) = device.interfaces.iter().find(|name| names.contains(*name)) {
                return Some((name.clone(), Use::Lifeline(what)));
            }
        }
        let mut known = self.interfaces.iter();
        let interface = known.find(|interface| device.interfaces.contains(&interface.name))?;
        // Link-local IPv6 addresses come by themselves.
        let addresses: Vec<String> = interface
            .addresses
            .iter()
            .filter_map(|address| address.local)
            .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
            .map(|address| address.to_string())
            .collect();
        (interface.is_up() && !addresses.is_empty())
            .then(|| (interface.name.clone(), Use::Addresses(addresses.join(", "))))
    }
}

/// Of routes, each with its next hops, the interfaces.
fn interfaces_of(routes: &[Value]) -> Vec<String> {
    let mut names = Vec::new();
    for route in routes {
        let hops = route.get("nexthops").and_then(Value::as_array);
        let all = std::iter::once(route).chain(hops.into_iter().flatten());
        names.extend(all.filter_map(|hop| Some(hop.get("dev")?.as_str()?.to_owned())));
    }
    names
}

/// The interfaces with a default route that an IPv6 router told of.
pub fn default_routes_of_routers(root: &Root) -> Vec<String> {
    let mut routes = routes(root, DEFAULT_IPV6);
    routes.retain(|route| route["protocol"] == "ra");
    interfaces_of(&routes)
}

fn routes(root: &Root, words: &[&str]) -> Vec<Value> {
    let text = root.ip(words).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// An interface and what it is made of: the ports of a bridge or bond, the link of a VLAN.
fn with_those_below(root: &Root, name: &str) -> Vec<String> {
    let mut found = vec![name.to_owned()];
    let mut next = 0;
    while let Some(name) = found.get(next).cloned() {
        next += 1;
        for entry in root.names(&format!("sys/class/net/{name}")) {
            if let Some(below) = entry.strip_prefix("lower_")
                && !found.iter().any(|known| known == below)
            {
                found.push(below.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::super::host::made_up::MadeUp;
    use super::*;

    const ADDRESSES: &str = r#"[
        {"ifname":"eth0","flags":["UP"],"addr_info":[{"local":"192.0.2.5","prefixlen":24}]},
        {"ifname":"eth1","flags":["UP"],"addr_info":[{"local":"fe80::1","prefixlen":64}]},
        {"ifname":"eth2","flags":["UP"],"addr_info":[{"local":"203.0.113.5","prefixlen":24}]},
        {"ifname":"bond0","flags":["UP"],"addr_info":[]},
        {"ifname":"bond0.7","flags":["UP"],"addr_info":[{"local":"198.51.100.5","prefixlen":24}]}]"#;

    fn machine() -> MadeUp {
        MadeUp::new()
            .pci("0000:01:00.0", "0x020000", "e1000e", 0, 1)
            .file("sys/bus/pci/devices/0000:01:00.0/net/eth0/mtu", "1500")
            .pci("0000:02:00.0", "0x020000", "e1000e", 0, 2)
            .file("sys/bus/pci/devices/0000:02:00.0/net/eth1/mtu", "1500")
            .pci("0000:03:00.0", "0x020000", "e1000e", 0, 3)
            .file("sys/bus/pci/devices/0000:03:00.0/net/eth2/mtu", "1500")
            .file("ip/address", ADDRESSES)
    }

    fn used(machine: &MadeUp, address: &str) -> Option<(String, Use)> {
        let root = machine.root();
        let device = PciDevice::read(&root, address).unwrap();
        Uses::read(&root).of(&device)
    }

    #[test]
    fn an_address_is_a_use_but_not_one_that_came_by_itself() {
        let machine = machine();
        assert_eq!(
            used(&machine, "0000:01:00.0"),
            Some(("eth0".into(), Use::Addresses("192.0.2.5".into())))
        );
        assert_eq!(used(&machine, "0000:02:00.0"), None);
    }

    #[test]
    fn the_default_route_is_found_below_bonds_and_vlans() {
        let machine = machine()
            .file("sys/class/net/bond0.7/lower_bond0/mtu", "1500")
            .file("sys/class/net/bond0/lower_eth1/mtu", "1500")
            .file(
                "ip/route-show-default",
                r#"[{"dst":"default","gateway":"198.51.100.1","dev":"bond0.7"}]"#,
            )
            .file(
                "ip/-6-route-show-default",
                r#"[{"dst":"default","nexthops":[{"dev":"eth2"}]}]"#,
            );
        let lifeline = |name: &str| Some((name.to_owned(), Use::Lifeline("the default route")));
        assert_eq!(used(&machine, "0000:02:00.0"), lifeline("eth1"));
        assert_eq!(used(&machine, "0000:03:00.0"), lifeline("eth2"));
        assert!(matches!(
            used(&machine, "0000:01:00.0"),
            Some((_, Use::Addresses(_)))
        ));
    }

    #[test]
    fn whoever_is_logged_in_stays_so() {
        // 192.0.2.5:22 with a client; 203.0.113.5 only listens.
        let machine = machine().file(
            "proc/net/tcp",
            "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 050200C0:0016 0A0200C0:D431 01 00000000:00000000 00:00000000 00000000 0 0 31\n\
             1: 057100CB:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 32\n",
        );
        let expected = Some(("eth0".to_owned(), Use::Lifeline("an SSH connection")));
        assert_eq!(used(&machine, "0000:01:00.0"), expected);
        assert!(matches!(
            used(&machine, "0000:03:00.0"),
            Some((_, Use::Addresses(_)))
        ));
    }
}
