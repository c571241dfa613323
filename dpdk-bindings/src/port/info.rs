//! What a port is and how it does at the moment.

use std::ffi::CStr;
use std::num::NonZeroU32;

use super::{Device, Port, PortError, State};
use crate::mempool::Mempool;

/// Ethernet header and two VLAN tags: what a frame has around its MTU.
const FRAME_OVERHEAD: u16 = 14 + 8;

/// Bytes the kernel keeps for itself before a frame it gives to `net_af_xdp`. A frame that does not
/// fit behind them is dropped without a word (`XDP_PACKET_HEADROOM`).
const XDP_HEADROOM: u16 = 256;

/// What a device is and can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// The name of DPDK's driver, for example `net_ixgbe`.
    pub driver: String,
    /// The port's own MAC address.
    pub mac: [u8; 6],
    /// The most receive queues it can have.
    pub rx_queues_max: u16,
    /// The most transmit queues it can have.
    pub tx_queues_max: u16,
    /// Whether it spreads flows over its queues by a hash that it can be told.
    pub has_rss: bool,
    /// The least MTU it can have.
    pub mtu_min: u16,
    /// The greatest MTU it can have.
    pub mtu_max: u16,
    /// The kernel's interface behind a virtual device (its `ifindex`).
    pub kernel_interface: Option<NonZeroU32>,
    /// The NUMA node it is plugged into.
    pub numa_node: Option<u16>,
    /// What it can do for us.
    pub offloads: OffloadCapabilities,
}

/// The checksums a device can verify or fill in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OffloadCapabilities {
    /// Verifies IPv4 header checksums.
    pub rx_ipv4_checksum: bool,
    /// Verifies TCP checksums.
    pub rx_tcp_checksum: bool,
    /// Verifies UDP checksums.
    pub rx_udp_checksum: bool,
    /// Fills in IPv4 header checksums.
    pub tx_ipv4_checksum: bool,
    /// Fills in TCP checksums.
    pub tx_tcp_checksum: bool,
    /// Fills in UDP checksums.
    pub tx_udp_checksum: bool,
}

/// The cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Whether frames can pass.
    pub up: bool,
    /// The speed, if the driver knows.
    pub speed_mbps: Option<u32>,
    /// Whether both sides may send at once.
    pub full_duplex: bool,
}

impl Port {
    /// What the device is and can.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the device is gone.
    pub fn info(&self) -> Result<PortInfo, PortError> {
        let _exclusive = self.device.lock();
        let info = self.raw_info()?;
        // SAFETY: the id is of a device that is ours until it is closed.
        let numa_node = unsafe { dpdk_sys::rte_eth_dev_socket_id(self.device.id.0) };
        let rx = |flag| info.rx_offload_capa & flag != 0;
        let tx = |flag| info.tx_offload_capa & flag != 0;
        Ok(PortInfo {
            driver: driver_name(&info),
            mac: self.mac()?,
            rx_queues_max: info.max_rx_queues,
            tx_queues_max: info.max_tx_queues,
            has_rss: info.flow_type_rss_offloads & dpdk_sys::SHIM_RSS_TYPES != 0,
            mtu_min: info.min_mtu,
            mtu_max: info.max_mtu,
            kernel_interface: NonZeroU32::new(info.if_index),
            numa_node: u16::try_from(numa_node).ok(),
            offloads: OffloadCapabilities {
                rx_ipv4_checksum: rx(dpdk_sys::SHIM_RX_IPV4_CHECKSUM),
                rx_tcp_checksum: rx(dpdk_sys::SHIM_RX_TCP_CHECKSUM),
                rx_udp_checksum: rx(dpdk_sys::SHIM_RX_UDP_CHECKSUM),
                tx_ipv4_checksum: tx(dpdk_sys::SHIM_TX_IPV4_CHECKSUM),
                tx_tcp_checksum: tx(dpdk_sys::SHIM_TX_TCP_CHECKSUM),
                tx_udp_checksum: tx(dpdk_sys::SHIM_TX_UDP_CHECKSUM),
            },
        })
    }

