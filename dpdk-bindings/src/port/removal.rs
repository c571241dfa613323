//! Whether a port's device is still there.

use std::ffi::CString;

use super::{Device, Port};

impl Port {
    /// Whether the device has been pulled out, as far as DPDK has been told: by the event of the
    /// driver, by `vfio-pci`, which asks for the device back, or by a look at the device where its
    /// driver has one. Such a device does nothing more; drop its queues and the port, so that the
    /// kernel gets it back.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.device.is_removed()
    }
}

impl Device {
    pub(super) fn is_removed(&self) -> bool {
        // SAFETY: reads a flag; any number is allowed.
        let was_told = unsafe { dpdk_sys::shim_is_removed(self.id.0) };
        if was_told {
            return true;
        }
        let _exclusive = self.lock();
        // SAFETY: the id is of a device that is ours until it is closed.
        unsafe { dpdk_sys::rte_eth_dev_is_removed(self.id.0) == 1 }
    }

    pub(super) fn watch_removal(&self) {
        let Ok(name) = CString::new(self.name.as_str()) else {
            return;
        };
        // SAFETY: the id is of a device that is ours until it is closed; the name is copied.
        let code = unsafe { dpdk_sys::shim_watch_removal(self.id.0, name.as_ptr()) };
        if let Err(error) = self.check(code, "watch for the removal of port") {
            log::warn!("{error}");
        }
    }
}
