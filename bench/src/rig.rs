//! A director in memory: a service with its servers, routes and neighbours known, a connection table, and an engine for
//! each worker. Clients are behind port 0, servers on port 1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use pollux_engine::connection::{
    ConnectionTable, FlowKey, Shard, State, TableError, TableSize, Timeouts,
};
use pollux_engine::counters::WorkerCounters;
use pollux_engine::forward::tunnel::Encapsulation;
use pollux_engine::forwarding_table::{
    ForwardingTable, Interface, NeighbourSpec, PortSpec, RouteSpec, RouteTarget,
};
use pollux_engine::memory::Memory;
use pollux_engine::service::{DestinationSpec, ServiceIdentity, ServiceSpec};
use pollux_engine::wire::ethernet::MacAddress;
use pollux_engine::wire::protocol;
use pollux_engine::{Snapshot, SnapshotSpec, Worker};
use thiserror::Error;

use crate::flows::Client;
use crate::huge_pages::{HugePageError, HugePages};
use crate::measurement::{Family, Method, Pages, Scheduler};

/// The port that clients are behind.
pub const CLIENT_PORT: u16 = 0;
/// The port that servers are on.
pub const SERVER_PORT: u16 = 1;
const PORTS: usize = 2;
const SERVICE_PORT: u16 = 80;
const SERVER_SERVICE_PORT: u16 = 8080;
/// The network IPv6 clients are in; the last 32 bits tell them apart.
pub const CLIENT_NETWORK_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0);
/// The most servers a service has here: a /24 of them.
pub const SERVERS_MAX: u32 = 250;
/// Time without traffic that no benchmark reaches.
const FOR_EVER_S: u32 = 100 * 24 * 3600;

const GATEWAY_MAC: MacAddress = [2, 0, 0, 0, 1, 254];

/// What is to be built.
#[derive(Debug, Clone, Copy)]
pub struct RigSpec {
    /// How packets reach the servers.
    pub method: Method,
    /// IP version, of clients and servers.
    pub family: Family,
    /// Servers of the service, all of weight 1.
    pub servers: u32,
    /// The service's scheduler.
    pub scheduler: Scheduler,
    /// Workers.
    pub workers: usize,
    /// Entries of the table, at least.
    pub capacity: u32,
    /// How long a connection lives of which only the SYN was seen; none: as long as in the kernel.
    pub syn_timeout_s: Option<u32>,
    /// Whether huge pages are tried.
    pub huge_pages: bool,
}

