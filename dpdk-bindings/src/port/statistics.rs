//! What a device counts by itself.

use super::attach::text;
use super::{Port, PortError};

/// The counters every device has. A driver that does not keep one leaves it at 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Frames received and taken by the program or still in a queue.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames the device dropped because its queues were full.
    pub rx_missed: u64,
    /// Frames received broken.
    pub rx_errors: u64,
    /// Frames not received because the pool was empty.
    pub rx_no_mbuf: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames the device took and could not send.
    pub tx_errors: u64,
}

/// A counter of the driver's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedStatistic {
    /// Its name, for example `rx_q0_packets`.
    pub name: String,
    /// Its value.
    pub value: u64,
}

impl Port {
    /// The counters every device has.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot tell.
    pub fn statistics(&self) -> Result<PortStatistics, PortError> {
        let _exclusive = self.device.lock();
        let mut stats = dpdk_sys::rte_eth_stats::default();
        // SAFETY: the id is of a device that is ours until it is closed; `stats` lives through the
        // call.
        let code = unsafe { dpdk_sys::rte_eth_stats_get(self.device.id.0, &raw mut stats) };
        self.device.check(code, "get the statistics of port")?;
        Ok(PortStatistics {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_mbuf: stats.rx_nombuf,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        })
    }

    /// The counters of the driver, which contain those of [`Port::statistics`] under names of their
    /// own.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot tell.
    pub fn extended_statistics(&self) -> Result<Vec<ExtendedStatistic>, PortError> {
        let _exclusive = self.device.lock();
        let id = self.device.id.0;
        // SAFETY: the id is of a device that is ours until it is closed; no array asks for the
        // count.
        let count = unsafe { dpdk_sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0) };
        let count = self
            .device
            .check(count, "count the extended statistics of port")?
            .unsigned_abs();
        let mut names = vec![dpdk_sys::rte_eth_xstat_name::default(); count as usize];
        let mut values = vec![dpdk_sys::rte_eth_xstat::default(); count as usize];
        // SAFETY: as above; `names` has `count` elements.
        let code = unsafe { dpdk_sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), count) };
        self.device
            .check(code, "name the extended statistics of port")?;
        // SAFETY: as above; `values` has `count` elements.
        let code = unsafe { dpdk_sys::rte_eth_xstats_get(id, values.as_mut_ptr(), count) };
        let filled = self
            .device
            .check(code, "get the extended statistics of port")?
            .unsigned_abs();
        values.truncate(filled as usize);
        let named = |value: &dpdk_sys::rte_eth_xstat| {
            let name = names.get(usize::try_from(value.id).ok()?)?;
            Some(ExtendedStatistic {
                name: text(&name.name),
                value: value.value,
            })
        };
        Ok(values.iter().filter_map(named).collect())
    }

    /// Sets all counters of the device to 0.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot.
    pub fn reset_statistics(&self) -> Result<(), PortError> {
        let _exclusive = self.device.lock();
        // SAFETY: the id is of a device that is ours until it is closed. It resets the common ones
        // too.
        let code = unsafe { dpdk_sys::rte_eth_xstats_reset(self.device.id.0) };
        self.device.check(code, "reset the statistics of port")?;
        Ok(())
    }
}
