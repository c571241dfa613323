//! The director as a whole: its table, its ports, its workers.

use std::fmt;

use pollux_api::dataplane::{MemberStatus, PortStatus, WorkerStatus};

use super::DataplaneSample;
use super::families::{Families, Field, bytes, plain, seconds};

/// Totals of everything, and the connection table.
pub fn table(families: &mut Families<'_>, sample: &DataplaneSample) -> fmt::Result {
    let DataplaneSample { totals, table, .. } = sample;
    families.counter(
        plain(
            "pollux_director_connections",
            "Connections scheduled, of all services, past ones too",
        ),
        totals.connections,
    )?;
    families.counter(
        plain(
            "pollux_director_inbound_packets",
            "Packets from clients, of all services",
        ),
        totals.inbound_packets,
    )?;
    families.counter(
        plain(
            "pollux_director_outbound_packets",
            "Packets from servers through the director (NAT), of all services",
        ),
        totals.outbound_packets,
    )?;
    families.counter(
        bytes(
            "pollux_director_inbound",
            "IP bytes from clients, of all services",
        ),
        totals.inbound_bytes,
    )?;
    families.counter(
        bytes(
            "pollux_director_outbound",
            "IP bytes from servers through the director (NAT), of all services",
        ),
        totals.outbound_bytes,
    )?;
    families.gauge(
        "pollux_table_entries",
        "Entries of the connection table in use",
        table.connections,
    )?;
    families.gauge(
        "pollux_table_entries_max",
        "Entries of the connection table",
        table.connections_max.into(),
    )?;
    families.gauge(
        "pollux_table_ipv6_entries",
        "Entries with room for IPv6 in use, by either family",
        table.connections_ipv6,
    )?;
    families.gauge(
        "pollux_table_ipv6_entries_max",
        "Entries with room for IPv6; IPv4 takes them last",
        table.connections_max_ipv6.into(),
    )?;
    families.counter(
        plain(
            "pollux_table_evictions",
            "Unestablished connections ended early to make room in a full table",
        ),
        table.evicted,
    )?;
    families.counter(
        plain(
            "pollux_table_without_entry_packets",
            "Packets forwarded without an entry because the table was full",
        ),
        table.forwarded_without_entry,
    )?;
    let states = table.states.iter().map(|count| {
        let labels = [
            ("kind", count.kind.as_str()),
            ("state", count.state.as_str()),
        ];
        (labels, count.connections)
    });
    families.gauges(
        plain(
            "pollux_connections",
            "Entries of the connection table by state, as of about a second ago",
        ),
        states,
    )
}

/// Ports, and what became of their packets.
pub fn ports(families: &mut Families<'_>, sample: &DataplaneSample) -> fmt::Result {
    let ports = &sample.ports;
    let each = |value: fn(&PortStatus) -> u64| {
        ports
            .iter()
            .map(move |port| ([("port", port.name.as_str())], value(port)))
    };
    families.gauges(
        plain("pollux_port_up", "Whether the port's link is up"),
        each(|port| port.link_up.into()),
    )?;
    families.gauges(
        plain(
            "pollux_port_gone",
            "Whether the port's device was pulled out since the start",
        ),
        each(|port| port.gone.into()),
    )?;
    let speeds = ports.iter().filter_map(|port| {
        let bits = u64::from(port.speed_mbps?) * 1_000_000;
        Some(([("port", port.name.as_str())], bits / 8))
    });
    families.gauges(
        bytes("pollux_port_speed", "Speed of the port's link, a second"),
        speeds,
    )?;
    members(families, ports)?;
    let counters: [Field<PortStatus>; 9] = [
        (
            plain("pollux_port_received_packets", "Packets the NIC received"),
            |port| port.nic.received_packets,
        ),
        (
            plain("pollux_port_sent_packets", "Packets the NIC sent"),
            |port| port.nic.sent_packets,
        ),
        (
            bytes("pollux_port_received", "Bytes the NIC received"),
            |port| port.nic.received_bytes,
        ),
        (bytes("pollux_port_sent", "Bytes the NIC sent"), |port| {
            port.nic.sent_bytes
        }),
        (
            plain(
                "pollux_port_missed_packets",
                "Packets the NIC dropped because no descriptor was free",
            ),
            |port| port.nic.missed_packets,
        ),
        (
            plain("pollux_port_receive_errors", "Packets received with errors"),
            |port| port.nic.receive_errors,
        ),
        (
            plain("pollux_port_send_errors", "Packets that failed to be sent"),
            |port| port.nic.send_errors,
        ),
        (
            plain(
                "pollux_port_no_buffer_packets",
                "Packets lost because there was no buffer for them",
            ),
            |port| port.nic.no_buffer,
        ),
        (
            plain(
                "pollux_port_kernel_packets",
                "Frames of this machine's kernel sent out of the port",
            ),
            |port| port.kernel_transmitted,
        ),
    ];
    for (description, value) in counters {
        families.counters(description, each(value))?;
    }
    let fates = sample.drops.iter().flat_map(|report| {
        report.fates.iter().map(|fate| {
            let labels = [
                ("port", report.port.as_str()),
                ("fate", fate.fate.as_str()),
                ("drop", if fate.is_drop { "true" } else { "false" }),
            ];
            (labels, fate.packets)
        })
    });
    families.counters(
        plain(
            "pollux_packets",
            "Packets by what became of them; each received one is counted once",
        ),
        fates,
    )?;
    let held = sample
        .drops
        .iter()
        .map(|report| ([("port", report.port.as_str())], report.held));
    families.gauges(
        plain(
            "pollux_held_packets",
            "Packets that wait for the MAC address of their next hop, or for other fragments",
        ),
        held,
    )
}

