//! The exception path: what makes a port's TAP and carries frames to the kernel and back.
//!
//! `net_tap` costs the worker a system call for each frame and passes on no frame of more than 1522 bytes. Over the kernel's
//! `vhost-net` (`net_virtio_user`) the worker writes into a ring, and a thread of the kernel copies; so it is taken where
//! the kernel has it.

use std::path::Path;

use dpdk_bindings::{Eal, HashedEnd, Mempool, Port, PortSettings, Queues};
use pollux_api::memory::TAP_DESCRIPTORS;
use pollux_api::settings::{ExceptionPath, NET_TAP_MTU_MAX};
use thiserror::Error;

use crate::kernel::{MacAddress, TapName};

/// What makes TAPs over the kernel's `vhost-net`.
pub const VHOST_NET: &str = "/dev/vhost-net";

/// Why a port has no way to the kernel.
#[derive(Debug, Error)]
pub enum ExceptionPathError {
    /// The kernel does not have what was asked for.
    #[error(
        "exception_path \"vhost-net\" needs {VHOST_NET}, which is not there: `modprobe vhost_net` makes it; or leave \
         exception_path out of [dataplane]"
    )]
    NoVhost,
    /// Jumbo frames need more of the kernel.
    #[error(
        "a TAP with an MTU of {0} needs {VHOST_NET}, which is not there: `modprobe vhost_net` makes it; or give the port \
         `mtu = {NET_TAP_MTU_MAX}`"
    )]
    Jumbo(u16),
    /// Jumbo frames need another driver.
    #[error(
        "net_tap carries no frames of an MTU of {0}: leave exception_path out of [dataplane], or give the port `mtu = \
         {NET_TAP_MTU_MAX}`"
    )]
    JumboOverNetTap(u16),
    /// The driver does not make it.
    #[error(
        "its TAP cannot be made by {driver}: {reason}; is /dev/net/tun there, and no interface of that name?"
    )]
    Device {
        /// The driver.
        driver: &'static str,
        /// Why.
        reason: String,
    },
}

/// A driver of DPDK that makes TAPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapDriver {
    /// `net_tap`
    NetTap,
    /// `net_virtio_user` over `vhost-net`.
    VhostNet,
}

impl TapDriver {
    /// As the setting `exception_path` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetTap => "net_tap",
            Self::VhostNet => "vhost-net",
        }
    }

    /// DPDK's name of the device that makes a TAP.
    fn device(self, number: usize, name: &TapName, mac: MacAddress, queues: u16) -> String {
        match self {
            Self::NetTap => format!("net_tap{number},iface={name}"),
            Self::VhostNet => format!(
                "net_virtio_user{number},path={VHOST_NET},iface={name},mac={mac},queues={queues},\
                 queue_size={TAP_DESCRIPTORS}"
            ),
        }
    }
}

/// A port's TAP, and the queues to it.
#[derive(Debug)]
pub struct Tap {
    /// What made it.
    pub driver: TapDriver,
    /// Its device.
    pub port: Port,
    /// As many each way as were wanted.
    pub queues: Queues,
}

/// The drivers to try, best first.
fn drivers(
    wanted: ExceptionPath,
    mtu: u16,
    has_vhost: bool,
) -> Result<&'static [TapDriver], ExceptionPathError> {
    use TapDriver::{NetTap, VhostNet};
    let is_jumbo = mtu > NET_TAP_MTU_MAX;
    match (wanted, has_vhost) {
        (ExceptionPath::NetTap, _) if is_jumbo => Err(ExceptionPathError::JumboOverNetTap(mtu)),
        (ExceptionPath::NetTap, _) => Ok(&[NetTap]),
        (ExceptionPath::Auto, false) if is_jumbo => Err(ExceptionPathError::Jumbo(mtu)),
        (ExceptionPath::Auto, false) => Ok(&[NetTap]),
        (ExceptionPath::VhostNet, false) => Err(ExceptionPathError::NoVhost),
        (ExceptionPath::Auto, true) if !is_jumbo => Ok(&[VhostNet, NetTap]),
        (ExceptionPath::Auto | ExceptionPath::VhostNet, true) => Ok(&[VhostNet]),
    }
}

/// Makes the TAP of port number `number` and starts its queues, one each way a worker.
///
/// # Errors
/// [`ExceptionPathError`], of the last driver that was tried.
pub fn open(
    eal: &Eal,
    wanted: ExceptionPath,
    number: usize,
    (name, mac, mtu): (&TapName, MacAddress, u16),
    workers: u16,
    pool: &Mempool,
) -> Result<Tap, ExceptionPathError> {
    let settings = PortSettings {
        rx_queues: workers,
        tx_queues: workers,
        rx_descriptors: TAP_DESCRIPTORS,
        tx_descriptors: TAP_DESCRIPTORS,
        numa_node: None,
        mtu: Some(mtu),
        hash: HashedEnd::Both,
        verify_ipv4_headers: false,
        fill_udp_checksums: false,
        name_vlans: false,
    };
    let attempt = |driver: TapDriver| {
        let failed = |reason: String| ExceptionPathError::Device {
            driver: driver.name(),
            reason,
        };
        let port = eal
            .attach(&driver.device(number, name, mac, workers))
            .map_err(|error| failed(error.to_string()))?;
        let queues = port
            .start(&settings, pool)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Tap {
            driver,
            port,
            queues,
        })
    };
    let drivers = drivers(wanted, mtu, Path::new(VHOST_NET).exists())?;
    let (last, before) = drivers.split_last().unwrap_or((&TapDriver::NetTap, &[]));
    for driver in before {
        match attempt(*driver) {
            Ok(tap) => return Ok(tap),
            Err(error) => log::warn!("port {name}: {error}; {} makes it", last.name()),
        }
    }
    attempt(*last)
}

#[cfg(test)]
mod tests {
    use super::TapDriver::{NetTap, VhostNet};
    use super::*;

    #[test]
    fn vhost_net_makes_taps_where_the_kernel_has_it() {
        let tried = |wanted, mtu, has_vhost| drivers(wanted, mtu, has_vhost).unwrap();
        assert_eq!(tried(ExceptionPath::Auto, 1500, true), [VhostNet, NetTap]);
        assert_eq!(tried(ExceptionPath::Auto, 1500, false), [NetTap]);
        assert_eq!(tried(ExceptionPath::Auto, 9000, true), [VhostNet]);
        assert_eq!(tried(ExceptionPath::NetTap, 1500, true), [NetTap]);
        assert_eq!(tried(ExceptionPath::VhostNet, 1500, true), [VhostNet]);
    }

    #[test]
    fn what_cannot_be_says_what_to_do() {
        let refused = |wanted, mtu, has_vhost| {
            drivers(wanted, mtu, has_vhost)
                .expect_err("refused")
                .to_string()
        };
        for (error, words) in [
            (
                refused(ExceptionPath::Auto, 9000, false),
                "MTU of 9000 needs /dev/vhost-net, which is not there: `modprobe vhost_net`",
            ),
            (
                refused(ExceptionPath::VhostNet, 1500, false),
                "`modprobe vhost_net` makes it; or leave exception_path out",
            ),
            (
                refused(ExceptionPath::NetTap, 1501, true),
                "no frames of an MTU of 1501: leave exception_path out",
            ),
        ] {
            assert!(error.contains(words), "{error}");
        }
    }
}
