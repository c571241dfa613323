//! `pollux ipvs`: becomes another program, with the library preloaded that takes it to polluxd.
//!
//! The library is in this program, so the two are always of one release. It is given to the dynamic linker as a file in
//! memory: `/run` and `/tmp` may be mounted so that nothing in them can be executed. The file's descriptor is inherited
//! by whatever the tool starts, under the same number, so the library is found there too.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use thiserror::Error;

use super::CliError;
use super::connection::unreachable;
use crate::run_directory::RunDirectory;

/// Above the descriptors that programs and shell scripts ask for by number.
const LIBRARY_DESCRIPTOR_MIN: i32 = 200;

/// The variable in which the library finds the socket.
const SOCKET_VARIABLE: &str = "POLLUX_IPVS_SOCKET";

/// The variable in which the dynamic linker finds the library.
const PRELOAD_VARIABLE: &str = "LD_PRELOAD";

/// Why a tool is not run.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The library cannot be put where the dynamic linker finds it.
    #[error("cannot make the library for IPVS tools available: {0}")]
    Library(io::Error),
    /// The tool cannot be started.
    #[error(
        "cannot start {}: {error}; `apt install ipvsadm keepalived` brings the usual tools",
        .tool.display()
    )]
    Start {
        /// Its name.
        tool: OsString,
        /// Why not.
        error: io::Error,
    },
}

/// Runs a tool in the place of this program: returns only when that fails.
///
/// # Errors
/// polluxd does not run, or the tool cannot be started.
pub fn run(directory: &RunDirectory, command: &[OsString]) -> Result<(), CliError> {
    check_polluxd(directory)?;
    match become_tool(directory, command)? {}
}

/// Says that polluxd does not run better than a tool does, which looks for a kernel module then. Without permission the
/// tool's own words are right: "you must be root".
fn check_polluxd(directory: &RunDirectory) -> Result<(), CliError> {
    let socket = directory.ipvs_socket();
    match UnixStream::connect(&socket) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Err(unreachable(directory, &socket, &error))
        }
        // It is there, and not for streams.
        _ => Ok(()),
    }
}

fn become_tool(directory: &RunDirectory, command: &[OsString]) -> Result<Infallible, ToolError> {
    let (tool, arguments) = command.split_first().ok_or_else(|| ToolError::Start {
        tool: OsString::new(),
        error: io::ErrorKind::NotFound.into(),
    })?;
    let socket = std::path::absolute(directory.ipvs_socket()).map_err(ToolError::Library)?;
    let library = library().map_err(|errno| ToolError::Library(errno.into()))?;
    let mut preload = OsString::from(format!("/proc/self/fd/{}", library.as_raw_fd()));
    if let Some(others) = std::env::var_os(PRELOAD_VARIABLE).filter(|others| !others.is_empty()) {
        preload.push(OsStr::new(":"));
        preload.push(others);
    }
    let error = Command::new(tool)
        .args(arguments)
        .env(SOCKET_VARIABLE, socket)
        .env(PRELOAD_VARIABLE, preload)
        .exec();
    Err(ToolError::Start {
        tool: tool.clone(),
        error,
    })
}

/// The library as a file that lives as long as somebody has it open; what is executed next inherits it.
fn library() -> Result<OwnedFd, Errno> {
    let file = File::from(memfd_create("pollux-ipvs.so", MemfdFlags::CLOEXEC)?);
    (&file)
        .write_all(pollux_ipvs_shim::LIBRARY)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let high = fcntl_dupfd_cloexec(&file, LIBRARY_DESCRIPTOR_MIN)?;
    fcntl_setfd(&high, FdFlags::empty())?;
    Ok(high)
}
