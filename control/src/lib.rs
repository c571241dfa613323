//! polluxd, the control daemon, and pollux, its command line.

pub mod config;
pub mod server_address;
