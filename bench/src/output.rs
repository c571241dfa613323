//! Where measurements go: a table for people or JSON for programs, on standard output, and a progress bar beside it
//! where standard error is a terminal.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::machine::Machine;
use crate::measurement::{
    ChecksMeasurement, ControlMeasurement, ExpiryMeasurement, LatencyMeasurement, LoadSetting,
    MemoryMeasurement, PacketMeasurement, Pages, Record, StartMeasurement, TableMeasurement,
    ThroughputMeasurement, word,
};
use crate::quantity::Quantity;

/// How far a long run has come.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    within: std::cell::Cell<u64>,
}

impl Progress {
    /// Of a run of so many steps.
    pub fn new(steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        // The template is right or the default is used.
        if let Ok(style) =
            ProgressStyle::with_template("{bar:24} {pos}/{len}  {elapsed} left {eta}  {msg}")
        {
            bar.set_style(style);
        }
        Self {
            bar,
            within: std::cell::Cell::new(0),
        }
    }

    /// Of a run that nobody watches.
    pub fn hidden() -> Self {
        Self {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            within: std::cell::Cell::new(0),
        }
    }

    /// The next step begins.
    pub fn next(&self, what: &str) {
        self.within.set(0);
        self.bar.inc(1);
        self.bar.set_message(what.to_owned());
    }

    /// A step has come on by `more` of `all`.
    pub fn within(&self, more: u64, all: u64) {
        let (before, after) = (self.within.get(), self.within.get() + more);
        self.within.set(after);
        let percent = |done: u64| done * 100 / all.max(1);
        if percent(before) != percent(after) {
            let message = self.bar.message();
            let what = message.split(": ").next().unwrap_or_default();
            self.bar
                .set_message(format!("{what}: {} %", percent(after)));
        }
    }

