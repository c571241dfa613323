//! Devices that are parts of a bond.

use std::ffi::CString;
use std::num::NonZeroU32;

use super::{AttachError, Device, LinkState, Port, PortError, PortId};
use crate::eal::Eal;

/// A device that is to be, or is, part of a bond (`net_bonding`), which configures, starts and
/// polls it. Drop it after the bond; before, take it out with [`Port::remove_member`].
#[derive(Debug)]
pub struct Member {
    device: Device,
}

impl Member {
    pub(crate) fn attach(eal: &Eal, device: &str) -> Result<Self, AttachError> {
        let device = Device::attach(eal, device)?;
        device.watch_removal();
        Ok(Self { device })
    }

    /// DPDK's number of the device. The arguments of a bond name members by it: by their names DPDK
    /// finds only devices without an owner.
    #[must_use]
    pub fn id(&self) -> PortId {
        self.device.id
    }

    /// The name of the device.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// The name of DPDK's driver, for example `net_ixgbe`.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the device is gone.
    pub fn driver(&self) -> Result<String, PortError> {
        let _exclusive = self.device.lock();
        Ok(super::info::driver_name(&self.device.raw_info()?))
    }

    /// The kernel's interface behind a virtual device (its `ifindex`).
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the device is gone.
    pub fn kernel_interface(&self) -> Result<Option<NonZeroU32>, PortError> {
        let _exclusive = self.device.lock();
        Ok(NonZeroU32::new(self.device.raw_info()?.if_index))
    }

    /// As [`Port::link`].
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot tell.
    pub fn link(&self) -> Result<LinkState, PortError> {
        self.device.link()
    }

    /// Has the bond look at the member's link, for a driver that does not say when it changes
    /// although it says that it does, as `net_tap`.
    pub fn tell_bond_of_link(&self) {
        let Ok(name) = CString::new(self.name()) else {
            return;
        };
        // SAFETY: the name is NUL-terminated; DPDK looks for it and runs what was registered for
        // the event, which is made to be run on any thread.
        unsafe { dpdk_sys::shim_link_has_changed(name.as_ptr()) }
    }

    /// As [`Port::is_removed`].
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.device.is_removed()
    }

    /// Stops a device that was taken out of its bond, when nobody polls it any more, and gives it
    /// back.
    pub fn give_back(self) {
        // SAFETY: the id is of a device that is ours until it is closed. The bond polls it no more,
        // as the caller has seen to; nobody else has a queue of it.
        let code = unsafe { dpdk_sys::rte_eth_dev_stop(self.device.id.0) };
        if let Err(error) = self.device.check(code, "stop port") {
            log::error!("{error}");
        }
    }
}

impl Port {
    /// Whether frames of this bond go over the member now: over that of an active-backup bond which
    /// carries all, or over one of those that LACP's partner agreed to. False if DPDK cannot tell.
    #[must_use]
    pub fn carries(&self, member: &Member) -> bool {
        let _exclusive = self.device.lock();
        // SAFETY: both ids are of devices that are ours until they are closed; DPDK checks that the
        // first is a bond and the second part of it.
        unsafe { dpdk_sys::shim_bond_carries(self.device.id.0, member.device.id.0) == 1 }
    }

    /// Takes a member out of this bond. It runs on, for threads that are in the middle of sending:
    /// once each of them has come back from it, call [`Member::give_back`].
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if it is no member.
    pub fn remove_member(&self, member: &Member) -> Result<(), PortError> {
        let _exclusive = self.device.lock();
        // SAFETY: as in `carries`; the bond's lists may be changed while its queues are polled.
        let code = unsafe { dpdk_sys::shim_bond_remove(self.device.id.0, member.device.id.0) };
        let name = member.name();
        self.device
            .check(code, &format!("take {name} out of port"))?;
        Ok(())
    }
}
