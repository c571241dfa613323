//! Names of things: what a virtual service and a destination are known by, and the words of IPVS for their kinds.
//!
//! The text forms are those of `ipvsadm`: `TCP 198.51.100.1:80`, `[2001:db8::1]:80`, `FWM 7`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
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
    /// Neither an address nor a mark, or both.
    #[error("a service is named by protocol and endpoint, or by fwmark and family: write either")]
    Service,
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
    /// SCTP, RFC 9260.
    Sctp,
}

impl Protocol {
    /// All.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The name in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The word in files and commands.
    pub fn as_word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The IP protocol number (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of a number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An address and a port, as services and servers have them; port 0 is any port, where that makes sense: `198.51.100.1:80`, `[2001:db8::1]:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    address: IpAddr,
    port: u16,
}

impl Endpoint {
    /// The endpoint of an address and a port.
    ///
    /// # Errors
    /// [`NameError::NotUnicast`].
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
        Ok(Self { address, port })
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The port in host byte order; 0 is any.
    pub fn port(&self) -> u16 {
        self.port
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
        f.pad(&SocketAddr::new(self.address, self.port).to_string())
    }
}

/// IP version.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What a virtual service is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "WrittenServiceId", into = "WrittenServiceId")]
pub enum ServiceId {
    /// Protocol, virtual address and port: `{"protocol":"tcp","endpoint":"198.51.100.1:80"}`.
    Address(ServiceAddress),
    /// A firewall mark: `{"fwmark":7,"family":"ipv4"}`.
    Fwmark(Fwmark),
}

/// As it is written: the keys of one kind or of the other.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenServiceId {
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fwmark: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<Family>,
}

impl TryFrom<WrittenServiceId> for ServiceId {
    type Error = NameError;

    fn try_from(written: WrittenServiceId) -> Result<Self, NameError> {
        match written {
            WrittenServiceId {
                protocol: Some(protocol),
                endpoint: Some(endpoint),
                fwmark: None,
                family: None,
            } => Ok(Self::address(protocol, endpoint)),
            WrittenServiceId {
                protocol: None,
                endpoint: None,
                fwmark: Some(fwmark),
                family,
            } => Ok(Self::fwmark(fwmark, family.unwrap_or_default())),
            _ => Err(NameError::Service),
        }
    }
}

impl From<ServiceId> for WrittenServiceId {
    fn from(id: ServiceId) -> Self {
        let nothing = Self {
            protocol: None,
            endpoint: None,
            fwmark: None,
            family: None,
        };
        match id {
            ServiceId::Address(id) => Self {
                protocol: Some(id.protocol),
                endpoint: Some(id.endpoint),
                ..nothing
            },
            ServiceId::Fwmark(id) => Self {
                fwmark: Some(id.fwmark),
                family: Some(id.family),
                ..nothing
            },
        }
    }
}

/// Protocol, virtual address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAddress {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The virtual IP and its port; 0: every port for which there is no service of its own.
    pub endpoint: Endpoint,
}

/// A firewall mark, which rules give to packets, as a service: `ipvsadm -f 7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fwmark {
    /// The mark.
    pub fwmark: NonZeroU32,
    /// IP version of the packets.
    pub family: Family,
}

impl ServiceId {
    /// A service of this protocol, virtual IP and port.
    pub fn address(protocol: Protocol, endpoint: Endpoint) -> Self {
        Self::Address(ServiceAddress { protocol, endpoint })
    }

    /// A service of a firewall mark.
    pub fn fwmark(fwmark: NonZeroU32, family: Family) -> Self {
        Self::Fwmark(Fwmark { fwmark, family })
    }

    /// IP version of its packets.
    pub fn family(&self) -> Family {
        match self {
            Self::Address(service) if service.endpoint.address().is_ipv4() => Family::Ipv4,
            Self::Address(_) => Family::Ipv6,
            Self::Fwmark(service) => service.family,
        }
    }

    /// Its port; 0 when packets to any port are its.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(service) => service.endpoint.port(),
            Self::Fwmark(_) => 0,
        }
    }

    /// What follows the protocol in listings: `198.51.100.1:80`, `7`, `7 IPv6`.
    pub fn listed(&self) -> String {
        match self {
            Self::Address(service) => service.endpoint.to_string(),
            Self::Fwmark(Fwmark { fwmark, family }) => match family {
                Family::Ipv4 => fwmark.to_string(),
                Family::Ipv6 => format!("{fwmark} IPv6"),
            },
        }
    }

    /// The first word in listings: `TCP`, `FWM`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address(service) => service.protocol.as_str(),
            Self::Fwmark(_) => "FWM",
        }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.listed())
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
    /// The word in Pollux' files and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Tunnel => "tunnel",
            Self::Direct => "direct",
        }
    }

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
        f.pad(self.as_str())
    }
}

/// A destination's share of new connections, 0 to 2^31 - 1; 0 takes no new ones and keeps the old (quiesced).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Weight(u32);

impl Weight {
    /// The largest weight `ipvsadm` takes.
    pub const MAX: u32 = i32::MAX as u32;
    /// No new connections.
    pub const ZERO: Self = Self(0);

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
    fn services_read_and_print_the_same() {
        for (text, shown) in [
            (
                r#"{"protocol":"tcp","endpoint":"198.51.100.1:80"}"#,
                "TCP 198.51.100.1:80",
            ),
            (r#"{"fwmark":7,"family":"ipv4"}"#, "FWM 7"),
            (r#"{"fwmark":7,"family":"ipv6"}"#, "FWM 7 IPv6"),
        ] {
            let id: ServiceId = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&id).unwrap(), text);
            assert_eq!(id.to_string(), shown);
        }
        for (text, message) in [
            ("{}", "write either"),
            (r#"{"protocol":"tcp","fwmark":7}"#, "write either"),
            (r#"{"fwmark":0}"#, "nonzero"),
            (r#"{"protocol":"tcp","endpoint":"224.0.0.1:80"}"#, "unicast"),
            (r#"{"protocol":"tcp","port":80}"#, "unknown field `port`"),
        ] {
            let error = serde_json::from_str::<ServiceId>(text).unwrap_err();
            assert!(error.to_string().contains(message), "{text}: {error}");
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
