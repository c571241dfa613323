//! For Windows: `netsh`, as far as Windows can do it.

use std::net::{IpAddr, Ipv4Addr};

use super::needs::{ServerNeeds, Virtual, Way};

/// What the adapter for virtual addresses is to be called.
const LOOPBACK: &str = "ipvs-loopback";

/// Commands, and what they do not do.
pub fn commands(
    needs: &ServerNeeds,
    director: Option<IpAddr>,
    interface: Option<&str>,
) -> (Vec<String>, Vec<String>) {
    let (mut commands, mut notes) = (Vec::new(), Vec::new());
    let interface = quoted(interface.unwrap_or("Ethernet"));
    for (way, addresses) in &needs.ways {
        match way {
            Way::Nat => route_back(needs.address, director, &interface, &mut commands, &mut notes),
            Way::Direct => {
                for address in addresses {
                    direct(*address, &interface, &mut commands, &mut notes);
                }
                notes.push(format!(
                    "add the adapter first, once: in hdwwiz.exe, Network adapters, Microsoft, \"Microsoft KM-TEST Loopback Adapter\"; \
                     then name it: netsh interface set interface name=\"Ethernet 2\" newname=\"{LOOPBACK}\""
                ));
            }
            Way::Tunnel(tunnel) => notes.push(format!(
                "Windows does not unwrap {} packets of a balancer: make the server's method direct, if it is on the director's \
                 link, or nat",
                tunnel.tunnel_type()
            )),
        }
    }
    (commands, notes)
}

fn direct(address: Virtual, interface: &str, commands: &mut Vec<String>, notes: &mut Vec<String>) {
    let host = match address {
        Virtual::Host(host) => host,
        Virtual::Network(network) => {
            return notes.push(format!(
                "{network}: give each of its addresses to \"{LOOPBACK}\""
            ));
        }
        Virtual::Mark(mark) => {
            return notes.push(format!(
                "the addresses that get mark {mark} are in no rule: give them to \"{LOOPBACK}\", each by itself"
            ));
        }
    };
    let family = family(host);
    // Windows drops what is for an address of another interface unless both are told not to.
    for name in [interface.to_owned(), quoted(LOOPBACK)] {
        let command = format!(
            "netsh interface {family} set interface {name} weakhostreceive=enabled weakhostsend=enabled"
        );
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    let loopback = quoted(LOOPBACK);
    commands.push(match host {
        IpAddr::V4(host) => format!(
            "netsh interface ipv4 add address {loopback} {host} {} skipassource=true",
            Ipv4Addr::BROADCAST
        ),
        IpAddr::V6(host) => {
            format!("netsh interface ipv6 add address {loopback} {host}/128 skipassource=true")
        }
    });
}

fn route_back(
    server: IpAddr,
    director: Option<IpAddr>,
    interface: &str,
    commands: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let all = if server.is_ipv6() {
        "::/0"
    } else {
        "0.0.0.0/0"
    };
    match director {
        Some(director) => commands.push(format!(
            "netsh interface {} add route {all} {interface} {director}",
            family(server)
        )),
        None => notes.push(
            "method nat: answers must pass the director: make it the default gateway; --director ADDRESS writes the command".to_owned(),
        ),
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "ipv6" } else { "ipv4" }
}

/// Names have blanks. A quote cannot be part of one (Windows refuses it).
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', ""))
}
