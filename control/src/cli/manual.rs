//! Manual pages, made from the grammar itself, so that they never say anything else than `--help` does.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use super::CliError;
use super::arguments::Arguments;
use crate::daemon;

/// Writes `pollux.1`, a page for each of its commands (`pollux-service-add.1`), and `polluxd.1`.
pub fn pages(directory: &Path) -> Result<(), CliError> {
    let mut pollux = Arguments::command().disable_help_subcommand(true);
    pollux.build();
    write_with_subcommands(pollux, directory)?;
    write_one(daemon::arguments::Arguments::command(), directory)?;
    Ok(())
}

fn write_with_subcommands(command: clap::Command, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        if !subcommand.is_hide_set() {
            write_with_subcommands(subcommand.clone(), directory)?;
        }
    }
    write_one(command, directory)
}

fn write_one(command: clap::Command, directory: &Path) -> io::Result<()> {
    // `pollux-service-add`: clap has it since `build`, the uppermost has its name only.
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let page = Man::new(command);
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(directory.join(format!("{name}.1")), text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path()).unwrap();
        let files: BTreeSet<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for page in [
            "pollux.1",
            "pollux-service.1",
            "pollux-service-add.1",
            "pollux-show-drops.1",
            "polluxd.1",
        ] {
            assert!(files.contains(page), "{page} is not in {files:?}");
        }
        assert!(!files.iter().any(|page| page.contains("manual-pages")));
        let page = fs::read_to_string(directory.path().join("pollux-server-add.1")).unwrap();
        assert!(page.contains("tun\\-port"), "{page}");
    }
}
