//! The one configuration file, `/etc/pollux/pollux.toml`.
//!
//! ```text
//! text ──► table_reader ──► file_schema ──► validate ──► ValidConfig ──► diff ──► changes for the data plane
//!             │                                                            └──► plan: the same, and what becomes of connections
//!             └───────── problem: everything wrong, with file, line and key ────┘
//! what runs ──► write ──► text
//! ```
//!
//! Only [`validate`] makes a [`ValidConfig`], and everything later takes nothing else.

#[cfg(test)]
pub(crate) mod any_configuration;
pub mod diff;
pub mod file_schema;
mod health;
pub mod plan;
pub mod problem;
pub mod table_reader;
pub mod valid_config;
pub mod validate;
pub mod write;

use std::io;
use std::path::{Path, PathBuf};

use pollux_api::DataplaneSettings;
use thiserror::Error;

pub use problem::Problems;
pub use valid_config::{ControlSettings, ValidConfig};

/// Where the file is unless said otherwise.
pub const DEFAULT_PATH: &str = "/etc/pollux/pollux.toml";

/// Why a file gives no configuration.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the configuration file {0}: {1}")]
    Read(PathBuf, io::Error),
    /// It is wrong.
    #[error("the configuration file is not valid; to mend:\n{0}")]
    Invalid(#[from] Problems),
}

/// Reads and validates a file. The default file may be missing: that is the same as an empty one.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &Path) -> Result<ValidConfig, LoadError> {
    Ok(validate::parse(&path.display().to_string(), &read(path)?)?)
}

/// Reads and validates a file that is to take the place of what runs: one that is missing would remove every service.
///
/// # Errors
/// [`LoadError`].
pub fn load_existing(path: &Path) -> Result<ValidConfig, LoadError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| LoadError::Read(path.to_owned(), error))?;
    Ok(validate::parse(&path.display().to_string(), &text)?)
}

/// Reads and validates only what a data plane needs to know at its start.
///
/// # Errors
/// [`LoadError`].
pub fn load_dataplane(path: &Path) -> Result<DataplaneSettings, LoadError> {
    let text = read(path)?;
    Ok(validate::parse_dataplane(
        &path.display().to_string(),
        &text,
    )?)
}

fn read(path: &Path) -> Result<String, LoadError> {
    match std::fs::read_to_string(path) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) =>
        {
            Ok(String::new())
        }
        read => read.map_err(|error| LoadError::Read(path.to_owned(), error)),
    }
}
