//! `<run-dir>/control.sock`: what the CLI and scripts may ask of `polluxd`.

use std::fmt;

use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::AuditEntry;
use crate::configuration::{Change, Configuration};
use crate::dataplane::{ConnectionPage, ConnectionQuery, PortStatus, TableStatus, WorkerStatus};
use crate::events::Event;
use crate::health::{ServerHealth, ServiceHealth};
use crate::identity::ServiceId;
use crate::statistics::{
    DropReport, PortRates, RateReport, Rates, ServiceStatistics, TrafficTotals, WorkerRates,
};
use crate::synchronisation::SyncStatus;
use crate::tag_first::{TagFirst, serde_tag_first};

/// A request to `polluxd`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    remote = "Self",
    rename_all = "snake_case",
    tag = "command",
    deny_unknown_fields
)]
pub enum Command {
    /// Changes, all or none; acknowledged when every worker runs with them. Answered by [`Answer::Done`].
    Change {
        /// The generation the changes were made against; another one running is a conflict. None: whichever runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base_generation: Option<u64>,
        /// The changes in order.
        changes: Vec<Change>,
    },
    /// Sets counters to zero, of one service or of all. Answered by [`Answer::Done`].
    Zero {
        /// Which service; none: all.
        service: Option<ServiceId>,
    },
    /// polluxd reads its configuration file again and makes what runs the same. Answered by [`Answer::Reloaded`].
    Reload,
    /// Answered by [`Answer::Configuration`].
    ShowConfiguration,
    /// The configuration with its generation, to base a change on. Answered by [`Answer::Running`].
    ShowRunning,
    /// Services with their destinations, connection counts and totals. Answered by [`Answer::Services`].
    ShowServices,
    /// Decayed rates. Answered by [`Answer::Rates`].
    ShowRates,
    /// A page of the connection table. Answered by [`Answer::Connections`].
    ShowConnections(ConnectionQuery),
    /// Totals and rates of all services together, and how full the table is. Answered by [`Answer::Director`].
    ShowDirector,
    /// Answered by [`Answer::Ports`].
    ShowPorts,
    /// Answered by [`Answer::Workers`].
    ShowWorkers,
    /// Answered by [`Answer::Drops`].
    ShowDrops,
    /// The daemons of connection synchronisation. Answered by [`Answer::Sync`].
    ShowSync,
    /// What the health checks found. Answered by [`Answer::Health`].
    ShowHealth,
    /// Whether services have their quorum. Answered by [`Answer::ServiceHealth`].
    ShowServiceHealth,
    /// The last commands that were to change something. Answered by [`Answer::Audit`].
    ShowAudit {
        /// How many, at most; polluxd has its own limits.
        last: usize,
    },
    /// What checks switched. Answered by [`Answer::Events`].
    ShowEvents {
        /// How many, at most; polluxd has its own limits.
        last: usize,
        /// Of which service; none: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<ServiceId>,
    },
}

serde_tag_first!(Command);

/// [`Command::Change`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeFields {
    #[serde(default)]
    base_generation: Option<u64>,
    changes: Vec<Change>,
}

impl TagFirst for Command {
    const TAG: &'static str = "command";

    fn is_direct(variant: &str) -> bool {
        variant == "change"
    }

    fn direct<'de, A: MapAccess<'de>>(
        _: &str,
        fields: MapAccessDeserializer<A>,
    ) -> Result<Self, A::Error> {
        let fields = ChangeFields::deserialize(fields)?;
        Ok(Self::Change {
            base_generation: fields.base_generation,
            changes: fields.changes,
        })
    }

    fn whole(value: Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }
}

/// A table of the file that a daemon reads when it starts, and not again. Prints what waits, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartTable {
    /// `[dataplane]`
    Dataplane,
    /// `[control]`
    Control,
}

impl fmt::Display for StartTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, daemon) = match self {
            Self::Dataplane => ("dataplane", "pollux-dataplane"),
            Self::Control => ("control", "polluxd"),
        };
        write!(
            f,
            "the table [{table}] has changed: that waits for the next start of {daemon} (systemctl restart {daemon})"
        )
    }
}

/// An answer of `polluxd`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer", content = "value")]
pub enum Answer {
    /// Done; the generation that runs now.
    Done {
        /// The generation every worker runs with.
        generation: u64,
    },
    /// The file's services run.
    Reloaded {
        /// The generation every worker runs with.
        generation: u64,
        /// How many changes that took; 0: the file's services ran already.
        changes: usize,
        /// Tables of the file that have changed and are read at a start only.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waiting: Vec<StartTable>,
    },
    /// The configuration that runs.
    Configuration(Configuration),
    /// The configuration that runs, and which one it is.
    Running {
        /// Its generation.
        generation: u64,
        /// The configuration.
        configuration: Configuration,
    },
    /// All services, in configuration order.
    Services(Vec<ServiceStatistics>),
    /// Rates of all services.
    Rates(Vec<RateReport>),
    /// A page of connections.
    Connections(ConnectionPage),
    /// The director as a whole.
    Director(DirectorReport),
    /// All ports.
    Ports(Vec<PortReport>),
    /// All workers.
    Workers(Vec<WorkerReport>),
    /// Fates of all packets by port.
    Drops(Vec<DropReport>),
    /// The daemons of connection synchronisation.
    Sync(SyncStatus),
    /// All servers that are checked.
    Health(Vec<ServerHealth>),
    /// All services whose servers are checked.
    ServiceHealth(Vec<ServiceHealth>),
    /// Entries of the audit log, the oldest first.
    Audit(Vec<AuditEntry>),
    /// Events, the oldest first.
    Events(Vec<Event>),
}

/// The director as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorReport {
    /// Traffic of all services, past ones included, since start or since all counters were set to zero.
    pub totals: TrafficTotals,
    /// Its rates.
    pub rates: Rates,
    /// The connection table.
    pub table: TableStatus,
}

/// A port with its rates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortReport {
    /// As it is now.
    #[serde(flatten)]
    pub status: PortStatus,
    /// What comes and goes.
    pub rates: PortRates,
}

/// A worker with its rates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// As it is now.
    #[serde(flatten)]
    pub status: WorkerStatus,
    /// What it does.
    pub rates: WorkerRates,
}
