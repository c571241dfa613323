//! polluxd, the control daemon: see [`pollux_control::daemon`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pollux_control::config;
use pollux_control::daemon::{self, Options};
use pollux_control::run_directory::{self, RunDirectory};

/// The control daemon of Pollux: takes commands on RUN_DIR/control.sock and passes them to the data plane.
///
/// It may be stopped, killed and started at any time without the loss of a packet: the data plane holds the
/// configuration that runs. Only a data plane that has none yet is given the file's. Logs go to standard error; the
/// variable POLLUX_LOG sets the level (error, warn, info, debug).
#[derive(Debug, Parser)]
#[command(name = "polluxd", version)]
struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "POLLUX_CONFIG", hide_env_values = true, default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Where the sockets are
    #[arg(long, value_name = "DIR", env = "POLLUX_RUN_DIR", hide_env_values = true, default_value = run_directory::DEFAULT_PATH)]
    run_dir: PathBuf,
    /// For what must survive a reboot; polluxd keeps nothing there yet
    #[arg(
        long,
        value_name = "DIR",
        env = "POLLUX_STATE_DIR",
        hide_env_values = true,
        default_value = "/var/lib/pollux"
    )]
    state_dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = env_logger::Env::default().filter_or("POLLUX_LOG", "info");
    env_logger::Builder::from_env(filter)
        .format_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime
            .block_on(daemon::run(Options {
                config: arguments.config,
                run_directory: RunDirectory::new(&arguments.run_dir),
            }))
            .map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot start its runtime: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("polluxd: {error}");
            ExitCode::FAILURE
        }
    }
}
