//! This machine as its kernel describes it: processors, huge pages, PCI devices, addresses, neighbours.
//!
//! ```text
//! /sys, /proc ──► root ──► cpus, huge_pages, pci, iommu ──► doctor, setup
//! ip -json ─────────────► network ─────────────────────────► doctor
//! ```
//!
//! All is read below a [`Root`], which is `/` or a directory with a copy of what is there, so that everything that looks
//! at a machine can be shown one that was made up.

pub mod appliance;
pub mod cpu_list;
pub mod cpus;
pub mod huge_pages;
pub mod iommu;
#[cfg(test)]
pub mod made_up;
pub mod network;
pub mod pci;
pub mod root;
pub mod vhost_net;

pub use root::Root;