    /// Tells people something on standard error.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Writes to standard output without tearing the bar.
    fn print(&self, line: &str) -> io::Result<()> {
        self.bar.suspend(|| {
            let mut output = io::stdout().lock();
            writeln!(output, "{line}")?;
            output.flush()
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Prints measurements as they come.
#[derive(Debug)]
pub struct Output<'p> {
    json: bool,
    progress: &'p Progress,
    header: Option<&'static str>,
    machine_is_told: bool,
}

impl<'p> Output<'p> {
    /// As JSON or as a table.
    pub fn new(json: bool, progress: &'p Progress) -> Self {
        Self {
            json,
            progress,
            header: None,
            machine_is_told: false,
        }
    }

    /// Prints one. The first line of JSON is the machine's.
    ///
    /// # Errors
    /// Standard output takes nothing more.
    pub fn record(&mut self, record: &Record) -> anyhow::Result<()> {
        if self.json {
            if !self.machine_is_told {
                self.machine_is_told = true;
                let machine = Record::Machine(Box::new(Machine::describe()));
                self.progress.print(&serde_json::to_string(&machine)?)?;
            }
            self.progress.print(&serde_json::to_string(record)?)?;
            return Ok(());
        }
        let (header, row) = match record {
            // People know where they are.
            Record::Machine(_) => return Ok(()),
            Record::Pipeline(measured) | Record::Appliance(measured) => {
                (PACKET_HEADER, packet_row(measured))
            }
            Record::Throughput(measured) => (THROUGHPUT_HEADER, throughput_row(measured)),
            Record::Latency(measured) => (LATENCY_HEADER, latency_row(measured)),
            Record::Table(measured) => (TABLE_HEADER, table_row(measured)),
            Record::Memory(measured) => (MEMORY_HEADER, memory_row(measured)),
            Record::Start(measured) => (START_HEADER, start_row(measured)),
            Record::Expiry(measured) => (EXPIRY_HEADER, expiry_row(measured)),
            Record::Control(measured) => (CONTROL_HEADER, control_row(measured)),
            Record::Checks(measured) => (CHECKS_HEADER, checks_row(measured)),
        };
        if self.header != Some(header) {
            self.header = Some(header);
            self.progress.print(header)?;
        }
        self.progress.print(&row)?;
        Ok(())
    }
}

const PACKET_HEADER: &str = "case       method  family  connections  workers  order       pages   ns/packet  (least  \
                             greatest)  generator    Mpps  notes";

fn packet_row(measured: &PacketMeasurement) -> String {
    format!(
        "{:<10} {:<7} {:<7} {:>11} {:>8}  {:<10}  {:<6}  {:>9.1}  ({:>5.1}  {:>8.1})  {:>9.1}  {:>6.1}  {}",
        word(&measured.case),
        word(&measured.method),
        word(&measured.family),
        Quantity(measured.connections),
        measured.workers,
        word(&measured.order),
        pages(measured.pages),
        measured.ns_per_packet,
        measured.ns_per_packet_least,
        measured.ns_per_packet_greatest,
        measured.generator_ns_per_packet,
        measured.packets_per_second / 1e6,
        notes(measured)
    )
}

const THROUGHPUT_HEADER: &str = "program           device  method  family  connections  Mpps no loss  overloaded     loss  \
                                 CPU taken  notes";

fn throughput_row(measured: &ThroughputMeasurement) -> String {
    let mut notes = Vec::new();
    if let Some(ratio) = measured.ratio_to_testpmd {
        notes.push(format!("{:.0} % of testpmd", ratio * 100.0));
    }
    if measured.generator_limited {
        notes.push("or more: the generator could offer no more".to_owned());
    }
    format!(
        "{}  {:>12.2} {:>11.2} {:>8.4} %  {:>7.1} %  {}",
        setting_columns(&measured.setting),
        measured.packets_per_second / 1e6,
        measured.packets_per_second_overloaded / 1e6,
        measured.loss * 100.0,
        measured.setting.cpu_waited_share * 100.0,
        notes.join("; ")
    )
}

const LATENCY_HEADER: &str = "program           device  method  family  connections  load   Mpps  p50 us  p99 us  p99.9 us  \
                              greatest     loss  notes";

#[allow(clippy::cast_precision_loss)] // shown with one decimal
fn latency_row(measured: &LatencyMeasurement) -> String {
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    format!(
        "{}  {:>3}% {:>6.2} {:>7.1} {:>7.1} {:>9.1} {:>9.1} {:>7.4} %  {}",
        setting_columns(&measured.setting),
        measured.load_percent,
        measured.packets_per_second / 1e6,
        microseconds(measured.p50_ns),
        microseconds(measured.p99_ns),
        microseconds(measured.p999_ns),
        microseconds(measured.greatest_ns),
        measured.loss * 100.0,
        measured
            .ratio_to_testpmd
            .map_or_else(String::new, |ratio| format!("p50 {ratio:.2} x testpmd's"))
    )
}

fn setting_columns(setting: &LoadSetting) -> String {
    format!(
        "{:<16}  {:<6}  {:<6}  {:<6}  {:>11}",
        word(&setting.program),
        setting.device,
        word(&setting.method),
        word(&setting.family),
        Quantity(setting.connections)
    )
}

const TABLE_HEADER: &str =
    "operation  family   entries  threads  full  pages   ns each  M/s     refused";

fn table_row(measured: &TableMeasurement) -> String {
    format!(
        "{:<9}  {:<6} {:>9}  {:>7}  {:>3}%  {:<6}  {:>7.1}  {:<6.2}  {}",
        word(&measured.operation),
        word(&measured.family),
        measured.entries,
        measured.threads,
        measured.fill_percent,
        pages(measured.pages),
        measured.ns_each,
        measured.per_second / 1e6,
        measured
            .refused_share
            .map_or_else(String::new, |share| format!("{share:.6}"))
    )
}

const MEMORY_HEADER: &str = "family  bytes a connection  in a table as the data plane makes it";

fn memory_row(measured: &MemoryMeasurement) -> String {
    format!(
        "{:<6}  {:>18.1}  {:>37.1}",
        word(&measured.family),
        measured.bytes_per_connection,
        measured.bytes_per_connection_by_default
    )
}

const CONTROL_HEADER: &str = "task           services  servers each  rounds  wall ms  (greatest)  polluxd CPU ms  data plane CPU ms  \
                              polluxd MiB";

fn control_row(measured: &ControlMeasurement) -> String {
    format!(
        "{:<13} {:>9}  {:>12}  {:>6}  {:>7.1}  {:>10.1}  {:>14.1}  {:>17.1}  {:>11.0}",
        word(&measured.task),
        measured.services,
        measured.servers,
        measured.rounds,
        measured.wall_ms,
        measured.wall_ms_greatest,
        measured.polluxd_cpu_ms,
        measured.dataplane_cpu_ms,
        measured.polluxd_mib,
    )
}

const CHECKS_HEADER: &str =
    "checked each second  checks a second  polluxd cores  us a check  polluxd MiB";

fn checks_row(measured: &ChecksMeasurement) -> String {
    format!(
        "{:>19}  {:>15.0}  {:>13.3}  {:>10.1}  {:>11.0}",
        measured.servers,
        measured.checks_per_second,
        measured.polluxd_cores,
        measured.us_per_check,
        measured.polluxd_mib,
    )
}

const START_HEADER: &str =
    "family  connections  new table ms  (CPU)  empty table ms  full table ms  (CPU)  found again";

fn start_row(measured: &StartMeasurement) -> String {
    format!(
        "{:<6}  {:>11}  {:>12.0}  {:>5.0}  {:>14.0}  {:>13.0}  {:>5.0}  {:>9.4} %",
        word(&measured.family),
        measured.connections,
        measured.create_ms,
        measured.create_cpu_ms,
        measured.attach_empty_ms,
        measured.attach_full_ms,
        measured.attach_full_cpu_ms,
        measured.connections_found_again * 100.0
    )
}

const EXPIRY_HEADER: &str =
    "connections  timeout s  empty after s  hit ns before  hit rate meanwhile  at worst";

fn expiry_row(measured: &ExpiryMeasurement) -> String {
    format!(
        "{:>11}  {:>9}  {:>13.1}  {:>13.1}  {:>16.0} %  {:>6.0} %",
        Quantity(measured.connections),
        measured.timeout_s,
        measured.seconds_until_empty,
        measured.ns_per_packet_before,
        measured.hit_rate_meanwhile * 100.0,
        measured.hit_rate_least * 100.0
    )
}

fn pages(pages: Pages) -> &'static str {
    match pages {
        Pages::Huge => "huge",
        Pages::Normal => "normal",
    }
}

fn notes(measured: &PacketMeasurement) -> String {
    let percent = |share: f64| share * 100.0;
    let mut notes = Vec::new();
    if let Some(ratio) = measured.ratio_to_testpmd {
        notes.push(format!("{:.0} % of testpmd", percent(ratio)));
    }
    if let Some(share) = measured.without_entry_share.filter(|share| *share > 0.0) {
        notes.push(format!("{:.2} % of SYNs without an entry", percent(share)));
    }
    if let Some(share) = measured.refused_share.filter(|share| *share > 0.0) {
        notes.push(format!("{:.2} % of SYNs dropped", percent(share)));
    }
    notes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::tests::{example, latency, throughput};

    #[test]
    fn rows_stand_under_their_headers() {
        let row = packet_row(&example());
        for (header, value) in [
            ("case", "syn_flood"),
            ("method", "nat"),
            ("family", "ipv4"),
            ("order", "random"),
            ("pages", "huge"),
        ] {
            let at = PACKET_HEADER.find(header).unwrap();
            assert!(row[at..].starts_with(value), "{header}: {row}");
        }
        for (header, value) in [
            ("connections", "10k"),
            ("workers", "1"),
            ("ns/packet", "24.5"),
            ("generator", "6.2"),
            ("Mpps", "41.0"),
        ] {
            let end = PACKET_HEADER.find(header).unwrap() + header.len();
            assert!(row[..end].ends_with(value), "{header}: {row}");
        }
        assert!(row.ends_with("25.00 % of SYNs without an entry"), "{row}");
    }
    #[test]
    fn rows_under_load_stand_under_their_headers() {
        let ends = |header: &str, row: &str, columns: &[(&str, &str)]| {
            for (column, value) in columns {
                let end = header.find(column).unwrap() + column.len();
                assert!(row[..end].ends_with(value), "{column}: {row}");
            }
        };
        let row = throughput_row(&throughput());
        ends(
            THROUGHPUT_HEADER,
            &row,
            &[
                ("connections", "10k"),
                ("Mpps no loss", "5.25"),
                ("overloaded", "5.50"),
            ],
        );
        assert!(row.ends_with("75 % of testpmd"), "{row}");
        let row = latency_row(&latency());
        ends(
            LATENCY_HEADER,
            &row,
            &[
                ("load", "50%"),
                ("p50 us", "4.5"),
                ("p99 us", "15.0"),
                ("p99.9 us", "81.0"),
                ("greatest", "1250.0"),
            ],
        );
    }
}
