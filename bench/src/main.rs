//! The Pollux benchmarks; all of it is in the library beside this file.

use std::process::ExitCode;

use clap::Parser;
use pollux_bench::arguments::Arguments;

fn main() -> ExitCode {
    match pollux_bench::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pollux-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
