//! Why a machine is not set up: what is in the way, and what to do about it.

use thiserror::Error;

/// One thing in the way.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No NIC at all.
    #[error(
        "no NIC is named and the configuration file has no port with a PCI address; name them, as in \
         `pollux setup 0000:03:00.0`; this machine has {0}"
    )]
    NoNic(Those),
    /// Not the address of anything.
    #[error(
        "\"{text}\" is no PCI address: write it as `lspci -D` does, for example 0000:03:00.0; this machine has {there}"
    )]
    NoAddress {
        /// What was written.
        text: String,
        /// What could have been meant.
        there: Those,
    },
    /// Nothing is there.
    #[error("there is no PCI device {address}; this machine has {there}")]
    NoDevice {
        /// The address.
        address: String,
        /// What could have been meant.
        there: Those,
    },
    /// Something else than a NIC.
    #[error(
        "{address} is no network controller (its class is {class:06x}); this machine has {there}"
    )]
    NoController {
        /// The address.
        address: String,
        /// Its class.
        class: u32,
        /// What could have been meant.
        there: Those,
    },
    /// Nothing keeps a NIC from writing where it must not.
    #[error(
        "the IOMMU is off, and vfio-pci gives no NIC away without: turn on VT-d or AMD-Vi in the firmware, boot with \
         `intel_iommu=on iommu=pt` (AMD: `iommu=pt`) on the kernel's command line, and try again; a virtual machine \
         that has none can do without by `{0}`, which lets a NIC write to all memory"
    )]
    NoIommu(&'static str),
    /// A process gets the whole group or nothing of it.
    #[error(
        "{address} shares its IOMMU group {group} with {other}, which {driver} has: name that one too, take its driver \
         away, or put the NIC into another slot"
    )]
    SharedGroup {
        /// The NIC.
        address: String,
        /// Its group.
        group: u32,
        /// The other device.
        other: String,
        /// Its driver.
        driver: String,
    },
    /// The kernel uses it.
    #[error(
        "{address} is {interface}, which is up with {addresses}: `ip addr flush dev {interface}; ip link set {interface} \
         down` if that is not needed, or --force to take it as it is"
    )]
    InUse {
        /// The NIC.
        address: String,
        /// Its interface.
        interface: String,
        /// Its addresses.
        addresses: String,
    },
    /// This machine would be cut off.
    #[error(
        "{address} is {interface}, which carries {what}: without it this machine may not be reached any more; use \
         another NIC for administration, or give --force twice"
    )]
    CutsOff {
        /// The NIC.
        address: String,
        /// Its interface.
        interface: String,
        /// What goes over it.
        what: &'static str,
    },
    /// There are none.
    #[error(
        "the kernel has no huge pages (no /sys/kernel/mm/hugepages): it needs CONFIG_HUGETLBFS"
    )]
    NoHugePages,
    /// More than half the machine.
    #[error(
        "{pages} huge pages of {page_kib} KiB{on_node} are {mib} MiB, and there are {total_mib} MiB of memory in all: \
         make the table smaller (`connections` of [dataplane]) or give the machine more memory"
    )]
    TooLittleMemory {
        /// How many would be needed.
        pages: u64,
        /// Their size.
        page_kib: u64,
        /// The node, in words, or nothing.
        on_node: String,
        /// What they come to.
        mib: u64,
        /// What there is.
        total_mib: u64,
    },
    /// Nothing was set up by this program.
    #[error(
        "nothing to undo: {0} is not there, so `pollux setup` has not been run on this machine"
    )]
    NothingToUndo(String),
}

/// The network controllers of a machine, for an error's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Those(pub Vec<String>);

impl std::fmt::Display for Those {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            f.write_str("no network controller on PCI")
        } else {
            f.write_str(&self.0.join(", "))
        }
    }
}
