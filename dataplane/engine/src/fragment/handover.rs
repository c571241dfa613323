//! Fragments on their way from the worker that has received them to the one that gathers their datagram.

use crossbeam::queue::ArrayQueue;

use super::piece::owner;
use crate::counters::WorkerCounters;
use crate::fate::Fate;

/// Fragments on their way to one worker, at most.
const ON_THE_WAY_MAX: usize = 512;

/// A bounded queue for each worker.
#[derive(Debug)]
pub struct Handover<F> {
    queues: Box<[ArrayQueue<(u16, F)>]>,
}

impl<F> Handover<F> {
    /// Between so many workers.
    pub fn new(workers: usize) -> Self {
        let queue = || ArrayQueue::new(ON_THE_WAY_MAX);
        Self {
            queues: (0..workers).map(|_| queue()).collect(),
        }
    }

    /// Gives a fragment, which this worker has received at a port, to the one that gathers its datagram: back when that is this
    /// worker itself. When too many are on the way to that one, it is dropped and counted.
    pub fn pass_on(
        &self,
        worker: usize,
        counters: &WorkerCounters,
        ingress: u16,
        frame: F,
        bytes: impl FnOnce(&F) -> &[u8],
    ) -> Option<F> {
        let to = owner(bytes(&frame), self.queues.len());
        if to == worker {
            return Some(frame);
        }
        let queue = self.queues.get(to);
        if queue.is_none_or(|queue| queue.push((ingress, frame)).is_err())
            && let Some(port) = counters.port(ingress.into())
        {
            port.count(Fate::FragmentsFull);
        }
        None
    }

    /// The next one for this worker, with the port it came in by.
    #[inline]
    pub fn next_for(&self, worker: usize) -> Option<(u16, F)> {
        self.queues.get(worker)?.pop()
    }

    /// How many are on the way to this worker.
    pub fn waiting_for(&self, worker: usize) -> usize {
        self.queues.get(worker).map_or(0, ArrayQueue::len)
    }
}
