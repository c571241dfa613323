//! `pollux-bench appliance`: the real `pollux-dataplane` process on real DPDK ports, beside `dpdk-testpmd` on the same.
//!
//! ```text
//! ratio      net_pcap with infinite_rx: each program is given the same frames from memory as fast as it takes them, on
//!            the same CPU, in turns; packets a second of CPU time of the worker's thread
//! load       net_memif to a generator in this process, which is a DPDK program too: the highest rate without loss, and
//!            latency below it
//! external   a NIC, or any other device with a generator at its other end: as `ratio`, but one program after the other
//! ```
//!
//! The data plane gets no help: on `net_pcap`, connections are opened by a first start that receives only SYNs, and taken
//! up from the table file by the second, which is measured.
//!
//! `net_ring` is not measured: see [`DeviceError::Ring`](device::DeviceError::Ring).

pub mod capture;
pub mod device;
pub(crate) mod director;
mod external;
mod load;
pub(crate) mod namespace;
pub(crate) mod process;
mod ratio;
pub(crate) mod runtime_directory;
mod testpmd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pollux_engine::connection::TableSize;

use self::device::DeviceChoice;
use self::director::Service;
use self::load::Generator;
use crate::arguments::ApplianceOptions;
use crate::cores;
use crate::huge_pages::HugePages;
use crate::interrupt;
use crate::measurement::{Family, Method, PacketMeasurement, Record};
use crate::output::{Output, Progress};
use crate::quantity::Quantity;

/// The MAC of a program's port: that of the first port of `net_pcap` in a process, which cannot be told another.
const PORT_MAC: [u8; 6] = [0x02, 0x70, 0x63, 0x61, 0x70, 0x00];
/// Unless others are asked for.
const CONNECTIONS: Quantity = Quantity(10_000);
const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 1, 0xfe];
/// Entries of the data plane's table, at least: its default.
const TABLE: u32 = 1_000_000;
/// The bytes of a frame's buffer with what DPDK keeps of it, and DPDK's own memory.
const FRAME_BYTES: u32 = 2560;
const OWN_MIB: u32 = 64;

/// What all measurements of a run share; it goes with its files.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    /// A mount of huge pages, when there are any.
    huge_mount: Option<PathBuf>,
    mounted: bool,
    dataplane: PathBuf,
    /// The worker's CPU, and another one.
    cpus: (usize, usize),
    /// Given back last.
    _huge_pages: Option<HugePages>,
}

/// What one of the measurements is to do.
#[derive(Debug)]
enum Plan {
    Ratio(ratio::Plan),
    Load(load::Plan),
    External(external::Plan),
}

/// Measures what the options say.
///
/// # Errors
/// A program that is missing or does not start; packets that are not forwarded.
pub fn run(options: &ApplianceOptions) -> anyhow::Result<()> {
    interrupt::listen()?;
    let plans = plans(options);
    let place = Place::make(options)?;
    let steps = plans.iter().map(|plan| match plan {
        Plan::Ratio(plan) => ratio::steps(plan.rounds),
        Plan::Load(plan) => load::steps(plan.loads.len()),
        Plan::External(plan) => external::steps(plan.rounds),
    });
    let progress = Progress::new(steps.sum());
    let mut output = Output::new(options.json, &progress);
    // DPDK is started once, and only if it is needed.
    let mut generator = None;
    for plan in &plans {
        match plan {
            Plan::Ratio(plan) => {
                let measured = ratio::run(plan, &place, &progress)?;
                report(&progress, &mut output, measured)?;
            }
            Plan::External(plan) => {
                let measured = external::run(plan, &place, &progress)?;
                report(&progress, &mut output, measured)?;
            }
            Plan::Load(plan) => {
                let generator = match &mut generator {
                    Some(started) => started,
                    none => {
                        none.insert(Generator::start(place.huge_mount.is_some(), place.cpus.1)?)
                    }
                };
                load::run(plan, &place, generator, &progress, &mut output)?;
            }
        }
    }
    Ok(())
}

fn report(
    progress: &Progress,
    output: &mut Output<'_>,
    (ceiling, measured): (f64, PacketMeasurement),
) -> anyhow::Result<()> {
    progress.say(&format!(
        "dpdk-testpmd macswap on the same frames: {:.1} Mpps, {ceiling:.1} ns a packet",
        1e3 / ceiling
    ));
    output.record(&Record::Appliance(measured))
}

/// Every combination that is asked for, on each device.
fn plans(options: &ApplianceOptions) -> Vec<Plan> {
    let devices = or_default(&options.device, &[DeviceChoice::Pcap, DeviceChoice::Memif]);
    let methods = or_default(&options.method, &[Method::Nat]);
    let families = or_default(&options.family, &[Family::Ipv4]);
    let connections = or_default(&options.connections, &[CONNECTIONS]);
    let mut plans = Vec::new();
    for device in &devices {
        for method in &methods {
            for family in &families {
                for connections in &connections {
                    let service = Service {
                        method: *method,
                        family: *family,
                        servers: options.servers,
                        scheduler: options.scheduler,
                    };
                    plans.push(plan(options, device, service, *connections));
                }
            }
        }
    }
    plans
}

