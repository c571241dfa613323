//! Which frames a port receives: by MAC address, by group, or all.

use super::{Port, PortError, State};

impl Port {
    /// Sets the port's own MAC address.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot, or not with this address.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), PortError> {
        let _exclusive = self.device.lock();
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the id is of a device that is ours until it is closed; `address` lives through
        // the call.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_default_mac_addr_set(self.device.id.0, &raw mut address)
        };
        self.device.check(code, "set the MAC address of port")?;
        Ok(())
    }

    /// Receives frames for every MAC address, or only for the port's own again.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        let _exclusive = self.device.lock();
        let id = self.device.id.0;
        let code = if on {
            // SAFETY: the id is of a device that is ours until it is closed.
            unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) }
        } else {
            // SAFETY: as above.
            unsafe { dpdk_sys::rte_eth_promiscuous_disable(id) }
        };
        self.device
            .check(code, "set the promiscuous mode of port")?;
        Ok(())
    }

    /// Receives frames for every multicast address, or only for those joined again.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot.
    pub fn set_all_multicast(&self, on: bool) -> Result<(), PortError> {
        let _exclusive = self.device.lock();
        let id = self.device.id.0;
        let code = if on {
            // SAFETY: the id is of a device that is ours until it is closed.
            unsafe { dpdk_sys::rte_eth_allmulticast_enable(id) }
        } else {
            // SAFETY: as above.
            unsafe { dpdk_sys::rte_eth_allmulticast_disable(id) }
        };
        self.device.check(code, "set the multicast mode of port")?;
        Ok(())
    }

    /// Whether the device, as it was started, receives frames of those VLANs only that
    /// [`Port::set_vlan`] named.
    #[must_use]
    pub fn filters_vlans(&self) -> bool {
        matches!(
            *self.device.lock(),
            State::Started {
                filters_vlans: true,
                ..
            }
        )
    }

    /// Receives frames of this VLAN, or no more. Untagged ones come in any case.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the device was not started as one that filters, or refuses.
    pub fn set_vlan(&self, vlan: u16, on: bool) -> Result<(), PortError> {
        let _exclusive = self.device.lock();
        // SAFETY: the id is of a device that is ours until it is closed; DPDK checks the number.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_vlan_filter(self.device.id.0, vlan, i32::from(on)) };
        self.device
            .check(code, &format!("name VLAN {vlan} to port"))?;
        Ok(())
    }

    /// Receives frames to one more MAC address, beside the port's own.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot, or has no room for another.
    pub fn add_mac(&self, mac: [u8; 6]) -> Result<(), PortError> {
        let _exclusive = self.device.lock();
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the id is of a device that is ours until it is closed; `address` lives through
        // the call. Pool 0 is what a device without pools has.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_mac_addr_add(self.device.id.0, &raw mut address, 0) };
        self.device.check(code, "add a MAC address to port")?;
        Ok(())
    }

    /// Receives frames to that MAC address no more.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot; the port's own stays.
    pub fn remove_mac(&self, mac: [u8; 6]) -> Result<(), PortError> {
        let _exclusive = self.device.lock();
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the id is of a device that is ours until it is closed; `address` lives through
        // the call.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_mac_addr_remove(self.device.id.0, &raw mut address) };
        self.device.check(code, "remove a MAC address from port")?;
        Ok(())
    }
}
