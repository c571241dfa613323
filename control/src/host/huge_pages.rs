//! The huge pages of the machine and of each of its nodes, and where they are mounted as files.

use super::Root;

const ALL: &str = "sys/kernel/mm/hugepages";
const NODES: &str = "sys/devices/system/node";

/// The huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    /// The size of one, in KiB.
    pub page_kib: u64,
    /// How many there are, in use or not.
    pub total: u64,
    /// How many nobody uses, nor has a claim to.
    pub free: u64,
}

/// A place where huge pages can be had as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory.
    pub directory: String,
    /// The size of its pages in KiB; none: the kernel's default.
    pub page_kib: Option<u64>,
}

impl HugePages {
    /// Memory of all, in MiB.
    pub fn total_mib(self) -> u64 {
        self.total.saturating_mul(self.page_kib) >> 10
    }

    /// Memory of those that are free, in MiB.
    pub fn free_mib(self) -> u64 {
        self.free.saturating_mul(self.page_kib) >> 10
    }

    /// How many pages there must be in all for so much free memory.
    pub fn total_for_free(self, mib: u64) -> u64 {
        let needed = (mib << 10).div_ceil(self.page_kib.max(1));
        self.total.saturating_add(needed.saturating_sub(self.free))
    }
}

/// Those of the machine by size, the smallest first.
pub fn of_machine(root: &Root) -> Vec<HugePages> {
    in_directory(root, ALL)
}

/// Those of each node.
pub fn of_nodes(root: &Root) -> Vec<(u16, Vec<HugePages>)> {
    let names = root.names(NODES);
    let mut nodes: Vec<(u16, Vec<HugePages>)> = names
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .map(|node| {
            (
                node,
                in_directory(root, &format!("{NODES}/node{node}/hugepages")),
            )
        })
        .collect();
    nodes.sort_by_key(|(node, _)| *node);
    nodes
}

/// The file that says how many pages of a size there are to be, on a node or on all together.
pub fn count_file(page_kib: u64, node: Option<u16>) -> String {
    match node {
        Some(node) => format!("/{NODES}/node{node}/hugepages/hugepages-{page_kib}kB/nr_hugepages"),
        None => format!("/{ALL}/hugepages-{page_kib}kB/nr_hugepages"),
    }
}

/// Where they are mounted (`hugetlbfs`).
pub fn mounts(root: &Root) -> Vec<Mount> {
    let text = root.text("proc/mounts").unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (directory, kind, options) = (words.next()?, words.next()?, words.next()?);
        let size = options
            .split(',')
            .find_map(|option| option.strip_prefix("pagesize="));
        (kind == "hugetlbfs").then(|| Mount {
            directory: directory.to_owned(),
            page_kib: size.and_then(kib),
        })
    });
    mounts.collect()
}

/// `2M`, `1024M`, `1G`.
fn kib(text: &str) -> Option<u64> {
    let number = |unit: char| text.strip_suffix(unit)?.parse::<u64>().ok();
    number('K')
        .or_else(|| number('M')?.checked_mul(1 << 10))
        .or_else(|| number('G')?.checked_mul(1 << 20))
}

fn in_directory(root: &Root, directory: &str) -> Vec<HugePages> {
    let names = root.names(directory);
    let sizes = names.iter().filter_map(|name| {
        name.strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()
    });
    let mut found: Vec<HugePages> = sizes
        .map(|page_kib| {
            let number = |name: &str| {
                let file = format!("{directory}/hugepages-{page_kib}kB/{name}");
                root.value(&file).unwrap_or(0_u64)
            };
            HugePages {
                page_kib,
                total: number("nr_hugepages"),
                // Nodes do not say what is claimed.
                free: number("free_hugepages").saturating_sub(number("resv_hugepages")),
            }
        })
        .collect();
    found.sort_by_key(|pages| pages.page_kib);
    found
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;
    use super::*;

    #[test]
    fn pages_of_machine_and_nodes_are_counted() {
        let machine = MadeUp::new()
            .huge_pages(512, 100)
            .file(
                "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages",
                "30",
            )
            .file(
                "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
                "2",
            )
            .file(
                "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
                "1",
            );
        let [small, large] = of_machine(&machine.root())[..] else {
            panic!("two sizes");
        };
        assert_eq!((small.total, small.free), (512, 70));
        assert_eq!((small.total_mib(), small.free_mib()), (1024, 140));
        assert_eq!((large.page_kib, large.free_mib()), (1_048_576, 1024));
        assert_eq!(small.total_for_free(141), 513);
        let nodes = of_nodes(&machine.root());
        assert_eq!((nodes[0].0, nodes[0].1[0].free), (0, 100));
        assert_eq!(of_machine(&MadeUp::new().root()), []);
    }

    #[test]
    fn mounts_are_found_with_their_page_size() {
        let machine = MadeUp::new().file(
            "proc/mounts",
            "proc /proc proc rw 0 0\n\
             hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n\
             none /mnt/huge1G hugetlbfs rw,pagesize=1024M 0 0\n\
             none /mnt/old hugetlbfs rw 0 0\n",
        );
        let found: Vec<_> = mounts(&machine.root())
            .into_iter()
            .map(|mount| (mount.directory, mount.page_kib))
            .collect();
        let expected = [
            ("/dev/hugepages", Some(2048)),
            ("/mnt/huge1G", Some(1_048_576)),
            ("/mnt/old", None),
        ];
        assert_eq!(found, expected.map(|(path, size)| (path.to_owned(), size)));
    }
}
