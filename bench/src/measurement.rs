//! What is measured, and the record of it: one object a line of JSON.

mod appliance;

use clap::ValueEnum;
use pollux_engine::connection::{Family as EngineFamily, ForwardingMethod};
use pollux_engine::scheduler::{HashFlags, MaglevFlags, SchedulerKind};
use serde::{Deserialize, Serialize};

pub use self::appliance::{LatencyMeasurement, LoadSetting, Program, ThroughputMeasurement};
use crate::flows::Order;
use crate::machine::Machine;

/// What packets do to the connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// Packets of clients on established connections.
    Hit,
    /// SYNs of new clients: schedule, both keys, state.
    New,
    /// A SYN from a new source for every packet of an established connection, the table full.
    SynFlood,
    /// Answers of servers on established connections.
    Reply,
}

/// How packets reach the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Translation, both directions through the director.
    Nat,
    /// IP in IP.
    Tunnel,
    /// Only the MAC addresses change.
    Direct,
}

/// IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4: 60-byte frames, 64 with the check sequence.
    Ipv4,
    /// IPv6: 74-byte frames, the smallest that hold a TCP header.
    Ipv6,
}

/// Who gets a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// In turn.
    Rr,
    /// In turn by weight; all weights are 1 here.
    Wrr,
    /// Fewest connections.
    Lc,
    /// Fewest connections by weight.
    Wlc,
    /// What the virtual address had before: one server.
    Lblc,
    /// What the virtual address had before, of a set.
    Lblcr,
    /// By the virtual address: one server.
    Dh,
    /// By the client's address.
    Sh,
    /// Shortest expected delay.
    Sed,
    /// An idle one, else the shortest expected delay.
    Nq,
    /// The largest weight: the first.
    Fo,
    /// By the client's address, over a Maglev table.
    Mh,
    /// The less loaded of two.
    Twos,
    /// The less loaded of two different ones.
    P2c,
}

/// The pages the connection table lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pages {
    /// 2 MiB.
    Huge,
    /// 4 KiB.
    Normal,
}

impl Method {
    /// The engine's word.
    pub fn engine(self) -> ForwardingMethod {
        match self {
            Self::Nat => ForwardingMethod::Masquerade,
            Self::Tunnel => ForwardingMethod::Tunnel,
            Self::Direct => ForwardingMethod::DirectRoute,
        }
    }
}

impl Family {
    /// The engine's word.
    pub fn engine(self) -> EngineFamily {
        match self {
            Self::Ipv4 => EngineFamily::V4,
            Self::Ipv6 => EngineFamily::V6,
        }
    }
}

impl Scheduler {
    /// The engine's word.
    pub fn engine(self) -> SchedulerKind {
        match self {
            Self::Rr => SchedulerKind::RoundRobin,
            Self::Wrr => SchedulerKind::WeightedRoundRobin,
            Self::Lc => SchedulerKind::LeastConnection,
            Self::Wlc => SchedulerKind::WeightedLeastConnection,
            Self::Lblc => SchedulerKind::LocalityBased,
            Self::Lblcr => SchedulerKind::LocalityBasedReplicated,
            Self::Dh => SchedulerKind::DestinationHashing,
            Self::Sh => SchedulerKind::SourceHashing(HashFlags::default()),
            Self::Sed => SchedulerKind::ShortestExpectedDelay,
            Self::Nq => SchedulerKind::NeverQueue,
            Self::Fo => SchedulerKind::WeightedFailover,
            Self::Mh => SchedulerKind::MaglevHashing(MaglevFlags::default()),
            Self::Twos => SchedulerKind::TwoRandomChoices,
            Self::P2c => SchedulerKind::PowerOfTwoChoices,
        }
    }
}

