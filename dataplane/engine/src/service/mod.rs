//! Compiled services: what a configuration looks like to a worker.

pub mod classifier;
pub mod destination;
pub mod identity;
pub mod lookup;
pub mod persistence;
mod port_table;
pub mod response_time;
pub mod virtual_service;

pub use classifier::{Classifier, MarkRule};
pub(crate) use destination::Leaf;
pub use destination::{ConnectionCounts, Destination, DestinationShared, DestinationSpec};
pub use identity::ServiceIdentity;
pub use lookup::{InARow, ServiceLookup};
pub use persistence::{Persistence, PersistenceEngine};
pub use response_time::ResponseTime;
pub use virtual_service::{ServiceSpec, VirtualService};
