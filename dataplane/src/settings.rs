//! Settings that were found valid: what the start of the data plane works with.
//!
//! [`ValidSettings::new`] is the only way to get them. It reports every problem at once, each with what to type, and
//! fills in what depends on the machine (which cores) and on the ports (how to poll).

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use dpdk_bindings::PciAddress;
use pollux_api::DataplaneSettings;
use pollux_api::bond::{Bond, BondError, BondMode};
use pollux_api::numa::{Topology, WORKERS_MAX};
use pollux_api::settings::{
    CONNECTIONS, ExceptionPath, HugePages, MEMORY_MIB, MTU, PUNT_RATE, PollMode, PortSettings,
    PortSide, PuntRates,
};
use rustix::thread::{CpuSet, sched_getaffinity};
use thiserror::Error;

use crate::kernel::{TapName, TapNameError};

/// The most ports: DPDK knows 32 devices (`RTE_MAX_ETHPORTS`), and every port has a TAP beside it.
pub const PORTS_MAX: usize = 16;

/// A core that exists and that this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Core(u16);

impl Core {
    /// Its number, as in `/proc/cpuinfo`.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// What a port is made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// A NIC that is bound to a DPDK driver.
    Pci(PciAddress),
    /// A DPDK virtual device with its arguments: `net_af_xdp0,iface=eth1`.
    Virtual(String),
    /// Several of those as one.
    Bond(BondMode, Vec<Device>),
}

impl Device {
    /// The NICs it is made from.
    pub fn pci_addresses(&self) -> Vec<PciAddress> {
        match self {
            Self::Pci(address) => vec![*address],
            Self::Virtual(_) => Vec::new(),
            Self::Bond(_, members) => members.iter().flat_map(Self::pci_addresses).collect(),
        }
    }

    /// How many devices of DPDK it is.
    pub fn count(&self) -> usize {
        match self {
            Self::Pci(_) | Self::Virtual(_) => 1,
            Self::Bond(_, members) => members.len(),
        }
    }

    fn is_virtual(&self) -> bool {
        match self {
            Self::Pci(_) => false,
            Self::Virtual(_) => true,
            Self::Bond(_, members) => members.iter().any(Self::is_virtual),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => fmt::Display::fmt(address, f),
            Self::Virtual(text) => f.pad(text),
            Self::Bond(mode, members) => {
                let (mode, members) = (*mode, members.iter().map(Self::to_string).collect());
                fmt::Display::fmt(&Bond { mode, members }, f)
            }
        }
    }
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidPort {
    /// Its name and that of its TAP.
    pub name: TapName,
    /// What it is made from.
    pub device: Device,
    /// Its MTU; none: the device's own.
    pub mtu: Option<u16>,
    /// Who is behind it, where it is one kind only.
    pub side: Option<PortSide>,
}

/// Settings that were found valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidSettings {
    cores: Vec<Core>,
    connections: u32,
    poll: PollMode,
    huge_pages: HugePages,
    memory_mib: Option<u32>,
    file_prefix: String,
    transmit_checksums: bool,
    exception_path: ExceptionPath,
    punt: PuntRates,
    ports: Vec<ValidPort>,
}

