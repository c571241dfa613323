//! Of rules that differ in nothing but ports: the first that a packet's two ports match.
//!
//! Destination ports are cut into intervals where a rule begins or ends, with a tree of nodes over them. A rule is kept at
//! the nodes that together are its ports, two of a level at most. Each node has source ports cut the same way, and for
//! each piece the first of its rules. A packet is looked up from its interval's leaf to the root: 17 nodes at most, as
//! there are 65536 ports, each searched by halves, however many rules there are. Rules take `n log n` of memory, so no
//! overlap of their ranges makes a table that does not fit.

use std::collections::BTreeMap;

use super::MarkRule;

/// What a rule gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marked {
    /// The place of the rule among all.
    pub place: u32,
    /// Its mark.
    pub mark: u32,
}

/// Rules by destination port, then by source port.
#[derive(Debug, Clone)]
pub(super) struct PortTable {
    /// First destination port of each interval, rising from 0.
    starts: Box<[u16]>,
    /// Node 1 is the root, those above `n` are `2n` and `2n + 1`; leaves begin at `starts.len()`.
    nodes: Box<[SourcePorts]>,
}

/// The first rule for each source port: from this port on, until the next entry.
#[derive(Debug, Clone, Default)]
struct SourcePorts(Box<[(u16, Option<Marked>)]>);

impl PortTable {
    /// Compiles rules, each with its place.
    pub fn new(rules: &[(u32, &MarkRule)]) -> Self {
        let ends = rules.iter().flat_map(|(_, rule)| {
            let (first, last) = (rule.destination_ports.start(), rule.destination_ports.end());
            [Some(*first), last.checked_add(1)]
        });
        let mut starts: Vec<u16> = ends.flatten().chain([0]).collect();
        starts.sort_unstable();
        starts.dedup();
        let leaves = starts.len();
        let mut kept: Vec<Vec<(u32, &MarkRule)>> = vec![Vec::new(); 2 * leaves];
        for rule in rules {
            let ports = &rule.1.destination_ports;
            let mut keep = |node: usize| {
                if let Some(rules) = kept.get_mut(node) {
                    rules.push(*rule);
                }
            };
            let mut from = leaves + starts.partition_point(|start| start < ports.start());
            let mut to = leaves + starts.partition_point(|start| start <= ports.end());
            while from < to {
                if from % 2 == 1 {
                    keep(from);
                    from += 1;
                }
                if to % 2 == 1 {
                    to -= 1;
                    keep(to);
                }
                (from, to) = (from / 2, to / 2);
            }
        }
        Self {
            starts: starts.into(),
            nodes: kept.iter().map(|rules| SourcePorts::new(rules)).collect(),
        }
    }

    /// The first rule for these ports.
    pub fn find(&self, source: u16, destination: u16) -> Option<Marked> {
        let after = self.starts.partition_point(|start| *start <= destination);
        let mut node = self.starts.len() + after.checked_sub(1)?;
        let mut found: Option<Marked> = None;
        while node > 0 {
            let here = self.nodes.get(node).and_then(|ports| ports.find(source));
            let both = [found, here].into_iter().flatten();
            found = both.min_by_key(|rule| rule.place);
            node /= 2;
        }
        found
    }
}

impl SourcePorts {
    fn new(rules: &[(u32, &MarkRule)]) -> Self {
        let mut changes: Vec<(u16, Marked, bool)> = Vec::new();
        for (place, rule) in rules {
            if rule.source_ports.is_empty() {
                continue;
            }
            let marked = Marked {
                place: *place,
                mark: rule.mark,
            };
            changes.push((*rule.source_ports.start(), marked, true));
            if let Some(after) = rule.source_ports.end().checked_add(1) {
                changes.push((after, marked, false));
            }
        }
        changes.sort_unstable_by_key(|(port, ..)| *port);
        let mut active: BTreeMap<u32, Marked> = BTreeMap::new();
        let mut pieces = Vec::new();
        for at_one_port in changes.chunk_by(|a, b| a.0 == b.0) {
            for (_, marked, begins) in at_one_port {
                if *begins {
                    active.insert(marked.place, *marked);
                } else {
                    active.remove(&marked.place);
                }
            }
            let first = active.first_key_value().map(|(_, marked)| *marked);
            pieces.extend(at_one_port.first().map(|(port, ..)| (*port, first)));
        }
        pieces.dedup_by_key(|(_, first)| *first);
        Self(pieces.into())
    }

