//! On which NUMA node things belong: workers, frames and table near the NICs, for each packet of a NIC on another node
//! crosses between the nodes, and so does each look at its frame.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pollux_api::DataplaneSettings;
use pollux_api::bond::Bond;

/// Which node each processor is on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    node_of: BTreeMap<u16, u16>,
}

/// A port on another node than workers that serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// The port.
    pub port: String,
    /// Its device's node.
    pub node: u16,
    /// The cores of those workers.
    pub cores: Vec<u16>,
}

impl Topology {
    /// Reads this machine's, below a root directory; empty where the kernel knows no nodes.
    pub fn read(root: &Path) -> Self {
        let directory = root.join("sys/devices/system/cpu");
        let number_in = |name: &std::ffi::OsStr, start: &str| {
            name.to_str()?.strip_prefix(start)?.parse::<u16>().ok()
        };
        let names = |path: &Path| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
        };
        let cores = names(&directory).into_iter();
        let node_of = cores.filter_map(|name| {
            let core = number_in(&name, "cpu")?;
            let nodes = names(&directory.join(&name)).into_iter();
            let mut nodes = nodes.filter_map(|name| number_in(&name, "node"));
            Some((core, nodes.next()?))
        });
        Self {
            node_of: node_of.collect(),
        }
    }

    /// Whether there is more than one node; else nothing here matters.
    pub fn is_several(&self) -> bool {
        let mut nodes = self.node_of.values();
        let first = nodes.next();
        nodes.any(|node| Some(node) != first)
    }

    /// The node of a core.
    pub fn node(&self, core: u16) -> Option<u16> {
        self.node_of.get(&core).copied()
    }

    /// The node that most of these devices are on, the lower one of two; none on a machine with one node, or when no
    /// device says.
    pub fn home(&self, devices: &[Option<u16>]) -> Option<u16> {
        if !self.is_several() {
            return None;
        }
        let mut counts = BTreeMap::<u16, usize>::new();
        for node in devices.iter().flatten() {
            *counts.entry(*node).or_default() += 1;
        }
        let most = *counts.values().max()?;
        counts
            .into_iter()
            .find_map(|(node, count)| (count == most).then_some(node))
    }

    /// Of the cores that workers would have, those on nodes with devices; none when that is no choice.
    pub fn near(&self, cores: &[u16], devices: &[Option<u16>]) -> Option<Vec<u16>> {
        if !self.is_several() {
            return None;
        }
        let nodes: BTreeSet<u16> = devices.iter().flatten().copied().collect();
        let is_near = |core: &&u16| self.node(**core).is_some_and(|node| nodes.contains(&node));
        let near: Vec<u16> = cores.iter().filter(is_near).copied().collect();
        (!near.is_empty() && near.len() < cores.len()).then_some(near)
    }

    /// Which ports are on another node than workers of theirs.
    pub fn crossings(&self, ports: &[(String, Option<u16>)], workers: &[u16]) -> Vec<Crossing> {
        if !self.is_several() {
            return Vec::new();
        }
        let crossing = ports.iter().filter_map(|(port, node)| {
            let node = (*node)?;
            let is_far = |core: &&u16| self.node(**core).is_some_and(|of| of != node);
            let cores: Vec<u16> = workers.iter().filter(is_far).copied().collect();
            (!cores.is_empty()).then(|| Crossing {
                port: port.clone(),
                node,
                cores,
            })
        });
        crossing.collect()
    }
}

