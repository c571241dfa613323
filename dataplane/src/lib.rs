//! The Pollux data plane: ports, workers, kernel mirror, private socket, state files.
//!
//! ```text
//! pollux-dataplane (one process)
//!   main thread, tokio current-thread        worker threads, one a core
//!     kernel/   rtnetlink ─► KernelView ─┐     poll ports, run the engine
//!     private_socket  ◄── polluxd        ├─►  Arc<Snapshot>
//!     state_files  journal, snapshot   ◄─┘
//! ```
//!
//! What happens to a packet is decided in `pollux-engine`; this crate gives it ports, memory, time and tables.

pub mod arguments;
pub mod bond;
mod busy_share;
pub mod compile;
pub mod exception_path;
pub mod frame;
pub mod hold;
pub mod idle;
pub mod kernel;
pub mod link_watch;
pub mod lock_file;
pub mod neighbours_in_use;
pub mod numa;
pub mod numbering;
pub mod pools;
pub mod port;
pub mod private_socket;
pub mod publication;
pub mod publisher;
pub mod punt;
pub mod reports;
pub mod service_manager;
pub mod settings;
pub mod start;
pub mod state;
pub mod state_files;
pub mod synchronisation;
pub mod table_file;
pub mod totals;
pub mod transmit;
pub mod trash;
pub mod wire;
pub mod worker;
