//! Runs the cases of one plan on one director: connections are established once, then each case is measured in rounds
//! on all workers at the same time.

use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::Plan;
use super::driver::{Driver, DriverError, Pass};
use super::source::{Source, Turn};
use crate::cores::{self, Pinned};
use crate::flows::{Order, Picker};
use crate::measurement::{Case, PacketMeasurement, word};
use crate::output::Progress;
use crate::quantity::Quantity;
use crate::rig::{Rig, RigSpec};
use crate::statistics::Summary;

/// The default size of the data plane's table: fewer connections lie in one of this size too.
const TABLE_DEFAULT: u32 = 1_000_000;
/// New connections of a round, at most: they are ended, unmeasured, before the next one.
const FRESH_MAX: u32 = 1 << 18;
/// Entries come to workers in chunks, and the last chunk of each may not fill.
const SLACK_EACH: u32 = 512;
/// Flow numbers that each worker has for new flows.
const FRESH_EACH: u64 = 1 << 33;
/// Numbers that each worker has for SYNs of a flood.
const FLOOD_EACH: u64 = 1 << 34;
/// Past the time of a connection of which only the SYN was seen.
const PAST_SYN: Duration = Duration::from_secs(61);

/// A director and what is going on in it.
struct Bench<'r> {
    plan: &'r Plan,
    rig: &'r Rig,
    drivers: Vec<Driver<'r>>,
    /// Flows of each worker.
    flows: Vec<Range<u64>>,
    turns: Vec<Turn>,
    cpus: Vec<usize>,
}

/// What one worker measured.
#[derive(Debug, Default)]
struct Measured {
    rounds: Vec<Pass>,
    /// SYNs of a flood that became connections.
    created: u64,
}

/// What the workers of a case agree on.
struct Together {
    barrier: Barrier,
    /// A worker has done its part of the round: the others stop, so that all of it ran side by side.
    over: AtomicBool,
}

/// Measures every case of the plan.
///
/// # Errors
/// Why one could not be measured.
pub fn run(
    plan: &Plan,
    progress: &Progress,
    mut on_measured: impl FnMut(PacketMeasurement) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cpus = cores::for_workers(plan.workers)?;
    let spec = RigSpec {
        method: plan.method,
        family: plan.family,
        servers: plan.servers,
        scheduler: plan.scheduler,
        workers: plan.workers,
        capacity: plan.capacity(),
        syn_timeout_s: None,
        huge_pages: plan.huge_pages,
    };
    let (rig, engines) = Rig::build(&spec)?;
    let drivers = engines
        .into_iter()
        .map(|engine| Driver::new(&rig, engine))
        .collect();
    let mut bench = Bench {
        plan,
        rig: &rig,
        drivers,
        flows: shares(plan.connections.0.into(), plan.workers),
        turns: Vec::new(),
        cpus,
    };
    bench.establish(progress)?;
    for case in &plan.cases {
        progress.next(&format!("{} {}", plan.describe(), word(case)));
        let measurement = bench
            .measure(*case)
            .with_context(|| format!("{} {}", plan.describe(), word(case)))?;
        on_measured(measurement)?;
    }
    Ok(())
}

/// So many flows dealt out to so many workers.
fn shares(flows: u64, workers: usize) -> Vec<Range<u64>> {
    let workers = workers as u64;
    let bound = |worker: u64| flows * worker / workers;
    (0..workers)
        .map(|worker| bound(worker)..bound(worker + 1))
        .collect()
}

impl Plan {
    /// Entries of the table: the established connections, and room for a quarter as many new ones.
    fn capacity(&self) -> u32 {
        let slack = SLACK_EACH * u32::try_from(self.workers).unwrap_or(1);
        let wanted = self.connections.0 + self.connections.0 / 4 + slack;
        self.table
            .map_or(wanted.max(TABLE_DEFAULT), |Quantity(table)| {
                table.max(self.connections.0 + 4 * slack)
            })
    }

    /// New connections of a round and worker: they fit beside the established ones.
    fn fresh_each(&self) -> u64 {
        let room = self.capacity() - self.connections.0;
        u64::from(room.min(FRESH_MAX)) * 3 / 4 / self.workers as u64
    }

