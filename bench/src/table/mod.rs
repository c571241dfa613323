//! `pollux-bench table`: what the connection table alone can do, and what it needs.
//!
//! ```text
//! memory      bytes a connection, all in
//! operations  creations, lookups, removals of expired entries: by fill level and threads
//! start       a new table, the table of a process that died
//! expiry      a full table expires while established connections are hit
//! ```

mod expiry;
mod memory;
mod operations;
mod start;

pub use self::start::clean_up;
use crate::arguments::{TableOptions, TablePart};
use crate::cores;
use crate::measurement::{Family, Record};
use crate::output::{Output, Progress};
use crate::quantity::Quantity;

/// Entries of the tables whose operations are measured, and of those that start and expire.
const ENTRIES: Quantity = Quantity(1_000_000);
const ENTRIES_LARGE: Quantity = Quantity(10_000_000);

/// Measures what the options say.
///
/// # Errors
/// Why something could not be measured.
pub fn run(options: &TableOptions) -> anyhow::Result<()> {
    let cpus = cores::usable()?.len();
    let threads: Vec<usize> = match &options.threads[..] {
        [] => (1..=cpus).collect(),
        given => given.to_vec(),
    };
    let families: &[Family] = match &options.family[..] {
        [] => &[Family::Ipv4, Family::Ipv6],
        given => given,
    };
    let large = match (options.connections, options.quick) {
        (Some(given), _) => given,
        (None, true) => ENTRIES,
        (None, false) => ENTRIES_LARGE,
    };
    let part = |part| options.part.is_empty() || options.part.contains(&part);
    let levels = operations::LEVELS.len() as u64;
    let progress = Progress::new(families.len() as u64 * (levels * threads.len() as u64 + 1) + 2);
    let mut output = Output::new(options.json, &progress);
    for family in families.iter().filter(|_| part(TablePart::Memory)) {
        output.record(&Record::Memory(memory::of(*family)))?;
    }
    for family in families {
        for threads in threads.iter().filter(|_| part(TablePart::Operations)) {
            let plan = operations::Plan {
                family: *family,
                entries: options.connections.unwrap_or(ENTRIES).0,
                threads: *threads,
                rounds: options.rounds,
                huge_pages: !options.no_huge,
            };
            operations::run(&plan, &progress, |measured| {
                output.record(&Record::Table(measured))
            })?;
        }
        if part(TablePart::Start) {
            progress.next(&format!("start with {large} connections"));
            output.record(&Record::Start(start::run(*family, large.0)?))?;
        }
    }
    if !part(TablePart::Expiry) {
        return Ok(());
    }
    let plan = expiry::Plan {
        entries: large.0,
        timeout_s: options.timeout_s,
        huge_pages: !options.no_huge,
    };
    output.record(&Record::Expiry(expiry::run(&plan, &progress)?))
}
