//! Firewall marks: which mark a packet has, by rules of addresses, protocol, ports and ingress port. Linux has nftables in
//! front of IPVS for this; nothing is in front of DPDK.
//!
//! Rules are looked up, not tried one after the other. Those of one shape (how long the prefixes are, whether protocol and
//! ingress are said) share a hash table, so a packet costs a look into each shape's table, however many rules there are.
//! Configurations have a handful of shapes; nothing limits them but what prefix lengths there are. Shapes are in the order of their first rule, and once a rule has matched,
//! shapes whose rules all come later are not looked at. Within a table entry, ports are looked up in a tree that is
//! searched by halves. (Tuple space search: Srinivasan, Suri, Varghese, SIGCOMM 1999.)

use std::net::IpAddr;
use std::ops::RangeInclusive;

use hashbrown::HashMap;

use super::port_table::{Marked, PortTable};
use crate::connection::{Family, FlowKey};

/// Packets of these get the mark. What is not said matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MarkRule {
    /// Source network: an address and the length of the prefix.
    pub source: Option<(IpAddr, u8)>,
    /// Destination network.
    pub destination: Option<(IpAddr, u8)>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Source ports, host byte order.
    pub source_ports: RangeInclusive<u16>,
    /// Destination ports, host byte order.
    pub destination_ports: RangeInclusive<u16>,
    /// Number of the port the packet came in by.
    pub ingress: Option<u16>,
    /// The mark, not 0.
    pub mark: u32,
}

impl MarkRule {
    /// A rule that matches every packet.
    pub fn any(mark: u32) -> Self {
        Self {
            source: None,
            destination: None,
            protocol: None,
            source_ports: 0..=u16::MAX,
            destination_ports: 0..=u16::MAX,
            ingress: None,
            mark,
        }
    }

    /// The families that it can match: one when it names an address, none when it names addresses of both.
    fn families(&self) -> impl Iterator<Item = Family> {
        let of = |network: &Option<(IpAddr, u8)>| network.map(|(address, _)| address.is_ipv4());
        let (source, destination) = (of(&self.source), of(&self.destination));
        [Family::V4, Family::V6].into_iter().filter(move |family| {
            let is_v4 = *family == Family::V4;
            source.is_none_or(|v4| v4 == is_v4) && destination.is_none_or(|v4| v4 == is_v4)
        })
    }
}

/// What rules of one hash table have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    family: Family,
    source_length: u8,
    destination_length: u8,
    has_protocol: bool,
    has_ingress: bool,
}

/// What a rule says of a packet, ports apart: as far as the shape has it, the rest is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Tuple {
    source: u128,
    destination: u128,
    protocol: u8,
    ingress: u16,
}

#[derive(Debug, Clone)]
struct TupleTable {
    shape: Shape,
    /// Place of its first rule.
    first: u32,
    tuples: HashMap<Tuple, PortTable>,
}

/// All rules, compiled. The first that matches decides.
#[derive(Debug, Clone, Default)]
pub struct Classifier {
    tables: Vec<TupleTable>,
}

impl Classifier {
    /// Compiles rules.
    pub fn new(rules: &[MarkRule]) -> Self {
        type Collected<'r> = HashMap<Tuple, Vec<(u32, &'r MarkRule)>>;
        let mut shapes: Vec<(Shape, u32, Collected<'_>)> = Vec::new();
        for (place, rule) in (0_u32..).zip(rules) {
            for family in rule.families() {
                let shape = Shape::of(rule, family);
                let at = shapes.iter().position(|(known, ..)| *known == shape);
                let at = at.unwrap_or_else(|| {
                    shapes.push((shape, place, HashMap::new()));
                    shapes.len() - 1
                });
                if let Some((_, _, tuples)) = shapes.get_mut(at) {
                    tuples
                        .entry(shape.tuple_of_rule(rule))
                        .or_default()
                        .push((place, rule));
                }
            }
        }
        let tables = shapes.into_iter().map(|(shape, first, tuples)| TupleTable {
            shape,
            first,
            tuples: tuples
                .into_iter()
                .map(|(tuple, rules)| (tuple, PortTable::new(&rules)))
                .collect(),
        });
        Self {
            tables: tables.collect(),
        }
    }

    /// The mark of a packet of this flow that came in by this port; 0 when no rule matches.
    pub fn mark(&self, key: &FlowKey, ingress: u16) -> u32 {
        let mut found: Option<Marked> = None;
        for table in &self.tables {
            if found.is_some_and(|found| found.place < table.first) {
                break;
            }
            let better = table.find(key, ingress).filter(|rule| {
                let place = rule.place;
                found.is_none_or(|found| place < found.place)
            });
            found = better.or(found);
        }
        found.map_or(0, |rule| rule.mark)
    }

