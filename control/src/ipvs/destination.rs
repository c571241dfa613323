//! A destination (real server): how tools name and describe it, and which of it Pollux has.

use std::net::IpAddr;

use pollux_api::identity::Endpoint;
use pollux_api::statistics::DestinationStatistics;
use pollux_api::{Destination, DestinationId, Family, ForwardingMethod, ServiceId, Tunnel, Weight};
use rustix::io::Errno;

use super::address;
use super::attribute::{Attribute, Attributes};
use super::refusal::Refusal;
use super::statistics::Statistics;
use super::tunnel::{self, TunnelSettings};

const ADDRESS: u16 = 1;
const PORT: u16 = 2;
const METHOD: u16 = 3;
const WEIGHT: u16 = 4;
const UPPER_THRESHOLD: u16 = 5;
const LOWER_THRESHOLD: u16 = 6;
const ACTIVE_CONNECTIONS: u16 = 7;
const INACTIVE_CONNECTIONS: u16 = 8;
const PERSISTENT_CONNECTIONS: u16 = 9;
const STATISTICS: u16 = 10;
const FAMILY: u16 = 11;
const STATISTICS_64: u16 = 12;

/// The highest attribute of a destination.
pub const ATTRIBUTE_MAX: u16 = tunnel::FLAGS;

/// `IP_VS_CONN_F_FWD_MASK`: the bits of a connection's flags that tell the forwarding method.
const METHOD_MASK: u32 = 0x07;
const METHOD_MASQUERADE: u32 = 0;
const METHOD_TUNNEL: u32 = 2;
const METHOD_DIRECT: u32 = 3;

/// How a tool names a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationKey {
    /// Its family; none: its service's.
    family: Option<u16>,
    bytes: Vec<u8>,
    port: u16,
}

/// How a destination is to be reached, and how much it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationSettings {
    /// Flags of its connections; the lowest three bits are the forwarding method.
    pub flags: u32,
    /// Its share; may be below 0 on the wire.
    pub weight: i32,
    /// No new connections from here on.
    pub upper_threshold: u32,
    /// New ones again below.
    pub lower_threshold: u32,
    /// How its packets are wrapped.
    pub tunnel: TunnelSettings,
}

impl DestinationKey {
    /// Reads what names a destination.
    ///
    /// # Errors
    /// `EINVAL` when something is missing.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        Ok(Self {
            family: attributes.u16(FAMILY)?,
            bytes: attributes.bytes(ADDRESS).ok_or(Errno::INVAL)?.to_vec(),
            port: attributes.port(PORT)?.ok_or(Errno::INVAL)?,
        })
    }

    fn address(&self, service: ServiceId) -> Result<IpAddr, Errno> {
        // Family 0 is what tools wrote before there were mixed services.
        let own = self.family.filter(|family| *family != 0);
        let family = own.unwrap_or(match service.family() {
            Family::Ipv4 => address::INET,
            Family::Ipv6 => address::INET6,
        });
        address::read(family, &self.bytes)
    }

    /// The destination in Pollux' words.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for another family than the two, `EINVAL` for an address that no server can have.
    pub fn id(&self, service: ServiceId) -> Result<DestinationId, Refusal> {
        let address = self.address(service)?;
        Endpoint::new(address, self.port)
            .map_err(|error| Refusal::because(Errno::INVAL, error.to_string()))
    }
}

