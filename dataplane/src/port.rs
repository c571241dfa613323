//! Ports: each a DPDK device on the wire and a TAP to the kernel, their queues dealt out to the workers.

use std::iter;
use std::path::Path;
use std::sync::{Arc, Mutex};

use dpdk_bindings::{
    AttachError, Distribution, Eal, HashedEnd, Member, MempoolError, Port, PortError, PortInfo,
    PortSettings as DevicePortSettings, Queues, RxQueue, TxQueue,
};
use pollux_api::bond::BondMode;
use pollux_api::memory::WIRE_DESCRIPTORS;
use pollux_api::numa::Topology;
use pollux_api::settings::{ExceptionPath, PortSide};
use thiserror::Error;

use crate::bond;
use crate::exception_path::{self, ExceptionPathError, TapDriver};
use crate::kernel::tap::TapError;
use crate::kernel::{MacAddress, TapName, TapNameError, tap};
use crate::numa;
use crate::pools::Pools;
use crate::settings::{Core, Device, ValidPort};
use crate::transmit::{TransmitBuffer, Transmitter};
use crate::wire::Wire;
use crate::worker::PortQueues;

/// Why a port cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is nothing to do.
    #[error(
        "no ports: no NIC is bound to a DPDK driver and the settings name none; bind one (`pollux setup \
         0000:03:00.0`) or give `--port NAME=DEVICE`"
    )]
    NoPorts,
    /// The device cannot be had.
    #[error("port {name}: {source}")]
    Attach {
        /// Which port.
        name: String,
        /// Why.
        source: AttachError,
    },
    /// The device does not do what is asked of it.
    #[error("port {name}: {source}")]
    Device {
        /// Which port.
        name: String,
        /// Why.
        source: PortError,
    },
    /// There is no way to the kernel.
    #[error("port {name}: {source}")]
    ExceptionPath {
        /// Which port.
        name: String,
        /// Why.
        source: ExceptionPathError,
    },
    /// The name is none for an interface.
    #[error(transparent)]
    Name(#[from] TapNameError),
    /// The TAP cannot be set up.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// No memory for frames.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
}

impl OpenError {
    /// What the device of a port does not do.
    fn of_device(port: &TapName) -> impl Fn(PortError) -> Self + Copy {
        move |source| Self::Device {
            name: port.to_string(),
            source,
        }
    }
}

/// A port in use, for control.
#[derive(Debug)]
pub struct OpenPort {
    /// Its name, also its TAP's.
    pub name: TapName,
    /// The device it was made from.
    pub device: String,
    /// The device on the wire.
    pub wire: Wire,
    /// What it is.
    pub info: PortInfo,
    /// Its TAP.
    pub tap: Port,
    /// What made the TAP.
    pub tap_driver: TapDriver,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Receive queues of the device.
    pub rx_queues: u16,
    /// The cores of the workers that have one, in their order.
    pub polled_by: Vec<u16>,
    /// Transmit queues of the device.
    pub tx_queues: u16,
    /// How frames come to the receive queues.
    pub distribution: Distribution,
    /// Whether the device verifies the checksums of IPv4 headers.
    pub verifies_ipv4_headers: bool,
    /// Whether the device fills in checksums of UDP.
    pub fills_udp_checksums: bool,
    /// What kind of a bond it is.
    pub bond: Option<BondMode>,
}

/// The devices that are there, by names of our own, when the settings name none.
pub fn found_ports(eal: &Eal) -> Result<Vec<ValidPort>, OpenError> {
    let devices = eal.unattached_devices().into_iter().enumerate();
    devices
        .map(|(number, device)| {
            let name: TapName = format!("pollux{number}").parse()?;
            Ok(ValidPort {
                name,
                device: Device::Virtual(device),
                mtu: None,
                side: None,
            })
        })
        .collect()
}

