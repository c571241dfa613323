//! Whether every worker has a queue of every port, and the ports have a link: as the data plane that runs says.

use pollux_api::dataplane::PortStatus;

use super::{Finding, Patient};

const ABOUT: &str = "ports";

/// What the others of a bond have to make up for.
fn members_without_link(port: &PortStatus) -> Vec<Finding> {
    let lost = port.members.iter().filter(|member| !member.link_up);
    let said = lost.map(|member| {
        let (name, device) = (&port.name, &member.device);
        if member.gone {
            let text = format!("port {name}: {device} is gone from the bond since the start");
            Finding::wrong(ABOUT, text).mend(
                "put it back, `pollux setup` it if it is bound to another driver now, and restart pollux-dataplane",
            )
        } else {
            let text = format!("port {name}: {device} of the bond has no link");
            Finding::wrong(ABOUT, text).mend("look at cable and switch; `pollux show ports`")
        }
    });
    said.collect()
}

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
        findings.extend(members_without_link(port));
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
