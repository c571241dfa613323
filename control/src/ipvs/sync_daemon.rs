//! A connection synchronisation daemon as tools describe it, and as Pollux does.

use std::net::IpAddr;

use pollux_api::synchronisation::{self, SyncStatus};
use pollux_api::{Change, SyncDaemon as Daemon, SyncRole};
use rustix::io::Errno;

use super::address;
use super::attribute::{Attribute, Attributes};
use super::command;

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

/// A daemon that is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncDaemon {
    /// Which.
    pub role: SyncRole,
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

/// Reads which daemon is meant.
///
/// # Errors
/// `EINVAL` when that is missing or neither.
pub fn read_role(attributes: &Attributes<'_>) -> Result<SyncRole, Errno> {
    match attributes.u32(STATE)? {
        Some(1) => Ok(SyncRole::Master),
        Some(2) => Ok(SyncRole::Backup),
        _ => Err(Errno::INVAL),
    }
}

impl SyncDaemon {
    /// Reads how a daemon is to be started.
    ///
    /// # Errors
    /// `EINVAL` when something is missing.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        let interface = attributes.text(INTERFACE, synchronisation::INTERFACE_BYTES_MAX)?;
        let group = attributes.bytes(GROUP).map(|bytes| (address::INET, bytes));
        let group6 = attributes
            .bytes(GROUP6)
            .map(|bytes| (address::INET6, bytes));
        let group = group
            .or(group6)
            .map(|(family, bytes)| address::read(family, bytes));
        Ok(Self {
            role: read_role(attributes)?,
            interface: interface.ok_or(Errno::INVAL)?.to_owned(),
            sync_id: attributes.u32(SYNC_ID)?.ok_or(Errno::INVAL)?,
            length_max: attributes.u16(LENGTH_MAX)?.unwrap_or(0),
            group: group.transpose()?,
            port: attributes.u16(PORT)?.unwrap_or(0),
            ttl_hops: attributes.u8(TTL)?.unwrap_or(0),
        })
    }

    /// The change that starts it. A length that is too large or too small becomes the nearest that is possible, as in the
    /// kernel.
    ///
    /// # Errors
    /// `EINVAL` for an id that has no room in a message.
    pub fn change(self) -> Result<Change, Errno> {
        let or = |value: u16, default| if value == 0 { default } else { value };
        let mut daemon = Daemon {
            interface: self.interface,
            id: u8::try_from(self.sync_id).map_err(|_| Errno::INVAL)?,
            group: self.group.unwrap_or(synchronisation::GROUP),
            port: or(self.port, synchronisation::PORT),
            ttl: if self.ttl_hops == 0 {
                synchronisation::TTL
            } else {
                self.ttl_hops
            },
            datagram_bytes: None,
        };
        let (min, max) = daemon.datagram_range(self.role);
        daemon.datagram_bytes = (self.length_max != 0).then(|| self.length_max.clamp(min, max));
        // What is no name is the name of no interface.
        if daemon.interface.is_empty() {
            return Err(Errno::NODEV);
        }
        Ok(Change::StartSync {
            role: self.role,
            daemon,
        })
    }
}

/// The daemons that run, the master first.
pub fn write_all(status: &SyncStatus) -> Vec<Attribute> {
    let master = status
        .master
        .as_ref()
        .map(|found| write(1, &found.daemon, found.datagram_bytes_max));
    let backup = status
        .backup
        .as_ref()
        .map(|found| write(2, &found.daemon, found.datagram_bytes_max));
    master.into_iter().chain(backup).collect()
}

fn write(state: u32, daemon: &Daemon, length_max: u16) -> Attribute {
    let group = match daemon.group {
        IpAddr::V4(group) => Attribute::bytes(GROUP, group.octets().to_vec()),
        IpAddr::V6(group) => Attribute::bytes(GROUP6, group.octets().to_vec()),
    };
    let attributes = vec![
        Attribute::u32(STATE, state),
        Attribute::text(INTERFACE, &daemon.interface),
        Attribute::u32(SYNC_ID, daemon.id.into()),
        Attribute::u16(LENGTH_MAX, length_max),
        Attribute::u16(PORT, daemon.port),
        Attribute::u8(TTL, daemon.ttl),
        group,
    ];
    Attribute::nested(command::DAEMON, attributes)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;

    use super::*;

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
            role: SyncRole::Backup,
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

    #[test]
    fn what_is_not_said_is_the_kernels() {
        let told = [
            Attribute::u32(STATE, 2),
            Attribute::text(INTERFACE, "eth0"),
            Attribute::u32(SYNC_ID, 0),
            Attribute::u16(LENGTH_MAX, 1),
        ];
        let expected = Daemon {
            datagram_bytes: Some(1024),
            ..Daemon::new("eth0", 0)
        };
        let change = read(&told).unwrap().change().unwrap();
        let expected = Change::StartSync {
            role: SyncRole::Backup,
            daemon: expected,
        };
        assert_eq!(change, expected);
        let mut too_large = read(&told).unwrap();
        too_large.sync_id = 256;
        assert_eq!(too_large.change(), Err(Errno::INVAL));
    }
}
