//! A virtual service: how tools name and describe it, and which of it Pollux has.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use pollux_api::identity::Endpoint;
use pollux_api::statistics::ServiceStatistics;
use pollux_api::{
    Family, Netmask, Persistence, PersistenceEngine, Protocol, SchedulerFlags, SchedulerName,
    ServiceId, ServiceTimeouts, VirtualService,
};
use rustix::io::Errno;

use super::address;
use super::attribute::{Attribute, Attributes};
use super::refusal::Refusal;
use super::statistics::Statistics;

const AF: u16 = 1;
const PROTOCOL: u16 = 2;
const ADDRESS: u16 = 3;
const PORT: u16 = 4;
const FWMARK: u16 = 5;
const SCHEDULER: u16 = 6;
const FLAGS: u16 = 7;
const TIMEOUT: u16 = 8;
const NETMASK: u16 = 9;
const STATISTICS: u16 = 10;
const PERSISTENCE_ENGINE: u16 = 11;
const STATISTICS_64: u16 = 12;

/// The highest attribute of a service.
pub const ATTRIBUTE_MAX: u16 = STATISTICS_64;

/// Names of schedulers and persistence engines, without the NUL.
const NAME_BYTES_MAX: usize = 15;

/// Clients keep their server.
pub const FLAG_PERSISTENT: u32 = 0x01;
/// In the kernel's hash table: set in every answer, without meaning in a request.
pub const FLAG_HASHED: u32 = 0x02;
/// A connection lives for one packet.
pub const FLAG_ONE_PACKET: u32 = 0x04;
/// The three flags that mean something to the scheduler alone, with their numbers.
pub const FLAGS_SCHEDULER: [(u32, u8); 3] = [(0x08, 1), (0x10, 2), (0x20, 3)];

const TCP: u16 = 6;
const UDP: u16 = 17;
const SCTP: u16 = 132;

/// How a tool names a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceKey {
    /// By what its packets are sent to.
    Address {
        /// IP protocol number.
        protocol: u16,
        /// The virtual IP.
        address: IpAddr,
        /// The port; 0 is any.
        port: u16,
    },
    /// By a mark that its packets bear.
    Fwmark {
        /// `AF_INET` or `AF_INET6`.
        family: u16,
        /// The mark; not 0.
        mark: u32,
    },
}

/// How a service is to behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Name of the scheduler.
    pub scheduler: String,
    /// The flags that are to be set, of those in the mask.
    pub flags: u32,
    /// The flags that are meant; the others stay.
    pub flags_mask: u32,
    /// Persistence timeout in seconds.
    pub timeout_s: u32,
    /// Persistence granularity: a mask in network byte order for IPv4, a prefix length for IPv6.
    pub netmask: u32,
    /// Name of the persistence engine; none when empty.
    pub persistence_engine: String,
}

impl ServiceKey {
    /// Reads what names a service.
    ///
    /// # Errors
    /// `EINVAL` when something is missing, `EAFNOSUPPORT` for another family than the two.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        let family = attributes.u16(AF)?.ok_or(Errno::INVAL)?;
        if family != address::INET && family != address::INET6 {
            return Err(Errno::AFNOSUPPORT);
        }
        if let Some(mark) = attributes.u32(FWMARK)?.filter(|mark| *mark != 0) {
            return Ok(Self::Fwmark { family, mark });
        }
        let protocol = attributes.u16(PROTOCOL)?.ok_or(Errno::INVAL)?;
        let bytes = attributes.bytes(ADDRESS).ok_or(Errno::INVAL)?;
        let port = attributes.port(PORT)?.ok_or(Errno::INVAL)?;
        Ok(Self::Address {
            protocol,
            address: address::read(family, bytes)?,
            port,
        })
    }

    /// The service in Pollux' words.
    ///
    /// # Errors
    /// Why Pollux cannot have such a service.
    pub fn id(&self) -> Result<ServiceId, Refusal> {
        let (protocol, address, port) = match *self {
            Self::Fwmark { family, mark } => {
                let family = if family == address::INET {
                    Family::Ipv4
                } else {
                    Family::Ipv6
                };
                let mark = NonZeroU32::new(mark).ok_or(Errno::INVAL)?;
                return Ok(ServiceId::fwmark(mark, family));
            }
            Self::Address {
                protocol,
                address,
                port,
            } => (protocol, address, port),
        };
        let protocol = match protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            SCTP => Protocol::Sctp,
            other => {
                let reason = format!("services of IP protocol {other}: not supported yet");
                return Err(Refusal::because(Errno::PROTONOSUPPORT, reason));
            }
        };
        let endpoint = Endpoint::new(address, port)
            .map_err(|error| Refusal::because(Errno::INVAL, error.to_string()))?;
        Ok(ServiceId::address(protocol, endpoint))
    }
}

