//! Rate of the data plane by that of testpmd, on `net_pcap` ports that are never empty.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::device::DpdkDevice;
use super::director::{self, Director, DirectorSpec, Service};
use super::namespace::Namespace;
use super::process::Reading;
use super::testpmd::{Testpmd, TestpmdSpec};
use super::{GATEWAY_MAC, PORT_MAC, Place, capture, mac_text, memory_mib, table_entries};
use crate::flows::{Client, Order, Picker};
use crate::frame_arena::{ArenaFrame, ring};
use crate::frame_template::{FrameTemplate, flag};
use crate::interrupt;
use crate::measurement::{Case, PacketMeasurement, Pages};
use crate::output::Progress;
use crate::quantity::Quantity;
use crate::rig;
use crate::statistics::{Summary, median};

/// Until caches and branch predictors are a program's own again.
const WARM_UP: Duration = Duration::from_millis(100);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the data plane serves.
    pub service: Service,
    /// Flows of the frames.
    pub connections: Quantity,
    /// In which order frames go through the flows.
    pub order: Order,
    /// Turns of each program.
    pub rounds: u32,
    /// Length of a turn.
    pub round_ms: u32,
}

/// Steps of progress that a plan takes.
pub fn steps(rounds: u32) -> u64 {
    3 + u64::from(rounds)
}

/// Cost of a packet in testpmd, in nanoseconds, and what the data plane does.
///
/// # Errors
/// A program does not start; packets are not forwarded.
pub fn run(
    plan: &Plan,
    place: &Place,
    progress: &Progress,
) -> anyhow::Result<(f64, PacketMeasurement)> {
    progress.next("writing frames");
    let (syns, acks) = (place.file("syn.pcap"), place.file("ack.pcap"));
    write_frames(plan, &syns, flag::SYN)?;
    write_frames(plan, &acks, flag::ACK)?;
    place.forget_data_planes();
    let namespace = Namespace::make()?;
    progress.next("opening connections in the data plane");
    open_connections(plan, place, &namespace, &syns)?;
    progress.next("starting both programs");
    let mut director = start_director(plan, place, &namespace, &acks)?;
    let found = director.connections()?;
    ensure!(
        found == u64::from(plan.connections.0),
        "{found} of {} connections were taken up by the second start",
        plan.connections
    );
    director.process.set_running(false)?;
    let mut testpmd = start_testpmd(plan, place, &acks)?;
    testpmd.wait_until_it_forwards()?;
    testpmd.process.set_running(false)?;
    director.process.set_running(true)?;
    let fates = director.fates()?;
    director.process.set_running(false)?;
    let mut rates = Rates::default();
    for _ in 0..plan.rounds {
        progress.next("testpmd and the data plane take turns");
        testpmd.process.set_running(true)?;
        rates.testpmd.push(turn(plan.round_ms, || testpmd.read())?);
        testpmd.process.set_running(false)?;
        director.process.set_running(true)?;
        rates
            .director
            .push(turn(plan.round_ms, || director.read())?);
        director.process.set_running(false)?;
    }
    director.process.set_running(true)?;
    director::expect_forwarded(&fates, &director.fates()?)?;
    director.process.end()?;
    testpmd.process.end()?;
    let mut measured = rates.measurement(&plan.service, plan.order, place);
    measured.connections = plan.connections.0;
    measured.device = Some("pcap".to_owned());
    Ok((rates.testpmd_ns(), measured))
}

/// Packets a second of CPU time, by turns.
#[derive(Debug, Default)]
pub struct Rates {
    /// Of testpmd.
    pub testpmd: Vec<f64>,
    /// Of the data plane.
    pub director: Vec<f64>,
}

impl Rates {
    /// Of turns side by side: what else goes on changes from minute to minute.
    fn ratio(&self) -> f64 {
        let turns = self.director.iter().zip(&self.testpmd);
        let ratios: Vec<f64> = turns.map(|(own, ceiling)| own / ceiling).collect();
        median(&ratios)
    }

    /// Cost of a packet in testpmd.
    pub fn testpmd_ns(&self) -> f64 {
        1e9 / median(&self.testpmd)
    }

    /// What the data plane does; connections and device are the caller's to say.
    pub fn measurement(&self, service: &Service, order: Order, place: &Place) -> PacketMeasurement {
        let costs: Vec<f64> = self.director.iter().map(|rate| 1e9 / rate).collect();
        let cost = Summary::of(&costs).unwrap_or(Summary::NONE);
        PacketMeasurement {
            case: Case::Hit,
            method: service.method,
            family: service.family,
            connections: 0,
            workers: 1,
            ns_per_packet: cost.median,
            // The device's part cannot be told apart: it is in both programs' figures.
            generator_ns_per_packet: 0.0,
            packets_per_second: median(&self.director),
            ratio_to_testpmd: Some(self.ratio()),
            device: None,
            order,
            pages: if place.huge_mount.is_some() {
                Pages::Huge
            } else {
                Pages::Normal
            },
            servers: service.servers,
            scheduler: service.scheduler,
            ns_per_packet_least: cost.least,
            ns_per_packet_greatest: cost.greatest,
            without_entry_share: None,
            refused_share: None,
        }
    }
}

