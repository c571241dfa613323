//! What happens to a packet: a function of tables, packets and time.
//!
//! ```text
//!                 Snapshot (services, destinations, forwarding table)     ConnectionTable
//!                                   │ immutable, one a generation              │ shared, lock-free
//!                                   ▼                                          ▼
//! frames ──► Worker::process: parse ─► look up ─► decide ─► forward ──► a Verdict for each frame
//!            (the whole burst goes through a stage before the next, so that memory latency overlaps)
//! ```
//!
//! The crate knows no DPDK, no sockets and no clock: the DPDK worker, the golden-trace tests, the fuzzer and the
//! benchmarks call the same code. Nothing on the path allocates, locks, logs or panics. `unsafe` lives in [`memory`].

pub mod check_path;
pub mod clock;
pub mod connection;
pub mod counters;
pub mod fate;
pub mod forward;
pub mod forwarding_table;
pub mod fragment;
pub mod frame;
pub mod memory;
pub mod pipeline;
pub mod scheduler;
pub mod service;
pub mod settings;
pub mod snapshot;
mod sync;
pub mod synchronisation;
pub mod wire;

pub use clock::{Microsecond, Tick, WallClock};
pub use fate::Fate;
pub use frame::{Frame, HeapFrame};
pub use pipeline::{BURST, Context, Taken, Verdict, Worker};
pub use settings::{Defence, IpvsSettings};
pub use snapshot::{Snapshot, SnapshotChange, SnapshotSpec};
