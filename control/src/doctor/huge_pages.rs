//! Whether there are huge pages for frames and connections, mounted, and on the right nodes.

use std::collections::BTreeMap;

use pollux_api::bond::Bond;
use pollux_api::memory::{
    MTU_EXPECTED, PORTS_EXPECTED, frames_mib_by_node, huge_mib_by_node, table_mib,
};
use pollux_api::settings::HugePages as Wanted;

use super::{Finding, Patient, daemons};
use crate::host::cpus::Cpus;
use crate::host::huge_pages::{self, HugePages};
use crate::host::pci;

const ABOUT: &str = "huge pages";
/// The pages that tables are made of.
const SMALL_KIB: u64 = 2048;

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let settings = &patient.settings;
    if settings.huge_pages == Wanted::Never {
        return vec![Finding::fine(
            ABOUT,
            "none are used: [dataplane] says huge_pages = \"never\"",
        )];
    }
    let pages = huge_pages::of_machine(&patient.root);
    let Some(small) = pages.iter().find(|pages| pages.page_kib == SMALL_KIB) else {
        return vec![
            worse(patient, "this kernel has no huge pages of 2 MiB")
                .mend("use a kernel built with CONFIG_HUGETLBFS, or write huge_pages = \"never\" in [dataplane]"),
        ];
    };
    let needed = needed(patient);
    let mut findings = vec![amount(patient, &needed, &pages, *small)];
    findings.extend(mounted(patient));
    findings.extend(on_nodes(patient, &needed, *small));
    findings
}

/// What a data plane that is to have huge pages cannot do without; others are only slower.
fn worse(patient: &Patient, text: impl Into<String>) -> Finding {
    if patient.settings.huge_pages == Wanted::Always || patient.has_nics() {
        Finding::wrong(ABOUT, text)
    } else {
        Finding::advice(ABOUT, text)
    }
}

fn amount(
    patient: &Patient,
    by_node: &BTreeMap<Option<u16>, u64>,
    pages: &[HugePages],
    small: HugePages,
) -> Finding {
    let settings = &patient.settings;
    let all: u64 = by_node.values().sum();
    let table = table_mib(settings.connections);
    let frames = all - table;
    let total: u64 = pages.iter().map(|pages| pages.total_mib()).sum();
    let free: u64 = pages.iter().map(|pages| pages.free_mib()).sum();
    let what = format!(
        "{frames} MiB for frames and {table} MiB for {} connections",
        settings.connections
    );
    // A data plane that runs has taken its own; one that died has left its table.
    let runs = daemons::is_running(&patient.root, daemons::DATAPLANE);
    let (needed, there, word) = if runs {
        (all, total, "in all")
    } else if has_table(patient) {
        (frames, free, "free, beside the table that is there")
    } else {
        (all, free, "free")
    };
    if there >= needed {
        return Finding::fine(ABOUT, format!("{there} MiB {word}: enough for {what}"));
    }
    let missing = if runs {
        small.free_mib() + needed - there
    } else {
        needed
    };
    let count = small.total_for_free(missing);
    let mut finding = worse(
        patient,
        format!("{there} MiB {word}, {needed} MiB needed: {what}"),
    );
    if patient.has_nics() {
        finding = finding.mend(format!(
            "{}   # on the NICs' nodes, and so at each boot; or by hand:",
            patient.setup(&[])
        ));
    }
    finding
        .mend(format!(
        "echo {count} > {}",
        huge_pages::count_file(SMALL_KIB, None)
    ))
    .mend(format!(
        "echo vm.nr_hugepages={count} > /etc/sysctl.d/pollux-huge-pages.conf   # after a boot, too"
    ))
}

/// What the data plane takes on which node, in MiB.
fn needed(patient: &Patient) -> BTreeMap<Option<u16>, u64> {
    let settings = &patient.settings;
    let cpus = Cpus::read(&patient.root);
    let workers = patient.workers(&cpus).len();
    let mut devices = patient.nodes();
    if devices.is_empty() {
        devices = vec![None; PORTS_EXPECTED];
    }
    if !cpus.topology().is_several() {
        devices.fill(None);
    }
    let mtu = settings.ports.iter().filter_map(|port| port.mtu).max();
    let mtu = mtu.unwrap_or(MTU_EXPECTED);
    let frames = frames_mib_by_node(&devices, workers, mtu, settings.memory_mib);
    huge_mib_by_node(&frames, &devices, settings.connections)
}

fn has_table(patient: &Patient) -> bool {
    let file = format!("{}-connections", patient.settings.file_prefix);
    let mounts = huge_pages::mounts(&patient.root).into_iter();
    mounts
        .into_iter()
        .any(|mount| patient.root.has(&format!("{}/{file}", mount.directory)))
}

/// Frames need no mount; the table is a file.
fn mounted(patient: &Patient) -> Option<Finding> {
    let mounts = huge_pages::mounts(&patient.root);
    let found = mounts
        .iter()
        .find(|mount| mount.page_kib.is_none_or(|size| size == SMALL_KIB));
    match found {
        Some(mount) => Some(Finding::fine(
            ABOUT,
            format!("mounted at {}", mount.directory),
        )),
        None => Some(
            worse(
                patient,
                "not mounted: the table of connections would be in normal pages",
            )
            .mend("mkdir -p /dev/hugepages")
            .mend("mount -t hugetlbfs -o pagesize=2M nodev /dev/hugepages"),
        ),
    }
}

/// Memory of another node than the NIC's costs every packet.
fn on_nodes(
    patient: &Patient,
    by_node: &BTreeMap<Option<u16>, u64>,
    small: HugePages,
) -> Vec<Finding> {
    let nodes = huge_pages::of_nodes(&patient.root);
    if nodes.len() < 2 || small.total == 0 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (node, sizes) in nodes {
        let there: u64 = sizes.iter().map(|pages| pages.total_mib()).sum();
        let (Some(needed), Some(port)) = (by_node.get(&Some(node)), port_on(patient, node)) else {
            continue;
        };
        if there >= *needed {
            continue;
        }
        let amount = if there == 0 {
            "none".to_owned()
        } else {
            format!("{there} MiB")
        };
        let text = format!(
            "{amount} on NUMA node {node}, where port {port} is, {needed} MiB needed: packets would cross to another node's memory"
        );
        let pages = (needed << 10).div_ceil(SMALL_KIB);
        let file = huge_pages::count_file(SMALL_KIB, Some(node));
        findings.push(
            Finding::advice(ABOUT, text)
                .mend(format!(
                    "{}   # and so at each boot; or by hand:",
                    patient.setup(&[])
                ))
                .mend(format!("echo {pages} > {file}")),
        );
    }
    findings
}

/// The first port with a device on a node.
fn port_on(patient: &Patient, node: u16) -> Option<&str> {
    let is_there = |device: &String| pci::node_of(&patient.root, device) == Some(node);
    let mut ports = patient.settings.ports.iter();
    let port = ports.find(|port| Bond::devices(&port.device).iter().any(is_there))?;
    Some(&port.name)
}
