//! From settings to a running data plane, and back.
//!
//! The order matters: what can be refused is refused before anything is touched; the state directory's lock comes
//! before the table it guards; workers start before the socket opens, so whoever can connect is answered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use dpdk_bindings::{Eal, EalArguments, EalError, Memory, Mempool, PciDevices};
use pollux_api::bond::BondMode;
use pollux_api::memory::{MTU_EXPECTED, PORTS_EXPECTED, frames_mib};
use pollux_api::settings::HugePages;
use pollux_engine::connection::{Shard, TableSize};
use pollux_engine::counters::WorkerCounters;
use pollux_engine::fragment::Handover;
use pollux_engine::{Snapshot, Worker as Engine};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::bond::Announcements;
use crate::idle::Idle;
use crate::kernel::{Mirror, MirrorHandle};
use crate::link_watch;
use crate::numa::{self, Crossing, Topology};
use crate::port::{self, OpenPort};
use crate::private_socket::{Limits, PrivateSocket};
use crate::publication::Publication;
use crate::publisher::{FirstSnapshot, Publisher, Workers};
use crate::service_manager;
use crate::settings::{Core, UsableCores, ValidSettings};
use crate::state::State;
use crate::state_files::StateDirectory;
use crate::table_file::TableFile;
use crate::worker::{PortQueues, Shared, Worker, WorkerSettings, now_nanoseconds, tick_of};

/// Runs the data plane until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not start, with what to do about it.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let usable = UsableCores::discover().context("cannot find out which cores there are")?;
    let mut wanted = arguments.merged_settings()?;
    let topology = Topology::read(Path::new("/"));
    let nics = numa::of_nics(Path::new("/"), &wanted);
    if wanted.cores.is_none() {
        wanted.cores = Some(usable.for_workers(&topology, &nics));
    }
    let settings = ValidSettings::new(wanted, &usable)?;
    let main_cpus = cpus_of_main(&settings, &usable, &topology, &nics);
    let state_directory = StateDirectory::open(&arguments.state_dir)?;
    let state = state_directory.load()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = PrivateSocket::open(&arguments.run_dir, Limits::default())?;
        let eal = start_eal(&settings, main_cpus)?;
        serve(
            (&settings, &topology),
            &eal,
            socket,
            &arguments.run_dir,
            state_directory,
            state,
        )
        .await
    })
}

/// Where the main thread is to run: on the NICs' node, beside the workers, for what it touches first is given memory there,
/// frames and table; empty for anywhere.
fn cpus_of_main(
    settings: &ValidSettings,
    usable: &UsableCores,
    topology: &Topology,
    nics: &[Option<u16>],
) -> Vec<usize> {
    let Some(home) = topology.home(nics) else {
        return Vec::new();
    };
    let workers: Vec<u16> = settings.cores().iter().map(|core| core.get()).collect();
    let there = usable.on_node(topology, home);
    let beside = there.iter().filter(|core| !workers.contains(core));
    let beside: Vec<usize> = beside.map(|core| usize::from(*core)).collect();
    if beside.is_empty() {
        log::info!("no core of node {home}, where the NICs are, is left for the main thread");
    }
    beside
}

