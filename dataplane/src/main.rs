//! The Pollux data plane process; all of it is in the library beside this file.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use pollux_dataplane::arguments::Arguments;
use pollux_dataplane::start;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    let arguments = Arguments::parse();
    let result = if arguments.manual_page {
        let page = clap_mangen::Man::new(Arguments::command());
        page.render(&mut std::io::stdout()).map_err(Into::into)
    } else {
        start::run(&arguments)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pollux-dataplane: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, without those that a message before them quotes.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |line, cause| {
        let cause = cause.to_string();
        match line.as_str() {
            "" => cause,
            said if said.contains(&cause) => line,
            said => format!("{said}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_cause_is_said_once() {
        let error = anyhow!("no such file").context("cannot open x: no such file");
        assert_eq!(in_one_line(&error), "cannot open x: no such file");
        let error = error.context("cannot start");
        assert_eq!(
            in_one_line(&error),
            "cannot start: cannot open x: no such file"
        );
    }
}
