//! From settings to a running data plane, and back.
//!
//! The order matters: what can be refused is refused before anything is touched; the state directory's lock comes
//! before the table it guards; workers start before the socket opens, so whoever can connect is answered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use dpdk_bindings::{Eal, EalArguments, EalError, Memory, PciDevices};
use pollux_api::bond::BondMode;
use pollux_api::memory::{MTU_EXPECTED, PORTS_EXPECTED, frames_mib_by_node};
use pollux_api::numa::{Crossing, Topology};
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
use crate::numa::{self, Visit};
use crate::pools::Pools;
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
    let topology = numa::topology(Path::new("/"));
    let mut nodes = numa::of_devices(Path::new("/"), &wanted);
    if !topology.is_several() {
        nodes.fill(None);
    }
    if wanted.cores.is_none() {
        wanted.cores = Some(usable.for_workers(&topology, &nodes));
    }
    let settings = ValidSettings::new(wanted, &usable)?;
    let (main_cpus, visited) = cpus_of_main(&settings, &usable, &topology, &nodes);
    let state_directory = StateDirectory::open(&arguments.state_dir)?;
    let state = state_directory.load()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = PrivateSocket::open(&arguments.run_dir, Limits::default())?;
        let eal = start_eal(&settings, &nodes, main_cpus)?;
        serve(
            (&settings, &topology, &visited),
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
/// frames and table; empty for anywhere. Where workers have all cores of that node, these are the second, to be visited.
fn cpus_of_main(
    settings: &ValidSettings,
    usable: &UsableCores,
    topology: &Topology,
    devices: &[Option<u16>],
) -> (Vec<usize>, Vec<u16>) {
    let Some(home) = topology.home(devices) else {
        return (Vec::new(), Vec::new());
    };
    let workers: Vec<u16> = settings.cores().iter().map(|core| core.get()).collect();
    let there = usable.on_node(topology, home);
    let beside = there.iter().filter(|core| !workers.contains(core));
    let beside: Vec<usize> = beside.map(|core| usize::from(*core)).collect();
    if beside.is_empty() {
        log::info!("no core of node {home}, where the NICs are, is left for the main thread");
        return (beside, there);
    }
    (beside, Vec::new())
}

/// Starts DPDK with huge pages, or without when that is allowed, and says which.
fn start_eal(
    settings: &ValidSettings,
    devices: &[Option<u16>],
    main_cpus: Vec<usize>,
) -> anyhow::Result<Eal> {
    let devices = match devices {
        [] => &[None; PORTS_EXPECTED],
        known => known,
    };
    let mtu = settings
        .ports()
        .iter()
        .filter_map(|port| port.mtu)
        .max()
        .unwrap_or(MTU_EXPECTED);
    let by_node = frames_mib_by_node(devices, settings.cores().len(), mtu, settings.memory_mib());
    let megabytes = by_node.values().sum();
    let on_nodes = by_node.into_iter();
    let mut arguments = EalArguments {
        memory: Memory::HugePages { megabytes },
        numa_megabytes: on_nodes
            .filter_map(|(node, mib)| Some((node?, mib)))
            .collect(),
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
    (settings, topology, visited): (&ValidSettings, &Topology, &[u16]),
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
    let (ports, queues, pools) = port::open_all(
        eal,
        &wanted,
        (settings.exception_path(), settings.transmit_checksums()),
        settings.cores(),
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
    let table = {
        let _there = Visit::to(visited);
        file.open(size, workers, tick_of(now_nanoseconds()))?
    };
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
    // One worker is enough for that, and each has a way out of every port.
    let bonds = ports.iter().enumerate();
    let bonds: Vec<(usize, BondMode)> = bonds
        .filter_map(|(number, port)| Some((number, port.bond?)))
        .collect();
    let threads = start_workers(
        (settings, topology),
        eal,
        &shared,
        (queues, &pools),
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
    (settings, topology): (&ValidSettings, &Topology),
    eal: &Eal,
    shared: &Arc<Shared>,
    (queues, pools): (Vec<Vec<PortQueues>>, &Pools),
    (counters, bonds): (&[Arc<WorkerCounters>], &[(usize, BondMode)]),
    mirror: &MirrorHandle,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let workers = settings.cores().len();
    let snapshot = shared.publication.current();
    // All before the first worker runs: what it ends must not be found free by a shard that is made later.
    let places = settings.cores().iter().enumerate();
    let shards: Vec<Shard> = places
        .map(|(number, core)| {
            let _there = topology.is_several().then(|| Visit::to(&[core.get()]));
            take_up_shard(shared, &snapshot, number, workers)
        })
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
                pools.near(topology.node(core.get())),
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
    for port in ports {
        let Some(Crossing { node, cores }) =
            topology.crossing(port.info.numa_node, &port.polled_by)
        else {
            continue;
        };
        let name = &port.name;
        log::warn!(
            "port {name} is on NUMA node {node}, the workers on cores {cores:?} are not: its packets cross between the nodes; \
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