/// The CPUs this process may use, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsableCores(Vec<u16>);

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsProblem {
    /// Not there, or taken away from this process by its affinity, cgroup or container.
    #[error("core {core} does not exist or this process may not use it: choose from {usable}")]
    NoSuchCore {
        /// The core.
        core: u16,
        /// Those there are.
        usable: UsableCores,
    },
    /// Named twice.
    #[error("core {0} is named twice: one worker a core, name each core once")]
    CoreTwice(u16),
    /// An empty list.
    #[error(
        "no core is left for a worker: name at least one, as in --cores 1, or none at all for all but the first"
    )]
    NoCores,
    /// More than [`WORKERS_MAX`].
    #[error("{0} cores are too many: DPDK takes {WORKERS_MAX} workers, name fewer with --cores")]
    TooManyCores(usize),
    /// Out of [`CONNECTIONS`].
    #[error(
        "a table of {0} connections is out of range: choose from {min} to {max}, as in --connections 1000000",
        min = CONNECTIONS.start(), max = CONNECTIONS.end()
    )]
    Connections(u32),
    /// Out of [`MEMORY_MIB`].
    #[error(
        "memory of {0} MiB is out of range: choose from {min} to {max}, or none to have it computed",
        min = MEMORY_MIB.start(), max = MEMORY_MIB.end()
    )]
    Memory(u32),
    /// Not a word.
    #[error(
        "file prefix \"{0}\" is not one DPDK takes: use letters, digits, '-', '_' and '.', as in --file-prefix pollux"
    )]
    FilePrefix(String),
    /// A name Linux does not take.
    #[error(transparent)]
    PortName(#[from] TapNameError),
    /// Two ports with one name.
    #[error("two ports are named {0}: their TAPs cannot be, give each port a name of its own")]
    PortNameTwice(TapName),
    /// Two ports on one device.
    #[error(
        "ports {first} and {second} are both made from {device}: give each port a device of its own"
    )]
    DeviceTwice {
        /// The first one's name.
        first: String,
        /// The second one's.
        second: String,
        /// The device.
        device: String,
    },
    /// A bond that is none.
    #[error("port {name}: {source}")]
    Bond {
        /// The port's name.
        name: String,
        /// Why.
        source: BondError,
    },
    /// Out of [`PUNT_RATE`].
    #[error(
        "punt.{key} = {rate} packets a second is out of range: choose from {min} to {max}",
        min = PUNT_RATE.start(), max = PUNT_RATE.end()
    )]
    PuntRate {
        /// Which class.
        key: &'static str,
        /// What was written.
        rate: u32,
    },
    /// Neither kind of device.
    #[error(
        "port {name}: \"{device}\" is neither a PCI address nor a DPDK virtual device: write the address as `lspci -D` \
         does (0000:01:00.0) or the device as DPDK does (net_af_xdp0,iface=eth1)"
    )]
    Device {
        /// The port's name.
        name: String,
        /// What was written.
        device: String,
    },
    /// Out of [`MTU`].
    #[error("port {name}: an MTU of {mtu} bytes is out of range: choose from {min} to {max}", min = MTU.start(), max = MTU.end())]
    Mtu {
        /// The port's name.
        name: String,
        /// What was written.
        mtu: u16,
    },
    /// More than [`PORTS_MAX`].
    #[error("{0} ports are too many: DPDK takes {PORTS_MAX} with a TAP each")]
    TooManyPorts(usize),
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct SettingsProblems(pub Vec<SettingsProblem>);

impl fmt::Display for SettingsProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl UsableCores {
    /// Asks the kernel (`sched_getaffinity`).
    ///
    /// # Errors
    /// The kernel's.
    pub fn discover() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        let all = 0..CpuSet::MAX_CPU;
        let usable = all.filter(|core| set.is_set(*core));
        Ok(Self(
            usable.filter_map(|core| u16::try_from(core).ok()).collect(),
        ))
    }

    /// The cores that workers have when none are named.
    pub fn for_workers(&self, topology: &Topology, nics: &[Option<u16>]) -> Vec<u16> {
        topology.default_workers(&self.0, nics)
    }

    /// Those on a node, by their numbers.
    pub fn on_node(&self, topology: &Topology, node: u16) -> Vec<u16> {
        let on_it = |core: &&u16| topology.node(**core) == Some(node);
        self.0.iter().filter(on_it).copied().collect()
    }
}

