//! What more workers bring.

use super::document::{Block, Section, Table};
use super::pipeline::{FAMILIES, METHODS, line, rate_axis};
use super::plot::{Axis, Colour, Line, Plot, Series};
use super::results::{Results, Selection, is_default};
use super::words;
use crate::measurement::{Case, Family, Method, PacketMeasurement};

const CASES: [(Case, Colour); 4] = [
    (Case::Hit, Colour::Blue),
    (Case::Reply, Colour::Purple),
    (Case::New, Colour::Vermilion),
    (Case::SynFlood, Colour::Green),
];

/// Rates of several workers by that of one.
pub fn section(results: &Results) -> Option<Section> {
    let measured = results.pipeline().only(is_default);
    let counts = measured.values(|measured| measured.workers);
    let several: Vec<u32> = counts
        .iter()
        .copied()
        .filter(|workers| *workers > 1)
        .collect();
    if several.is_empty() || !counts.contains(&1) {
        return None;
    }
    let mut blocks = vec![Block::Text(
        "The rate of all workers together by that of one. All share one connection table; each has a CPU of its own. \
         Replies come to any worker, so half of those on two workers belong to connections that the other one opened."
            .to_owned(),
    )];
    for workers in several {
        let table = table(&measured, workers);
        if !table.is_empty() {
            blocks.push(Block::Text(format!("### {workers} workers")));
            blocks.push(Block::Table(table));
        }
    }
    blocks.extend(plot(&measured).map(Block::Plot));
    Some(Section {
        title: "What more workers bring",
        blocks,
        commands: measured.commands(),
    })
}

/// The rate of several workers by that of one on the same connections.
pub(super) fn scaling(
    measured: &Selection<'_, PacketMeasurement>,
    several: &PacketMeasurement,
) -> Option<f64> {
    let PacketMeasurement {
        case,
        method,
        family,
        connections,
        ..
    } = *several;
    let one = measured.find(case, method, family, connections, 1)?;
    Some(several.packets_per_second / one.packets_per_second)
}

fn table(measured: &Selection<'_, PacketMeasurement>, workers: u32) -> Table {
    let columns = measured.values(|measured| measured.connections);
    let header = columns.iter().map(|count| words::count(*count));
    let mut table = Table::new(
        3,
        ["case", "method", ""]
            .map(str::to_owned)
            .into_iter()
            .chain(header),
    );
    for (case, _) in CASES {
        for method in METHODS {
            for family in FAMILIES {
                let cells: Vec<String> = columns
                    .iter()
                    .map(|connections| {
                        let several = measured.find(case, method, family, *connections, workers);
                        let factor = several.and_then(|several| scaling(measured, several));
                        factor.map_or_else(String::new, |factor| format!("{factor:.2}"))
                    })
                    .collect();
                if cells.iter().any(|cell| !cell.is_empty()) {
                    let words = [
                        words::case(case),
                        words::method(method),
                        words::family(family),
                    ];
                    table.row(words.map(str::to_owned).into_iter().chain(cells));
                }
            }
        }
    }
    table
}

/// NAT, at the number of connections at which most was measured.
fn plot(measured: &Selection<'_, PacketMeasurement>) -> Option<Plot> {
    let nat = measured.only(|measured| measured.method == Method::Nat);
    let on_several = nat.only(|measured| measured.workers > 1);
    let connections = on_several
        .values(|measured| measured.connections)
        .into_iter()
        .max_by_key(|count| {
            on_several
                .iter()
                .filter(|record| record.connections == *count)
                .count()
        })?;
    let mut series: Vec<Series> = Vec::new();
    for (case, colour) in CASES {
        for family in FAMILIES {
            let points = curve(&nat, case, family, connections);
            if points.len() > 1 {
                series.push(Series {
                    name: format!("{} {}", words::case(case), words::family(family)),
                    colour,
                    line: line(family),
                    points,
                });
            }
        }
    }
    let top = series.first()?;
    let (first, last) = (*top.points.first()?, *top.points.last()?);
    series.push(Series {
        name: format!("{}, ideal", top.name),
        colour: Colour::Grey,
        line: Line::Dashed,
        points: vec![first, (last.0, first.1 * last.0 / first.0)],
    });
    Some(Plot {
        name: "rate-workers".to_owned(),
        title: format!(
            "Rate by number of workers, NAT, {} connections",
            words::count(connections)
        ),
        x: Axis {
            label: "workers, each on a CPU of its own",
            logarithmic: false,
            marks_values: true,
            format: |value| format!("{value:.0}"),
        },
        y: rate_axis(),
        series,
    })
}

fn curve(
    measured: &Selection<'_, PacketMeasurement>,
    case: Case,
    family: Family,
    connections: u32,
) -> Vec<(f64, f64)> {
    let counts = measured.values(|measured| measured.workers).into_iter();
    counts
        .filter_map(|workers| {
            let record = measured.find(case, Method::Nat, family, connections, workers)?;
            Some((workers.into(), record.packets_per_second / 1e6))
        })
        .collect()
}
