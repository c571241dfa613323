//! The whole process under load: the highest rate without loss, and how long packets take below it.

use super::document::{Block, Section, Table};
use super::plot::{Axis, Colour, Line, Plot, Series};
use super::results::{Results, Selection};
use super::words;
use crate::measurement::{LatencyMeasurement, LoadSetting, Program, Record, word};
use crate::quantity::Quantity;

/// One of the figures that stand for all latencies of a load.
struct Percentile {
    name: &'static str,
    colour: Colour,
    ns: fn(&LatencyMeasurement) -> u64,
}

const PERCENTILES: [Percentile; 3] = [
    Percentile {
        name: "p50",
        colour: Colour::Blue,
        ns: |measured| measured.p50_ns,
    },
    Percentile {
        name: "p99",
        colour: Colour::Vermilion,
        ns: |measured| measured.p99_ns,
    },
    Percentile {
        name: "p99.9",
        colour: Colour::Purple,
        ns: |measured| measured.p999_ns,
    },
];
/// Of a worker's or the generator's time, taken by others: less disturbs nothing.
const WAITED_MAX: f64 = 0.01;

/// Throughput, as RFC 2544 has it.
pub fn throughput(results: &Results) -> Option<Section> {
    let measured = results.select(
        |record| match record {
            Record::Throughput(measured) => Some(measured),
            _ => None,
        },
        |measured| key(&measured.setting),
    );
    if measured.is_empty() {
        return None;
    }
    let mut table = table_by_setting(["Mpps", "ratio to testpmd", "overloaded, Mpps", "loss"]);
    for record in measured.iter() {
        let bound = if record.generator_limited { "≥ " } else { "" };
        let figures = [
            format!("{bound}{:.2}", record.packets_per_second / 1e6),
            record
                .ratio_to_testpmd
                .map_or_else(String::new, words::percent),
            format!("{:.2}", record.packets_per_second_overloaded / 1e6),
            format!("{:.4} %", record.loss * 100.0),
        ];
        table.row(setting_words(&record.setting).into_iter().chain(figures));
    }
    let mut blocks = vec![
        Block::Text(
            "The highest rate at which no packet is lost, found by halving (RFC 2544, section 26.1): packets a second \
             offered to one worker and back. Beside it, what comes back when more is offered than the program takes."
                .to_owned(),
        ),
        Block::Table(table),
    ];
    let mut notes = Vec::new();
    if measured.iter().any(|record| record.generator_limited) {
        notes.push("≥: the generator could offer no more.".to_owned());
    }
    let allowed = measured
        .iter()
        .map(|record| record.loss_allowed)
        .fold(0.0, f64::max);
    if allowed > 0.0 {
        notes.push(format!(
            "Loss up to {:.4} % was overlooked.",
            allowed * 100.0
        ));
    }
    notes.extend(disturbance(measured.iter().map(|record| &record.setting)));
    blocks.extend((!notes.is_empty()).then(|| Block::Text(notes.join(" "))));
    Some(Section {
        title: "The highest rate without loss",
        blocks,
        commands: measured.commands(),
    })
}

/// Latency by load.
pub fn latency(results: &Results) -> Option<Section> {
    let measured = latencies(results);
    if measured.is_empty() {
        return None;
    }
    let mut table = table_by_setting(["load", "Mpps", "p50", "p99", "p99.9", "slowest", "loss"]);
    for record in measured.iter() {
        let mut figures = vec![
            format!("{} %", record.load_percent),
            format!("{:.2}", record.packets_per_second / 1e6),
        ];
        figures.extend(PERCENTILES.map(|percentile| microseconds((percentile.ns)(record))));
        figures.push(microseconds(record.greatest_ns));
        figures.push(format!("{:.4} %", record.loss * 100.0));
        table.row(setting_words(&record.setting).into_iter().chain(figures));
    }
    let mut blocks = vec![
        Block::Text(
            "At a constant rate, from when a packet should have been sent until it is back, in microseconds: what waits \
             behind a late one counts too. Load is by the program's own highest rate without loss."
                .to_owned(),
        ),
        Block::Table(table),
    ];
    let settings = measured.iter().map(|record| &record.setting);
    blocks.extend(disturbance(settings).map(Block::Text));
    blocks.extend(plots(&measured).into_iter().map(Block::Plot));
    Some(Section {
        title: "Latency under load",
        blocks,
        commands: measured.commands(),
    })
}

fn latencies(results: &Results) -> Selection<'_, LatencyMeasurement> {
    results.select(
        |record| match record {
            Record::Latency(measured) => Some(measured),
            _ => None,
        },
        |measured| (key(&measured.setting), measured.load_percent),
    )
}