impl DestinationSettings {
    /// Reads how a destination is to be reached.
    ///
    /// # Errors
    /// `EINVAL` when something is missing.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        Ok(Self {
            flags: attributes.u32(METHOD)?.ok_or(Errno::INVAL)?,
            weight: attributes.u32(WEIGHT)?.ok_or(Errno::INVAL)?.cast_signed(),
            upper_threshold: attributes.u32(UPPER_THRESHOLD)?.ok_or(Errno::INVAL)?,
            lower_threshold: attributes.u32(LOWER_THRESHOLD)?.ok_or(Errno::INVAL)?,
            tunnel: TunnelSettings::read(attributes)?,
        })
    }

    /// The destination with these settings in Pollux' words.
    ///
    /// # Errors
    /// In the kernel's order: `EAFNOSUPPORT`; `EINVAL` for a server of the other family without a tunnel; `ERANGE` for a
    /// weight below 0 or thresholds that cross; `EINVAL` for GUE without a port; then what Pollux does not have; at last
    /// an address that no server can have.
    pub fn of(&self, key: &DestinationKey, service: ServiceId) -> Result<Destination, Refusal> {
        let mixed = key.address(service)?.is_ipv4() != (service.family() == Family::Ipv4);
        let method = self.flags & METHOD_MASK;
        if mixed && method != METHOD_TUNNEL {
            let reason = "only a tunnel can join IPv4 and IPv6";
            return Err(Refusal::because(Errno::INVAL, reason));
        }
        let weight = u64::try_from(self.weight)
            .ok()
            .and_then(|weight| Weight::try_from(weight).ok())
            .ok_or(Errno::RANGE)?;
        if self.lower_threshold > self.upper_threshold {
            return Err(Errno::RANGE.into());
        }
        let (method, tunnel) = self.method_and_tunnel(method)?;
        Ok(Destination {
            method,
            tunnel,
            id: key.id(service)?,
            weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        })
    }

    fn method_and_tunnel(&self, method: u32) -> Result<(ForwardingMethod, Tunnel), Refusal> {
        // Whatever the method is, as in the kernel.
        self.tunnel.check()?;
        match method {
            METHOD_MASQUERADE => Ok((ForwardingMethod::Nat, Tunnel::default())),
            METHOD_DIRECT => Ok((ForwardingMethod::Direct, Tunnel::default())),
            METHOD_TUNNEL => Ok((ForwardingMethod::Tunnel, self.tunnel.tunnel()?)),
            other => {
                let reason = format!("forwarding method {other}: not supported");
                Err(Refusal::because(Errno::OPNOTSUPP, reason))
            }
        }
    }
}

