//! Whether the ports' NICs are there and may be taken: driver, IOMMU, and who shares its group.

use super::{Finding, Patient};
use crate::host::appliance;
use crate::host::iommu::{self, Iommu};
use crate::host::network;
use crate::host::pci::{self, Binding, PciDevice};

const ABOUT: &str = "devices";

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    if patient.settings.ports.is_empty() {
        return vec![whatever_is_bound(patient)];
    }
    let mut findings = Vec::new();
    // Those that take memory by themselves, and whether it is `vfio` that hands them out.
    let (mut has_nics, mut needs_iommu) = (false, false);
    for port in &patient.settings.ports {
        let (name, device) = (port.name.as_str(), port.device.as_str());
        let Some(address) = pci::address(device) else {
            findings.push(virtual_device(name, device));
            continue;
        };
        match PciDevice::read(&patient.root, &address) {
            None => findings.push(missing(patient, name, &address)),
            Some(found) => {
                let by_uio = found
                    .driver
                    .as_deref()
                    .is_some_and(|name| name.contains("uio"));
                has_nics |= found.binding() != Binding::Shared;
                needs_iommu |= found.binding() != Binding::Shared && !by_uio;
                findings.extend(bound(patient, name, &found));
            }
        }
    }
    if has_nics {
        // First: without it no NIC is handed out, whatever else is done.
        findings.insert(0, translated(patient, needs_iommu));
    }
    findings
}

fn whatever_is_bound(patient: &Patient) -> Finding {
    let all = pci::network_controllers(&patient.root);
    let bound: Vec<&str> = all
        .iter()
        .filter(|device| device.binding() == Binding::Dpdk)
        .map(|device| device.address.as_str())
        .collect();
    if !bound.is_empty() {
        let text = format!(
            "[[dataplane.port]] names none, so those bound to a DPDK driver are taken: {}",
            bound.join(", ")
        );
        return Finding::fine(ABOUT, text);
    }
    let text = "no NIC is bound to a DPDK driver, and [[dataplane.port]] names none: the data plane does not start";
    Finding::wrong(ABOUT, text)
        .mend(format!(
            "write a [[dataplane.port]] for a NIC; there are: {}",
            listed(&all)
        ))
        .mend("pollux setup   # then binds it, and reserves huge pages")
}

