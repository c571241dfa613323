//! Whether the servers can be reached: a route over a port, and a neighbour that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pollux_api::ForwardingMethod;

use super::{Finding, Patient};
use crate::host::network;

const ABOUT: &str = "servers";

/// Routers, other hosts and what scans the network are neighbours, too.
const OTHERS: usize = 128;

/// The kernel keeps so many neighbours and no more; whoever has no room is asked for again with each packet.
fn room(patient: &Patient, servers: &[IpAddr]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (is_ipv6, family) in [(false, "ipv4"), (true, "ipv6")] {
        let count = servers
            .iter()
            .filter(|server| server.is_ipv6() == is_ipv6)
            .count();
        let limit = |number: u8| {
            let path = format!("proc/sys/net/{family}/neigh/default/gc_thresh{number}");
            patient.root.value::<usize>(&path)
        };
        let wanted = count + OTHERS;
        if limit(3).is_some_and(|limit| limit < wanted) {
            let text = format!(
                "{count} servers, and the kernel has room for {} neighbours of {family}: those that find none are not reached",
                limit(3).unwrap_or_default()
            );
            let (soft, hard) = (wanted.next_power_of_two(), 2 * wanted.next_power_of_two());
            findings.push(Finding::wrong(ABOUT, text).mend(format!(
                "sysctl -w net.{family}.neigh.default.gc_thresh2={soft} net.{family}.neigh.default.gc_thresh3={hard}   # and \
                 into /etc/sysctl.d"
            )));
        }
    }
    findings
}

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let mut servers: BTreeMap<IpAddr, BTreeSet<&str>> = BTreeMap::new();
    for (_, server) in patient.servers() {
        let method = match server.method {
            ForwardingMethod::Direct => "direct",
            ForwardingMethod::Nat => "nat",
            ForwardingMethod::Tunnel => "tunnel",
        };
        servers
            .entry(server.id.address())
            .or_default()
            .insert(method);
    }
    let addresses: Vec<IpAddr> = servers.keys().copied().collect();
    if addresses.is_empty() {
        return Vec::new();
    }
    let (Some(routes), Some(neighbours)) = (
        network::routes_to(&patient.root, &addresses),
        network::neighbours(&patient.root),
    ) else {
        let text = "cannot ask the kernel for routes and neighbours: `ip -json` gave nothing";
        return vec![Finding::advice(ABOUT, text).mend("apt install iproute2")];
    };
    let ports = patient.port_names();
    // Others are behind a router.
    let near = addresses.iter().filter(|server| {
        routes
            .get(server)
            .is_none_or(|route| route.gateway.is_none())
    });
    let near: Vec<IpAddr> = near.copied().collect();
    let mut findings = room(patient, &near);
    for (server, methods) in &servers {
        let Some(route) = routes.get(server) else {
            let text = format!("there is no route to server {server}: its packets are dropped");
            findings.push(Finding::wrong(ABOUT, text).mend(
                "ip route add NETWORK via GATEWAY, or ip address add ADDRESS/LENGTH dev PORT",
            ));
            continue;
        };
        if route.kind.as_deref() == Some("local") {
            let text = format!("server {server} is an address of this machine: servers are others");
            findings.push(
                Finding::wrong(ABOUT, text)
                    .mend("take it out of its services, or the address off this machine"),
            );
            continue;
        }
        let interface = route.interface.as_deref().unwrap_or("?");
        if !ports.is_empty() && !ports.contains(&interface) {
            let text = format!(
                "the way to server {server} is over {interface}, which is no port of Pollux: its packets are dropped"
            );
            findings.push(Finding::wrong(ABOUT, text).mend(format!(
                "ip route replace {server} dev {}",
                ports.join(" (or) ")
            )));
            continue;
        }
        if let (Some(gateway), true) = (route.gateway, methods.contains("direct")) {
            let text = format!(
                "server {server} of method direct is behind {gateway}: its packets come to that router as they are, which sends them \
                 back"
            );
            findings.push(
                Finding::wrong(ABOUT, text).mend(
                    "make its method tunnel or nat, or put it onto a network of the director",
                ),
            );
        }
        let next = route.gateway.unwrap_or(*server);
        let known = neighbours.iter().find(|known| {
            known.address == next && known.interface.as_deref().is_none_or(|on| on == interface)
        });
        if known.is_some_and(network::Neighbour::does_not_answer) {
            let who = if next == *server {
                format!("server {server}")
            } else {
                format!("{next}, the way to server {server},")
            };
            let text = format!(
                "{who} does not answer on {interface}: nobody has that address, or it is cut off"
            );
            findings
                .push(Finding::wrong(ABOUT, text).mend(format!("ping -c 1 -I {interface} {next}")));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::fine(
            ABOUT,
            format!("servers: {}, each with a way over a port", servers.len()),
        ));
    }
    findings
}