/// Why there is no director.
#[derive(Debug, Error)]
pub enum RigError {
    /// The table's memory.
    #[error("no memory for a table of {connections} connections ({mebibytes} MiB): {source}")]
    Memory {
        /// Its entries.
        connections: u32,
        /// Its size.
        mebibytes: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The director. Its engines are handed out apart, one a worker.
#[derive(Debug)]
pub struct Rig {
    /// The connections.
    pub table: ConnectionTable,
    /// Services, servers, routes.
    pub snapshot: Snapshot,
    /// Counters by worker.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// Where the table lies.
    pub pages: Pages,
    family: Family,
    servers: u32,
    /// Given back after the table's memory: dropped last.
    _reserved: Option<HugePages>,
}

/// Keys of clients' flows to the service, and of the answers to them.
#[derive(Debug, Clone, Copy)]
pub struct Flows(Family);

impl Flows {
    /// Of this family.
    pub fn new(family: Family) -> Self {
        Self(family)
    }

    /// From a client to the service.
    #[inline]
    pub fn inbound(self, client: Client) -> FlowKey {
        self.key(client, service_address(self.0), SERVICE_PORT)
    }

    /// From a server to a client.
    #[inline]
    pub fn outbound(self, client: Client, server: u32) -> FlowKey {
        self.key(client, server_address(self.0, server), SERVER_SERVICE_PORT)
            .reversed()
    }

    #[inline]
    fn key(self, client: Client, to: IpAddr, port: u16) -> FlowKey {
        let ports = u32::from(client.port) << 16 | u32::from(port);
        match to {
            IpAddr::V4(to) => FlowKey::v4(protocol::TCP, client.address, to.to_bits(), ports),
            IpAddr::V6(to) => {
                let client = CLIENT_NETWORK_V6.to_bits() | u128::from(client.address);
                FlowKey::v6(protocol::TCP, &client.to_be_bytes(), &to.octets(), ports)
            }
        }
    }
}

/// A port's MAC.
pub fn port_mac(port: u16) -> MacAddress {
    let [high, low] = port.to_be_bytes();
    [2, 0, 0, 0, high, low]
}

impl Rig {
    /// Builds it, and the engines of its workers.
    ///
    /// # Errors
    /// [`RigError`]. No huge pages are no error: [`Rig::pages`] says so.
    pub fn build(spec: &RigSpec) -> Result<(Self, Vec<Worker>), RigError> {
        let made = table(spec.family, spec.capacity, spec.workers, spec.huge_pages)?;
        let (table, pages, reserved) = made;
        let counters: Vec<_> = (0..spec.workers)
            .map(|_| Arc::new(WorkerCounters::new(PORTS)))
            .collect();
        let engines = counters.iter().enumerate();
        let engines = engines
            .map(|(worker, counters)| {
                let shard = Shard::new(&table, worker, spec.workers, |_| {});
                Worker::new(shard, Arc::clone(counters))
            })
            .collect();
        let rig = Self {
            snapshot: snapshot(spec),
            table,
            counters,
            pages,
            family: spec.family,
            servers: spec.servers,
            _reserved: reserved,
        };
        Ok((rig, engines))
    }

    /// The virtual service.
    pub fn service(&self) -> SocketAddr {
        service(self.family)
    }

    /// Keys of flows to the service.
    pub fn flows(&self) -> Flows {
        Flows::new(self.family)
    }

    /// Servers by the number of their destination.
    pub fn servers(&self) -> Vec<SocketAddr> {
        (0..self.servers)
            .map(|number| server(self.family, number))
            .collect()
    }
}

/// A table, the pages it lies in, and what keeps those.
///
/// # Errors
/// [`RigError`]. No huge pages are no error.
pub fn table(
    family: Family,
    capacity: u32,
    workers: usize,
    huge_pages: bool,
) -> Result<(ConnectionTable, Pages, Option<HugePages>), RigError> {
    let size = match family {
        Family::Ipv4 => TableSize::for_connections(capacity),
        Family::Ipv6 => TableSize::with_ipv6(capacity, capacity),
    };
    let (memory, reserved) = table_memory(size, huge_pages)?;
    let pages = if reserved.is_some() {
        Pages::Huge
    } else {
        Pages::Normal
    };
    let seed = std::array::from_fn(|word| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(word as u64 + 1));
    let table = ConnectionTable::create(memory, size, workers, seed)?;
    Ok((table, pages, reserved))
}

/// Memory of the table, in huge pages when they are wanted and to be had; then what keeps them.
fn table_memory(
    size: TableSize,
    huge_pages: bool,
) -> Result<(Memory, Option<HugePages>), RigError> {
    let reserved = if huge_pages {
        HugePages::for_bytes(size.bytes())
            .inspect_err(say_once)
            .ok()
    } else {
        None
    };
    if let Some(reserved) = reserved
        && let Ok(memory) = Memory::anonymous(size.lines(), true)
    {
        return Ok((memory, Some(reserved)));
    }
    let memory = Memory::anonymous(size.lines(), false).map_err(|source| RigError::Memory {
        connections: size.connections(),
        mebibytes: size.bytes() >> 20,
        source,
    })?;
    Ok((memory, None))
}

fn say_once(error: &HugePageError) {
    eprintln!("pollux-bench: normal pages: {error}");
}

/// The virtual service of a family.
pub fn service(family: Family) -> SocketAddr {
    SocketAddr::new(service_address(family), SERVICE_PORT)
}

/// A server of a family.
pub fn server(family: Family, number: u32) -> SocketAddr {
    SocketAddr::new(server_address(family, number), SERVER_SERVICE_PORT)
}

fn service_address(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(198, 51, 100, 1).into(),
        Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).into(),
    }
}

fn server_address(family: Family, number: u32) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from_bits(0xcb00_7102 + number).into(),
        Family::Ipv6 => {
            let network = Ipv6Addr::new(0x2001, 0xdb8, 0x2, 0, 0, 0, 0, 2).to_bits();
            Ipv6Addr::from_bits(network + u128::from(number)).into()
        }
    }
}

