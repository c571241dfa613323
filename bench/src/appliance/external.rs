//! Rate of the data plane by that of testpmd, on a device whose other end the user sees to: a NIC, as a rule. Only one
//! program can have it at a time, so each is started for each of its turns. The data plane is in a network namespace of its
//! own there too, so a device that needs an interface of the kernel's cannot be had.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::device::DpdkDevice;
use super::director::{self, Director, DirectorSpec, Service};
use super::namespace::Namespace;
use super::ratio::{Rates, turn};
use super::testpmd::{Testpmd, TestpmdSpec};
use super::{Place, memory_mib, table_entries};
use crate::flows::Order;
use crate::interrupt;
use crate::measurement::PacketMeasurement;
use crate::output::Progress;
use crate::quantity::Quantity;
use crate::rig;

/// How long the generator may take to open its connections.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The port of both programs.
    pub device: DpdkDevice,
    /// What the data plane serves.
    pub service: Service,
    /// Connections its table is to have room for.
    pub connections: Quantity,
    /// Turns of each program.
    pub rounds: u32,
    /// Length of a turn.
    pub round_ms: u32,
}

/// Steps of progress that a plan takes.
pub fn steps(rounds: u32) -> u64 {
    2 * u64::from(rounds)
}

/// Cost of a packet in testpmd, in nanoseconds, and what the data plane does.
///
/// # Errors
/// A program does not start with the device; nothing is received; packets are not forwarded.
pub fn run(
    plan: &Plan,
    place: &Place,
    progress: &Progress,
) -> anyhow::Result<(f64, PacketMeasurement)> {
    place.forget_data_planes();
    let mut rates = Rates::default();
    let mut connections = 0;
    for _ in 0..plan.rounds {
        progress.next("testpmd has the device");
        rates.testpmd.push(testpmd(plan, place)?);
        progress.next("the data plane has the device");
        let namespace = Namespace::make()?;
        let (rate, found) = data_plane(plan, place, &namespace)?;
        rates.director.push(rate);
        connections = found;
    }
    let mut measured = rates.measurement(&plan.service, Order::Random, place);
    measured.connections = u32::try_from(connections).unwrap_or(u32::MAX);
    measured.device = Some(plan.device.name().to_owned());
    Ok((rates.testpmd_ns(), measured))
}

fn testpmd(plan: &Plan, place: &Place) -> anyhow::Result<f64> {
    let mut testpmd = Testpmd::start(&TestpmdSpec {
        device: &plan.device,
        frames_kept: 0,
        cpus: place.cpus,
        memory_mib: memory_mib(0),
        huge_pages: place.huge_mount.as_deref(),
        directory: &place.directory,
    })?;
    testpmd
        .wait_until_it_forwards()
        .with_context(|| nothing_comes(plan))?;
    let rate = turn(plan.round_ms, || testpmd.read())?;
    testpmd.process.end()?;
    ensure!(rate > 0.0, nothing_comes(plan));
    Ok(rate)
}

/// Its rate, and the connections it had by then.
fn data_plane(plan: &Plan, place: &Place, namespace: &Namespace) -> anyhow::Result<(f64, u64)> {
    let spec = DirectorSpec {
        program: &place.dataplane,
        device: &plan.device,
        connections: table_entries(plan.service.family, plan.connections),
        cpu: place.cpus.0,
        memory_mib: memory_mib(0),
        huge_pages: place.huge_mount.is_some(),
        directory: &place.directory,
    };
    let is_first = director::table_files(&place.directory)
        .iter()
        .all(|file| !file.exists());
    let mut director = Director::start(&spec, namespace)?;
    director.set_up_port(namespace, plan.service)?;
    if is_first {
        director.serve(plan.service)?;
    }
    wait_for_connections(plan, &mut director)?;
    let before = director.fates()?;
    let rate = turn(plan.round_ms, || director.read())?;
    director::expect_forwarded(&before, &director.fates()?)?;
    let connections = director.connections()?;
    director.process.end()?;
    Ok((rate, connections))
}

/// Until there are some, and no more are opened.
fn wait_for_connections(plan: &Plan, director: &mut Director) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut known = 0;
    while began.elapsed() < PATIENCE {
        interrupt::sleep(LOOK_EVERY)?;
        let found = director.connections()?;
        if found > 0 && found == known {
            return Ok(());
        }
        known = found;
    }
    let mac = director.mac()?;
    ensure!(known > 0, "{} Its MAC is {mac}.", nothing_comes(plan));
    Ok(())
}

fn nothing_comes(plan: &Plan) -> String {
    format!(
        "{} gets no connections: the generator at its other end has to send TCP SYNs and then ACKs of many flows to {}, to \
         the MAC of the port.",
        plan.device,
        rig::service(plan.service.family)
    )
}
