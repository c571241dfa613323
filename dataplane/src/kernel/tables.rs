//! The mirrored tables: netlink messages in, a [`KernelView`] out. Pure.
//!
//! Interfaces, addresses and routes are replaced whole by dumps; an event only says *that* they changed
//! ([`Tables::note`]), because not every change comes with an event that tells it fully: Linux removes the IPv4 routes
//! of an interface that goes down without a word, and appends next hops to IPv6 routes in several messages. A macvlan interface
//! is its parent with another MAC: its addresses and routes are the parent's, and neighbours are asked for on the parent. Neighbours
//! are many and change often, and each event holds one of them complete, so those are applied as they come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::neighbours::{NeighbourKey, Resolution};
use super::route_message::{self, BestRoutes};
use super::tap::TapName;
use super::view::{Address, Egress, KernelView, Link, MacAddress, Neighbour, Route, TapIndex};

/// What has to be dumped again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stale {
    /// Interfaces.
    pub links: bool,
    /// Addresses of both families.
    pub addresses: bool,
    /// IPv4 routes.
    pub routes_v4: bool,
    /// IPv6 routes.
    pub routes_v6: bool,
    /// Neighbours of both families.
    pub neighbours: bool,
}

impl Stale {
    /// Everything: at the start, after lost events, and when an interface came or went.
    pub const ALL: Self = Self {
        links: true,
        addresses: true,
        routes_v4: true,
        routes_v6: true,
        neighbours: true,
    };

    /// Whether there is anything to dump.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

impl std::ops::BitOrAssign for Stale {
    fn bitor_assign(&mut self, other: Self) {
        self.links |= other.links;
        self.addresses |= other.addresses;
        self.routes_v4 |= other.routes_v4;
        self.routes_v6 |= other.routes_v6;
        self.neighbours |= other.neighbours;
    }
}

/// The mirrored tables.
#[derive(Debug)]
pub struct Tables {
    names: Vec<TapName>,
    links: Vec<Option<Link>>,
    /// The TAPs and their VLANs, by the kernel's interface number.
    egress: HashMap<u32, Egress>,
    /// Macvlan interfaces on those, by the kernel's number: other MACs of the same way out.
    macvlans: HashMap<u32, (Egress, MacAddress)>,
    loopback: Option<u32>,
    addresses: Arc<Vec<Address>>,
    routes_v4: BTreeMap<IpNet, Route>,
    routes_v6: BTreeMap<IpNet, Route>,
    /// Both families' routes, as the view has them.
    routes: Arc<BTreeMap<IpNet, Route>>,
    neighbours: Arc<BTreeMap<NeighbourKey, Neighbour>>,
    resolutions: HashMap<NeighbourKey, Resolution>,
}

impl Tables {
    /// Empty tables for these TAPs.
    pub fn new(names: Vec<TapName>) -> Self {
        Self {
            links: vec![None; names.len()],
            names,
            egress: HashMap::new(),
            macvlans: HashMap::new(),
            loopback: None,
            addresses: Arc::default(),
            routes_v4: BTreeMap::new(),
            routes_v6: BTreeMap::new(),
            routes: Arc::default(),
            neighbours: Arc::default(),
            resolutions: HashMap::new(),
        }
    }

    /// The tables as they are now, for the rest of the data plane. Cheap: the big ones are shared.
    pub fn view(&self) -> KernelView {
        KernelView {
            links: self.links.clone(),
            other_macs: self.other_macs(),
            vlans: self.vlans(),
            addresses: Arc::clone(&self.addresses),
            routes: Arc::clone(&self.routes),
            neighbours: Arc::clone(&self.neighbours),
        }
    }

    fn other_macs(&self) -> Vec<(TapIndex, MacAddress)> {
        let macvlans = self.macvlans.values();
        let macs: BTreeSet<(TapIndex, MacAddress)> =
            macvlans.map(|(egress, mac)| (egress.tap, *mac)).collect();
        macs.into_iter().collect()
    }

