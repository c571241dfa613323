//! A program under load: a generator at the other end of a `net_memif` link, each of both on a CPU of its own. testpmd
//! first, then the data plane, the same frames to both.
//!
//! ```text
//! this process: generator ─► ring ─► program's worker ─► ring ─► generator       one link, one ring each way
//! ```
//!
//! The frames leave by schedule ([`pacing`]); one that finds no room in the ring is lost, as in a NIC whose host is too
//! slow. Each carries its number ([`stamp`]) and comes back rewritten.
//!
//! CPUs that something else wants too are the bane of such measurements. Generator and program go before all others
//! ([`FirstInLine`]). A trial is made of slices, and a slice in which one of both still had to wait for its CPU is thrown
//! away and made good by another. How long they waited and how much was thrown away is in each record.

mod generator;
mod pacing;
mod search;
mod slices;
mod stamp;
mod subject;
mod trial;

use std::time::Duration;

use anyhow::{bail, ensure};

use self::generator::Link;
pub use self::generator::{GENERATOR_MIB, Generator};
use self::subject::Subject;
use self::trial::Trial;
use super::director::Service;
use super::{GATEWAY_MAC, PORT_MAC, Place};
use crate::cores::FirstInLine;
use crate::flows::{Order, Picker};
use crate::frame_template::{FrameTemplate, flag};
use crate::measurement::{
    LatencyMeasurement, LoadSetting, Pages, Program, Record, ThroughputMeasurement,
};
use crate::output::{Output, Progress};
use crate::quantity::Quantity;
use crate::rig;

/// What came back under overload, and a little more, is where the search begins.
const CEILING: f64 = 1.05;
/// How exactly the rate without loss is found, of the ceiling.
const RESOLUTION: f64 = 0.01;
/// Packets the ring had no room for under overload, of those offered; below, it is the generator that is slow.
const REFUSED_LEAST: f64 = 0.005;
/// From this part of the time on, waiting for CPUs is worth a warning.
const WAITED_WARN: f64 = 0.01;
const WARM_UP_RATE: f64 = 100e3;
/// A rate has not held when it has failed this often: what a hypervisor or an interrupt takes from a worker is in no count
/// of the kernel's, and a single such loss would halve what is found. A rate that is too high fails every time, and soon.
const TRIALS_OF_A_RATE: u32 = 3;
/// How long caches and connections warm up before the first trial.
const WARM_UP: Duration = Duration::from_millis(200);

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the data plane serves.
    pub service: Service,
    /// Flows.
    pub connections: Quantity,
    /// In which order packets go through the flows.
    pub order: Order,
    /// Length of a trial.
    pub trial: Duration,
    /// Loss that is overlooked, of the packets offered.
    pub loss_allowed: f64,
    /// Loads under which latency is measured, percent of the rate without loss.
    pub loads: Vec<u32>,
}

/// Steps of progress that a plan takes, or a few less.
pub fn steps(loads: usize) -> u64 {
    2 * (2 + 8 + loads as u64)
}

/// What a program did.
#[derive(Debug)]
struct Measured {
    throughput: ThroughputMeasurement,
    latencies: Vec<LatencyMeasurement>,
}

/// Measures testpmd and the data plane.
///
/// # Errors
/// A program does not start; packets do not come back.
pub fn run(
    plan: &Plan,
    place: &Place,
    generator: &mut Generator,
    progress: &Progress,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let _first = FirstInLine::step();
    if place.cpus.0 == place.cpus.1 {
        progress.say(
            "pollux-bench: warning: generator and program share the only CPU: rates and latencies are those of both",
        );
    }
    let mut ceiling: Option<Measured> = None;
    for program in [Program::Testpmd, Program::PolluxDataplane] {
        let mut bench = Bench::set_up(plan, place, generator, progress, program)?;
        let mut measured = bench.measure()?;
        bench.subject.end()?;
        if let Some(ceiling) = &ceiling {
            measured.compare(ceiling);
        }
        measured.warn(progress);
        output.record(&Record::Throughput(measured.throughput.clone()))?;
        for latency in &measured.latencies {
            output.record(&Record::Latency(latency.clone()))?;
        }
        ceiling = Some(measured);
    }
    Ok(())
}

impl Measured {
    #[allow(clippy::cast_precision_loss)] // of seconds
    fn compare(&mut self, testpmd: &Self) {
        let (own, ceiling) = (&mut self.throughput, &testpmd.throughput);
        own.ratio_to_testpmd = Some(own.packets_per_second / ceiling.packets_per_second);
        for (own, other) in self.latencies.iter_mut().zip(&testpmd.latencies) {
            own.ratio_to_testpmd = Some(own.p50_ns as f64 / other.p50_ns.max(1) as f64);
        }
    }

    fn warn(&self, progress: &Progress) {
        let shares = self.latencies.iter().map(|latency| &latency.setting);
        let shares = shares.chain([&self.throughput.setting]);
        let worst = shares
            .map(|setting| setting.cpu_waited_share)
            .fold(0.0, f64::max);
        if worst > WAITED_WARN {
            progress.say(&format!(
                "pollux-bench: warning: something else had the CPU of the worker or the generator for {:.1} % of a \
                 trial: its times are not the program's alone",
                worst * 100.0
            ));
        }
    }
}

