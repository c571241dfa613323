//! The TAPs: one a port, by the port's name, with the port's MAC and MTU.
//!
//! DPDK's `net_tap` driver makes the interface; this module says which names it may have and sets it up in the kernel.

use std::fmt;
use std::io;
use std::str::FromStr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use thiserror::Error;

use super::netlink::{NetlinkError, Requests};
use super::view::MacAddress;

/// The longest name Linux gives an interface, in bytes (`IFNAMSIZ` less the final zero).
pub const NAME_BYTES_MAX: usize = 15;

/// Why a text cannot be the name of a port and its TAP.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TapNameError {
    /// Nothing.
    #[error("a port needs a name: write NAME=DEVICE, as in eth1=0000:01:00.0")]
    Empty,
    /// More bytes than `IFNAMSIZ` allows.
    #[error("port name \"{0}\" is too long: Linux takes at most {NAME_BYTES_MAX} characters")]
    TooLong(String),
    /// A character that Linux, its tools or DPDK's device arguments do not take in a name.
    #[error(
        "port name \"{0}\" has {1:?} in it: use letters, digits, '-', '_' and '.' only, and not '.' at the start"
    )]
    Character(String, char),
    /// A name that means something else to Linux.
    #[error("port name \"{0}\" has a meaning of its own in Linux: choose another, such as {0}0")]
    Reserved(String),
}

/// A name that a port and its TAP can have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapName(String);

impl TapName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TapName {
    type Err = TapNameError;

    fn from_str(text: &str) -> Result<Self, TapNameError> {
        if text.is_empty() {
            return Err(TapNameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(TapNameError::TooLong(text.to_owned()));
        }
        let is_allowed = |(place, c): &(usize, char)| {
            c.is_ascii_alphanumeric() || "-_".contains(*c) || (*c == '.' && *place > 0)
        };
        if let Some((_, c)) = text.char_indices().find(|place| !is_allowed(place)) {
            return Err(TapNameError::Character(text.to_owned(), c));
        }
        // `all` and `default` are what sysctl calls every interface and each new one.
        if ["lo", "all", "default"].contains(&text) {
            return Err(TapNameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a TAP could not be set up.
#[derive(Debug, Error)]
pub enum TapError {
    /// The interface is not there.
    #[error(
        "TAP {0} does not exist: DPDK's net_tap driver did not make it; is /dev/net/tun there and readable?"
    )]
    Missing(TapName),
    /// The process may not change interfaces.
    #[error("may not set up TAP {0}: start the data plane as root or with CAP_NET_ADMIN")]
    NotPermitted(TapName),
    /// The MTU is not one a TAP can have.
    #[error("TAP {name} cannot have an MTU of {mtu} bytes, as its port has: {source}")]
    Mtu {
        /// Which TAP.
        name: TapName,
        /// The MTU.
        mtu: u16,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The MAC is not one a TAP can have.
    #[error("TAP {name} cannot have the MAC address {mac} of its port: {source}")]
    Mac {
        /// Which TAP.
        name: TapName,
        /// The MAC.
        mac: MacAddress,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It cannot be set up.
    #[error("TAP {name} cannot be set up: {source}")]
    Up {
        /// Which TAP.
        name: TapName,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It cannot show whether the NIC has a link.
    #[error(
        "TAP {name} does not show the link of its port: {source}; that takes Linux 5.0 or newer"
    )]
    Carrier {
        /// Which TAP.
        name: TapName,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Gives a TAP the MAC and MTU of its port and sets it up.
///
/// # Errors
/// [`TapError`]; what was done before the failure stays.
pub async fn set_up(name: &TapName, mac: MacAddress, mtu: u16) -> Result<(), TapError> {
    let mut requests = Requests::open()?;
    let mut set = async |change: LinkChange| {
        let request = RouteNetlinkMessage::SetLink(change.message(name));
        let result = requests.change("set up an interface", request, 0).await;
        result.map_err(|error| change.error(name, error))
    };
    set(LinkChange::Mtu(mtu)).await?;
    set(LinkChange::Mac(mac)).await?;
    set(LinkChange::Up).await
}

/// Says whether the NIC behind a TAP has a link: what `ip link` shows as its carrier.
///
/// # Errors
/// [`TapError`].
pub async fn set_carrier(name: &TapName, up: bool) -> Result<(), TapError> {
    let change = LinkChange::Carrier(up);
    let request = RouteNetlinkMessage::SetLink(change.message(name));
    let mut requests = Requests::open()?;
    let result = requests.change("set the carrier of an interface", request, 0);
    result.await.map_err(|error| change.error(name, error))
}

/// One thing to change of an interface; one a message, so that a refusal is about that thing.
#[derive(Clone, Copy)]
enum LinkChange {
    Mtu(u16),
    Mac(MacAddress),
    Up,
    Carrier(bool),
}

impl LinkChange {
    fn message(self, name: &TapName) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.0.clone())];
        match self {
            Self::Mtu(mtu) => message.attributes.push(LinkAttribute::Mtu(mtu.into())),
            Self::Mac(mac) => {
                let bytes = mac.0.to_vec();
                message.attributes.push(LinkAttribute::Address(bytes));
            }
            Self::Carrier(up) => {
                message.attributes.push(LinkAttribute::Carrier(up.into()));
            }
            Self::Up => {
                message.header.flags = LinkFlags::Up;
                message.header.change_mask = LinkFlags::Up;
            }
        }
        message
    }

    fn error(self, name: &TapName, error: NetlinkError) -> TapError {
        const ENODEV: i32 = 19;
        let name = name.clone();
        let source = match error {
            NetlinkError::Refused { source, .. } => source,
            other => return other.into(),
        };
        match self {
            _ if source.raw_os_error() == Some(ENODEV) => TapError::Missing(name),
            _ if source.kind() == io::ErrorKind::PermissionDenied => TapError::NotPermitted(name),
            Self::Mtu(mtu) => TapError::Mtu { name, mtu, source },
            Self::Mac(mac) => TapError::Mac { name, mac, source },
            Self::Up => TapError::Up { name, source },
            Self::Carrier(_) => TapError::Carrier { name, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_linux_takes() {
        for name in ["eth1", "port-0", "a", "uplink_left.100", "123456789012345"] {
            assert_eq!(name.parse::<TapName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_linux_does_not_take() {
        let cases = [
            ("", "a port needs a name"),
            ("1234567890123456", "at most 15 characters"),
            ("a/b", "has '/' in it"),
            ("a b", "has ' ' in it"),
            ("a,b", "has ',' in it"),
            (".a", "not '.' at the start"),
            ("ünter", "has 'ü' in it"),
            ("lo", "choose another, such as lo0"),
        ];
        for (name, text) in cases {
            let error = name.parse::<TapName>().unwrap_err().to_string();
            assert!(error.contains(text), "{name}: {error}");
        }
    }
}