    /// For people: what is the same for all its cases.
    fn describe(&self) -> String {
        format!(
            "{} {} connections {} workers {}",
            word(&self.method),
            word(&self.family),
            self.connections,
            self.workers
        )
    }
}

impl Bench<'_> {
    /// One worker after the other, so that the schedulers go round.
    fn establish(&mut self, progress: &Progress) -> anyhow::Result<()> {
        progress.next(&format!("establishing: {}", self.plan.describe()));
        let _pinned = Pinned::to(self.cpus.first().copied().unwrap_or(0))?;
        for (driver, flows) in self.drivers.iter_mut().zip(&self.flows) {
            driver.wake();
            driver
                .establish(flows.clone(), |flows| {
                    progress.within(flows, self.plan.connections.0.into())
                })
                .context("connections could not be established")?;
            // Only answers need to know who was given what, and not every scheduler goes round.
            if self.plan.cases.contains(&Case::Reply) {
                self.turns.push(driver.turn_of(flows.clone())?);
            }
            driver.sleep();
        }
        Ok(())
    }

    fn measure(&mut self, case: Case) -> anyhow::Result<PacketMeasurement> {
        let together = Together {
            barrier: Barrier::new(self.plan.workers),
            over: AtomicBool::new(false),
        };
        let sources: Vec<Source> = (0..self.plan.workers)
            .map(|worker| self.source(case, worker))
            .collect();
        let (plan, together) = (self.plan, &together);
        let results: Vec<anyhow::Result<Measured>> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .drivers
                .iter_mut()
                .zip(sources)
                .zip(&self.cpus)
                .map(|((driver, mut source), cpu)| {
                    scope.spawn(move || {
                        // Said at the end: the other workers wait for this one.
                        let pinned = Pinned::to(*cpu);
                        let measured = rounds(plan, case, driver, &mut source, together);
                        pinned?;
                        Ok(measured)
                    })
                })
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join();
            threads
                .into_iter()
                .map(|thread| join(thread).unwrap_or_else(|_| Err(anyhow!("a worker panicked"))))
                .collect()
        });
        let measured: Vec<Measured> = results.into_iter().collect::<Result<_, _>>()?;
        self.check(case, &measured)?;
        Ok(self.measurement(case, &measured))
    }

    fn source(&self, case: Case, worker: usize) -> Source {
        let own = self.flows.get(worker).cloned().unwrap_or(0..1);
        let seed = worker as u64 + 1;
        let own = Picker::new(own.start, own.end - own.start, self.plan.order, seed);
        match case {
            Case::Hit => Source::hits(self.rig, own),
            // Answers come to any worker: nothing makes a NIC spread them as it does the clients' packets.
            Case::Reply => {
                let flows = u64::from(self.plan.connections.0);
                Source::replies(&self.turns, Picker::new(0, flows, self.plan.order, seed))
            }
            Case::New => Source::fresh(self.rig, (worker as u64 + 1) * FRESH_EACH),
            Case::SynFlood => Source::flood(self.rig, own, worker as u64 * FLOOD_EACH),
        }
    }

    /// A figure is one only if everything went as it should.
    fn check(&self, case: Case, measured: &[Measured]) -> Result<(), DriverError> {
        for ((driver, measured), flows) in self.drivers.iter().zip(measured).zip(&self.flows) {
            let total = sum(&measured.rounds);
            let [even, odd] = total.forwarded;
            if case == Case::SynFlood {
                driver.expect_forwarded(total.packets / 2, even)?;
                driver.expect_established(flows.clone())?;
            } else {
                driver.expect_forwarded(total.packets, even + odd)?;
            }
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)] // counts of packets in a few seconds
    fn measurement(&self, case: Case, measured: &[Measured]) -> PacketMeasurement {
        let plan = self.plan;
        let of_worker = |measured: &Measured, time: fn(&Pass) -> u64| {
            let rounds = measured.rounds.iter();
            let costs: Vec<f64> = rounds
                .map(|pass| time(pass) as f64 / pass.packets as f64)
                .collect();
            Summary::of(&costs).unwrap_or(Summary::NONE)
        };
        let engines: Vec<Summary> = measured
            .iter()
            .map(|worker| of_worker(worker, |pass| pass.engine_ns))
            .collect();
        let generators = measured
            .iter()
            .map(|worker| of_worker(worker, |pass| pass.generator_ns).median);
        let mean = |values: f64| values / plan.workers as f64;
        let total = measured.iter().fold(Pass::default(), |mut total, worker| {
            total.add(sum(&worker.rounds));
            total
        });
        let [even, odd] = total.forwarded;
        // Of a flood, what is at odd places is new; of new connections, everything.
        let (new, served) = match case {
            Case::New => (total.packets, even + odd),
            _ => (total.packets / 2, odd),
        };
        let created = measured.iter().map(|worker| worker.created).sum();
        let of_new = |part: u64| {
            matches!(case, Case::New | Case::SynFlood).then(|| part as f64 / new as f64)
        };
        PacketMeasurement {
            case,
            method: plan.method,
            family: plan.family,
            connections: plan.connections.0,
            workers: u32::try_from(plan.workers).unwrap_or(u32::MAX),
            ns_per_packet: mean(engines.iter().map(|engine| engine.median).sum()),
            generator_ns_per_packet: mean(generators.sum()),
            packets_per_second: engines.iter().map(|engine| 1e9 / engine.median).sum(),
            ratio_to_testpmd: None,
            device: None,
            order: if case == Case::New {
                Order::Sequential
            } else {
                plan.order
            },
            pages: self.rig.pages,
            servers: plan.servers,
            scheduler: plan.scheduler,
            ns_per_packet_least: engines
                .iter()
                .map(|engine| engine.least)
                .fold(f64::INFINITY, f64::min),
            ns_per_packet_greatest: engines
                .iter()
                .map(|engine| engine.greatest)
                .fold(0.0, f64::max),
            without_entry_share: of_new(new.saturating_sub(created)),
            refused_share: of_new(new.saturating_sub(served)),
        }
    }
}

