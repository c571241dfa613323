//! Synchronisation of connections with other directors (`ip_vs_sync.c`): what is decided for it on the path of a packet, and
//! what becomes messages when. Sockets and the threads that wait on them are the caller's.
//!
//! ```text
//! master   packet ─► pipeline/tell.rs ── Marks: is it time to tell? ─► a queue for each worker
//!                                                                        │ the caller empties it
//!                                                  Outbox: messages, as full as they go ─► datagrams
//! backup   datagram ─► wire/sync ─► SyncedConnection ─► a worker's pipeline/synced.rs: made, changed or passed over
//! ```
//!
//! Without a master nothing of this costs a packet anything: the marks are there only while there is one, and only then are
//! all packets the second tier's.

mod marks;
mod outbox;
mod states;

use std::hash::{DefaultHasher, Hash, Hasher};

use crossbeam::queue::ArrayQueue;

pub(crate) use marks::{Facts, Packets};
pub use marks::{Marks, SyncSettings};
pub use outbox::{Outbox, OutboxSettings};
pub(crate) use states::{is_told, kernel_number, of_kernel_number};

use crate::memory::Memory;
use crate::wire::sync::SyncedConnection;

/// What workers have to tell and the caller has not taken yet, connections of one worker at most: some hundredths of a
/// second of new connections at the highest rate.
pub const TOLD_MAX: usize = 16_384;

/// A connection that other directors are to know of.
#[derive(Debug)]
pub struct Told {
    /// Number of its entry: what is told of one connection keeps its order.
    pub entry: u32,
    /// What is told.
    pub connection: SyncedConnection,
}

/// What a master needs of the packet path, for as long as it runs.
#[derive(Debug)]
pub struct Master {
    marks: Marks,
    queues: Box<[ArrayQueue<Told>]>,
}

impl Master {
    /// The master of a table of so many entries and of so many workers.
    ///
    /// # Errors
    /// When there is no memory for a word for each entry.
    pub fn new(entries: u32, workers: usize) -> std::io::Result<Self> {
        let lines = Marks::lines(entries);
        let memory = Memory::anonymous(lines, false)?;
        Ok(Self {
            marks: Marks::new(memory),
            queues: (0..workers).map(|_| ArrayQueue::new(TOLD_MAX)).collect(),
        })
    }

    /// What was told when.
    #[inline]
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// A worker tells of a connection. False when there is no room.
    pub(crate) fn tell(&self, worker: usize, told: Told) -> bool {
        self.queues
            .get(worker)
            .is_some_and(|queue| queue.push(told).is_ok())
    }

    /// What a worker has told first of what was not taken yet.
    pub fn take(&self, worker: usize) -> Option<Told> {
        self.queues.get(worker)?.pop()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.queues.len()
    }
}

/// Connections of other directors on their way to the workers.
#[derive(Debug)]
pub struct Backup {
    queues: Box<[ArrayQueue<SyncedConnection>]>,
}

/// Connections on their way to one worker, at most.
pub const TAKEN_MAX: usize = 4096;

impl Backup {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            queues: (0..workers).map(|_| ArrayQueue::new(TAKEN_MAX)).collect(),
        }
    }

    /// Gives a connection to the worker that all that is told of it goes to. False when too many wait there.
    pub fn offer(&self, told: SyncedConnection) -> bool {
        let mut hasher = DefaultHasher::new();
        told.client.hash(&mut hasher);
        #[allow(clippy::cast_possible_truncation)] // any bits do
        let worker = hasher.finish() as usize % self.queues.len().max(1);
        let queue = self.queues.get(worker);
        queue.is_some_and(|queue| queue.push(told).is_ok())
    }

    /// What a worker is to take over next.
    #[inline]
    pub fn take(&self, worker: usize) -> Option<SyncedConnection> {
        self.queues.get(worker)?.pop()
    }
}
