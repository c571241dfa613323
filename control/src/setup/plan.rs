//! From what is wanted and what there is to what has to be done.

use std::collections::BTreeMap;

use pollux_api::DataplaneSettings;
use pollux_api::bond::Bond;
use pollux_api::memory;
use pollux_api::numa::home;

use super::in_use::{Use, Uses};
use super::persist;
use super::record::{NicBefore, PagesBefore, Record};
use super::refusal::{Refusal, Those};
use super::step::Step;
use super::sysctl;
use crate::host::cpus::Cpus;
use crate::host::pci::{Binding, PciDevice};
use crate::host::vhost_net::{self, VhostNet};
use crate::host::{Root, appliance, huge_pages, iommu, pci};

/// The driver that hands a NIC to a process.
const VFIO: &str = "vfio-pci";
/// The one that does so where there is no IOMMU and `vfio` insists on one.
const UIO: &str = "uio_pci_generic";

const VFIO_MODULES: [&str; 2] = ["vfio_iommu_type1", VFIO];

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// PCI addresses as they were written; none: those of the settings' ports.
    pub nics: Vec<String>,
    /// What the data plane will be started with.
    pub settings: DataplaneSettings,
    /// How often `--force` was given: once takes a NIC that has addresses, twice one that this machine is reached by.
    pub force: u8,
    /// Do without an IOMMU.
    pub no_iommu: bool,
    /// Not to be written, for the run at boot, which was.
    pub only_now: bool,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// What is as it should be, and what only a person can decide.
    pub notes: Vec<String>,
    /// What there was before, with what was known already.
    pub record: Record,
}

/// Looks at a machine and says what has to be done to it.
///
/// # Errors
/// Everything that is in the way.
pub fn plan(root: &Root, request: &Request) -> Result<Plan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let devices = devices(root, request, &mut refusals);
    let uses = Uses::read(root);
    let mut plan = Plan {
        record: Record::read(root).unwrap_or_default(),
        ..Plan::default()
    };
    let for_vfio: Vec<&PciDevice> = devices
        .iter()
        .filter(|device| device.binding() != Binding::Shared)
        .collect();
    let driver = if for_vfio.is_empty() {
        VFIO
    } else {
        use_iommu(root, request, &mut plan, &mut refusals)
    };
    let given = Given {
        driver,
        devices: &devices,
        uses: &uses,
    };
    for device in &devices {
        bind(root, request, device, &given, &mut plan, &mut refusals);
    }
    if persist::loads_vhost_net(root, &request.settings)
        && vhost_net::state(root) != VhostNet::Ready
    {
        plan.steps.push(Step::Load(vhost_net::MODULE.to_owned()));
    }
    let settings = sysctl::steps(root, request, &mut plan.record);
    plan.steps.extend(settings);
    reserve(root, request, &devices, &mut plan, &mut refusals);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    advise_on_queues(root, request, &devices, &mut plan);
    advise_on_cores(root, request, &devices, &mut plan);
    if !request.only_now {
        // First, so that what is done after a failure can be taken back, and the next boot may have more luck.
        let addresses: Vec<&str> = devices
            .iter()
            .map(|device| device.address.as_str())
            .collect();
        let modules: &[&str] = match driver {
            _ if for_vfio.is_empty() => &[],
            UIO => &[UIO],
            _ => &VFIO_MODULES,
        };
        let written = persist::steps(root, &addresses, modules, request, &mut plan.record);
        let record = plan.record.step_to_write(root);
        plan.steps.splice(0..0, record.into_iter().chain(written));
    }
    Ok(plan)
}

fn devices(root: &Root, request: &Request, refusals: &mut Vec<Refusal>) -> Vec<PciDevice> {
    let there = || {
        let all = pci::network_controllers(root).into_iter();
        Those(all.map(|device| device.address).collect())
    };
    let ports = request.settings.ports.iter();
    let of_ports = ports.flat_map(|port| Bond::devices(&port.device));
    let of_ports = of_ports.filter(|device| pci::address(device).is_some());
    let wanted: Vec<String> = match request.nics.as_slice() {
        [] => of_ports.collect(),
        named => named.to_vec(),
    };
    if wanted.is_empty() {
        refusals.push(Refusal::NoNic(there()));
    }
    let mut devices: Vec<PciDevice> = Vec::new();
    for text in wanted {
        let Some(address) = pci::address(&text) else {
            refusals.push(Refusal::NoAddress {
                text,
                there: there(),
            });
            continue;
        };
        match PciDevice::read(root, &address) {
            None => refusals.push(Refusal::NoDevice {
                address,
                there: there(),
            }),
            Some(device) if !device.is_network() => refusals.push(Refusal::NoController {
                address,
                class: device.class,
                there: there(),
            }),
            Some(device) if devices.contains(&device) => {}
            Some(device) => devices.push(device),
        }
    }
    devices
}

