//! The rules of nftables by which scenarios mark packets, as rules of the classifier.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use pollux_engine::service::MarkRule;
use pollux_engine::wire::protocol;

use super::command::Unsupported;

/// Reads the one rule of a line like `nft 'add table …; add rule ip t p ip daddr 203.0.113.0/24 tcp dport 80 meta mark set
/// 7'`. Ports in braces must be next to each other or one: a rule of the classifier has a range.
///
/// # Errors
/// What it cannot read.
pub fn mark_rule(line: &str) -> Result<MarkRule, Unsupported> {
    let unknown = |what: &str| Unsupported(format!("nft: {what}"));
    let rule = line
        .trim_end_matches('\'')
        .rsplit_once("add rule ")
        .map(|(_, rule)| rule)
        .ok_or_else(|| unknown(line))?;
    let text = rule.replace(", ", ",").replace(['{', '}'], "");
    let mut words = text.split_whitespace().skip(3);
    let mut read = MarkRule::any(0);
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| unknown(rule));
        match word {
            "ip" | "ip6" => {
                let side = next()?;
                let network = network(next()?).ok_or_else(|| unknown(rule))?;
                match side {
                    "saddr" => read.source = Some(network),
                    "daddr" => read.destination = Some(network),
                    other => return Err(unknown(other)),
                }
            }
            "tcp" | "udp" | "sctp" => {
                read.protocol = Some(match word {
                    "tcp" => protocol::TCP,
                    "udp" => protocol::UDP,
                    _ => protocol::SCTP,
                });
                let side = next()?;
                let ports = ports(next()?).ok_or_else(|| unknown(rule))?;
                match side {
                    "sport" => read.source_ports = ports,
                    "dport" => read.destination_ports = ports,
                    other => return Err(unknown(other)),
                }
            }
            "meta" => match next()? {
                "mark" if next()? == "set" => {
                    read.mark = next()?.parse().map_err(|_| unknown(rule))?;
                }
                "l4proto" => {
                    read.protocol = Some(match next()? {
                        "tcp" => protocol::TCP,
                        "udp" => protocol::UDP,
                        "sctp" => protocol::SCTP,
                        other => return Err(unknown(other)),
                    });
                }
                other => return Err(unknown(other)),
            },
            "counter" => {}
            other => return Err(unknown(other)),
        }
    }
    if read.mark == 0 {
        return Err(unknown(rule));
    }
    Ok(read)
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let Some((address, length)) = text.split_once('/') else {
        let address: IpAddr = text.parse().ok()?;
        return Some((address, if address.is_ipv4() { 32 } else { 128 }));
    };
    Some((address.parse().ok()?, length.parse().ok()?))
}

/// `80`, `80-90`, and `80,443` as the range from the first to the last: scenarios send to no port in between.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let numbers = text
        .split([',', '-'])
        .map(|number| number.parse::<u16>().ok())
        .collect::<Option<Vec<_>>>()?;
    Some(*numbers.iter().min()?..=*numbers.iter().max()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_traces_are_read() {
        let line = "nft 'add table ip t; add chain ip t p { type filter hook prerouting priority -150; }; \
                    add rule ip t p ip daddr 203.0.113.0/24 tcp dport {80, 443} meta mark set 7'";
        let expected = MarkRule {
            destination: Some(("203.0.113.0".parse().unwrap(), 24)),
            protocol: Some(protocol::TCP),
            destination_ports: 80..=443,
            ..MarkRule::any(7)
        };
        assert_eq!(mark_rule(line), Ok(expected));
        assert!(mark_rule("nft 'add rule ip t p ct state new counter meta mark set 7'").is_err());
    }
}
