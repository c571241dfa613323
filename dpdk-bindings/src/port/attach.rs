//! From a device's name to a [`Port`], and back to nothing when it is dropped.

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Device, Port, PortId, State};
use crate::eal::Eal;
use crate::error::{DpdkError, check};
use crate::pci_address::PciAddress;

/// `RTE_ETH_DEV_NO_OWNER`.
const NO_OWNER: u64 = 0;

/// DPDK's lists of devices are not made for changes from several threads.
static DEVICES: Mutex<()> = Mutex::new(());

fn lock_devices() -> MutexGuard<'static, ()> {
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a device did not become a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Not the name of a device.
    #[error(
        "`{0}` is no device: give a PCI address such as 0000:03:00.0 or a DPDK virtual device \
         such as net_af_packet0,iface=eth1"
    )]
    InvalidDevice(String),
    /// EAL was told to leave the PCI bus alone.
    #[error("{0} is a PCI device, and DPDK was started without PCI")]
    PciDisabled(PciAddress),
    /// The NIC is not there.
    #[error("there is no PCI device {0}: `lspci -D` lists those there are")]
    NoSuchPciDevice(PciAddress),
    /// The NIC belongs to the kernel, or to nobody.
    #[error(
        "{address} is bound to {driver}, not to a DPDK driver: \
         bind it with `pollux setup {address}`"
    )]
    WrongDriver {
        /// The NIC.
        address: PciAddress,
        /// The kernel driver it is bound to, or `no driver`.
        driver: String,
    },
    /// No process is given a NIC, for it could write to all of memory.
    #[error(
        "{address} is bound to {driver}, and the IOMMU of this machine is off, without which \
         vfio-pci hands out no NIC: write intel_iommu=on iommu=pt (on AMD: iommu=pt) into the \
         kernel's command line and switch VT-d or AMD-Vi on in the firmware; in a virtual machine \
         that has none: `pollux setup --no-iommu {address}`"
    )]
    NoIommu {
        /// The NIC.
        address: PciAddress,
        /// The kernel driver it is bound to, or `no driver`.
        driver: String,
    },
    /// Another [`Port`], or a device built on it, has it.
    #[error("{0} is in use already")]
    InUse(String),
    /// DPDK has the device, but it is no Ethernet device.
    #[error("{0} is no Ethernet device, or its driver is not installed")]
    NoPort(String),
    /// DPDK or the driver refused.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
}

impl Device {
    pub(super) fn attach(eal: &Eal, device: &str) -> Result<Self, AttachError> {
        let _exclusive = lock_devices();
        let Found { id, name, address } = find_or_probe(eal, device)?;
        take(id, &name)?;
        Ok(Self {
            id,
            name,
            is_virtual: address.is_none(),
            state: Mutex::new(State::Stopped),
        })
    }
}

impl Port {
    pub(crate) fn attach(eal: &Eal, device: &str) -> Result<Self, AttachError> {
        let device = Arc::new(Device::attach(eal, device)?);
        Ok(Self { device })
    }
}

/// A device that DPDK drives.
struct Found {
    id: PortId,
    name: String,
    /// Of a NIC.
    address: Option<PciAddress>,
}

/// The caller has the lock of DPDK's lists.
fn find_or_probe(eal: &Eal, device: &str) -> Result<Found, AttachError> {
    let (name, arguments) = device.split_once(',').unwrap_or((device, ""));
    let address = name.parse::<PciAddress>().ok();
    let name = address.map_or_else(|| name.to_owned(), |address| address.to_string());
    if let Some(address) = address
        && !eal.uses_pci()
    {
        return Err(AttachError::PciDisabled(address));
    }
    let invalid = || AttachError::InvalidDevice(device.to_owned());
    let c_name = CString::new(name.as_str()).map_err(|_| invalid())?;
    if name.is_empty() || name.len() >= dpdk_sys::RTE_ETH_NAME_MAX_LEN as usize {
        return Err(invalid());
    }
    let id = match find(&c_name) {
        Some(id) => id,
        None => {
            let separator = if arguments.is_empty() { "" } else { "," };
            let words = format!("{name}{separator}{arguments}");
            let words = CString::new(words).map_err(|_| invalid())?;
            probe(&words, &name, address)?;
            find(&c_name).ok_or_else(|| no_port(&name, address))?
        }
    };
    Ok(Found { id, name, address })
}

fn find(name: &CStr) -> Option<PortId> {
    let mut id = 0;
    // SAFETY: EAL is initialised (a caller has `Eal`), `name` is NUL-terminated, `id` lives through
    // the call.
    let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    (code == 0).then_some(PortId(id))
}

