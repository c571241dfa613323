//! The DPDK device that a program gets as its one port.

use std::fmt;

/// A device as DPDK names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DpdkDevice {
    /// A virtual one, with its arguments: `net_memif0,role=server`.
    Virtual(String),
}

impl DpdkDevice {
    /// What makes testpmd take this device and no other.
    pub fn testpmd_words(&self) -> Vec<String> {
        match self {
            Self::Virtual(words) => vec![format!("--vdev={words}"), "--no-pci".to_owned()],
        }
    }
}

impl fmt::Display for DpdkDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Virtual(name) => formatter.write_str(name),
        }
    }
}
