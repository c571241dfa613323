//! The connection to the data plane: one request at a time, made again when it breaks.
//!
//! The data plane holds the truth. A connection to one that has a configuration adopts it; one that has none yet
//! (generation 0: the machine has just booted) is given the file's, in one transaction, before anything else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pollux_api::dataplane::{Query, Report};
use pollux_api::line::{self, Failure, FailureCode, Request, Response};
use pollux_api::{Configuration, Transaction};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{MutexGuard, watch};
use tokio::time::timeout;

use super::limits::{DATAPLANE_TIME_MAX, SMALL_BYTES, TURN_TIME_MAX};
use super::line_reader::{ReadError, read_line};
use super::{decode, lock, off_loop};
use crate::config::{self, ValidConfig, diff};
use crate::run_directory::RunDirectory;

/// The data plane as polluxd sees it.
#[derive(Debug)]
pub struct DataplaneClient {
    run_directory: RunDirectory,
    file: ConfigFile,
    /// None: not connected. Who holds the lock has the data plane to itself.
    connection: tokio::sync::Mutex<Option<Connection>>,
    /// What was last said in the log, so that a state is logged once and not four times a second.
    logged: Mutex<Option<String>>,
    /// The generation that was last made to run from here; none after a connect: whichever runs then.
    changes: watch::Sender<Option<u64>>,
}

/// The file with the configuration for a data plane that has none.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Used when the file is broken by the time it is needed.
    last_valid: Mutex<ValidConfig>,
}

/// What a file said and says.
#[derive(Debug)]
pub struct Reread {
    /// When it was read last.
    pub before: ValidConfig,
    /// Now.
    pub now: ValidConfig,
}

#[derive(Debug)]
struct Connection {
    stream: BufReader<UnixStream>,
    next_id: u64,
    /// The last configuration that is known to have run, with its generation. Another data plane is another connection.
    known: Option<(u64, Configuration)>,
}

/// Transactions of more changes are not repeated on what is known: asking for it anew holds up nobody.
const REPEATED_MAX: usize = 64;

/// Why an exchange with the data plane failed.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("it closed the connection")]
    Closed,
    #[error("it did not answer within {} s", DATAPLANE_TIME_MAX.as_secs())]
    TimedOut,
    #[error("{0}")]
    Read(ReadError),
    #[error("{0}")]
    Write(io::Error),
    #[error("{0}; use the same release of polluxd and pollux-dataplane")]
    Line(#[from] line::LineError),
    #[error("it answered request {answered} when asked request {asked}")]
    OutOfOrder { asked: u64, answered: u64 },
}

impl ConfigFile {
    /// The file at a path, and what was read from it.
    pub fn new(path: PathBuf, read: ValidConfig) -> Self {
        Self {
            path,
            last_valid: Mutex::new(read),
        }
    }

    /// What the file says now, or said when it was last valid.
    async fn configuration(&self) -> Configuration {
        let path = self.path.clone();
        let loaded = off_loop(move || config::load(&path)).await;
        let mut last_valid = lock(&self.last_valid);
        match loaded {
            Ok(config) => *last_valid = config,
            Err(error) => log::error!("{error}\nusing what the file said when it was last valid"),
        }
        last_valid.configuration().clone()
    }
}

impl ConfigFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file anew. What it says is kept for a data plane that comes without configuration; what it said before
    /// comes too.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that it is not there: whoever asks for this wrote one.
    pub async fn reload(&self) -> Result<Reread, config::LoadError> {
        let path = self.path.clone();
        let now = off_loop(move || config::load_existing(&path)).await?;
        let before = std::mem::replace(&mut *lock(&self.last_valid), now.clone());
        Ok(Reread { before, now })
    }
}

impl DataplaneClient {
    /// A client that is not connected yet.
    pub fn new(run_directory: RunDirectory, file: ConfigFile) -> Self {
        Self {
            run_directory,
            file,
            connection: tokio::sync::Mutex::new(None),
            logged: Mutex::new(None),
            changes: watch::Sender::default(),
        }
    }

    /// Tells whenever another configuration may run, and its generation if that is known.
    pub fn changes(&self) -> watch::Receiver<Option<u64>> {
        self.changes.subscribe()
    }

    fn note_change(&self, generation: Option<u64>) {
        self.changes.send_replace(generation);
    }

    /// The file.
    pub fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// Connects unless connected.
    ///
    /// # Errors
    /// [`FailureCode::DataplaneDown`] with what to start.
    pub async fn ensure_connected(&self) -> Result<(), Failure> {
        let mut held = self.in_turn().await?;
        let connection = self.connected(held.take()).await?;
        *held = Some(connection);
        Ok(())
    }