/// The driver for the NICs.
fn use_iommu(
    root: &Root,
    request: &Request,
    plan: &mut Plan,
    refusals: &mut Vec<Refusal>,
) -> &'static str {
    match iommu::state(root) {
        iommu::Iommu::On | iommu::Iommu::OffAllowed => {}
        iommu::Iommu::Off if request.no_iommu => {
            plan.notes.push(String::from(
                "without an IOMMU a NIC, or whoever controls it, may write to all memory of this machine",
            ));
            if !iommu::vfio_can_do_without(root) {
                plan.steps.push(Step::Load(UIO.to_owned()));
                return UIO;
            }
            plan.steps.push(Step::Load(String::from("vfio")));
            plan.steps.push(Step::Set {
                file: iommu::UNSAFE_MODE.to_owned(),
                value: String::from("Y"),
            });
        }
        iommu::Iommu::Off => refusals.push(Refusal::NoIommu(appliance::without_iommu(root))),
    }
    if !root.has("sys/bus/pci/drivers/vfio-pci") {
        // modprobe of a whole Debian loads the second by itself, smaller ones do not.
        let load = |module: &str| Step::Load(module.to_owned());
        plan.steps.extend(VFIO_MODULES.map(load));
    }
    VFIO
}

/// What is given to a process.
struct Given<'a> {
    /// By this driver.
    driver: &'static str,
    /// All of it.
    devices: &'a [PciDevice],
    /// What the kernel does with it so far.
    uses: &'a Uses,
}

fn bind(
    root: &Root,
    request: &Request,
    device: &PciDevice,
    given: &Given,
    plan: &mut Plan,
    refusals: &mut Vec<Refusal>,
) {
    let address = &device.address;
    let driver = device.driver.as_deref().unwrap_or("no driver");
    match device.binding() {
        // One that `vfio` has and gives nobody without an IOMMU.
        Binding::Dpdk if given.driver == UIO && driver == VFIO => {}
        Binding::Dpdk => {
            plan.notes
                .push(format!("{address} is bound to {driver} already"));
            return;
        }
        Binding::Shared => {
            plan.notes.push(format!(
                "{address} stays with {driver}: DPDK works beside this driver"
            ));
            return;
        }
        Binding::Kernel | Binding::Unbound => {}
    }
    match given.uses.of(device) {
        Some((interface, Use::Lifeline(what))) if request.force < 2 => {
            refusals.push(Refusal::CutsOff {
                address: address.clone(),
                interface,
                what,
            });
        }
        Some((interface, Use::Addresses(addresses))) if request.force < 1 => {
            refusals.push(Refusal::InUse {
                address: address.clone(),
                interface,
                addresses,
            });
        }
        _ => {}
    }
    let others = device.held_back_by(root).into_iter();
    let group = device.group.unwrap_or(0);
    refusals.extend(
        others
            .filter(|other| {
                given
                    .devices
                    .iter()
                    .all(|named| named.address != other.address)
            })
            .map(|other| Refusal::SharedGroup {
                address: address.clone(),
                group,
                driver: other.driver.unwrap_or_default(),
                other: other.address,
            }),
    );
    plan.record.remember_nic(NicBefore {
        address: address.clone(),
        driver: device.driver.clone(),
    });
    plan.steps.extend(bind_steps(device, given.driver));
}

/// From whatever driver to this one.
pub(super) fn bind_steps(device: &PciDevice, driver: &str) -> Vec<Step> {
    let address = &device.address;
    let set = |file: String, value: &str| Step::Set {
        file,
        value: value.to_owned(),
    };
    let mut steps = vec![set(
        format!("/sys/bus/pci/devices/{address}/driver_override"),
        driver,
    )];
    if device.driver.is_some() {
        let file = format!("/sys/bus/pci/devices/{address}/driver/unbind");
        steps.push(set(file, address));
    }
    steps.push(set(String::from("/sys/bus/pci/drivers_probe"), address));
    steps.push(Step::ExpectDriver {
        address: address.clone(),
        driver: driver.to_owned(),
    });
    steps
}

