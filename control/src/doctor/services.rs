//! Whether services are what their makers meant: what is allowed, as in Linux, and seldom wanted.

use std::collections::BTreeMap;

use pollux_api::{DestinationId, ForwardingMethod, Protocol, ServiceId};

use super::{Finding, Patient};

const ABOUT: &str = "services";

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let mut findings = unused_ports(patient);
    findings.extend(shared_servers(patient));
    findings
}

/// Direct routing and tunnels leave a packet's port as it is.
fn unused_ports(patient: &Patient) -> Vec<Finding> {
    let unused = patient.servers().filter(|(service, server)| {
        let (port, of_service) = (server.id.port(), service.port());
        server.method != ForwardingMethod::Nat && of_service != 0 && port != of_service
    });
    unused
        .map(|(service, server)| {
            let text = format!(
                "server {} of service {service}: method {} leaves packets as they are, so they come to port {}, and only checks \
                 go to port {}",
                server.id,
                server.method,
                service.port(),
                server.id.port()
            );
            Finding::advice(ABOUT, text)
        })
        .collect()
}

/// Under NAT the answers of two services' connections to one server and port cannot be told apart if the client uses one port
/// of its own for both.
fn shared_servers(patient: &Patient) -> Vec<Finding> {
    let mut of_server = BTreeMap::<(&'static str, DestinationId), Vec<ServiceId>>::new();
    for (service, server) in patient.servers() {
        let protocol = match service {
            ServiceId::Address(id) => id.protocol,
            // Any: those of two marks are told apart by what they carry, as far as is known here.
            ServiceId::Fwmark(_) => continue,
        };
        if server.method == ForwardingMethod::Nat && server.id.port() != 0 {
            let key = (name(protocol), server.id);
            of_server.entry(key).or_default().push(service);
        }
    }
    let shared = of_server.into_iter().filter(|(_, of)| of.len() > 1);
    shared
        .map(|((_, server), of)| {
            let of: Vec<String> = of.iter().map(ToString::to_string).collect();
            let text = format!(
                "services {} share server {server} under nat: a client that uses one of its ports for two of them at once is \
                 refused the second connection, counted as reply_key_taken in `pollux show drops`",
                of.join(" and ")
            );
            Finding::advice(ABOUT, text)
        })
        .collect()
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}
