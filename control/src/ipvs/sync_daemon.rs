//! A connection synchronisation daemon as tools describe it. Pollux has none yet: one is never running, and none starts.

use std::net::IpAddr;

use rustix::io::Errno;

use super::address;
use super::attribute::Attributes;

const STATE: u16 = 1;
const INTERFACE: u16 = 2;
const SYNC_ID: u16 = 3;
const LENGTH_MAX: u16 = 4;
const GROUP: u16 = 5;
const GROUP6: u16 = 6;
const PORT: u16 = 7;
const TTL: u16 = 8;

/// The highest attribute of a daemon.
pub const ATTRIBUTE_MAX: u16 = TTL;

/// `IFNAMSIZ`, without the NUL.
const INTERFACE_BYTES_MAX: usize = 15;

/// Which of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends connections.
    Master,
    /// Takes them.
    Backup,
}

/// A daemon that is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncDaemon {
    /// Which.
    pub role: Role,
    /// The interface of the multicasts.
    pub interface: String,
    /// Which daemons belong together.
    pub sync_id: u32,
    /// UDP payload in bytes; 0: as the MTU allows.
    pub length_max: u16,
    /// The multicast group; none: 224.0.0.81.
    pub group: Option<IpAddr>,
    /// UDP port; 0: 8848.
    pub port: u16,
    /// Time to live in hops; 0: 1.
    pub ttl_hops: u8,
}

impl Role {
    /// Reads which daemon is meant.
    ///
    /// # Errors
    /// `EINVAL` when that is missing or neither.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        match attributes.u32(STATE)? {
            Some(1) => Ok(Self::Master),
            Some(2) => Ok(Self::Backup),
            _ => Err(Errno::INVAL),
        }
    }
}

impl SyncDaemon {
    /// Reads how a daemon is to be started.
    ///
    /// # Errors
    /// `EINVAL` when something is missing.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        let interface = attributes.text(INTERFACE, INTERFACE_BYTES_MAX)?;
        let group = attributes.bytes(GROUP).map(|bytes| (address::INET, bytes));
        let group6 = attributes
            .bytes(GROUP6)
            .map(|bytes| (address::INET6, bytes));
        let group = group
            .or(group6)
            .map(|(family, bytes)| address::read(family, bytes));
        Ok(Self {
            role: Role::read(attributes)?,
            interface: interface.ok_or(Errno::INVAL)?.to_owned(),
            sync_id: attributes.u32(SYNC_ID)?.ok_or(Errno::INVAL)?,
            length_max: attributes.u16(LENGTH_MAX)?.unwrap_or(0),
            group: group.transpose()?,
            port: attributes.u16(PORT)?.unwrap_or(0),
            ttl_hops: attributes.u8(TTL)?.unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;

    use super::*;
    use crate::ipvs::attribute::Attribute;

    fn read(attributes: &[Attribute]) -> Result<SyncDaemon, Errno> {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        SyncDaemon::read(&Attributes::parse(&bytes, ATTRIBUTE_MAX)?)
    }

    #[test]
    fn everything_a_tool_can_say_is_read() {
        let group: IpAddr = "239.1.2.3".parse().unwrap();
        let told = [
            Attribute::u32(STATE, 2),
            Attribute::text(INTERFACE, "eth0"),
            Attribute::u32(SYNC_ID, 7),
            Attribute::u16(LENGTH_MAX, 1400),
            Attribute::bytes(GROUP, vec![239, 1, 2, 3]),
            Attribute::u16(PORT, 8849),
            Attribute::u8(TTL, 4),
        ];
        let expected = SyncDaemon {
            role: Role::Backup,
            interface: "eth0".to_owned(),
            sync_id: 7,
            length_max: 1400,
            group: Some(group),
            port: 8849,
            ttl_hops: 4,
        };
        assert_eq!(read(&told), Ok(expected));
        for missing in 0..3 {
            let mut told = told.to_vec();
            told.remove(missing);
            assert_eq!(read(&told), Err(Errno::INVAL), "{missing}");
        }
        assert_eq!(read(&[Attribute::u32(STATE, 3)]), Err(Errno::INVAL));
    }
}
