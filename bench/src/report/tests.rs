//! Reports of made-up records: what stands in the tables, which marks are reached, what the plots show.

mod marks;
mod plots;

use super::read::Reader;
use super::*;
use crate::machine::tests::example as machine;
use crate::measurement::tests::{example, latency, throughput};
use crate::measurement::{
    Case, ExpiryMeasurement, Family, MemoryMeasurement, Method, Operation, PacketMeasurement,
    Pages, Program, Record, Scheduler, StartMeasurement, TableMeasurement,
};

/// A packet of the kind that the curves are made of.
fn packet(
    case: Case,
    method: Method,
    family: Family,
    connections: u32,
    ns: f64,
) -> PacketMeasurement {
    PacketMeasurement {
        case,
        method,
        family,
        connections,
        ns_per_packet: ns,
        packets_per_second: 1e9 / ns,
        scheduler: Scheduler::Rr,
        without_entry_share: None,
        refused_share: None,
        ns_per_packet_least: ns,
        ns_per_packet_greatest: 1.5 * ns,
        ..example()
    }
}

fn hit(connections: u32, ns: f64) -> PacketMeasurement {
    packet(Case::Hit, Method::Nat, Family::Ipv4, connections, ns)
}

fn results(command: &str, records: impl IntoIterator<Item = Record>) -> Results {
    let described = Record::Machine(Box::new(machine(command)));
    let lines = std::iter::once(described).chain(records);
    let lines: Vec<String> = lines
        .map(|record| serde_json::to_string(&record).unwrap())
        .collect();
    let mut reader = Reader::default();
    reader.lines("made-up", &lines.join("\n")).unwrap();
    reader.finish("made-up").unwrap()
}

fn of_packets(packets: impl IntoIterator<Item = PacketMeasurement>) -> Report {
    let records = packets.into_iter().map(Record::Pipeline);
    made(&results("pollux-bench pipeline --json", records))
}

fn made(results: &Results) -> Report {
    let report = make(results).unwrap();
    check_form(&report);
    report
}

/// Of every report: tables have as many cells in each row as headings, and plots and links to them belong together.
fn check_form(report: &Report) {
    let mut columns = None;
    for line in report.markdown.lines() {
        if !line.starts_with('|') {
            columns = None;
            continue;
        }
        let cells = line.replace("\\|", "").matches('|').count();
        assert_eq!(*columns.get_or_insert(cells), cells, "{line}");
    }
    let links = report.markdown.matches("](results/").count();
    assert_eq!(links, report.plots.len());
    for (name, _) in &report.plots {
        assert!(
            report.markdown.contains(&format!("](results/{name})")),
            "{name}"
        );
    }
}

fn contains(report: &Report, line: &str) {
    assert!(
        report.markdown.lines().any(|found| found == line),
        "no {line:?} in:\n{}",
        report.markdown
    );
}

/// What stands in the row of a mark.
fn mark(report: &Report, what: &str) -> String {
    let row = report
        .markdown
        .lines()
        .find(|line| line.starts_with(&format!("| {what}")));
    row.unwrap_or_else(|| panic!("no mark {what:?} in:\n{}", report.markdown))
        .to_owned()
}

#[test]
fn a_packet_stands_in_the_row_of_what_and_the_column_of_how_many() {
    let ipv6 = packet(Case::Hit, Method::Direct, Family::Ipv6, 1_000_000, 50.0);
    let on_two = PacketMeasurement {
        workers: 2,
        packets_per_second: 80e6,
        pages: Pages::Normal,
        ..hit(10_000, 25.0)
    };
    let report = of_packets([hit(10_000, 25.0), hit(1_000_000, 40.0), on_two, ipv6]);
    contains(&report, "| method |  | workers | 10 k | 1 M |");
    contains(&report, "|---|---|---|---:|---:|");
    contains(
        &report,
        "| NAT | IPv4 | 1 | 25.0 ns (40.0) | 40.0 ns (25.0) |",
    );
    contains(&report, "| direct | IPv6 | 1 |  | 50.0 ns (20.0) |");
    contains(&report, "| NAT | IPv4 | 2 | 25.0 ns (80.0) † |  |");
    contains(
        &report,
        "† the connection table lay on normal pages of 4 KiB.",
    );
    contains(&report, "    pollux-bench pipeline --json");
    contains(&report, "| hit | NAT | IPv4 | 2.00 |  |");
    assert!(
        report
            .markdown
            .contains("The dearest round cost 1.50 times the cheapest")
    );
}

#[test]
fn the_machine_is_described() {
    let report = of_packets([hit(10_000, 25.0)]);
    for line in [
        "| CPU | Example CPU 9000 (family 25, model 1) |",
        "| Cores | 2 of a virtual machine |",
        "| Caches of a core | L1 data 48 KiB, L1 instruction 32 KiB, L2 1 MiB, L3 32 MiB |",
        "| Memory | 24.0 GiB |",
        "| Huge pages | 2048 KiB, reserved for the length of a run; transparent ones: madvise |",
        "| System | Debian GNU/Linux 12 (bookworm), Linux 6.18.5 |",
        "| DPDK | 22.11.11 |",
        "| Compiler | rustc 1.95.0, release build |",
        "| Measured | 2026-11-23T10:00:00Z |",
    ] {
        contains(&report, line);
    }
    assert!(!report.markdown.contains("debug build"));
}

#[test]
fn of_the_same_thing_the_last_measurement_counts() {
    let report = of_packets([hit(10_000, 99.0), hit(10_000, 24.0)]);
    contains(&report, "| NAT | IPv4 | 1 | 24.0 ns (41.7) |");
    assert!(!report.markdown.contains("99.0"));
}

#[test]
fn files_are_written_where_the_links_point_and_not_at_all_for_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines.jsonl");
    let write_lines = |more: &str| {
        let records = [
            Record::Machine(Box::new(machine("pollux-bench pipeline"))),
            Record::Pipeline(hit(10_000, 20.0)),
        ];
        let records = records.map(|record| serde_json::to_string(&record).unwrap());
        fs::write(&lines, records.join("\n") + more).unwrap();
    };
    let options = ReportOptions {
        files: vec![lines.clone()],
        output: folder.path().join("report"),
    };
    write_lines("\n{\"benchmark\":");
    let error = format!("{:#}", run(&options).unwrap_err());
    assert!(
        error.starts_with(&format!("{}:3: no record", lines.display())),
        "{error}"
    );
    assert!(!options.output.exists());
    write_lines("\n");
    run(&options).unwrap();
    let markdown = fs::read_to_string(options.output.join("RESULTS.md")).unwrap();
    assert!(markdown.contains("(results/rate-hit.svg)"));
    assert!(
        fs::read_to_string(options.output.join("results/rate-hit.svg"))
            .unwrap()
            .starts_with("<svg")
    );
}