fn sum(rounds: &[Pass]) -> Pass {
    rounds.iter().fold(Pass::default(), |mut sum, pass| {
        sum.add(*pass);
        sum
    })
}

/// One worker's rounds, the first of which only warms up.
fn rounds(
    plan: &Plan,
    case: Case,
    driver: &mut Driver<'_>,
    source: &mut Source,
    together: &Together,
) -> Measured {
    let established = driver.in_use();
    let mut measured = Measured::default();
    for round in 0..=plan.rounds {
        together.barrier.wait();
        together.over.store(false, Ordering::Relaxed);
        driver.wake();
        together.barrier.wait();
        let least = if round == 0 { plan.warm_up(case) } else { 0 };
        let before = driver.created();
        let pass = one_round(plan, case, driver, source, least, &together.over);
        if round > 0 {
            measured.created += driver.created() - before;
            measured.rounds.push(pass);
        }
        if case == Case::New {
            driver.expire_to(established, PAST_SYN);
        }
        driver.sleep();
    }
    measured
}

impl Plan {
    /// Packets each worker processes before anything is measured: every connection is seen, or the table full.
    fn warm_up(&self, case: Case) -> u64 {
        let workers = self.workers as u64;
        match case {
            Case::Hit | Case::Reply => u64::from(self.connections.0) / workers,
            Case::New => 0,
            Case::SynFlood => {
                2 * u64::from(self.capacity() - self.connections.0 + SLACK_EACH) * 11 / 10 / workers
            }
        }
    }
}

/// Passes until the round's time is over, or its new connections are made, here or on another worker.
fn one_round(
    plan: &Plan,
    case: Case,
    driver: &mut Driver<'_>,
    source: &mut Source,
    least: u64,
    over: &AtomicBool,
) -> Pass {
    let mut round = Pass::default();
    loop {
        round.add(driver.pass(source));
        let enough = if case == Case::New {
            round.packets >= plan.fresh_each()
        } else {
            round.engine_ns >= u64::from(plan.round_ms) * 1_000_000
        };
        if enough && round.packets >= least {
            over.store(true, Ordering::Relaxed);
        }
        if over.load(Ordering::Relaxed) && round.packets >= least {
            return round;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_belongs_to_one_worker() {
        for workers in 1..5 {
            let shares = shares(10_001, workers);
            assert_eq!(shares.len(), workers);
            assert_eq!((shares[0].start, shares[workers - 1].end), (0, 10_001));
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