impl ServiceSettings {
    /// Reads how a service is to behave.
    ///
    /// # Errors
    /// `EINVAL` when something is missing.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        let flags: [u8; 8] = attributes.array(FLAGS)?.ok_or(Errno::INVAL)?;
        let [a, b, c, d, e, f, g, h] = flags;
        let scheduler = attributes.text(SCHEDULER, NAME_BYTES_MAX)?;
        let engine = attributes.text(PERSISTENCE_ENGINE, NAME_BYTES_MAX)?;
        Ok(Self {
            scheduler: scheduler.ok_or(Errno::INVAL)?.to_owned(),
            flags: u32::from_ne_bytes([a, b, c, d]),
            flags_mask: u32::from_ne_bytes([e, f, g, h]),
            timeout_s: attributes.u32(TIMEOUT)?.ok_or(Errno::INVAL)?,
            netmask: attributes.u32(NETMASK)?.ok_or(Errno::INVAL)?,
            persistence_engine: engine.unwrap_or_default().to_owned(),
        })
    }

    /// The service with these settings in Pollux' words.
    ///
    /// # Errors
    /// `ENOENT` for a scheduler or persistence engine that there is none of, `EINVAL` for an IPv6 prefix length that is
    /// none; then what Pollux does not have.
    pub fn of(&self, key: &ServiceKey) -> Result<VirtualService, Refusal> {
        let scheduler: SchedulerName = self
            .scheduler
            .parse()
            .map_err(|error| Refusal::because(Errno::NOENT, format!("{error}")))?;
        let engine = match self.persistence_engine.as_str() {
            "" => None,
            name => {
                let engine = name.parse::<PersistenceEngine>();
                Some(engine.map_err(|error| Refusal::because(Errno::NOENT, error.to_string()))?)
            }
        };
        if key.family() == address::INET6 && !(1..=128).contains(&self.netmask) {
            let reason = format!("/{} is no IPv6 prefix length", self.netmask);
            return Err(Refusal::because(Errno::INVAL, reason));
        }
        // Nothing is set that the mask could leave as it is.
        let flags = self.flags & self.flags_mask;
        let persistence = (flags & FLAG_PERSISTENT != 0).then(|| self.persistence(key));
        let numbers = FLAGS_SCHEDULER
            .into_iter()
            .filter(|(flag, _)| flags & flag != 0);
        let numbers = numbers.map(|(_, number)| number);
        Ok(VirtualService {
            id: key.id()?,
            scheduler,
            scheduler_flags: SchedulerFlags::of_numbers(numbers, scheduler),
            persistence,
            persistence_engine: engine,
            one_packet: flags & FLAG_ONE_PACKET != 0,
            // No IPVS tool knows of them.
            timeouts: ServiceTimeouts::default(),
        })
    }

    fn persistence(&self, key: &ServiceKey) -> Persistence {
        let mask = if key.family() == address::INET {
            Netmask::V4(Ipv4Addr::from(self.netmask.to_ne_bytes()))
        } else {
            Netmask::V6(u8::try_from(self.netmask).unwrap_or(128))
        };
        Persistence {
            timeout_s: self.timeout_s,
            netmask: Some(mask),
        }
    }
}

impl ServiceKey {
    fn family(&self) -> u16 {
        match self {
            Self::Address { address, .. } => address::family_of(*address),
            Self::Fwmark { family, .. } => *family,
        }
    }
}

/// The netmask of a service, as the kernel has it: host for host when it is not persistent.
pub fn netmask(service: &VirtualService) -> u32 {
    match service.persistence.and_then(|found| found.netmask) {
        Some(Netmask::V4(mask)) => u32::from_ne_bytes(mask.octets()),
        Some(Netmask::V6(length)) => length.into(),
        None if service.id.family() == Family::Ipv4 => u32::MAX,
        None => 128,
    }
}