/// Starts DPDK with huge pages, or without when that is allowed, and says which.
fn start_eal(settings: &ValidSettings, main_cpus: Vec<usize>) -> anyhow::Result<Eal> {
    let ports = if settings.ports().is_empty() {
        PORTS_EXPECTED
    } else {
        settings
            .ports()
            .iter()
            .map(|port| port.device.count())
            .sum()
    };
    let mtu = settings
        .ports()
        .iter()
        .filter_map(|port| port.mtu)
        .max()
        .unwrap_or(MTU_EXPECTED);
    let reckoned = || frames_mib(ports, settings.cores().len(), mtu);
    let megabytes = settings.memory_mib().unwrap_or_else(reckoned);
    let mut arguments = EalArguments {
        memory: Memory::HugePages { megabytes },
        file_prefix: settings.file_prefix().to_owned(),
        pci: pci_devices(settings),
        main_cpus,
        ..EalArguments::default()
    };
    let without = Memory::OrdinaryPages { megabytes };
    let eal = match settings.huge_pages() {
        HugePages::Never => Eal::start(&EalArguments {
            memory: without,
            ..arguments
        }),
        HugePages::Always => Eal::start(&arguments),
        HugePages::Auto => match Eal::start(&arguments) {
            // Both are found out before DPDK is touched, so it can still be started.
            Err(reason @ (EalError::TooFewHugePages { .. } | EalError::NoHugePages)) => {
                log::warn!("{reason}; going on with normal pages");
                arguments.memory = without;
                Eal::start(&arguments)
            }
            other => other,
        },
    }?;
    let pages = if eal.uses_huge_pages() {
        "huge pages"
    } else {
        "normal pages"
    };
    log::info!("{}: {megabytes} MiB of frames in {pages}", eal.version());
    Ok(eal)
}

fn pci_devices(settings: &ValidSettings) -> PciDevices {
    if settings.ports().is_empty() {
        return PciDevices::All;
    }
    let ports = settings.ports().iter();
    let addresses = ports.flat_map(|port| port.device.pci_addresses());
    let addresses: Vec<_> = addresses.collect();
    if addresses.is_empty() {
        PciDevices::None
    } else {
        PciDevices::Only(addresses)
    }
}

