//! The command line of `polluxd`.

use std::path::PathBuf;

use clap::Parser;

use crate::{config, run_directory};

/// The control daemon of Pollux: takes commands on RUN_DIR/control.sock and passes them to the data plane.
///
/// It may be stopped, killed and started at any time without the loss of a packet: the data plane holds the
/// configuration that runs. Only a data plane that has none yet is given the file's. On SIGHUP, as on `pollux reload`, the
/// file is read again and what differs is done as one transaction. Logs go to standard error; the
/// variable POLLUX_LOG sets the level (error, warn, info, debug).
#[derive(Debug, Parser)]
#[command(name = "polluxd", version)]
pub struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "POLLUX_CONFIG", hide_env_values = true, default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// Where the sockets are
    #[arg(long, value_name = "DIR", env = "POLLUX_RUN_DIR", hide_env_values = true, default_value = run_directory::DEFAULT_PATH)]
    pub run_dir: PathBuf,
    /// For what must survive a reboot: the audit log
    #[arg(
        long,
        value_name = "DIR",
        env = "POLLUX_STATE_DIR",
        hide_env_values = true,
        default_value = "/var/lib/pollux"
    )]
    pub state_dir: PathBuf,
}
