//! The rules of nftables by which scenarios mark packets, as rules of the classifier.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use pollux_engine::service::MarkRule;
use pollux_engine::wire::protocol;

use super::command::Unsupported;
use super::topology::port;
use super::trace::Wire;

/// Reads the rules of a line like `nft 'add table …; add rule ip t p ip daddr 203.0.113.0/24 tcp dport {80, 443} meta mark
/// set 7'`, in order. One of a set of addresses or ports is several rules of the classifier, which have a range.
///
/// # Errors
/// What it cannot read.
pub fn mark_rules(line: &str) -> Result<Vec<MarkRule>, Unsupported> {
    let mut parts = line.trim_end_matches('\'').split("add rule ");
    parts.next();
    let rules: Vec<_> = parts.map(read).collect::<Result<_, _>>()?;
    if rules.is_empty() {
        return Err(Unsupported(format!("nft: {line}")));
    }
    Ok(rules.concat())
}

/// What a rule says, a set in alternatives.
struct Said {
    mark: u32,
    protocols: Vec<Option<u8>>,
    ingress: Option<u16>,
    networks: [Vec<Option<(IpAddr, u8)>>; 2],
    ports: [Vec<RangeInclusive<u16>>; 2],
}

impl Said {
    fn rules(&self) -> Vec<MarkRule> {
        let mut rules = vec![MarkRule {
            ingress: self.ingress,
            ..MarkRule::any(self.mark)
        }];
        rules = each(&rules, &self.protocols, |rule, protocol| {
            rule.protocol = *protocol
        });
        let [sources, destinations] = &self.networks;
        let [source_ports, destination_ports] = &self.ports;
        rules = each(&rules, sources, |rule, network| rule.source = *network);
        rules = each(&rules, destinations, |rule, network| {
            rule.destination = *network
        });
        rules = each(&rules, source_ports, |rule, ports| {
            rule.source_ports = ports.clone()
        });
        each(&rules, destination_ports, |rule, ports| {
            rule.destination_ports = ports.clone()
        })
    }
}

/// Every rule with every alternative.
fn each<T>(
    rules: &[MarkRule],
    alternatives: &[T],
    set: impl Fn(&mut MarkRule, &T),
) -> Vec<MarkRule> {
    let pairs = rules
        .iter()
        .flat_map(|rule| alternatives.iter().map(move |one| (rule, one)));
    pairs
        .map(|(rule, one)| {
            let mut rule = rule.clone();
            set(&mut rule, one);
            rule
        })
        .collect()
}

/// `ip t p ip daddr … meta mark set 7`: table and chain, then what a packet must be.
fn read(rule: &str) -> Result<Vec<MarkRule>, Unsupported> {
    let unknown = |what: &str| Unsupported(format!("nft: {what}"));
    let rule = rule.split(';').next().unwrap_or_default();
    let words = words(rule);
    let mut words = words.iter().map(String::as_str).skip(3);
    let any = MarkRule::any(0);
    let mut said = Said {
        mark: 0,
        protocols: vec![None],
        ingress: None,
        networks: [vec![None], vec![None]],
        ports: [vec![any.source_ports], vec![any.destination_ports]],
    };
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| unknown(rule));
        match word {
            "ip" | "ip6" => {
                let what = next()?;
                if matches!(what, "protocol" | "nexthdr") {
                    said.protocols = protocols(next()?).ok_or_else(|| unknown(rule))?;
                    continue;
                }
                let side = side(what, "addr").ok_or_else(|| unknown(rule))?;
                let networks = set(next()?, network).ok_or_else(|| unknown(rule))?;
                said.networks[side] = networks.into_iter().map(Some).collect();
            }
            "tcp" | "udp" | "sctp" => {
                said.protocols = vec![protocol(word)];
                let side = side(next()?, "port").ok_or_else(|| unknown(rule))?;
                said.ports[side] = set(next()?, ports).ok_or_else(|| unknown(rule))?;
            }
            "meta" => match next()? {
                "mark" if next()? == "set" => {
                    said.mark = number(next()?).ok_or_else(|| unknown(rule))?;
                }
                "l4proto" => {
                    said.protocols = protocols(next()?).ok_or_else(|| unknown(rule))?;
                }
                "iifname" | "iif" => {
                    said.ingress = Some(device(next()?).ok_or_else(|| unknown(rule))?)
                }
                other => return Err(unknown(other)),
            },
            "mark" if next()? == "set" => {
                said.mark = number(next()?).ok_or_else(|| unknown(rule))?;
            }
            "th" => {
                let side = side(next()?, "port").ok_or_else(|| unknown(rule))?;
                said.ports[side] = set(next()?, ports).ok_or_else(|| unknown(rule))?;
            }
            "iifname" | "iif" => said.ingress = Some(device(next()?).ok_or_else(|| unknown(rule))?),
            "counter" | "accept" => {}
            other => return Err(unknown(other)),
        }
    }
    if said.mark == 0 {
        return Err(unknown(rule));
    }
    Ok(said.rules())
}

