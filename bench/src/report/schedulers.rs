//! What a new connection costs by scheduler.

use super::document::{Block, Section, Table};
use super::results::{Results, Selection};
use super::words;
use crate::measurement::{Case, PacketMeasurement, Scheduler, word};

/// New connections wherever more schedulers than one were measured on the same.
pub fn section(results: &Results) -> Option<Section> {
    let measured = comparable(results);
    if measured.is_empty() {
        return None;
    }
    let mut table = Table::new(
        3,
        [
            "scheduler",
            "method",
            "",
            "servers",
            "connections",
            "workers",
            "ns",
            "beside `rr`",
        ],
    );
    for record in measured.iter() {
        let beside = to_round_robin(&measured, record);
        table.row([
            format!("`{}`", word(&record.scheduler)),
            words::method(record.method).to_owned(),
            words::family(record.family).to_owned(),
            record.servers.to_string(),
            words::count(record.connections),
            record.workers.to_string(),
            format!("{:.1}", record.ns_per_packet),
            beside.map_or_else(String::new, |ratio| {
                format!("{:+.1} %", (ratio - 1.0) * 100.0)
            }),
        ]);
    }
    Some(Section {
        title: "What a new connection costs by scheduler",
        blocks: vec![Block::Table(table)],
        commands: measured.commands(),
    })
}

/// New connections under `rr` and another scheduler on the same, and those under another one alone.
pub(super) fn comparable(results: &Results) -> Selection<'_, PacketMeasurement> {
    let new = results
        .pipeline()
        .only(|measured| measured.case == Case::New);
    let others = new.only(|measured| measured.scheduler != Scheduler::Rr);
    new.only(|record| {
        others
            .iter()
            .any(|other| is_same_but_scheduler(record, other))
    })
}

/// The cost of a new connection by that under `rr`.
pub(super) fn to_round_robin(
    measured: &Selection<'_, PacketMeasurement>,
    record: &PacketMeasurement,
) -> Option<f64> {
    if record.scheduler == Scheduler::Rr {
        return None;
    }
    let mut others = measured.iter();
    let base = others
        .find(|other| other.scheduler == Scheduler::Rr && is_same_but_scheduler(other, record))?;
    Some(record.ns_per_packet / base.ns_per_packet)
}

fn is_same_but_scheduler(one: &PacketMeasurement, other: &PacketMeasurement) -> bool {
    let key = |record: &PacketMeasurement| {
        let PacketMeasurement {
            method,
            family,
            servers,
            connections,
            workers,
            ..
        } = *record;
        (method, family, servers, connections, workers)
    };
    key(one) == key(other)
}
