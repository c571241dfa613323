//! The sending end of one queue of a port.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use crate::mbuf::Mbuf;
use crate::port::{PortId, Running};

/// A transmit queue of a running port. There is one of it; it moves to the worker that fills it.
#[derive(Debug)]
pub struct TxQueue {
    port: PortId,
    queue: u16,
    /// Keeps the port running.
    _running: Arc<Running>,
    /// `Send`, not `Sync`: a queue has one writer.
    not_sync: PhantomData<Cell<()>>,
}

impl TxQueue {
    /// The caller sees to it that there is one handle for each queue that was set up.
    pub(crate) fn new(port: PortId, queue: u16, running: Arc<Running>) -> Self {
        Self {
            port,
            queue,
            _running: running,
            not_sync: PhantomData,
        }
    }

    /// Hands the frames of `burst` to the device, first to last, and returns how many it took.
    ///
    /// Those are gone from `burst`; what the device had no room for is still there, in order, and
    /// the caller's to send again or to drop. A device frees frames some time after it sent them.
    #[inline]
    pub fn send<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let held = burst.len();
        let count = u16::try_from(held).unwrap_or(u16::MAX);
        let first = burst.as_mut_ptr().cast::<*mut rte_mbuf>();
        // SAFETY: the port is running and has this queue (`Running`, `new`), no other thread fills
        // it (`&mut` of its only handle), and `first` is an array of at least `count` pointers to
        // mbufs that are the burst's own. DPDK takes over the first of them, as many as it returns.
        let sent = unsafe { dpdk_sys::shim_send(self.port.0, self.queue, first, count) };
        forget_first(burst, usize::from(sent));
        usize::from(sent)
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

/// Removes the first `count` frames without dropping them.
#[inline]
fn forget_first<const N: usize>(burst: &mut ArrayVec<Mbuf, N>, count: usize) {
    let rest = burst.len().saturating_sub(count);
    if rest > 0 {
        let first = burst.as_mut_ptr();
        // SAFETY: `count < len` here, so it is within the array.
        let kept = unsafe { first.add(count) };
        // SAFETY: both are `rest` elements within the initialised part of the array; `copy` allows
        // overlap. The frames overwritten are forgotten, not dropped, as is to be.
        unsafe { std::ptr::copy(kept, first, rest) };
    }
    // SAFETY: `rest <= len`, and the first `rest` elements are initialised. What lies behind them
    // was moved to the front or is not ours any more, and is not dropped by this.
    unsafe { burst.set_len(rest) };
}
