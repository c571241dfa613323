//! `<run-dir>/dataplane.sock`: what `polluxd` may ask of `pollux-dataplane`. Private: no other program speaks it.

use std::net::SocketAddr;

use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::configuration::{Configuration, Transaction};
use crate::identity::{ForwardingMethod, Protocol, ServiceId};
use crate::persistence::PersistenceEngine;
use crate::statistics::{DropReport, ServiceStatistics, TrafficTotals};
use crate::synchronisation::SyncStatus;
use crate::tag_first::{TagFirst, serde_tag_first};

/// A request to the data plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", tag = "query")]
pub enum Query {
    /// Validate, compile, swap, wait for every worker, store, answer [`Report::Applied`].
    Transact(Transaction),
    /// Counters to zero. Answered by [`Report::Applied`].
    Zero {
        /// Which service; none: all.
        service: Option<ServiceId>,
    },
    /// Which configuration runs. Answered by [`Report::Generation`].
    Generation,
    /// Answered by [`Report::Configuration`].
    Configuration,
    /// Answered by [`Report::Services`].
    Services,
    /// One service. Answered by [`Report::Services`] with one service, or none when there is no such service.
    Service {
        /// Which.
        service: ServiceId,
    },
    /// Answered by [`Report::Director`].
    Director,
    /// Answered by [`Report::Table`].
    Table,
    /// Answered by [`Report::Connections`].
    Connections(ConnectionQuery),
    /// Answered by [`Report::Ports`].
    Ports,
    /// Answered by [`Report::Workers`].
    Workers,
    /// Answered by [`Report::Drops`].
    Drops,
    /// Answered by [`Report::Sync`].
    Sync,
}

serde_tag_first!(Query);

impl TagFirst for Query {
    const TAG: &'static str = "query";

    fn is_direct(variant: &str) -> bool {
        variant == "transact"
    }

    fn direct<'de, A: MapAccess<'de>>(
        _: &str,
        fields: MapAccessDeserializer<A>,
    ) -> Result<Self, A::Error> {
        Transaction::deserialize(fields).map(Self::Transact)
    }

    fn whole(value: Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }
}

/// An answer of the data plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "report", content = "value")]
pub enum Report {
    /// The generation every worker runs with now.
    Applied {
        /// Counts up with every transaction, from 0 for the empty configuration; survives a restart.
        generation: u64,
    },
    /// Which configuration runs: a connection that has seen it need not be sent it again.
    Generation {
        /// Its generation.
        generation: u64,
    },
    /// What runs.
    Configuration {
        /// Its generation.
        generation: u64,
        /// The configuration.
        configuration: Configuration,
    },
    /// The services asked for, with counters.
    Services(Vec<ServiceStatistics>),
    /// What holds for the director as a whole.
    Director(DirectorStatus),
    /// How full the connection table is.
    Table(TableStatus),
    /// A page of connections.
    Connections(ConnectionPage),
    /// All ports.
    Ports(Vec<PortStatus>),
    /// All workers.
    Workers(Vec<WorkerStatus>),
    /// Fates by port.
    Drops(Vec<DropReport>),
    /// The daemons of connection synchronisation.
    Sync(SyncStatus),
}

/// What holds for the director as a whole, whatever its services are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorStatus {
    /// Connections the table has room for; fixed for the life of the data plane.
    pub connections_max: u32,
    /// How long connections live without traffic.
    pub timeouts: Timeouts,
    /// Traffic of all services, past ones included, since start or since all counters were set to zero.
    pub totals: TrafficTotals,
    /// The same of each worker since start, whatever was set to zero.
    #[serde(default)]
    pub workers: Vec<TrafficTotals>,
}

/// How full the connection table is, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Entries in use: connections, and templates of persistent services.
    pub connections: u64,
    /// Entries there are; fixed for the life of the data plane.
    pub connections_max: u32,
    /// How many of those have room for IPv6.
    pub connections_max_ipv6: u32,
    /// How many of these are in use, by IPv4 as well when there is no other entry left; counted as `states` are.
    #[serde(default)]
    pub connections_ipv6: u64,
    /// Unestablished connections ended early to make room, since start.
    pub evicted: u64,
    /// Packets forwarded without an entry because there was none left, since start.
    pub forwarded_without_entry: u64,
    /// Entries by state, those of no entry too. Each worker counts its own about once a second, so that the sum may
    /// differ from `connections`.
    pub states: Vec<StateCount>,
}

/// Entries in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCount {
    /// Whose state it is: `tcp`, `udp`, `sctp`, or `template` for those of persistent services.
    pub kind: String,
    /// IPVS's name of the state.
    pub state: String,
    /// How many.
    pub connections: u64,
}

/// The timeouts that `ipvsadm --set` names, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP, state ESTABLISHED.
    pub tcp_s: u32,
    /// TCP, state FIN_WAIT.
    pub tcp_fin_s: u32,
    /// UDP.
    pub udp_s: u32,
}

/// Which connections to list. The table is walked in pages, so that a big one never blocks anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionQuery {
    /// Entry number to start at: 0, then [`ConnectionPage::next`].
    pub start: u32,
    /// At most this many are listed.
    pub limit: u32,
}