    /// How many hash tables a packet is looked up in at most.
    pub fn shapes(&self) -> usize {
        self.tables.len()
    }
}

impl Shape {
    fn of(rule: &MarkRule, family: Family) -> Self {
        let length = |network: &Option<(IpAddr, u8)>| network.map_or(0, |(_, length)| length);
        Self {
            family,
            source_length: length(&rule.source),
            destination_length: length(&rule.destination),
            has_protocol: rule.protocol.is_some(),
            has_ingress: rule.ingress.is_some(),
        }
    }

    fn tuple_of_rule(&self, rule: &MarkRule) -> Tuple {
        let bits = |network: &Option<(IpAddr, u8)>| match network {
            Some((IpAddr::V4(address), _)) => u128::from(address.to_bits()),
            Some((IpAddr::V6(address), _)) => address.to_bits(),
            None => 0,
        };
        self.tuple(
            bits(&rule.source),
            bits(&rule.destination),
            rule.protocol.unwrap_or(0),
            rule.ingress.unwrap_or(0),
        )
    }

    fn tuple(&self, source: u128, destination: u128, protocol: u8, ingress: u16) -> Tuple {
        Tuple {
            source: source & self.mask(self.source_length),
            destination: destination & self.mask(self.destination_length),
            protocol: if self.has_protocol { protocol } else { 0 },
            ingress: if self.has_ingress { ingress } else { 0 },
        }
    }

    fn mask(&self, length: u8) -> u128 {
        let bits: u32 = match self.family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let host_bits = bits.saturating_sub(length.into());
        u128::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

impl TupleTable {
    fn find(&self, key: &FlowKey, ingress: u16) -> Option<Marked> {
        if key.family != self.shape.family {
            return None;
        }
        let [a, b, c, d] = key.addresses;
        let (source, destination) = match key.family {
            Family::V4 => (u128::from(a >> 32), u128::from(a & 0xffff_ffff)),
            Family::V6 => (
                u128::from(a) << 64 | u128::from(b),
                u128::from(c) << 64 | u128::from(d),
            ),
        };
        let tuple = self.shape.tuple(source, destination, key.protocol, ingress);
        #[allow(clippy::cast_possible_truncation)] // the upper half is meant
        let source_port = (key.ports >> 16) as u16;
        let ports = self.tuples.get(&tuple)?;
        ports.find(source_port, key.destination_port())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use proptest::prelude::*;

    use super::*;
    use crate::wire::protocol::{TCP, UDP};

    fn key(protocol: u8, source: &str, destination: &str) -> FlowKey {
        let (source, destination): (SocketAddr, SocketAddr) =
            (source.parse().unwrap(), destination.parse().unwrap());
        FlowKey::from_sockets(protocol, source, destination).unwrap()
    }

    fn network(text: &str) -> Option<(IpAddr, u8)> {
        let (address, length) = text.split_once('/').unwrap();
        Some((address.parse().unwrap(), length.parse().unwrap()))
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = [
            MarkRule {
                destination: network("203.0.113.0/24"),
                protocol: Some(TCP),
                destination_ports: 80..=80,
                ..MarkRule::any(1)
            },
            MarkRule {
                destination: network("203.0.113.128/25"),
                ..MarkRule::any(2)
            },
            MarkRule {
                source: network("2001:db8::/32"),
                ingress: Some(1),
                ..MarkRule::any(3)
            },
            MarkRule {
                protocol: Some(UDP),
                source_ports: 1000..=2000,
                ..MarkRule::any(4)
            },
        ];
        let classifier = Classifier::new(&rules);
        for (protocol, source, destination, ingress, mark) in [
            (TCP, "192.0.2.1:5", "203.0.113.200:80", 0, 1),
            (TCP, "192.0.2.1:5", "203.0.113.200:81", 0, 2),
            (UDP, "192.0.2.1:1500", "203.0.113.200:80", 0, 2),
            (UDP, "192.0.2.1:1500", "203.0.113.100:80", 0, 4),
            (UDP, "192.0.2.1:2001", "203.0.113.100:80", 0, 0),
            (TCP, "[2001:db8::1]:1", "[2001:db9::1]:1", 1, 3),
            (TCP, "[2001:db8::1]:1", "[2001:db9::1]:1", 0, 0),
            (UDP, "[2001:db9::1]:1000", "[2001:db9::1]:1", 0, 4),
        ] {
            let key = key(protocol, source, destination);
            assert_eq!(classifier.mark(&key, ingress), mark, "{key:?}");
        }
        assert_eq!(Classifier::new(&[]).mark(&FlowKey::NONE, 0), 0);
    }

    #[test]
    fn ten_thousand_rules_are_a_look_or_two() {
        let rules: Vec<MarkRule> = (0..10_000_u32)
            .map(|number| MarkRule {
                destination: Some((Ipv4Addr::from_bits(0x0a00_0000 + number).into(), 32)),
                protocol: (number % 2 == 0).then_some(TCP),
                ..MarkRule::any(number + 1)
            })
            .collect();
        let classifier = Classifier::new(&rules);
        // A shape for those with protocol, one for those without.
        assert_eq!(classifier.shapes(), 2);
        for number in [0, 1, 2, 5000, 9999] {
            let destination = Ipv4Addr::from_bits(0x0a00_0000 + number);
            let key = key(TCP, "192.0.2.1:1", &format!("{destination}:80"));
            assert_eq!(classifier.mark(&key, 0), number + 1);
        }
    }

    fn linear(rules: &[MarkRule], key: &FlowKey, ingress: u16) -> u32 {
        let within = |network: Option<(IpAddr, u8)>, address: IpAddr| match (network, address) {
            (None, _) => true,
            (Some((IpAddr::V4(base), length)), IpAddr::V4(address)) => {
                (0..length).all(|bit| (base.to_bits() ^ address.to_bits()) << bit >> 31 == 0)
            }
            (Some((IpAddr::V6(base), length)), IpAddr::V6(address)) => {
                (0..length).all(|bit| (base.to_bits() ^ address.to_bits()) << bit >> 127 == 0)
            }
            _ => false,
        };
        let matches = |rule: &&MarkRule| {
            within(rule.source, key.source().ip())
                && within(rule.destination, key.destination_address())
                && rule
                    .protocol
                    .is_none_or(|protocol| protocol == key.protocol)
                && rule.source_ports.contains(&key.source().port())
                && rule.destination_ports.contains(&key.destination_port())
                && rule.ingress.is_none_or(|port| port == ingress)
        };
        rules.iter().find(matches).map_or(0, |rule| rule.mark)
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0..8_u32).prop_map(|low| Ipv4Addr::from_bits(0xc000_0200 | low << 28 | low).into()),
            (0..8_u128)
                .prop_map(
                    |low| std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | low << 64 | low).into()
                ),
        ]
    }

