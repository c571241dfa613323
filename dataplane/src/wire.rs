//! The device of a port, as long as it is there: what the control side asks of it and tells it.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dpdk_bindings::{Member, Port};
use pollux_api::dataplane::MemberStatus;
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
    /// The VLANs whose frames it is to receive.
    vlans: BTreeSet<u16>,
    /// The devices of a bond. After the bond, so that they are closed after it.
    members: Vec<BondMember>,
}

/// A device of a bond.
#[derive(Debug)]
struct BondMember {
    /// As it is written in the settings.
    device: String,
    /// The kernel's interface behind a virtual one.
    interface: Option<NonZeroU32>,
    /// None: it is gone.
    member: Option<Member>,
    /// Whether its driver does not say when its link changes.
    is_silent: bool,
    /// What the bond was told of the link of a silent one.
    told_up: bool,
}

impl Wire {
    /// The device of an open port; `interface` is the kernel's behind it, if it is a virtual one. Of a bond, its members
    /// with what the settings call them.
    pub fn new(port: Port, interface: Option<NonZeroU32>, members: Vec<(String, Member)>) -> Self {
        let members = members.into_iter().map(|(device, member)| BondMember {
            device,
            // One that cannot say has none.
            interface: member.kernel_interface().unwrap_or_default(),
            is_silent: member.driver().is_ok_and(|driver| driver == "net_tap"),
            told_up: false,
            member: Some(member),
        });
        Self {
            interface,
            state: Mutex::new(State {
                port: Some(port),
                other_macs: BTreeSet::new(),
                takes_all: false,
                vlans: BTreeSet::new(),
                members: members.collect(),
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
        let mut state = self.lock();
        drop(state.port.take());
        for slot in &mut state.members {
            drop(slot.member.take());
        }
    }

    /// How the members of a bond do; none of another device.
    pub fn members(&self) -> Vec<MemberStatus> {
        let state = self.lock();
        let members = state.members.iter();
        let status = members.map(|BondMember { device, member, .. }| {
            let there = member.as_ref().zip(state.port.as_ref());
            MemberStatus {
                device: device.clone(),
                gone: there.is_none(),
                // Of one that cannot tell, nothing is known.
                link_up: there.is_some_and(|(member, _)| member.link().is_ok_and(|link| link.up)),
                carries: there.is_some_and(|(member, bond)| bond.carries(member)),
            }
        });
        status.collect()
    }

    /// Has a bond look at its members' links where their drivers do not say that they have changed: `net_tap` says that it
    /// does, so that DPDK does not look by itself.
    pub fn look_at_silent_members(&self) {
        let mut state = self.lock();
        for slot in &mut state.members {
            let Some(member) = slot.member.as_ref().filter(|_| slot.is_silent) else {
                continue;
            };
            let link_up = member.link().is_ok_and(|link| link.up);
            if link_up != slot.told_up {
                slot.told_up = link_up;
                member.tell_bond_of_link();
            }
        }
    }

    /// Takes out of the bond a member that has been pulled out and is still held, if there is one: with what the settings
    /// call it. Workers may be in the middle of sending on it, and are to come back from there before it is given back.
    pub fn take_pulled_out_member(&self) -> Option<(String, Member)> {
        let mut state = self.lock();
        let State { port, members, .. } = &mut *state;
        let pulled_out = members.iter_mut().find(|slot| {
            slot.member
                .as_ref()
                .is_some_and(|member| member.is_removed())
                || slot.member.is_some() && slot.interface.is_some_and(|index| !exists(index))
        })?;
        let member = pulled_out.member.take()?;
        if let Some(Err(error)) = port.as_ref().map(|bond| bond.remove_member(&member)) {
            log::error!("{error}");
        }
        Some((pulled_out.device.clone(), member))
    }

    /// The VLANs whose frames it is to receive.
    pub fn vlans(&self) -> Vec<u16> {
        self.lock().vlans.iter().copied().collect()
    }

    /// From now on it receives frames of these VLANs, and of no others if it has to be told.
    pub fn set_vlans(&self, name: &TapName, wanted: &BTreeSet<u16>) {
        let mut state = self.lock();
        let State {
            port: Some(port),
            vlans,
            ..
        } = &mut *state
        else {
            return;
        };
        let changed = vlans.symmetric_difference(wanted);
        for vlan in changed.filter(|_| port.filters_vlans()) {
            let on = wanted.contains(vlan);
            if let Err(error) = port.set_vlan(*vlan, on) {
                log::warn!("port {name}: {error}; frames of VLAN {vlan} may not reach it");
            }
        }
        vlans.clone_from(wanted);
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
            ..
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
