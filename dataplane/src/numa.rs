//! What this machine's NUMA nodes are, and how a thread has memory of one. What belongs on which: [`pollux_api::numa`].

use std::fs;
use std::path::Path;

use pollux_api::DataplaneSettings;
use pollux_api::bond::Bond;
use pollux_api::numa::Topology;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Reads this machine's processors, below a root directory; empty where the kernel knows no nodes.
pub fn topology(root: &Path) -> Topology {
    let directory = root.join("sys/devices/system/cpu");
    let number_in = |name: &std::ffi::OsStr, start: &str| {
        name.to_str()?.strip_prefix(start)?.parse::<u16>().ok()
    };
    let names = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
    };
    let processors = names(&directory).into_iter();
    let with_nodes = processors.filter_map(|name| {
        let processor = number_in(&name, "cpu")?;
        let nodes = names(&directory.join(&name)).into_iter();
        let mut nodes = nodes.filter_map(|name| number_in(&name, "node"));
        Some((processor, nodes.next()?))
    });
    with_nodes.collect()
}

/// The nodes of the devices that the settings name, those of a bond's members each, below a root directory; none of a
/// device that has none or does not say.
pub fn of_devices(root: &Path, settings: &DataplaneSettings) -> Vec<Option<u16>> {
    let ports = settings.ports.iter();
    let devices = ports.flat_map(|port| Bond::devices(&port.device));
    devices.map(|device| of_device(root, &device)).collect()
}

/// The node of a NIC.
pub fn of_device(root: &Path, device: &str) -> Option<u16> {
    let address: dpdk_bindings::PciAddress = device.parse().ok()?;
    let file = root.join(format!("sys/bus/pci/devices/{address}/numa_node"));
    // -1: the firmware does not say.
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The calling thread is on some cores while this lives: what it touches first has memory of their node.
#[derive(Debug)]
pub struct Visit {
    /// Where it was.
    before: Option<CpuSet>,
}

impl Visit {
    /// Goes there; stays where it is when there are none, or the kernel does not want it.
    pub fn to(cores: &[u16]) -> Self {
        let mut there = CpuSet::new();
        for core in cores {
            there.set(usize::from(*core));
        }
        let before = sched_getaffinity(None).ok();
        Self {
            before: before.filter(|_| !cores.is_empty() && sched_setaffinity(None, &there).is_ok()),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = sched_setaffinity(None, before)
        {
            log::warn!("the main thread cannot leave cores of workers: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let found = topology(&root);
        let settings: DataplaneSettings = serde_json::from_str(
            r#"{"port":[{"name":"a","device":"bond:lacp:03:00.0+04:00.0"},{"name":"b","device":"net_null0"},
                {"name":"c","device":"0000:05:00.0"}]}"#,
        )
        .unwrap();
        let nodes = of_devices(&root, &settings);
        fs::remove_dir_all(&root).unwrap();
        let expected: Topology = [(0, 0), (1, 1), (12, 1)].into_iter().collect();
        assert_eq!(found, expected);
        assert_eq!(nodes, [Some(1), None, None, None]);
    }

    #[test]
    fn a_thread_comes_back_from_a_visit() {
        let here = || sched_getaffinity(None).unwrap();
        let before = here();
        let first = (0..CpuSet::MAX_CPU)
            .find(|cpu| before.is_set(*cpu))
            .unwrap();
        let visit = Visit::to(&[u16::try_from(first).unwrap()]);
        assert_eq!(here().count(), 1);
        assert!(here().is_set(first));
        drop(visit);
        assert_eq!(here(), before);
        drop(Visit::to(&[]));
        assert_eq!(here(), before);
        // A core that is not there.
        drop(Visit::to(&[1023]));
        assert_eq!(here(), before);
    }
}