/// Opens every port with its TAP; the queues come back by worker. `memory_mib` is what DPDK was given, if it was said.
///
/// # Errors
/// [`OpenError`] of the first port that cannot be had; those before it are closed again.
pub async fn open_all(
    eal: &Eal,
    settings: &[ValidPort],
    (exception_path, transmit_checksums): (ExceptionPath, bool),
    cores: &[Core],
    memory_mib: Option<u32>,
    topology: &Topology,
) -> Result<(Vec<OpenPort>, Vec<Vec<PortQueues>>, Pools), OpenError> {
    if settings.is_empty() {
        return Err(OpenError::NoPorts);
    }
    let cores: Vec<u16> = cores.iter().map(|core| core.get()).collect();
    let numbered = settings.iter().enumerate();
    let attached: Vec<Attached> = numbered
        .map(|(number, port)| Attached::new(eal, number, port))
        .collect::<Result<_, _>>()?;
    let mtu_max = attached.iter().map(|port| port.mtu).max().unwrap_or(0);
    // Memory has a node only where there are several, and only that of huge pages.
    let has_nodes = topology.is_several() && eal.uses_huge_pages();
    let memory_of = |port: &Attached| port.node.filter(|_| has_nodes);
    // Each member of a bond has queues of its own.
    let devices = attached
        .iter()
        .flat_map(|port| iter::repeat_n(memory_of(port), port.settings.device.count()));
    let devices: Vec<Option<u16>> = devices.collect();
    let pools = Pools::create(eal, &devices, cores.len(), mtu_max, memory_mib)?;
    let mut ports = Vec::new();
    let mut by_worker: Vec<Vec<PortQueues>> = cores.iter().map(|_| Vec::new()).collect();
    for port in attached {
        let memory = memory_of(&port);
        let (open, queues) = port
            .open(
                eal,
                (exception_path, transmit_checksums),
                (&cores, topology),
                (&pools, memory),
            )
            .await?;
        ports.push(open);
        by_worker
            .iter_mut()
            .zip(queues)
            .for_each(|(worker, queues)| worker.push(queues));
    }
    Ok((ports, by_worker, pools))
}

/// The node a device is on; what DPDK says of a bond is where its memory is, so that is asked of its members.
fn node_of(device: &Device, info: &PortInfo) -> Option<u16> {
    match device {
        Device::Bond(..) => device
            .pci_addresses()
            .iter()
            .find_map(|address| numa::of_device(Path::new("/"), &address.to_string())),
        _ => info.numa_node,
    }
}

/// A port whose device is had, and not more.
struct Attached<'a> {
    number: usize,
    settings: &'a ValidPort,
    wire: Port,
    members: Vec<(String, Member)>,
    mtu: u16,
    /// The NUMA node of its device.
    node: Option<u16>,
}

impl<'a> Attached<'a> {
    fn new(eal: &Eal, number: usize, settings: &'a ValidPort) -> Result<Self, OpenError> {
        let taken = bond::attach(eal, number, &settings.device);
        let (wire, members) = taken.map_err(|source| OpenError::Attach {
            name: settings.name.to_string(),
            source,
        })?;
        let of_device = OpenError::of_device(&settings.name);
        let mtu = match settings.mtu {
            Some(mtu) => mtu,
            None => wire.mtu().map_err(of_device)?,
        };
        bond::warn_of_blind_members(&settings.name, &members);
        let info = wire.info().map_err(of_device)?;
        let node = node_of(&settings.device, &info);
        Ok(Self {
            number,
            settings,
            wire,
            members,
            mtu,
            node,
        })
    }

    /// Starts it and its TAP, with frames in the memory of a node if it matters.
    async fn open(
        self,
        eal: &Eal,
        (exception_path, transmit_checksums): (ExceptionPath, bool),
        (cores, topology): (&[u16], &Topology),
        (pools, memory): (&Pools, Option<u16>),
    ) -> Result<(OpenPort, Vec<PortQueues>), OpenError> {
        let Self {
            number,
            settings,
            wire,
            members,
            mtu,
            node,
        } = self;
        let name = settings.name.clone();
        let of_device = OpenError::of_device(&settings.name);
        let (pool, workers) = (pools.near(memory), cores.len());
        let queues = u16::try_from(workers).unwrap_or(u16::MAX);
        let wanted = DevicePortSettings {
            rx_queues: queues,
            tx_queues: queues,
            rx_descriptors: WIRE_DESCRIPTORS,
            tx_descriptors: WIRE_DESCRIPTORS,
            numa_node: pools.with_memory(memory),
            mtu: settings.mtu,
            hash: match settings.side {
                None => HashedEnd::Both,
                Some(PortSide::Clients) => HashedEnd::Source,
                Some(PortSide::Servers) => HashedEnd::Destination,
            },
            verify_ipv4_headers: true,
            fill_udp_checksums: transmit_checksums,
            name_vlans: true,
        };
        let wire_queues = wire.start(&wanted, &pool).map_err(of_device)?;
        report_queues(settings, &wire_queues, workers);
        let info = PortInfo {
            numa_node: node,
            ..wire.info().map_err(of_device)?
        };
        // Frames to multicast groups the kernel has joined: VRRP, ND. The engine punts them, the kernel chooses.
        // A device that cannot be told which is told to let everything pass.
        if let Err(error) = wire
            .set_all_multicast(true)
            .or_else(|_| wire.set_promiscuous(true))
        {
            log::warn!("port {name}: receives no multicast but what the device lets pass: {error}");
        }
        let mac = wire.mac().map_err(of_device)?;
        let tap = exception_path::open(
            eal,
            exception_path,
            number,
            (&name, MacAddress(mac), mtu),
            queues,
            &pool,
        )
        .map_err(|source| OpenError::ExceptionPath {
            name: settings.name.to_string(),
            source,
        })?;
        tap::set_up(&name, MacAddress(mac), mtu).await?;
        let pollers = topology.pollers(cores, node, wire_queues.rx.len());
        let polled_by = pollers.iter().filter_map(|place| cores.get(*place));
        let open = OpenPort {
            name,
            device: settings.device.to_string(),
            wire: Wire::new(wire, info.kernel_interface, members),
            info,
            tap: tap.port,
            tap_driver: tap.driver,
            mac,
            mtu,
            rx_queues: u16::try_from(wire_queues.rx.len()).unwrap_or(u16::MAX),
            polled_by: polled_by.copied().collect(),
            tx_queues: u16::try_from(wire_queues.tx.len()).unwrap_or(u16::MAX),
            distribution: wire_queues.distribution,
            verifies_ipv4_headers: wire_queues.verifies_ipv4_headers,
            fills_udp_checksums: wire_queues.fills_udp_checksums,
            bond: match settings.device {
                Device::Bond(mode, _) => Some(mode),
                _ => None,
            },
        };
        Ok((open, deal_out(wire_queues, tap.queues, (&pollers, workers))))
    }
}