fn listed(devices: &[PciDevice]) -> String {
    if devices.is_empty() {
        return "none".to_owned();
    }
    let each = devices.iter().map(|device| {
        let interfaces = device.interfaces.join(", ");
        let driver = device.driver.as_deref().unwrap_or("no driver");
        if interfaces.is_empty() {
            format!("{} ({driver})", device.address)
        } else {
            format!("{} ({driver}, {interfaces})", device.address)
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

fn virtual_device(name: &str, device: &str) -> Finding {
    let driver = device.split(',').next().unwrap_or_default();
    if driver.starts_with("net_") || driver.starts_with("eth_") {
        return Finding::fine(ABOUT, format!("port {name} is a virtual device: {driver}"));
    }
    let text =
        format!("port {name}: \"{device}\" is neither a PCI address nor a virtual device of DPDK");
    Finding::wrong(ABOUT, text)
        .mend("device = \"0000:03:00.0\" as `lspci -D` writes it, or \"net_af_xdp0,iface=eth1\"")
}

fn missing(patient: &Patient, name: &str, address: &str) -> Finding {
    let all = listed(&pci::network_controllers(&patient.root));
    Finding::wrong(
        ABOUT,
        format!("port {name}: there is no PCI device {address}"),
    )
    .mend(format!("write one of those that are there: {all}"))
}

fn bound(patient: &Patient, name: &str, device: &PciDevice) -> Vec<Finding> {
    let address = &device.address;
    let mut findings = Vec::new();
    if !device.is_network() {
        let text = format!(
            "port {name}: {address} is no network controller (class {:06x})",
            device.class
        );
        findings.push(
            Finding::wrong(ABOUT, text).mend("write the address of one: `lspci -D -d ::0200`"),
        );
        return findings;
    }
    let driver = device.driver.as_deref().unwrap_or("none");
    match device.binding() {
        Binding::Dpdk | Binding::Shared => {
            findings.push(Finding::fine(
                ABOUT,
                format!("port {name}: {address} is bound to {driver}"),
            ));
        }
        Binding::Unbound => {
            let text = format!("port {name}: {address} is bound to no driver");
            findings.push(bind(
                Finding::wrong(ABOUT, text),
                &patient.setup(&[]),
                address,
                false,
            ));
        }
        Binding::Kernel => {
            let interfaces = device.interfaces.join(", ");
            let mut text = format!(
                "port {name}: {address} is bound to the kernel's driver {driver} (interface {interfaces})"
            );
            if let Some(in_use) = addresses_of(patient, &device.interfaces) {
                text.push_str(&format!(
                    "; it has the address {in_use}, which goes with it: do not do this over a connection by that address"
                ));
            }
            findings.push(bind(
                Finding::wrong(ABOUT, text),
                &patient.setup(&[]),
                address,
                true,
            ));
        }
    }
    for other in device.held_back_by(&patient.root) {
        let text = format!(
            "port {name}: {address} shares IOMMU group {} with {}, which the kernel's driver {} has: all of a group goes to \
             one process",
            device.group.unwrap_or_default(),
            other.address,
            other.driver.as_deref().unwrap_or("none")
        );
        findings.push(bind(
            Finding::wrong(ABOUT, text),
            &patient.setup(&[&other.address]),
            &other.address,
            true,
        ));
    }
    findings
}

fn addresses_of(patient: &Patient, interfaces: &[String]) -> Option<String> {
    let all = network::interfaces(&patient.root)?;
    let mut mine = all
        .into_iter()
        .filter(|known| interfaces.contains(&known.name));
    mine.find_map(|known| {
        let mut addresses = known
            .addresses
            .into_iter()
            .filter_map(|address| address.local);
        let is_global = |address: &std::net::IpAddr| match address {
            std::net::IpAddr::V4(_) => true,
            std::net::IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        };
        addresses.find(is_global)
    })
    .map(|address| address.to_string())
}

fn bind(finding: Finding, setup: &str, address: &str, is_bound: bool) -> Finding {
    let device = format!("/sys/bus/pci/devices/{address}");
    let finding = finding
        .mend(format!(
            "{setup}   # this, huge pages, and so at each boot; or by hand:"
        ))
        .mend("modprobe vfio-pci")
        .mend(format!("echo vfio-pci > {device}/driver_override"));
    let finding = if is_bound {
        finding.mend(format!("echo {address} > {device}/driver/unbind"))
    } else {
        finding
    };
    finding.mend(format!("echo {address} > /sys/bus/pci/drivers_probe"))
}

/// `vfio-pci` gives nothing away without one; `uio_pci_generic` asks for none.
fn translated(patient: &Patient, by_vfio: bool) -> Finding {
    let root = &patient.root;
    let asked = root.text("proc/cmdline").unwrap_or_default();
    let on = if asked
        .split_whitespace()
        .any(|word| word == "intel_iommu=on")
    {
        "switch VT-d or AMD-Vi on in the firmware; the kernel's command line asks for it already"
    } else {
        "write intel_iommu=on iommu=pt (on AMD: iommu=pt) into the kernel's command line, and switch VT-d or AMD-Vi on in \
         the firmware"
    };
    match iommu::state(root) {
        Iommu::On => Finding::fine(ABOUT, "the IOMMU is on"),
        Iommu::OffAllowed => Finding::advice(
            ABOUT,
            "the IOMMU is off, and vfio does without: a NIC may write anywhere in memory",
        )
        .mend(on),
        Iommu::Off if !by_vfio => Finding::advice(
            ABOUT,
            "the IOMMU is off, and the NICs' driver does without: a NIC may write anywhere in memory",
        )
        .mend(on),
        Iommu::Off => Finding::wrong(ABOUT, "the IOMMU is off: vfio-pci hands out no NIC")
            .mend(on)
            .mend(format!(
                "in a virtual machine that has none: {}",
                appliance::without_iommu(root)
            )),
    }
}
