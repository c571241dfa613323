//! `pollux-bench appliance`: the real `pollux-dataplane` process on real DPDK ports, beside `dpdk-testpmd` on the same.
//!
//! ```text
//! ratio   net_pcap with infinite_rx: each program is given the same frames from memory as fast as it takes them, on the
//!         same CPU, in turns; packets a second of CPU time of the worker's thread
//! ```
//!
//! The data plane gets no help: connections are opened by a first start that receives only SYNs, and taken up from the
//! table file by the second, which is measured.

mod capture;
mod device;
mod director;
mod namespace;
mod process;
mod ratio;
mod testpmd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use self::director::Service;
use crate::arguments::ApplianceOptions;
use crate::cores;
use crate::huge_pages::HugePages;
use crate::interrupt;
use crate::measurement::{Family, Method, Record};
use crate::output::{Output, Progress};
use crate::quantity::Quantity;

/// Huge pages for both programs and the table, MiB.
const HUGE_MIB: usize = 768;

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

/// Measures what the options say.
///
/// # Errors
/// A program that is missing or does not start; packets that are not forwarded.
pub fn run(options: &ApplianceOptions) -> anyhow::Result<()> {
    let methods = or_default(&options.method, &[Method::Nat]);
    let families = or_default(&options.family, &[Family::Ipv4]);
    let connections = or_default(&options.connections, &[Quantity(10_000)]);
    interrupt::listen()?;
    let place = Place::make(options)?;
    let plans: Vec<ratio::Plan> = methods
        .iter()
        .flat_map(|method| families.iter().map(|family| (*method, *family)))
        .flat_map(|(method, family)| {
            connections
                .iter()
                .map(move |count| (method, family, *count))
        })
        .map(|(method, family, connections)| ratio::Plan {
            service: Service {
                method,
                family,
                servers: options.servers,
                scheduler: options.scheduler,
            },
            connections,
            order: options.order,
            rounds: options.rounds,
            round_ms: options.round_ms,
        })
        .collect();
    let progress = Progress::new(plans.len() as u64 * ratio::steps(options.rounds));
    let mut output = Output::new(options.json, &progress);
    for plan in &plans {
        let (ceiling, measured) = ratio::run(plan, &place, &progress)?;
        progress.say(&format!(
            "dpdk-testpmd macswap on the same frames: {:.1} Mpps, {:.1} ns a packet",
            1e3 / ceiling,
            ceiling
        ));
        output.record(&Record::Appliance(measured))?;
    }
    Ok(())
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
            let got = HugePages::for_bytes(HUGE_MIB << 20);
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
