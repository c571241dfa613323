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
mod stamp;
mod subject;
mod trial;

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

pub use self::generator::{GENERATOR_MIB, Generator};
use self::generator::{Job, Link, RING};
use self::pacing::Pace;
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

/// Packets a second when connections are opened.
const OPENING_RATE: f64 = 2e6;
/// Packets a second that no generator reaches: it sends as fast as it can.
const OVERLOAD_RATE: f64 = 1e9;
/// How much longer than it should a slice may take for the generator to have kept up, and how long it goes on anyway.
const LATE_MAX: f64 = 1.05;
const TIME_MAX: f64 = 3.0;
/// What came back under overload, and a little more, is where the search begins.
const CEILING: f64 = 1.05;
/// How exactly the rate without loss is found, of the ceiling.
const RESOLUTION: f64 = 0.01;
/// A trial is made of slices of this length: long enough for a ring of 1024 frames to run over at 5 million packets a second
/// when that is a hundredth too many, short enough to be left alone now and then by a busy machine.
const SLICE: Duration = Duration::from_millis(20);
/// Slices run for each that is needed, before all are taken as they are.
const SLICES_FOR_ONE: u32 = 8;
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
/// How long a program may take from its link's being up until it forwards all, and the last connections until they are
/// seen.
const PATIENCE: Duration = Duration::from_secs(15);
const OPENED_WITHIN: Duration = Duration::from_millis(300);

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

    /// A SYN and an ACK of each flow; again, should some get lost.
    fn open(&mut self) -> anyhow::Result<()> {
        let syns = frames(self.plan, flag::SYN);
        let acks = self.acks.clone();
        let wanted = u64::from(self.plan.connections.0);
        let began = Instant::now();
        loop {
            let opened = self.each_flow_once(&syns)?.came_back;
            let came_back = self.each_flow_once(&acks)?.came_back;
            // A SYN of a connection that is there already does no harm.
            let all_there = self.subject.wait_for_connections(wanted, OPENED_WITHIN)?;
            if all_there && opened == wanted && came_back == wanted {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "{}: of the SYNs of {wanted} flows {opened} came back, and {came_back} of their ACKs{}",
                program_name(self.program),
                self.subject.account()
            );
        }
    }

    /// In pieces that a ring holds, whatever becomes of the CPUs meanwhile.
    fn each_flow_once(&mut self, template: &FrameTemplate) -> anyhow::Result<Trial> {
        let flows = u64::from(self.plan.connections.0);
        let mut picker = Picker::new(0, flows, Order::Sequential, 1);
        let mut all = Trial::default();
        while all.offered < flows {
            let job = Job {
                template,
                picker: &mut picker,
                rate: OPENING_RATE,
                packets: (flows - all.offered).min(u64::from(RING / 2)),
                time_max: Duration::MAX,
                returned_at: self.returned_at,
            };
            all.add(&self.generator.run(&mut self.link, job)?);
        }
        Ok(all)
    }

    /// Packets of established connections for so long a time, or until more than `loss_max` of them are lost.
    fn trial(&mut self, rate: f64, time: Duration, loss_max: f64) -> anyhow::Result<Trial> {
        let slice = time.min(SLICE);
        let wanted = u32::try_from(time.as_micros() / slice.as_micros().max(1)).unwrap_or(u32::MAX);
        let (mut counted, mut disturbed) = (Trial::default(), Trial::default());
        let mut slices = 0;
        for _ in 0..wanted.saturating_mul(SLICES_FOR_ONE) {
            let mut piece = self.slice(rate, slice, slice.mul_f64(TIME_MAX))?;
            if piece.was_disturbed() {
                disturbed.add(&piece);
                continue;
            }
            piece.kept_up &= Duration::from_nanos(piece.sending_ns) < slice.mul_f64(LATE_MAX);
            counted.add(&piece);
            slices += 1;
            let all = f64::from(wanted) / f64::from(slices);
            if slices == wanted || counted.loss() > loss_max * all || !counted.kept_up {
                counted.discard(&disturbed);
                return Ok(counted);
            }
        }
        // There is no peace to be had: this is how it is here.
        counted.add(&disturbed);
        Ok(counted)
    }

    /// Packets at a rate for so long a time; `time_max` if the generator cannot send as many by then.
    fn slice(&mut self, rate: f64, time: Duration, time_max: Duration) -> anyhow::Result<Trial> {
        let before = self.subject.scheduled()?;
        let job = Job {
            template: &self.acks,
            picker: &mut self.picker,
            rate,
            packets: Pace::new(0, rate).packets_in(time),
            time_max,
            returned_at: self.returned_at,
        };
        let mut trial = self.generator.run(&mut self.link, job)?;
        let after = self.subject.scheduled()?;
        trial.worker_waited_ns = after.waited_ns.saturating_sub(before.waited_ns);
        Ok(trial)
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

    /// As much as the generator can offer.
    fn overload(&mut self) -> anyhow::Result<Trial> {
        let slice = self.plan.trial.min(SLICE);
        let wanted = self.plan.trial.as_nanos();
        let (mut counted, mut disturbed) = (Trial::default(), Trial::default());
        while u128::from(counted.sending_ns) < wanted {
            let piece = self.slice(OVERLOAD_RATE, slice, slice)?;
            if !piece.was_disturbed() {
                counted.add(&piece);
                continue;
            }
            disturbed.add(&piece);
            if u128::from(disturbed.sending_ns) > wanted * u128::from(SLICES_FOR_ONE) {
                counted.add(&disturbed);
                break;
            }
        }
        Ok(counted)
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
