//! Whether the workers' cores are there, theirs alone, and near the NICs.

use std::collections::BTreeSet;

use pollux_api::bond::Bond;

use super::{Finding, Patient};
use crate::host::cpu_list::CpuList;
use crate::host::cpus::Cpus;
use crate::host::pci;

const ABOUT: &str = "cores";

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let cpus = Cpus::read(&patient.root);
    let workers = patient.workers(&cpus);
    let missing: CpuList = workers
        .iter()
        .copied()
        .filter(|core| !cpus.online.contains(*core))
        .collect();
    if !missing.is_empty() {
        let text = format!("cores {missing} of the workers are not there, or off");
        return vec![
            Finding::wrong(ABOUT, text)
                .mend(format!("write cores of {} in [dataplane]", cpus.online)),
        ];
    }
    let list: CpuList = workers.iter().copied().collect();
    let mut findings = vec![Finding::fine(
        ABOUT,
        format!("workers on cores {list} of {}", cpus.online),
    )];
    findings.extend(hyperthreads(&cpus, &list));
    // A worker that sleeps when there is nothing to do may be disturbed.
    if patient.has_nics() {
        findings.extend(undisturbed(&cpus, &list));
    }
    findings.extend(near(patient, &cpus, &list));
    findings
}

fn hyperthreads(cpus: &Cpus, workers: &CpuList) -> Vec<Finding> {
    let mut findings = Vec::new();
    for core in workers.iter() {
        for sibling in cpus.siblings_of(core) {
            if workers.contains(sibling) {
                // Each pair once.
                if core < sibling {
                    let text = format!(
                        "workers {core} and {sibling} are hyperthreads of one core: they share its time"
                    );
                    findings.push(Finding::advice(ABOUT, text).mend(format!(
                        "leave {sibling} out of cores in [dataplane]: measure which is faster"
                    )));
                }
            } else if !cpus.isolated.contains(sibling) && !workers.contains(sibling) {
                let text = format!(
                    "worker {core} shares its core with processor {sibling}, where other programs run"
                );
                let finding = Finding::advice(ABOUT, text);
                findings.push(finding.mend(format!("isolate {sibling}, too (isolcpus=), or switch it off: echo 0 > /sys/devices/system/cpu/cpu{sibling}/online")));
            }
        }
    }
    findings
}

fn undisturbed(cpus: &Cpus, workers: &CpuList) -> Option<Finding> {
    let shared: CpuList = workers
        .iter()
        .filter(|core| !cpus.isolated.contains(*core))
        .collect();
    if shared.is_empty() {
        return Some(Finding::fine(
            ABOUT,
            format!("cores {workers} are isolated"),
        ));
    }
    let text =
        format!("cores {shared} are not isolated: other programs and the timer take packets' time");
    let others: CpuList = cpus
        .online
        .iter()
        .filter(|cpu| !workers.contains(*cpu))
        .collect();
    let interrupts = if others.is_empty() {
        String::new()
    } else {
        format!(" irqaffinity={others}")
    };
    let line = format!(
        "write isolcpus={workers} nohz_full={workers} rcu_nocbs={workers}{interrupts} into the kernel's command line"
    );
    Some(Finding::advice(ABOUT, text).mend(line))
}

fn near(patient: &Patient, cpus: &Cpus, workers: &CpuList) -> Vec<Finding> {
    let nodes: BTreeSet<u16> = workers
        .iter()
        .filter_map(|core| cpus.node_of(core))
        .collect();
    let mut findings = Vec::new();
    for port in &patient.settings.ports {
        let devices = Bond::devices(&port.device);
        let on_nodes = devices
            .iter()
            .find_map(|device| pci::node_of(&patient.root, device));
        let Some(node) = on_nodes else {
            continue;
        };
        if nodes.contains(&node) || nodes.is_empty() {
            continue;
        }
        let near: CpuList = cpus
            .online
            .iter()
            .filter(|core| cpus.node_of(*core) == Some(node))
            .collect();
        let text = format!(
            "port {} is on NUMA node {node}, and no worker is: every packet crosses to another node",
            port.name
        );
        findings.push(
            Finding::advice(ABOUT, text)
                .mend(format!("write cores of that node in [dataplane]: {near}")),
        );
    }
    findings
}
