//! How fast Pollux is, measured.
//!
//! ```text
//! pipeline   the engine alone: frames made in memory ─► pollux_engine::Worker::process, as a worker calls it
//! table      the connection table alone: operations by fill level, memory, start, expiry
//! appliance  the whole process on DPDK ports, beside dpdk-testpmd: cost, rate without loss, latency
//! control    both daemons and the CLI: thousands of services applied and changed, thousands of servers checked
//! report     Markdown and plots of what the others wrote as JSON
//! ```
//!
//! Every measurement is a [`measurement::Record`]: a row of a table for people, or a line of JSON for programs; the first
//! line of a run says on which [`machine`] and by which command.
//! Times are CPU time of the measuring thread, so that other programs on the same cores take nothing from a result but
//! caches; a figure is the median of several rounds.

pub mod appliance;
pub mod arguments;
pub mod control;
pub mod cores;
pub mod flows;
pub mod frame_arena;
pub mod frame_template;
pub mod huge_pages;
pub mod interrupt;
pub mod machine;
pub mod measurement;
pub mod output;
pub mod pipeline;
pub mod quantity;
pub mod report;
pub mod rig;
pub mod statistics;
pub mod table;

use crate::arguments::{Arguments, Command};

/// Does what the command line says.
///
/// # Errors
/// What could not be measured, and why.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !matches!(
        arguments.command,
        Command::Appliance(_) | Command::Control(_)
    ) {
        interrupt::end_process_after(|| {
            huge_pages::give_back_all();
            table::clean_up();
        })?;
    }
    match &arguments.command {
        Command::Pipeline(options) => pipeline::run(options),
        Command::Table(options) => table::run(options),
        Command::Appliance(options) => appliance::run(options),
        Command::Control(options) => control::run(options),
        Command::Report(options) => report::run(options),
    }
}