/// A destination as an attribute.
pub fn write(kind: u16, destination: &DestinationStatistics, statistics: &Statistics) -> Attribute {
    let DestinationStatistics {
        destination,
        active_connections,
        inactive_connections,
        persistent_connections,
        ..
    } = destination;
    let method = match destination.method {
        ForwardingMethod::Nat => METHOD_MASQUERADE,
        ForwardingMethod::Tunnel => METHOD_TUNNEL,
        ForwardingMethod::Direct => METHOD_DIRECT,
    };
    let ip = destination.id.address();
    let [tunnel_type, tunnel_port, tunnel_flags] =
        TunnelSettings::of(destination.tunnel).attributes();
    Attribute::nested(
        kind,
        vec![
            Attribute::bytes(ADDRESS, address::write(ip)),
            Attribute::port(PORT, destination.id.port()),
            Attribute::u32(METHOD, method),
            Attribute::u32(WEIGHT, destination.weight.get()),
            tunnel_type,
            tunnel_port,
            tunnel_flags,
            Attribute::u32(UPPER_THRESHOLD, destination.upper_threshold),
            Attribute::u32(LOWER_THRESHOLD, destination.lower_threshold),
            Attribute::u32(ACTIVE_CONNECTIONS, *active_connections),
            Attribute::u32(INACTIVE_CONNECTIONS, *inactive_connections),
            Attribute::u32(PERSISTENT_CONNECTIONS, *persistent_connections),
            Attribute::u16(FAMILY, address::family_of(ip)),
            statistics.narrow(STATISTICS),
            statistics.wide(STATISTICS_64),
        ],
    )
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;
    use pollux_api::Protocol;

    use super::*;

    fn service() -> ServiceId {
        ServiceId::address(Protocol::Tcp, "192.0.2.100:80".parse().unwrap())
    }

    fn key(family: Option<u16>, address: &str, port: u16) -> DestinationKey {
        DestinationKey {
            family,
            bytes: address::write(address.parse().unwrap()),
            port,
        }
    }

    const SETTINGS: DestinationSettings = DestinationSettings {
        flags: METHOD_MASQUERADE,
        weight: 3,
        upper_threshold: 100,
        lower_threshold: 50,
        tunnel: TunnelSettings {
            kind: tunnel::IPIP,
            port: 0,
            flags: 0,
        },
    };

    /// The attributes of a destination as a tool gets them.
    fn listed(destination: Destination) -> Vec<u8> {
        let listed = DestinationStatistics {
            destination,
            active_connections: 1,
            inactive_connections: 2,
            persistent_connections: 3,
            totals: Default::default(),
        };
        let level = [write(2, &listed, &Statistics::default())];
        let mut bytes = vec![0; level.as_slice().buffer_len()];
        level.as_slice().emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_destination_comes_back_as_it_was_told() {
        let named = key(Some(address::INET), "10.1.0.11", 8080);
        let destination = SETTINGS.of(&named, service()).unwrap();
        assert_eq!(destination.id.to_string(), "10.1.0.11:8080");
        assert_eq!(destination.method, ForwardingMethod::Nat);
        let bytes = listed(destination);
        let read = Attributes::parse(&bytes, 2).unwrap();
        let read = read.nested(2, ATTRIBUTE_MAX).unwrap().unwrap();
        assert_eq!(DestinationKey::read(&read), Ok(named));
        assert_eq!(DestinationSettings::read(&read), Ok(SETTINGS));
        let counts = [7, 8, 9].map(|kind| read.u32(kind).unwrap().unwrap());
        assert_eq!(counts, [1, 2, 3]);
    }

    #[test]
    fn a_tunnel_comes_back_as_it_was_told() {
        let named = key(Some(address::INET), "10.1.0.11", 80);
        let told = DestinationSettings {
            flags: METHOD_TUNNEL,
            tunnel: TunnelSettings {
                kind: tunnel::GUE,
                port: 5555,
                flags: 1,
            },
            ..SETTINGS
        };
        let destination = told.of(&named, service()).unwrap();
        assert_eq!(destination.tunnel.to_string(), "gue:5555:+c");
        let bytes = listed(destination);
        let read = Attributes::parse(&bytes, 2).unwrap();
        let read = read.nested(2, ATTRIBUTE_MAX).unwrap().unwrap();
        assert_eq!(DestinationSettings::read(&read), Ok(told));
        let nat = DestinationSettings {
            flags: METHOD_MASQUERADE,
            ..told
        };
        let destination = nat.of(&named, service()).unwrap();
        assert!(destination.tunnel.is_default(), "only a tunnel is wrapped");
    }

    #[test]
    fn each_refusal_has_the_kernels_number() {
        let own = key(None, "10.1.0.11", 80);
        let other_family = key(Some(address::INET6), "2001:db8:1::14", 80);
        type Spoil = fn(&mut DestinationSettings);
        let cases: [(&DestinationKey, Spoil, Errno); 9] = [
            (&own, |s| s.weight = -1, Errno::RANGE),
            (&own, |s| s.lower_threshold = 101, Errno::RANGE),
            (&other_family, |_| {}, Errno::INVAL),
            (&other_family, |s| s.flags = METHOD_DIRECT, Errno::INVAL),
            (&own, |s| s.tunnel.kind = tunnel::GUE, Errno::INVAL),
            (
                &own,
                |s| (s.flags, s.tunnel.kind) = (METHOD_TUNNEL, tunnel::GUE),
                Errno::INVAL,
            ),
            (
                &own,
                |s| (s.flags, s.tunnel.kind) = (METHOD_TUNNEL, 9),
                Errno::INVAL,
            ),
            (&own, |s| s.flags = 1, Errno::OPNOTSUPP),
            (&key(None, "224.0.0.1", 80), |_| {}, Errno::INVAL),
        ];
        for (number, (key, spoil, errno)) in cases.into_iter().enumerate() {
            let mut spoilt = SETTINGS;
            spoil(&mut spoilt);
            let refusal = spoilt.of(key, service()).unwrap_err();
            assert_eq!(refusal.errno, errno, "case {number}: {refusal}");
        }
        let tunnel = DestinationSettings {
            flags: METHOD_TUNNEL,
            ..SETTINGS
        };
        assert!(tunnel.of(&other_family, service()).is_ok());
        let unknown = key(Some(7), "10.1.0.11", 80);
        let refusal = SETTINGS.of(&unknown, service()).unwrap_err();
        assert_eq!(refusal.errno, Errno::AFNOSUPPORT);
    }
}
