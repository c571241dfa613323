//! Claims the sockets: one polluxd a run directory, whatever became of the one before.
//!
//! Who holds the lock on `polluxd.pid` is the daemon of the directory. The kernel frees the lock with the process, so
//! the sockets of a dead daemon are replaced and those of a live one never. A new socket is made beside its place, given
//! its group and mode, then renamed: under its name nobody ever finds it with other permissions, and there is always
//! one or the other.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::UnixListener;
use tokio_seqpacket::UnixSeqpacketListener;

use crate::accounts;
use crate::config::ControlSettings;
use crate::run_directory::RunDirectory;

/// Why the socket cannot be had.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Another polluxd has it.
    #[error(
        "polluxd is already running here: process {pid} has the socket {socket}; stop it, or give this one another --run-dir"
    )]
    AlreadyRunning {
        /// Its process id as it wrote it.
        pid: String,
        /// Its socket.
        socket: PathBuf,
    },
    /// The group of the configuration is not there.
    #[error(
        "control.socket_group: there is no group \"{0}\" on this machine: `groupadd {0}` makes it"
    )]
    NoGroup(String),
    /// Something in the file system does not work.
    #[error("cannot {what} {path}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// The right to the run directory. Dropped, it takes the sockets away.
#[derive(Debug)]
pub struct Claim {
    sockets: Vec<PathBuf>,
    /// Held for its lock.
    _lock: File,
}

/// What polluxd listens on.
#[derive(Debug)]
pub struct Listeners {
    /// For commands.
    pub control: UnixListener,
    /// For unmodified IPVS tools.
    pub ipvs: UnixSeqpacketListener,
}

impl Drop for Claim {
    fn drop(&mut self) {
        for socket in &self.sockets {
            if let Err(error) = fs::remove_file(socket) {
                log::warn!("cannot remove {}: {error}", socket.display());
            }
        }
    }
}

/// Claims the directory and listens.
///
/// # Errors
/// [`ClaimError`].
pub fn claim(
    directory: &RunDirectory,
    settings: &ControlSettings,
) -> Result<(Claim, Listeners), ClaimError> {
    let sockets = [directory.control_socket(), directory.ipvs_socket()];
    let [control, ipvs] = &sockets;
    fs::create_dir_all(directory.path()).map_err(system("create", directory.path()))?;
    let lock = lock(directory)?;
    let listeners = Listeners {
        control: listen(control, settings, |path| UnixListener::bind(path))?,
        ipvs: listen(ipvs, settings, |path| UnixSeqpacketListener::bind(path))?,
    };
    let claim = Claim {
        sockets: sockets.to_vec(),
        _lock: lock,
    };
    Ok((claim, listeners))
}

fn system<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ClaimError + 'a {
    move |error| ClaimError::System {
        what,
        path: path.to_owned(),
        error,
    }
}

fn lock(directory: &RunDirectory) -> Result<File, ClaimError> {
    let path = directory.lock_file();
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(system("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid)
                .map_err(system("read", &path))?;
            return Err(ClaimError::AlreadyRunning {
                pid: pid.trim().to_owned(),
                socket: directory.control_socket(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(system("lock", &path)(error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(system("write", &path))?;
    Ok(file)
}

fn listen<L>(
    socket: &Path,
    settings: &ControlSettings,
    bind: impl FnOnce(&Path) -> io::Result<L>,
) -> Result<L, ClaimError> {
    let new = socket.with_extension("sock.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(system("remove", &new)(error));
        }
        _ => {}
    }
    let listener = bind(&new).map_err(system("listen on", &new))?;
    if let Some(group) = &settings.socket_group {
        let id = accounts::group_id(group).ok_or_else(|| ClaimError::NoGroup(group.clone()))?;
        chown(&new, None, Some(id)).map_err(system("change the group of", &new))?;
    }
    fs::set_permissions(&new, Permissions::from_mode(settings.socket_mode))
        .map_err(system("change the mode of", &new))?;
    fs::rename(&new, socket).map_err(system("rename the new socket to", socket))?;
    Ok(listener)
}
