//! Which service a packet without a connection is for, in the kernel's order (`ip_vs_service_find`): its firewall mark;
//! protocol, virtual address and port; for what may be data of FTP, the service of port 21; the service of all ports.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use hashbrown::HashMap;

use super::{Classifier, DestinationSpec, ServiceIdentity, ServiceSpec, VirtualService};
use crate::connection::{Family, FlowKey, ForwardingMethod};
use crate::forward::tunnel::Encapsulation;
use crate::wire::protocol;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ServiceKey {
    address: [u64; 2],
    port: u16,
    protocol: u8,
    family: Family,
}

/// As three words: field by field it takes longer than all the rest of a look-up.
impl Hash for ServiceKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [high, low] = self.address;
        state.write_u64(high);
        state.write_u64(low);
        state.write_u64(
            u64::from(self.port) | u64::from(self.protocol) << 16 | (self.family as u64) << 24,
        );
    }
}

/// All services of a snapshot by what packets carry.
#[derive(Debug, Clone, Default)]
pub struct ServiceLookup {
    services: Vec<VirtualService>,
    /// Places in `services`.
    by_address: HashMap<ServiceKey, usize>,
    by_mark: HashMap<(u32, Family), usize>,
    /// Marks by the numbers of their services.
    marks: HashMap<u32, u32>,
    classifier: Classifier,
    /// Whether there is a TCP service of port 21.
    has_ftp: bool,
    /// Whether there is a service of all ports.
    has_any_port: bool,
    /// Whether there is a service with a persistence engine.
    has_engines: bool,
    /// By a server's address and port: the services that translate to it.
    answers: HashMap<ServiceKey, Translators>,
    /// By a server's address and port: the services with a persistence engine that translate to it, each after the number
    /// of the destination there.
    callers: HashMap<ServiceKey, Vec<(u32, ServiceKey)>>,
    /// Servers that are translated to, by address and port, and of how many services; those of marks under no protocol.
    translated: HashMap<ServiceKey, u32>,
    /// How servers of an address are reached through tunnels, and how many so.
    tunnels: HashMap<IpAddr, Vec<(Encapsulation, u32)>>,
    /// A bit for each family that has services.
    families: u8,
}

/// The services that translate to a server's address and port, of its protocol and family. Which one it is must be known
/// only while there is no other, also after others have gone: each is added to the sum, and taken out of it, bit by bit.
#[derive(Debug, Clone, Copy, Default)]
struct Translators {
    services: u32,
    address: [u64; 2],
    port: u16,
}

impl Translators {
    fn toggle(&mut self, service: ServiceKey) {
        let [high, low] = service.address;
        self.address = [self.address[0] ^ high, self.address[1] ^ low];
        self.port ^= service.port;
    }

    /// The only one, of the protocol and family of this server's key.
    fn only(self, server: ServiceKey) -> Option<ServiceKey> {
        (self.services == 1).then_some(ServiceKey {
            address: self.address,
            port: self.port,
            ..server
        })
    }
}

impl ServiceKey {
    fn new(protocol: u8, address: IpAddr, port: u16) -> Self {
        let (address, family) = match address {
            IpAddr::V4(v4) => ([u64::from(v4.to_bits()), 0], Family::V4),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                #[allow(clippy::cast_possible_truncation)] // both halves are taken
                let halves = [(bits >> 64) as u64, bits as u64];
                (halves, Family::V6)
            }
        };
        Self {
            address,
            port,
            protocol,
            family,
        }
    }

    /// What a packet of this flow is sent to.
    fn destination_of(key: &FlowKey) -> Self {
        let [a, _, c, d] = key.addresses;
        Self {
            address: match key.family {
                Family::V4 => [a & 0xffff_ffff, 0],
                Family::V6 => [c, d],
            },
            port: key.destination_port(),
            protocol: key.protocol,
            family: key.family,
        }
    }

    /// The flow, sent here instead.
    fn as_destination_of(self, mut key: FlowKey) -> FlowKey {
        match key.family {
            Family::V4 => {
                key.addresses[0] = key.addresses[0] & 0xffff_ffff << 32 | self.address[0];
            }
            Family::V6 => key.addresses[2..].copy_from_slice(&self.address),
        }
        key.ports = key.ports & 0xffff_0000 | u32::from(self.port);
        key
    }
}

