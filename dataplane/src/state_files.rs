//! What survives the process, in the state directory: the last accepted configuration with its generation and the
//! numbers of services and destinations. The connection table lies beside it and refers to those numbers.
//!
//! ```text
//! configuration.json     everything up to a record: pretty JSON, replaced as a whole
//! configuration.journal  what was accepted since: a line of JSON a record, added to
//! ```
//!
//! What is accepted is stored before it is acknowledged, so what polluxd was told is what a data plane that comes back
//! runs. A change costs the line that says it, however much is configured. From time to time ([`StateDirectory::fold`]) the
//! state file is written anew (beside, fsync, rename, fsync of the directory: after a crash of the machine it is the old one
//! or the new one) and the journal emptied; records that both have are passed over. What cannot be read is never passed over:
//! forwarding with less than was accepted would look like a fault elsewhere.

mod journal;
mod snapshot;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

pub use journal::Record;
use journal::{Journal, ReplayFailure, Replayed};
use snapshot::DecodeFailure;

use crate::lock_file::{LockFailure, LockFile, pid_text};
use crate::state::State;

/// The format this release writes, and the newest it reads. 1 had no journal beside it.
pub const FORMAT: u32 = 2;

const CONFIGURATION_FILE: &str = "configuration.json";
const JOURNAL_FILE: &str = "configuration.journal";
const LOCK_FILE: &str = "lock";

/// The journal is folded into the state file when nothing has been accepted for this long, so that the file alone says what
/// runs; and not more often.
const QUIET: Duration = Duration::from_secs(30);
/// And when it is longer than this and than the state file.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;

/// Why the state could not be read or written.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another data plane has this state directory.
    #[error(
        "another data plane{pid} uses the state directory {directory}: stop it, or give this one a directory of its \
         own with --state-dir",
        directory = .directory.display(), pid = pid_text(*.pid)
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process that has it.
        pid: Option<u32>,
    },
    /// The disk or the permissions.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{path}: {reason}. It holds the last accepted configuration: mend it, or move it away to start without \
         services",
        path = .path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where that is known.
        reason: String,
    },
    /// The journal is not what was written.
    #[error(
        "{path}: {reason}. It holds what was accepted after {configuration} was written: mend it, or move it away to \
         start with what that file has",
        path = .path.display(), configuration = CONFIGURATION_FILE
    )]
    BrokenJournal {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where that is known.
        reason: String,
    },
    /// A journal without the file that it goes on from.
    #[error(
        "{path} goes on from {configuration}, which is not there or is older than the journal: put that back, or move the \
         journal away as well",
        path = .path.display(), configuration = CONFIGURATION_FILE
    )]
    JournalAlone {
        /// The journal.
        path: PathBuf,
    },
    /// The file is of a later release.
    #[error(
        "{path} was written by a newer release (format {found}, this one reads up to {FORMAT}): start that release, \
         or move the file away to start without services",
        path = .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// A state directory that is this process's own.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    written: Mutex<Written>,
    _lock: LockFile,
}

/// What is on the disk.
#[derive(Debug)]
struct Written {
    journal: Journal,
    /// Bytes of the state file; none while there is none that a journal can go on from.
    snapshot: Option<u64>,
    /// When something was stored last.
    changed: Instant,
    /// When folding was begun last.
    folded: Option<Instant>,
    is_folding: bool,
}

/// Up to where a journal is to be folded.
#[derive(Debug, Clone, Copy)]
pub struct Fold {
    sequence: u64,
    length: u64,
}

