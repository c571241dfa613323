//! Health checks: servers are asked, and those that do not answer well get no new connections.
//!
//! ```text
//! Configuration ──► table (who is to be asked) ──► schedule (when) ──► probe (sockets of the kernel)
//!                    │ ▲                                                 │
//!                    │ └── history (rise, fall: pure) ◄── findings ──────┘
//!                    └──► SwitchServer changes ──► data plane
//! ```
//!
//! A server that several services check alike is asked once. Without polluxd nothing is switched: servers that are off
//! stay off, the others serve, and the next polluxd begins with what it finds.

pub mod history;
pub mod probe;
mod schedule;
mod table;

pub use schedule::{Asking, Found};
pub use table::HealthTable;
