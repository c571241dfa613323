//! Creations, lookups and removals a second, by fill level and threads.
//!
//! For each level: fill to ten percent below it, create the rest (measured), look up entries at random (measured, in
//! bursts whose memory latency overlaps, as the pipeline does it), let all expire (measured).

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use pollux_engine::clock::seconds;
use pollux_engine::connection::{
    ConnectionTable, Ended, FlowKey, ForwardingMethod, InsertError, NewConnection, Shard, State,
    SweepBudget, Timeouts,
};
use pollux_engine::{BURST, Tick};

use crate::cores::{self, Pinned, thread_cpu_ns};
use crate::flows::{Client, Order, Picker};
use crate::measurement::{Family, Operation, TableMeasurement, word};
use crate::output::Progress;
use crate::rig::{self, Flows, RigError};
use crate::statistics::median;

/// Shares of the table in use when creations end and lookups begin, percent.
pub const LEVELS: [u32; 10] = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
const STEP: u32 = 10;
const FULL: u32 = 100;
/// Entries come in chunks of this many: each thread fills whole chunks.
const CHUNK: u32 = 256;
/// Past the time of every connection made here.
const PAST_ALL: Duration = Duration::from_secs(61);
/// Lookups for each entry of the table.
const LOOKUPS_EACH: u64 = 2;
/// Entries swept between two loop boundaries.
const SWEEP_CHUNK: u32 = 64;
const SERVERS: u32 = 8;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of all connections.
    pub family: Family,
    /// Entries of the table, about.
    pub entries: u32,
    /// Threads at the same time, each with a shard of its own.
    pub threads: usize,
    /// Rounds a figure is the median of.
    pub rounds: u32,
    /// Whether huge pages are tried.
    pub huge_pages: bool,
}

/// CPU time of one thread for one of each, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Costs {
    create: f64,
    lookup: f64,
    expire: f64,
    /// Creations that found no room, of those tried.
    refused: f64,
}

impl Plan {
    /// Entries of each thread: whole chunks.
    fn each(&self) -> u32 {
        let threads = u32::try_from(self.threads).unwrap_or(1);
        (self.entries / threads).next_multiple_of(CHUNK)
    }
}

/// Measures every level.
///
/// # Errors
/// No memory, no CPU, or a lookup that found nothing.
pub fn run(
    plan: &Plan,
    progress: &Progress,
    mut on_measured: impl FnMut(TableMeasurement) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cpus = cores::for_workers(plan.threads)?;
    let threads = u32::try_from(plan.threads).unwrap_or(1);
    let entries = plan.each() * threads;
    let made = rig::table(plan.family, entries, plan.threads, plan.huge_pages);
    let (table, pages, _reserved) = made.map_err(|error: RigError| error)?;
    let mut shards: Vec<Shard> = (0..plan.threads)
        .map(|worker| Shard::new(&table, worker, plan.threads, |_| {}))
        .collect();
    let mut clock = Tick(0);
    let next =
        |clock: Tick| clock.after(seconds(2 * u32::try_from(PAST_ALL.as_secs()).unwrap_or(0)));
    // Once, so that the kernel has given all of the memory.
    round(plan, &table, &mut shards, &cpus, FULL, clock)?;
    for level in LEVELS {
        progress.next(&format!(
            "table of {entries} {} {level} % full, {threads} threads",
            word(&plan.family)
        ));
        let mut rounds = vec![Vec::new(); plan.threads];
        for _ in 0..plan.rounds {
            clock = next(clock);
            let costs = round(plan, &table, &mut shards, &cpus, level, clock)?;
            rounds
                .iter_mut()
                .zip(costs)
                .for_each(|(rounds, costs)| rounds.push(costs));
        }
        let refused = rounds
            .iter()
            .flatten()
            .map(|costs| costs.refused)
            .fold(0.0, f64::max);
        for operation in [Operation::Create, Operation::Lookup, Operation::Expire] {
            let medians: Vec<f64> = rounds
                .iter()
                .map(|rounds| {
                    median(
                        &rounds
                            .iter()
                            .map(|costs| costs.of(operation))
                            .collect::<Vec<f64>>(),
                    )
                })
                .collect();
            on_measured(TableMeasurement {
                operation,
                family: plan.family,
                entries,
                threads,
                fill_percent: level,
                ns_each: medians.iter().sum::<f64>() / f64::from(threads),
                per_second: medians.iter().map(|cost| 1e9 / cost).sum(),
                refused_share: (operation == Operation::Create).then_some(refused),
                pages,
            })?;
        }
    }
    Ok(())
}

