//! The receiving end of one queue of a port.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use crate::mbuf::Mbuf;
use crate::port::{PortId, Running};

/// A receive queue of a running port. There is one of it; it moves to the worker that polls it.
#[derive(Debug)]
pub struct RxQueue {
    port: PortId,
    queue: u16,
    /// Keeps the port running.
    _running: Arc<Running>,
    /// `Send`, not `Sync`: a queue has one reader.
    not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    /// The caller sees to it that there is one handle for each queue that was set up.
    pub(crate) fn new(port: PortId, queue: u16, running: Arc<Running>) -> Self {
        Self {
            port,
            queue,
            _running: running,
            not_sync: PhantomData,
        }
    }

    /// Adds the frames that are there to `burst`, as many as fit, and returns how many.
    ///
    /// Give it room for 32 at least: some drivers receive in multiples of 4 or 8 only.
    #[inline]
    pub fn receive<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let held = burst.len();
        let room = u16::try_from(burst.remaining_capacity()).unwrap_or(u16::MAX);
        // SAFETY: `held <= N`, so this is within the array or one past its end.
        let free = unsafe { burst.as_mut_ptr().add(held) }.cast::<*mut rte_mbuf>();
        // SAFETY: the port is running and has this queue (`Running`, `new`), no other thread polls
        // it (`&mut` of its only handle), and `free` has room for `room` pointers. What DPDK writes
        // there are mbufs it gives away.
        let received = unsafe { dpdk_sys::shim_receive(self.port.0, self.queue, free, room) };
        let received = usize::from(received);
        // SAFETY: the first `held` were initialised before, DPDK wrote the next `received`, not
        // more than fit; an mbuf pointer is a valid `Mbuf` because it is not null and ours alone
        // now.
        unsafe { burst.set_len(held.wrapping_add(received)) };
        received
    }

    /// The port the queue belongs to.
    #[must_use]
    pub fn port(&self) -> PortId {
        self.port
    }

    /// The number of the queue in its port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.queue
    }
}
