//! Whether the kernel has what it answers for Pollux: virtual addresses, addresses on the TAPs, and the settings that go with
//! them.

use std::net::IpAddr;

use pollux_api::health::CheckedService;
use pollux_api::{ForwardingMethod, ServiceId};

use super::{Finding, Patient};
use crate::host::network::{self, Interface};

const ABOUT: &str = "addresses";

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let Some(interfaces) = network::interfaces(&patient.root) else {
        let text = "cannot ask the kernel for its addresses: `ip -json address` gave nothing";
        return vec![Finding::advice(ABOUT, text).mend("apt install iproute2")];
    };
    let mut findings = taps(patient, &interfaces);
    findings.extend(virtual_addresses(patient, &interfaces));
    findings.extend(settings(patient));
    findings
}

/// They are there while a data plane runs.
fn taps(patient: &Patient, interfaces: &[Interface]) -> Vec<Finding> {
    let ports = patient.daemons.ports.iter();
    ports
        .map(|port| {
            let name = &port.name;
            match interfaces.iter().find(|known| known.name == *name) {
                None => Finding::wrong(ABOUT, format!("there is no interface {name}: the TAP of a port is gone"))
                    .mend("systemctl restart pollux-dataplane   # connections stay"),
                Some(tap) if !tap.is_up() => {
                    Finding::wrong(ABOUT, format!("interface {name} is down: the kernel neither answers nor asks there"))
                        .mend(format!("ip link set {name} up"))
                }
                Some(tap) if tap.addresses.iter().all(|address| is_link_local(address.local)) => {
                    Finding::wrong(ABOUT, format!("interface {name} has no address: the director is nobody's next hop there"))
                        .mend(format!("ip address add ADDRESS/LENGTH dev {name}"))
                }
                Some(_) => Finding::fine(ABOUT, format!("interface {name} is up and has addresses")),
            }
        })
        .collect()
}

fn is_link_local(address: Option<IpAddr>) -> bool {
    match address {
        Some(IpAddr::V6(address)) => address.is_unicast_link_local(),
        Some(IpAddr::V4(_)) => false,
        None => true,
    }
}

/// Without it, pings and whatever is for no service come back to the router, which sends them again.
fn virtual_addresses(patient: &Patient, interfaces: &[Interface]) -> Vec<Finding> {
    let ports = patient.port_names();
    let first = ports.first().copied().unwrap_or("PORT");
    let mut findings = Vec::new();
    let wanted = patient.virtual_addresses();
    let count = wanted.len();
    for address in wanted {
        let owners = interfaces
            .iter()
            .filter(|known| known.addresses.iter().any(|own| own.local == Some(address)));
        let owners: Vec<&str> = owners.map(|known| known.name.as_str()).collect();
        if owners.is_empty() {
            if let Some(finding) = not_announced(patient, address) {
                findings.push(finding);
                continue;
            }
            let length = if address.is_ipv4() { 32 } else { 128 };
            let text = format!(
                "no interface has the virtual address {address}: nobody answers ARP or ND and pings for it"
            );
            findings.push(
                Finding::wrong(ABOUT, text)
                    .mend(format!("ip address add {address}/{length} dev {first}")),
            );
            continue;
        }
        let silent = ports
            .iter()
            .filter(|port| patient.ipv4_conf(port, "arp_ignore") > 0);
        let silent: Vec<&str> = silent.copied().collect();
        if address.is_ipv4()
            && !silent.is_empty()
            && !owners.iter().any(|owner| ports.contains(owner))
        {
            let text = format!(
                "virtual address {address} is on {}, and arp_ignore keeps {} from answering ARP for it: right only when routers \
                 have a route to it",
                owners.join(", "),
                silent.join(", ")
            );
            findings.push(
                Finding::advice(ABOUT, text)
                    .mend(format!("ip address add {address}/32 dev {first}")),
            );
        }
    }
    if findings.is_empty() && count > 0 {
        findings.push(Finding::fine(
            ABOUT,
            format!("virtual addresses of services: {count}, all the kernel's"),
        ));
    }
    findings
}

/// An address that polluxd gives and takes: nobody else is to give it. None: it is no such address.
fn not_announced(patient: &Patient, address: IpAddr) -> Option<Finding> {
    let configuration = &patient.configuration;
    let announced = configuration.health.services.iter().filter(|checked| {
        checked.quorum.announce.is_some()
            && matches!(checked.service, ServiceId::Address(id) if id.endpoint.address() == address)
    });
    let announced: Vec<&CheckedService> = announced.collect();
    let port = announced.first()?.quorum.announce.as_deref()?;
    let is_lost = |checked: &&&CheckedService| configuration.health.lost.contains(&checked.service);
    let finding = match announced.iter().find(is_lost) {
        Some(checked) => {
            let text = format!(
                "virtual address {address} is withdrawn, as service {} has lost its quorum: polluxd gives it to {port} again \
                 when enough servers are up",
                checked.service
            );
            Finding::wrong(ABOUT, text).mend("pollux show health   # why they are down")
        }
        None => {
            let text = format!(
                "polluxd is to announce virtual address {address} on {port}, and it is not there"
            );
            Finding::wrong(ABOUT, text).mend("journalctl -u polluxd   # says why")
        }
    };
    Some(finding)
}

fn settings(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let nat: Vec<bool> = patient
        .servers()
        .map(|(_, server)| server)
        .filter(|server| server.method == ForwardingMethod::Nat)
        .map(|server| server.id.address().is_ipv6())
        .collect();
    for (is_ipv6, path, name) in [
        (false, "proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        (
            true,
            "proc/sys/net/ipv6/conf/all/forwarding",
            "net.ipv6.conf.all.forwarding",
        ),
    ] {
        if nat.contains(&is_ipv6) && patient.root.value(path) == Some(0) {
            let text = format!(
                "{name} is 0: servers of method nat have the director as their gateway, and what is theirs and of no service, \
                 updates and name queries among it, goes no further"
            );
            findings.push(Finding::advice(ABOUT, text).mend(format!("sysctl -w {name}=1")));
        }
    }
    for port in patient.port_names() {
        if patient.ipv4_conf(port, "rp_filter") == 1 {
            let text = format!(
                "rp_filter of {port} is strict: the kernel drops what comes from addresses to which another interface leads, \
                 pings of clients and answers to health checks among it"
            );
            findings.push(Finding::advice(ABOUT, text).mend(format!(
                "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{port}.rp_filter=2"
            )));
        }
    }
    findings
}