/// What is measured on: who forwards, and everything that is the same for all who do.
type Key = (Program, Ground);
type Ground = (String, String, u32, u32, u32, crate::flows::Order);

fn key(setting: &LoadSetting) -> Key {
    (setting.program, ground(setting))
}

fn ground(setting: &LoadSetting) -> Ground {
    (
        setting.device.clone(),
        format!(
            "{} {}",
            words::method(setting.method),
            words::family(setting.family)
        ),
        setting.connections,
        setting.workers,
        setting.frame_bytes,
        setting.order,
    )
}

fn table_by_setting<const FIGURES: usize>(figures: [&str; FIGURES]) -> Table {
    let words = ["program", "device", "frames of", "bytes", "connections"];
    Table::new(3, words.into_iter().chain(figures))
}

/// With the check sequence, as others count frames.
fn setting_words(setting: &LoadSetting) -> Vec<String> {
    vec![
        program(setting.program).to_owned(),
        setting.device.clone(),
        format!(
            "{} {}",
            words::method(setting.method),
            words::family(setting.family)
        ),
        (setting.frame_bytes + 4).to_string(),
        words::count(setting.connections),
    ]
}

fn program(program: Program) -> &'static str {
    match program {
        Program::PolluxDataplane => "pollux-dataplane",
        Program::Testpmd => "testpmd, macswap",
    }
}

#[allow(clippy::cast_precision_loss)] // shown with one decimal
fn microseconds(nanoseconds: u64) -> String {
    format!("{:.1}", nanoseconds as f64 / 1e3)
}

/// Whether something else had the CPUs meanwhile.
fn disturbance<'s>(settings: impl Iterator<Item = &'s LoadSetting>) -> Option<String> {
    let most = settings
        .map(|setting| setting.cpu_waited_share)
        .fold(0.0, f64::max);
    (most > WAITED_MAX).then(|| {
        format!(
            "Something else had a worker's or the generator's CPU for up to {:.1} % of the time: latencies and losses \
             may be its doing.",
            most * 100.0
        )
    })
}

/// One for each ground that was measured on at more than one load.
fn plots(measured: &Selection<'_, LatencyMeasurement>) -> Vec<Plot> {
    let mut grounds: Vec<&LoadSetting> = Vec::new();
    for LatencyMeasurement { setting, .. } in measured.iter() {
        if !grounds.iter().any(|known| ground(known) == ground(setting)) {
            grounds.push(setting);
        }
    }
    grounds
        .into_iter()
        .filter_map(|setting| plot(measured, setting))
        .collect()
}

fn plot(measured: &Selection<'_, LatencyMeasurement>, setting: &LoadSetting) -> Option<Plot> {
    let of_ground = measured.only(|record| ground(&record.setting) == ground(setting));
    let mut series = Vec::new();
    for (who, line) in [
        (Program::PolluxDataplane, Line::Solid),
        (Program::Testpmd, Line::Dashed),
    ] {
        let of_program = of_ground.only(|record| record.setting.program == who);
        for Percentile { name, colour, ns } in PERCENTILES {
            let points = curve(&of_program, ns);
            if points.len() > 1 {
                series.push(Series {
                    name: format!("{name}, {}", program(who)),
                    colour,
                    line,
                    points,
                });
            }
        }
    }
    if series.is_empty() {
        return None;
    }
    let LoadSetting {
        device,
        method,
        family,
        connections,
        frame_bytes,
        ..
    } = setting;
    let file_words = [
        "latency".to_owned(),
        device.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"),
        word(method),
        word(family),
        Quantity(*connections).to_string(),
        frame_bytes.to_string(),
    ];
    Some(Plot {
        name: file_words.join("-"),
        title: format!(
            "Latency by load, {} {}, {} connections, {device}",
            words::method(*method),
            words::family(*family),
            words::count(*connections)
        ),
        x: Axis {
            label: "load, percent of the program's own highest rate without loss",
            logarithmic: false,
            marks_values: true,
            format: |value| format!("{value:.0}"),
        },
        y: Axis {
            label: "microseconds (logarithmic)",
            logarithmic: true,
            marks_values: false,
            format: |value| value.to_string(),
        },
        series,
    })
}

#[allow(clippy::cast_precision_loss)] // nanoseconds of a plot
fn curve(
    measured: &Selection<'_, LatencyMeasurement>,
    ns: fn(&LatencyMeasurement) -> u64,
) -> Vec<(f64, f64)> {
    let loads = measured.values(|record| record.load_percent).into_iter();
    loads
        .filter_map(|load| {
            let record = measured.iter().find(|record| record.load_percent == load)?;
            // The clock may be coarser than the fastest packet; a logarithm wants something.
            Some((load.into(), ns(record).max(1) as f64 / 1e3))
        })
        .collect()
}
