//! The address of a PCI device, in the one spelling DPDK and sysfs use: `0000:03:00.1`.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// A PCI function: domain, bus, device, function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// The text is no PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no PCI address: write it as `lspci -D` does, for example 0000:03:00.0")]
pub struct InvalidPciAddress(String);

impl PciAddress {
    /// Whether the machine has this device.
    #[must_use]
    pub fn exists(&self) -> bool {
        Path::new(&format!("/sys/bus/pci/devices/{self}")).exists()
    }

    /// The kernel driver the device is bound to; `None` if it has none or there is no such device.
    #[must_use]
    pub fn kernel_driver(&self) -> Option<String> {
        let link = fs::read_link(format!("/sys/bus/pci/devices/{self}/driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(
            formatter,
            "{domain:04x}:{bus:02x}:{device:02x}.{function:x}"
        )
    }
}

impl FromStr for PciAddress {
    type Err = InvalidPciAddress;

    /// Takes `0000:03:00.1` and, for domain 0, `03:00.1`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidPciAddress(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (front, function) = text.rsplit_once('.')?;
    let (front, device) = front.rsplit_once(':')?;
    let (domain, bus) = front.rsplit_once(':').unwrap_or(("0", front));
    let address = PciAddress {
        domain: hexadecimal(domain)?,
        bus: u8::try_from(hexadecimal(bus)?).ok()?,
        device: u8::try_from(hexadecimal(device)?).ok()?,
        function: u8::try_from(hexadecimal(function)?).ok()?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

fn hexadecimal(text: &str) -> Option<u32> {
    // `from_str_radix` alone would take a sign.
    let all_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if all_digits {
        u32::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::PciAddress;

    #[test]
    fn both_spellings_are_one_address() {
        let long: PciAddress = "0000:af:1f.7".parse().unwrap();
        assert_eq!(long, "AF:1f.7".parse().unwrap());
        assert_eq!(long.to_string(), "0000:af:1f.7");
        assert_eq!(
            "10000:01:00.0".parse::<PciAddress>().unwrap().to_string(),
            "10000:01:00.0"
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "eth0",
            "03:00",
            "3:20.0",
            "03:00.8",
            "+3:00.0",
            "0:100:00.0",
            "net_tap0",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }
}
