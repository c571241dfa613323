//! `<run-dir>/dataplane.sock`: where polluxd asks and this process answers. JSON lines, see `pollux_api::line`.
//!
//! Each client has a task of its own, so that one that is slow to write or to read holds up nobody else. What a
//! client can cost is bounded: the length of a line, the time to send one or to take an answer, the number of clients.
//! What is asked for is done by a [`DataplaneControl`]; this module knows the wire only.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pollux_api::dataplane::{
    ConnectionPage, ConnectionQuery, DirectorStatus, PortStatus, Query, Report, TableStatus,
    WorkerStatus,
};
use pollux_api::line::{self, Failure, FailureCode, LINE_BYTES_MAX, Request, Response};
use pollux_api::statistics::{DropReport, ServiceStatistics};
use pollux_api::synchronisation::SyncStatus;
use pollux_api::{Configuration, ServiceId, Transaction};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::lock_file::{LockFailure, LockFile, pid_text};

/// What can be asked of the running data plane. Each call may take its time; others go on meanwhile.
pub trait DataplaneControl: Send + Sync + 'static {
    /// Does a transaction, whole or not at all, and returns the generation every worker runs with then.
    fn transact(
        &self,
        transaction: Transaction,
    ) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Sets counters to zero, of one service or of all, and returns the generation that runs.
    fn zero(&self, service: Option<ServiceId>)
    -> impl Future<Output = Result<u64, Failure>> + Send;

    /// The generation of the configuration that runs.
    fn generation(&self) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// The configuration that runs, and its generation.
    fn configuration(&self) -> impl Future<Output = Result<(u64, Configuration), Failure>> + Send;

    /// All services with counters.
    fn services(&self) -> impl Future<Output = Result<Vec<ServiceStatistics>, Failure>> + Send;

    /// One service with counters; none when there is no such service.
    fn service(
        &self,
        service: ServiceId,
    ) -> impl Future<Output = Result<Option<ServiceStatistics>, Failure>> + Send;

    /// What holds for the director as a whole.
    fn director(&self) -> impl Future<Output = Result<DirectorStatus, Failure>> + Send;

    /// How full the connection table is.
    fn table(&self) -> impl Future<Output = Result<TableStatus, Failure>> + Send;

    /// A page of connections.
    fn connections(
        &self,
        query: ConnectionQuery,
    ) -> impl Future<Output = Result<ConnectionPage, Failure>> + Send;

    /// All ports.
    fn ports(&self) -> impl Future<Output = Result<Vec<PortStatus>, Failure>> + Send;

    /// All workers.
    fn workers(&self) -> impl Future<Output = Result<Vec<WorkerStatus>, Failure>> + Send;

    /// Fates of packets by port.
    fn drops(&self) -> impl Future<Output = Result<Vec<DropReport>, Failure>> + Send;

    /// The daemons of connection synchronisation.
    fn sync(&self) -> impl Future<Output = Result<SyncStatus, Failure>> + Send;
}

/// What a client may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest request, in bytes.
    pub line_bytes_max: usize,
    /// The longest time from the first byte of a request to its last, and for a client to take an answer.
    pub line_timeout: Duration,
    /// Clients at one time; polluxd is one.
    pub clients_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes_max: LINE_BYTES_MAX,
            line_timeout: Duration::from_secs(10),
            clients_max: 16,
        }
    }
}

/// For the user and the group that the data plane runs as: the unit's group is polluxd's, which is not root. Whoever
/// may connect may change what is forwarded where.
const SOCKET_MODE: u32 = 0o660;

/// Why the socket could not be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another data plane has this run directory.
    #[error(
        "another data plane runs with this run dir{pid}: stop it, or give this one a directory of its own instead of \
         {directory} with --run-dir",
        directory = .directory.display(), pid = pid_text(*.pid)
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process that has it.
        pid: Option<u32>,
    },
    /// Permissions, a path that is too long, something else in the place.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The open socket. It is gone, also from the directory, when this is dropped.
#[derive(Debug)]
pub struct PrivateSocket {
    listener: UnixListener,
    path: PathBuf,
    limits: Limits,
    _lock: LockFile,
}

impl Drop for PrivateSocket {
    fn drop(&mut self) {
        // Nobody to tell, and the next start removes it as well.
        let _ = fs::remove_file(&self.path);
    }
}