/// What bonds are made of.
fn members(families: &mut Families<'_>, ports: &[PortStatus]) -> fmt::Result {
    let gauges: [Field<MemberStatus>; 3] = [
        (
            plain(
                "pollux_port_member_up",
                "Whether the link of a bond's member is up",
            ),
            |member| member.link_up.into(),
        ),
        (
            plain(
                "pollux_port_member_carries",
                "Whether frames go over a bond's member now",
            ),
            |member| member.carries.into(),
        ),
        (
            plain(
                "pollux_port_member_gone",
                "Whether a bond's member was pulled out since the start",
            ),
            |member| member.gone.into(),
        ),
    ];
    for (description, value) in gauges {
        let samples = ports.iter().flat_map(|port| {
            port.members.iter().map(move |member| {
                let labels = [
                    ("port", port.name.as_str()),
                    ("member", member.device.as_str()),
                ];
                (labels, value(member))
            })
        });
        families.gauges(description, samples)?;
    }
    Ok(())
}

/// Workers.
pub fn workers(families: &mut Families<'_>, workers: &[WorkerStatus]) -> fmt::Result {
    let labels = |worker: &WorkerStatus| [("worker", worker.worker), ("core", worker.core)];
    #[allow(clippy::cast_precision_loss, reason = "seconds need no 64 bits")]
    let busy = workers
        .iter()
        .map(|worker| (labels(worker), worker.busy_ns as f64 / 1e9));
    families.counters(
        seconds(
            "pollux_worker_busy",
            "Time in loops that found packets; its rate is the worker's load",
        ),
        busy,
    )?;
    let counters: [Field<WorkerStatus>; 10] = [
        (
            plain("pollux_worker_loops", "Loops of the worker"),
            |worker| worker.loops,
        ),
        (
            plain("pollux_worker_busy_loops", "Loops that found packets"),
            |worker| worker.busy_loops,
        ),
        (
            plain(
                "pollux_worker_received_packets",
                "Packets the worker received from the ports",
            ),
            |worker| worker.received,
        ),
        (
            plain(
                "pollux_worker_connections_created",
                "Connections the worker created",
            ),
            |worker| worker.connections_created,
        ),
        (
            plain(
                "pollux_worker_connections_expired",
                "Connections the worker ended after their time",
            ),
            |worker| worker.connections_expired,
        ),
        (
            plain(
                "pollux_worker_connections_evicted",
                "Connections the worker ended early to make room",
            ),
            |worker| worker.connections_evicted,
        ),
        (
            plain(
                "pollux_worker_without_entry_packets",
                "Packets the worker forwarded without an entry because the table was full",
            ),
            |worker| worker.forwarded_without_entry,
        ),
        (
            plain("pollux_worker_icmp_errors", "ICMP errors the worker made"),
            |worker| worker.icmp_errors,
        ),
        (
            plain(
                "pollux_worker_answers_met",
                "Connections whose first answer came to the worker that made them",
            ),
            |worker| worker.answers_met,
        ),
        (
            plain(
                "pollux_worker_answers_apart",
                "Connections of other workers whose first answer came to this one",
            ),
            |worker| worker.answers_apart,
        ),
    ];
    for (description, value) in counters {
        let samples = workers.iter().map(|worker| (labels(worker), value(worker)));
        families.counters(description, samples)?;
    }
    let generations = workers
        .iter()
        .map(|worker| (labels(worker), worker.generation));
    families.gauges(
        plain(
            "pollux_worker_generation",
            "Generation of the configuration the worker runs with",
        ),
        generations,
    )
}
