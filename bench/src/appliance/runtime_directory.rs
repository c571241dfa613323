//! What DPDK makes of a program in `/run/dpdk`: files of this run alone, which stay when it is ended while it starts.

use std::fs;
use std::path::{Path, PathBuf};

/// The directory; it goes with this. Ends after the program.
#[derive(Debug)]
pub struct RuntimeDirectory(PathBuf);

impl RuntimeDirectory {
    /// Of the program with this file prefix.
    pub fn of(prefix: &str) -> Self {
        Self(Path::new("/var/run/dpdk").join(prefix))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for RuntimeDirectory {
    fn drop(&mut self) {
        // Most often it is gone already.
        let _ = fs::remove_dir_all(&self.0);
    }
}
