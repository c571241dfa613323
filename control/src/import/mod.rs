//! `pollux import`: what other directors are configured with, as a configuration file of Pollux.
//!
//! ```text
//! text ──► format ──► ipvsadm (rules), keepalived (blocks) ──► draft: a configuration in the making ──► config::write ──► text
//!                                    └── note: what could not be carried over, where and why ──► standard error
//! ```
//!
//! What is written passes `pollux check`, whatever was read: all that the draft takes went through
//! [`Configuration::apply_one`], and the text is validated as a file before it is given out.

mod draft;
mod files;
mod format;
mod ipvsadm;
mod keepalived;
mod note;

use std::sync::Arc;

use pollux_api::Configuration;
use thiserror::Error;

use crate::config::{Problems, validate, write};
use draft::Draft;

pub use files::DiskFiles;
pub use format::Format;
pub use keepalived::{Files, IncludedFile};
pub use note::{Note, Place};

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name as the user gave it.
    pub file: Arc<str>,
    /// Its text.
    pub text: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The services and all that goes with them.
    pub configuration: Configuration,
    /// The same as a file.
    pub text: String,
    /// What could not be carried over.
    pub notes: Vec<Note>,
}

/// Why there is nothing to give out.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file is neither.
    #[error(
        "{0} is neither rules of ipvsadm nor a keepalived.conf: write --format ipvsadm or --format keepalived if it is one"
    )]
    UnknownFormat(Arc<str>),
    /// Nothing is in it.
    #[error("{0} is empty: `ipvsadm -Sn > FILE` writes rules, for root and where IPVS runs")]
    Empty(Arc<str>),
    /// A mistake of this program.
    #[error(
        "what was imported does not pass `pollux check`, which is a mistake of pollux itself; please report it:\n{0}"
    )]
    NotValid(#[from] Problems),
}

/// Reads files, one after the other, into one configuration.
///
/// # Errors
/// [`ImportError`].
pub fn import(
    sources: &[Source],
    format: Option<Format>,
    config_id: &str,
    files: &dyn Files,
) -> Result<Imported, ImportError> {
    let mut draft = Draft::default();
    for Source { file, text } in sources {
        let known = format.or_else(|| Format::of(text));
        match known {
            Some(Format::Ipvsadm) => ipvsadm::read(file, text, &mut draft),
            Some(Format::Keepalived) => keepalived::read(file, text, config_id, files, &mut draft),
            None if text.trim().is_empty() => return Err(ImportError::Empty(Arc::clone(file))),
            None => return Err(ImportError::UnknownFormat(Arc::clone(file))),
        }
    }
    let (configuration, notes) = draft.finish();
    let names: Vec<String> = sources
        .iter()
        .map(|source| source.file.escape_debug().to_string())
        .collect();
    let heading = format!("# From {}, by `pollux import`.\n", names.join(", "));
    let services = write::to_text(&configuration);
    let text = format!(
        "{heading}{}{services}",
        if services.starts_with('\n') { "" } else { "\n" }
    );
    validate::parse("imported", &text)?;
    Ok(Imported {
        configuration,
        text,
        notes,
    })
}

#[cfg(test)]
mod tests;
