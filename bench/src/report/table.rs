//! The connection table alone: operations by fill level, memory, start, expiry.

use super::document::{Block, Section, Table};
use super::pipeline::FAMILIES;
use super::plot::{Axis, Colour, Line, Plot, Series};
use super::results::{Results, Selection};
use super::words;
use crate::measurement::{
    ExpiryMeasurement, Family, MemoryMeasurement, Operation, Pages, Record, StartMeasurement,
    TableMeasurement, word,
};

const OPERATIONS: [(Operation, Colour); 3] = [
    (Operation::Lookup, Colour::Blue),
    (Operation::Create, Colour::Vermilion),
    (Operation::Expire, Colour::Green),
];

/// What was measured of it.
pub fn section(results: &Results) -> Option<Section> {
    let (operations, memory) = (operations(results), memory(results));
    let (start, expiry) = (start(results), expiry(results));
    let mut blocks = Vec::new();
    blocks.extend(operation_blocks(&operations));
    if !memory.is_empty() {
        blocks.push(Block::Text("### Memory of a connection".to_owned()));
        blocks.push(Block::Table(memory_table(&memory)));
    }
    if !start.is_empty() {
        blocks.push(Block::Text("### Start".to_owned()));
        blocks.push(Block::Text(
            "Until a data plane has its table, milliseconds: a new file; the file of one that died with no connection; \
             the file of one that died with a full table, whose index is built anew."
                .to_owned(),
        ));
        blocks.push(Block::Table(start_table(&start)));
    }
    if !expiry.is_empty() {
        blocks.push(Block::Text("### A full table expires".to_owned()));
        blocks.push(Block::Text(
            "Connections that were opened and forgotten expire while others are hit. Rates are by that of hits before \
             the first one went; the worst is that of a tenth of a second."
                .to_owned(),
        ));
        blocks.push(Block::Table(expiry_table(&expiry)));
    }
    if blocks.is_empty() {
        return None;
    }
    let mut commands = Vec::new();
    for command in [
        operations.commands(),
        memory.commands(),
        start.commands(),
        expiry.commands(),
    ]
    .concat()
    {
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    Some(Section {
        title: "The connection table",
        blocks,
        commands,
    })
}

fn operations(results: &Results) -> Selection<'_, TableMeasurement> {
    results.select(
        |record| match record {
            Record::Table(measured) => Some(measured),
            _ => None,
        },
        |measured| {
            (
                measured.operation,
                measured.family,
                measured.entries,
                measured.threads,
                measured.fill_percent,
            )
        },
    )
}

pub(super) fn memory(results: &Results) -> Selection<'_, MemoryMeasurement> {
    results.select(
        |record| match record {
            Record::Memory(measured) => Some(measured),
            _ => None,
        },
        |measured| measured.family,
    )
}

pub(super) fn start(results: &Results) -> Selection<'_, StartMeasurement> {
    // A few entries more or less make no other table.
    results.select(
        |record| match record {
            Record::Start(measured) => Some(measured),
            _ => None,
        },
        |measured| (measured.family, measured.connections / 1000),
    )
}

pub(super) fn expiry(results: &Results) -> Selection<'_, ExpiryMeasurement> {
    results.select(
        |record| match record {
            Record::Expiry(measured) => Some(measured),
            _ => None,
        },
        |measured| (measured.connections, measured.timeout_s),
    )
}

fn operation_blocks(measured: &Selection<'_, TableMeasurement>) -> Vec<Block> {
    if measured.is_empty() {
        return Vec::new();
    }
    let pages: Vec<&str> = [(Pages::Huge, "huge"), (Pages::Normal, "normal")]
        .into_iter()
        .filter(|(pages, _)| measured.iter().any(|record| record.pages == *pages))
        .map(|(_, word)| word)
        .collect();
    let mut blocks = vec![
        Block::Text("### Operations by how full the table is".to_owned()),
        Block::Text(format!(
            "CPU time of one thread for one, in nanoseconds, on {} pages. NAT connections are created under both keys, \
             the last tenth below the level; random ones are looked up in bursts of 32, as a worker does; then all \
             expire.",
            pages.join(" and ")
        )),
        Block::Table(operation_table(measured)),
    ];
    if let Some(refused) = most_refused(measured) {
        blocks.push(Block::Text(refused));
    }
    for family in FAMILIES {
        blocks.extend(operation_plot(measured, family).map(Block::Plot));
    }
    blocks
}

fn most_refused(measured: &Selection<'_, TableMeasurement>) -> Option<String> {
    let shares = measured.iter().filter_map(|record| {
        Some((
            record.refused_share.filter(|share| *share > 0.0)?,
            record.fill_percent,
        ))
    });
    let (share, level) = shares.max_by(|one, other| one.0.total_cmp(&other.0))?;
    Some(format!(
        "At most {:.4} % of the creations found no room, at a level of {level} %.",
        share * 100.0
    ))
}