    /// Asks the data plane.
    ///
    /// # Errors
    /// Its own refusal, or [`FailureCode::DataplaneDown`] with what to start.
    pub async fn ask(&self, query: Query) -> Result<Report, Failure> {
        let mut held = self.in_turn().await?;
        let mut connection = self.connected(held.take()).await?;
        let mut result = connection.exchange(&query).await;
        if matches!(result, Err(ExchangeError::Closed)) && !changes_something(&query) {
            // A data plane that was just restarted: asking again does no harm.
            connection = self.connected(None).await?;
            result = connection.exchange(&query).await;
        }
        match result {
            Ok(answer) => {
                if let Ok(report) = &answer {
                    connection.learn(&query, report);
                }
                if let Ok(Report::Applied { generation }) = &answer {
                    self.note_change(Some(*generation));
                }
                *held = Some(connection);
                answer
            }
            // The connection is dropped: what would come over it belongs to this request.
            Err(error) => Err(self.broken(&error, &query)),
        }
    }

    /// What runs, with its generation. The data plane tells it only when another one runs than was last known.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn configuration(&self) -> Result<(u64, Configuration), Failure> {
        let Report::Generation { generation } = self.ask(Query::Generation).await? else {
            return Err(unexpected());
        };
        let known = {
            let held = self.in_turn().await?;
            held.as_ref()
                .and_then(|connection| connection.known.clone())
        };
        if let Some(known) = known.filter(|(known, _)| *known == generation) {
            return Ok(known);
        }
        match self.ask(Query::Configuration).await? {
            Report::Configuration {
                generation,
                configuration,
            } => Ok((generation, configuration)),
            _ => Err(unexpected()),
        }
    }

    /// The data plane to oneself; first come, first served.
    async fn in_turn(&self) -> Result<MutexGuard<'_, Option<Connection>>, Failure> {
        timeout(TURN_TIME_MAX, self.connection.lock())
            .await
            .map_err(|_| {
                let message = format!(
                    "the data plane was busy for {} s with the commands before this one; nothing was done",
                    TURN_TIME_MAX.as_secs()
                );
                Failure::new(FailureCode::Busy, message)
            })
    }

    /// The connection if it is still good, else a new one.
    async fn connected(&self, old: Option<Connection>) -> Result<Connection, Failure> {
        if let Some(connection) = old.filter(Connection::is_good) {
            return Ok(connection);
        }
        let connected = self.connect().await;
        if let Err(failure) = &connected {
            self.log_once(log::Level::Warn, &failure.message);
        }
        connected
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let socket = self.run_directory.dataplane_socket();
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let mut connection = Connection {
            stream: BufReader::with_capacity(SMALL_BYTES, stream),
            next_id: 1,
            known: None,
        };
        self.adopt(&mut connection).await?;
        self.note_change(None);
        Ok(connection)
    }

    async fn adopt(&self, connection: &mut Connection) -> Result<(), Failure> {
        let query = Query::Configuration;
        let report = connection
            .exchange(&query)
            .await
            .map_err(|error| self.broken(&error, &query))??;
        let Report::Configuration {
            generation,
            configuration,
        } = report
        else {
            return Err(unexpected());
        };
        if generation > 0 {
            let services = configuration.services.len();
            let text = format!(
                "data plane is up: adopted its configuration, generation {generation}, services: {services}"
            );
            self.log_once(log::Level::Info, &text);
            return Ok(());
        }
        self.load_file(connection).await
    }

    /// Gives a data plane without configuration the file's.
    async fn load_file(&self, connection: &mut Connection) -> Result<(), Failure> {
        let path = self.file.path.display();
        let wanted = self.file.configuration().await;
        // Also what is no service: settings, marks, checks.
        let changes = diff::changes(&Configuration::default(), &wanted);
        if changes.is_empty() {
            let text = format!("data plane is up, without services, as {path} has none");
            self.log_once(log::Level::Info, &text);
            return Ok(());
        }
        let query = Query::Transact(Transaction {
            base_generation: Some(0),
            changes,
        });
        let answer = connection
            .exchange(&query)
            .await
            .map_err(|error| self.broken(&error, &query))?;
        let services = wanted.services.len();
        match answer {
            Ok(_) => {
                let text = format!(
                    "data plane is up: gave it the configuration of {path}, services: {services}"
                );
                self.log_once(log::Level::Info, &text);
            }
            // It runs, and commands may still work: no reason to be without a connection.
            Err(refusal) => {
                let text =
                    format!("data plane is up but refused the services of {path}: {refusal}");
                self.log_once(log::Level::Error, &text);
            }
        }
        Ok(())
    }

    fn log_once(&self, level: log::Level, text: &str) {
        let mut logged = lock(&self.logged);
        if logged.as_deref() != Some(text) {
            log::log!(level, "{text}");
            *logged = Some(text.to_owned());
        }
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let socket = self.run_directory.dataplane_socket();
        let socket = socket.display();
        let start = format!(
            "start it with `systemctl start pollux-dataplane` or `pollux-dataplane{}`",
            self.run_directory.as_options()
        );
        let message = match error.kind() {
            io::ErrorKind::NotFound => {
                format!("the data plane is not running: there is no socket {socket}; {start}")
            }
            io::ErrorKind::ConnectionRefused => format!(
                "the data plane is not running: it died and left its socket {socket} behind; {start}"
            ),
            _ => format!("polluxd cannot reach the data plane at its socket {socket}: {error}"),
        };
        Failure::new(FailureCode::DataplaneDown, message)
    }

    fn broken(&self, error: &ExchangeError, query: &Query) -> Failure {
        let socket = self.run_directory.dataplane_socket();
        let mut message = format!("the data plane at {} failed: {error}", socket.display());
        if changes_something(query) {
            message.push_str(
                "; whether the change was made is not known: `pollux show configuration` tells",
            );
        }
        self.log_once(log::Level::Warn, &message);
        Failure::new(FailureCode::DataplaneDown, message)
    }
}