impl StateDirectory {
    /// Makes the directory if need be and takes it for this process.
    ///
    /// # Errors
    /// [`StateError::InUse`] and [`StateError::Io`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let path = path.to_owned();
        fs::create_dir_all(&path).map_err(|source| StateError::Io {
            action: "make the state directory",
            path: path.clone(),
            source,
        })?;
        let lock = path.join(LOCK_FILE);
        match LockFile::take(&lock) {
            Ok(lock) => {
                let written = Written {
                    journal: Journal::new(path.join(JOURNAL_FILE), &Replayed::default()),
                    snapshot: None,
                    changed: Instant::now(),
                    folded: None,
                    is_folding: false,
                };
                Ok(Self {
                    path,
                    written: Mutex::new(written),
                    _lock: lock,
                })
            }
            Err(LockFailure::Held { pid }) => Err(StateError::InUse {
                directory: path,
                pid,
            }),
            Err(LockFailure::Io(source)) => Err(StateError::Io {
                action: "lock",
                path: lock,
                source,
            }),
        }
    }

    /// The directory, for what else belongs there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was stored last; the empty state if nothing ever was.
    ///
    /// # Errors
    /// All but [`StateError::InUse`].
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.path.join(CONFIGURATION_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(StateError::read(path, source)),
        };
        let decoded = bytes.as_deref().map(snapshot::decode).transpose();
        let decoded = decoded.map_err(|failure| match failure {
            DecodeFailure::Newer(found) => StateError::Newer { path, found },
            DecodeFailure::Broken(reason) => StateError::Broken { path, reason },
        })?;
        let journal = self.path.join(JOURNAL_FILE);
        let (mut state, sequence) = match decoded {
            Some((state, Some(sequence))) => (state, sequence),
            // Older than any journal.
            other => {
                let is_empty = fs::metadata(&journal).map_or(true, |file| file.len() == 0);
                if !is_empty {
                    return Err(StateError::JournalAlone { path: journal });
                }
                return Ok(other.map(|(state, _)| state).unwrap_or_default());
            }
        };
        let replayed = journal::replay(&journal, &mut state, sequence);
        let replayed = replayed.map_err(|failure| match failure {
            ReplayFailure::Io(source) => StateError::read(journal.clone(), source),
            ReplayFailure::Broken(reason) => StateError::BrokenJournal {
                path: journal.clone(),
                reason,
            },
        })?;
        let path = journal.display();
        if replayed.is_torn {
            log::warn!(
                "{path}: the last line is torn, as a crash leaves it: dropped. What it says was never acknowledged"
            );
        }
        if replayed.records > 0 {
            log::info!(
                "{path}: generation {}, {} records after {CONFIGURATION_FILE}",
                state.generation,
                replayed.records
            );
        }
        let mut written = self.written();
        written.journal = Journal::new(journal, &replayed);
        written.snapshot = bytes.map(|bytes| bytes.len() as u64);
        Ok(state)
    }

    /// Stores what was accepted on top of a state. When this returns, it survives a crash of the machine.
    ///
    /// # Errors
    /// [`StateError::Io`]; then what was stored before is still there, and no more.
    pub fn store(&self, record: Record<'_>, before: &State) -> Result<(), StateError> {
        let mut written = self.written();
        if written.snapshot.is_none() {
            let sequence = written.journal.sequence();
            written.snapshot = Some(self.write_snapshot(before, sequence)?);
        }
        let stored = written.journal.append(record);
        stored.map_err(|source| self.not_stored(JOURNAL_FILE, source))?;
        written.changed = Instant::now();
        Ok(())
    }

    /// Whether it is time to fold the journal into the state file, and up to where: to be done with the state as it is now.
    pub fn begin_fold(&self, now: Instant) -> Option<Fold> {
        let mut written = self.written();
        let length = written.journal.length();
        let is_long = length > JOURNAL_BYTES_MAX.max(written.snapshot.unwrap_or(0));
        let is_quiet = now.saturating_duration_since(written.changed) >= QUIET;
        let rests = written.folded;
        let rests = rests.is_some_and(|then| now.saturating_duration_since(then) < QUIET);
        if length == 0 || written.is_folding || rests || !(is_long || is_quiet) {
            return None;
        }
        written.is_folding = true;
        written.folded = Some(now);
        Some(Fold {
            sequence: written.journal.sequence(),
            length,
        })
    }

    /// Writes the state file anew, and takes out of the journal what it has then. Others may store meanwhile.
    ///
    /// # Errors
    /// [`StateError::Io`]; then everything is stored as it was.
    pub fn fold(&self, state: &State, fold: Fold) -> Result<(), StateError> {
        let snapshot = self.write_snapshot(state, fold.sequence);
        let mut written = self.written();
        written.is_folding = false;
        written.snapshot = Some(snapshot?);
        let dropped = written.journal.drop_until(fold.sequence, fold.length);
        dropped.map_err(|source| self.not_stored(JOURNAL_FILE, source))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many bytes it has.
    fn write_snapshot(&self, state: &State, sequence: u64) -> Result<u64, StateError> {
        let write = || {
            let bytes = snapshot::encode(state, sequence)?;
            replace(&self.path.join(CONFIGURATION_FILE), &bytes)?;
            Ok(bytes.len() as u64)
        };
        write().map_err(|source| self.not_stored(CONFIGURATION_FILE, source))
    }

    fn not_stored(&self, file: &str, source: io::Error) -> StateError {
        StateError::Io {
            action: "store the configuration in",
            path: self.path.join(file),
            source,
        }
    }
}

impl StateError {
    fn read(path: PathBuf, source: io::Error) -> Self {
        Self::Io {
            action: "read",
            path,
            source,
        }
    }
}

/// Puts a file in the place of another: after a crash it is the one or the other.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder(path)
}

/// Brings the names in the folder of a file to the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

#[cfg(test)]
mod tests;