fn operation_table(measured: &Selection<'_, TableMeasurement>) -> Table {
    let levels = measured.values(|record| record.fill_percent);
    let header = levels.iter().map(|level| format!("{level} %"));
    let words = ["operation", "", "entries", "threads"].map(str::to_owned);
    let mut table = Table::new(3, words.into_iter().chain(header));
    for (operation, _) in OPERATIONS {
        for family in FAMILIES {
            let rows =
                measured.only(|record| (record.operation, record.family) == (operation, family));
            for (entries, threads) in rows.values(|record| (record.entries, record.threads)) {
                let cells = levels.iter().map(|level| {
                    let here = |record: &&TableMeasurement| {
                        (record.entries, record.threads, record.fill_percent)
                            == (entries, threads, *level)
                    };
                    let record = rows.iter().find(here);
                    record.map_or_else(String::new, |record| format!("{:.1}", record.ns_each))
                });
                let words = [
                    words::operation(operation).to_owned(),
                    words::family(family).to_owned(),
                    words::count(entries),
                    threads.to_string(),
                ];
                table.row(words.into_iter().chain(cells));
            }
        }
    }
    table
}

/// A curve for each operation on one thread and on the most.
fn operation_plot(measured: &Selection<'_, TableMeasurement>, family: Family) -> Option<Plot> {
    let measured = measured.only(|record| record.family == family);
    let threads = measured.values(|record| record.threads);
    let (fewest, most) = (*threads.first()?, *threads.last()?);
    let lines: &[(u32, Line)] = if fewest == most {
        &[(fewest, Line::Solid)]
    } else {
        &[(fewest, Line::Solid), (most, Line::Dashed)]
    };
    let mut series = Vec::new();
    for (operation, colour) in OPERATIONS {
        for (threads, line) in lines {
            let of_curve =
                measured.only(|record| (record.operation, record.threads) == (operation, *threads));
            // Of several sizes the last one measured.
            let Some(entries) = of_curve.iter().last().map(|record| record.entries) else {
                continue;
            };
            let of_curve = of_curve.only(|record| record.entries == entries);
            let points = of_curve
                .iter()
                .map(|record| (record.fill_percent.into(), record.ns_each));
            series.push(Series {
                name: format!(
                    "{}, {}",
                    words::operation(operation),
                    words::plural(*threads, "thread")
                ),
                colour,
                line: *line,
                points: points.collect(),
            });
        }
    }
    Some(Plot {
        name: format!("table-{}", word(&family)),
        title: format!(
            "Cost of an operation by how full the table is, {}",
            words::family(family)
        ),
        x: Axis {
            label: "entries in use, percent",
            logarithmic: false,
            marks_values: true,
            format: |value| format!("{value:.0}"),
        },
        y: Axis {
            label: "nanoseconds each, of one thread",
            logarithmic: false,
            marks_values: false,
            format: |value| format!("{value:.0}"),
        },
        series,
    })
}

fn memory_table(measured: &Selection<'_, MemoryMeasurement>) -> Table {
    let mut table = Table::new(
        1,
        [
            "",
            "in a table for this family alone",
            "in a table as the data plane makes it",
        ],
    );
    for record in measured.iter() {
        table.row([
            words::family(record.family).to_owned(),
            format!("{:.1} B", record.bytes_per_connection),
            format!("{:.1} B", record.bytes_per_connection_by_default),
        ]);
    }
    table
}

fn start_table(measured: &Selection<'_, StartMeasurement>) -> Table {
    let mut table = Table::new(1, ["", "entries", "new", "empty", "full", "found again"]);
    for record in measured.iter() {
        table.row([
            words::family(record.family).to_owned(),
            record.connections.to_string(),
            format!("{:.1}", record.create_ms),
            format!("{:.1}", record.attach_empty_ms),
            format!("{:.1}", record.attach_full_ms),
            format!("{:.4} %", record.connections_found_again * 100.0),
        ]);
    }
    table
}

fn expiry_table(measured: &Selection<'_, ExpiryMeasurement>) -> Table {
    let header = [
        "connections",
        "timeout",
        "empty after",
        "a hit before",
        "hit rate meanwhile",
        "at worst",
    ];
    let mut table = Table::new(0, header);
    for record in measured.iter() {
        table.row([
            words::count(record.connections),
            format!("{} s", record.timeout_s),
            format!("{:.1} s", record.seconds_until_empty),
            format!("{:.1} ns", record.ns_per_packet_before),
            words::percent(record.hit_rate_meanwhile),
            words::percent(record.hit_rate_least),
        ]);
    }
    table
}
