//! The huge pages of the machine, as the kernel counts them in `/sys/kernel/mm/hugepages`.
//!
//! Read before EAL starts: EAL's own message does not say how many are free nor how to get more.
//! More are to be had any time, as long as the kernel finds memory in one piece:
//!
//! ```text
//! echo 512 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages        1 GB, all NUMA nodes
//! echo 512 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages   node 0
//! vm.nr_hugepages = 512                                 in /etc/sysctl.d, for after a boot
//! ```
//!
//! Pages of 1 GB are used before those of 2 MB, and both together. No hugetlbfs has to be mounted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "/sys/kernel/mm/hugepages";

/// The huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    /// The NUMA node they are on; `None`: those of all nodes.
    pub node: Option<u16>,
    /// The size of one page.
    pub page_kilobytes: u64,
    /// Pages there are, in use or not.
    pub total: u64,
    /// Pages that nobody uses, nor has a claim to.
    pub free: u64,
}

impl HugePages {
    /// The memory of the pages not in use.
    #[must_use]
    pub fn free_megabytes(&self) -> u64 {
        self.free.saturating_mul(self.page_kilobytes) >> 10
    }

    /// What an administrator types to have `megabytes` of free pages of this size.
    #[must_use]
    pub fn command_for(&self, megabytes: u64) -> String {
        let needed = (megabytes << 10).div_ceil(self.page_kilobytes.max(1));
        let pages = self.total.saturating_add(needed.saturating_sub(self.free));
        format!(
            "echo {pages} > {}/nr_hugepages",
            directory_of(self.node, self.page_kilobytes).display()
        )
    }
}

/// The huge pages of every size the kernel knows, smallest first; empty if it knows none.
///
/// # Errors
/// What the kernel answers, if the directory is there but cannot be read.
pub fn read() -> io::Result<Vec<HugePages>> {
    read_of(None)
}

/// The huge pages of a NUMA node, as [`read`] has those of all.
///
/// # Errors
/// As of [`read`].
pub fn read_node(node: u16) -> io::Result<Vec<HugePages>> {
    read_of(Some(node))
}

fn read_of(node: Option<u16>) -> io::Result<Vec<HugePages>> {
    let entries = match fs::read_dir(directory(node)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut sizes = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let size = name
            .to_str()
            .and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB"));
        let Some(Ok(page_kilobytes)) = size.map(str::parse) else {
            continue;
        };
        let directory = directory_of(node, page_kilobytes);
        let total = read_number(&directory.join("nr_hugepages"))?;
        // Which node's pages a promise will take is not known before it is kept.
        let promised = match node {
            None => read_number(&directory.join("resv_hugepages"))?,
            Some(_) => 0,
        };
        let free = read_number(&directory.join("free_hugepages"))?.saturating_sub(promised);
        sizes.push(HugePages {
            node,
            page_kilobytes,
            total,
            free,
        });
    }
    sizes.sort_by_key(|size| size.page_kilobytes);
    Ok(sizes)
}

fn directory(node: Option<u16>) -> PathBuf {
    match node {
        None => PathBuf::from(DIRECTORY),
        Some(node) => PathBuf::from(format!("/sys/devices/system/node/node{node}/hugepages")),
    }
}

fn directory_of(node: Option<u16>, page_kilobytes: u64) -> PathBuf {
    directory(node).join(format!("hugepages-{page_kilobytes}kB"))
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::HugePages;

    #[test]
    fn the_command_adds_what_is_missing_to_what_is_there() {
        let pages = HugePages {
            node: None,
            page_kilobytes: 2048,
            total: 100,
            free: 10,
        };
        assert_eq!(pages.free_megabytes(), 20);
        assert_eq!(
            pages.command_for(1024),
            "echo 602 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        );
        let on_a_node = HugePages {
            node: Some(1),
            ..pages
        };
        assert_eq!(
            on_a_node.command_for(1024),
            "echo 602 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
        );
    }
}
