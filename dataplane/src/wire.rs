//! The device of a port, as long as it is there: what the control side asks of it and tells it.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dpdk_bindings::Port;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::kernel::{MacAddress, TapName};

/// The device of a port, which may be pulled out while the data plane runs.
#[derive(Debug)]
pub struct Wire {
    /// The kernel's interface behind a virtual device.
    interface: Option<NonZeroU32>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None: it is gone.
    port: Option<Port>,
    /// What it receives frames for, beside its own MAC.
    other_macs: BTreeSet<MacAddress>,
    /// Whether it receives all frames, because it had no room for one of those.
    takes_all: bool,
}

impl Wire {
    /// The device of an open port; `interface` is the kernel's behind it, if it is a virtual one.
    pub fn new(port: Port, interface: Option<NonZeroU32>) -> Self {
        Self {
            interface,
            state: Mutex::new(State {
                port: Some(port),
                other_macs: BTreeSet::new(),
                takes_all: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here leaves it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something of the device; none when it is gone.
    pub fn ask<T>(&self, question: impl FnOnce(&Port) -> T) -> Option<T> {
        self.lock().port.as_ref().map(question)
    }

    /// Whether the device was let go.
    pub fn is_gone(&self) -> bool {
        self.lock().port.is_none()
    }

    /// Whether the device has been pulled out and is still held.
    pub fn is_pulled_out(&self) -> bool {
        self.ask(Port::is_removed).is_some_and(|is_removed| {
            is_removed || self.interface.is_some_and(|index| !exists(index))
        })
    }

    /// Gives the device back. Its queues are to be dropped before.
    pub fn let_go(&self) {
        let port = self.lock().port.take();
        drop(port);
    }

    /// The MACs beside its own that it receives frames for.
    pub fn other_macs(&self) -> Vec<MacAddress> {
        self.lock().other_macs.iter().copied().collect()
    }

    /// From now on it receives frames for these MACs beside its own, and for no others; where it cannot, for all.
    pub fn set_other_macs(&self, name: &TapName, wanted: &BTreeSet<MacAddress>) {
        let mut state = self.lock();
        let State {
            port: Some(port),
            other_macs,
            takes_all,
        } = &mut *state
        else {
            return;
        };
        for mac in other_macs.difference(wanted) {
            log::info!("port {name}: MAC address {mac} is not its own any more");
            // One that it had no room for is not there.
            if let Err(error) = port.remove_mac(mac.0)
                && !*takes_all
            {
                log::warn!("port {name}: {error}");
            }
        }
        for mac in wanted.difference(other_macs) {
            log::info!("port {name}: MAC address {mac} is its own too");
            let Err(error) = port.add_mac(mac.0) else {
                continue;
            };
            if *takes_all {
                continue;
            }
            *takes_all = true;
            match port.set_promiscuous(true) {
                Ok(()) => log::info!("port {name}: {error}; it receives all frames instead"),
                // Virtual devices receive what their interface does, which may be all there is.
                Err(refusal) => log::warn!(
                    "port {name}: {error}, and {refusal}; frames to {mac} may not reach it"
                ),
            }
        }
        other_macs.clone_from(wanted);
    }
}

/// Whether the kernel has an interface of this number, in this thread's network namespace.
fn exists(index: NonZeroU32) -> bool {
    let Ok(any) = socket(AddressFamily::UNIX, SocketType::DGRAM, None) else {
        return true;
    };
    !matches!(
        netdevice::index_to_name(any.as_fd(), index.get()),
        Err(Errno::NODEV | Errno::NXIO)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_there_or_not() {
        // The loopback interface is 1 in every network namespace.
        assert!(exists(NonZeroU32::MIN));
        assert!(!exists(NonZeroU32::new(0x7fff_fff0).unwrap()));
    }
}
