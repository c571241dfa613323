//! `show ports` and `show workers` as tables.

use pollux_api::control::{PortReport, WorkerReport};
use pollux_api::dataplane::{MemberStatus, WorkerStatus};

use super::numbers::{percent, short, speed};
use super::table::{Align, Table};

/// A port of `show ports`, as `ip -s link` would have it.
pub fn port(report: &PortReport, extended: bool) -> Table {
    let PortReport {
        status: port,
        rates,
    } = report;
    let number = (Align::Right, 9);
    let mut table = Table::new(&[(Align::Left, 12), number, number, number, number, number]);
    let link = match (port.link_up, port.speed_mbps) {
        _ if port.gone => "gone: its device was pulled out".to_owned(),
        (false, _) => "down".to_owned(),
        (true, None) => "up".to_owned(),
        (true, Some(mbps)) => format!("up, {}", speed(mbps)),
    };
    table.text(format!(
        "{}: link {link}, mtu {}, {}",
        port.name, port.mtu, port.mac
    ));
    table.text(format!("    device {}", port.device));
    let mut queues = format!(
        "    driver {}, queues: {} receive, {} transmit",
        port.driver, port.receive_queues, port.transmit_queues
    );
    if port.receive_queues > 1 && !port.spread.is_empty() {
        queues.push_str(&format!(", by {}", port.spread));
    }
    if let Some(node) = port.numa_node {
        queues.push_str(&format!(", node {node}"));
    }
    table.text(queues);
    let checksums = port
        .fills_checksums
        .then(|| "fills in checksums of GUE".to_owned());
    let tap = (!port.exception_path.is_empty()).then(|| format!("TAP by {}", port.exception_path));
    let ways: Vec<String> = tap.into_iter().chain(checksums).collect();
    if !ways.is_empty() {
        table.text(format!("    {}", ways.join(", ")));
    }
    if !port.other_macs.is_empty() {
        table.text(format!("    also {}", port.other_macs.join(", ")));
    }
    for member in &port.members {
        table.text(format!(
            "    member {}: {}",
            member.device,
            member_state(member)
        ));
    }
    let nic = &port.nic;
    table.cells(["", "packets", "bytes", "errors", "missed", "no buffer"]);
    table.cells([
        "    received".to_owned(),
        short(nic.received_packets),
        short(nic.received_bytes),
        short(nic.receive_errors),
        short(nic.missed_packets),
        short(nic.no_buffer),
    ]);
    table.row(vec![
        "    sent".to_owned(),
        short(nic.sent_packets),
        short(nic.sent_bytes),
        short(nic.send_errors),
    ]);
    table.row(vec![
        "    of those, from the kernel".to_owned(),
        short(port.kernel_transmitted),
    ]);
    for (title, packets, bytes) in [
        (
            "    received a second",
            rates.received_packets,
            rates.received_bytes,
        ),
        ("    sent a second", rates.sent_packets, rates.sent_bytes),
    ] {
        table.row(vec![title.to_owned(), short(packets), short(bytes)]);
    }
    if extended {
        for (name, value) in port.extended.iter().filter(|(_, value)| *value != 0) {
            table.text(format!("    {name} {value}"));
        }
    }
    table
}

fn member_state(member: &MemberStatus) -> &'static str {
    match (member.link_up, member.carries) {
        _ if member.gone => "gone: it was pulled out",
        (false, _) => "link down",
        (true, false) => "link up",
        (true, true) => "link up, carries frames",
    }
}

/// `show workers`.
pub fn workers(workers: &[WorkerReport]) -> Table {
    let number = |width| (Align::Right, width);
    let mut table = Table::new(&[
        number(6),
        number(4),
        number(7),
        number(8),
        number(7),
        number(7),
        number(7),
        number(7),
        number(7),
        number(7),
        number(3),
    ]);
    table.cells([
        "Worker", "Core", "Busy", "Received", "PPS", "Conns", "Created", "CPS", "Expired", "Met",
        "Gen",
    ]);
    for WorkerReport { status, rates } in workers {
        table.cells([
            status.worker.to_string(),
            status.core.to_string(),
            percent(status.busy_share),
            short(status.received),
            short(rates.received_packets),
            short(status.connections),
            short(status.connections_created),
            short(rates.connections),
            short(status.connections_expired),
            met(status),
            status.generation.to_string(),
        ]);
    }
    table
}

/// Of the first answers that came to a worker, the share that belongs to its own connections.
fn met(status: &WorkerStatus) -> String {
    let all = status.answers_met.saturating_add(status.answers_apart);
    if all == 0 {
        return "-".to_owned();
    }
    #[allow(clippy::cast_precision_loss, reason = "a share of 100")]
    percent(status.answers_met as f64 / all as f64)
}
