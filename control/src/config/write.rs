//! Writes the services of a configuration into a file, leaving everything else in it as it is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use pollux_api::{Configuration, Destination, ForwardingMethod, ServiceEntry, Weight};
use thiserror::Error;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

/// Why a configuration could not be written. The file is as it was.
#[derive(Debug, Error)]
pub enum SaveError {
    /// The file is there but cannot be read.
    #[error("cannot read {0}: {1}; its [dataplane] and [control] tables would be lost")]
    Read(PathBuf, io::Error),
    /// The file is there but is no TOML.
    #[error("{0} is not TOML, so its other tables cannot be kept: `pollux check {0}` says why")]
    NotToml(PathBuf),
    /// The new file could not be put in its place.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
}

/// Replaces the services in a file with those of a configuration: all of the file or nothing (write, sync, rename).
///
/// # Errors
/// [`SaveError`].
pub fn save(path: &Path, configuration: &Configuration) -> Result<(), SaveError> {
    // A link is followed, so that the file it points to is replaced and not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(SaveError::Read(path, error)),
    };
    let text = merge(&old, configuration).map_err(|_| SaveError::NotToml(path.clone()))?;
    replace(&path, text.as_bytes()).map_err(|error| SaveError::Write(path, error))
}

/// The text of a file with its services replaced.
///
/// # Errors
/// The old text is no TOML.
pub fn merge(old: &str, configuration: &Configuration) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = old.parse()?;
    document.remove("service");
    if !configuration.services.is_empty() {
        let services: ArrayOfTables = configuration.services.iter().map(service_table).collect();
        document.insert("service", Item::ArrayOfTables(services));
    }
    Ok(document.to_string())
}

/// The services as a file of their own.
pub fn to_text(configuration: &Configuration) -> String {
    // The empty text is TOML, so there is no error to report.
    merge("", configuration).unwrap_or_default()
}

fn service_table(entry: &ServiceEntry) -> Table {
    let mut table = Table::new();
    let id = entry.service.id;
    table.insert("protocol", value(id.protocol.to_string().to_lowercase()));
    table.insert("address", value(id.endpoint.to_string()));
    table.insert("scheduler", value(entry.service.scheduler.as_str()));
    if !entry.destinations.is_empty() {
        // The list is last added first; the file is in the order of adding.
        let servers: ArrayOfTables = entry.destinations.iter().rev().map(server_table).collect();
        table.insert("server", Item::ArrayOfTables(servers));
    }
    table
}

fn server_table(destination: &Destination) -> Table {
    let mut table = Table::new();
    table.insert("address", value(destination.id.to_string()));
    if destination.method != ForwardingMethod::default() {
        table.insert("method", value(destination.method.to_string()));
    }
    if destination.weight != Weight::default() {
        table.insert("weight", value(i64::from(destination.weight.get())));
    }
    for (key, threshold) in [
        ("upper_threshold", destination.upper_threshold),
        ("lower_threshold", destination.lower_threshold),
    ] {
        if threshold != 0 {
            table.insert(key, value(i64::from(threshold)));
        }
    }
    table
}

/// Readers see the old file or the new one, never a part; after a power cut as well.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = write_beside(path, &new, bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&new);
    }
    written?;
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn write_beside(path: &Path, new: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(new)?;
    if let Ok(old) = fs::metadata(path) {
        file.set_permissions(fs::Permissions::from_mode(old.mode()))?;
        chown(new, Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}
