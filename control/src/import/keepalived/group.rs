//! `virtual_server_group`: addresses, ranges of them and firewall marks that share their servers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::IpNet;
use pollux_api::Family;

use super::super::draft::Draft;
use super::statement::Statement;

/// The most addresses a range may have.
const ADDRESSES_MAX: usize = 4096;

/// What a virtual server is known by, but for its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An address and a port.
    Address(IpAddr, u16),
    /// A firewall mark, of a family if that was said.
    Mark(NonZeroU32, Option<Family>),
}

/// The groups by name.
pub type Groups = BTreeMap<String, Vec<Target>>;

/// Every group of a file.
pub fn read(statements: &[Statement], draft: &mut Draft) -> Groups {
    let mut groups = Groups::new();
    for statement in statements {
        if statement.keyword() != "virtual_server_group" {
            continue;
        }
        let name = statement.argument().unwrap_or_default().to_owned();
        let inner = statement.inner().iter();
        let targets = inner.flat_map(|line| match targets(line) {
            Some(targets) => targets,
            None => {
                let text = format!(
                    "group {name}: \"{}\" is no address, range of up to {ADDRESSES_MAX} addresses, or firewall mark: left out",
                    line.text()
                );
                draft.note(&line.place, text);
                Vec::new()
            }
        });
        let targets = targets.collect();
        groups.insert(name, targets);
    }
    groups
}

fn targets(line: &Statement) -> Option<Vec<Target>> {
    if line.keyword() == "fwmark" {
        let mark = line.argument()?.parse().ok()?;
        let family = match line.arguments().get(1).map(String::as_str) {
            Some("inet6") => Some(Family::Ipv6),
            Some("inet") => Some(Family::Ipv4),
            _ => None,
        };
        return Some(vec![Target::Mark(mark, family)]);
    }
    let port = match line.argument() {
        Some(port) => port.parse().ok()?,
        None => 0,
    };
    let addresses = range(line.keyword())?;
    Some(
        addresses
            .into_iter()
            .map(|address| Target::Address(address, port))
            .collect(),
    )
}

/// `ADDRESS`, `192.0.2.1-10`, `2001:db8::1-a`, `FIRST-LAST`, `NETWORK/LENGTH`.
fn range(text: &str) -> Option<Vec<IpAddr>> {
    if let Ok(address) = text.parse() {
        return Some(vec![address]);
    }
    if text.contains('/') {
        let network: IpNet = text.parse().ok()?;
        return count_up(network.network(), network.broadcast());
    }
    let (first, last) = text.split_once('-')?;
    let first: IpAddr = first.parse().ok()?;
    let last = match (last.parse(), first) {
        (Ok(last), _) => last,
        // The last part only, written as that of an address: decimal for IPv4, hexadecimal for IPv6.
        (Err(_), IpAddr::V4(first)) => {
            let [a, b, c, _] = first.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, last.parse().ok()?))
        }
        (Err(_), IpAddr::V6(first)) => {
            let part = u16::from_str_radix(last, 16).ok()?;
            IpAddr::V6(Ipv6Addr::from_bits(
                first.to_bits() >> 16 << 16 | u128::from(part),
            ))
        }
    };
    count_up(first, last)
}

fn count_up(first: IpAddr, last: IpAddr) -> Option<Vec<IpAddr>> {
    let (from, to) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits().into(), last.to_bits().into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits()),
        _ => return None,
    };
    let count = usize::try_from(u128::checked_sub(to, from)?).ok()?;
    if count >= ADDRESSES_MAX {
        return None;
    }
    let all = (from..=to).map(|bits| match first {
        IpAddr::V4(_) => u32::try_from(bits)
            .ok()
            .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from_bits(bits))),
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> Option<(usize, String, String)> {
        let all = range(text)?;
        let (first, last) = (all.first()?, all.last()?);
        Some((all.len(), first.to_string(), last.to_string()))
    }

    #[test]
    fn ranges_are_written_out() {
        for (text, count, first, last) in [
            ("192.0.2.1", 1, "192.0.2.1", "192.0.2.1"),
            ("192.0.2.1-10", 10, "192.0.2.1", "192.0.2.10"),
            ("192.0.2.250-192.0.3.10", 17, "192.0.2.250", "192.0.3.10"),
            ("192.0.2.8/29", 8, "192.0.2.8", "192.0.2.15"),
            ("2001:db8::1-a", 10, "2001:db8::1", "2001:db8::a"),
            ("2001:db8::/120", 256, "2001:db8::", "2001:db8::ff"),
        ] {
            assert_eq!(
                ends(text),
                Some((count, first.to_owned(), last.to_owned())),
                "{text}"
            );
        }
        for text in [
            "192.0.2.9-1",
            "192.0.2.1-300",
            "10.0.0.0/8",
            "2001:db8::/64",
            "a-b",
            "::-ffff:ffff::",
            "",
        ] {
            assert_eq!(ends(text), None, "{text}");
        }
    }
}
