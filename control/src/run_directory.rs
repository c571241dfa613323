//! Where the daemons of one Pollux meet: its sockets. Several can run on one machine, each with its own directory.

use std::path::{Path, PathBuf};

/// The directory unless said otherwise.
pub const DEFAULT_PATH: &str = "/run/pollux";

/// A run directory; it may not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDirectory(PathBuf);

impl RunDirectory {
    /// The run directory at a path.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The public socket, polluxd's.
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// The socket for unmodified IPVS tools, polluxd's.
    pub fn ipvs_socket(&self) -> PathBuf {
        self.0.join("ipvs.sock")
    }

    /// What tools see of IPVS's files in `/proc` when they look without opening them, polluxd's.
    pub fn ipvs_files(&self) -> PathBuf {
        self.0.join("ipvs.proc")
    }

    /// The private socket, the data plane's.
    pub fn dataplane_socket(&self) -> PathBuf {
        self.0.join("dataplane.sock")
    }

    /// Locked by the polluxd that runs here, with its process id in it.
    pub fn lock_file(&self) -> PathBuf {
        self.0.join("polluxd.pid")
    }

    /// The options with which a program is told this directory; empty for the default one. For messages.
    pub fn as_options(&self) -> String {
        if self.0 == Path::new(DEFAULT_PATH) {
            String::new()
        } else {
            format!(" --run-dir {}", self.0.display())
        }
    }
}