    fn any_network() -> impl Strategy<Value = Option<(IpAddr, u8)>> {
        proptest::option::of((any_address(), 0..=128_u8).prop_map(|(address, length)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            (address, length.min(most))
        }))
    }

    fn any_ports() -> impl Strategy<Value = RangeInclusive<u16>> {
        prop_oneof![
            Just(0..=u16::MAX),
            (0..6_u16, 0..6_u16).prop_map(|(a, b)| a.min(b)..=a.max(b)),
            Just(5..=u16::MAX),
        ]
    }

    prop_compose! {
        fn any_rule()(
            source in any_network(),
            destination in any_network(),
            protocol in proptest::option::of(prop_oneof![Just(TCP), Just(UDP)]),
            source_ports in any_ports(),
            destination_ports in any_ports(),
            ingress in proptest::option::of(0..2_u16),
            mark in 1..100_u32,
        ) -> MarkRule {
            MarkRule { source, destination, protocol, source_ports, destination_ports, ingress, mark }
        }
    }

    proptest! {
        #[test]
        fn finds_what_trying_one_after_the_other_finds(
            rules in proptest::collection::vec(any_rule(), 0..40),
            packets in proptest::collection::vec(
                (any_address(), any_address(), 0..8_u16, 0..8_u16, any::<bool>(), 0..2_u16), 1..40),
        ) {
            let classifier = Classifier::new(&rules);
            for (source, destination, source_port, destination_port, tcp, ingress) in packets {
                let protocol = if tcp { TCP } else { UDP };
                let key = FlowKey::from_sockets(
                    protocol,
                    SocketAddr::new(source, source_port),
                    SocketAddr::new(destination, destination_port),
                );
                if let Some(key) = key {
                    prop_assert_eq!(classifier.mark(&key, ingress), linear(&rules, &key, ingress));
                }
            }
        }
    }
}
