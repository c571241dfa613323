//! The daemons of connection synchronisation: sockets of the kernel, served by the main thread.
//!
//! ```text
//! workers ─► Master (a bounded queue each) ─► [`master`]: Outbox, every 10 ms ─► UDP multicast
//! UDP multicast ─► [`backup`]: read, checked ─► Backup (a bounded queue each) ─► workers
//! ```
//!
//! Neither side waits for the other: what does not fit is dropped and counted. An interface that is not there yet, or that comes
//! back as another one, is looked for each second.

mod backup;
mod master;
mod socket;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pollux_api::line::{Failure, FailureCode};
use pollux_api::synchronisation::SyncStatus;
use pollux_api::{Configuration, SyncDaemon, SyncDaemons, SyncRole};
use pollux_engine::SnapshotSpec;
use pollux_engine::counters::WorkerCounters;

/// How often a daemon looks whether its interface is the one its sockets are of.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// A counter that the main thread writes.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How a daemon's sockets are opened.
#[derive(Debug, Clone)]
struct Plan {
    role: SyncRole,
    daemon: SyncDaemon,
    /// How many UDP ports, a power of two.
    ports: u8,
    /// Size of a socket's buffer, bytes; 0: the kernel's.
    buffer_bytes: usize,
    datagram_bytes_max: u16,
}

impl Plan {
    fn new(role: SyncRole, daemon: &SyncDaemon, configuration: &Configuration) -> Self {
        let settings = &configuration.settings;
        let buffer_bytes = usize::try_from(settings.get("sync_sock_size"));
        let mtu = socket::mtu_of(&daemon.interface);
        Self {
            role,
            daemon: daemon.clone(),
            ports: u8::try_from(settings.get("sync_ports")).unwrap_or(1),
            buffer_bytes: buffer_bytes.unwrap_or(0),
            datagram_bytes_max: daemon.datagram_bytes_max(role, mtu),
        }
    }

    /// A failure to open, for whoever starts the daemon.
    fn failure(&self, error: &io::Error) -> Failure {
        let Self { role, daemon, .. } = self;
        let name = &daemon.interface;
        if socket::is_no_interface(error) {
            let message = format!(
                "sync {role}: this machine has no interface {name:?}: write one that `ip link` lists"
            );
            return Failure::new(FailureCode::NoDevice, message);
        }
        let message = format!("sync {role}: cannot open its sockets on {name}: {error}");
        Failure::new(FailureCode::Internal, message)
    }
}

/// Ends a task when it is dropped.
#[derive(Debug)]
struct Task(tokio::task::AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The daemons that run.
#[derive(Debug)]
pub struct Daemons {
    entries: u32,
    workers: usize,
    master: Option<master::Running>,
    backup: Option<backup::Running>,
}

/// Daemons that are ready to run instead of those that do; what is none stays.
#[derive(Debug, Default)]
pub struct Prepared {
    master: Option<Option<master::Ready>>,
    backup: Option<Option<backup::Ready>>,
}

impl Daemons {
    /// Without a daemon, for a table of so many entries and so many workers.
    pub fn new(entries: u32, workers: usize) -> Self {
        Self {
            entries,
            workers,
            master: None,
            backup: None,
        }
    }

    fn daemon(&self, role: SyncRole) -> Option<&SyncDaemon> {
        match role {
            SyncRole::Master => self.master.as_ref().map(|running| &running.plan.daemon),
            SyncRole::Backup => self.backup.as_ref().map(|running| &running.plan.daemon),
        }
    }

    /// Makes ready what is to run and does not. One that cannot open its sockets is refused, or, when there is nobody to tell,
    /// tries again.
    ///
    /// # Errors
    /// A [`Failure`] for the asker; nothing has changed.
    pub fn prepare(
        &self,
        configuration: &Configuration,
        is_asked_for: bool,
    ) -> Result<Prepared, Failure> {
        let SyncDaemons { master, backup } = &configuration.sync;
        let differs = |role, wanted: &Option<SyncDaemon>| self.daemon(role) != wanted.as_ref();
        let mut prepared = Prepared::default();
        if differs(SyncRole::Master, master) {
            let ready = master.as_ref().map(|daemon| {
                let plan = Plan::new(SyncRole::Master, daemon, configuration);
                master::Ready::new(plan, (self.entries, self.workers), is_asked_for)
            });
            prepared.master = Some(ready.transpose()?);
        }
        if differs(SyncRole::Backup, backup) {
            let ready = backup.as_ref().map(|daemon| {
                let plan = Plan::new(SyncRole::Backup, daemon, configuration);
                backup::Ready::new(plan, self.workers, is_asked_for)
            });
            prepared.backup = Some(ready.transpose()?);
        }
        Ok(prepared)
    }

    /// Starts and stops what was prepared, and tells those that run of settings.
    pub fn adopt(&mut self, prepared: Prepared, configuration: &Configuration) {
        if let Some(ready) = prepared.master {
            // The old one's sockets are closed first.
            self.master = None;
            self.master = ready.map(master::Ready::run);
        }
        if let Some(ready) = prepared.backup {
            self.backup = None;
            self.backup = ready.map(backup::Ready::run);
        }
        if let Some(running) = &self.master {
            running.set_waiting_max(configuration.settings.get("sync_qlen_max"));
        }
    }

    /// Puts into a snapshot what workers need of them.
    pub fn put_into(&self, spec: &mut SnapshotSpec) {
        spec.master = self
            .master
            .as_ref()
            .map(|running| Arc::clone(&running.engine));
        spec.backup = self
            .backup
            .as_ref()
            .map(|running| Arc::clone(&running.engine));
    }

    /// How they do.
    pub fn status(&self, counters: &[Arc<WorkerCounters>]) -> SyncStatus {
        SyncStatus {
            master: self.master.as_ref().map(|running| running.status(counters)),
            backup: self.backup.as_ref().map(|running| running.status(counters)),
        }
    }
}

/// Says once what is wrong with an interface, and once that it is right again.
#[derive(Debug, Default)]
struct Complaint(bool);

impl Complaint {
    fn wrong(&mut self, plan: &Plan, error: &io::Error) {
        if !std::mem::replace(&mut self.0, true) {
            let failure = plan.failure(error);
            log::warn!("{failure}; trying again each second");
        }
    }

    fn right(&mut self, plan: &Plan) {
        if std::mem::take(&mut self.0) {
            log::info!("sync {}: on {} now", plan.role, plan.daemon.interface);
        }
    }
}
