//! Machines for tests: a directory with the files a test needs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::Root;

/// A machine in the making; its directory goes with it.
#[derive(Debug)]
pub struct MadeUp(tempfile::TempDir);

impl Default for MadeUp {
    fn default() -> Self {
        Self::new()
    }
}

impl MadeUp {
    /// One with nothing in it.
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With this file, or with another text in it.
    pub fn file(self, path: &str, text: &str) -> Self {
        fs::write(self.place(path), text).unwrap();
        self
    }

    /// With this symbolic link, to somewhere that need not be there.
    pub fn link(self, path: &str, target: &str) -> Self {
        let place = self.place(path);
        let _ = fs::remove_file(&place);
        symlink(target, place).unwrap();
        self
    }

    /// Without this file or directory.
    pub fn without(self, path: &str) -> Self {
        let path = self.path().join(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        self
    }

    /// With processors of these numbers on one node, each a core of its own.
    pub fn cpus(mut self, node: u16, numbers: std::ops::Range<u16>) -> Self {
        for number in numbers {
            let cpu = format!("sys/devices/system/cpu/cpu{number}");
            self = self
                .file(
                    &format!("{cpu}/topology/thread_siblings_list"),
                    &number.to_string(),
                )
                .file(&format!("{cpu}/node{node}/meminfo"), "");
        }
        self
    }

    /// With a PCI device: its class, the driver it is bound to (or none), its node and IOMMU group.
    pub fn pci(self, address: &str, class: &str, driver: &str, node: i32, group: u32) -> Self {
        let device = format!("sys/bus/pci/devices/{address}");
        let machine = self
            .file(&format!("{device}/vendor"), "0x8086\n")
            .file(&format!("{device}/device"), "0x10d3\n")
            .file(&format!("{device}/class"), &format!("{class}\n"))
            .file(&format!("{device}/numa_node"), &format!("{node}\n"))
            .link(
                &format!("{device}/iommu_group"),
                &format!("../../../kernel/iommu_groups/{group}"),
            )
            .link(
                &format!("sys/kernel/iommu_groups/{group}/devices/{address}"),
                &format!("../../../../bus/pci/devices/{address}"),
            );
        if driver.is_empty() {
            return machine;
        }
        machine.link(
            &format!("{device}/driver"),
            &format!("../../../bus/pci/drivers/{driver}"),
        )
    }

    /// With huge pages of 2 MiB, on node 0: all, and those that are free.
    pub fn huge_pages(self, total: u64, free: u64) -> Self {
        let mut machine = self;
        for directory in [
            "sys/kernel/mm/hugepages/hugepages-2048kB",
            "sys/devices/system/node/node0/hugepages/hugepages-2048kB",
        ] {
            machine = machine
                .file(&format!("{directory}/nr_hugepages"), &total.to_string())
                .file(&format!("{directory}/free_hugepages"), &free.to_string())
                .file(&format!("{directory}/resv_hugepages"), "0");
        }
        machine
    }

    /// To look at.
    pub fn root(&self) -> Root {
        Root::new(self.path())
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn place(&self, path: &str) -> PathBuf {
        let place = self.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    }
}
