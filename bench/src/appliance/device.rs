//! The DPDK device that a program gets as its one port.

use std::fmt;
use std::str::FromStr;

use dpdk_bindings::PciAddress;
use thiserror::Error;

/// A device as DPDK names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DpdkDevice {
    /// A virtual one, with its arguments: `net_memif0,role=server`.
    Virtual(String),
    /// A NIC, by its PCI address.
    Pci(String),
}

/// What `--device` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// `net_pcap` that gives frames out of memory without end: the cost of a packet.
    Pcap,
    /// `net_memif` to the generator in this process: rate without loss, and latency.
    Memif,
    /// A device with a generator of the user's at the other end: the cost of a packet.
    External(DpdkDevice),
}

/// Why a device cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// No device at all.
    #[error(
        "`{0}` is no device: write pcap, memif, the PCI address of a NIC as `lspci -D` prints it, or a DPDK virtual device \
         with its arguments as in net_memif0,role=server,socket=/run/generator.sock"
    )]
    Unknown(String),
    /// A loop within one process.
    #[error(
        "net_ring cannot be measured: what a program sends into the ring comes back to it and to nobody else, so the data \
         plane would get its own translated packets, which belong to no connection; unchanged ones (direct) are gone after \
         at most 255 turns, for each takes a hop off them, and no other process can put new ones in. Take memif: a ring \
         between two processes"
    )]
    Ring,
}

impl DpdkDevice {
    /// What makes testpmd take this device and no other.
    pub fn testpmd_words(&self) -> Vec<String> {
        match self {
            Self::Virtual(words) => vec![format!("--vdev={words}"), "--no-pci".to_owned()],
            Self::Pci(address) => vec![format!("--allow={address}")],
        }
    }

    /// Its name without arguments.
    pub fn name(&self) -> &str {
        match self {
            Self::Virtual(words) => words.split(',').next().unwrap_or(words),
            Self::Pci(address) => address,
        }
    }
}

impl fmt::Display for DpdkDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Virtual(name) | Self::Pci(name) => formatter.write_str(name),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "pcap" => return Ok(Self::Pcap),
            "memif" => return Ok(Self::Memif),
            _ => {}
        }
        if text == "ring" || text.starts_with("net_ring") {
            return Err(DeviceError::Ring);
        }
        if let Ok(address) = text.parse::<PciAddress>() {
            return Ok(Self::External(DpdkDevice::Pci(address.to_string())));
        }
        let is_virtual = text.starts_with("net_") && !text.contains(char::is_whitespace);
        if is_virtual {
            return Ok(Self::External(DpdkDevice::Virtual(text.to_owned())));
        }
        Err(DeviceError::Unknown(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart() {
        assert_eq!("pcap".parse(), Ok(DeviceChoice::Pcap));
        assert_eq!("memif".parse(), Ok(DeviceChoice::Memif));
        let nic = DpdkDevice::Pci("0000:03:00.0".to_owned());
        assert_eq!(nic.testpmd_words(), ["--allow=0000:03:00.0"]);
        assert_eq!("03:00.0".parse(), Ok(DeviceChoice::External(nic)));
        let ring = DpdkDevice::Virtual("net_memif0,role=server".to_owned());
        assert_eq!(ring.name(), "net_memif0");
        assert_eq!(
            "net_memif0,role=server".parse(),
            Ok(DeviceChoice::External(ring))
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_reason() {
        for ring in ["ring", "net_ring0"] {
            let error = ring.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(
                error.contains("gone after at most 255 turns") && error.contains("Take memif"),
                "{error}"
            );
        }
        for text in ["", "eth0", "net_pcap0 x", "03:00"] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("write pcap, memif"), "{error}");
        }
    }
}
