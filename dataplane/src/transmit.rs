//! Frames on their way out of a port: gathered over a loop, sent together, each counted once it is known what became
//! of it.

use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;
use dpdk_bindings::{Mbuf, TxQueue};
use pollux_engine::counters::WorkerCounters;
use pollux_engine::{BURST, Fate};

/// Room for a burst of every kind between two flushes.
const CAPACITY: usize = 2 * BURST;
/// A device that takes nothing is tried this often before a frame is given up: virtual ones free room within
/// microseconds.
const ATTEMPTS: usize = 4;

/// Whose frame it is, and what is counted when it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Received on this port; counted as the first fate when sent, as the second when refused.
    Received {
        /// The port it came in by.
        ingress: u16,
        /// When the device takes it.
        sent: Fate,
        /// When the device refuses it.
        refused: Fate,
    },
    /// The kernel's, on its way out of this port.
    Kernel {
        /// The port.
        port: u16,
    },
    /// An ICMP error, counted when it was made.
    Answer,
}

impl Origin {
    /// A frame that came in by this port and goes on.
    pub fn forwarded(ingress: u16) -> Self {
        Self::Received {
            ingress,
            sent: Fate::Forwarded,
            refused: Fate::TransmitQueueFull,
        }
    }

    /// The port on whose account the frame still stands.
    pub fn ingress(self) -> Option<u16> {
        match self {
            Self::Received { ingress, .. } => Some(ingress),
            Self::Kernel { .. } | Self::Answer => None,
        }
    }
}

/// A transmit queue: a worker's own, or shared where the device has fewer queues than there are workers.
#[derive(Debug)]
pub enum Transmitter {
    /// Nobody else's.
    Own(TxQueue),
    /// Taken for the time of one burst.
    Shared(Arc<Mutex<TxQueue>>),
    /// None: the device is gone.
    Gone,
}

impl Transmitter {
    fn send(&mut self, frames: &mut ArrayVec<Mbuf, CAPACITY>) -> usize {
        match self {
            Self::Own(queue) => queue.send(frames),
            // A holder that panicked has left the queue as it was: sending is one call.
            Self::Shared(queue) => queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .send(frames),
            Self::Gone => 0,
        }
    }
}

/// Frames for one transmit queue.
#[derive(Debug)]
pub struct TransmitBuffer {
    transmitter: Transmitter,
    frames: ArrayVec<Mbuf, CAPACITY>,
    /// Whose the frames are, in their order: runs of equal origins, as most bursts are one.
    runs: ArrayVec<Run, CAPACITY>,
}

/// Frames one after the other of one origin.
#[derive(Debug, Clone, Copy)]
struct Run {
    origin: Origin,
    frames: usize,
}

impl TransmitBuffer {
    /// An empty one.
    pub fn new(transmitter: Transmitter) -> Self {
        Self {
            transmitter,
            frames: ArrayVec::new(),
            runs: ArrayVec::new(),
        }
    }

    /// Gives the queue back, for the device is gone; frames to come are dropped as such. To be called when the buffer is
    /// empty, as it is after a flush.
    pub fn let_go(&mut self) {
        self.transmitter = Transmitter::Gone;
    }

    /// Has the device do what it does when frames are sent, without any: bonds exchange LACP's frames then.
    pub fn prod(&mut self) {
        if self.frames.is_empty() {
            let _ = self.transmitter.send(&mut self.frames);
        }
    }

    /// Adds a frame, flushing first when there is no room.
    #[inline]
    pub fn push(&mut self, frame: Mbuf, origin: Origin, counters: &WorkerCounters) {
        if self.frames.is_full() {
            self.flush(counters);
        }
        // Both have room: a flush leaves nothing behind, and there are no more runs than frames.
        self.frames.push(frame);
        self.note(origin, 1);
    }

    /// Adds a burst of frames of one origin, flushing first when there is no room.
    #[inline]
    pub fn push_burst(
        &mut self,
        frames: impl ExactSizeIterator<Item = Mbuf>,
        origin: Origin,
        counters: &WorkerCounters,
    ) {
        let count = frames.len();
        if self.frames.remaining_capacity() < count {
            self.flush(counters);
        }
        self.frames.extend(frames.take(CAPACITY));
        self.note(origin, count.min(CAPACITY));
    }

    #[inline]
    fn note(&mut self, origin: Origin, frames: usize) {
        match self.runs.last_mut() {
            Some(run) if run.origin == origin => run.frames += frames,
            _ => self.runs.push(Run { origin, frames }),
        }
    }

    /// Sends what is there; what the device refuses is freed. Everything is counted.
    #[inline]
    pub fn flush(&mut self, counters: &WorkerCounters) {
        if self.frames.is_empty() {
            return;
        }
        if matches!(self.transmitter, Transmitter::Gone) {
            let frames = self.frames.len();
            self.frames.clear();
            self.settle(frames, Outcome::Gone, counters);
            return;
        }
        let mut refusals = 0;
        while !self.frames.is_empty() {
            let sent = self.transmitter.send(&mut self.frames);
            self.settle(sent, Outcome::Taken, counters);
            if sent == 0 {
                refusals += 1;
            }
            if refusals == ATTEMPTS {
                // Perhaps it is the first frame that the device does not take: a TAP refuses one that is too long, and
                // with it all behind it. The others get their chance, each once.
                drop(self.frames.pop_at(0));
                self.settle(1, Outcome::Refused, counters);
                refusals = ATTEMPTS - 1;
            }
        }
    }

    /// Counts the first frames' fates.
    fn settle(&mut self, mut frames: usize, outcome: Outcome, counters: &WorkerCounters) {
        while frames > 0
            && let Some(run) = self.runs.first_mut()
        {
            let settled = frames.min(run.frames);
            count_run(run.origin, settled as u64, outcome, counters);
            frames -= settled;
            run.frames -= settled;
            if run.frames == 0 {
                self.runs.remove(0);
            }
        }
    }
}

/// What the device did with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Taken,
    Refused,
    Gone,
}

fn count_run(origin: Origin, frames: u64, outcome: Outcome, counters: &WorkerCounters) {
    match origin {
        Origin::Received {
            ingress,
            sent,
            refused,
        } => {
            if let Some(port) = counters.port(ingress.into()) {
                let fate = match outcome {
                    Outcome::Taken => sent,
                    Outcome::Refused => refused,
                    Outcome::Gone => Fate::PortGone,
                };
                port.count_many(fate, frames);
            }
        }
        Origin::Kernel { port } => {
            if let Some(port) = counters.port(port.into()) {
                let counter = if outcome == Outcome::Taken {
                    &port.kernel_transmitted
                } else {
                    &port.kernel_transmit_refused
                };
                counter.add(frames);
            }
        }
        Origin::Answer => {}
    }
}
