//! A virtual service, as workers see it.

use std::net::IpAddr;
use std::sync::Arc;

use super::DestinationSpec;
use crate::scheduler::{Scheduler, SchedulerKind};

/// A service as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its number, the same for as long as it exists.
    pub number: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Virtual IP.
    pub address: IpAddr,
    /// Virtual port, host byte order.
    pub port: u16,
    /// Who gets the next connection.
    pub scheduler: SchedulerKind,
    /// Its destinations, the last added first, as the kernel keeps them.
    pub destinations: Vec<DestinationSpec>,
}

/// A service in a snapshot.
#[derive(Debug, Clone)]
pub struct VirtualService {
    /// Its number.
    pub number: u32,
    /// Numbers of its destinations, the last added first.
    pub destinations: Box<[u32]>,
    /// The scheduler with its state; the same one in the next snapshot while nothing about the service changes.
    pub scheduler: Arc<Scheduler>,
    /// Whether a new connection, by being there, may change who gets the next one: the scheduler looks at loads, or a
    /// destination has a threshold.
    pub binds_ahead: bool,
}
