//! `pollux import`: what another director is configured with, as a configuration file.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::{CliError, Outcome, Session, output_json};
use crate::import::{self, DiskFiles, Format, Imported, Source};

/// What to import.
#[derive(Debug, Args)]
pub struct ImportOptions {
    /// Rules of ipvsadm or keepalived.conf; - for standard input
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
    /// What the files are [default: found out]
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// keepalived.conf: the machine whose @NAME lines are read, as keepalived --config-id [default: this machine's name]
    #[arg(long, value_name = "NAME")]
    config_id: Option<String>,
    /// Write the configuration here, instead of printing it; what is there is kept
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl<W: Write> Session<'_, W> {
    pub(super) fn import(&mut self, options: &ImportOptions) -> Result<Outcome, CliError> {
        let sources: Vec<Source> = options
            .paths
            .iter()
            .map(|path| read(path))
            .collect::<Result<_, _>>()?;
        let config_id = match &options.config_id {
            Some(name) => name.clone(),
            None => this_machine(),
        };
        let imported = import::import(&sources, options.format, &config_id, &DiskFiles)?;
        let Imported { text, notes, .. } = &imported;
        if let Some(path) = &options.output {
            write_new(path, text)?;
        }
        if self.json {
            let notes: Vec<_> = notes
                .iter()
                .map(|note| json!({"file": &*note.place.file, "line": note.place.line, "text": note.text}))
                .collect();
            let answer = json!({"configuration": imported.configuration, "notes": notes});
            output_json::pretty(self.out, &answer)?;
        } else {
            if options.output.is_none() {
                self.out.write_all(text.as_bytes())?;
            }
            for note in notes {
                eprintln!("pollux: {note}");
            }
        }
        Ok(if notes.is_empty() {
            Outcome::Done
        } else {
            Outcome::Differs
        })
    }
}

fn read(path: &Path) -> Result<Source, CliError> {
    let failed = |error| CliError::Read(path.to_owned(), error);
    let (file, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map_err(failed)?;
        ("-".to_owned(), bytes)
    } else {
        (path.display().to_string(), fs::read(path).map_err(failed)?)
    };
    Ok(Source {
        file: Arc::from(file),
        // Comments in other encodings than UTF-8 do no harm.
        text: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

/// The name up to its first dot, as keepalived has it.
fn this_machine() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}

fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |error| CliError::Write(path.to_owned(), error);
    let mut file = fs::File::create_new(path).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}