impl PrivateSocket {
    /// Opens the socket in the run directory, which is made if need be. One that a dead process left is replaced.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn open(run_directory: &Path, limits: Limits) -> Result<Self, SocketError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::Io {
                action,
                path,
                source,
            }
        };
        let made = fs::create_dir_all(run_directory);
        made.map_err(failed("make the run directory", run_directory))?;
        let lock_path = run_directory.join("dataplane.lock");
        // Whoever holds the lock owns the socket, so that one which is there is a dead one's.
        let lock = LockFile::take(&lock_path).map_err(|failure| match failure {
            LockFailure::Held { pid } => SocketError::InUse {
                directory: run_directory.to_owned(),
                pid,
            },
            LockFailure::Io(source) => failed("lock", &lock_path)(source),
        })?;
        let path = run_directory.join("dataplane.sock");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace", &path)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed("listen on", &path))?;
        let restricted = fs::set_permissions(&path, fs::Permissions::from_mode(SOCKET_MODE));
        restricted.map_err(failed("restrict", &path))?;
        Ok(Self {
            listener,
            path,
            limits,
            _lock: lock,
        })
    }

    /// Answers clients until it is dropped.
    pub async fn serve<C: DataplaneControl>(&self, control: Arc<C>) {
        let places = Arc::new(Semaphore::new(self.limits.clients_max));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: those that are connected go on.
                    log::error!("cannot accept a client on {}: {error}", self.path.display());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let limits = self.limits;
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    tokio::spawn(Client::new(stream, limits).serve(Arc::clone(&control), place));
                }
                Err(_) => {
                    tokio::spawn(Client::new(stream, limits).refuse());
                }
            }
        }
    }
}

/// One connection.
struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    limits: Limits,
}

/// Why there is no line to answer.
enum NoLine {
    /// The client is gone, or takes too long.
    Gone,
    /// The line is too long; where the next one starts is unknown.
    TooLong,
}

impl Client {
    fn new(stream: UnixStream, limits: Limits) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader: BufReader::new(reader),
            writer,
            limits,
        }
    }

    async fn serve<C: DataplaneControl>(mut self, control: Arc<C>, _place: OwnedSemaphorePermit) {
        loop {
            let response = match self.line().await {
                Ok(line) => respond(&*control, &line).await,
                Err(NoLine::Gone) => return,
                Err(NoLine::TooLong) => {
                    let limit = self.limits.line_bytes_max;
                    self.write(&bad_request(format!(
                        "a request of more than {limit} bytes: send fewer changes at once"
                    )))
                    .await;
                    return;
                }
            };
            if !self.write(&response).await {
                return;
            }
        }
    }

    async fn refuse(mut self) {
        let limit = self.limits.clients_max;
        let message = format!("{limit} clients are connected already, no more are served");
        let failure = Failure::new(FailureCode::Internal, message);
        self.write(&Response::new(0, Err(failure))).await;
    }

    /// Waits as long as it takes for a request to begin, but not for it to end.
    async fn line(&mut self) -> Result<Vec<u8>, NoLine> {
        match self.reader.fill_buf().await {
            Ok([]) | Err(_) => return Err(NoLine::Gone),
            Ok(_) => {}
        }
        let mut line = Vec::new();
        let limit = self.limits.line_bytes_max;
        let mut bounded = (&mut self.reader).take(u64::try_from(limit).unwrap_or(u64::MAX));
        let read = bounded.read_until(b'\n', &mut line);
        match timeout(self.limits.line_timeout, read).await {
            Ok(Ok(_)) if line.ends_with(b"\n") => Ok(line),
            Ok(Ok(_)) if line.len() == limit => Err(NoLine::TooLong),
            _ => Err(NoLine::Gone),
        }
    }

    /// False when the client does not take it.
    async fn write(&mut self, response: &Response<Report>) -> bool {
        let bytes = match line::encode(response) {
            Ok(bytes) => bytes,
            Err(error) => {
                log::error!("an answer cannot be written: {error}");
                return false;
            }
        };
        let written = timeout(self.limits.line_timeout, self.writer.write_all(&bytes)).await;
        matches!(written, Ok(Ok(())))
    }
}

async fn respond<C: DataplaneControl>(control: &C, line: &[u8]) -> Response<Report> {
    match line::decode::<Request<Query>>(line) {
        Ok(Request { id, body, .. }) => Response::new(id, answer(control, body).await),
        Err(error) => bad_request(error),
    }
}

fn bad_request(message: impl ToString) -> Response<Report> {
    Response::new(0, Err(Failure::new(FailureCode::BadRequest, message)))
}

async fn answer<C: DataplaneControl>(control: &C, query: Query) -> Result<Report, Failure> {
    let applied = |generation| Report::Applied { generation };
    Ok(match query {
        Query::Transact(transaction) => applied(control.transact(transaction).await?),
        Query::Zero { service } => applied(control.zero(service).await?),
        Query::Generation => Report::Generation {
            generation: control.generation().await?,
        },
        Query::Configuration => {
            let (generation, configuration) = control.configuration().await?;
            Report::Configuration {
                generation,
                configuration,
            }
        }
        Query::Services => Report::Services(control.services().await?),
        Query::Service { service } => {
            Report::Services(control.service(service).await?.into_iter().collect())
        }
        Query::Director => Report::Director(control.director().await?),
        Query::Table => Report::Table(control.table().await?),
        Query::Connections(query) => Report::Connections(control.connections(query).await?),
        Query::Ports => Report::Ports(control.ports().await?),
        Query::Workers => Report::Workers(control.workers().await?),
        Query::Drops => Report::Drops(control.drops().await?),
        Query::Sync => Report::Sync(control.sync().await?),
    })
}

#[cfg(test)]
mod tests;
