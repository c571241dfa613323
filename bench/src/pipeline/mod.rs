//! `pollux-bench pipeline`: what the engine alone costs a packet.
//!
//! ```text
//! arguments ─► plans ─► run: rig, connections ─► for each case: rounds of ( source fills a ring ─► driver runs it )
//! ```
//!
//! A worker's generator writes the frames of a whole receive ring, then the engine takes them in bursts: both are timed
//! apart, in the run itself. What a worker does besides (reading the clock, counting, sweeping, passing a loop
//! boundary) is part of the engine's time. Every packet's fate is checked; a packet that was not forwarded is an error
//! and no figure.

pub(crate) mod driver;
mod run;
pub(crate) mod source;

use crate::arguments::PipelineOptions;
use crate::cores;
use crate::flows::Order;
use crate::measurement::{Case, Family, Method, Record, Scheduler};
use crate::output::{Output, Progress};
use crate::quantity::Quantity;

/// Cases that need the same director.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    method: Method,
    family: Family,
    connections: Quantity,
    workers: usize,
    cases: Vec<Case>,
    order: Order,
    servers: u32,
    scheduler: Scheduler,
    table: Option<Quantity>,
    rounds: u32,
    round_ms: u32,
    huge_pages: bool,
}

/// Measures what the options say.
///
/// # Errors
/// Why a case could not be measured.
pub fn run(options: &PipelineOptions) -> anyhow::Result<()> {
    let plans = plans(options, cores::usable()?.len());
    let steps = plans.iter().map(|plan| plan.cases.len() as u64 + 1).sum();
    let progress = Progress::new(steps);
    let mut output = Output::new(options.json, &progress);
    for plan in &plans {
        run::run(plan, &progress, |measured| {
            output.record(&Record::Pipeline(measured))
        })?;
    }
    Ok(())
}

/// Every combination that was asked for and makes sense.
fn plans(options: &PipelineOptions, cpus: usize) -> Vec<Plan> {
    let workers: Vec<usize> = match (&options.workers[..], options.all) {
        ([], true) => (1..=cpus).collect(),
        ([], false) => vec![1],
        (given, _) => given.to_vec(),
    };
    let all = options.all;
    let methods = chosen(
        &options.method,
        all,
        &[Method::Nat],
        &[Method::Nat, Method::Tunnel, Method::Direct],
    );
    let families = chosen(
        &options.family,
        all,
        &[Family::Ipv4],
        &[Family::Ipv4, Family::Ipv6],
    );
    let sizes = [10_000, 100_000, 1_000_000, 10_000_000, 50_000_000].map(Quantity);
    let few = [10_000, 1_000_000].map(Quantity);
    let connections = chosen(&options.connections, all, &few, &sizes);
    let every = [Case::Hit, Case::Reply, Case::New, Case::SynFlood];
    let cases = chosen(&options.case, all, &every, &every);
    let mut plans = Vec::new();
    for method in methods {
        // Servers answer past the director unless it translates; the flood is last: it fills the table.
        let mut cases: Vec<Case> = cases
            .iter()
            .copied()
            .filter(|case| *case != Case::Reply || method == Method::Nat)
            .collect();
        cases.sort_by_key(|case| every.iter().position(|known| known == case));
        for family in &families {
            for connections in &connections {
                for workers in &workers {
                    plans.push(Plan {
                        method,
                        family: *family,
                        connections: *connections,
                        workers: *workers,
                        cases: cases.clone(),
                        order: options.order,
                        servers: options.servers,
                        scheduler: options.scheduler,
                        table: options.table,
                        rounds: options.rounds,
                        round_ms: options.round_ms,
                        huge_pages: !options.no_huge,
                    });
                }
            }
        }
    }
    plans.retain(|plan| !plan.cases.is_empty());
    plans
}

/// What was given, or else all or few.
fn chosen<T: Clone>(given: &[T], all: bool, few: &[T], every: &[T]) -> Vec<T> {
    match (given, all) {
        ([], true) => every.to_vec(),
        ([], false) => few.to_vec(),
        (given, _) => given.to_vec(),
    }
}

#[cfg(test)]
mod tests;
