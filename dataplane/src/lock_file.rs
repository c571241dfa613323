//! A lock that one process holds as long as it lives, with its number in the file for the others to name it.
//!
//! The lock is flock(2)'s: the kernel lets it go with the process, however it ends, so there are no stale locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// A lock that is held. Dropping it lets it go; the file stays.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug)]
pub enum LockFailure {
    /// Another process holds it.
    Held {
        /// Its number, if it has written it.
        pid: Option<u32>,
    },
    /// The file could not be opened, locked or written.
    Io(io::Error),
}

impl LockFile {
    /// Takes the lock, making the file if need be.
    ///
    /// # Errors
    /// [`LockFailure`]. It does not wait.
    pub fn take(path: &Path) -> Result<Self, LockFailure> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(LockFailure::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok();
                let pid = pid.and_then(|_| text.trim().parse().ok());
                return Err(LockFailure::Held { pid });
            }
            Err(TryLockError::Error(error)) => return Err(LockFailure::Io(error)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind());
        written
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(LockFailure::Io)?;
        Ok(Self { _file: file })
    }
}

/// `(pid 7)`, or nothing if it is not known.
pub(crate) fn pid_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_and_may_have_it_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::fs::write(&path, "99999999 an older and longer content\n").unwrap();
        let first = LockFile::take(&path).unwrap();
        let LockFailure::Held { pid } = LockFile::take(&path).unwrap_err() else {
            panic!("not held");
        };
        assert_eq!(pid, Some(std::process::id()));
        drop(first);
        assert!(LockFile::take(&path).is_ok());
    }

    #[test]
    fn a_missing_directory_is_an_io_error() {
        let path = Path::new("/nonexistent/lock");
        assert!(matches!(LockFile::take(path), Err(LockFailure::Io(_))));
    }
}