impl Costs {
    fn of(&self, operation: Operation) -> f64 {
        match operation {
            Operation::Create => self.create,
            Operation::Lookup => self.lookup,
            Operation::Expire => self.expire,
        }
    }
}

/// One round at one level on all threads; the table is empty again afterwards.
fn round(
    plan: &Plan,
    table: &ConnectionTable,
    shards: &mut [Shard],
    cpus: &[usize],
    level: u32,
    clock: Tick,
) -> anyhow::Result<Vec<Costs>> {
    let barrier = Barrier::new(plan.threads);
    let results: Vec<anyhow::Result<Costs>> = thread::scope(|scope| {
        let threads: Vec<_> = shards
            .iter_mut()
            .zip(cpus)
            .map(|(shard, cpu)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    // Whatever goes wrong is said at the end: the other threads wait for this one.
                    let pinned = Pinned::to(*cpu);
                    let costs = ThreadBench::new(plan, table, shard, clock).run(level, barrier);
                    pinned.map_err(anyhow::Error::from).and(costs)
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let costs = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    // A thread may have ended what another one made: entries wander between shards.
    let left = shards
        .iter()
        .fold(0, |sum: u64, shard| sum.wrapping_add(shard.in_use()));
    ensure!(left == 0, "{left} entries did not expire");
    Ok(costs)
}

/// One thread with its shard.
struct ThreadBench<'t> {
    table: &'t ConnectionTable,
    shard: &'t mut Shard,
    flows: Flows,
    timeouts: Timeouts,
    now: Tick,
    /// Flows of this thread: the first, and how many fill the table.
    first: u64,
    each: u64,
}

impl<'t> ThreadBench<'t> {
    fn new(plan: &Plan, table: &'t ConnectionTable, shard: &'t mut Shard, now: Tick) -> Self {
        let each = u64::from(plan.each());
        let first = shard.worker() as u64 * each;
        table.quiescence().online(shard.worker());
        Self {
            table,
            shard,
            flows: Flows::new(plan.family),
            timeouts: Timeouts::default(),
            now,
            first,
            each,
        }
    }

    #[allow(clippy::cast_precision_loss)] // some millions
    fn run(&mut self, level: u32, barrier: &Barrier) -> anyhow::Result<Costs> {
        let at = |percent: u32| self.first + self.each * u64::from(percent) / 100;
        let (below, upto, start) = (at(level - STEP), at(level), self.first);
        let lookups = LOOKUPS_EACH * self.each;
        let mut refused = self.create(start, below);
        barrier.wait();
        let began = thread_cpu_ns();
        refused += self.create(below, upto);
        let create = thread_cpu_ns() - began;
        barrier.wait();
        let began = thread_cpu_ns();
        let missed = self.look_up(upto - start, lookups);
        let lookup = thread_cpu_ns() - began;
        barrier.wait();
        let began = thread_cpu_ns();
        let expired = self.expire();
        let expire = thread_cpu_ns() - began;
        self.table.quiescence().offline(self.shard.worker());
        barrier.wait();
        // Nobody is in the way any more: what was freed can be taken again.
        self.shard.turn(self.table);
        ensure!(
            refused > 0 || missed == 0,
            "{missed} of {lookups} lookups found nothing"
        );
        Ok(Costs {
            create: create as f64 / (upto - below) as f64,
            lookup: lookup as f64 / lookups as f64,
            expire: expire as f64 / expired as f64,
            refused: refused as f64 / (upto - start) as f64,
        })
    }

    fn new_connection(&self, flow: u64) -> NewConnection {
        let client = Client::of_flow(flow);
        #[allow(clippy::cast_possible_truncation)] // a remainder of a few
        let server = (flow % u64::from(SERVERS)) as u32;
        NewConnection {
            inbound: self.flows.inbound(client),
            outbound: Some(self.flows.outbound(client, server)),
            destination: server,
            service: 0,
            method: ForwardingMethod::Masquerade,
            state: State::SynRecv,
            destination_port: 0,
            template: None,
            control: None,
            counts_packets: false,
            lifetime: None,
            is_synced: false,
        }
    }

    /// Creates connections; how many found no room.
    fn create(&mut self, from: u64, to: u64) -> u64 {
        let mut refused = 0;
        for flow in from..to {
            let new = self.new_connection(flow);
            match self
                .shard
                .insert(self.table, &new, self.now, &self.timeouts)
            {
                Ok(_) => {}
                Err(InsertError::Full | InsertError::Exists(_) | InsertError::ReplyKeyTaken(_)) => {
                    refused += 1;
                }
            }
            if flow % BURST as u64 == 0 {
                self.pass();
            }
        }
        refused
    }

    /// Looks connections up in bursts, as the pipeline does; how many were not found.
    fn look_up(&mut self, flows: u64, lookups: u64) -> u64 {
        let mut picker = Picker::new(self.first, flows, Order::Random, self.first + 1);
        let mut missed = 0;
        for _ in 0..lookups / BURST as u64 {
            let keys: [FlowKey; BURST] =
                std::array::from_fn(|_| self.flows.inbound(Client::of_flow(picker.pick())));
            let hashes = keys.map(|key| {
                let hash = self.table.hash(&key);
                self.table.prefetch(hash);
                hash
            });
            let mut candidates = [None; BURST];
            for ((candidate, key), hash) in candidates.iter_mut().zip(&keys).zip(hashes) {
                *candidate = self.table.candidate(hash, key.family);
            }
            for ((candidate, key), hash) in candidates.into_iter().zip(&keys).zip(hashes) {
                let hit = self.table.confirm(candidate, key, hash, self.now);
                missed += u64::from(hit.is_none());
            }
            self.pass();
        }
        missed
    }

    /// Lets everything expire; how many entries there were.
    fn expire(&mut self) -> u64 {
        let now = self
            .now
            .after(seconds(u32::try_from(PAST_ALL.as_secs()).unwrap_or(0)));
        let mut ended = 0;
        let budget = SweepBudget::looks(SWEEP_CHUNK);
        let chunks = self.shard.entries().div_ceil(SWEEP_CHUNK) + 1;
        for _ in 0..chunks {
            self.shard
                .sweep(self.table, now, budget, |_| false, |_: Ended, _| ended += 1);
            self.pass();
        }
        ended
    }

    /// A loop boundary.
    fn pass(&mut self) {
        self.table.quiescence().pass(self.shard.worker());
        self.shard.turn(self.table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_measured_on_one_thread_and_on_two() {
        let cpus = cores::usable().unwrap().len();
        for threads in 1..=cpus.min(2) {
            for family in [Family::Ipv4, Family::Ipv6] {
                let plan = Plan {
                    family,
                    entries: 4096,
                    threads,
                    rounds: 2,
                    huge_pages: false,
                };
                let mut found = Vec::new();
                run(&plan, &Progress::hidden(), |measured| {
                    found.push(measured);
                    Ok(())
                })
                .unwrap();
                assert_eq!(found.len(), LEVELS.len() * 3);
                for measured in found {
                    assert!(
                        measured.per_second > 0.0 && measured.per_second.is_finite(),
                        "{measured:?}"
                    );
                    // Free entries wander between shards by the chunk, and there are only 16 chunks.
                    let most = if threads == 1 { 0.01 } else { 0.5 };
                    assert!(
                        measured.refused_share.is_none_or(|share| share < most),
                        "{measured:?}"
                    );
                }
            }
        }
    }
}