fn probe(words: &CStr, name: &str, address: Option<PciAddress>) -> Result<(), AttachError> {
    // SAFETY: EAL is initialised (the caller has `Eal`); the string is NUL-terminated and copied by
    // DPDK.
    let code = unsafe { dpdk_sys::rte_dev_probe(words.as_ptr()) };
    check(code, || format!("attach {name}"))
        .map(drop)
        .map_err(|error| {
            address
                .and_then(wrong_driver)
                .unwrap_or(AttachError::Dpdk(error))
        })
}

fn no_port(name: &str, address: Option<PciAddress>) -> AttachError {
    address
        .and_then(wrong_driver)
        .unwrap_or_else(|| AttachError::NoPort(name.to_owned()))
}

/// What is wrong with the binding of a NIC that DPDK could not take. NICs that share the device
/// with their kernel driver (`mlx5_core`) do not get here unless something else is wrong.
fn wrong_driver(address: PciAddress) -> Option<AttachError> {
    if !address.exists() {
        return Some(AttachError::NoSuchPciDevice(address));
    }
    let driver = address
        .kernel_driver()
        .unwrap_or_else(|| String::from("no driver"));
    let is_uio = ["uio_pci_generic", "igb_uio"].contains(&driver.as_str());
    if !is_uio && !vfio_hands_out() {
        return Some(AttachError::NoIommu { address, driver });
    }
    let for_dpdk = is_uio || driver == "vfio-pci";
    (!for_dpdk).then_some(AttachError::WrongDriver { address, driver })
}

/// Whether there is an IOMMU, or `vfio` was told to do without.
fn vfio_hands_out() -> bool {
    let mut groups = fs::read_dir("/sys/kernel/iommu_groups")
        .into_iter()
        .flatten();
    let unsafe_mode = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    groups.next().is_some()
        || fs::read_to_string(unsafe_mode).is_ok_and(|text| text.starts_with(['Y', '1']))
}

/// Becomes the owner, in DPDK's books, which also know of devices built on this one. Ids are never
/// used twice, so there is at most one [`Port`] for a device.
fn take(id: PortId, name: &str) -> Result<(), AttachError> {
    let mut owner = dpdk_sys::rte_eth_dev_owner::default();
    for (to, &from) in owner.name.iter_mut().zip(b"pollux") {
        *to = from.cast_signed();
    }
    // SAFETY: EAL is initialised; the number lives through the call.
    let code = unsafe { dpdk_sys::rte_eth_dev_owner_new(&raw mut owner.id) };
    check(code, || format!("become the owner of {name}"))?;
    // SAFETY: `owner` lives through the call, which copies it; its name is NUL-terminated.
    let code = unsafe { dpdk_sys::rte_eth_dev_owner_set(id.0, &raw const owner) };
    check(code, String::new).map_err(|_| AttachError::InUse(name.to_owned()))?;
    Ok(())
}

/// The names of the ports without an owner.
pub(crate) fn unowned_ports() -> Vec<String> {
    let _exclusive = lock_devices();
    let mut names = Vec::new();
    let mut next = 0;
    loop {
        // SAFETY: EAL is initialised (the caller has `Eal`); any number is allowed.
        let id = unsafe { dpdk_sys::rte_eth_find_next_owned_by(next, NO_OWNER) };
        let Some(id) = u16::try_from(id)
            .ok()
            .filter(|&id| u32::from(id) < dpdk_sys::RTE_MAX_ETHPORTS)
        else {
            return names;
        };
        let mut name = [0; dpdk_sys::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: `name` has the size DPDK asks for.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) };
        if code == 0 {
            names.push(text(&name));
        }
        next = id.saturating_add(1);
    }
}

/// The text before the first NUL.
pub(super) fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters
        .iter()
        .map(|c| c.cast_unsigned())
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Device {
    /// The queues are gone (they hold the device), so it is stopped. A virtual device goes
    /// altogether, so that its name can be attached again.
    fn drop(&mut self) {
        let _exclusive = lock_devices();
        // SAFETY: the id is of a device that is ours and not closed yet; this is the only place it
        // is.
        let code = unsafe { dpdk_sys::rte_eth_dev_close(self.id.0) };
        if let Err(error) = self.check(code, "close port") {
            log::error!("{error}");
        }
        // SAFETY: reads a flag; any number is allowed.
        let is_removed = unsafe { dpdk_sys::shim_is_removed(self.id.0) };
        let bus = match (self.is_virtual, is_removed) {
            (true, _) => c"vdev",
            // The kernel waits for it.
            (false, true) => c"pci",
            (false, false) => return,
        };
        let Ok(name) = CString::new(self.name.as_str()) else {
            return;
        };
        // SAFETY: both strings are NUL-terminated and live through the call.
        let code = unsafe { dpdk_sys::rte_eal_hotplug_remove(bus.as_ptr(), name.as_ptr()) };
        if let Err(error) = self.check(code, "remove device") {
            log::error!("{error}");
        }
    }
}
