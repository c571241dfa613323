//! What the kernel uses a NIC for, so that nobody cuts off the branch he sits on.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::{Root, network, pci::PciDevice};

/// TCP's state ESTABLISHED in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";
/// Where sshd listens.
const SSH_PORT: u16 = 22;

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
        let routed = [
            &["route", "show", "default"][..],
            &["-6", "route", "show", "default"],
        ];
        let default_route = routed
            .into_iter()
            .flat_map(|words| interfaces_of_routes(root, words))
            .flat_map(|name| with_those_below(root, &name))
            .collect();
        let addresses = ssh_addresses(root);
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

fn interfaces_of_routes(root: &Root, words: &[&str]) -> Vec<String> {
    let text = root.ip(words).unwrap_or_default();
    let routes: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
    let mut names = Vec::new();
    for route in &routes {
        let hops = route.get("nexthops").and_then(|hops| hops.as_array());
        let all = std::iter::once(route).chain(hops.into_iter().flatten());
        names.extend(all.filter_map(|hop| Some(hop.get("dev")?.as_str()?.to_owned())));
    }
    names
}

/// The interfaces with a default route that an IPv6 router told of.
pub fn default_routes_of_routers(root: &Root) -> Vec<String> {
    let text = root.ip(&["-6", "route", "show", "default"]);
    let routes: Vec<serde_json::Value> =
        serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
    let of_routers = routes.iter().filter(|route| route["protocol"] == "ra");
    let names = of_routers.filter_map(|route| Some(route["dev"].as_str()?.to_owned()));
    names.collect()
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

/// The addresses of this machine by which somebody is logged in.
fn ssh_addresses(root: &Root) -> BTreeSet<IpAddr> {
    let tables = ["proc/net/tcp", "proc/net/tcp6"];
    let texts = tables.into_iter().filter_map(|table| root.text(table));
    texts
        .flat_map(|text| text.lines().filter_map(ssh_address).collect::<Vec<_>>())
        .collect()
}

/// proc(5): `sl local_address rem_address st ...`, addresses as the processor's words in hexadecimal.
fn ssh_address(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let state = words.nth(1)?;
    if state != ESTABLISHED || u16::from_str_radix(port, 16) != Ok(SSH_PORT) {
        return None;
    }
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_le_bytes());
    }
    let v4 = |bytes: [u8; 4]| IpAddr::V4(Ipv4Addr::from(bytes));
    let v6 = |bytes: [u8; 16]| Ipv6Addr::from(bytes).to_canonical();
    <[u8; 4]>::try_from(bytes.as_slice())
        .map(v4)
        .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(v6))
        .ok()
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
             0: 050200C0:0016 0A0200C0:D431 01 00000000:00000000\n\
             1: 057100CB:0016 00000000:0000 0A 00000000:00000000\n",
        );
        let expected = Some(("eth0".to_owned(), Use::Lifeline("an SSH connection")));
        assert_eq!(used(&machine, "0000:01:00.0"), expected);
        assert!(matches!(
            used(&machine, "0000:03:00.0"),
            Some((_, Use::Addresses(_)))
        ));
        let line =
            "0: 0000000000000000FFFF0000050200C0:0016 00000000000000000000000000000000:1 01 0";
        assert_eq!(ssh_address(line), Some("192.0.2.5".parse().unwrap()));
    }
}
