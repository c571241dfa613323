//! What health checks found, and whether those that go by a service's own path have their ports for themselves.

use pollux_api::health::path::{CHECK_PORTS, CheckPaths};

use super::{Finding, Patient};

const ABOUT: &str = "checks";
const RANGE: &str = "proc/sys/net/ipv4/ip_local_port_range";

/// Looks. Of servers that are down `pollux show health` tells; a service without enough of them is not to be missed.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let health = &patient.configuration.health;
    let lost = health.lost.iter().map(|service| {
        let so = match health.sorry_server(*service) {
            Some(server) => format!("sorry server {} has its new connections", server.id),
            None => "too few of its servers are up".to_owned(),
        };
        Finding::wrong(
            ABOUT,
            format!("service {service} has lost its quorum: {so}"),
        )
        .mend("pollux show health   # why servers are down")
    });
    lost.chain(ports(patient)).collect()
}

/// Nothing is said when no check goes by a path.
fn ports(patient: &Patient) -> Vec<Finding> {
    if CheckPaths::of(&patient.configuration).is_empty() {
        return Vec::new();
    }
    let range = patient.root.text(RANGE).unwrap_or_default();
    let mut bounds = range
        .split_whitespace()
        .filter_map(|bound| bound.parse::<u16>().ok());
    let (Some(first), Some(last)) = (bounds.next(), bounds.next()) else {
        return Vec::new();
    };
    let (lowest, highest) = CHECK_PORTS.into_inner();
    if last < lowest {
        let text = format!(
            "checks by a service's path have the ports {lowest} to {highest} for themselves"
        );
        return vec![Finding::fine(ABOUT, text)];
    }
    let text = format!(
        "checks by a service's path come from ports {lowest} to {highest}, and the kernel gives ports {first} to {last} to \
         other programs: what one of those sends to a server can be taken for a check"
    );
    let below = lowest - 1;
    let sound = format!(
        "net.ipv4.ip_local_port_range='{} {below}'",
        first.min(32_768)
    );
    vec![Finding::wrong(ABOUT, text).mend(format!("sysctl -w {sound}   # and into /etc/sysctl.d"))]
}