/// The nodes of the NICs that the settings name, below a root directory; none of a device that has none or does not say.
pub fn of_nics(root: &Path, settings: &DataplaneSettings) -> Vec<Option<u16>> {
    let ports = settings.ports.iter();
    let devices = ports.flat_map(|port| Bond::devices(&port.device));
    devices
        .map(|device| {
            let address: dpdk_bindings::PciAddress = device.parse().ok()?;
            let file = root.join(format!("sys/bus/pci/devices/{address}/numa_node"));
            // -1: the firmware does not say.
            fs::read_to_string(file).ok()?.trim().parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes with the even and the odd of eight cores.
    fn two_nodes() -> Topology {
        Topology {
            node_of: (0..8).map(|core| (core, core % 2)).collect(),
        }
    }

    fn one_node() -> Topology {
        Topology {
            node_of: (0..8).map(|core| (core, 0)).collect(),
        }
    }

    #[test]
    fn home_is_where_most_devices_are() {
        let home = |devices: &[Option<u16>]| two_nodes().home(devices);
        assert_eq!(home(&[Some(1), Some(1), Some(0)]), Some(1));
        assert_eq!(home(&[Some(1), Some(0)]), Some(0));
        assert_eq!(home(&[None, Some(1)]), Some(1));
        assert_eq!(home(&[None, None]), None);
        assert_eq!(one_node().home(&[Some(0)]), None);
        assert_eq!(Topology::default().home(&[Some(0)]), None);
    }

    #[test]
    fn workers_are_on_nodes_with_devices_unless_they_are_named() {
        let cores: Vec<u16> = (1..8).collect();
        let near = |devices: &[Option<u16>]| two_nodes().near(&cores, devices);
        assert_eq!(near(&[Some(1), None]), Some(vec![1, 3, 5, 7]));
        assert_eq!(near(&[Some(0)]), Some(vec![2, 4, 6]));
        assert_eq!(near(&[Some(0), Some(1)]), None);
        assert_eq!(near(&[None]), None);
        // A node without processors of ours: there is no choice.
        assert_eq!(near(&[Some(2)]), None);
        assert_eq!(one_node().near(&cores, &[Some(0)]), None);
    }

    #[test]
    fn a_crossing_names_the_port_and_the_far_cores() {
        let port = |name: &str, node| (name.to_owned(), node);
        let ports = [
            port("wan", Some(1)),
            port("lan", Some(0)),
            port("tap", None),
        ];
        let crossing = |port: &str, node, cores: &[u16]| Crossing {
            port: port.to_owned(),
            node,
            cores: cores.to_vec(),
        };
        assert_eq!(
            two_nodes().crossings(&ports, &[1, 2, 3]),
            [crossing("wan", 1, &[2]), crossing("lan", 0, &[1, 3])]
        );
        assert_eq!(two_nodes().crossings(&ports[..1], &[1, 3]), []);
        assert_eq!(one_node().crossings(&ports, &[1, 2]), []);
    }

    #[test]
    fn a_machine_is_read_from_its_files() {
        let root = std::env::temp_dir().join(format!("pollux-numa-{}", std::process::id()));
        for (core, node) in [(0, 0), (1, 1), (12, 1)] {
            let path = root.join(format!("sys/devices/system/cpu/cpu{core}/node{node}"));
            fs::create_dir_all(path).unwrap();
        }
        fs::create_dir_all(root.join("sys/devices/system/cpu/cpufreq")).unwrap();
        for (address, node) in [("0000:03:00.0", "1\n"), ("0000:04:00.0", "-1\n")] {
            let device = root.join(format!("sys/bus/pci/devices/{address}"));
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("numa_node"), node).unwrap();
        }
        let topology = Topology::read(&root);
        let settings: DataplaneSettings = serde_json::from_str(
            r#"{"port":[{"name":"a","device":"bond:lacp:03:00.0+04:00.0"},{"name":"b","device":"net_null0"},
                {"name":"c","device":"0000:05:00.0"}]}"#,
        )
        .unwrap();
        let nodes = of_nics(&root, &settings);
        fs::remove_dir_all(&root).unwrap();
        let expected = Topology {
            node_of: [(0, 0), (1, 1), (12, 1)].into(),
        };
        assert_eq!(topology, expected);
        assert_eq!(nodes, [Some(1), None, None, None]);
    }
}
