//! PCI devices: what they are, which driver has them, and with whom they share an IOMMU group.

use super::{Root, iommu};

const DEVICES: &str = "sys/bus/pci/devices";

/// Network controllers have this base class (PCI Code and ID Assignment, class 02h).
const NETWORK: u32 = 0x02;
/// Bridges are part of the group of what is behind them, and stay with the kernel.
const BRIDGE: u32 = 0x06;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciDevice {
    /// As `lspci -D` writes it: `0000:03:00.0`.
    pub address: String,
    /// Who made it, and which one it is.
    pub ids: (u16, u16),
    /// Class, subclass, programming interface: 24 bits.
    pub class: u32,
    /// The driver it is bound to.
    pub driver: Option<String>,
    /// Its IOMMU group; none when the IOMMU is off.
    pub group: Option<u32>,
    /// The NUMA node it is on, if it is on one.
    pub node: Option<u16>,
    /// The kernel's network interfaces of it.
    pub interfaces: Vec<String>,
}

/// What a driver means for DPDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// A driver that hands the device to a process.
    Dpdk,
    /// A kernel driver that DPDK works beside: the device stays with it.
    Shared,
    /// A kernel driver that has the device for itself.
    Kernel,
    /// No driver.
    Unbound,
}

impl PciDevice {
    /// Reads one; none when there is no device at that address.
    pub fn read(root: &Root, address: &str) -> Option<Self> {
        let of = |name: &str| format!("{DEVICES}/{address}/{name}");
        if !root.has(&format!("{DEVICES}/{address}")) {
            return None;
        }
        let number = |name: &str| {
            let text = root.text(&of(name))?;
            u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        let id = |name| u16::try_from(number(name).unwrap_or(0)).unwrap_or(0);
        Some(Self {
            address: address.to_owned(),
            ids: (id("vendor"), id("device")),
            class: number("class").unwrap_or(0),
            driver: root.link_name(&of("driver")),
            group: root
                .link_name(&of("iommu_group"))
                .and_then(|name| name.parse().ok()),
            // -1: the machine does not say.
            node: root.value(&of("numa_node")),
            interfaces: interfaces(root, address),
        })
    }

    /// Whether it is a network controller.
    pub fn is_network(&self) -> bool {
        self.class >> 16 == NETWORK
    }

    /// What its driver means for DPDK.
    pub fn binding(&self) -> Binding {
        match self.driver.as_deref() {
            None => Binding::Unbound,
            Some("vfio-pci" | "igb_uio" | "uio_pci_generic") => Binding::Dpdk,
            Some("mlx4_core" | "mlx5_core" | "mana") => Binding::Shared,
            Some(_) => Binding::Kernel,
        }
    }

    /// Devices of its IOMMU group that a kernel driver holds, so that `vfio-pci` gives none of the group away.
    pub fn held_back_by(&self, root: &Root) -> Vec<Self> {
        let Some(group) = self.group else {
            return Vec::new();
        };
        iommu::members(root, group)
            .into_iter()
            .filter(|address| *address != self.address)
            .filter_map(|address| Self::read(root, &address))
            .filter(|other| other.class >> 16 != BRIDGE && other.binding() == Binding::Kernel)
            .collect()
    }
}

/// The NUMA node of a device as a configuration names it; none of one that is no NIC, not there, or on none.
pub fn node_of(root: &Root, device: &str) -> Option<u16> {
    PciDevice::read(root, &address(device)?)?.node
}

/// The kernel's interfaces of a device; virtio has a bus of its own in between.
fn interfaces(root: &Root, address: &str) -> Vec<String> {
    let device = format!("{DEVICES}/{address}");
    let names = root.names(&device);
    let virtio = names.iter().filter(|name| name.starts_with("virtio"));
    let of_virtio = virtio.flat_map(|name| root.names(&format!("{device}/{name}/net")));
    root.names(&format!("{device}/net"))
        .into_iter()
        .chain(of_virtio)
        .collect()
}

/// Every network controller of the machine.
pub fn network_controllers(root: &Root) -> Vec<PciDevice> {
    let all = root.names(DEVICES);
    all.iter()
        .filter_map(|address| PciDevice::read(root, address))
        .filter(PciDevice::is_network)
        .collect()
}

/// An address as `/sys` writes it, also of one without its domain; none when the text is no PCI address.
pub fn address(text: &str) -> Option<String> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let (device, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0");
    let hex = |text: &str, digits: usize| {
        let is_hex =
            (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|_| is_hex)
    };
    let (domain, bus) = (hex(domain, 8)?, hex(bus, 2)?);
    let device = hex(device, 2).filter(|device| *device < 32)?;
    let function = hex(function, 1).filter(|function| *function < 8)?;
    parts
        .next()
        .is_none()
        .then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;
    use super::*;

    #[test]
    fn network_controllers_are_found_with_all_about_them() {
        let machine = MadeUp::new()
            .pci("0000:00:1f.0", "0x060100", "lpc_ich", -1, 1)
            .pci("0000:01:00.0", "0x020000", "e1000e", 1, 7)
            .pci("0000:01:00.1", "0x020000", "", -1, 8)
            .file("sys/bus/pci/devices/0000:01:00.0/net/eth1/mtu", "1500");
        let found = network_controllers(&machine.root());
        let [bound, free] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(bound.ids, (0x8086, 0x10d3));
        assert_eq!((bound.node, bound.group), (Some(1), Some(7)));
        assert_eq!(bound.interfaces, ["eth1"]);
        assert_eq!(bound.binding(), Binding::Kernel);
        assert_eq!((free.node, free.binding()), (None, Binding::Unbound));
        assert_eq!(PciDevice::read(&machine.root(), "0000:09:00.0"), None);
        let machine = machine
            .pci("0000:02:00.0", "0x020000", "virtio-pci", 0, 9)
            .file(
                "sys/bus/pci/devices/0000:02:00.0/virtio3/net/eth7/mtu",
                "1500",
            );
        let virtio = PciDevice::read(&machine.root(), "0000:02:00.0").unwrap();
        assert_eq!(virtio.interfaces, ["eth7"]);
    }

    #[test]
    fn a_group_is_held_back_by_kernel_drivers_but_not_by_bridges() {
        let machine = MadeUp::new()
            .pci("0000:01:00.0", "0x020000", "vfio-pci", 0, 7)
            .pci("0000:01:00.1", "0x020000", "e1000e", 0, 7)
            .pci("0000:01:00.2", "0x020000", "", 0, 7)
            .pci("0000:00:01.0", "0x060400", "pcieport", 0, 7);
        let device = PciDevice::read(&machine.root(), "0000:01:00.0").unwrap();
        assert_eq!(device.binding(), Binding::Dpdk);
        let held: Vec<String> = device
            .held_back_by(&machine.root())
            .into_iter()
            .map(|other| other.address)
            .collect();
        assert_eq!(held, ["0000:01:00.1"]);
    }

    #[test]
    fn addresses_are_written_in_one_way() {
        for (text, written) in [
            ("0000:03:00.0", "0000:03:00.0"),
            ("3:0.1", "0000:03:00.1"),
            ("10000:E1:1f.7", "10000:e1:1f.7"),
        ] {
            assert_eq!(address(text).unwrap(), written);
        }
        for text in [
            "net_af_xdp0,iface=eth1",
            "03:00",
            "03:20.0",
            "03:00.8",
            "1:2:3:4.5",
            "",
            "+3:00.0",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