/// The word on the command line and in JSON.
pub fn word(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Cost of a packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PacketMeasurement {
    /// What packets do.
    pub case: Case,
    /// How they reach the servers.
    pub method: Method,
    /// IP version.
    pub family: Family,
    /// Established connections.
    pub connections: u32,
    /// Workers running at the same time.
    pub workers: u32,
    /// CPU time of one worker for a packet, without the generator's; the median of the rounds.
    pub ns_per_packet: f64,
    /// CPU time the generator took for a packet.
    pub generator_ns_per_packet: f64,
    /// Packets all workers together process in a second of CPU time each.
    pub packets_per_second: f64,
    /// Rate by that of `dpdk-testpmd` on the same ports in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_to_testpmd: Option<f64>,
    /// The kind of DPDK device of the appliance: `pcap`, a PCI address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// In which order flows were picked.
    pub order: Order,
    /// Pages of the connection table.
    pub pages: Pages,
    /// Servers of the service.
    pub servers: u32,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// The cheapest round.
    pub ns_per_packet_least: f64,
    /// The dearest round.
    pub ns_per_packet_greatest: f64,
    /// New connections that got no entry because the table was full, by new connections: served without one, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_entry_share: Option<f64>,
    /// New connections whose packet was not forwarded, by new connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_share: Option<f64>,
}

/// What is done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Operation {
    /// A NAT connection is inserted under both keys.
    Create,
    /// A connection is found.
    Lookup,
    /// A connection whose time is over is found by the sweep and removed.
    Expire,
}

/// Cost of an operation on the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableMeasurement {
    /// What is done.
    pub operation: Operation,
    /// IP version.
    pub family: Family,
    /// Entries of the table.
    pub entries: u32,
    /// Threads at the same time.
    pub threads: u32,
    /// Share of the entries in use; creations fill the last tenth below it.
    pub fill_percent: u32,
    /// CPU time of one thread for one.
    pub ns_each: f64,
    /// What all threads together do in a second of CPU time each.
    pub per_second: f64,
    /// Creations that found no room, of those tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_share: Option<f64>,
    /// Pages of the table.
    pub pages: Pages,
}

/// Memory of a connection, all in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryMeasurement {
    /// IP version.
    pub family: Family,
    /// In a table made for this family alone.
    pub bytes_per_connection: f64,
    /// In a table as the data plane makes it.
    pub bytes_per_connection_by_default: f64,
}

/// Time until a data plane has its table, in memory files on normal pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartMeasurement {
    /// IP version.
    pub family: Family,
    /// Entries of the table.
    pub connections: u32,
    /// A new table.
    pub create_ms: f64,
    /// A table nobody has used.
    pub attach_empty_ms: f64,
    /// A full table.
    pub attach_full_ms: f64,
    /// CPU time for a new table: what it would take if nothing else ran.
    pub create_cpu_ms: f64,
    /// CPU time for a full table, on all CPUs together.
    pub attach_full_cpu_ms: f64,
    /// Its connections that are found again: a few keys may find their buckets full in another order.
    pub connections_found_again: f64,
}

/// A full table that expires while connections are hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpiryMeasurement {
    /// Entries of the table.
    pub connections: u32,
    /// How long its connections live.
    pub timeout_s: u32,
    /// From the last connection's creation to the last one's removal.
    pub seconds_until_empty: f64,
    /// CPU time of hits between the first removal and the last.
    pub seconds_expiring: f64,
    /// Cost of a hit before the first removal.
    pub ns_per_packet_before: f64,
    /// Rate of hits between the first removal and the last, by that before.
    pub hit_rate_meanwhile: f64,
    /// The same in the worst tenth of a second.
    pub hit_rate_least: f64,
}

/// What is done to the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum ControlTask {
    /// `pollux apply` of a file with all services, while there are none.
    ApplyAll,
    /// `pollux server edit` of one server.
    ChangeServer,
    /// `pollux apply` of a file in which one server differs.
    ApplyOne,
    /// `pollux apply` of what runs.
    ApplyNothing,
    /// `pollux apply` of an empty file.
    RemoveAll,
}

