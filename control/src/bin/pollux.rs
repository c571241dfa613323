//! pollux, the command line: see [`pollux_control::cli`].

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser;
use pollux_control::cli::arguments::Arguments;
use pollux_control::cli::{self, CliError, Outcome};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let result = cli::run(arguments, &mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        // As `terraform plan -detailed-exitcode`.
        Ok(Outcome::Differs) => ExitCode::from(2),
        Ok(Outcome::Ill) => ExitCode::FAILURE,
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pollux: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `pollux show connections | head`: not an error.
fn reader_left(error: &CliError) -> bool {
    let kind = match error {
        CliError::Output(error) => Some(error.kind()),
        CliError::Json(error) => error.io_error_kind(),
        _ => None,
    };
    kind == Some(io::ErrorKind::BrokenPipe)
}