    fn vlans(&self) -> Vec<(TapIndex, u16)> {
        let all = self.egress.values();
        let tagged = all.filter_map(|egress| Some((egress.tap, egress.vlan?)));
        tagged.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The way out that an interface is, or is a macvlan of.
    fn egress_of(&self, index: u32) -> Option<Egress> {
        let own = self.egress.get(&index).copied();
        own.or_else(|| self.macvlans.get(&index).map(|(egress, _)| *egress))
    }

    /// How far the kernel is with a neighbour.
    pub fn resolution(&self, key: NeighbourKey) -> Resolution {
        self.resolutions
            .get(&key)
            .copied()
            .unwrap_or(Resolution::Unknown)
    }

    /// The kernel's number of the interface that is this way out; none: it does not exist now.
    pub fn interface(&self, egress: Egress) -> Option<u32> {
        self.egress
            .iter()
            .find_map(|(index, known)| (*known == egress).then_some(*index))
    }

    /// Takes an event: applies what it says about a neighbour, and tells what else has to be dumped.
    pub fn note(&mut self, event: &RouteNetlinkMessage) -> Stale {
        use RouteNetlinkMessage as Event;
        let mut stale = Stale::default();
        match event {
            // Routes follow their interfaces, for IPv4 without events.
            Event::NewLink(_) | Event::DelLink(_) => {
                (stale.links, stale.routes_v4, stale.routes_v6) = (true, true, true);
            }
            Event::NewAddress(_) => stale.addresses = true,
            // Routes that prefer the address as source go with it, without events.
            Event::DelAddress(_) => {
                (stale.addresses, stale.routes_v4, stale.routes_v6) = (true, true, true);
            }
            Event::NewRoute(message) | Event::DelRoute(message) => {
                let is_v4 = message.header.address_family == AddressFamily::Inet;
                let is_relevant = route_message::is_relevant(message);
                (stale.routes_v4, stale.routes_v6) = (is_relevant && is_v4, is_relevant && !is_v4);
            }
            Event::NewNeighbour(message) => self.update_neighbour(message),
            Event::DelNeighbour(message) => self.remove_neighbour(message),
            _ => {}
        }
        stale
    }

    /// Takes all interfaces. True when those that matter have come or gone, so that everything has to be read anew.
    pub fn replace_links(&mut self, messages: &[LinkMessage]) -> bool {
        let (egress_before, loopback_before) = (std::mem::take(&mut self.egress), self.loopback);
        let macvlans_before = std::mem::take(&mut self.macvlans);
        self.links = vec![None; self.names.len()];
        self.loopback = messages
            .iter()
            .find(|message| message.header.flags.contains(LinkFlags::Loopback))
            .map(|message| message.header.index);
        for message in messages {
            let name = message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(name.as_str()),
                    _ => None,
                });
            let place = self
                .names
                .iter()
                .position(|known| Some(known.as_str()) == name);
            let Some(index) = place.and_then(|place| u16::try_from(place).ok()) else {
                continue;
            };
            if let Some(slot) = self.links.get_mut(usize::from(index)) {
                *slot = Some(link(message));
            }
            let tap = TapIndex::new(index);
            self.egress
                .insert(message.header.index, Egress { tap, vlan: None });
        }
        let vlans: Vec<(u32, Egress)> = messages
            .iter()
            .filter_map(|message| {
                let (parent, vlan) = vlan(message)?;
                let tap = self.egress.get(&parent)?.tap;
                let vlan = Some(vlan);
                Some((message.header.index, Egress { tap, vlan }))
            })
            .collect();
        self.egress.extend(vlans);
        self.macvlans = messages
            .iter()
            .filter_map(|message| {
                let parent = macvlan(message)?;
                let egress = *self.egress.get(&parent)?;
                Some((message.header.index, (egress, link(message).mac)))
            })
            .collect();
        self.egress != egress_before
            || self.loopback != loopback_before
            || self.macvlans != macvlans_before
    }

    /// Takes all addresses.
    pub fn replace_addresses(&mut self, messages: &[AddressMessage]) {
        let addresses: Vec<Address> = messages
            .iter()
            .filter_map(|message| self.address(message))
            .collect();
        if *self.addresses != addresses {
            self.addresses = Arc::new(addresses);
        }
    }

    /// Takes one route of a dump.
    pub(super) fn add_route(&self, dump: &mut BestRoutes, message: &RouteMessage) {
        dump.add(message, &|index| self.egress_of(index));
    }

    /// Takes all routes of one family.
    pub(super) fn replace_routes(&mut self, family: AddressFamily, dump: BestRoutes) {
        let routes = dump.finish();
        let slot = match family {
            AddressFamily::Inet => &mut self.routes_v4,
            _ => &mut self.routes_v6,
        };
        if *slot == routes {
            return;
        }
        *slot = routes;
        let both = self.routes_v4.iter().chain(&self.routes_v6);
        self.routes = Arc::new(
            both.map(|(prefix, route)| (*prefix, route.clone()))
                .collect(),
        );
    }

    /// Takes all neighbours.
    pub fn replace_neighbours(&mut self, messages: &[NeighbourMessage]) {
        let before = std::mem::take(&mut self.neighbours);
        self.resolutions.clear();
        for message in messages {
            self.update_neighbour(message);
        }
        if self.neighbours == before {
            self.neighbours = before;
        }
    }

