//! What polluxd says of servers and services that it checks.

use serde::{Deserialize, Serialize};

use crate::identity::{DestinationId, ServiceId, Weight};

/// Whether a server serves, as far as its check knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It does.
    Up,
    /// It is off.
    Down,
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Whether the answer was good.
    pub good: bool,
    /// Whether it says nothing of the server: this machine could not ask, or there is no agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// Why: `connected in 2 ms`, `status 500`, ...
    pub reason: String,
    /// Milliseconds since then.
    pub age_ms: u64,
}

/// A server of a service, as one of its checks sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// The service.
    pub service: ServiceId,
    /// The server.
    pub server: DestinationId,
    /// The name of the check.
    pub check: String,
    /// What came of it.
    pub state: ServerState,
    /// Milliseconds since the state last changed, or since this polluxd began to check.
    pub since_ms: u64,
    /// Results in a row that speak for the other state.
    pub against: u16,
    /// The weight instead of the configured one, while a slow start or an agent says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// The last results, the newest first.
    pub recent: Vec<ProbeResult>,
}

/// A service whose servers are checked, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// The service.
    pub service: ServiceId,
    /// Whether enough servers are up.
    pub state: QuorumState,
    /// Milliseconds since that last changed, or since this polluxd began to check.
    pub since_ms: u64,
    /// Sum of the configured weights of servers that are up.
    pub weight_up: u64,
    /// What it has to be.
    pub quorum: u32,
    /// The server that takes the connections while the quorum is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sorry_server: Option<DestinationId>,
}

/// Whether enough servers of a service are up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuorumState {
    /// They are.
    Up,
    /// They are not.
    Lost,
}
