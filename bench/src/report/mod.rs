//! `pollux-bench report`: what the other commands wrote as JSON, for people.
//!
//! ```text
//! files ─► read: lines ─► Results: runs, each with its machine ─► SECTIONS ─► RESULTS.md, results/*.svg
//! ```
//!
//! A kind of record gets its place in the report by a function in [`SECTIONS`] that selects it. Everything is read and
//! made before the first file is written: bad input changes nothing.

mod appliance;
mod document;
mod load;
mod machine;
mod marks;
mod peers;
mod pipeline;
mod plot;
mod read;
mod results;
mod schedulers;
mod table;
mod words;
mod workers;

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use self::document::{Block, Section};
use self::results::Results;
use crate::arguments::ReportOptions;

/// The report, and the folder of its plots beside it.
const REPORT: &str = "RESULTS.md";
const PLOTS: &str = "results";

/// Makes a section of the records it is for, if there are any.
type Maker = fn(&Results) -> Option<Section>;

/// The report, from top to bottom.
const SECTIONS: [Maker; 10] = [
    machine::section,
    marks::section,
    pipeline::section,
    workers::section,
    schedulers::section,
    table::section,
    appliance::section,
    load::throughput,
    load::latency,
    peers::section,
];

/// A report, ready to be written.
#[derive(Debug)]
struct Report {
    markdown: String,
    /// Name and text of each SVG file.
    plots: Vec<(String, String)>,
}

/// Reads measurements and writes the report.
///
/// # Errors
/// A file that cannot be read or written; a line that is no record; measurements of more than one machine.
pub fn run(options: &ReportOptions) -> anyhow::Result<()> {
    let results = read::files(&options.files)?;
    let report = make(&results)?;
    write(&report, &options.output)
}

fn make(results: &Results) -> anyhow::Result<Report> {
    let sections: Vec<Section> = SECTIONS
        .iter()
        .filter_map(|section| section(results))
        .collect();
    let mut plots = Vec::new();
    for block in sections.iter().flat_map(|section| &section.blocks) {
        if let Block::Plot(plot) = block {
            plots.push((plot.file_name(), plot.svg()?));
        }
    }
    Ok(Report {
        markdown: document::markdown(&sections, PLOTS),
        plots,
    })
}

fn write(report: &Report, folder: &Path) -> anyhow::Result<()> {
    let plots = folder.join(PLOTS);
    fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
    let named = report
        .plots
        .iter()
        .map(|(name, text)| (plots.join(name), text));
    for (path, text) in named.chain([(folder.join(REPORT), &report.markdown)]) {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