/// Some connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionPage {
    /// The connections, in table order.
    pub connections: Vec<ConnectionReport>,
    /// Where the next page starts; none at the end of the table.
    pub next: Option<u32>,
}

/// One connection, as `ipvsadm -Lc` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// The transport protocol; none for a persistence template of a firewall mark's service.
    pub protocol: Option<Protocol>,
    /// The service it came by; none when that is gone.
    pub service: Option<ServiceId>,
    /// Seconds until it expires without traffic.
    pub expires_s: u32,
    /// IPVS's state name: `ESTABLISHED`, `SYN_RECV`, `UDP`, ...
    pub state: String,
    /// The client.
    pub client: SocketAddr,
    /// The virtual service's address.
    pub virtual_address: SocketAddr,
    /// The real server.
    pub destination: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// Another director has told of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synced: bool,
    /// Of a template that a persistence engine made: its name and what it goes by, as far as the table keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<(PersistenceEngine, String)>,
}

impl ConnectionReport {
    /// How a call is listed by its tag in the connection table, which does not keep its Call-ID.
    pub fn call(tag: u64) -> (PersistenceEngine, String) {
        (PersistenceEngine::Sip, format!("call-{tag:012x}"))
    }

    /// The protocol as listings name it.
    pub fn protocol_name(&self) -> &'static str {
        self.protocol.map_or("IP", Protocol::as_str)
    }
}

/// A port as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Its name, also that of its TAP.
    pub name: String,
    /// The PCI address or vdev string it was made from.
    pub device: String,
    /// DPDK's driver: `net_af_xdp`, `net_ixgbe`, ...
    pub driver: String,
    /// MAC address, `02:00:00:00:00:01`.
    pub mac: String,
    /// Maximum transmission unit in bytes.
    pub mtu: u16,
    /// Whether the device was there at the start and is no more.
    #[serde(default)]
    pub gone: bool,
    /// Whether the link is up.
    pub link_up: bool,
    /// Link speed in Mbit/s; none when the driver does not know.
    pub speed_mbps: Option<u32>,
    /// Receive queues.
    pub receive_queues: u16,
    /// Transmit queues.
    pub transmit_queues: u16,
    /// How frames come to the receive queues: `one queue`, `rss`, `rss of the clients' end` or `the driver's way`.
    #[serde(default)]
    pub spread: String,
    /// Whether the device verifies the checksums of IPv4 headers.
    #[serde(default)]
    pub verifies_checksums: bool,
    /// Whether the device fills in the checksums of GUE tunnels.
    #[serde(default)]
    pub fills_checksums: bool,
    /// What makes the port's TAP and carries frames to the kernel: `net_tap` or `vhost-net`.
    #[serde(default)]
    pub exception_path: String,
    /// The NUMA node the device is plugged into, where it says so.
    #[serde(default)]
    pub numa_node: Option<u16>,
    /// MAC addresses beside its own whose frames are the director's.
    #[serde(default)]
    pub other_macs: Vec<String>,
    /// The devices that a bond is made of; none of another device.
    #[serde(default)]
    pub members: Vec<MemberStatus>,
    /// Packets and bytes the NIC says it received, sent, missed and failed.
    pub nic: NicCounters,
    /// Frames the kernel sent through the TAP, forwarded to the wire.
    pub kernel_transmitted: u64,
    /// The driver's extended statistics, by name.
    pub extended: Vec<(String, u64)>,
}

/// A device that is part of a bond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The PCI address or vdev string.
    pub device: String,
    /// Whether it was there at the start and is no more.
    pub gone: bool,
    /// Whether its link is up.
    pub link_up: bool,
    /// Whether frames go over it now: it is the one that carries all of an active-backup bond, or one that LACP's partner
    /// agreed to.
    pub carries: bool,
}

/// The NIC's own counters (`rte_eth_stats`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NicCounters {
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets the NIC dropped because no descriptor was free.
    pub missed_packets: u64,
    /// Packets received with errors.
    pub receive_errors: u64,
    /// Packets that failed to be sent.
    pub send_errors: u64,
    /// Receive buffer allocations that failed.
    pub no_buffer: u64,
}

/// A worker as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number, from 0.
    pub worker: u16,
    /// The core it is pinned to.
    pub core: u16,
    /// Loops since start.
    pub loops: u64,
    /// Loops that found at least one packet.
    pub busy_loops: u64,
    /// Packets received from the ports.
    pub received: u64,
    /// Connections it created.
    pub connections_created: u64,
    /// Connections it reaped.
    pub connections_expired: u64,
    /// Entries of its shard in use.
    pub connections: u64,
    /// Of the tables it runs with: they are made anew with each generation of the configuration, and with the kernel's news.
    pub generation: u64,
    /// Unestablished connections it ended early to make room.
    pub connections_evicted: u64,
    /// Packets it forwarded without an entry because the table was full.
    pub forwarded_without_entry: u64,
    /// ICMP errors it made.
    pub icmp_errors: u64,
    /// Share of the last second it spent with packets, 0 to 1.
    pub busy_share: f64,
    /// Time it spent with packets since start, in nanoseconds.
    pub busy_ns: u64,
    /// Connections whose first answer came to the worker that made them, this one.
    #[serde(default)]
    pub answers_met: u64,
    /// Connections of other workers whose first answer came to this one.
    #[serde(default)]
    pub answers_apart: u64,
}