/// Words, of which a set in braces is one.
fn words(rule: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_in_set = false;
    for word in rule
        .replace('{', " { ")
        .replace('}', " } ")
        .replace(',', " ")
        .split_whitespace()
    {
        match word {
            "{" => {
                is_in_set = true;
                words.push(String::new());
            }
            "}" => is_in_set = false,
            _ if is_in_set => {
                let set = words.last_mut().expect("the set was begun");
                set.push_str(word);
                set.push(',');
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// Which side `saddr` or `dport` is of.
fn side(word: &str, of: &str) -> Option<usize> {
    match word.strip_suffix(of)? {
        "s" => Some(0),
        "d" => Some(1),
        _ => None,
    }
}

/// One of a name or a number, or of a set of them.
fn protocols(text: &str) -> Option<Vec<Option<u8>>> {
    set(text, |name| Some(Some(protocol(name)?)))
}

/// `7` or `0x7`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn device(name: &str) -> Option<u16> {
    match name.trim_matches('"') {
        "cl0" => Some(port(Wire::Cl)),
        "rs0" => Some(port(Wire::Rs)),
        _ => None,
    }
}

fn protocol(name: &str) -> Option<u8> {
    match name {
        "icmp" => Some(protocol::ICMP),
        "icmpv6" | "ipv6-icmp" => Some(protocol::ICMPV6),
        "tcp" => Some(protocol::TCP),
        "udp" => Some(protocol::UDP),
        "sctp" => Some(protocol::SCTP),
        other => other.parse().ok(),
    }
}

fn set<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let elements = text.split(',').filter(|element| !element.is_empty());
    elements.map(read).collect()
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let Some((address, length)) = text.split_once('/') else {
        let address: IpAddr = text.parse().ok()?;
        return Some((address, if address.is_ipv4() { 32 } else { 128 }));
    };
    Some((address.parse().ok()?, length.parse().ok()?))
}

/// `80` or `80-90`.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_traces_are_read() {
        let line = "nft 'add table ip t; add chain ip t p { type filter hook prerouting priority -150; }; \
                    add rule ip t p ip daddr 203.0.113.0/24 tcp dport {80, 443} meta mark set 7'";
        let expected = |port| MarkRule {
            destination: Some(("203.0.113.0".parse().unwrap(), 24)),
            protocol: Some(protocol::TCP),
            destination_ports: port..=port,
            ..MarkRule::any(7)
        };
        assert_eq!(mark_rules(line), Ok(vec![expected(80), expected(443)]));
        assert!(mark_rules("nft 'add rule ip t p ct state new counter meta mark set 7'").is_err());
        assert!(mark_rules("nft 'add table ip t'").is_err());
    }

    #[test]
    fn several_rules_are_read_in_order() {
        let line = "nft 'add rule ip t p udp dport 53-55 meta mark set 1; \
                    add rule ip t p ip saddr { 198.51.100.7, 198.18.0.0/16 } meta mark set 2'";
        let rules = mark_rules(line).unwrap();
        let marks: Vec<u32> = rules.iter().map(|rule| rule.mark).collect();
        assert_eq!(marks, [1, 2, 2]);
        assert_eq!(rules[0].destination_ports, 53..=55);
        assert_eq!(rules[1].source, Some(("198.51.100.7".parse().unwrap(), 32)));
        let line = "nft add rule ip t p iifname \"cl0\" meta l4proto { tcp, 17 } th dport 69 meta mark set 0x10";
        let more = mark_rules(line).unwrap();
        let of: Vec<_> = more
            .iter()
            .map(|rule| (rule.protocol, rule.ingress, rule.mark))
            .collect();
        assert_eq!(of, [(Some(6), Some(0), 16), (Some(17), Some(0), 16)]);
        assert_eq!(rules[2].source, Some(("198.18.0.0".parse().unwrap(), 16)));
    }
}
