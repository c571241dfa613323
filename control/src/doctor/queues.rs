//! Whether every worker has a queue of every port, and the ports have a link: as the data plane that runs says.

use super::{Finding, Patient};

const ABOUT: &str = "ports";

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let workers = patient.daemons.workers.len();
    let mut findings = Vec::new();
    for port in &patient.daemons.ports {
        let name = &port.name;
        if port.gone {
            let text = format!(
                "port {name}: its device {} is gone since the start",
                port.device
            );
            findings.push(Finding::wrong(ABOUT, text).mend(
                "put it back, `pollux setup` it if it is bound to another driver now, and restart pollux-dataplane",
            ));
            continue;
        }
        if !port.link_up {
            findings.push(
                Finding::wrong(ABOUT, format!("port {name} has no link"))
                    .mend("look at cable and switch; `pollux show ports`"),
            );
        }
        if usize::from(port.receive_queues) < workers {
            let text = format!(
                "port {name} has {} receive queues for {workers} workers: the others get nothing from it",
                port.receive_queues
            );
            findings.push(Finding::advice(ABOUT, text).mend(more_queues(&port.driver, workers)));
        }
        if usize::from(port.transmit_queues) < workers {
            let text = format!(
                "port {name} has {} transmit queues for {workers} workers: they take turns with a lock",
                port.transmit_queues
            );
            findings.push(Finding::advice(ABOUT, text).mend(more_queues(&port.driver, workers)));
        }
        let lost = port.nic.missed_packets.saturating_add(port.nic.no_buffer);
        if lost > 0 {
            let text = format!(
                "port {name} lost {lost} packets since the start: workers did not fetch them in time"
            );
            findings.push(Finding::advice(ABOUT, text).mend(
                "more cores in [dataplane], or cores that are isolated; `pollux show workers`",
            ));
        }
        if port.link_up && lost == 0 {
            findings.push(Finding::fine(
                ABOUT,
                format!(
                    "port {name}: link up, {} receive and {} transmit queues",
                    port.receive_queues, port.transmit_queues
                ),
            ));
        }
    }
    findings
}

fn more_queues(driver: &str, workers: usize) -> String {
    match driver {
        "net_af_packet" => format!(
            "write qpairs={workers} into the port's device: \"net_af_packet0,iface=...,qpairs={workers}\""
        ),
        "net_af_xdp" => format!(
            "write queue_count={workers} into the port's device, after `ethtool -L INTERFACE combined {workers}`"
        ),
        "net_virtio" => format!(
            "give the virtual machine's NIC {workers} queues: mq=on,vectors={}",
            2 * workers + 2
        ),
        _ => format!(
            "this NIC has no more: name fewer cores in [dataplane], {workers} are there now"
        ),
    }
}
