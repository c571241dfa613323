//! What a packet costs in the engine: a table and a plot for each case, over the number of connections.

use super::document::{Block, Section, Table};
use super::plot::{Axis, Colour, Line, Plot, Series};
use super::results::{Results, SERVERS, Selection, is_default, is_on_normal_pages};
use super::words;
use crate::flows::Order;
use crate::measurement::{Case, Family, Method, PacketMeasurement, Scheduler, word};

const CASES: [Case; 4] = [Case::Hit, Case::Reply, Case::New, Case::SynFlood];
pub(super) const METHODS: [Method; 3] = [Method::Nat, Method::Tunnel, Method::Direct];
pub(super) const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// What the figures mean.
const INTRODUCTION: &str = "The engine alone, over frames made in memory, with every feature on: counters, states, \
                            snapshot. Nanoseconds are CPU time of one worker for a packet, net of the generator, the \
                            median of the rounds; in brackets, million packets all workers process in a second. Frames \
                            are as small as can be: 64 bytes (IPv4) and 78 (IPv6) with the check sequence. Packets of a \
                            SYN flood are half SYNs, half packets of established connections; that run fails when one of \
                            those is not forwarded or one of the connections is gone.";

/// Every case that was measured.
pub fn section(results: &Results) -> Option<Section> {
    // Schedulers have a section of their own.
    let measured = results
        .pipeline()
        .only(|measured| measured.scheduler == Scheduler::Rr);
    if measured.is_empty() {
        return None;
    }
    let mut blocks = vec![
        Block::Text(INTRODUCTION.to_owned()),
        Block::Text(spread(&measured)),
    ];
    for case in CASES {
        let of_case = measured.only(|measured| measured.case == case);
        if of_case.is_empty() {
            continue;
        }
        let title = words::capital(words::case(case));
        blocks.push(Block::Text(format!("### {title}")));
        blocks.push(Block::Table(table(&of_case)));
        blocks.extend(notes(&of_case).map(Block::Text));
        blocks.extend(plot(case, &of_case).map(Block::Plot));
    }
    Some(Section {
        title: "What a packet costs",
        blocks,
        commands: measured.commands(),
    })
}

/// Rows by what is measured, columns by connections.
fn table(measured: &Selection<'_, PacketMeasurement>) -> Table {
    let columns = measured.values(|measured| measured.connections);
    let header = columns.iter().map(|count| words::count(*count));
    let mut table = Table::new(
        3,
        ["method", "", "workers"]
            .map(str::to_owned)
            .into_iter()
            .chain(header),
    );
    let mut rows: Vec<&PacketMeasurement> = Vec::new();
    for record in measured.iter() {
        if !rows.iter().any(|row| is_one_row(row, record)) {
            rows.push(record);
        }
    }
    rows.sort_by_key(|row| {
        let method = METHODS.iter().position(|method| *method == row.method);
        (is_default(row), row.workers, method, row.family as u8)
    });
    // The usual ones first.
    let unusual = rows.partition_point(|row| !is_default(row));
    rows.rotate_left(unusual);
    for row in rows {
        let cells = columns.iter().map(|connections| {
            let here = |record: &&PacketMeasurement| {
                record.connections == *connections && is_one_row(record, row)
            };
            measured.iter().find(here).map_or_else(String::new, cell)
        });
        let words = [
            words::method(row.method).to_owned(),
            words::family(row.family).to_owned() + &unusual_words(row),
            row.workers.to_string(),
        ];
        table.row(words.into_iter().chain(cells));
    }
    table
}

fn is_one_row(one: &PacketMeasurement, other: &PacketMeasurement) -> bool {
    super::results::setting(one) == super::results::setting(other) && one.workers == other.workers
}

/// What is not as in most measurements.
fn unusual_words(row: &PacketMeasurement) -> String {
    let mut words = String::new();
    if row.servers != SERVERS {
        words += &format!(", {} servers", row.servers);
    }
    if row.order == Order::Sequential && row.case != Case::New {
        words += ", flows in order";
    }
    words
}