/// Huge pages where the NICs are: on each of their nodes what the data plane takes there.
fn reserve(
    root: &Root,
    request: &Request,
    devices: &[PciDevice],
    plan: &mut Plan,
    refusals: &mut Vec<Refusal>,
) {
    if request.settings.huge_pages == pollux_api::settings::HugePages::Never {
        plan.notes
            .push(String::from("huge_pages is \"never\": none are reserved"));
        return;
    }
    let workers = workers(root, request, devices).len();
    let known: BTreeMap<u16, _> = huge_pages::of_nodes(root).into_iter().collect();
    let mut nodes: Vec<Option<u16>> = devices.iter().map(|device| device.node).collect();
    // Virtual devices have frames, too.
    let ports = request.settings.ports.iter();
    let of_ports = ports.map(|port| Bond::devices(&port.device).len()).sum();
    nodes.resize(nodes.len().max(of_ports), home(&nodes));
    // A NIC that is on no node, or a kernel without nodes: anywhere.
    let is_known = |node: &Option<u16>| node.is_some_and(|node| known.contains_key(&node));
    if !nodes.iter().all(is_known) {
        nodes.fill(None);
    }
    let mtu = request
        .settings
        .ports
        .iter()
        .filter_map(|port| port.mtu)
        .max();
    let mtu = mtu.unwrap_or(memory::MTU_EXPECTED);
    let frames = memory::frames_mib_by_node(&nodes, workers, mtu, request.settings.memory_mib);
    let needed = memory::huge_mib_by_node(&frames, &nodes, request.settings.connections);
    for (node, share) in needed {
        let sizes = match node {
            Some(node) => known.get(&node).cloned().unwrap_or_default(),
            None => huge_pages::of_machine(root),
        };
        let usual = sizes.iter().find(|size| size.page_kib == 2048);
        let Some(size) = usual.or(sizes.first()) else {
            refusals.push(Refusal::NoHugePages);
            return;
        };
        let pages = size.total_for_free(share);
        let file = huge_pages::count_file(size.page_kib, node);
        let on_node = node.map_or_else(String::new, |node| format!(" on node {node}"));
        if pages == size.total {
            plan.notes.push(format!(
                "{share} MiB of huge pages{on_node} are needed, and {} are free",
                size.free_mib()
            ));
            continue;
        }
        let mib = pages.saturating_mul(size.page_kib) >> 10;
        if let Some(total_mib) = total_memory_mib(root, node).filter(|total| mib > total / 10 * 9) {
            refusals.push(Refusal::TooLittleMemory {
                pages,
                page_kib: size.page_kib,
                on_node,
                mib,
                total_mib,
            });
            continue;
        }
        plan.record.remember_pages(PagesBefore {
            file: file.clone(),
            pages: size.total,
        });
        plan.steps.push(Step::Set {
            file: file.clone(),
            value: pages.to_string(),
        });
        plan.steps.push(Step::ExpectPages { file, pages });
    }
}

/// `MemTotal:  123 kB`, of a node `Node 0 MemTotal:  123 kB`.
fn total_memory_mib(root: &Root, node: Option<u16>) -> Option<u64> {
    let text = match node {
        Some(node) => root.text(&format!("sys/devices/system/node/node{node}/meminfo"))?,
        None => root.text("proc/meminfo")?,
    };
    let line = text.lines().find(|line| line.contains("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().rev().nth(1)?.parse().ok()?;
    Some(kib >> 10)
}

fn workers(root: &Root, request: &Request, devices: &[PciDevice]) -> Vec<u16> {
    let nodes: Vec<Option<u16>> = devices.iter().map(|device| device.node).collect();
    let cores = request.settings.cores.clone();
    cores.unwrap_or_else(|| Cpus::read(root).default_workers(&nodes))
}

/// Only the kernel's driver tells how many queues a NIC has, so this is said of NICs it has still.
fn advise_on_queues(root: &Root, request: &Request, devices: &[PciDevice], plan: &mut Plan) {
    let workers = workers(root, request, devices).len();
    for device in devices {
        for interface in &device.interfaces {
            let queues = root.names(&format!("sys/class/net/{interface}/queues"));
            let queues = queues.iter().filter(|name| name.starts_with("rx-")).count();
            if (1..workers).contains(&queues) {
                plan.notes.push(format!(
                    "{} ({interface}) has {queues} receive queues under its kernel driver, for {workers} workers: if \
                     DPDK finds no more, the other workers receive nothing from it; fewer `cores` would do",
                    device.address
                ));
            }
        }
    }
}

/// Cores of workers are theirs alone only when the kernel was booted that way.
fn advise_on_cores(root: &Root, request: &Request, devices: &[PciDevice], plan: &mut Plan) {
    let cpus = Cpus::read(root);
    let workers = workers(root, request, devices);
    let shared = workers.iter().any(|core| !cpus.isolated.contains(*core));
    let others: crate::host::cpu_list::CpuList = cpus
        .online
        .iter()
        .filter(|cpu| !workers.contains(cpu))
        .collect();
    if !shared || others.is_empty() {
        return;
    }
    let list: crate::host::cpu_list::CpuList = workers.into_iter().collect();
    plan.notes.push(format!(
        "to keep other work off the workers' cores add to the kernel's command line: isolcpus={list} nohz_full={list} \
         rcu_nocbs={list} irqaffinity={others}"
    ));
}

#[cfg(test)]
mod tests;
