//! polluxd: the daemon between the control socket and the data plane.
//!
//! ```text
//! control.sock ──► session (one task a client) ──► commands ──► dataplane_client ──► dataplane.sock
//! ipvs.sock ──► ipvs_session (one task a client) ──► ipvs_commands ──┘ ▲ rates ◄── every 2 s: counters of all services
//!                                                                       health ◄── results of the checks
//! HTTP, GET /metrics ──► metrics ──► a sample of all counters, once a second at most
//! ```
//!
//! It holds nothing that a restart would lose: the configuration that runs is the data plane's, the file is the
//! administrator's. One thread runs everything; whatever takes longer than some microseconds (large JSON) goes to
//! another thread, so that no client waits for another's.

mod announce;
pub mod arguments;
mod audit;
mod caller;
mod clients;
mod commands;
pub mod control_socket;
mod dataplane_client;
mod events;
mod health;
mod health_answer;
mod ipvs_commands;
mod ipvs_file;
mod ipvs_folder;
mod ipvs_session;
mod journal;
pub mod limits;
mod line_reader;
mod metrics;
mod pieces;
mod quorum;
mod rates;
mod reload;
mod service_manager;
mod session;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pollux_api::estimator;
use pollux_api::line::{self, LineError};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_seqpacket::UnixSeqpacketListener;

use crate::config;
use crate::health::HealthTable;
use crate::run_directory::RunDirectory;
use clients::{Clients, Presence};
use control_socket::ClaimError;
use dataplane_client::{ConfigFile, DataplaneClient};
use events::EventQueue;
use journal::Journal;
use limits::{BUDGET_BYTES, Budget, CLIENTS_MAX, SMALL_BYTES};
use metrics::LastSample;
use quorum::QuorumPrograms;
use rates::RateTable;

/// How often polluxd looks whether the data plane is there.
const CONNECTION_CHECK: Duration = Duration::from_millis(250);

/// Pause after the system refused to accept a client (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What polluxd is told at its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where the sockets are.
    pub run_directory: RunDirectory,
    /// For what outlives polluxd: the logs of changes and of events.
    pub state_directory: PathBuf,
}

/// Why polluxd does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] config::LoadError),
    /// The sockets.
    #[error(transparent)]
    Socket(#[from] ClaimError),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(io::Error),
}

/// All that the tasks share.
#[derive(Debug)]
struct Daemon {
    dataplane: DataplaneClient,
    rates: Mutex<RateTable>,
    health: HealthTable,
    /// Told when an address may have to be announced or withdrawn.
    announcing: Notify,
    programs: QuorumPrograms,
    audit: Journal,
    event_log: Journal,
    events: EventQueue,
    last_sample: LastSample,
    budget: Budget,
}

/// Runs until SIGTERM or SIGINT; SIGHUP reads the file again.
///
/// # Errors
/// [`StartError`]; once it serves, it goes on serving.
pub async fn run(options: Options) -> Result<(), StartError> {
    let read = config::load(&options.config)?;
    let signals = (
        signal(SignalKind::terminate()).map_err(StartError::Signals)?,
        signal(SignalKind::interrupt()).map_err(StartError::Signals)?,
    );
    let hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let (_claim, mut listeners) = control_socket::claim(&options.run_directory, read.control())?;
    let metrics = read.control().metrics;
    let folder = options.run_directory.ipvs_files();
    if let Err(error) = ipvs_folder::lay_out(&folder) {
        log::warn!(
            "cannot make {}: {error}; IPVS tools find no files in /proc/sys/net/ipv4/vs",
            folder.display()
        );
    }
    let file = ConfigFile::new(options.config, read);
    let (events, new_events) = EventQueue::new();
    let state = &options.state_directory;
    let daemon = Arc::new(Daemon {
        dataplane: DataplaneClient::new(options.run_directory.clone(), file),
        rates: Mutex::default(),
        health: HealthTable::default(),
        announcing: Notify::new(),
        programs: QuorumPrograms::default(),
        audit: Journal::new(state, "audit", "who changes what"),
        event_log: Journal::new(state, "events", "what checks switch"),
        events,
        last_sample: LastSample::default(),
        budget: Budget::new(BUDGET_BYTES),
    });
    // A data plane that is there already has its configuration before the first client is answered.
    let _ = daemon.dataplane.ensure_connected().await;
    log::info!(
        "ready: control socket {}",
        options.run_directory.control_socket().display()
    );
    service_manager::ready();
    tokio::select! {
        () = accept_control(&daemon, &listeners.control) => {}
        () = accept_ipvs(&daemon, &mut listeners.ipvs) => {}
        () = metrics::serve(&daemon, metrics) => {}
        () = keep_connected(&daemon) => {}
        () = keep_sampling(&daemon) => {}
        () = daemon.keep_healthy() => {}
        () = daemon.keep_announcing() => {}
        () = daemon.keep_writing_events(new_events) => {}
        () = daemon.keep_reloading(hangup) => {}
        () = service_manager::keep_alive() => {}
        name = stop_signal(signals) => log::info!("stopping on {name}; the data plane goes on"),
    }
    service_manager::stopping();
    Ok(())
}

