//! The types on both sockets of Pollux and in its state files: configuration, changes, commands, answers, statistics.
//!
//! ```text
//! pollux ──► control.sock ──► polluxd ──► dataplane.sock ──► pollux-dataplane
//!        Request<Command>            Request<Query>
//!        ◄── Response<Answer>        ◄── Response<Report>
//! ```
//!
//! Wire format: one JSON object a line, see [`mod@line`]. Everything here is plain data in host byte order, and
//! the estimator that makes rates of it; times are seconds or milliseconds as the field's name says. Nothing here does
//! I/O. What a configuration must satisfy is
//! checked in one place, [`Configuration::apply`], and both daemons call it.

pub mod audit;
pub mod bond;
pub mod configuration;
pub mod control;
pub mod dataplane;
pub mod estimator;
pub mod events;
pub mod health;
pub mod identity;
pub mod ipvs_settings;
pub mod line;
pub mod mark;
pub mod memory;
pub mod numa;
pub mod patch;
pub mod persistence;
pub mod scheduler;
pub mod service_list;
pub mod service_timeouts;
pub mod settings;
pub mod statistics;
pub mod synchronisation;
mod tag_first;
pub mod tunnel;

pub use configuration::{
    Change, ChangeError, Configuration, Destination, ServiceEntry, Transaction, VirtualService,
};
pub use health::{Check, Health};
pub use identity::{
    DestinationId, Family, ForwardingMethod, Fwmark, Protocol, ServiceAddress, ServiceId, Weight,
};
pub use ipvs_settings::{IpvsSettings, SettingError};
pub use mark::MarkRule;
pub use patch::{DestinationPatch, ServicePatch};
pub use persistence::{Netmask, Persistence, PersistenceEngine};
pub use scheduler::{SchedulerFlags, SchedulerName};
pub use service_list::ServiceList;
pub use service_timeouts::{ServiceTimeouts, ServiceTimeoutsPatch};
pub use settings::DataplaneSettings;
pub use synchronisation::{SyncDaemon, SyncDaemons, SyncError, SyncRole};
pub use tunnel::{Tunnel, TunnelChecksum, TunnelError, TunnelPatch, TunnelType};
