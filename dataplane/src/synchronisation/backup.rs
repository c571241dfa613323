//! The backup: datagrams of other directors, checked, on their way to the workers.

use std::io;
use std::sync::Arc;

use pollux_api::line::Failure;
use pollux_api::synchronisation::BackupStatus;
use pollux_engine::counters::{Counter, WorkerCounters};
use pollux_engine::synchronisation::Backup;
use pollux_engine::wire::sync::{MessageError, read};
use tokio::net::UdpSocket;
use tokio::time::MissedTickBehavior;

use super::{Complaint, Count, LOOK_PERIOD, Plan, Task, socket};

#[derive(Debug, Default)]
struct Counts {
    open: Count,
    datagrams: Count,
    other_ids: Count,
    broken: Count,
    refused: Count,
    dropped: Count,
}

/// A backup that runs.
#[derive(Debug)]
pub struct Running {
    pub(super) plan: Plan,
    pub(super) engine: Arc<Backup>,
    counts: Arc<Counts>,
    _tasks: Vec<Task>,
}

/// An open socket of one port.
#[derive(Debug)]
struct Listening {
    index: u32,
    socket: UdpSocket,
}

impl Listening {
    fn open(plan: &Plan, number: usize) -> io::Result<Self> {
        let index = socket::index_of(&plan.daemon.interface)?;
        let socket = socket::receiver(&plan.daemon, index, number, plan.buffer_bytes)?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { index, socket })
    }
}

/// A backup that can run.
#[derive(Debug)]
pub struct Ready {
    plan: Plan,
    engine: Arc<Backup>,
    sockets: Vec<Option<Listening>>,
}

impl Ready {
    /// Opens what it needs.
    ///
    /// # Errors
    /// What is in the way, if somebody asks for it.
    pub fn new(plan: Plan, workers: usize, is_asked_for: bool) -> Result<Self, Failure> {
        let mut sockets = Vec::new();
        for number in 0..usize::from(plan.ports) {
            match Listening::open(&plan, number) {
                Ok(listening) => sockets.push(Some(listening)),
                Err(error) if is_asked_for => return Err(plan.failure(&error)),
                // The task of the port says so.
                Err(_) => sockets.push(None),
            }
        }
        Ok(Self {
            plan,
            engine: Arc::new(Backup::new(workers)),
            sockets,
        })
    }

    /// Has it run.
    pub fn run(self) -> Running {
        let counts = Arc::new(Counts::default());
        let tasks = self
            .sockets
            .into_iter()
            .enumerate()
            .map(|(number, listening)| {
                let receiver = Receiver {
                    plan: self.plan.clone(),
                    number,
                    engine: Arc::clone(&self.engine),
                    listening,
                    // Of several ports the first one says what is wrong.
                    complaint: Complaint(number > 0),
                    counts: Arc::clone(&counts),
                };
                Task(tokio::spawn(receiver.run()).abort_handle())
            });
        let tasks = tasks.collect();
        log::info!(
            "sync backup: listening to group {} port {} on {}, id {}",
            self.plan.daemon.group,
            self.plan.daemon.port,
            self.plan.daemon.interface,
            self.plan.daemon.id
        );
        Running {
            plan: self.plan,
            engine: self.engine,
            counts,
            _tasks: tasks,
        }
    }
}

impl Running {
    /// How it does.
    pub fn status(&self, counters: &[Arc<WorkerCounters>]) -> BackupStatus {
        let counts = &self.counts;
        let sum = |counter: fn(&WorkerCounters) -> &Counter| -> u64 {
            counters.iter().map(|worker| counter(worker).get()).sum()
        };
        BackupStatus {
            daemon: self.plan.daemon.clone(),
            datagram_bytes_max: self.plan.datagram_bytes_max,
            ports: self.plan.ports,
            is_open: counts.open.get() != 0,
            datagrams: counts.datagrams.get(),
            other_ids: counts.other_ids.get(),
            broken: counts.broken.get(),
            refused: counts.refused.get(),
            dropped: counts.dropped.get(),
            made: sum(|worker| &worker.synced_made),
            changed: sum(|worker| &worker.synced_changed),
            passed_over: sum(|worker| &worker.synced_passed_over),
            no_room: sum(|worker| &worker.synced_no_room),
            unusable: sum(|worker| &worker.synced_unusable),
        }
    }
}

/// The task of a backup's port.
struct Receiver {
    plan: Plan,
    number: usize,
    engine: Arc<Backup>,
    listening: Option<Listening>,
    complaint: Complaint,
    counts: Arc<Counts>,
}

impl Receiver {
    async fn run(mut self) {
        let mut buffer = vec![0; self.plan.datagram_bytes_max.into()];
        let mut look = tokio::time::interval(LOOK_PERIOD);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Some(listening) = &self.listening else {
                look.tick().await;
                self.open();
                continue;
            };
            tokio::select! {
                received = listening.socket.recv(&mut buffer) => {
                    if let Ok(length) = received {
                        self.take(buffer.get(..length).unwrap_or_default());
                    }
                }
                _ = look.tick() => self.look_at_interface(),
            }
        }
    }

    fn take(&self, datagram: &[u8]) {
        let counts = &self.counts;
        counts.datagrams.add(1);
        let entries = match read(datagram, self.plan.daemon.id) {
            Ok(entries) => entries,
            Err(MessageError::OtherId) => return counts.other_ids.add(1),
            Err(_) => return counts.broken.add(1),
        };
        for entry in entries {
            match entry {
                Ok(Ok(connection)) => {
                    if !self.engine.offer(connection) {
                        counts.dropped.add(1);
                    }
                }
                Ok(Err(_)) => counts.refused.add(1),
                Err(_) => counts.broken.add(1),
            }
        }
    }

    /// An interface may go, and come back as another one.
    fn look_at_interface(&mut self) {
        let index = socket::index_of(&self.plan.daemon.interface).ok();
        let is_same = self
            .listening
            .as_ref()
            .is_some_and(|listening| Some(listening.index) == index);
        if !is_same {
            self.listening = None;
            self.open();
        }
        self.note_open();
    }

    fn open(&mut self) {
        match Listening::open(&self.plan, self.number) {
            Ok(listening) => {
                self.listening = Some(listening);
                self.complaint.right(&self.plan);
            }
            Err(error) => self.complaint.wrong(&self.plan, &error),
        }
        self.note_open();
    }

    fn note_open(&self) {
        if self.number == 0 {
            self.counts.open.set(self.listening.is_some().into());
        }
    }
}