    fn update_neighbour(&mut self, message: &NeighbourMessage) {
        let Some(key) = self.neighbour_key(message) else {
            return;
        };
        let known = self.neighbours.get(&key).copied();
        let (resolution, neighbour) = match message.header.state {
            NeighbourState::Stale => (Resolution::Stale, usable(message)),
            NeighbourState::Reachable
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp => (Resolution::Fresh, usable(message)),
            NeighbourState::Failed => (Resolution::Failed, Some(Neighbour::Failed)),
            // Asked again: what failed stays so until it answers, or every retry would be a change of the view.
            NeighbourState::Incomplete => (
                Resolution::Asked,
                known.filter(|known| *known == Neighbour::Failed),
            ),
            _ => (Resolution::Unknown, None),
        };
        self.resolutions.insert(key, resolution);
        if neighbour == known {
            return;
        }
        let neighbours = Arc::make_mut(&mut self.neighbours);
        match neighbour {
            Some(neighbour) => neighbours.insert(key, neighbour),
            None => neighbours.remove(&key),
        };
    }

    fn remove_neighbour(&mut self, message: &NeighbourMessage) {
        let Some(key) = self.neighbour_key(message) else {
            return;
        };
        self.resolutions.remove(&key);
        if self.neighbours.contains_key(&key) {
            Arc::make_mut(&mut self.neighbours).remove(&key);
        }
    }

    fn neighbour_key(&self, message: &NeighbourMessage) -> Option<NeighbourKey> {
        if message.header.flags.contains(NeighbourFlags::Proxy) {
            return None;
        }
        let egress = *self.egress.get(&message.header.ifindex)?;
        let ip = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    Some(IpAddr::from(*v4))
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    Some(IpAddr::from(*v6))
                }
                _ => None,
            })?;
        Some((egress, ip))
    }

    /// None for addresses of other interfaces and for those the kernel does not answer for (yet).
    fn address(&self, message: &AddressMessage) -> Option<Address> {
        let egress = self.egress_of(message.header.index);
        if egress.is_none() && self.loopback != Some(message.header.index) {
            return None;
        }
        let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Flags(wide) => flags = *wide,
                // On a point-to-point link the address is the peer's and local is ours; else they are the same.
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                _ => {}
            }
        }
        // An optimistic address (RFC 4429) is tentative and in use.
        if flags.intersects(unusable) && !flags.contains(AddressFlags::Optimistic) {
            return None;
        }
        Some(Address {
            ip: local.or(address)?,
            prefix_length: message.header.prefix_len,
            egress,
            global: matches!(
                message.header.scope,
                AddressScope::Universe | AddressScope::Site | AddressScope::Other(_)
            ),
        })
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: MacAddress::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = mac(bytes).unwrap_or_default(),
            _ => {}
        }
    }
    link
}

/// Parent and tag of an 802.1Q interface; 802.1ad is not forwarded.
fn vlan(message: &LinkMessage) -> Option<(u32, u16)> {
    let (mut parent, mut is_vlan, mut tag) = (None, false, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => is_vlan = *kind == InfoKind::Vlan,
                        LinkInfo::Data(InfoData::Vlan(data)) => tag = vlan_tag(data),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    is_vlan.then_some(())?;
    Some((parent?, tag?))
}

/// Parent of an interface that has nothing but a MAC of its own.
fn macvlan(message: &LinkMessage) -> Option<u32> {
    let is_macvlan = message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::MacVlan)),
        _ => false,
    });
    let mut attributes = message.attributes.iter();
    attributes
        .find_map(|attribute| match attribute {
            LinkAttribute::Link(index) => Some(*index),
            _ => None,
        })
        .filter(|_| is_macvlan)
}

fn vlan_tag(data: &[InfoVlan]) -> Option<u16> {
    let is_8021q = data.iter().all(|info| match info {
        InfoVlan::Protocol(protocol) => *protocol == VlanProtocol::Ieee8021Q,
        _ => true,
    });
    let tag = data.iter().find_map(|info| match info {
        InfoVlan::Id(tag) => Some(*tag),
        _ => None,
    });
    tag.filter(|_| is_8021q)
}

fn usable(message: &NeighbourMessage) -> Option<Neighbour> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes).map(Neighbour::Usable),
            _ => None,
        })
}

fn mac(bytes: &[u8]) -> Option<MacAddress> {
    bytes.try_into().ok().map(MacAddress)
}

#[cfg(test)]
mod tests;