/// Look-ups for a burst: of packets one after the other to the same address and port, only the first is looked for.
#[derive(Debug)]
pub struct InARow<'s> {
    services: &'s ServiceLookup,
    ingress: u16,
    last: Option<(ServiceKey, Option<usize>)>,
}

impl<'s> InARow<'s> {
    /// The service that the next packet is for, as [`ServiceLookup::find`] finds it, and its place.
    #[inline]
    pub fn find(&mut self, key: &FlowKey) -> Option<(usize, &'s VirtualService)> {
        let by_mark = self.services.place_by_mark(key.family, key, self.ingress);
        let place = match by_mark {
            Some(place) => place,
            None => self.place_by_address(ServiceKey::destination_of(key))?,
        };
        Some((place, self.services.at(place)?))
    }

    #[inline]
    fn place_by_address(&mut self, exact: ServiceKey) -> Option<usize> {
        match self.last {
            Some((last, place)) if last == exact => place,
            _ => {
                let place = self.services.place_by_address(exact);
                self.last = Some((exact, place));
                place
            }
        }
    }
}

/// Ports of FTP (RFC 959), and the first that anybody may listen on.
const FTP: u16 = 21;
const FTP_DATA: u16 = 20;
const UNPRIVILEGED: u16 = 1024;

/// IP's own number for "any" (`IPPROTO_IP`).
const ANY_PROTOCOL: u8 = 0;

fn bit(family: Family) -> u8 {
    1 << family as u8
}

/// Families that have services.
#[derive(Debug, Clone, Copy)]
pub struct Families(u8);

impl Families {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// Whether this one has.
    #[inline(always)]
    pub fn contain(self, family: Family) -> bool {
        self.0 & bit(family) != 0
    }
}

impl ServiceLookup {
    /// No services yet; packets get their marks from this.
    pub fn new(classifier: Classifier) -> Self {
        Self {
            classifier,
            ..Self::default()
        }
    }

    /// Adds a service, which is not there.
    pub fn insert(&mut self, spec: &ServiceSpec, service: VirtualService) {
        let place = self.services.len();
        self.note_kind(&service);
        self.services.push(service);
        let has_engine = spec.persistence.is_some_and(|found| found.engine.is_some());
        for server in &spec.destinations {
            self.note_server(spec.identity, server);
            if has_engine && let Some((from, of)) = answer(spec.identity, server) {
                self.callers
                    .entry(from)
                    .or_default()
                    .push((server.number, of));
            }
        }
        if let ServiceIdentity::Fwmark { mark, .. } = spec.identity {
            self.marks.insert(spec.number, mark);
        }
        self.set_place(spec.identity, place);
    }