async fn serve(
    (settings, topology): (&ValidSettings, &Topology),
    eal: &Eal,
    socket: PrivateSocket,
    run_directory: &Path,
    state_directory: StateDirectory,
    state: State,
) -> anyhow::Result<()> {
    let workers = settings.cores().len();
    let wanted = match settings.ports() {
        [] => port::found_ports(eal)?,
        named => named.to_vec(),
    };
    let (ports, queues, pool) = port::open_all(
        eal,
        &wanted,
        (settings.exception_path(), settings.transmit_checksums()),
        workers,
        settings.memory_mib(),
        topology,
    )
    .await?;
    let names = ports.iter().map(|port| port.name.clone()).collect();
    let (mirror, mut handle) = Mirror::connect(names).await?;
    tokio::spawn(mirror.run());
    let size = TableSize::for_connections(settings.connections());
    let sizes = (workers, size.connections());
    let first = FirstSnapshot::compile(&state, &ports, handle.view(), sizes);
    let file = TableFile::locate(run_directory, settings.file_prefix(), eal.uses_huge_pages());
    let table = file.open(size, workers, tick_of(now_nanoseconds()))?;
    log::info!(
        "{} connections ({} MiB) in {}",
        size.connections(),
        size.bytes() >> 20,
        file.path().display()
    );
    let shared = Arc::new(Shared {
        table,
        publication: Publication::new(Arc::clone(&first.snapshot), workers),
        stop: AtomicBool::new(false),
        fragments: Handover::new(workers),
        gone: ports.iter().map(|_| AtomicBool::new(false)).collect(),
        announcements: Announcements::default(),
    });
    let counters: Vec<Arc<WorkerCounters>> = (0..workers)
        .map(|_| Arc::new(WorkerCounters::new(ports.len())))
        .collect();
    // One worker is enough for that, and the first has a queue of every port.
    let bonds = ports.iter().enumerate();
    let bonds: Vec<(usize, BondMode)> = bonds
        .filter_map(|(number, port)| Some((number, port.bond?)))
        .collect();
    let threads = start_workers(
        settings,
        eal,
        &shared,
        (queues, pool),
        (&counters, &bonds),
        &handle,
    )?;
    report(settings, &ports, topology);
    let cores = settings.cores().iter().map(|core| core.get()).collect();
    let alive = service_manager::keep_alive(counters.clone());
    let workers = Workers {
        shared: Arc::clone(&shared),
        ports,
        cores,
        counters,
    };
    let publisher = Arc::new(Publisher::new(
        workers,
        state_directory,
        state,
        first,
        handle,
    ));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    service_manager::ready();
    tokio::select! {
        () = alive => {}
        () = socket.serve(Arc::clone(&publisher)) => {}
        () = link_watch::follow(&publisher) => {}
        () = publisher.run() => log::error!("the kernel's tables are not followed any more"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service_manager::stopping();
    log::info!("stopping; connections stay in {}", file.path().display());
    shared.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        if thread.join().is_err() {
            log::error!("a worker ended by a panic");
        }
    }
    Ok(())
}

fn start_workers(
    settings: &ValidSettings,
    eal: &Eal,
    shared: &Arc<Shared>,
    (queues, pool): (Vec<Vec<PortQueues>>, Mempool),
    (counters, bonds): (&[Arc<WorkerCounters>], &[(usize, BondMode)]),
    mirror: &MirrorHandle,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let workers = settings.cores().len();
    let snapshot = shared.publication.current();
    // All before the first worker runs: what it ends must not be found free by a shard that is made later.
    let shards: Vec<Shard> = (0..workers)
        .map(|number| take_up_shard(shared, &snapshot, number, workers))
        .collect();
    let numbered = settings
        .cores()
        .iter()
        .zip(queues)
        .zip(counters)
        .zip(shards)
        .enumerate();
    numbered
        .map(|(number, (((core, ports), counters), shard))| {
            let engine = Engine::new(shard, Arc::clone(counters));
            let idle = Idle::new(settings.poll());
            let worker = Worker::new(
                Arc::clone(shared),
                engine,
                ports,
                pool,
                idle,
                mirror.clone(),
                WorkerSettings {
                    punt: *settings.punt(),
                    bonds: bonds.iter().filter(|_| number == 0).copied().collect(),
                },
            );
            let (eal, core) = (*eal, *core);
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            let started = thread.spawn(move || {
                pin(core);
                // Without a number of its own a thread only does without the pool's cache.
                let registered = eal
                    .register_thread()
                    .inspect_err(|error| log::warn!("worker {number}: {error}"));
                worker.run();
                drop(registered);
            });
            started.context("cannot start a worker thread")
        })
        .collect()
}

/// The worker's part of the table; connections that are there already count for their destinations again.
fn take_up_shard(shared: &Shared, snapshot: &Snapshot, worker: usize, workers: usize) -> Shard {
    Shard::new(&shared.table, worker, workers, |connection| {
        if let Some(destination) = snapshot.destination(connection.destination()) {
            destination.bind(connection.life().state());
        }
    })
}

fn pin(core: Core) {
    let mut set = CpuSet::new();
    set.set(usize::from(core.get()));
    if let Err(error) = sched_setaffinity(None, &set) {
        log::warn!("cannot pin a worker to core {}: {error}", core.get());
    }
}

fn report(settings: &ValidSettings, ports: &[OpenPort], topology: &Topology) {
    for port in ports {
        log::info!(
            "port {}: {}, MTU {}, {} receive and {} transmit queues",
            port.name,
            port.device,
            port.mtu,
            port.rx_queues,
            port.tx_queues
        );
    }
    let nodes: Vec<(String, Option<u16>)> = ports
        .iter()
        .map(|port| (port.name.to_string(), port.info.numa_node))
        .collect();
    let numbers: Vec<u16> = settings.cores().iter().map(|core| core.get()).collect();
    for Crossing { port, node, cores } in topology.crossings(&nodes, &numbers) {
        log::warn!(
            "port {port} is on NUMA node {node}, the workers on cores {cores:?} are not: its packets cross between the nodes; \
             name cores of node {node} in [dataplane], or put the NIC into a slot of theirs"
        );
    }
    let cores: Vec<String> = settings
        .cores()
        .iter()
        .map(|core| core.get().to_string())
        .collect();
    log::info!(
        "{} workers on cores {}, polling {:?}",
        cores.len(),
        cores.join(", "),
        settings.poll()
    );
}