/// A service as an attribute.
pub fn write(kind: u16, service: &ServiceStatistics, statistics: &Statistics) -> Attribute {
    let service = &service.service;
    let given = FLAGS_SCHEDULER
        .into_iter()
        .filter(|(_, number)| service.scheduler_flags.has_number(*number));
    let own = [
        (service.persistence.is_some(), FLAG_PERSISTENT),
        (service.one_packet, FLAG_ONE_PACKET),
    ];
    let own = own
        .into_iter()
        .filter_map(|(is_set, flag)| is_set.then_some(flag));
    let flags = given
        .map(|(flag, _)| flag)
        .chain(own)
        .fold(FLAG_HASHED, |flags, flag| flags | flag);
    let mut flags = flags.to_ne_bytes().to_vec();
    flags.extend(u32::MAX.to_ne_bytes());
    let family = match service.id.family() {
        Family::Ipv4 => address::INET,
        Family::Ipv6 => address::INET6,
    };
    let mut attributes = vec![Attribute::u16(AF, family)];
    match service.id {
        ServiceId::Address(id) => attributes.extend([
            Attribute::u16(PROTOCOL, id.protocol.number().into()),
            Attribute::bytes(ADDRESS, address::write(id.endpoint.address())),
            Attribute::port(PORT, id.endpoint.port()),
        ]),
        ServiceId::Fwmark(id) => attributes.push(Attribute::u32(FWMARK, id.fwmark.get())),
    }
    let timeout_s = service.persistence.map_or(0, |found| found.timeout_s);
    attributes.push(Attribute::text(SCHEDULER, service.scheduler.as_str()));
    if let Some(engine) = service.persistence_engine {
        attributes.push(Attribute::text(PERSISTENCE_ENGINE, engine.as_str()));
    }
    attributes.extend([
        Attribute::bytes(FLAGS, flags),
        Attribute::u32(TIMEOUT, timeout_s),
        Attribute::u32(NETMASK, netmask(service)),
        statistics.narrow(STATISTICS),
        statistics.wide(STATISTICS_64),
    ]);
    Attribute::nested(kind, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable as _;

    fn key() -> ServiceKey {
        ServiceKey::Address {
            protocol: TCP,
            address: "192.0.2.100".parse().unwrap(),
            port: 80,
        }
    }

    fn settings() -> ServiceSettings {
        ServiceSettings {
            scheduler: "wrr".to_owned(),
            flags: FLAG_HASHED,
            flags_mask: u32::MAX,
            timeout_s: 0,
            netmask: u32::MAX,
            persistence_engine: String::new(),
        }
    }

    /// What a tool reads of a service that is listed to it.
    fn listed(
        service: VirtualService,
    ) -> (Result<ServiceKey, Errno>, Result<ServiceSettings, Errno>) {
        let found = ServiceStatistics {
            service,
            totals: Default::default(),
            destinations: Vec::new(),
        };
        let level = [write(1, &found, &Statistics::default())];
        let mut bytes = vec![0; level.as_slice().buffer_len()];
        level.as_slice().emit(&mut bytes);
        let read = Attributes::parse(&bytes, 1).unwrap();
        let read = read.nested(1, ATTRIBUTE_MAX).unwrap().unwrap();
        (ServiceKey::read(&read), ServiceSettings::read(&read))
    }

    #[test]
    fn a_service_comes_back_as_it_was_told() {
        let service = settings().of(&key()).unwrap();
        assert_eq!(service.id.to_string(), "TCP 192.0.2.100:80");
        assert_eq!(service.scheduler, SchedulerName::WeightedRoundRobin);
        assert_eq!(listed(service), (Ok(key()), Ok(settings())));
    }

    #[test]
    fn flags_come_back_by_the_schedulers_names() {
        let told = ServiceSettings {
            scheduler: "mh".to_owned(),
            flags: FLAG_HASHED | 0x08 | 0x20,
            ..settings()
        };
        let service = told.of(&key()).unwrap();
        assert_eq!(service.scheduler_flags.to_string(), "mh-fallback,flag-3");
        assert_eq!(listed(service), (Ok(key()), Ok(told)));
    }

    #[test]
    fn what_is_not_there_yet_is_refused_and_said() {
        type Spoil = fn(&mut ServiceSettings);
        let cases: [(Spoil, Errno, &str); 2] = [
            (
                |s| s.scheduler = "nosuch".to_owned(),
                Errno::NOENT,
                "unknown scheduler",
            ),
            (
                |s| s.persistence_engine = "nosuch".to_owned(),
                Errno::NOENT,
                "persistence engine",
            ),
        ];
        for (spoil, errno, reason) in cases {
            let mut spoilt = settings();
            spoil(&mut spoilt);
            let refusal = spoilt.of(&key()).unwrap_err();
            assert_eq!(refusal.errno, errno, "{refusal}");
            assert!(refusal.to_string().contains(reason), "{refusal}");
        }
        // A flag outside of the mask is not asked for.
        let mut masked = settings();
        (masked.flags, masked.flags_mask) = (FLAG_PERSISTENT, 0);
        assert_eq!(masked.of(&key()).unwrap().persistence, None);
    }

    #[test]
    fn persistence_and_marks_are_read() {
        let persistent = ServiceSettings {
            flags: FLAG_PERSISTENT | FLAG_ONE_PACKET,
            flags_mask: u32::MAX,
            timeout_s: 60,
            netmask: u32::from_ne_bytes([255, 255, 255, 0]),
            ..settings()
        };
        let mark = ServiceKey::Fwmark {
            family: address::INET,
            mark: 7,
        };
        let service = persistent.of(&mark).unwrap();
        assert_eq!(service.id.to_string(), "FWM 7");
        assert!(service.one_packet);
        let persistence = service.persistence.unwrap();
        assert_eq!(persistence.timeout_s, 60);
        assert_eq!(persistence.netmask.unwrap().to_string(), "255.255.255.0");
        assert_eq!(netmask(&service), persistent.netmask);
    }

    #[test]
    fn keys_that_pollux_has_not() {
        let address = |protocol, text: &str, port| ServiceKey::Address {
            protocol,
            address: text.parse().unwrap(),
            port,
        };
        for (key, errno) in [
            (address(33, "192.0.2.100", 80), Errno::PROTONOSUPPORT),
            (address(UDP, "224.0.0.1", 80), Errno::INVAL),
        ] {
            assert_eq!(key.id().unwrap_err().errno, errno, "{key:?}");
        }
        let bad_prefix = ServiceSettings {
            netmask: 129,
            ..settings()
        };
        let refusal = bad_prefix.of(&address(TCP, "2001:db8::1", 80)).unwrap_err();
        assert_eq!(refusal.errno, Errno::INVAL);
    }
}