    /// The port's own MAC address.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the device is gone.
    pub fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut address = dpdk_sys::rte_ether_addr::default();
        // SAFETY: the id is of a device that is ours until it is closed; `address` lives through
        // the call.
        let code = unsafe { dpdk_sys::rte_eth_macaddr_get(self.device.id.0, &raw mut address) };
        self.device.check(code, "get the MAC address of port")?;
        Ok(address.addr_bytes)
    }

    /// The longest payload of a frame the port takes.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the device is gone.
    pub fn mtu(&self) -> Result<u16, PortError> {
        let mut mtu = 0;
        // SAFETY: the id is of a device that is ours until it is closed; `mtu` lives through the
        // call.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_mtu(self.device.id.0, &raw mut mtu) };
        self.device.check(code, "get the MTU of port")?;
        Ok(mtu)
    }

    /// Sets the MTU, also of the kernel's interface behind a virtual device. Many NICs change it
    /// only while they are stopped: give it to [`Port::start`] instead.
    ///
    /// # Errors
    /// [`PortError::MtuOutOfRange`], [`PortError::FrameTooLong`], or what the driver says.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), PortError> {
        let state = self.device.lock();
        self.check_mtu(mtu, &self.raw_info()?)?;
        if let State::Started {
            frame_length_max, ..
        } = *state
        {
            self.check_frame_length(mtu, frame_length_max)?;
        }
        self.raw_set_mtu(mtu)
    }

    /// The state of the link as known now, without waiting for the device to find it out.
    ///
    /// # Errors
    /// [`PortError::Dpdk`] if the driver cannot tell.
    pub fn link(&self) -> Result<LinkState, PortError> {
        self.device.link()
    }

    pub(super) fn raw_info(&self) -> Result<dpdk_sys::rte_eth_dev_info, PortError> {
        self.device.raw_info()
    }

    pub(super) fn raw_set_mtu(&self, mtu: u16) -> Result<(), PortError> {
        // SAFETY: the id is of a device that is ours until it is closed.
        let code = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.device.id.0, mtu) };
        self.device
            .check(code, &format!("set the MTU {mtu} of port"))?;
        Ok(())
    }

    pub(super) fn check_mtu(
        &self,
        mtu: u16,
        info: &dpdk_sys::rte_eth_dev_info,
    ) -> Result<(), PortError> {
        if (info.min_mtu..=info.max_mtu).contains(&mtu) {
            return Ok(());
        }
        Err(PortError::MtuOutOfRange {
            port: self.device.name.clone(),
            mtu,
            min: info.min_mtu,
            max: info.max_mtu,
        })
    }

    /// Every frame must fit one mbuf.
    pub(super) fn check_frame_length(
        &self,
        mtu: u16,
        frame_length_max: u16,
    ) -> Result<(), PortError> {
        let needed = u32::from(mtu).saturating_add(u32::from(FRAME_OVERHEAD));
        if needed <= u32::from(frame_length_max) {
            return Ok(());
        }
        let port = self.device.name.clone();
        Err(PortError::FrameTooLong {
            port,
            mtu,
            needed,
            frame_length_max,
        })
    }

    /// The longest frame a device can put into an mbuf of the pool.
    pub(super) fn frame_length_max(pool: &Mempool, info: &dpdk_sys::rte_eth_dev_info) -> u16 {
        let of_driver = if driver_name(info) == "net_af_xdp" {
            XDP_HEADROOM
        } else {
            0
        };
        pool.frame_length_max().saturating_sub(of_driver)
    }
}

impl Device {
    pub(super) fn link(&self) -> Result<LinkState, PortError> {
        let _exclusive = self.lock();
        let mut link = dpdk_sys::shim_link::default();
        // SAFETY: the id is of a device that is ours until it is closed; `link` lives through the
        // call.
        let code = unsafe { dpdk_sys::shim_link_nowait(self.id.0, &raw mut link) };
        self.check(code, "get the link state of port")?;
        let known = link.speed_mbps != 0 && link.speed_mbps != dpdk_sys::SHIM_SPEED_UNKNOWN;
        Ok(LinkState {
            up: link.up != 0,
            speed_mbps: known.then_some(link.speed_mbps),
            full_duplex: link.full_duplex != 0,
        })
    }

    pub(super) fn raw_info(&self) -> Result<dpdk_sys::rte_eth_dev_info, PortError> {
        let mut info = dpdk_sys::rte_eth_dev_info::default();
        // SAFETY: the id is of a device that is ours until it is closed; `info` lives through the
        // call.
        let code = unsafe { dpdk_sys::rte_eth_dev_info_get(self.id.0, &raw mut info) };
        self.check(code, "get the capabilities of port")?;
        Ok(info)
    }
}

impl Mempool {
    /// The greatest MTU a port with this pool can have.
    #[must_use]
    pub fn mtu_max(&self) -> u16 {
        self.frame_length_max().saturating_sub(FRAME_OVERHEAD)
    }
}

pub(super) fn driver_name(info: &dpdk_sys::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: not null; a NUL-terminated string of the driver, which is never unloaded.
    unsafe { CStr::from_ptr(info.driver_name) }
        .to_string_lossy()
        .into_owned()
}
