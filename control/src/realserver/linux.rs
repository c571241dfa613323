//! For Linux: `ip` and `sysctl`. All of it may be repeated.
//!
//! Under direct routing and in tunnels a server has the virtual address, too, and must not say so: it answers no ARP for
//! addresses of other interfaces (`arp_ignore`) and asks with none (`arp_announce`). IPv6 answers neighbour solicitations
//! only for addresses of the interface that hears them, so that an address on `lo` is never told.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pollux_api::TunnelType;

use super::needs::{ServerNeeds, TunnelWay, Virtual, Way};

/// Commands, and what they do not do.
pub fn commands(needs: &ServerNeeds, director: Option<IpAddr>) -> (Vec<String>, Vec<String>) {
    let (mut commands, mut notes) = (Vec::new(), Vec::new());
    if needs.ways.contains_key(&Way::Nat) {
        route_back(needs.address, director, &mut commands, &mut notes);
    }
    let taken_in = needs.ways.iter().filter(|(way, _)| **way != Way::Nat);
    let addresses: BTreeSet<Virtual> = taken_in
        .clone()
        .flat_map(|(_, addresses)| addresses)
        .copied()
        .collect();
    if addresses.iter().any(|address| !is_ipv6(address)) {
        // Before it has an address to be silent about.
        commands.push(
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2".to_owned(),
        );
    }
    for (way, _) in taken_in {
        if let Way::Tunnel(tunnel) = way {
            receive(*tunnel, needs.address, &mut commands);
        }
    }
    for address in addresses {
        match address {
            Virtual::Host(IpAddr::V4(address)) => {
                commands.push(format!("ip address replace {address}/32 dev lo"));
            }
            // Deprecated: the server's own connections do not go out with it.
            Virtual::Host(IpAddr::V6(address)) => {
                commands.push(format!("ip -6 address replace {address}/128 dev lo preferred_lft 0"));
            }
            Virtual::Network(network) => {
                let family = if is_ipv6(&address) { "-6 " } else { "" };
                commands.push(format!("ip {family}route replace local {network} dev lo"));
            }
            Virtual::Mark(mark) => notes.push(format!(
                "the addresses that get mark {mark} are in no rule: give them to lo, each with `ip address replace ADDRESS/32 dev lo`"
            )),
        }
    }
    if !commands.is_empty() {
        notes.push("the commands last until the next boot: have them run at boot, too".to_owned());
    }
    let mut seen = BTreeSet::new();
    commands.retain(|command| seen.insert(command.clone()));
    (commands, notes)
}

fn is_ipv6(address: &Virtual) -> bool {
    match address {
        Virtual::Host(address) => address.is_ipv6(),
        Virtual::Network(network) => network.addr().is_ipv6(),
        Virtual::Mark(_) => false,
    }
}

/// Under NAT, answers must pass the director.
fn route_back(
    server: IpAddr,
    director: Option<IpAddr>,
    commands: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let family = if server.is_ipv6() { "-6 " } else { "" };
    match director {
        Some(director) => commands.push(format!("ip {family}route replace default via {director}")),
        None => notes.push(format!(
            "method nat: answers must pass the director: `ip {family}route replace default via DIRECTOR`, with its address in \
             the server's network; --director ADDRESS writes it in"
        )),
    }
    notes.push(
        "method nat: clients in the server's own network would be answered past the director: they need another method".to_owned(),
    );
}

/// A device that unwraps what comes from any director. One of a kind is enough, whatever the number of services.
fn receive(tunnel: TunnelWay, server: IpAddr, commands: &mut Vec<String>) {
    let outer_is_ipv6 = server.is_ipv6();
    if tunnel.tunnel_type() == TunnelType::Gue {
        let (module, family) = if outer_is_ipv6 {
            ("fou6", "-6 ")
        } else {
            ("fou", "")
        };
        let port = tunnel.port;
        commands.push(format!("modprobe {module}"));
        // It says that a port is taken when it listens there already.
        commands.push(format!(
            "ip {family}fou show | grep -qw 'port {port}' || ip {family}fou add port {port} gue"
        ));
    }
    let (device, module, kind) = match (tunnel.tunnel_type(), outer_is_ipv6, tunnel.carries_ipv6) {
        (TunnelType::Gre, false, _) if tunnel.checksum => ("ipvs-grec", "ip_gre", "gre icsum"),
        (TunnelType::Gre, false, _) => ("ipvs-gre", "ip_gre", "gre"),
        (TunnelType::Gre, true, _) if tunnel.checksum => {
            ("ipvs-gre6c", "ip6_gre", "ip6gre remote :: icsum")
        }
        (TunnelType::Gre, true, _) => ("ipvs-gre6", "ip6_gre", "ip6gre remote ::"),
        // What GUE wrapped is IPIP once its UDP header is gone.
        (TunnelType::Ipip | TunnelType::Gue, false, false) => ("ipvs-ipip", "ipip", "ipip"),
        (TunnelType::Ipip | TunnelType::Gue, false, true) => ("ipvs-sit", "sit", "sit"),
        (TunnelType::Ipip | TunnelType::Gue, true, _) => {
            ("ipvs-ip6tnl", "ip6_tunnel", "ip6tnl remote :: mode any")
        }
    };
    let (kind, options) = kind
        .split_once(' ')
        .map_or((kind, String::new()), |(kind, options)| {
            (kind, format!(" {options}"))
        });
    commands.push(format!("modprobe {module}"));
    commands.push(format!(
        "ip link show dev {device} >/dev/null 2>&1 || ip link add name {device} type {kind} local {server}{options}"
    ));
    commands.push(format!("ip link set dev {device} up"));
    if !tunnel.carries_ipv6 {
        // What is unwrapped comes from clients to whom another interface leads. The stricter of `all` and the device acts.
        commands.push(format!(
            "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{device}.rp_filter=0"
        ));
    }
}
