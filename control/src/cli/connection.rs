//! The connection to polluxd: one request, one answer; and what to say when there is none.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pollux_api::control::{Answer, Command};
use pollux_api::line::{self, LINE_BYTES_MAX, Request, Response};

use super::CliError;
use crate::accounts;
use crate::run_directory::RunDirectory;

/// Longer than polluxd's own limits together, so that its explanation arrives before this ends.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(90);

/// A connected polluxd.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    next_id: u64,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Why not, with what to do about it.
    pub fn open(directory: &RunDirectory) -> Result<Self, CliError> {
        let socket = directory.control_socket();
        let stream = UnixStream::connect(&socket)
            .map_err(|error| unreachable(directory, &socket, &error))?;
        stream
            .set_read_timeout(Some(ANSWER_TIME_MAX))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME_MAX)))
            .map_err(CliError::Connection)?;
        Ok(Self {
            stream: BufReader::new(stream),
            next_id: 1,
        })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// polluxd's refusal, or what is wrong with the connection.
    pub fn ask(&mut self, command: Command) -> Result<Answer, CliError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = line::encode(&Request::new(id, command))?;
        // polluxd may refuse a request before it has read all of it: its reason is worth more than the broken pipe.
        let written = self.stream.get_mut().write_all(&request);
        let mut answer = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = (&mut self.stream)
            .take(limit)
            .read_until(b'\n', &mut answer);
        if answer.last() != Some(&b'\n') {
            return Err(broken(read.err().or(written.err())));
        }
        let response: Response<Answer> = line::decode(&answer)?;
        response.result.map_err(CliError::Refused)
    }
}

/// Why there is no whole answer.
fn broken(error: Option<io::Error>) -> CliError {
    match error {
        // What the socket's own time limit gives.
        Some(error) if error.kind() == io::ErrorKind::WouldBlock => {
            CliError::Silent(ANSWER_TIME_MAX)
        }
        Some(error) => CliError::Connection(error),
        None => CliError::Connection(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Why a socket of polluxd cannot be reached, with what to do about it.
pub fn unreachable(directory: &RunDirectory, socket: &Path, error: &io::Error) -> CliError {
    let start = format!(
        "start it with `systemctl start polluxd` or `polluxd{}`",
        directory.as_options()
    );
    let text = socket.display();
    CliError::Unreachable(match error.kind() {
        io::ErrorKind::NotFound => {
            format!("polluxd is not running: there is no socket {text}; {start}")
        }
        io::ErrorKind::ConnectionRefused => {
            format!("polluxd is not running: it died and left its socket {text} behind; {start}")
        }
        io::ErrorKind::PermissionDenied => not_permitted(directory, socket),
        _ => format!("cannot reach polluxd at its socket {text}: {error}"),
    })
}

/// Whose the socket is, who asks, and how the two get together.
fn not_permitted(directory: &RunDirectory, socket: &Path) -> String {
    // The owner of this file is the effective user of this process.
    let me = fs::metadata("/proc/self").map_or_else(
        |_| "somebody else".to_owned(),
        |me| accounts::user_name(me.uid()),
    );
    let (path, metadata) = match fs::metadata(socket) {
        Ok(metadata) => (socket, metadata),
        Err(_) => match fs::metadata(directory.path()) {
            Ok(metadata) => (directory.path(), metadata),
            Err(error) => return format!("cannot reach {}: {error}", socket.display()),
        },
    };
    let (owner, group) = (
        accounts::user_name(metadata.uid()),
        accounts::group_name(metadata.gid()),
    );
    let join = if group == "root" {
        String::new()
    } else {
        format!(" or join the group (`usermod -aG {group} {me}`, then log in again)")
    };
    format!(
        "no permission: {} belongs to user {owner} and group {group} with mode {:04o}, you are {me}; run this as {owner} \
         (`sudo pollux ...`){join}",
        path.display(),
        metadata.permissions().mode() & 0o7777
    )
}
