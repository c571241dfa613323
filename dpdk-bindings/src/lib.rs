//! Safe types over DPDK: a program using them cannot free a frame twice, lose one, or poll a queue
//! from two threads at once, and needs no `unsafe`.
//!
//! ```text
//!   Eal::start ──► Mempool::create ──► Mempool::allocate ──► Mbuf ◄──┐
//!       │                 │                                   │      │
//!       └─► Eal::attach ──┼──► Port ──► Port::start ──► TxQueue::send│
//!                         └─────────────────┘      └──► RxQueue::receive
//! ```
//!
//! Who owns what:
//! * [`Eal`] is proof that DPDK runs. DPDK runs until the process ends and so do [`Mempool`]s: an
//!   [`Mbuf`] can therefore never outlive its memory, on whatever thread it is dropped.
//! * [`Port`] is the one handle of a device for control: settings, link, statistics. It comes from
//!   [`Eal::attach`], alone or never.
//! * [`RxQueue`] and [`TxQueue`] come from [`Port::start`], one handle a queue. They move to the
//!   worker that polls them. The device stops when the last of them is dropped, so no queue is ever
//!   polled on a stopped device; it is closed when the [`Port`] is gone too.
//! * [`Mbuf`] is a frame. Whoever holds it owns it; dropping it gives it back to its pool. `send`
//!   takes what the device accepted out of the caller's burst and leaves the rest there.
//!
//! Nothing here allocates, locks or logs per frame.

pub mod eal;
pub mod error;
pub mod huge_pages;
pub mod mbuf;
pub mod mempool;
mod messages;
pub mod pci_address;
pub mod port;
pub mod rx_queue;
mod signals;
pub mod tx_queue;

pub use eal::{Eal, EalArguments, EalError, Memory, PciDevices, RegisteredThread};
pub use error::DpdkError;
pub use mbuf::{Mbuf, MbufError};
pub use mempool::{Mempool, MempoolError, MempoolSettings};
pub use pci_address::PciAddress;
pub use port::{
    AttachError, Distribution, ExtendedStatistic, HashedEnd, LinkState, Member,
    OffloadCapabilities, Port, PortError, PortId, PortInfo, PortSettings, PortStatistics, Queues,
};
pub use rx_queue::RxQueue;
pub use tx_queue::TxQueue;
