//! Names of things: what a virtual service and a destination are known by, and the words of IPVS for their kinds.
//!
//! The text forms are those of `ipvsadm`: `TCP 198.51.100.1:80`, `[2001:db8::1]:80`. A configured port is
//! never 0 (a packet's may be), so it is a [`NonZeroU16`] here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text names nothing Pollux knows.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Not an `ADDRESS:PORT` or `[ADDRESS]:PORT`.
    #[error(
        "bad address \"{0}\": write ADDRESS:PORT, for IPv6 [ADDRESS]:PORT, as in 198.51.100.1:80 or [2001:db8::1]:80"
    )]
    Address(String),
    /// Port 0.
    #[error(
        "bad address \"{0}\": port 0 is not a port a service or server can have; write a port from 1 to 65535"
    )]
    PortZero(String),
    /// An address no service or server can have (unspecified, multicast, broadcast, ...).
    #[error("bad address \"{0}\": a service or server needs a unicast address")]
    NotUnicast(String),
    /// The weight is above [`Weight::MAX`].
    #[error("weight {0} out of range: write a weight from 0 to {max}", max = Weight::MAX)]
    Weight(u64),
}

/// The transport protocol of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// An address and a port other than 0, as services and servers have them: `198.51.100.1:80`, `[2001:db8::1]:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    address: IpAddr,
    port: NonZeroU16,
}

impl Endpoint {
    /// The endpoint of an address and a port.
    ///
    /// # Errors
    /// [`NameError::PortZero`] and [`NameError::NotUnicast`].
    pub fn new(address: IpAddr, port: u16) -> Result<Self, NameError> {
        let text = || SocketAddr::new(address, port).to_string();
        let unicast = match address {
            IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
            IpAddr::V6(v6) => {
                !v6.is_unspecified() && !v6.is_multicast() && v6.to_ipv4_mapped().is_none()
            }
        };
        if !unicast {
            return Err(NameError::NotUnicast(text()));
        }
        let port = NonZeroU16::new(port).ok_or_else(|| NameError::PortZero(text()))?;
        Ok(Self { address, port })
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The port, 1 to 65535, in host byte order.
    pub fn port(&self) -> u16 {
        self.port.get()
    }
}

impl FromStr for Endpoint {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let socket: SocketAddr = text
            .parse()
            .map_err(|_| NameError::Address(text.to_owned()))?;
        Self::new(socket.ip(), socket.port())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&SocketAddr::new(self.address, self.port.get()).to_string())
    }
}

/// What a virtual service is known by: protocol, virtual address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceId {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The virtual IP and its port.
    pub endpoint: Endpoint,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.endpoint)
    }
}

/// What a destination is known by within its service: the real server's address and port.
pub type DestinationId = Endpoint;

/// How packets reach a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingMethod {
    /// Network address translation, `ipvsadm -m`; answers come back through the director.
    Nat,
    /// IP in IP, `ipvsadm -i`; the server answers the client itself.
    Tunnel,
    /// The frame goes to the server's MAC unchanged, `ipvsadm -g`; the server answers the client itself.
    #[default]
    Direct,
}

impl ForwardingMethod {
    /// The word `ipvsadm -L` prints in its Forward column.
    pub fn as_ipvsadm(self) -> &'static str {
        match self {
            Self::Nat => "Masq",
            Self::Tunnel => "Tunnel",
            Self::Direct => "Route",
        }
    }
}

impl fmt::Display for ForwardingMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nat => "nat",
            Self::Tunnel => "tunnel",
            Self::Direct => "direct",
        })
    }
}

/// A destination's share of new connections, 0 to 2^31 - 1; 0 takes no new ones and keeps the old (quiesced).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Weight(u32);

impl Weight {
    /// The largest weight `ipvsadm` takes.
    pub const MAX: u32 = i32::MAX as u32;

    /// The weight as a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    /// 1, as `ipvsadm` has it.
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u64> for Weight {
    type Error = NameError;

    fn try_from(weight: u64) -> Result<Self, NameError> {
        u32::try_from(weight)
            .ok()
            .filter(|weight| *weight <= Self::MAX)
            .map(Self)
            .ok_or(NameError::Weight(weight))
    }
}

impl From<Weight> for u64 {
    fn from(weight: Weight) -> Self {
        Self::from(weight.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_and_print_the_same() {
        for text in ["198.51.100.1:80", "[2001:db8:100::1]:65535"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_endpoints_say_what_to_write() {
        for (text, message) in [
            ("198.51.100.1", "write ADDRESS:PORT"),
            ("2001:db8::1:80", "[ADDRESS]:PORT"),
            ("198.51.100.1:0", "port 0"),
            ("0.0.0.0:80", "unicast"),
            ("224.0.0.1:80", "unicast"),
            ("[ff02::1]:80", "unicast"),
            ("[::ffff:192.0.2.1]:80", "unicast"),
            ("example.org:80", "bad address"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn weight_has_ipvsadms_range() {
        assert_eq!(Weight::try_from(2_147_483_647).unwrap().get(), Weight::MAX);
        assert!(
            Weight::try_from(2_147_483_648)
                .unwrap_err()
                .to_string()
                .contains("0 to 2147483647")
        );
    }
}