impl fmt::Display for UsableCores {
    /// As `--cores` takes them: `0-3,6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for core in &self.0 {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(*core) => *last = *core,
                _ => runs.push((*core, *core)),
            }
        }
        for (place, (first, last)) in runs.iter().enumerate() {
            let separator = if place == 0 { "" } else { "," };
            write!(f, "{separator}{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

impl ValidSettings {
    /// Validates settings against the machine.
    ///
    /// # Errors
    /// [`SettingsProblems`], all of them.
    pub fn new(
        settings: DataplaneSettings,
        usable: &UsableCores,
    ) -> Result<Self, SettingsProblems> {
        let mut problems = Vec::new();
        let cores = valid_cores(settings.cores, usable, &mut problems);
        let ports = valid_ports(&settings.ports, &mut problems);
        if !CONNECTIONS.contains(&settings.connections) {
            problems.push(SettingsProblem::Connections(settings.connections));
        }
        if let Some(memory) = settings
            .memory_mib
            .filter(|memory| !MEMORY_MIB.contains(memory))
        {
            problems.push(SettingsProblem::Memory(memory));
        }
        for (key, rate) in settings.punt.named() {
            if !PUNT_RATE.contains(&rate) {
                problems.push(SettingsProblem::PuntRate { key, rate });
            }
        }
        let is_taken = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let prefix = settings.file_prefix;
        if prefix.is_empty() || !prefix.chars().all(is_taken) || prefix.starts_with('.') {
            problems.push(SettingsProblem::FilePrefix(prefix.clone()));
        }
        if !problems.is_empty() {
            return Err(SettingsProblems(problems));
        }
        let fitting = if ports.iter().any(|port| port.device.is_virtual()) {
            PollMode::Adaptive
        } else {
            PollMode::Busy
        };
        Ok(Self {
            cores,
            connections: settings.connections,
            poll: settings.poll.unwrap_or(fitting),
            huge_pages: settings.huge_pages,
            memory_mib: settings.memory_mib,
            file_prefix: prefix,
            transmit_checksums: settings.transmit_checksums,
            exception_path: settings.exception_path,
            punt: settings.punt,
            ports,
        })
    }

    /// The cores of the workers, at least one.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// Entries in the connection table.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// How workers wait.
    pub fn poll(&self) -> PollMode {
        self.poll
    }

    /// Whether memory comes from huge pages.
    pub fn huge_pages(&self) -> HugePages {
        self.huge_pages
    }

    /// Memory for packet buffers in MiB; none: to be computed.
    pub fn memory_mib(&self) -> Option<u32> {
        self.memory_mib
    }

    /// DPDK's file prefix.
    pub fn file_prefix(&self) -> &str {
        &self.file_prefix
    }

    /// Whether devices fill in checksums that they can.
    pub fn transmit_checksums(&self) -> bool {
        self.transmit_checksums
    }

    /// What makes the TAPs.
    pub fn exception_path(&self) -> ExceptionPath {
        self.exception_path
    }

    /// How much of each class the kernel gets from each worker.
    pub fn punt(&self) -> &PuntRates {
        &self.punt
    }

    /// The ports; none: every NIC bound to a DPDK driver.
    pub fn ports(&self) -> &[ValidPort] {
        &self.ports
    }
}

fn valid_cores(
    wanted: Option<Vec<u16>>,
    usable: &UsableCores,
    problems: &mut Vec<SettingsProblem>,
) -> Vec<Core> {
    let wanted = wanted.unwrap_or_else(|| usable.for_workers(&Topology::default(), &[]));
    if wanted.is_empty() {
        problems.push(SettingsProblem::NoCores);
    }
    if wanted.len() > WORKERS_MAX {
        problems.push(SettingsProblem::TooManyCores(wanted.len()));
    }
    let mut cores: Vec<Core> = Vec::new();
    for core in wanted {
        if cores.contains(&Core(core)) {
            problems.push(SettingsProblem::CoreTwice(core));
        } else if !usable.0.contains(&core) {
            let usable = usable.clone();
            problems.push(SettingsProblem::NoSuchCore { core, usable });
        }
        cores.push(Core(core));
    }
    cores
}

fn valid_ports(wanted: &[PortSettings], problems: &mut Vec<SettingsProblem>) -> Vec<ValidPort> {
    if wanted.len() > PORTS_MAX {
        problems.push(SettingsProblem::TooManyPorts(wanted.len()));
    }
    let mut ports: Vec<ValidPort> = Vec::new();
    let mut made_from: BTreeMap<Device, &str> = BTreeMap::new();
    for port in wanted {
        let name: Option<TapName> = port
            .name
            .parse()
            .map_err(|problem: TapNameError| problems.push(problem.into()))
            .ok();
        if let Some(mtu) = port.mtu.filter(|mtu| !MTU.contains(mtu)) {
            let name = port.name.clone();
            problems.push(SettingsProblem::Mtu { name, mtu });
        }
        let device = valid_device(port)
            .map_err(|problem| problems.push(problem))
            .ok();
        for part in device.iter().flat_map(identities) {
            let text = part.to_string();
            if let Some(first) = made_from.insert(part, &port.name) {
                problems.push(SettingsProblem::DeviceTwice {
                    first: first.to_owned(),
                    second: port.name.clone(),
                    device: text,
                });
            }
        }
        if let (Some(name), Some(device)) = (name, device) {
            if ports.iter().any(|known| known.name == name) {
                problems.push(SettingsProblem::PortNameTwice(name.clone()));
            }
            let (mtu, side) = (port.mtu, port.side);
            ports.push(ValidPort {
                name,
                device,
                mtu,
                side,
            });
        }
    }
    ports
}

fn valid_device(port: &PortSettings) -> Result<Device, SettingsProblem> {
    let invalid = |device: &str| SettingsProblem::Device {
        name: port.name.clone(),
        device: device.to_owned(),
    };
    let single = |device: &str| single_device(device).ok_or_else(|| invalid(device));
    match Bond::of_device(&port.device) {
        None => single(&port.device),
        Some(Ok(Bond { mode, members })) => {
            let members: Result<Vec<Device>, _> =
                members.iter().map(|member| single(member)).collect();
            Ok(Device::Bond(mode, members?))
        }
        Some(Err(source)) => Err(SettingsProblem::Bond {
            name: port.name.clone(),
            source,
        }),
    }
}

fn single_device(text: &str) -> Option<Device> {
    if let Ok(address) = text.parse() {
        return Some(Device::Pci(address));
    }
    let driver = text.split(',').next().unwrap_or(text);
    let number_at = driver.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_named = number_at.len() < driver.len() && driver.chars().all(is_word);
    let is_virtual = is_named
        && ["net_", "eth_"]
            .iter()
            .any(|start| driver.starts_with(start));
    (is_virtual && !text.contains(char::is_whitespace)).then(|| Device::Virtual(text.to_owned()))
}

/// What DPDK tells devices apart by: virtual ones by the name before the arguments.
fn identities(device: &Device) -> Vec<Device> {
    match device {
        Device::Pci(address) => vec![Device::Pci(*address)],
        Device::Virtual(text) => {
            let name = text.split(',').next().unwrap_or(text);
            vec![Device::Virtual(name.to_owned())]
        }
        Device::Bond(_, members) => members.iter().flat_map(identities).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(cores: &[u16]) -> UsableCores {
        UsableCores(cores.to_vec())
    }

    fn port(name: &str, device: &str) -> PortSettings {
        PortSettings {
            name: name.to_owned(),
            device: device.to_owned(),
            mtu: None,
            side: None,
        }
    }

    fn with_ports(ports: Vec<PortSettings>) -> DataplaneSettings {
        DataplaneSettings {
            ports,
            ..DataplaneSettings::default()
        }
    }

    fn problems(settings: DataplaneSettings) -> String {
        let result = ValidSettings::new(settings, &usable(&[0, 1]));
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        let valid = ValidSettings::new(DataplaneSettings::default(), &usable(&[0, 1, 2])).unwrap();
        assert_eq!(valid.cores(), [Core(1), Core(2)]);
        assert_eq!(valid.poll(), PollMode::Busy);
        assert!(valid.ports().is_empty());
        let valid = ValidSettings::new(DataplaneSettings::default(), &usable(&[3])).unwrap();
        assert_eq!(valid.cores(), [Core(3)]);
    }

    #[test]
    fn this_machine_has_cores() {
        let usable = UsableCores::discover().unwrap();
        assert!(ValidSettings::new(DataplaneSettings::default(), &usable).is_ok());
    }

    #[test]
    fn polling_fits_the_ports_unless_said_otherwise() {
        let poll = |device: &str, poll| {
            let settings = DataplaneSettings {
                poll,
                ..with_ports(vec![port("a", device)])
            };
            ValidSettings::new(settings, &usable(&[0])).unwrap().poll()
        };
        assert_eq!(poll("0000:01:00.0", None), PollMode::Busy);
        assert_eq!(poll("net_af_xdp0,iface=eth1", None), PollMode::Adaptive);
        assert_eq!(poll("net_null0", Some(PollMode::Busy)), PollMode::Busy);
    }

    #[test]
    fn devices_are_of_two_kinds() {
        let device = |text: &str| {
            let result = ValidSettings::new(with_ports(vec![port("a", text)]), &usable(&[0]));
            result.map(|valid| valid.ports()[0].device.clone())
        };
        assert_eq!(device("01:00.0").unwrap().to_string(), "0000:01:00.0");
        let text = "net_af_packet7,iface=veth0,qpairs=2";
        assert_eq!(device(text), Ok(Device::Virtual(text.to_owned())));
        for text in [
            "eth1",
            "",
            "net_af_xdp",
            "net_af xdp0",
            "net_tap0,a b",
            "vfio0",
        ] {
            let error = device(text).unwrap_err().to_string();
            let expected = format!(
                "port a: \"{text}\" is neither a PCI address nor a DPDK virtual device: write the address as `lspci -D` \
                 does (0000:01:00.0) or the device as DPDK does (net_af_xdp0,iface=eth1)"
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn every_problem_says_what_to_type() {
        let with_cores = |cores: &[u16]| DataplaneSettings {
            cores: Some(cores.to_vec()),
            ..DataplaneSettings::default()
        };
        let mtu = |mtu| PortSettings {
            mtu: Some(mtu),
            ..port("a", "net_null0")
        };
        let many = (0..17).map(|n| port(&format!("p{n}"), &format!("net_null{n}")));
        let cases = [
            (
                with_cores(&[1, 9]),
                "core 9 does not exist or this process may not use it: choose from 0-1",
            ),
            (
                with_cores(&[1, 0, 1]),
                "core 1 is named twice: one worker a core, name each core once",
            ),
            (
                with_cores(&[]),
                "no core is left for a worker: name at least one, as in --cores 1, or none at all for all but the first",
            ),
            (
                DataplaneSettings {
                    connections: 10,
                    ..DataplaneSettings::default()
                },
                "a table of 10 connections is out of range: choose from 1024 to 1073741824, as in --connections 1000000",
            ),
            (
                DataplaneSettings {
                    memory_mib: Some(1),
                    ..DataplaneSettings::default()
                },
                "memory of 1 MiB is out of range: choose from 16 to 1048576, or none to have it computed",
            ),
            (
                DataplaneSettings {
                    file_prefix: "a/b".to_owned(),
                    ..DataplaneSettings::default()
                },
                "file prefix \"a/b\" is not one DPDK takes: use letters, digits, '-', '_' and '.', as in --file-prefix \
                 pollux",
            ),
            (
                with_ports(vec![port("a", "net_null0"), port("a", "net_null1")]),
                "two ports are named a: their TAPs cannot be, give each port a name of its own",
            ),
            (
                with_ports(vec![port("a", "net_null0"), port("b", "net_null0,copy=1")]),
                "ports a and b are both made from net_null0: give each port a device of its own",
            ),
            (
                with_ports(vec![port("a", "01:00.0"), port("b", "0000:01:00.0")]),
                "ports a and b are both made from 0000:01:00.0: give each port a device of its own",
            ),
            (
                with_ports(vec![
                    port("a", "bond:lacp:net_null0,copy=1+01:00.0"),
                    port("b", "0000:01:00.0"),
                ]),
                "ports a and b are both made from 0000:01:00.0: give each port a device of its own",
            ),
            (
                with_ports(vec![port("a", "bond:active-backup:net_null0+eth1")]),
                "port a: \"eth1\" is neither a PCI address nor a DPDK virtual device: write the address as `lspci -D` does \
                 (0000:01:00.0) or the device as DPDK does (net_af_xdp0,iface=eth1)",
            ),
            (
                with_ports(vec![port("a", "bond:round-robin:net_null0+net_null1")]),
                "port a: \"bond:round-robin:net_null0+net_null1\" has no mode of a bond: write \
                 bond:active-backup:DEVICE+DEVICE, or lacp where the switch speaks it",
            ),
            (
                DataplaneSettings {
                    punt: PuntRates {
                        vrrp: 0,
                        ..PuntRates::default()
                    },
                    ..DataplaneSettings::default()
                },
                "punt.vrrp = 0 packets a second is out of range: choose from 10 to 10000000",
            ),
            (
                with_ports(vec![port("a-name-of-16-byte", "net_null0")]),
                "port name \"a-name-of-16-byte\" is too long: Linux takes at most 15 characters",
            ),
            (
                with_ports(vec![mtu(100)]),
                "port a: an MTU of 100 bytes is out of range: choose from 576 to 9600",
            ),
            (
                with_ports(many.collect()),
                "17 ports are too many: DPDK takes 16 with a TAP each",
            ),
        ];
        for (settings, text) in cases {
            assert_eq!(problems(settings), text);
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let settings = DataplaneSettings {
            cores: Some(vec![7]),
            connections: 0,
            ..with_ports(vec![port("a/b", "eth1"), port("a,b", "eth2")])
        };
        assert_eq!(problems(settings).lines().count(), 6);
    }

    #[test]
    fn cores_are_listed_as_they_are_written() {
        for (cores, text) in [
            (&[0, 1, 2, 5, 7, 8][..], "0-2,5,7-8"),
            (&[3][..], "3"),
            (&[][..], ""),
        ] {
            assert_eq!(usable(cores).to_string(), text);
        }
    }
}
