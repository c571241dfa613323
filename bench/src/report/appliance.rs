//! The whole process beside `dpdk-testpmd`.

use super::document::{Block, Section, Table};
use super::results::{Results, Selection, setting};
use super::words;
use crate::measurement::{PacketMeasurement, Record};

/// Its rate by that of testpmd.
pub fn section(results: &Results) -> Option<Section> {
    let measured = rates(results);
    if measured.is_empty() {
        return None;
    }
    let header = [
        "device",
        "method",
        "",
        "connections",
        "ns a packet",
        "Mpps",
        "rate by testpmd's",
    ];
    let mut table = Table::new(3, header);
    for record in measured.iter() {
        table.row([
            record.device.clone().unwrap_or_default(),
            words::method(record.method).to_owned(),
            words::family(record.family).to_owned(),
            words::count(record.connections),
            format!("{:.1}", record.ns_per_packet),
            format!("{:.1}", record.packets_per_second / 1e6),
            record
                .ratio_to_testpmd
                .map_or_else(String::new, words::percent),
        ]);
    }
    let blocks = vec![
        Block::Text(
            "The real `pollux-dataplane` with one worker on real DPDK ports, in turns with `dpdk-testpmd \
             --forward-mode=macswap` on the same CPU, ports and frames; `pcap` is `net_pcap` with `infinite_rx`, which \
             hands out frames from memory as fast as they are taken. Nanoseconds are CPU time of the worker's thread \
             with the device's part in it; the ratio is the median of turns side by side."
                .to_owned(),
        ),
        Block::Table(table),
    ];
    Some(Section {
        title: "The appliance",
        blocks,
        commands: measured.commands(),
    })
}

/// Records of the rate.
pub(super) fn rates(results: &Results) -> Selection<'_, PacketMeasurement> {
    results.select(
        |record| match record {
            Record::Appliance(measured) => Some(measured),
            _ => None,
        },
        |measured| {
            (
                setting(measured),
                measured.connections,
                measured.device.clone(),
            )
        },
    )
}
