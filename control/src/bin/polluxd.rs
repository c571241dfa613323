//! polluxd, the control daemon: see [`pollux_control::daemon`].

use std::process::ExitCode;

use clap::Parser;
use pollux_control::daemon::arguments::Arguments;
use pollux_control::daemon::{self, Options};
use pollux_control::run_directory::RunDirectory;

/// glibc keeps what one thread freed for that thread alone. With 40,000 servers, whose listings are made on several, that is
/// a good part of all memory (`tests/end_to_end/scale.rs`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
                state_directory: arguments.state_dir,
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
