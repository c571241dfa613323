//! The machine that everything was measured on.

use super::document::{Block, Section, Table};
use super::results::Results;
use crate::machine::{Cache, Machine};

const UNKNOWN: &str = "unknown";

/// A table of what is known of it.
pub fn section(results: &Results) -> Option<Section> {
    let machine = &results.runs.first()?.machine;
    let mut table = Table::new(2, ["", ""]);
    let caches: Vec<String> = machine.caches.iter().map(cache).collect();
    for (what, is) in [
        ("CPU", cpu(machine)),
        ("Cores", cores(machine)),
        ("Caches of a core", caches.join(", ")),
        (
            "Memory",
            machine.memory_bytes.map_or(UNKNOWN.to_owned(), gibibytes),
        ),
        ("Huge pages", huge_pages(machine)),
        ("System", system(machine)),
        ("DPDK", known(machine.dpdk.as_ref())),
        ("Compiler", compiler(machine)),
        ("Pollux", machine.pollux.clone()),
        ("Measured", dates(results)),
    ] {
        table.row([what.to_owned(), is]);
    }
    let mut blocks = vec![Block::Table(table)];
    if machine.profile != "release" {
        blocks.push(Block::Text(format!(
            "**A {} build: its figures say nothing about speed.** Build with `--release`.",
            machine.profile
        )));
    }
    Some(Section {
        title: "The machine",
        blocks,
        commands: Vec::new(),
    })
}

/// What tells machines apart, for an error.
pub fn in_a_line(machine: &Machine) -> String {
    format!(
        "{}, {}, {}, DPDK {}, {}",
        cpu(machine),
        cores(machine),
        system(machine),
        known(machine.dpdk.as_ref()),
        compiler(machine)
    )
}

fn known(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| UNKNOWN.to_owned())
}

fn cpu(machine: &Machine) -> String {
    let model = known(machine.cpu_model.as_ref());
    match machine.cpu_family_model {
        Some((family, number)) => format!("{model} (family {family}, model {number})"),
        None => model,
    }
}

fn cores(machine: &Machine) -> String {
    let of_what = if machine.virtual_machine {
        " of a virtual machine"
    } else {
        ""
    };
    format!("{}{of_what}", machine.cpus)
}

fn cache(cache: &Cache) -> String {
    let size = if cache.kib.is_multiple_of(1024) {
        format!("{} MiB", cache.kib / 1024)
    } else {
        format!("{} KiB", cache.kib)
    };
    match cache.kind.as_str() {
        "Unified" => format!("L{} {size}", cache.level),
        kind => format!("L{} {} {size}", cache.level, kind.to_lowercase()),
    }
}

#[allow(clippy::cast_precision_loss)] // shown with one decimal
fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1_u32 << 30))
}

fn huge_pages(machine: &Machine) -> String {
    let pages = &machine.huge_pages;
    let size = pages.page_kib.map_or("none".to_owned(), |kib| {
        format!("{kib} KiB, reserved for the length of a run")
    });
    let transparent = pages.transparent.as_ref();
    transparent.map_or(size.clone(), |when| {
        format!("{size}; transparent ones: {when}")
    })
}

fn system(machine: &Machine) -> String {
    let distribution = machine.system.as_ref();
    let distribution = distribution.map_or(String::new(), |name| format!("{name}, "));
    format!("{distribution}Linux {}", machine.kernel)
}

fn compiler(machine: &Machine) -> String {
    format!(
        "{}, {} build",
        known(machine.rustc.as_ref()),
        machine.profile
    )
}

/// Of the first run and the last.
fn dates(results: &Results) -> String {
    let mut dates: Vec<&str> = results
        .runs
        .iter()
        .map(|run| run.machine.date.as_str())
        .collect();
    dates.sort_unstable();
    match (dates.first(), dates.last()) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(only), _) => (*only).to_owned(),
        (None, _) => UNKNOWN.to_owned(),
    }
}
