//! Whether the next boot comes up like this one: what `pollux setup` wrote for it, and the units of both daemons.

use super::{Finding, Patient};
use crate::host::appliance;
use crate::host::pci::{self, Binding, PciDevice};

const ABOUT: &str = "boot";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants";
const UNITS: &str = "usr/lib/systemd/system";

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let mut findings: Vec<Finding> = nics(patient).into_iter().collect();
    findings.extend(daemons(patient));
    if findings.is_empty() {
        findings.push(Finding::fine(ABOUT, "the next boot needs no hand"));
    }
    findings
}

/// NICs that somebody gave to DPDK, and that the next boot leaves with the kernel's drivers.
fn nics(patient: &Patient) -> Option<Finding> {
    let root = &patient.root;
    let given = patient.settings.ports.iter().filter_map(|port| {
        let device = PciDevice::read(root, &pci::address(&port.device)?)?;
        (device.binding() == Binding::Dpdk).then_some(device.address)
    });
    // driverctl(8) is the other tool that does so.
    let forgotten: Vec<String> = given
        .filter(|address| !root.has(&format!("etc/driverctl.d/{address}")))
        .collect();
    let is_kept = root.has(&format!("{WANTED}/pollux-setup.service")) || appliance::is(root);
    if forgotten.is_empty() || is_kept {
        return None;
    }
    let text = format!(
        "nothing binds {} again when this machine boots, or reserves huge pages",
        forgotten.join(", ")
    );
    Some(
        Finding::advice(ABOUT, text)
            .mend("pollux setup   # writes a unit that does; --dry-run prints it"),
    )
}

/// Units that are installed and not started by a boot.
fn daemons(patient: &Patient) -> Option<Finding> {
    let root = &patient.root;
    let names = ["pollux-dataplane", "polluxd"];
    let mut idle = names.iter().filter(|name| {
        root.has(&format!("{UNITS}/{name}.service"))
            && !root.has(&format!("{WANTED}/{name}.service"))
    });
    let first = idle.next()?;
    let idle: Vec<&str> = std::iter::once(first).chain(idle).copied().collect();
    let text = format!("not started when this machine boots: {}", idle.join(", "));
    Some(Finding::advice(ABOUT, text).mend(format!("systemctl enable {}", idle.join(" "))))
}
