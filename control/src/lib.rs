//! The control plane of Pollux: `polluxd`, the daemon, and `pollux`, its command line.
//!
//! ```text
//! pollux ([`cli`]) ──► control.sock ──► polluxd ([`daemon`]) ──► dataplane.sock
//!    │                                      │
//!    └──────────► /etc/pollux/pollux.toml ([`config`]) ◄──┘
//! ```
//!
//! Neither is needed for forwarding: the data plane goes on with what it was last told.

pub mod accounts;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod health;
pub mod host;
pub mod import;
pub mod ipvs;
pub mod metrics;
pub mod realserver;
pub mod run_directory;
pub mod server_address;
pub mod setup;