/// Says at the start when workers will not share the load as the administrator may think they do.
fn report_queues(settings: &ValidPort, queues: &Queues, workers: usize) {
    let name = &settings.name;
    if queues.rx.len() < workers {
        log::warn!(
            "port {name}: the device has {} receive queues for {workers} workers; the others receive nothing from it",
            queues.rx.len()
        );
    }
    if queues.tx.len() < workers {
        log::warn!(
            "port {name}: {workers} workers share {} transmit queues of the device",
            queues.tx.len()
        );
    }
    if queues.rx.len() > 1 && queues.distribution == Distribution::Driver {
        log::info!(
            "port {name}: the driver has no RSS to set up; it spreads frames over its {} queues its own way, or gives all \
             of them to the first worker",
            queues.rx.len()
        );
    }
    if queues.rx.len() > 1
        && settings.side.is_some()
        && queues.distribution != Distribution::RssOfOneEnd
    {
        log::info!(
            "port {name}: the device cannot choose queues by the clients' end alone, as `side` asks: answers of servers come \
             to any worker, which is as right, and a little slower"
        );
    }
}

/// `pollers` are the workers that the device's queues go to.
fn deal_out(wire: Queues, tap: Queues, (pollers, workers): (&[usize], usize)) -> Vec<PortQueues> {
    let wire_rx = deal_receivers(wire.rx, pollers, workers);
    let everyone: Vec<usize> = (0..workers).collect();
    let tap_rx = deal_receivers(tap.rx, &everyone, workers);
    let wire_tx = deal_transmitters(wire.tx, workers);
    let tap_tx = deal_transmitters(tap.tx, workers);
    let receivers = wire_rx.into_iter().zip(tap_rx);
    let transmitters = wire_tx.into_iter().zip(tap_tx);
    receivers
        .zip(transmitters)
        .map(|((wire_rx, tap_rx), (wire_tx, tap_tx))| PortQueues {
            wire_rx,
            wire_tx,
            tap_rx,
            tap_tx,
        })
        .collect()
}

fn deal_receivers(queues: Vec<RxQueue>, pollers: &[usize], workers: usize) -> Vec<Option<RxQueue>> {
    let mut dealt: Vec<Option<RxQueue>> = (0..workers).map(|_| None).collect();
    for (queue, poller) in queues.into_iter().zip(pollers) {
        if let Some(place) = dealt.get_mut(*poller) {
            *place = Some(queue);
        }
    }
    dealt
}

/// A queue for every worker; where there are too few, all of them are shared, worker by worker in turn.
fn deal_transmitters(queues: Vec<TxQueue>, workers: usize) -> Vec<TransmitBuffer> {
    if queues.len() >= workers {
        return queues
            .into_iter()
            .take(workers)
            .map(|queue| TransmitBuffer::new(Transmitter::Own(queue)))
            .collect();
    }
    let shared: Vec<Arc<Mutex<TxQueue>>> = queues
        .into_iter()
        .map(|queue| Arc::new(Mutex::new(queue)))
        .collect();
    let in_turn = shared.iter().cycle().take(workers);
    in_turn
        .map(|queue| TransmitBuffer::new(Transmitter::Shared(Arc::clone(queue))))
        .collect()
}
