//! A virtual service, as workers see it.

use std::sync::Arc;

use super::{DestinationSpec, Persistence, ServiceIdentity};
use crate::connection::Timeouts;
use crate::scheduler::{Scheduler, SchedulerKind};

/// A service as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its number, the same for as long as it exists.
    pub number: u32,
    /// Which packets are its.
    pub identity: ServiceIdentity,
    /// Who gets the next connection.
    pub scheduler: SchedulerKind,
    /// All flows of a client go to one destination; none: each flow is scheduled.
    pub persistence: Option<Persistence>,
    /// Each UDP datagram is scheduled, and no connection is kept.
    pub one_packet: bool,
    /// How long its connections live without traffic; none: as those of all services.
    pub timeouts: Option<Timeouts>,
    /// Its destinations, the last added first, as the kernel keeps them.
    pub destinations: Vec<DestinationSpec>,
}

/// A service in a snapshot.
#[derive(Debug, Clone)]
pub struct VirtualService {
    /// Its number.
    pub number: u32,
    /// Which packets are its.
    pub identity: ServiceIdentity,
    /// All flows of a client go to one destination.
    pub persistence: Option<Persistence>,
    /// Each UDP datagram is scheduled, and no connection is kept.
    pub one_packet: bool,
    /// Numbers of its destinations, the last added first.
    pub destinations: Box<[u32]>,
    /// The scheduler with its state; the same one in the next snapshot while nothing about the service changes.
    pub scheduler: Arc<Scheduler>,
    /// Whether a new connection, by being there, may change who gets the next one: the scheduler looks at loads, or a
    /// destination has a threshold.
    pub binds_ahead: bool,
}
