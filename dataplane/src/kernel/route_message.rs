//! From the kernel's route messages to the one route per prefix that it would use (RFC 4291 and `fib_trie.c` order).
//!
//! Mirrored are the tables `local` and `main`, which Linux itself searches as one tree as long as no policy rule is
//! added. Left out are routes that only some packets take (TOS, source prefix) and cached exceptions.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteType, RouteVia,
};

use super::view::{Discard, Egress, NextHop, Route, RouteTarget};

/// A table that is mirrored; the smaller one is searched first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Local,
    Main,
}

impl Table {
    fn from_number(number: u32) -> Option<Self> {
        match number {
            255 => Some(Self::Local),
            254 => Some(Self::Main),
            _ => None,
        }
    }
}

/// The way out that an interface is, by the kernel's number; none: it is none of ours.
type EgressOf<'e> = &'e dyn Fn(u32) -> Option<Egress>;

/// Which of several routes for the same prefix the kernel uses: the smallest.
type Preference = (Table, u32);

/// A next hop as the kernel has it: it may leave by an interface that is not ours, or in a way the engine cannot do.
enum KernelHop {
    Ours(NextHop),
    Foreign,
}

/// Of the routes of a dump, the one the kernel would use for each prefix.
#[derive(Default)]
pub(super) struct BestRoutes {
    best: BTreeMap<IpNet, (Preference, Route)>,
}

impl BestRoutes {
    /// Takes one route of the dump.
    pub(super) fn add(&mut self, message: &RouteMessage, egress: EgressOf<'_>) {
        let Some((prefix, preference, route)) = read(message, egress) else {
            return;
        };
        match self.best.entry(prefix) {
            Entry::Vacant(slot) => {
                slot.insert((preference, route));
            }
            Entry::Occupied(mut slot) => {
                // On a tie the first stays: the kernel dumps in the order it searches.
                if preference < slot.get().0 {
                    slot.insert((preference, route));
                }
            }
        }
    }

    /// The routes, when all of the dump has been added.
    pub(super) fn finish(self) -> BTreeMap<IpNet, Route> {
        let best = self.best.into_iter();
        best.map(|(prefix, (_, route))| (prefix, route)).collect()
    }
}

/// Whether a route event can change what [`BestRoutes`] says.
pub(super) fn is_relevant(message: &RouteMessage) -> bool {
    let is_cached = message.header.flags.contains(RouteFlags::Cloned);
    table(message).is_some() && !is_cached
}

fn read(message: &RouteMessage, egress: EgressOf<'_>) -> Option<(IpNet, Preference, Route)> {
    let header = &message.header;
    if !is_relevant(message) || header.tos != 0 || header.source_prefix_length != 0 {
        return None;
    }
    let target = match header.kind {
        RouteType::Unicast => unicast_target(message, egress)?,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => {
            RouteTarget::Local
        }
        RouteType::BlackHole => RouteTarget::Discard(Discard::Silently),
        RouteType::Unreachable | RouteType::Throw => RouteTarget::Discard(Discard::Unreachable),
        RouteType::Prohibit => RouteTarget::Discard(Discard::Prohibited),
        _ => return None,
    };
    let find = |pick: fn(&RouteAttribute) -> Option<u32>| message.attributes.iter().find_map(pick);
    let metric = find(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let mtu = find(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) => Some(*mtu),
            _ => None,
        }),
        _ => None,
    });
    let route = Route {
        target,
        preferred_source: message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::PrefSource(source) => ip(source),
                _ => None,
            }),
        mtu,
    };
    Some((
        prefix(message)?,
        (table(message)?, metric.unwrap_or(0)),
        route,
    ))
}

fn table(message: &RouteMessage) -> Option<Table> {
    let wide = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(number) => Some(*number),
            _ => None,
        });
    Table::from_number(wide.unwrap_or_else(|| u32::from(message.header.table)))
}

fn prefix(message: &RouteMessage) -> Option<IpNet> {
    let destination = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(destination) => ip(destination),
            _ => None,
        });
    // A default route has no destination attribute.
    let address = match (destination, message.header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => IpAddr::from([0; 4]),
        (None, AddressFamily::Inet6) => IpAddr::from([0; 16]),
        (None, _) => return None,
    };
    IpNet::new(address, message.header.destination_prefix_length)
        .ok()
        .map(|prefix| prefix.trunc())
}

