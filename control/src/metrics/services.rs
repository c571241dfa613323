//! Services, their servers, and what the checks say of those.

use std::fmt;

use pollux_api::health::{QuorumState, ServerHealth, ServerState, ServiceHealth};
use pollux_api::statistics::{DestinationStatistics, ServiceStatistics, TrafficTotals};

use super::families::{Families, Field, bytes, plain};

/// Totals of each service.
pub fn services(families: &mut Families<'_>, services: &[ServiceStatistics]) -> fmt::Result {
    let names: Vec<String> = services
        .iter()
        .map(|service| service.service.id.to_string())
        .collect();
    let totals: [Field<TrafficTotals>; 5] = [
        (
            plain("pollux_service_connections", "Connections scheduled"),
            |totals| totals.connections,
        ),
        (
            plain("pollux_service_inbound_packets", "Packets from clients"),
            |totals| totals.inbound_packets,
        ),
        (
            plain(
                "pollux_service_outbound_packets",
                "Packets from servers through the director (NAT)",
            ),
            |totals| totals.outbound_packets,
        ),
        (
            bytes("pollux_service_inbound", "IP bytes from clients"),
            |totals| totals.inbound_bytes,
        ),
        (
            bytes(
                "pollux_service_outbound",
                "IP bytes from servers through the director (NAT)",
            ),
            |totals| totals.outbound_bytes,
        ),
    ];
    for (description, value) in totals {
        let samples = names.iter().zip(services);
        families.counters(
            description,
            samples.map(|(name, service)| ([("service", name.as_str())], value(&service.totals))),
        )?;
    }
    let schedulers = names.iter().zip(services).map(|(name, service)| {
        let scheduler = service.service.scheduler.as_str();
        (
            [("service", name.as_str()), ("scheduler", scheduler)],
            service.destinations.len() as u64,
        )
    });
    families.gauges(
        plain("pollux_service_servers", "Servers the service has"),
        schedulers,
    )
}

/// Totals, connections and weight of each server.
pub fn servers(families: &mut Families<'_>, services: &[ServiceStatistics]) -> fmt::Result {
    // Each is written many times.
    let names: Vec<(String, Vec<String>)> = services
        .iter()
        .map(|service| {
            let servers = service.destinations.iter();
            let servers = servers.map(|server| server.destination.id.to_string());
            (service.service.id.to_string(), servers.collect())
        })
        .collect();
    let all = || {
        names
            .iter()
            .zip(services)
            .flat_map(|((service, servers), statistics)| {
                let servers = servers.iter().zip(&statistics.destinations);
                servers.map(move |(server, destination)| {
                    let labels = [("service", service.as_str()), ("server", server.as_str())];
                    (labels, statistics, destination)
                })
            })
    };
    let totals: [Field<TrafficTotals>; 5] = [
        (
            plain(
                "pollux_server_connections",
                "Connections scheduled to the server",
            ),
            |totals| totals.connections,
        ),
        (
            plain(
                "pollux_server_inbound_packets",
                "Packets from clients to the server",
            ),
            |totals| totals.inbound_packets,
        ),
        (
            plain(
                "pollux_server_outbound_packets",
                "Packets from the server through the director (NAT)",
            ),
            |totals| totals.outbound_packets,
        ),
        (
            bytes(
                "pollux_server_inbound",
                "IP bytes from clients to the server",
            ),
            |totals| totals.inbound_bytes,
        ),
        (
            bytes(
                "pollux_server_outbound",
                "IP bytes from the server through the director (NAT)",
            ),
            |totals| totals.outbound_bytes,
        ),
    ];
    for (description, value) in totals {
        let samples = all().map(|(labels, _, server)| (labels, value(&server.totals)));
        families.counters(description, samples)?;
    }
    let gauges: [Field<DestinationStatistics>; 3] = [
        (
            plain(
                "pollux_server_active_connections",
                "Connections in an active state now",
            ),
            |server| server.active_connections.into(),
        ),
        (
            plain(
                "pollux_server_inactive_connections",
                "Connections in any other state now",
            ),
            |server| server.inactive_connections.into(),
        ),
        (
            plain(
                "pollux_server_weight",
                "Weight in force: 0 is drained, or taken off by a check",
            ),
            |server| server.destination.weight.get().into(),
        ),
    ];
    for (description, value) in gauges {
        let samples = all().map(|(labels, _, server)| (labels, value(server)));
        families.gauges(description, samples)?;
    }
    let templates = all()
        .filter(|(_, service, _)| service.service.persistence.is_some())
        .map(|(labels, _, server)| (labels, server.persistent_connections));
    families.gauges(
        plain(
            "pollux_server_persistent_connections",
            "Persistence templates of the server now",
        ),
        templates,
    )
}

/// Whether checked servers serve.
pub fn health(families: &mut Families<'_>, health: &[ServerHealth]) -> fmt::Result {
    let names: Vec<(String, String)> = health
        .iter()
        .map(|server| (server.service.to_string(), server.server.to_string()))
        .collect();
    let samples = names.iter().zip(health).map(|((service, server), health)| {
        let labels = [
            ("service", service.as_str()),
            ("server", server.as_str()),
            ("check", health.check.as_str()),
        ];
        (labels, u64::from(health.state == ServerState::Up))
    });
    families.gauges(
        plain(
            "pollux_server_up",
            "Whether the server passes its health check",
        ),
        samples,
    )
}

/// Whether checked services have enough servers.
pub fn quorums(families: &mut Families<'_>, services: &[ServiceHealth]) -> fmt::Result {
    let names: Vec<String> = services
        .iter()
        .map(|service| service.service.to_string())
        .collect();
    let gauges: [Field<ServiceHealth>; 3] = [
        (
            plain(
                "pollux_service_up",
                "Whether as much weight is up as the service's quorum wants",
            ),
            |service| (service.state == QuorumState::Up).into(),
        ),
        (
            plain(
                "pollux_service_weight_up",
                "Configured weight of the servers that are up",
            ),
            |service| service.weight_up,
        ),
        (
            plain("pollux_service_quorum", "Weight that has to be up"),
            |service| service.quorum.into(),
        ),
    ];
    for (description, value) in gauges {
        let samples = names.iter().zip(services);
        families.gauges(
            description,
            samples.map(|(name, service)| ([("service", name.as_str())], value(service))),
        )?;
    }
    Ok(())
}
