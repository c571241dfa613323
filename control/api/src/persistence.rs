//! Persistence: all connections of a client, or of a network of clients, go to one server for a time.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity::Family;

/// How long a client's server may be remembered, in seconds: to 31 days, as with `ipvsadm -p`.
pub const TIMEOUT_S: RangeInclusive<u32> = 1..=31 * 24 * 60 * 60;

/// How long it is remembered unless something else is said, in seconds: `ipvsadm -p` alone.
pub const TIMEOUT_DEFAULT_S: u32 = 360;

/// Persistence of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persistence {
    /// How long after its last new connection a client's server is remembered, in seconds.
    pub timeout_s: u32,
    /// Which clients count as one; none: each by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Netmask>,
}

/// What looks into packets for what belongs together, by the words of `ipvsadm --pe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersistenceEngine {
    /// Calls of SIP by their Call-ID, over UDP.
    Sip,
}

impl PersistenceEngine {
    /// The name as `ipvsadm` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sip => "sip",
        }
    }
}

impl fmt::Display for PersistenceEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text names no persistence engine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown persistence engine \"{0}\": there is \"sip\"")]
pub struct PersistenceEngineError(String);

impl FromStr for PersistenceEngine {
    type Err = PersistenceEngineError;

    fn from_str(text: &str) -> Result<Self, PersistenceEngineError> {
        match text {
            "sip" => Ok(Self::Sip),
            _ => Err(PersistenceEngineError(text.to_owned())),
        }
    }
}

/// Clients whose addresses agree under it count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Netmask {
    /// IPv4: the bits that must agree. They need not be the leading ones.
    V4(Ipv4Addr),
    /// IPv6: how many leading bits must agree, 1 to 128.
    V6(u8),
}

/// Why persistence is not as it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PersistenceError {
    /// Outside of [`TIMEOUT_S`].
    #[error("persistence timeout {0} out of range: write seconds from {min} to {max}", min = TIMEOUT_S.start(), max = TIMEOUT_S.end())]
    Timeout(u32),
    /// Of the other address family.
    #[error(
        "netmask {0} is not one of the service's address family: write a mask as 255.255.255.0 for IPv4, \
         a prefix length from 1 to 128 for IPv6"
    )]
    Family(Netmask),
}

/// Why a text is no netmask.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "bad netmask \"{0}\": write a mask as 255.255.255.0 for IPv4, a prefix length from 1 to 128 for IPv6"
)]
pub struct NetmaskError(String);

impl Persistence {
    /// The persistence as it is kept for a service of this family: a netmask under which each client is one is none.
    ///
    /// # Errors
    /// [`PersistenceError`].
    pub fn checked(self, service: Family) -> Result<Self, PersistenceError> {
        if !TIMEOUT_S.contains(&self.timeout_s) {
            return Err(PersistenceError::Timeout(self.timeout_s));
        }
        let netmask = self.netmask.filter(|netmask| !netmask.is_whole());
        match (netmask, service) {
            (Some(Netmask::V4(_)), Family::Ipv4)
            | (Some(Netmask::V6(1..=128)), Family::Ipv6)
            | (None, _) => Ok(Self { netmask, ..self }),
            (Some(netmask), _) => Err(PersistenceError::Family(netmask)),
        }
    }
}

impl Netmask {
    fn is_whole(self) -> bool {
        matches!(self, Self::V4(Ipv4Addr::BROADCAST) | Self::V6(128))
    }

    /// Which bits of an address count; those of IPv4 are the low 32.
    pub fn bits(self) -> u128 {
        match self {
            Self::V4(mask) => mask.to_bits().into(),
            Self::V6(length) => u128::MAX
                .checked_shl(128_u32.saturating_sub(length.into()))
                .unwrap_or(0),
        }
    }
}

impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(mask) => mask.fmt(f),
            Self::V6(length) => length.fmt(f),
        }
    }
}

impl FromStr for Netmask {
    type Err = NetmaskError;

    fn from_str(text: &str) -> Result<Self, NetmaskError> {
        let mask = || text.parse().map(Self::V4).ok();
        let length = || {
            text.parse()
                .ok()
                .filter(|length| (1..=128).contains(length))
        };
        mask()
            .or_else(|| length().map(Self::V6))
            .ok_or_else(|| NetmaskError(text.to_owned()))
    }
}

impl TryFrom<String> for Netmask {
    type Error = NetmaskError;

    fn try_from(text: String) -> Result<Self, NetmaskError> {
        text.parse()
    }
}

impl From<Netmask> for String {
    fn from(netmask: Netmask) -> Self {
        netmask.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(
        timeout_s: u32,
        netmask: &str,
        service: Family,
    ) -> Result<Persistence, PersistenceError> {
        let netmask = (!netmask.is_empty()).then(|| netmask.parse().unwrap());
        Persistence { timeout_s, netmask }.checked(service)
    }

    #[test]
    fn netmasks_are_of_the_services_family() {
        for (netmask, service, is_valid) in [
            ("255.255.255.0", Family::Ipv4, true),
            ("255.255.0.255", Family::Ipv4, true),
            ("64", Family::Ipv4, false),
            ("64", Family::Ipv6, true),
            ("255.255.255.0", Family::Ipv6, false),
            ("", Family::Ipv6, true),
        ] {
            let checked = checked(60, netmask, service);
            assert_eq!(checked.is_ok(), is_valid, "{netmask} for {service:?}");
        }
        for text in ["0", "129", "24.1", "255.255.255.0.0", "", "-1"] {
            assert!(text.parse::<Netmask>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_client_by_itself_needs_no_netmask() {
        for (netmask, service) in [("255.255.255.255", Family::Ipv4), ("128", Family::Ipv6)] {
            assert_eq!(checked(60, netmask, service).unwrap().netmask, None);
        }
    }

    #[test]
    fn timeouts_have_ipvsadms_range() {
        for (timeout_s, is_valid) in [(0, false), (1, true), (2_678_400, true), (2_678_401, false)]
        {
            assert_eq!(checked(timeout_s, "", Family::Ipv4).is_ok(), is_valid);
        }
    }

    #[test]
    fn bits_are_those_that_count() {
        let bits = |text: &str| text.parse::<Netmask>().unwrap().bits();
        assert_eq!(bits("255.255.255.0"), 0xffff_ff00);
        assert_eq!(bits("64"), u128::MAX << 64);
        assert_eq!(bits("128"), u128::MAX);
    }
}
