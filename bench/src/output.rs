//! Where measurements go: a table for people or JSON for programs, on standard output, and a progress bar beside it
//! where standard error is a terminal.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::measurement::{PacketMeasurement, Pages, Record, word};
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
}

impl<'p> Output<'p> {
    /// As JSON or as a table.
    pub fn new(json: bool, progress: &'p Progress) -> Self {
        Self {
            json,
            progress,
            header: None,
        }
    }

    /// Prints one.
    ///
    /// # Errors
    /// Standard output takes nothing more.
    pub fn record(&mut self, record: &Record) -> anyhow::Result<()> {
        if self.json {
            self.progress.print(&serde_json::to_string(record)?)?;
            return Ok(());
        }
        let (header, row) = match record {
            Record::Pipeline(measurement) => (PACKET_HEADER, packet_row(measurement)),
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
    let pages = match measured.pages {
        Pages::Huge => "huge",
        Pages::Normal => "normal",
    };
    format!(
        "{:<10} {:<7} {:<7} {:>11} {:>8}  {:<10}  {:<6}  {:>9.1}  ({:>5.1}  {:>8.1})  {:>9.1}  {:>6.1}  {}",
        word(&measured.case),
        word(&measured.method),
        word(&measured.family),
        Quantity(measured.connections),
        measured.workers,
        word(&measured.order),
        pages,
        measured.ns_per_packet,
        measured.ns_per_packet_least,
        measured.ns_per_packet_greatest,
        measured.generator_ns_per_packet,
        measured.packets_per_second / 1e6,
        notes(measured)
    )
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
    use crate::measurement::tests::example;

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
}
