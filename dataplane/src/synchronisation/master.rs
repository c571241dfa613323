//! The master: what workers have told becomes datagrams.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pollux_api::line::{Failure, FailureCode};
use pollux_api::synchronisation::MasterStatus;
use pollux_engine::Tick;
use pollux_engine::counters::WorkerCounters;
use pollux_engine::synchronisation::{Master, Outbox, OutboxSettings, TOLD_MAX};
use tokio::time::MissedTickBehavior;

use super::{Complaint, Count, LOOK_PERIOD, Plan, Task, socket};
use crate::worker::{now_nanoseconds, tick_of};

/// How often what workers have told is taken: well before their queues are full at any rate.
const PERIOD: Duration = Duration::from_millis(10);
/// The entry count of a message is its fifth byte.
const ENTRIES_AT: usize = 4;

#[derive(Debug, Default)]
struct Counts {
    is_open: Count,
    datagrams: Count,
    bytes: Count,
    connections: Count,
    dropped: Count,
    send_errors: Count,
}

/// A master that runs.
#[derive(Debug)]
pub struct Running {
    pub(super) plan: Plan,
    pub(super) engine: Arc<Master>,
    counts: Arc<Counts>,
    waiting_max: Arc<AtomicUsize>,
    _task: Task,
}

/// Open sockets, one a port.
#[derive(Debug)]
struct Sockets {
    index: u32,
    all: Vec<(UdpSocket, SocketAddr)>,
}

impl Sockets {
    fn open(plan: &Plan) -> io::Result<Self> {
        let Plan {
            daemon,
            ports,
            buffer_bytes,
            ..
        } = plan;
        let index = socket::index_of(&daemon.interface)?;
        let all = (0..usize::from(*ports)).map(|number| {
            let opened = socket::sender(daemon, index, *buffer_bytes)?;
            Ok((opened, socket::destination(daemon, index, number)))
        });
        Ok(Self {
            index,
            all: all.collect::<io::Result<_>>()?,
        })
    }
}

/// A master that can run.
#[derive(Debug)]
pub struct Ready {
    plan: Plan,
    engine: Arc<Master>,
    sockets: Option<Sockets>,
    complaint: Complaint,
}

impl Ready {
    /// Opens what it needs.
    ///
    /// # Errors
    /// What is in the way, if somebody asks for it.
    pub fn new(
        plan: Plan,
        (entries, workers): (u32, usize),
        is_asked_for: bool,
    ) -> Result<Self, Failure> {
        let mut complaint = Complaint::default();
        let sockets = match Sockets::open(&plan) {
            Ok(sockets) => Some(sockets),
            Err(error) if is_asked_for => return Err(plan.failure(&error)),
            Err(error) => {
                complaint.wrong(&plan, &error);
                None
            }
        };
        let engine = Master::new(entries, workers).map_err(|error| {
            let message = format!("sync master: no memory for what was told when: {error}");
            Failure::new(FailureCode::Internal, message)
        })?;
        Ok(Self {
            plan,
            engine: Arc::new(engine),
            sockets,
            complaint,
        })
    }

    /// Has it run.
    pub fn run(self) -> Running {
        let counts = Arc::new(Counts::default());
        let waiting_max = Arc::new(AtomicUsize::new(0));
        let sender = Sender {
            outbox: Outbox::new(OutboxSettings {
                sync_id: self.plan.daemon.id,
                bytes_max: self.plan.datagram_bytes_max.into(),
                ports: self.plan.ports.into(),
                waiting_max: 0,
            }),
            plan: self.plan.clone(),
            engine: Arc::clone(&self.engine),
            sockets: self.sockets,
            complaint: self.complaint,
            looked_at: Instant::now(),
            counts: Arc::clone(&counts),
            waiting_max: Arc::clone(&waiting_max),
        };
        log::info!(
            "sync master: telling group {} port {} on {}, id {}",
            self.plan.daemon.group,
            self.plan.daemon.port,
            self.plan.daemon.interface,
            self.plan.daemon.id
        );
        Running {
            plan: self.plan,
            engine: self.engine,
            counts,
            waiting_max,
            _task: Task(tokio::spawn(sender.run()).abort_handle()),
        }
    }
}

impl Running {
    /// How many messages may wait from now on.
    pub fn set_waiting_max(&self, messages: u32) {
        let messages = usize::try_from(messages).unwrap_or(usize::MAX);
        self.waiting_max.store(messages, Relaxed);
    }

    /// How it does.
    pub fn status(&self, counters: &[Arc<WorkerCounters>]) -> MasterStatus {
        let counts = &self.counts;
        let untold: u64 = counters.iter().map(|worker| worker.sync_untold.get()).sum();
        MasterStatus {
            daemon: self.plan.daemon.clone(),
            datagram_bytes_max: self.plan.datagram_bytes_max,
            ports: self.plan.ports,
            is_open: counts.is_open.get() != 0,
            datagrams: counts.datagrams.get(),
            bytes: counts.bytes.get(),
            connections: counts.connections.get(),
            dropped: counts.dropped.get() + untold,
            send_errors: counts.send_errors.get(),
        }
    }
}

/// The task of a master.
struct Sender {
    plan: Plan,
    engine: Arc<Master>,
    outbox: Outbox,
    sockets: Option<Sockets>,
    complaint: Complaint,
    looked_at: Instant,
    counts: Arc<Counts>,
    waiting_max: Arc<AtomicUsize>,
}

impl Sender {
    async fn run(mut self) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            self.look_at_interface();
            self.outbox.set_waiting_max(self.waiting_max.load(Relaxed));
            let now = tick_of(now_nanoseconds());
            for worker in 0..self.engine.workers() {
                self.gather(worker, now);
                self.send(now);
                // Clients of the private socket are served by this thread, too.
                tokio::task::yield_now().await;
            }
            self.counts.is_open.set(u64::from(self.sockets.is_some()));
            self.counts.dropped.set(self.outbox.dropped());
        }
    }

    fn gather(&mut self, worker: usize, now: Tick) {
        for _ in 0..TOLD_MAX {
            let Some(told) = self.engine.take(worker) else {
                return;
            };
            self.outbox.put(&told, now);
        }
    }

    fn send(&mut self, now: Tick) {
        let Some(sockets) = &self.sockets else {
            return;
        };
        while let Some((port, message)) = self.outbox.next_due(now) {
            let Some((socket, destination)) = sockets.all.get(port) else {
                continue;
            };
            match socket.send_to(&message, destination) {
                Ok(_) => {
                    self.counts.datagrams.add(1);
                    self.counts.bytes.add(message.len() as u64);
                    let entries = message.get(ENTRIES_AT).copied().unwrap_or(0);
                    self.counts.connections.add(entries.into());
                }
                // The kernel has no room for more: it goes with the next round.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.outbox.put_back(port, message, now);
                    return;
                }
                Err(_) => self.counts.send_errors.add(1),
            }
        }
    }

    /// An interface may go, and come back as another one.
    fn look_at_interface(&mut self) {
        if self.looked_at.elapsed() < LOOK_PERIOD {
            return;
        }
        self.looked_at = Instant::now();
        let index = socket::index_of(&self.plan.daemon.interface).ok();
        let is_same = self
            .sockets
            .as_ref()
            .is_some_and(|sockets| Some(sockets.index) == index);
        if is_same {
            return;
        }
        match Sockets::open(&self.plan) {
            Ok(sockets) => {
                self.sockets = Some(sockets);
                self.complaint.right(&self.plan);
            }
            Err(error) => {
                self.sockets = None;
                self.complaint.wrong(&self.plan, &error);
            }
        }
    }
}
