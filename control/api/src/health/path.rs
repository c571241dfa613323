//! Checks by the way that connections take: of the virtual address, on one server, by the server's method.
//!
//! A socket asks the server's address at a port that stands for the way, from one of the [`CHECK_PORTS`]; the data plane makes of
//! its packets those to the virtual address, and of the answers those of the server (`pollux_engine::check_path`). Both sides
//! number the ways by this module.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::check::Check;
use crate::configuration::{Configuration, Destination};
use crate::identity::{ForwardingMethod, Protocol, ServiceId};
use crate::tunnel::Tunnel;

/// Ports of the director's that such checks come from: above those that Linux gives to sockets by itself
/// (`net.ipv4.ip_local_port_range`).
pub const CHECK_PORTS: RangeInclusive<u16> = 61_000..=65_535;

/// A way to a virtual address on a server. Checks whose way is the same share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckPath {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The server.
    pub server: IpAddr,
    /// What is asked there.
    pub target: SocketAddr,
    /// The tunnel; none for direct routing.
    pub tunnel: Option<Tunnel>,
}

impl CheckPath {
    /// The way of a check of a service's server; none if that is the server's own address, as it is under NAT.
    pub fn of(check: &Check, service: ServiceId, server: &Destination) -> Option<Self> {
        let ServiceId::Address(id) = service else {
            return None;
        };
        let tunnel = match server.method {
            ForwardingMethod::Nat => return None,
            ForwardingMethod::Tunnel => Some(server.tunnel),
            ForwardingMethod::Direct => None,
        };
        let port = check.port.unwrap_or(id.endpoint.port());
        check.service_path.then_some(Self {
            protocol: check.probe.transport(),
            server: server.id.address(),
            target: SocketAddr::new(id.endpoint.address(), port),
            tunnel,
        })
    }

    /// A number that depends on nothing else, so that ways keep theirs when others come and go: FNV-1a.
    fn wish(&self) -> u16 {
        let tunnel = self
            .tunnel
            .map_or_else(String::new, |tunnel| tunnel.to_string());
        let text = format!("{} {tunnel}", self.target);
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash % u64::from(u16::MAX)) as u16 + 1
    }
}

/// All ways of a configuration with their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckPaths(BTreeMap<CheckPath, u16>);

impl CheckPaths {
    /// The ways that checks of this configuration take, those of servers that are off among them.
    pub fn of(configuration: &Configuration) -> Self {
        let health = &configuration.health;
        if health.checks.iter().all(|check| !check.service_path) {
            return Self::default();
        }
        let mut numbers = BTreeMap::new();
        for entry in &configuration.services {
            let service = entry.service.id;
            for check in health.checks_of(service) {
                let servers = entry.destinations.iter();
                let paths = servers.filter_map(|server| CheckPath::of(check, service, server));
                numbers.extend(paths.map(|path| (path, 0)));
            }
        }
        let mut taken = std::collections::HashSet::new();
        for (path, number) in &mut numbers {
            let wish = path.wish();
            // Whoever comes first has its wish; a server has few ways, and there are 65,535 numbers.
            let next = (wish..=u16::MAX).chain(1..wish);
            let free = |number: &u16| taken.insert((path.protocol, path.server, *number));
            *number = next.into_iter().find(free).unwrap_or_default();
        }
        // Nobody asks for number 0.
        numbers.retain(|_, number| *number != 0);
        Self(numbers)
    }

    /// Whether no check takes one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of a way.
    pub fn number(&self, path: &CheckPath) -> Option<u16> {
        self.0.get(path).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&CheckPath, u16)> {
        self.0.iter().map(|(path, number)| (path, *number))
    }
}
