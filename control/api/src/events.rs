//! What polluxd did by itself: servers that checks switched off and on, quorums that were lost and came back.

use serde::{Deserialize, Serialize};

use crate::identity::{DestinationId, ServiceId};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was done: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// To which service.
    pub service: ServiceId,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum EventKind {
    /// A check took a server off.
    ServerOff {
        /// Which.
        server: DestinationId,
        /// The check that says so.
        check: String,
        /// Its last result.
        reason: String,
    },
    /// No check keeps a server off any more.
    ServerOn {
        /// Which.
        server: DestinationId,
        /// One that kept it off.
        check: String,
        /// Its last result.
        reason: String,
    },
    /// Less weight is up than the quorum.
    QuorumLost,
    /// Enough weight is up again.
    QuorumBack,
}
