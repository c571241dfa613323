//! Addresses in attributes: a family, and 16 bytes of which IPv4 takes the first four.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

/// `AF_INET`.
pub const INET: u16 = 2;
/// `AF_INET6`.
pub const INET6: u16 = 10;

/// `union nf_inet_addr`, in bytes.
pub const BYTES_MAX: usize = 16;

/// The number of an address's family.
pub fn family_of(address: IpAddr) -> u16 {
    if address.is_ipv4() { INET } else { INET6 }
}

/// The address of a family in the bytes of an attribute. Bytes that are missing are zero, as in the kernel.
///
/// # Errors
/// `EAFNOSUPPORT` for another family, `ERANGE` for more than 16 bytes.
pub fn read(family: u16, bytes: &[u8]) -> Result<IpAddr, Errno> {
    let mut padded = [0; BYTES_MAX];
    padded
        .get_mut(..bytes.len())
        .ok_or(Errno::RANGE)?
        .copy_from_slice(bytes);
    match family {
        INET => {
            let [a, b, c, d, ..] = padded;
            Ok(Ipv4Addr::new(a, b, c, d).into())
        }
        INET6 => Ok(Ipv6Addr::from(padded).into()),
        _ => Err(Errno::AFNOSUPPORT),
    }
}

/// The bytes of an address, always 16.
pub fn write(address: IpAddr) -> Vec<u8> {
    let mut bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    bytes.resize(BYTES_MAX, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_wire() {
        for text in ["192.0.2.100", "2001:db8::100"] {
            let address: IpAddr = text.parse().unwrap();
            let bytes = write(address);
            assert_eq!(bytes.len(), BYTES_MAX);
            assert_eq!(read(family_of(address), &bytes), Ok(address));
        }
    }

    #[test]
    fn short_is_padded_and_long_is_refused() {
        assert_eq!(read(INET, &[10, 0]), Ok("10.0.0.0".parse().unwrap()));
        assert_eq!(read(INET, &[0; 17]), Err(Errno::RANGE));
        assert_eq!(read(7, &[0; 4]), Err(Errno::AFNOSUPPORT));
    }
}