    fn find(&self, port: u16) -> Option<Marked> {
        let after = self.0.partition_point(|(start, _)| *start <= port);
        self.0.get(after.checked_sub(1)?)?.1
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use proptest::prelude::*;

    use super::*;

    /// Comparisons of a packet, at most.
    fn cost(table: &PortTable) -> u32 {
        let halves = |length: usize| usize::BITS - length.leading_zeros();
        let path = |leaf: usize| {
            let nodes = std::iter::successors(Some(leaf), |node| Some(node / 2));
            let nodes = nodes.take_while(|node| *node > 0);
            nodes.map(|node| halves(table.nodes[node].0.len())).sum()
        };
        let leaves = table.starts.len();
        let dearest: u32 = (leaves..2 * leaves).map(path).max().unwrap();
        halves(leaves) + dearest
    }

    fn pieces(table: &PortTable) -> usize {
        table.nodes.iter().map(|ports| ports.0.len()).sum()
    }

    /// Rules of which each destination range overlaps all others, and each source port is another.
    fn nested(count: u16) -> Vec<MarkRule> {
        (0..count)
            .map(|number| MarkRule {
                source_ports: number..=number,
                destination_ports: number..=u16::MAX - number,
                ..MarkRule::any(u32::from(number) + 1)
            })
            .collect()
    }

    fn compiled(rules: &[MarkRule]) -> PortTable {
        PortTable::new(&(0..).zip(rules).collect::<Vec<_>>())
    }

    #[test]
    fn overlapping_rules_keep_cost_and_memory_within_bounds() {
        let (some, many) = (compiled(&nested(100)), compiled(&nested(10_000)));
        // A hundred times the rules are seven more levels, each searched by seven more halves at most.
        assert!(cost(&many) < 4 * cost(&some), "{}", cost(&many));
        assert!(cost(&many) <= 17 + 17 * 17, "{}", cost(&many));
        // Two nodes a level and two pieces a node.
        assert!(pieces(&many) <= 10_000 * 2 * 17 * 2, "{}", pieces(&many));
        for number in [0, 1, 4999, 9999] {
            let found = many.find(number, 30_000).map(|rule| rule.mark);
            assert_eq!(found, Some(u32::from(number) + 1));
        }
        assert_eq!(many.find(10_000, 30_000), None);
        assert_eq!(many.find(9_999, 9_998), None);
        assert_eq!(many.find(9_999, 9_999).map(|rule| rule.place), Some(9_999));
    }

    #[test]
    fn an_empty_range_matches_nothing() {
        #[allow(clippy::reversed_empty_ranges)] // that is what is tried
        let rules = [
            MarkRule {
                source_ports: 9..=3,
                ..MarkRule::any(1)
            },
            MarkRule {
                destination_ports: 9..=3,
                ..MarkRule::any(2)
            },
        ];
        let table = compiled(&rules);
        for port in [0, 3, 5, 9, u16::MAX] {
            assert_eq!(table.find(port, port), None);
        }
    }

    /// Ports close to each other and to both ends, so that ranges meet, nest and overlap.
    fn any_port() -> impl Strategy<Value = u16> {
        prop_oneof![0..12_u16, (u16::MAX - 3)..=u16::MAX]
    }

    fn any_ports() -> impl Strategy<Value = RangeInclusive<u16>> {
        (any_port(), any_port()).prop_map(|(a, b)| a.min(b)..=a.max(b))
    }

    proptest! {
        #[test]
        fn finds_the_first_of_rules_that_differ_in_ports(
            ranges in proptest::collection::vec((any_ports(), any_ports()), 0..40),
            packets in proptest::collection::vec((any_port(), any_port()), 1..60),
        ) {
            let rules: Vec<MarkRule> = (1..).zip(ranges).map(|(mark, (source_ports, destination_ports))| MarkRule {
                source_ports,
                destination_ports,
                ..MarkRule::any(mark)
            }).collect();
            let table = compiled(&rules);
            for (source, destination) in packets {
                let first = rules.iter().find(|rule| {
                    rule.source_ports.contains(&source) && rule.destination_ports.contains(&destination)
                });
                prop_assert_eq!(
                    table.find(source, destination).map(|rule| rule.mark),
                    first.map(|rule| rule.mark)
                );
            }
        }
    }
}