async fn stop_signal((mut terminate, mut interrupt): (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

async fn accept_control(daemon: &Arc<Daemon>, listener: &UnixListener) {
    let next = async || Ok(listener.accept().await?.0);
    let clients = Arc::new(Clients::new(CLIENTS_MAX));
    accept(&clients, next, |stream, presence| {
        session::serve(Arc::clone(daemon), stream, presence)
    })
    .await;
}

async fn accept_ipvs(daemon: &Arc<Daemon>, listener: &mut UnixSeqpacketListener) {
    let clients = Arc::new(Clients::new(CLIENTS_MAX));
    accept(
        &clients,
        async || listener.accept().await,
        |socket, presence| ipvs_session::serve(Arc::clone(daemon), socket, presence),
    )
    .await;
}

/// Takes the clients of one socket, each served by a task of its own.
async fn accept<S, F>(
    clients: &Arc<Clients>,
    mut next: impl AsyncFnMut() -> io::Result<S>,
    serve: impl Fn(S, Presence) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    for id in 0_u64.. {
        let stream = match next().await {
            Ok(stream) => stream,
            Err(error) => {
                log::error!("cannot accept a client: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !clients.make_room() {
            log::warn!("a client was turned away: all others are busy");
            continue;
        }
        let session = serve(stream, clients.presence(id));
        clients.enter(id, tokio::spawn(session).abort_handle());
    }
}

async fn keep_connected(daemon: &Daemon) {
    loop {
        // What is wrong is logged by the client, once.
        let _ = daemon.dataplane.ensure_connected().await;
        sleep(CONNECTION_CHECK).await;
    }
}

async fn keep_sampling(daemon: &Daemon) {
    let tick = estimator::TICK;
    let mut ticks = interval_at(Instant::now(), tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last: Option<Instant> = None;
    loop {
        let now = ticks.tick().await;
        daemon.last_sample.forget_old();
        let Ok(services) = daemon.services().await else {
            continue;
        };
        let Ok(director) = daemon.director().await else {
            continue;
        };
        let ports = daemon.ports().await.unwrap_or_default();
        let workers = daemon.workers().await.unwrap_or_default();
        let passed = last.map_or(tick, |last| now - last);
        let missed_too = (passed.as_secs_f64() / tick.as_secs_f64()).round();
        let mut rates = lock(&daemon.rates);
        rates.sample(&services, missed_too as u32);
        rates.sample_director(director.totals, missed_too as u32);
        rates.sample_ports(&ports, missed_too as u32);
        rates.sample_workers(&workers, missed_too as u32);
        last = Some(now);
    }
}

/// The lock of a mutex. A task that panicked while it held one has not left the data half-written: each is replaced
/// by one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a computation on another thread, so that this one goes on with other clients.
async fn off_loop<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(compute).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            // It goes on as if the computation had run in this task.
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the daemon is stopping, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Decodes a line: a short one here, a long one on another thread.
async fn decode<T: DeserializeOwned + Send + 'static>(line: Vec<u8>) -> Result<T, LineError> {
    if line.len() <= SMALL_BYTES {
        return line::decode(&line);
    }
    off_loop(move || line::decode(&line)).await
}