    /// Removes a service, and returns it; `servers` gives its destinations as they were when it was added.
    pub fn remove<'a>(
        &mut self,
        identity: ServiceIdentity,
        servers: impl Fn(u32) -> Option<&'a DestinationSpec>,
    ) -> Option<VirtualService> {
        let place = self.place_of(identity)?;
        self.forget_place(identity);
        let service = self.services.swap_remove(place);
        self.marks.remove(&service.number);
        // The last has taken its place.
        if let Some(moved) = self.services.get(place).map(|moved| moved.identity) {
            self.set_place(moved, place);
        }
        for server in service.destinations.iter().filter_map(|it| servers(*it)) {
            self.forget_server(identity, server);
            if let Some((from, of)) = answer(identity, server)
                && let Some(known) = self.callers.get_mut(&from)
            {
                known.retain(|(_, service)| *service != of);
                if known.is_empty() {
                    self.callers.remove(&from);
                }
            }
        }
        self.families = 0;
        (self.has_ftp, self.has_any_port, self.has_engines) = (false, false, false);
        let services = std::mem::take(&mut self.services);
        for left in &services {
            self.note_kind(left);
        }
        self.services = services;
        Some(service)
    }

    /// A service by what it is known by.
    pub fn get(&self, identity: ServiceIdentity) -> Option<&VirtualService> {
        self.services.get(self.place_of(identity)?)
    }

    fn place_of(&self, identity: ServiceIdentity) -> Option<usize> {
        match identity {
            ServiceIdentity::Fwmark { mark, family } => self.by_mark.get(&(mark, family)),
            ServiceIdentity::Address {
                protocol,
                address,
                port,
            } => self
                .by_address
                .get(&ServiceKey::new(protocol, address, port)),
        }
        .copied()
    }

    fn set_place(&mut self, identity: ServiceIdentity, place: usize) {
        match identity {
            ServiceIdentity::Fwmark { mark, family } => {
                self.by_mark.insert((mark, family), place);
            }
            ServiceIdentity::Address {
                protocol,
                address,
                port,
            } => {
                let key = ServiceKey::new(protocol, address, port);
                self.by_address.insert(key, place);
            }
        }
    }

    fn forget_place(&mut self, identity: ServiceIdentity) {
        match identity {
            ServiceIdentity::Fwmark { mark, family } => {
                self.by_mark.remove(&(mark, family));
            }
            ServiceIdentity::Address {
                protocol,
                address,
                port,
            } => {
                let key = ServiceKey::new(protocol, address, port);
                self.by_address.remove(&key);
            }
        }
    }

    fn note_kind(&mut self, service: &VirtualService) {
        let persistence = service.persistence;
        self.has_engines |= persistence.is_some_and(|found| found.engine.is_some());
        self.families |= bit(service.identity.family());
        if let ServiceIdentity::Address { protocol, port, .. } = service.identity {
            self.has_ftp |= protocol == protocol::TCP && port == FTP;
            self.has_any_port |= port == 0;
        }
    }

    fn note_server(&mut self, service: ServiceIdentity, server: &DestinationSpec) {
        if let Some(server) = translated(service, server) {
            *self.translated.entry(server).or_default() += 1;
        }
        if server.method == ForwardingMethod::Tunnel {
            let known = self.tunnels.entry(server.address).or_default();
            match known.iter_mut().find(|(by, _)| *by == server.encapsulation) {
                Some((_, servers)) => *servers += 1,
                None => known.push((server.encapsulation, 1)),
            }
        }
        if let Some((server, service)) = answer(service, server) {
            let known = self.answers.entry(server).or_default();
            known.services += 1;
            known.toggle(service);
        }
    }

    fn forget_server(&mut self, service: ServiceIdentity, server: &DestinationSpec) {
        if let Some(server) = translated(service, server)
            && let Some(services) = self.translated.get_mut(&server)
        {
            *services -= 1;
            if *services == 0 {
                self.translated.remove(&server);
            }
        }
        if server.method == ForwardingMethod::Tunnel
            && let Some(known) = self.tunnels.get_mut(&server.address)
        {
            for (by, servers) in known.iter_mut() {
                *servers -= u32::from(*by == server.encapsulation);
            }
            known.retain(|(_, servers)| *servers != 0);
            if known.is_empty() {
                self.tunnels.remove(&server.address);
            }
        }
        if let Some((server, service)) = answer(service, server)
            && let Some(known) = self.answers.get_mut(&server)
        {
            known.services -= 1;
            known.toggle(service);
            if known.services == 0 {
                self.answers.remove(&server);
            }
        }
    }

    /// The service this packet, which came in by that port, is for.
    pub fn find(&self, key: &FlowKey, ingress: u16) -> Option<&VirtualService> {
        self.find_marked(key, key, ingress)
    }

    /// The service of this flow, by a packet of another flow: that one has the mark.
    pub fn find_marked(
        &self,
        key: &FlowKey,
        packet: &FlowKey,
        ingress: u16,
    ) -> Option<&VirtualService> {
        let place = match self.place_by_mark(key.family, packet, ingress) {
            Some(place) => place,
            None => self.place_by_address(ServiceKey::destination_of(key))?,
        };
        self.at(place)
    }

    /// Looks up what packets that came in by that port are for, one after the other.
    pub fn in_a_row(&self, ingress: u16) -> InARow<'_> {
        InARow {
            services: self,
            ingress,
            last: None,
        }
    }

    /// The service in this place, of which [`InARow::find`] tells.
    #[inline]
    pub fn at(&self, place: usize) -> Option<&VirtualService> {
        self.services.get(place)
    }

    #[inline]
    fn place_by_mark(&self, family: Family, packet: &FlowKey, ingress: u16) -> Option<usize> {
        if self.by_mark.is_empty() {
            return None;
        }
        let mark = self.classifier.mark(packet, ingress);
        self.by_mark.get(&(mark, family)).copied()
    }

    #[inline]
    fn place_by_address(&self, exact: ServiceKey) -> Option<usize> {
        let found = self.by_address.get(&exact);
        found.or_else(|| self.find_loosely(exact)).copied()
    }

    /// The service of a connection that another director has told of, with the firewall mark it has there.
    pub fn of_synced(&self, key: &FlowKey, mark: u32) -> Option<&VirtualService> {
        let marked = self.by_mark.get(&(mark, key.family)).filter(|_| mark != 0);
        let exact = ServiceKey::destination_of(key);
        let place = marked
            .or_else(|| self.by_address.get(&exact))
            .or_else(|| self.find_loosely(exact));
        self.services.get(*place?)
    }

    /// The firewall mark of a service, by its number; 0 when it has none.
    pub fn mark_of(&self, service: u32) -> u32 {
        self.marks.get(&service).copied().unwrap_or(0)
    }

    fn find_loosely(&self, exact: ServiceKey) -> Option<&usize> {
        let of_port = |port| self.by_address.get(&ServiceKey { port, ..exact });
        let may_be_ftp = self.has_ftp
            && exact.protocol == protocol::TCP
            && (exact.port == FTP_DATA || exact.port >= UNPRIVILEGED);
        let ftp = may_be_ftp.then(|| of_port(FTP)).flatten();
        ftp.or_else(|| self.has_any_port.then(|| of_port(0)).flatten())
    }

    /// Whether a service reaches a server of this address by a tunnel of which this is the beginning of a packet
    /// (`ip_vs_find_tunnel`).
    pub fn has_tunnel(&self, server: IpAddr, packet: &[u8]) -> bool {
        let tunnels = self.tunnels.get(&server);
        tunnels.is_some_and(|tunnels| tunnels.iter().any(|(by, _)| by.is_in(packet)))
    }

    /// Whether a service translates to this address and port of a server (`ip_vs_has_real_service`).
    pub fn has_real_service(&self, protocol: u8, address: IpAddr, port: u16) -> bool {
        [protocol, ANY_PROTOCOL].into_iter().any(|protocol| {
            self.translated
                .contains_key(&ServiceKey::new(protocol, address, port))
        })
    }

    /// Whether one service and no other translates to this address and port of a server.
    pub fn is_only_one_of(&self, protocol: u8, address: IpAddr, port: u16) -> bool {
        let server = ServiceKey::new(protocol, address, port);
        let known = self.answers.get(&server);
        known.is_some_and(|known| known.services == 1)
    }

    /// The client's flow that this packet answers, and its service: if it comes from where one service and no other
    /// translates to.
    pub fn of_answer(&self, answer: &FlowKey) -> Option<(FlowKey, &VirtualService)> {
        let reversed = answer.reversed();
        let server = ServiceKey::destination_of(&reversed);
        let service = self.answers.get(&server)?.only(server)?;
        let found = self.services.get(*self.by_address.get(&service)?)?;
        Some((service.as_destination_of(reversed), found))
    }

    /// The flow that a server begins with this packet, as if it were a client's, and its service, which has a persistence
    /// engine. Of several that translate to the server, the kernel takes the one it was added to last; that is, while none
    /// was removed before, the one with the highest number.
    pub fn of_caller(&self, packet: &FlowKey) -> Option<(FlowKey, &VirtualService)> {
        let reversed = packet.reversed();
        let known = self.callers.get(&ServiceKey::destination_of(&reversed))?;
        let (_, service) = known.iter().max_by_key(|(number, _)| *number)?;
        let found = self.services.get(*self.by_address.get(service)?)?;
        Some((service.as_destination_of(reversed), found))
    }

    /// Whether a server may begin what has to come back to it.
    #[inline]
    pub fn has_engines(&self) -> bool {
        self.has_engines
    }

    /// Whether there is any of this family: without, IPVS is off for it, as in Linux.
    #[inline]
    pub fn serve(&self, family: Family) -> bool {
        self.families().contain(family)
    }

    /// For whole bursts.
    #[inline]
    pub fn families(&self) -> Families {
        Families(self.families)
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &VirtualService> {
        self.services.iter()
    }
}

