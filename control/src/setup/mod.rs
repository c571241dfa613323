//! Makes a machine ready for a data plane: NICs to `vfio-pci`, huge pages to their NUMA nodes, and both again at boot.
//!
//! ```text
//! host (/sys, /proc, ip) ─► plan: refusals, or steps and advice ─► step: done one by one, checked at the end
//!                                          └─► record: /var/lib/pollux/setup.json ─► undo
//! ```
//!
//! Nothing is touched before everything was looked at. Every step is one a person could type, and is printed as that.
//! Done twice it does nothing the second time, so the unit that runs it at boot is the same command.

pub mod in_use;
pub mod persist;
pub mod plan;
pub mod record;
pub mod refusal;
pub mod ssh;
pub mod step;
pub mod sysctl;
pub mod undo;

pub use plan::{Plan, Request, plan};
pub use record::Record;
pub use refusal::Refusal;
pub use step::{Step, StepError};