/// What the control plane takes for a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlMeasurement {
    /// Which.
    pub task: ControlTask,
    /// Services.
    pub services: u32,
    /// Servers of each.
    pub servers: u32,
    /// How often it was done.
    pub rounds: u32,
    /// From the start of `pollux` to its end, the median.
    pub wall_ms: f64,
    /// The longest.
    pub wall_ms_greatest: f64,
    /// Processor time of polluxd, the mean; what it does every two seconds besides is in it.
    pub polluxd_cpu_ms: f64,
    /// The same of the data plane's main thread.
    pub dataplane_cpu_ms: f64,
    /// The most memory that polluxd has had so far, MiB.
    pub polluxd_mib: f64,
}

/// Servers checked once a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChecksMeasurement {
    /// How many.
    pub servers: u32,
    /// Checks that were made.
    pub checks_per_second: f64,
    /// Processors that polluxd had.
    pub polluxd_cores: f64,
    /// Processor time of one, microseconds.
    pub us_per_check: f64,
    /// The most memory that polluxd had, MiB.
    pub polluxd_mib: f64,
}

/// A line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "benchmark", rename_all = "snake_case")]
pub enum Record {
    /// First line of every run: where, when and by which command.
    Machine(Box<Machine>),
    /// Of `pollux-bench pipeline`.
    Pipeline(PacketMeasurement),
    /// Of `pollux-bench appliance`: cost of a packet.
    Appliance(PacketMeasurement),
    /// Of `pollux-bench appliance`: the highest rate without loss.
    Throughput(ThroughputMeasurement),
    /// Of `pollux-bench appliance`: latency under load.
    Latency(LatencyMeasurement),
    /// Of `pollux-bench table`: operations.
    Table(TableMeasurement),
    /// Of `pollux-bench table`: memory.
    Memory(MemoryMeasurement),
    /// Of `pollux-bench table`: start.
    Start(StartMeasurement),
    /// Of `pollux-bench table`: expiry.
    Expiry(ExpiryMeasurement),
    /// Of `pollux-bench control`: changes.
    Control(ControlMeasurement),
    /// Of `pollux-bench control`: checks.
    Checks(ChecksMeasurement),
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::appliance::tests::{latency, throughput};
    use super::*;

    pub(crate) fn example() -> PacketMeasurement {
        PacketMeasurement {
            case: Case::SynFlood,
            method: Method::Nat,
            family: Family::Ipv4,
            connections: 10_000,
            workers: 1,
            ns_per_packet: 24.5,
            generator_ns_per_packet: 6.25,
            packets_per_second: 4.1e7,
            ratio_to_testpmd: None,
            device: None,
            order: Order::Random,
            pages: Pages::Huge,
            servers: 8,
            scheduler: Scheduler::Wlc,
            ns_per_packet_least: 24.0,
            ns_per_packet_greatest: 31.0,
            without_entry_share: Some(0.25),
            refused_share: Some(0.0),
        }
    }

    #[test]
    fn a_line_has_the_agreed_names() {
        let line = serde_json::to_value(Record::Pipeline(example())).unwrap();
        let expected = [
            ("benchmark", serde_json::json!("pipeline")),
            ("case", serde_json::json!("syn_flood")),
            ("method", serde_json::json!("nat")),
            ("family", serde_json::json!("ipv4")),
            ("connections", serde_json::json!(10_000)),
            ("workers", serde_json::json!(1)),
            ("ns_per_packet", serde_json::json!(24.5)),
            ("generator_ns_per_packet", serde_json::json!(6.25)),
            ("packets_per_second", serde_json::json!(4.1e7)),
            ("order", serde_json::json!("random")),
            ("pages", serde_json::json!("huge")),
        ];
        for (name, value) in expected {
            assert_eq!(line.get(name), Some(&value), "{name}");
        }
        assert_eq!(line.get("ratio_to_testpmd"), None);
        let read: Record = serde_json::from_value(line).unwrap();
        assert_eq!(read, Record::Pipeline(example()));
    }

    #[test]
    fn words_are_the_same_on_the_command_line_and_in_json() {
        for case in Case::value_variants() {
            assert_eq!(serde_json::json!(case), serde_json::json!(word(case)));
        }
        for family in Family::value_variants() {
            assert_eq!(serde_json::json!(family), serde_json::json!(word(family)));
        }
    }
}