/// The server as services translate to it, if this one does.
fn translated(service: ServiceIdentity, server: &DestinationSpec) -> Option<ServiceKey> {
    let protocol = match service {
        ServiceIdentity::Fwmark { .. } => ANY_PROTOCOL,
        ServiceIdentity::Address { protocol, .. } => protocol,
    };
    let is_translated = server.port != 0 && server.method == ForwardingMethod::Masquerade;
    is_translated.then(|| ServiceKey::new(protocol, server.address, server.port))
}

/// The server as its answers come, and the service that they are answers of, if both are known.
fn answer(service: ServiceIdentity, server: &DestinationSpec) -> Option<(ServiceKey, ServiceKey)> {
    let ServiceIdentity::Address {
        protocol,
        address,
        port,
    } = service
    else {
        return None;
    };
    let is_known = port != 0 && server.address.is_ipv4() == address.is_ipv4();
    let server = translated(service, server).filter(|_| is_known)?;
    Some((server, ServiceKey::new(protocol, address, port)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::forward::tunnel::Encapsulation;
    use crate::scheduler::{Candidates, Scheduler, SchedulerKind};
    use crate::service::{DestinationSpec, Persistence, PersistenceEngine};
    use crate::wire::protocol::{TCP, UDP};

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn add(lookup: &mut ServiceLookup, number: u32, service: &str, server: &str) {
        let (spec, service) = one(number, service, server);
        lookup.insert(&spec, service);
    }

    fn one(number: u32, service: &str, server: &str) -> (ServiceSpec, VirtualService) {
        let (address, server) = (socket(service), socket(server));
        let spec = ServiceSpec {
            number,
            identity: ServiceIdentity::Address {
                protocol: TCP,
                address: address.ip(),
                port: address.port(),
            },
            persistence: None,
            one_packet: false,
            timeouts: None,
            scheduler: SchedulerKind::RoundRobin,
            destinations: vec![DestinationSpec {
                number,
                address: server.ip(),
                port: server.port(),
                method: ForwardingMethod::Masquerade,
                encapsulation: Encapsulation::default(),
                weight: 1,
                upper_threshold: 0,
                lower_threshold: 0,
            }],
        };
        let candidates = Candidates {
            list: &[],
            all: &[],
        };
        let scheduler = Scheduler::new(
            SchedulerKind::RoundRobin,
            crate::scheduler::Binding {
                family: crate::connection::Family::V4,
                now: crate::clock::Tick(0),
                tuning: 0,
            },
            candidates,
            None,
        );
        let service = VirtualService {
            number,
            identity: spec.identity,
            persistence: None,
            one_packet: false,
            destinations: Box::new([number]),
            scheduler: Arc::new(scheduler),
            binds_ahead: false,
        };
        (spec, service)
    }

    fn key(protocol: u8, source: &str, destination: &str) -> FlowKey {
        FlowKey::from_sockets(protocol, socket(source), socket(destination)).unwrap()
    }

    #[test]
    fn an_answer_leads_to_the_flow_it_answers() {
        let mut lookup = ServiceLookup::default();
        add(&mut lookup, 1, "192.0.2.1:80", "10.0.0.1:8080");
        add(&mut lookup, 2, "[2001:db8::1]:443", "[2001:db8:1::1]:8443");
        for (number, server, client, service) in [
            (1, "10.0.0.1:8080", "198.51.100.7:40000", "192.0.2.1:80"),
            (
                2,
                "[2001:db8:1::1]:8443",
                "[2001:db8:2::7]:40000",
                "[2001:db8::1]:443",
            ),
        ] {
            let (inbound, found) = lookup.of_answer(&key(TCP, server, client)).unwrap();
            assert_eq!(inbound, key(TCP, client, service));
            assert_eq!(found.number, number);
            assert!(lookup.of_answer(&key(UDP, server, client)).is_none());
            assert!(lookup.of_answer(&key(TCP, client, server)).is_none());
            let server = socket(server);
            assert!(lookup.is_only_one_of(TCP, server.ip(), server.port()));
            assert!(!lookup.is_only_one_of(TCP, server.ip(), 1));
        }
    }

    #[test]
    fn an_answer_from_a_server_of_two_services_leads_nowhere() {
        let mut lookup = ServiceLookup::default();
        for (number, service) in [(1, "192.0.2.1:80"), (2, "192.0.2.2:80")] {
            add(&mut lookup, number, service, "10.0.0.1:8080");
        }
        let answer = key(TCP, "10.0.0.1:8080", "198.51.100.7:40000");
        assert!(lookup.of_answer(&answer).is_none());
        assert!(!lookup.is_only_one_of(TCP, socket("10.0.0.1:1").ip(), 8080));
    }

    #[test]
    fn a_server_of_several_services_calls_by_the_last_one_with_an_engine() {
        let mut lookup = ServiceLookup::default();
        let with_engine = |number, service: &str| {
            let (mut spec, mut service) = one(number, service, "10.0.0.1:5060");
            spec.persistence = Some(Persistence {
                timeout: 1,
                mask: 0,
                engine: Some(PersistenceEngine::Sip),
            });
            service.persistence = spec.persistence;
            (spec, service)
        };
        let services = [
            with_engine(1, "192.0.2.1:5060"),
            with_engine(3, "192.0.2.3:5060"),
            with_engine(2, "192.0.2.2:5060"),
        ];
        add(&mut lookup, 4, "192.0.2.4:5060", "10.0.0.1:5060");
        let call = key(TCP, "10.0.0.1:5060", "198.51.100.7:5060");
        let caller = |lookup: &ServiceLookup| {
            let found = lookup.of_caller(&call);
            found.map(|(flow, service)| (flow.destination(), service.number))
        };
        assert_eq!(caller(&lookup), None);
        for (spec, service) in &services {
            lookup.insert(spec, service.clone());
        }
        for left in [3, 2, 1] {
            let service = socket(&format!("192.0.2.{left}:5060"));
            assert_eq!(caller(&lookup), Some((service, left)));
            let (spec, _) = services
                .iter()
                .find(|(spec, _)| spec.number == left)
                .unwrap();
            lookup.remove(spec.identity, |_| spec.destinations.first());
        }
        assert_eq!(caller(&lookup), None);
        assert!(lookup.callers.is_empty());
    }

    #[test]
    fn a_family_without_services_is_not_served() {
        let mut lookup = ServiceLookup::default();
        assert!(!lookup.serve(Family::V4) && !lookup.serve(Family::V6));
        add(&mut lookup, 1, "192.0.2.1:80", "10.0.0.1:8080");
        assert!(lookup.serve(Family::V4) && !lookup.serve(Family::V6));
    }

    #[test]
    fn servers_of_marks_are_real_under_any_protocol() {
        let mut lookup = ServiceLookup::default();
        add(&mut lookup, 1, "192.0.2.1:80", "10.0.0.1:8080");
        let server = socket("10.0.0.1:8080");
        let is_real = |lookup: &ServiceLookup, protocol, port| {
            lookup.has_real_service(protocol, server.ip(), port)
        };
        assert!(is_real(&lookup, TCP, 8080) && !is_real(&lookup, UDP, 8080));
        let of_mark = ServiceIdentity::Fwmark {
            mark: 7,
            family: Family::V4,
        };
        let server_of_mark = DestinationSpec {
            number: 2,
            address: server.ip(),
            port: 9090,
            method: ForwardingMethod::Masquerade,
            encapsulation: Encapsulation::default(),
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        lookup.note_server(of_mark, &server_of_mark);
        assert!(is_real(&lookup, TCP, 9090) && is_real(&lookup, UDP, 9090));
    }
}
