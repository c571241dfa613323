//! On which NUMA node things belong: workers, frames and table near the NICs, for each packet of a NIC on another node
//! crosses between the nodes, and so does each look at its frame. What the data plane does, `pollux setup` prepares and
//! `pollux doctor` looks for is one answer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The most workers: DPDK knows 128 threads (`RTE_MAX_LCORE`), and the main thread is one.
pub const WORKERS_MAX: usize = 127;

/// Which node each processor is on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    node_of: BTreeMap<u16, u16>,
}

/// A port on another node than workers that poll it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Its device's node.
    pub node: u16,
    /// The cores of those workers.
    pub cores: Vec<u16>,
}

impl FromIterator<(u16, u16)> for Topology {
    /// Of processors, each with its node; empty where the kernel knows no nodes.
    fn from_iter<T: IntoIterator<Item = (u16, u16)>>(processors: T) -> Self {
        Self {
            node_of: processors.into_iter().collect(),
        }
    }
}

impl Topology {
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
        home(devices).filter(|_| self.is_several())
    }

    /// The cores that workers have when none are named, of those that may be used, in ascending order: all but the first,
    /// which is left to the control side and the rest of the system, and of those the ones on nodes with devices.
    pub fn default_workers(&self, usable: &[u16], devices: &[Option<u16>]) -> Vec<u16> {
        let all = match usable {
            [_first, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        let near = self.near(all, devices);
        let mut workers = near.unwrap_or_else(|| all.to_vec());
        workers.truncate(WORKERS_MAX);
        workers
    }

    /// Of the cores that workers would have, those on nodes with devices; none when that is no choice.
    fn near(&self, cores: &[u16], devices: &[Option<u16>]) -> Option<Vec<u16>> {
        if !self.is_several() {
            return None;
        }
        let nodes: BTreeSet<u16> = devices.iter().flatten().copied().collect();
        let is_near = |core: &&u16| self.node(**core).is_some_and(|node| nodes.contains(&node));
        let near: Vec<u16> = cores.iter().filter(is_near).copied().collect();
        (!near.is_empty() && near.len() < cores.len()).then_some(near)
    }

    /// The places of the workers that poll a device with so many receive queues, in the order of the queues: a queue for
    /// each as far as they go, and where they do not go far, for those on the device's node first.
    pub fn pollers(&self, workers: &[u16], device: Option<u16>, queues: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..workers.len()).collect();
        // Otherwise the queues of all ports have the same workers, so that both directions of a connection may meet.
        if queues < workers.len() && device.is_some() && self.is_several() {
            let is_far = |place: &usize| {
                let core = workers.get(*place);
                core.is_none_or(|core| self.node(*core) != device)
            };
            places.sort_by_key(is_far);
        }
        places.truncate(queues);
        places
    }

    /// Whether a device is on another node than workers of these cores, which poll it.
    pub fn crossing(&self, device: Option<u16>, cores: &[u16]) -> Option<Crossing> {
        let node = device.filter(|_| self.is_several())?;
        let is_far = |core: &&u16| self.node(**core).is_some_and(|of| of != node);
        let cores: Vec<u16> = cores.iter().filter(is_far).copied().collect();
        (!cores.is_empty()).then_some(Crossing { node, cores })
    }
}

/// The node that most of these devices are on, the lower one of two.
pub fn home(devices: &[Option<u16>]) -> Option<u16> {
    let counts = count(devices).into_iter();
    let known = counts.filter_map(|(node, count)| Some((node?, count)));
    // Of two with as many the lower one.
    let most = known.max_by_key(|(node, count)| (*count, Reverse(*node)))?;
    Some(most.0)
}

/// How many of these devices are on which node.
pub fn count(devices: &[Option<u16>]) -> BTreeMap<Option<u16>, usize> {
    let mut counts = BTreeMap::new();
    for node in devices {
        *counts.entry(*node).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes with the even and the odd of eight cores.
    fn two_nodes() -> Topology {
        (0..8).map(|core| (core, core % 2)).collect()
    }

    fn one_node() -> Topology {
        (0..8).map(|core| (core, 0)).collect()
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
        let cores: Vec<u16> = (0..8).collect();
        let workers = |devices: &[Option<u16>]| two_nodes().default_workers(&cores, devices);
        let all_but_the_first: Vec<u16> = (1..8).collect();
        assert_eq!(workers(&[Some(1), None]), [1, 3, 5, 7]);
        assert_eq!(workers(&[Some(0)]), [2, 4, 6]);
        assert_eq!(workers(&[Some(0), Some(1)]), all_but_the_first);
        assert_eq!(workers(&[None]), all_but_the_first);
        // A node without processors of ours: there is no choice.
        assert_eq!(workers(&[Some(2)]), all_but_the_first);
        assert_eq!(
            one_node().default_workers(&cores, &[Some(0)]),
            all_but_the_first
        );
        assert_eq!(Topology::default().default_workers(&[4], &[]), [4]);
        let many: Vec<u16> = (0..200).collect();
        let workers = Topology::default().default_workers(&many, &[]);
        assert_eq!(workers.len(), WORKERS_MAX);
    }

    #[test]
    fn few_queues_go_to_workers_near_the_device() {
        let pollers = |device, queues| two_nodes().pollers(&[2, 3, 4, 5], device, queues);
        assert_eq!(pollers(Some(1), 1), [1]);
        assert_eq!(pollers(Some(1), 3), [1, 3, 0]);
        assert_eq!(pollers(Some(0), 2), [0, 2]);
        assert_eq!(pollers(None, 2), [0, 1]);
        // A queue for each: the same workers on all ports.
        assert_eq!(pollers(Some(1), 4), [0, 1, 2, 3]);
        assert_eq!(pollers(Some(1), 9), [0, 1, 2, 3]);
        assert_eq!(one_node().pollers(&[2, 3], Some(0), 1), [0]);
    }

    #[test]
    fn a_crossing_names_the_far_cores() {
        let crossing = |device, cores: &[u16]| two_nodes().crossing(device, cores);
        let found = |node, cores: &[u16]| {
            let cores = cores.to_vec();
            Some(Crossing { node, cores })
        };
        assert_eq!(crossing(Some(1), &[1, 2, 3]), found(1, &[2]));
        assert_eq!(crossing(Some(0), &[1, 2, 3]), found(0, &[1, 3]));
        assert_eq!(crossing(Some(1), &[1, 3]), None);
        assert_eq!(crossing(None, &[1, 2]), None);
        assert_eq!(one_node().crossing(Some(1), &[1, 2]), None);
    }
}
