//! A port: one Ethernet device of DPDK, a NIC or a virtual device.
//!
//! [`Port`] is its control side. [`Port::start`] gives out the queues, which is all that a worker
//! needs; the port runs as long as one of them is there, and control and queues may be used at the
//! same time. To change what a device changes only while it stands still, drop the queues and start
//! it again.
//!
//! # Virtual devices
//!
//! What DPDK 22.11 to 24.11 do, as found on Linux 6.18 with `veth` interfaces:
//!
//! * **`net_af_xdp0,iface=IF,busy_budget=0`** takes the frames away from the kernel, as they were
//!   on the wire. One queue each way on `veth`, whatever `queue_count` says, for that counts
//!   combined channels only. It gets the frames of the interface's queue 0: those of other queues
//!   go to the kernel. On a `veth` made with `numrxqueues 2 numtxqueues 2` another device,
//!   `net_af_xdp1,iface=IF,start_queue=1`, gets the frames of queue 1. Without `busy_budget=0`
//!   every empty poll is a system call. 2048 mbufs a queue lie in its ring from the start, and are
//!   lost to the pool when it is closed. The MAC address cannot be set, nor multicast. After `kill
//!   -9` its program stays on the interface and lets the frames pass to the kernel; the next start
//!   takes it over. `libxdp` complains on standard error about `/sys/fs/bpf`, which is not needed.
//! * **`net_af_packet0,iface=IF,qpairs=N`** has N queues each way; a flow stays on one, both
//!   directions on the same. The kernel gets every frame too: drop them at ingress, behind the
//!   packet socket, and turn IPv6 off on the interface or its own frames come in as well. **IPv4
//!   fragments arrive put together** by the kernel, and cut off behind 1,982 bytes. The MAC address
//!   can be set. The link is always up, and what it cannot send it takes and drops.
//! * **`net_tap0,iface=NAME,mac=02:00:00:00:00:01`** makes the kernel interface NAME (15 bytes at
//!   most) with up to 16 queues, as many each way; without `mac` a random address. MAC and MTU can
//!   be set at any time and are those of the interface. A frame sent on queue n makes the kernel
//!   answer on queue n. An interface made before by `ip tuntap add NAME mode tap multi_queue` is
//!   taken and stays, with addresses and routes (marked `linkdown`), when the program is killed; on
//!   an orderly close the interface is set down, which costs it its routes. If another program has
//!   the interface open, both share it without an error. A frame longer than the MTU is refused,
//!   and all behind it in the burst; so is every frame while the interface is down. An empty poll
//!   is a system call of 0.4 us: poll a TAP less often than a NIC.
//! * **`net_ring0`** delivers what is sent on queue n to receive queue n of the same port, up to
//!   1023 frames, which are lost to the pool when it is closed. **`net_null0`** receives empty
//!   frames without end. **`net_pcap0,rx_pcap=FILE,tx_pcap=FILE`** reads and writes captures.
//!
//! [`Port::mtu`] of those with a kernel interface is 1500 until it is set, whatever the interface
//! has.

mod attach;
mod filter;
mod info;
mod member;
mod removal;
mod start;
mod statistics;

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use attach::AttachError;
pub(crate) use attach::unowned_ports;
pub use info::{LinkState, OffloadCapabilities, PortInfo};
pub use member::Member;
pub(crate) use start::Running;
pub use start::{Distribution, HashedEnd, PortSettings, Queues};
pub use statistics::{ExtendedStatistic, PortStatistics};

use crate::error::{DpdkError, check};

/// DPDK's number of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub(crate) u16);

impl PortId {
    /// The number, to index a table by port: less than 32 in most builds of DPDK.
    #[inline]
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// What a port refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The queues of the last start are still there.
    #[error("port {0} is running; stop its workers first")]
    Running(String),
    /// A port needs a queue each way, or more.
    #[error("port {0} cannot be started with no queue")]
    NoQueues(String),
    /// A frame of that MTU does not fit an mbuf.
    #[error(
        "an MTU of {mtu} on port {port} needs mbufs for {needed} bytes, and the pool's hold \
         {frame_length_max}"
    )]
    FrameTooLong {
        /// The port.
        port: String,
        /// The MTU.
        mtu: u16,
        /// The longest frame of that MTU, with two VLAN tags.
        needed: u32,
        /// What the mbufs hold.
        frame_length_max: u16,
    },
    /// The device cannot have that MTU.
    #[error("an MTU of {mtu} is out of range for port {port}: {min} to {max}")]
    MtuOutOfRange {
        /// The port.
        port: String,
        /// The MTU.
        mtu: u16,
        /// The least it can have.
        min: u16,
        /// The most it can have.
        max: u16,
    },
    /// DPDK or the driver refused.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
}

/// A port, for control. Not `Clone`: there is one of each device.
#[derive(Debug)]
pub struct Port {
    device: Arc<Device>,
}

/// An ethdev that is ours; closed on drop.
#[derive(Debug)]
pub(crate) struct Device {
    id: PortId,
    name: String,
    is_virtual: bool,
    state: Mutex<State>,
}

/// What the device does. The lock also keeps control operations on one device from each other, as
/// ethdev asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stopped,
    Started {
        /// What the mbufs of its receive queues hold.
        frame_length_max: u16,
        /// Whether it receives frames of those VLANs only that it was told of.
        filters_vlans: bool,
    },
}

impl Device {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is one word, written at once: a panic elsewhere cannot have left it
        // half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, code: c_int, attempted: &str) -> Result<c_int, DpdkError> {
        check(code, || format!("{attempted} {}", self.name))
    }
}

impl Port {
    /// DPDK's number of the port, which [`Mbuf::port`](crate::Mbuf::port) tells.
    #[must_use]
    pub fn id(&self) -> PortId {
        self.device.id
    }

    /// The name of the device: its PCI address, or the virtual device's as `net_tap0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.device.name
    }
}