impl Connection {
    /// Keeps what an answer says of the configuration that runs.
    fn learn(&mut self, query: &Query, report: &Report) {
        match (query, report) {
            (
                _,
                Report::Configuration {
                    generation,
                    configuration,
                },
            ) => self.known = Some((*generation, configuration.clone())),
            (Query::Transact(transaction), Report::Applied { generation }) => {
                let known = self.known.take();
                // With nobody's change in between, it is what was known and this one: by the same code as in the data plane.
                let before = known.filter(|(before, _)| {
                    before + 1 == *generation && transaction.changes.len() <= REPEATED_MAX
                });
                self.known = before.and_then(|(_, before)| {
                    let after = before.apply(&transaction.changes).ok()?;
                    Some((*generation, after))
                });
            }
            _ => {}
        }
    }

    /// Whether the peer is there and has said nothing unasked.
    fn is_good(&self) -> bool {
        let mut byte = [0];
        let unasked = self.stream.get_ref().try_read(&mut byte);
        self.stream.buffer().is_empty()
            && matches!(unasked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn exchange(&mut self, query: &Query) -> Result<Result<Report, Failure>, ExchangeError> {
        let asked = self.next_id;
        self.next_id += 1;
        let request = line::encode(&Request::new(asked, query))?;
        let round_trip = async {
            let written = self.stream.get_mut().write_all(&request).await;
            written.map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ExchangeError::Closed,
                _ => ExchangeError::Write(error),
            })?;
            let read = read_line(&mut self.stream, |_| true).await;
            read.map_err(|error| match error {
                ReadError::Closed | ReadError::Truncated => ExchangeError::Closed,
                ReadError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    ExchangeError::Closed
                }
                other => ExchangeError::Read(other),
            })
        };
        let answer = timeout(DATAPLANE_TIME_MAX, round_trip)
            .await
            .map_err(|_| ExchangeError::TimedOut)??;
        let response: Response<Report> = decode(answer).await?;
        if response.id != asked {
            return Err(ExchangeError::OutOfOrder {
                asked,
                answered: response.id,
            });
        }
        Ok(response.result)
    }
}

/// Whether asking twice would not be the same as asking once.
fn changes_something(query: &Query) -> bool {
    match query {
        Query::Transact(_) | Query::Zero { .. } => true,
        Query::Generation
        | Query::Configuration
        | Query::Services
        | Query::Service { .. }
        | Query::Director
        | Query::Table
        | Query::Connections(_)
        | Query::Ports
        | Query::Workers
        | Query::Drops
        | Query::Sync => false,
    }
}

/// The failure for an answer of the wrong kind.
pub fn unexpected() -> Failure {
    Failure::new(
        FailureCode::Internal,
        "the data plane answered something else than was asked: use the same release of polluxd and pollux-dataplane",
    )
}