fn cell(measured: &PacketMeasurement) -> String {
    let pages = if is_on_normal_pages(measured) {
        " †"
    } else {
        ""
    };
    let rate = measured.packets_per_second / 1e6;
    format!("{:.1} ns ({rate:.1}){pages}", measured.ns_per_packet)
}

/// The generator's part, and how far rounds lie apart.
fn spread(measured: &Selection<'_, PacketMeasurement>) -> String {
    let extremes = |value: fn(&PacketMeasurement) -> f64| {
        let values = measured.iter().map(value);
        values.fold((f64::INFINITY, 0.0_f64), |(least, greatest), value| {
            (least.min(value), greatest.max(value))
        })
    };
    let (least, greatest) = extremes(|measured| measured.generator_ns_per_packet);
    let apart: Vec<f64> = measured
        .iter()
        .map(|measured| measured.ns_per_packet_greatest / measured.ns_per_packet_least)
        .collect();
    format!(
        "The generator took another {least:.1} to {greatest:.1} ns a packet. The dearest round cost {:.2} times the \
         cheapest in the median measurement.",
        crate::statistics::median(&apart)
    )
}

/// What a reader of the table must know.
fn notes(measured: &Selection<'_, PacketMeasurement>) -> Option<String> {
    let most = |value: fn(&PacketMeasurement) -> Option<f64>| {
        measured.iter().filter_map(value).fold(0.0, f64::max)
    };
    let mut notes = Vec::new();
    if measured.iter().any(is_on_normal_pages) {
        notes.push("† the connection table lay on normal pages of 4 KiB.".to_owned());
    }
    let without = most(|measured| measured.without_entry_share);
    if without > 0.0 {
        let percent = without * 100.0;
        notes.push(format!(
            "Of the SYNs, up to {percent:.4} % got no entry, the table being full."
        ));
    }
    let refused = most(|measured| measured.refused_share);
    if refused > 0.0 {
        notes.push(format!(
            "Up to {:.4} % of the SYNs were dropped.",
            refused * 100.0
        ));
    }
    (!notes.is_empty()).then(|| notes.join(" "))
}

/// The rate of one worker over connections, a curve for each method and family.
fn plot(case: Case, measured: &Selection<'_, PacketMeasurement>) -> Option<Plot> {
    let workers = measured
        .values(|measured| measured.workers)
        .first()
        .copied()?;
    let mut series = Vec::new();
    for method in METHODS {
        for family in FAMILIES {
            let mut of_curve: Vec<&PacketMeasurement> = measured
                .only(|record| {
                    (record.method, record.family, record.workers) == (method, family, workers)
                        && is_default(record)
                })
                .iter()
                .collect();
            of_curve.sort_by_key(|record| record.connections);
            if !of_curve.is_empty() {
                series.push(Series {
                    name: format!("{} {}", words::method(method), words::family(family)),
                    colour: colour(method),
                    line: line(family),
                    points: of_curve
                        .iter()
                        .map(|record| (record.connections.into(), record.packets_per_second / 1e6))
                        .collect(),
                });
            }
        }
    }
    (!series.is_empty()).then(|| Plot {
        name: format!("rate-{}", word(&case).replace('_', "-")),
        title: format!(
            "{}: rate by number of connections, {}",
            words::capital(words::case(case)),
            words::plural(workers, "worker")
        ),
        x: connections_axis(),
        y: rate_axis(),
        series,
    })
}

/// The same in every plot.
pub(super) fn colour(method: Method) -> Colour {
    match method {
        Method::Nat => Colour::Blue,
        Method::Tunnel => Colour::Vermilion,
        Method::Direct => Colour::Green,
    }
}

/// The same in every plot.
pub(super) fn line(family: Family) -> Line {
    match family {
        Family::Ipv4 => Line::Solid,
        Family::Ipv6 => Line::Dashed,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // counts of connections
fn connections_axis() -> Axis {
    Axis {
        label: "established connections (logarithmic)",
        logarithmic: true,
        marks_values: true,
        format: |value| words::count(value.round() as u32),
    }
}

pub(super) fn rate_axis() -> Axis {
    Axis {
        label: "million packets a second",
        logarithmic: false,
        marks_values: false,
        format: |value| format!("{value:.0}"),
    }
}
