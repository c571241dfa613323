//! Pollux on PCI NICs: a machine of qemu whose emulated NICs stand behind an emulated IOMMU, driven by DPDK through
//! vfio-pci as on bare metal, on the networks of the lab. `scripts/test --appliance` runs what is ignored here too.

mod changing;
mod image;
mod numa;
mod preparation;
mod traffic;
mod vlans;