/// A program with its link.
struct Bench<'b> {
    plan: &'b Plan,
    place: &'b Place,
    generator: &'b mut Generator,
    progress: &'b Progress,
    program: Program,
    subject: Subject,
    link: Link,
    acks: FrameTemplate,
    picker: Picker,
    returned_at: usize,
}

impl<'b> Bench<'b> {
    /// Starts the program and has it forward every flow.
    fn set_up(
        plan: &'b Plan,
        place: &'b Place,
        generator: &'b mut Generator,
        progress: &'b Progress,
        program: Program,
    ) -> anyhow::Result<Self> {
        progress.next(&format!("starting {}", program_name(program)));
        let subject = Subject::start(program, plan, place)?;
        let link = generator.link(&subject::socket(place))?;
        let family = plan.service.family;
        let returned_at = match program {
            Program::Testpmd => stamp::tcp_at(family),
            Program::PolluxDataplane => stamp::tcp_at_after(plan.service.method, family),
        };
        let mut bench = Self {
            plan,
            place,
            generator,
            progress,
            program,
            subject,
            link,
            acks: frames(plan, flag::ACK),
            picker: Picker::new(0, plan.connections.0.into(), plan.order, 1),
            returned_at,
        };
        bench.progress.next("opening connections");
        bench.open()?;
        bench.slice(WARM_UP_RATE, WARM_UP, WARM_UP)?;
        Ok(bench)
    }

    fn measure(&mut self) -> anyhow::Result<Measured> {
        self.progress.next("overloading");
        let overloaded = self.overload()?;
        let generator_limited = overloaded.refused() < REFUSED_LEAST;
        let most = overloaded.returned_rate();
        ensure!(
            most > 0.0,
            "{} sends nothing back under load{}",
            program_name(self.program),
            self.subject.account()
        );
        // A generator that is the slower one cannot offer more than it did.
        let ceiling = if generator_limited {
            most
        } else {
            most * CEILING
        };
        let found = search::highest(ceiling, ceiling * RESOLUTION, |rate| self.holds(rate))?;
        let Some((rate, best)) = found.best else {
            bail!(
                "{} loses packets even at {:.0} packets a second: something else takes the CPUs, or allow some loss with \
                 --loss",
                program_name(self.program),
                ceiling * RESOLUTION
            );
        };
        let throughput = ThroughputMeasurement {
            setting: self.setting(&best),
            packets_per_second: rate,
            loss: best.loss(),
            loss_allowed: self.plan.loss_allowed,
            packets_per_second_overloaded: most,
            generator_limited: generator_limited && rate > most * 0.9,
            trial_ms: u32::try_from(self.plan.trial.as_millis()).unwrap_or(u32::MAX),
            trials: found.trials,
            ratio_to_testpmd: None,
        };
        let before = self.subject.fates()?;
        let loads = self.plan.loads.iter();
        let latencies = loads
            .map(|load| self.latency(*load, rate * f64::from(*load) / 100.0))
            .collect::<anyhow::Result<Vec<_>>>()?;
        self.subject.expect_forwarded_since(before)?;
        Ok(Measured {
            throughput,
            latencies,
        })
    }

    /// The trial, if nothing, or little enough, is lost at this rate.
    fn holds(&mut self, rate: f64) -> anyhow::Result<Option<Trial>> {
        self.progress.next(&format!("{:.2} Mpps", rate / 1e6));
        let allowed = self.plan.loss_allowed;
        for _ in 0..TRIALS_OF_A_RATE {
            let trial = self.trial(rate, self.plan.trial, allowed)?;
            if trial.kept_up && trial.loss() <= allowed {
                return Ok(Some(trial));
            }
        }
        Ok(None)
    }

    fn latency(&mut self, load: u32, rate: f64) -> anyhow::Result<LatencyMeasurement> {
        self.progress.next(&format!("latency at {load} %"));
        let trial = self.trial(rate, self.plan.trial, 1.0)?;
        let latency = &trial.latency;
        Ok(LatencyMeasurement {
            setting: self.setting(&trial),
            load_percent: load,
            packets_per_second: rate,
            packets: latency.len(),
            loss: trial.loss(),
            least_ns: latency.min(),
            p50_ns: latency.value_at_quantile(0.5),
            p99_ns: latency.value_at_quantile(0.99),
            p999_ns: latency.value_at_quantile(0.999),
            greatest_ns: latency.max(),
            ratio_to_testpmd: None,
        })
    }

    fn setting(&self, trial: &Trial) -> LoadSetting {
        LoadSetting {
            program: self.program,
            device: "memif".to_owned(),
            method: self.plan.service.method,
            family: self.plan.service.family,
            connections: self.plan.connections.0,
            workers: 1,
            frame_bytes: u32::try_from(self.acks.length()).unwrap_or(u32::MAX),
            order: self.plan.order,
            pages: if self.place.huge_mount.is_some() {
                Pages::Huge
            } else {
                Pages::Normal
            },
            cpu_waited_share: trial.waited_share(),
            discarded_share: trial.discarded_share(),
        }
    }
}

fn frames(plan: &Plan, flags: u8) -> FrameTemplate {
    let service = rig::service(plan.service.family);
    FrameTemplate::from_clients((GATEWAY_MAC, PORT_MAC), service, flags).to_be_numbered()
}

fn program_name(program: Program) -> &'static str {
    match program {
        Program::Testpmd => "dpdk-testpmd",
        Program::PolluxDataplane => "pollux-dataplane",
    }
}
