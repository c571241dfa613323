//! The `ip` commands of a scenario: what they change of the lab's addresses, routes, neighbours and MTUs.

use std::net::IpAddr;

use pollux_engine::wire::ethernet::MacAddress;

use super::command::Unsupported;
use super::topology::{Target, Topology};
use super::trace::Wire;

/// A change of the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wiring {
    /// `ip link set rs0 mtu N`.
    Mtu(Wire, u16),
    /// `ip route add` or `replace`: of a network that has one already, the other way.
    Route(IpAddr, u8, Target),
    /// `ip route del`.
    NoRoute(IpAddr, u8),
    /// `ip addr add`; none for `lo`.
    Address(Option<Wire>, IpAddr, u8),
    /// `ip addr del`.
    NoAddress(IpAddr),
    /// `ip neigh replace … lladdr`; without an address, `ip neigh del`.
    Neighbour(Wire, IpAddr, Option<MacAddress>),
}

impl Wiring {
    /// Makes the change.
    pub fn apply(&self, topology: &mut Topology) {
        match *self {
            Self::Mtu(wire, mtu) => topology.mtu[usize::from(wire == Wire::Rs)] = mtu,
            Self::Route(network, length, target) => topology.route(network, length, Some(target)),
            Self::NoRoute(network, length) => topology.route(network, length, None),
            Self::Address(wire, address, length) => topology.add_address(wire, address, length),
            Self::NoAddress(address) => topology.remove_address(address),
            Self::Neighbour(wire, address, mac) => topology.neighbour(wire, address, mac),
        }
    }
}

/// Reads a command, `ip` apart.
///
/// # Errors
/// What the lab of the runner does not have.
pub fn read(words: &[&str]) -> Result<Wiring, Unsupported> {
    let unknown = || Unsupported(format!("ip {}", words.join(" ")));
    let is_v6 = words.contains(&"-6");
    let words: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !["-6", "-4"].contains(word))
        .collect();
    let named = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    match *words {
        ["link", "set", ref rest @ ..] => {
            let device = rest.iter().copied().find(|word| *word != "dev");
            let mtu = named("mtu").and_then(|mtu| mtu.parse().ok());
            match (device.and_then(wire), mtu) {
                (Some(Some(wire)), Some(mtu)) => Ok(Wiring::Mtu(wire, mtu)),
                _ => Err(unknown()),
            }
        }
        ["route" | "ro" | "r", verb, ref rest @ ..] => {
            let kind = rest.first().copied().unwrap_or_default();
            let special = matches!(kind, "local" | "blackhole" | "unreachable" | "prohibit");
            let text = if special { rest.get(1) } else { rest.first() };
            let (address, length) = network(text.copied().unwrap_or_default(), is_v6, named("via"))
                .ok_or_else(unknown)?;
            match verb {
                "del" => Ok(Wiring::NoRoute(address, length)),
                "add" | "replace" | "change" => {
                    let via = named("via").map(|via| via.parse().map_err(|_| unknown()));
                    let target = match (kind, via.transpose()?, named("dev").and_then(wire)) {
                        ("local", ..) | (_, None, Some(None)) => Target::Local,
                        (_, Some(gateway), _) => Target::Via(gateway),
                        (_, None, Some(Some(wire))) => Target::OnLink(wire),
                        _ => return Err(unknown()),
                    };
                    Ok(Wiring::Route(address, length, target))
                }
                _ => Err(unknown()),
            }
        }
        ["addr" | "address" | "a", verb, text, ..] => {
            let (address, length) = network(text, is_v6, None).ok_or_else(unknown)?;
            let device = named("dev").and_then(wire).ok_or_else(unknown)?;
            match verb {
                "add" | "replace" => Ok(Wiring::Address(device, address, length)),
                "del" => Ok(Wiring::NoAddress(address)),
                _ => Err(unknown()),
            }
        }
        ["neigh" | "neighbour" | "neighbor" | "n", verb, text, ..] => {
            let address = text.parse().map_err(|_| unknown())?;
            let device = named("dev").and_then(wire).flatten().ok_or_else(unknown)?;
            match verb {
                "add" | "replace" | "change" => {
                    let mac = named("lladdr").and_then(mac).ok_or_else(unknown)?;
                    Ok(Wiring::Neighbour(device, address, Some(mac)))
                }
                "del" => Ok(Wiring::Neighbour(device, address, None)),
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

/// Which of the lab's devices; none of its wires for `lo`.
fn wire(device: &str) -> Option<Option<Wire>> {
    match device {
        "cl0" => Some(Some(Wire::Cl)),
        "rs0" => Some(Some(Wire::Rs)),
        "lo" => Some(None),
        _ => None,
    }
}

fn network(text: &str, is_v6: bool, via: Option<&str>) -> Option<(IpAddr, u8)> {
    if text == "default" {
        let is_v6 = is_v6 || via.is_some_and(|via| via.contains(':'));
        let whole = if is_v6 { "::" } else { "0.0.0.0" };
        return Some((whole.parse().ok()?, 0));
    }
    match text.split_once('/') {
        Some((address, length)) => Some((address.parse().ok()?, length.parse().ok()?)),
        None => {
            let address: IpAddr = text.parse().ok()?;
            Some((address, if address.is_ipv4() { 32 } else { 128 }))
        }
    }
}

fn mac(text: &str) -> Option<MacAddress> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Wiring {
        read(&line.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_commands_of_a_lab_are_read() {
        let gateway = "192.0.2.2".parse().unwrap();
        let everything = "0.0.0.0".parse().unwrap();
        assert_eq!(of("link set rs0 mtu 1400"), Wiring::Mtu(Wire::Rs, 1400));
        assert_eq!(of("link set dev cl0 mtu 1400"), Wiring::Mtu(Wire::Cl, 1400));
        assert_eq!(
            of("route replace default via 192.0.2.2"),
            Wiring::Route(everything, 0, Target::Via(gateway))
        );
        assert_eq!(of("route del default"), Wiring::NoRoute(everything, 0));
        assert_eq!(
            of("-6 route del default"),
            Wiring::NoRoute("::".parse().unwrap(), 0)
        );
        assert_eq!(
            of("route add 172.16.0.0/12 dev rs0"),
            Wiring::Route("172.16.0.0".parse().unwrap(), 12, Target::OnLink(Wire::Rs))
        );
        assert_eq!(
            of("addr add 192.0.2.101/32 dev cl0"),
            Wiring::Address(Some(Wire::Cl), "192.0.2.101".parse().unwrap(), 32)
        );
        assert_eq!(
            of("neigh replace 10.1.0.20 lladdr 02:00:00:00:01:14 nud permanent dev rs0"),
            Wiring::Neighbour(
                Wire::Rs,
                "10.1.0.20".parse().unwrap(),
                Some([2, 0, 0, 0, 1, 0x14])
            )
        );
        assert!(read(&["link", "del", "cl0"]).is_err());
        assert!(read(&["addr", "add", "10.0.0.1/24", "dev", "eth0"]).is_err());
    }
}
