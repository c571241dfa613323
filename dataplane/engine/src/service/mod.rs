//! Compiled services: what a configuration looks like to a worker.

pub mod destination;
pub mod lookup;
pub mod virtual_service;

pub(crate) use destination::Leaf;
pub use destination::{ConnectionCounts, Destination, DestinationShared, DestinationSpec};
pub use lookup::ServiceLookup;
pub use virtual_service::{ServiceSpec, VirtualService};