/// A program's turn: its rate.
///
/// # Errors
/// It has ended.
pub fn turn(
    round_ms: u32,
    mut read: impl FnMut() -> anyhow::Result<Reading>,
) -> anyhow::Result<f64> {
    interrupt::sleep(WARM_UP)?;
    let before = read()?;
    interrupt::sleep(Duration::from_millis(round_ms.into()))?;
    Ok(read()?.rate_since(before))
}

/// A frame of each flow, in the order that is asked for.
fn write_frames(plan: &Plan, path: &Path, flags: u8) -> anyhow::Result<()> {
    let service = rig::service(plan.service.family);
    let template = FrameTemplate::from_clients((GATEWAY_MAC, PORT_MAC), service, flags);
    let [empty, ..] = &ring()[..] else {
        return Ok(());
    };
    let frames: Vec<ArenaFrame> = flows(plan)
        .into_iter()
        .map(|flow| {
            let mut frame = empty.clone();
            template.write(&mut frame, Client::of_flow(flow));
            frame
        })
        .collect();
    capture::write(path, frames.iter()).with_context(|| format!("cannot write {}", path.display()))
}

/// Every flow once.
fn flows(plan: &Plan) -> Vec<u64> {
    let mut flows: Vec<u64> = (0..plan.connections.0.into()).collect();
    if plan.order == Order::Random {
        // Fisher and Yates.
        for last in (1..flows.len()).rev() {
            let other = Picker::new(0, last as u64 + 1, Order::Random, last as u64).pick();
            flows.swap(last, usize::try_from(other).unwrap_or(0));
        }
    }
    flows
}

fn device(frames: &Path) -> DpdkDevice {
    let words = format!("net_pcap0,rx_pcap={},infinite_rx=1", frames.display());
    DpdkDevice::Virtual(words)
}

fn start_director(
    plan: &Plan,
    place: &Place,
    namespace: &Namespace,
    frames: &Path,
) -> anyhow::Result<Director> {
    let spec = DirectorSpec {
        program: &place.dataplane,
        device: &device(frames),
        connections: table_entries(plan.service.family, plan.connections),
        cpu: place.cpus.0,
        memory_mib: memory_mib(plan.connections.0),
        huge_pages: place.huge_mount.is_some(),
        directory: &place.directory,
    };
    let mut director = Director::start(&spec, namespace)?;
    director.set_up_port(namespace, plan.service)?;
    Ok(director)
}

/// A first start, which gets a SYN of each flow.
fn open_connections(
    plan: &Plan,
    place: &Place,
    namespace: &Namespace,
    syns: &Path,
) -> anyhow::Result<()> {
    let mut director = start_director(plan, place, namespace, syns)?;
    let mac = director.mac()?;
    let wanted = mac_text(PORT_MAC);
    ensure!(
        mac == wanted,
        "net_pcap has the MAC {mac}, the frames are for {wanted}"
    );
    director.serve(plan.service)?;
    let wanted = u64::from(plan.connections.0);
    for _ in 0..500 {
        if director.connections()? == wanted {
            break;
        }
        interrupt::sleep(Duration::from_millis(20))?;
    }
    let opened = director.connections()?;
    ensure!(
        opened == wanted,
        "{opened} of {} connections were opened",
        plan.connections
    );
    director.process.end()
}

fn start_testpmd(plan: &Plan, place: &Place, frames: &Path) -> anyhow::Result<Testpmd> {
    Testpmd::start(&TestpmdSpec {
        device: &device(frames),
        frames_kept: plan.connections.0,
        cpus: place.cpus,
        memory_mib: memory_mib(plan.connections.0),
        huge_pages: place.huge_mount.as_deref(),
        directory: &place.directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{Family, Method, Scheduler};
    use std::collections::HashSet;

    fn plan(order: Order) -> Plan {
        Plan {
            service: Service {
                method: Method::Nat,
                family: Family::Ipv4,
                servers: 8,
                scheduler: Scheduler::Rr,
            },
            connections: Quantity(1000),
            order,
            rounds: 3,
            round_ms: 1,
        }
    }

    #[test]
    fn every_flow_has_one_frame() {
        let shuffled = flows(&plan(Order::Random));
        let distinct: HashSet<u64> = shuffled.iter().copied().collect();
        assert_eq!((shuffled.len(), distinct.len()), (1000, 1000));
        assert!(!shuffled.is_sorted());
        assert!(flows(&plan(Order::Sequential)).is_sorted());
    }

    #[test]
    fn the_ratio_is_of_turns_side_by_side() {
        let rates = Rates {
            testpmd: vec![10e6, 20e6, 40e6],
            director: vec![5e6, 14e6, 30e6],
        };
        assert!((rates.ratio() - 0.7).abs() < 1e-9);
    }
}