/// None when every next hop is dead, so that the next best route counts, as in the kernel.
fn unicast_target(message: &RouteMessage, egress: EgressOf<'_>) -> Option<RouteTarget> {
    let hops: Vec<KernelHop> = match multipath(&message.attributes) {
        Some(hops) => hops
            .iter()
            .filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead))
            .map(|hop| {
                let weight = u16::from(hop.hops) + 1;
                next_hop(hop.interface_index, weight, &hop.attributes, egress)
            })
            .collect(),
        None if message.header.flags.contains(RouteFlags::Dead) => Vec::new(),
        None => {
            let index = message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                });
            vec![next_hop(index.unwrap_or(0), 1, &message.attributes, egress)]
        }
    };
    if hops.is_empty() {
        return None;
    }
    let ours: Vec<NextHop> = hops
        .into_iter()
        .filter_map(|hop| match hop {
            KernelHop::Ours(hop) => Some(hop),
            KernelHop::Foreign => None,
        })
        .collect();
    Some(if ours.is_empty() {
        RouteTarget::OtherInterface
    } else {
        RouteTarget::Send(ours)
    })
}

fn multipath(attributes: &[RouteAttribute]) -> Option<&[RouteNextHop]> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops.as_slice()),
        _ => None,
    })
}

fn next_hop(
    interface: u32,
    weight: u16,
    attributes: &[RouteAttribute],
    egress: EgressOf<'_>,
) -> KernelHop {
    let mut gateway = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
            // A tunnel of the kernel's own (MPLS, SRv6): only the kernel can send by it.
            RouteAttribute::Encap(_) | RouteAttribute::EncapType(_) => return KernelHop::Foreign,
            _ => {}
        }
    }
    match egress(interface) {
        Some(egress) => KernelHop::Ours(NextHop {
            egress,
            gateway,
            weight,
        }),
        None => KernelHop::Foreign,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::view::TapIndex;

    use std::collections::HashMap;

    const TAP0: u32 = 10;
    const TAP1: u32 = 11;
    const ETH0: u32 = 2;

    fn best_routes(messages: &[RouteMessage]) -> BTreeMap<IpNet, Route> {
        let egress = [(TAP0, 0), (TAP1, 1)].map(|(index, tap)| {
            let tap = TapIndex::new(tap);
            (index, Egress { tap, vlan: None })
        });
        let mut best = BestRoutes::default();
        for message in messages {
            best.add(message, &|index| HashMap::from(egress).get(&index).copied());
        }
        best.finish()
    }

    fn message(to: &str, kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let prefix: IpNet = to.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family = match prefix {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        message.header.destination_prefix_length = prefix.prefix_len();
        message.header.kind = kind;
        message.header.table = 254;
        message.attributes = attributes;
        if prefix.prefix_len() != 0 {
            let destination = RouteAddress::from(prefix.addr());
            message
                .attributes
                .push(RouteAttribute::Destination(destination));
        }
        message
    }

    fn gateway(address: &str) -> RouteAttribute {
        let address: IpAddr = address.parse().unwrap();
        RouteAttribute::Gateway(address.into())
    }

    fn one(message: RouteMessage) -> Option<Route> {
        let routes = best_routes(&[message]);
        assert!(routes.len() <= 1);
        routes.into_values().next()
    }

    fn hops(route: &Route) -> &[NextHop] {
        match &route.target {
            RouteTarget::Send(hops) => hops,
            other => panic!("no next hops but {other:?}"),
        }
    }

    #[test]
    fn a_default_route_has_the_prefix_of_its_family() {
        let attributes = vec![RouteAttribute::Oif(TAP0), gateway("192.0.2.254")];
        let v4 = message("0.0.0.0/0", RouteType::Unicast, attributes);
        let attributes = vec![RouteAttribute::Oif(TAP1), gateway("2001:db8::fe")];
        let v6 = message("::/0", RouteType::Unicast, attributes);
        let routes = best_routes(&[v4, v6]);
        let first = hops(&routes[&"0.0.0.0/0".parse().unwrap()])[0];
        assert_eq!(first.egress.tap, TapIndex::new(0));
        assert_eq!(first.gateway, Some("192.0.2.254".parse().unwrap()));
        assert!(routes.contains_key(&"::/0".parse().unwrap()));
    }

    #[test]
    fn an_ipv4_route_may_have_an_ipv6_gateway() {
        let via = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()));
        let attributes = vec![RouteAttribute::Oif(TAP0), via];
        let route = one(message("10.0.0.0/8", RouteType::Unicast, attributes)).unwrap();
        assert_eq!(hops(&route)[0].gateway, Some("fe80::1".parse().unwrap()));
    }

    #[test]
    fn the_lowest_metric_wins_and_local_goes_before_main() {
        let unicast = |interface, metric| {
            let attributes = vec![
                RouteAttribute::Oif(interface),
                RouteAttribute::Priority(metric),
            ];
            message("10.0.0.0/8", RouteType::Unicast, attributes)
        };
        let routes = [unicast(TAP0, 20), unicast(TAP1, 10), unicast(TAP0, 10)];
        let best = best_routes(&routes);
        let route = best.values().next().unwrap();
        assert_eq!(hops(route)[0].egress.tap, TapIndex::new(1));

        let mut local = message("10.0.0.0/8", RouteType::Local, Vec::new());
        local.header.table = 255;
        let best = best_routes(&[unicast(TAP0, 0), local]);
        assert_eq!(best.values().next().unwrap().target, RouteTarget::Local);
    }

    #[test]
    fn all_living_next_hops_of_a_multipath_route_are_taken() {
        let hop = |interface, hops, flags, via: &str| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = interface;
            hop.hops = hops;
            hop.flags = flags;
            hop.attributes = vec![gateway(via)];
            hop
        };
        let none = RouteNextHopFlags::empty();
        let paths = RouteAttribute::MultiPath(vec![
            hop(TAP0, 0, none, "192.0.2.1"),
            hop(TAP1, 4, none, "192.0.2.2"),
            hop(TAP1, 0, RouteNextHopFlags::Dead, "192.0.2.3"),
            hop(ETH0, 0, none, "192.0.2.4"),
        ]);
        let route = one(message("10.0.0.0/8", RouteType::Unicast, vec![paths])).unwrap();
        let weights: Vec<u16> = hops(&route).iter().map(|hop| hop.weight).collect();
        assert_eq!(weights, [1, 5]);
    }

    #[test]
    fn a_dead_route_makes_room_for_the_next_best() {
        let attributes = |metric| vec![RouteAttribute::Oif(TAP0), RouteAttribute::Priority(metric)];
        let mut dead = message("10.0.0.0/8", RouteType::Unicast, attributes(1));
        dead.header.flags = RouteFlags::Dead;
        assert_eq!(one(dead.clone()), None);
        let backup = message("10.0.0.0/8", RouteType::BlackHole, attributes(2));
        let best = best_routes(&[dead, backup]);
        let target = &best.values().next().unwrap().target;
        assert_eq!(*target, RouteTarget::Discard(Discard::Silently));
    }

    #[test]
    fn what_cannot_leave_by_a_tap_is_the_kernels() {
        let attributes = vec![RouteAttribute::Oif(ETH0), gateway("192.0.2.254")];
        let route = one(message("0.0.0.0/0", RouteType::Unicast, attributes)).unwrap();
        assert_eq!(route.target, RouteTarget::OtherInterface);
        let attributes = vec![RouteAttribute::Oif(TAP0), RouteAttribute::Encap(Vec::new())];
        let route = one(message("0.0.0.0/0", RouteType::Unicast, attributes)).unwrap();
        assert_eq!(route.target, RouteTarget::OtherInterface);
    }

    #[test]
    fn routes_for_some_packets_only_are_left_out() {
        let attributes = || vec![RouteAttribute::Oif(TAP0)];
        let mut tos = message("10.0.0.0/8", RouteType::Unicast, attributes());
        tos.header.tos = 8;
        let mut cached = message("10.0.0.0/8", RouteType::Unicast, attributes());
        cached.header.flags = RouteFlags::Cloned;
        let mut source = message("2001:db8::/32", RouteType::Unicast, attributes());
        source.header.source_prefix_length = 64;
        let mut other_table = message("10.0.0.0/8", RouteType::Unicast, attributes());
        other_table.attributes.push(RouteAttribute::Table(1000));
        let all = [tos, cached, source, other_table];
        assert!(best_routes(&all).is_empty());
    }

    #[test]
    fn source_and_mtu_of_a_route_are_kept() {
        let source: IpAddr = "198.51.100.1".parse().unwrap();
        let attributes = vec![
            RouteAttribute::Oif(TAP0),
            RouteAttribute::PrefSource(source.into()),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]),
        ];
        let route = one(message("10.0.0.0/8", RouteType::Unicast, attributes)).unwrap();
        assert_eq!(
            (route.preferred_source, route.mtu),
            (Some(source), Some(1400))
        );
    }
}
