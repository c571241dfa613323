//! Counters and rates as they travel: totals since start or `zero`, connection counts, fates by port.
//!
//! Bytes are IP lengths (header and payload, no Ethernet), as Linux IPVS counts them.

use serde::{Deserialize, Serialize};

use crate::configuration::{Destination, VirtualService};
use crate::identity::{DestinationId, ServiceId};

/// Totals of a service, a destination or everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrafficTotals {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub inbound_packets: u64,
    /// Packets from servers through the director (NAT).
    pub outbound_packets: u64,
    /// Bytes from clients.
    pub inbound_bytes: u64,
    /// Bytes from servers.
    pub outbound_bytes: u64,
}

/// One service with all that hangs on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatistics {
    /// The service as configured.
    pub service: VirtualService,
    /// Its totals, those of removed destinations included.
    pub totals: TrafficTotals,
    /// Its destinations, the last added first, as the kernel keeps them.
    pub destinations: Vec<DestinationStatistics>,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationStatistics {
    /// The destination as configured.
    pub destination: Destination,
    /// Connections in an active state (ESTABLISHED, SYN_SENT, SYN_RECV, SYNACK).
    pub active_connections: u32,
    /// Connections in every other state, UDP included.
    pub inactive_connections: u32,
    /// Persistence templates.
    pub persistent_connections: u32,
    /// Its totals.
    pub totals: TrafficTotals,
}

/// Decayed rates a second, by the kernel's estimator (2 s tick, weight 1/4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Connections a second.
    pub connections: u64,
    /// Packets a second from clients.
    pub inbound_packets: u64,
    /// Packets a second from servers.
    pub outbound_packets: u64,
    /// Bytes a second from clients.
    pub inbound_bytes: u64,
    /// Bytes a second from servers.
    pub outbound_bytes: u64,
}

/// Rates of one service and its destinations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateReport {
    /// Which service.
    pub service: ServiceId,
    /// Its rates.
    pub rates: Rates,
    /// Its destinations' rates.
    pub destinations: Vec<(DestinationId, Rates)>,
}

/// Decayed rates a second of a port, by the same estimator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortRates {
    /// Packets received a second, by the NIC's count.
    pub received_packets: u64,
    /// Packets sent a second.
    pub sent_packets: u64,
    /// Bytes received a second.
    pub received_bytes: u64,
    /// Bytes sent a second.
    pub sent_bytes: u64,
}

/// Decayed rates a second of a worker, by the same estimator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkerRates {
    /// Connections created a second.
    pub connections: u64,
    /// Packets received a second.
    pub received_packets: u64,
}

/// What became of the packets a port received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropReport {
    /// The port's name.
    pub port: String,
    /// Packets received by the workers.
    pub received: u64,
    /// Packets that wait for a neighbour's MAC now.
    pub held: u64,
    /// Every fate with its count, zeros included, in the engine's order. `received` is their sum plus `held`.
    pub fates: Vec<FateCount>,
}

/// One fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateCount {
    /// The fate's name in snake case: `forwarded`, `punted`, `ipv4_truncated`, ...
    pub fate: String,
    /// Whether the packet was lost: false for forwarded and punted.
    pub is_drop: bool,
    /// What it means, for people.
    pub meaning: String,
    /// How many.
    pub packets: u64,
}
