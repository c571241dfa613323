//! The processors: which share a core, on which node they are, which are kept free of other work.

use pollux_api::numa::Topology;

use super::Root;
use super::cpu_list::CpuList;

const DIRECTORY: &str = "sys/devices/system/cpu";

/// The processors of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus {
    /// Those that run.
    pub online: CpuList,
    /// Those the scheduler leaves alone: `isolcpus=` of the kernel's command line.
    pub isolated: CpuList,
    /// Those without a timer tick while one thread runs: `nohz_full=`.
    pub tickless: CpuList,
    each: Vec<Cpu>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cpu {
    number: u16,
    node: Option<u16>,
    siblings: CpuList,
}

impl Cpus {
    /// Reads them.
    pub fn read(root: &Root) -> Self {
        let list = |name: &str| {
            let text = root.text(&format!("{DIRECTORY}/{name}"));
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let names = root.names(DIRECTORY);
        let numbers = names
            .iter()
            .filter_map(|name| name.strip_prefix("cpu")?.parse().ok());
        let each: Vec<Cpu> = numbers
            .map(|number| {
                let cpu = format!("{DIRECTORY}/cpu{number}");
                let in_it = root.names(&cpu);
                let mut nodes = in_it
                    .iter()
                    .filter_map(|name| name.strip_prefix("node")?.parse().ok());
                Cpu {
                    number,
                    node: nodes.next(),
                    siblings: list(&format!("cpu{number}/topology/thread_siblings_list")),
                }
            })
            .collect();
        let online: CpuList = list("online");
        Self {
            // A kernel that cannot switch processors off has no such file.
            online: if online.is_empty() {
                each.iter().map(|cpu| cpu.number).collect()
            } else {
                online
            },
            isolated: list("isolated"),
            tickless: list("nohz_full"),
            each,
        }
    }

    /// The NUMA node of a processor, if the kernel knows nodes.
    pub fn node_of(&self, cpu: u16) -> Option<u16> {
        self.find(cpu)?.node
    }

    /// The other processors of its core (hyperthreads).
    pub fn siblings_of(&self, cpu: u16) -> impl Iterator<Item = u16> {
        let found = self.find(cpu).into_iter();
        found
            .flat_map(|known| known.siblings.iter())
            .filter(move |sibling| *sibling != cpu)
    }

    /// Where workers are put when the settings name no cores, for devices on these nodes.
    pub fn default_workers(&self, devices: &[Option<u16>]) -> Vec<u16> {
        let all: Vec<u16> = self.online.iter().collect();
        self.topology().default_workers(&all, devices)
    }

    /// Which processor is on which node.
    pub fn topology(&self) -> Topology {
        let each = self.each.iter();
        each.filter_map(|cpu| Some((cpu.number, cpu.node?)))
            .collect()
    }

    fn find(&self, cpu: u16) -> Option<&Cpu> {
        self.each.iter().find(|known| known.number == cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;
    use super::*;

    #[test]
    fn nodes_siblings_and_isolation_are_read() {
        let machine = MadeUp::new()
            .cpus(0, 0..2)
            .cpus(1, 2..4)
            .file(
                "sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
                "1,3",
            )
            .file("sys/devices/system/cpu/online", "0-3\n")
            .file("sys/devices/system/cpu/isolated", "2-3\n")
            .file("sys/devices/system/cpu/nohz_full", "(null)\n");
        let cpus = Cpus::read(&machine.root());
        assert_eq!(cpus.online.to_string(), "0-3");
        assert_eq!(cpus.isolated.to_string(), "2-3");
        assert!(cpus.tickless.is_empty());
        assert_eq!((cpus.node_of(1), cpus.node_of(2)), (Some(0), Some(1)));
        assert_eq!(cpus.siblings_of(1).collect::<Vec<_>>(), [3]);
        assert_eq!(cpus.siblings_of(0).count(), 0);
        assert_eq!(cpus.default_workers(&[]), [1, 2, 3]);
        assert_eq!(cpus.default_workers(&[Some(1)]), [2, 3]);
    }

    #[test]
    fn a_machine_of_one_processor_works_on_it() {
        let machine = MadeUp::new().cpus(0, 0..1);
        let cpus = Cpus::read(&machine.root());
        assert_eq!(cpus.default_workers(&[]), [0]);
        assert_eq!((cpus.node_of(9), cpus.siblings_of(9).count()), (None, 0));
    }
}
