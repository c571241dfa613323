//! polluxd, the control daemon, and pollux, its command line.

pub mod accounts;
pub mod config;
pub mod daemon;
pub mod run_directory;
pub mod server_address;
