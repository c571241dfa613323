//! Connections: their keys, states and timeouts, and the one table all workers share.
//!
//! ```text
//! FlowKey ──hash──► Index (buckets of tags and entry numbers) ──number──► Entry (addresses, ports, life)
//!                                                                             │ destination number
//!                                                        Snapshot.destinations ◄┘
//! ```

pub mod entry;
mod expendable;
pub mod flow_key;
mod free_chain;
pub(crate) mod ftp_control;
mod index;
pub mod life;
pub mod quiescence;
pub mod sctp_state;
mod shard;
pub mod state;
mod sweep;
pub mod table;
mod take_up;
pub mod tcp_state;
pub mod template;

pub use entry::{Connection, Direction, ForwardingMethod, NewConnection, Template, UNBOUND};
pub use flow_key::{Family, FlowKey};
pub use index::Candidate;
pub use life::{Life, Transition};
pub use quiescence::Quiescence;
pub use shard::{Ended, Shard};
pub use state::{State, Steady, Timeouts};
pub use sweep::{LiveCounts, SweepBudget};
pub use table::{ConnectionTable, Hit, InsertError, TableError, TableSize};
