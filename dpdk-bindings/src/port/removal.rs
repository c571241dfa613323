//! Whether a port's device is still there.

use std::ffi::CString;

use super::Port;

impl Port {
    /// Whether the device has been pulled out, as far as DPDK has been told: by the event of the
    /// driver, by `vfio-pci`, which asks for the device back, or by a look at the device where its
    /// driver has one. Such a device does nothing more; drop its queues and the port, so that the
    /// kernel gets it back.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        let id = self.device.id.0;
        // SAFETY: reads a flag; any number is allowed.
        let was_told = unsafe { dpdk_sys::shim_is_removed(id) };
        if was_told {
            return true;
        }
        let _exclusive = self.device.lock();
        // SAFETY: the id is of a device that is ours until it is closed.
        unsafe { dpdk_sys::rte_eth_dev_is_removed(id) == 1 }
    }

    pub(super) fn watch_removal(&self) {
        let Ok(name) = CString::new(self.device.name.as_str()) else {
            return;
        };
        // SAFETY: the id is of a device that is ours until it is closed; the name is copied.
        let code = unsafe { dpdk_sys::shim_watch_removal(self.device.id.0, name.as_ptr()) };
        if let Err(error) = self.device.check(code, "watch for the removal of port") {
            log::warn!("{error}");
        }
    }
}