fn snapshot(spec: &RigSpec) -> Snapshot {
    let destinations = (0..spec.servers).rev();
    let destinations = destinations.map(|number| DestinationSpec {
        number,
        address: server_address(spec.family, number),
        port: SERVER_SERVICE_PORT,
        method: spec.method.engine(),
        encapsulation: Encapsulation::default(),
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    });
    let service = ServiceSpec {
        number: 0,
        identity: ServiceIdentity::Address {
            protocol: protocol::TCP,
            address: service_address(spec.family),
            port: SERVICE_PORT,
        },
        persistence: None,
        one_packet: false,
        timeouts: None,
        scheduler: spec.scheduler.engine(),
        destinations: destinations.collect(),
    };
    let mut timeouts = Timeouts::default();
    // Benchmarks turn the clock forward past the timeout of what they opened, not of what they keep.
    timeouts.set(
        State::Established,
        pollux_engine::clock::seconds(FOR_EVER_S),
    );
    if let Some(timeout) = spec.syn_timeout_s {
        timeouts.set(State::SynRecv, pollux_engine::clock::seconds(timeout));
    }
    let compiled = SnapshotSpec {
        generation: 1,
        services: vec![service],
        timeouts,
        ..SnapshotSpec::default()
    };
    Snapshot::compile(
        &compiled,
        Arc::new(forwarding_table(spec)),
        None,
        spec.workers,
    )
}

/// Servers are neighbours, clients behind a gateway.
fn forwarding_table(spec: &RigSpec) -> ForwardingTable {
    let family = spec.family;
    let (client_side, server_side) = (interface(CLIENT_PORT), interface(SERVER_PORT));
    let (gateway, own, networks): (IpAddr, [IpAddr; PORTS], [(IpAddr, u8); 3]) = match family {
        Family::Ipv4 => (
            Ipv4Addr::new(192, 0, 2, 254).into(),
            [[192, 0, 2, 1].into(), [203, 0, 113, 1].into()],
            [
                (Ipv4Addr::UNSPECIFIED.into(), 0),
                (Ipv4Addr::new(192, 0, 2, 0).into(), 24),
                (Ipv4Addr::new(203, 0, 113, 0).into(), 24),
            ],
        ),
        Family::Ipv6 => (
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe).into(),
            [1, 2].map(|net| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 1).into()),
            [
                (Ipv6Addr::UNSPECIFIED.into(), 0),
                (Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0).into(), 64),
                (Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0).into(), 64),
            ],
        ),
    };
    let ports = own.iter().zip(0..).map(|(own, port)| PortSpec {
        mac: port_mac(port),
        other_macs: Vec::new(),
        mtu: 1500,
        addresses: vec![(*own, if own.is_ipv4() { 24 } else { 64 })],
        fills_udp_checksums: false,
    });
    let targets = [
        RouteTarget::Gateway(client_side, gateway),
        RouteTarget::OnLink(client_side),
        RouteTarget::OnLink(server_side),
    ];
    let routes = networks.into_iter().zip(targets);
    let routes: Vec<RouteSpec> = routes
        .map(|((address, prefix_length), target)| RouteSpec {
            address,
            prefix_length,
            target,
            preferred_source: None,
        })
        .collect();
    let servers = (0..spec.servers).map(|number| NeighbourSpec {
        interface: server_side,
        address: server_address(family, number),
        mac: [2, 0, 0, 0, 2, u8::try_from(number).unwrap_or(u8::MAX)],
    });
    let gateway = NeighbourSpec {
        interface: client_side,
        address: gateway,
        mac: GATEWAY_MAC,
    };
    let neighbours: Vec<NeighbourSpec> = servers.chain([gateway]).collect();
    ForwardingTable::new(1, ports.collect(), &routes, &neighbours)
}

fn interface(port: u16) -> Interface {
    Interface { port, vlan: None }
}

/// Source and destination MAC of a frame that arrives on a port.
pub fn macs_on(port: u16) -> (MacAddress, MacAddress) {
    let neighbour = if port == CLIENT_PORT {
        GATEWAY_MAC
    } else {
        [2, 0, 0, 0, 2, 0]
    };
    (neighbour, port_mac(port))
}