fn plan(
    options: &ApplianceOptions,
    device: &DeviceChoice,
    service: Service,
    connections: Quantity,
) -> Plan {
    match device {
        DeviceChoice::Pcap => Plan::Ratio(ratio::Plan {
            service,
            connections,
            order: options.order,
            rounds: options.rounds,
            round_ms: options.round_ms,
        }),
        DeviceChoice::Memif => Plan::Load(load::Plan {
            service,
            connections,
            order: options.order,
            trial: Duration::from_millis(options.trial_ms.into()),
            loss_allowed: options.loss / 100.0,
            loads: options.load.clone(),
        }),
        DeviceChoice::External(device) => Plan::External(external::Plan {
            device: device.clone(),
            service,
            connections,
            rounds: options.rounds,
            round_ms: options.round_ms,
        }),
    }
}

/// Entries of a data plane's table that holds so many connections, and a quarter more: IPv6 gets a quarter of a table.
fn table_entries(family: Family, connections: Quantity) -> u32 {
    let of_this_family = connections.0.saturating_add(connections.0 / 4);
    let all = match family {
        Family::Ipv4 => of_this_family,
        Family::Ipv6 => of_this_family.saturating_mul(4),
    };
    all.max(TABLE)
}

/// Huge pages for both programs, the table and the generator at the same time, bytes.
fn huge_bytes(options: &ApplianceOptions) -> usize {
    let connections = options.connections.iter().max();
    let connections = *connections.unwrap_or(&CONNECTIONS);
    let keeps_frames = options.device.is_empty() || options.device.contains(&DeviceChoice::Pcap);
    let frames = if keeps_frames { connections.0 } else { 0 };
    let family = if options.family.contains(&Family::Ipv6) {
        Family::Ipv6
    } else {
        Family::Ipv4
    };
    let table = TableSize::for_connections(table_entries(family, connections)).bytes();
    let programs = 2 * memory_mib(frames) as usize + load::GENERATOR_MIB as usize;
    // Pools do not fill their pages to the last.
    table + ((programs + programs / 4) << 20)
}

/// Memory for the frames that a device keeps, and those on their way.
fn memory_mib(frames_kept: u32) -> u32 {
    let frames = frames_kept + 20_000;
    OWN_MIB + (frames / 1024) * FRAME_BYTES / 1024
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn or_default<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
    if given.is_empty() { default } else { given }.to_vec()
}

impl Place {
    fn make(options: &ApplianceOptions) -> anyhow::Result<Self> {
        let cpus = cores::usable()?;
        let (Some(worker), Some(main)) = (cpus.first(), cpus.last()) else {
            anyhow::bail!("no CPU");
        };
        let dataplane = match &options.dataplane {
            Some(given) => given.clone(),
            None => beside_this_program("pollux-dataplane")?,
        };
        let huge_pages = if options.no_huge {
            None
        } else {
            let got = HugePages::for_bytes(huge_bytes(options));
            got.inspect_err(|error| eprintln!("pollux-bench: normal pages: {error}"))
                .ok()
        };
        let directory = PathBuf::from(format!("/run/pollux-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut place = Self {
            directory,
            huge_mount: None,
            mounted: false,
            dataplane,
            cpus: (*worker, *main),
            _huge_pages: huge_pages,
        };
        if place._huge_pages.is_some() {
            place.find_huge_mount()?;
        }
        Ok(place)
    }

    /// One that is there, or one of our own.
    fn find_huge_mount(&mut self) -> anyhow::Result<()> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let found = mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, path, kind, options, ..] = words[..] else {
                return None;
            };
            let fits = kind == "hugetlbfs" && !options.contains("pagesize=1024M");
            fits.then(|| PathBuf::from(path))
        });
        if found.is_some() {
            self.huge_mount = found;
            return Ok(());
        }
        let own = self.directory.join("huge");
        fs::create_dir_all(&own)?;
        let words = ["-t", "hugetlbfs", "-o", "pagesize=2M", "pollux-bench"];
        let status = Command::new("mount").args(words).arg(&own).status()?;
        ensure!(
            status.success(),
            "cannot mount huge pages on {}",
            own.display()
        );
        self.huge_mount = Some(own);
        self.mounted = true;
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Nothing of an earlier data plane is left.
    fn forget_data_planes(&self) {
        for table in director::table_files(&self.directory) {
            let _ = fs::remove_file(table);
        }
        let _ = fs::remove_dir_all(self.file("state"));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.forget_data_planes();
        if self.mounted
            && let Some(mount) = &self.huge_mount
        {
            // What stays mounted is seen below the directory that then stays too.
            let _ = Command::new("umount").arg(mount).status();
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("pollux-bench: {} stays: {error}", self.directory.display());
        }
    }
}

/// A program built together with this one.
fn beside_this_program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().unwrap_or(Path::new("/")).join(name);
    ensure!(
        path.exists(),
        "{} is not there: build it with `cargo build --release -p pollux-dataplane`, or name one with --dataplane",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_room_for_the_connections_of_either_family() {
        assert_eq!(table_entries(Family::Ipv4, Quantity(10_000)), TABLE);
        assert_eq!(table_entries(Family::Ipv6, Quantity(10_000)), TABLE);
        assert_eq!(table_entries(Family::Ipv4, Quantity(4_000_000)), 5_000_000);
        assert_eq!(table_entries(Family::Ipv6, Quantity(300_000)), 1_500_000);
    }

    #[test]
    fn a_mac_is_written_as_people_do() {
        assert_eq!(mac_text(PORT_MAC), "02:70:63:61:70:00");
    }
}
