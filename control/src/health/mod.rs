//! Health checks: servers are asked, and those that do not answer well get no new connections.
//!
//! ```text
//! Configuration ──► table (who is to be asked) ──► agenda (when: pure) ──► schedule ──► probe (sockets of the kernel)
//!                    │ ▲                                                                  │
//!                    │ └── history (rise, fall: pure) ◄───────── outcomes ────────────────┘
//!                    └──► watched (who is to be switched, slow start, quorum: pure) ──► changes ──► data plane
//! ```
//!
//! A server that several services check alike is asked once. Without polluxd nothing is switched: servers that are off
//! stay off, the others serve, and the next polluxd begins with what it finds.

mod agenda;
mod complaints;
pub mod history;
pub mod outcome;
pub mod probe;
mod schedule;
mod table;
mod watched;

pub use schedule::{Asking, Found};
pub use table::{HealthTable, REPORT_PART};
pub use watched::QuorumChange;
