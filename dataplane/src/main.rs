//! The Pollux data plane process; all of it is in the library beside this file.

use std::process::ExitCode;

use clap::Parser;
use pollux_dataplane::arguments::Arguments;
use pollux_dataplane::start;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    match start::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line a cause, as the errors are written to be read.
            eprintln!("pollux-dataplane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
