//! The real `polluxd` and the real `pollux`, with a data plane that has everything but packets.
//!
//! Every test has its own run directory and its own daemons. Nothing here needs a privilege, except that two tests look
//! from another user's side and are skipped where there is no root to become one, and that keepalived wants to be root.
//! The IPVS tools are Debian's: `scripts/install-dependencies` brings them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test, that is how a wrong expectation shows; clippy knows it of #[test] functions only"
)]

#[path = "../../src/config/any_configuration.rs"]
mod any_configuration;
mod fake_dataplane;
mod machine;

mod audit;
mod changes;
mod completion;
mod events;
mod file;
mod health;
mod hostile_clients;
mod import;
mod ipvs_socket;
mod ipvs_tools;
mod metrics;
mod operation;
mod plan;
mod privileges;
mod refusals;
mod restarts;
mod scale;
mod scrape_cost;
mod views;
