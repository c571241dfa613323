//! From what people and the kernel say to what the engine takes. Pure.
//!
//! * [`services`]: configuration and numbers to [`SnapshotSpec`].
//! * [`forwarding`]: the kernel's view and the ports to [`ForwardingTable`].
//! * [`change`]: the same of services that change, to [`SnapshotChange`].

use std::collections::BTreeSet;

use ipnet::IpNet;
use pollux_api::health::CheckPaths;
use pollux_api::health::path::CHECK_PORTS;
use pollux_api::mark::PortRange;
use pollux_api::{
    Change, Configuration, Destination, DestinationId, Family, ForwardingMethod, IpvsSettings,
    MarkRule, Netmask, PersistenceEngine, Protocol, SchedulerFlags, SchedulerName, ServiceEntry,
    ServiceId, ServiceTimeouts, Tunnel, TunnelChecksum, TunnelType, VirtualService,
};
use pollux_engine::check_path::{self, CheckPath};
use pollux_engine::clock::seconds;
use pollux_engine::connection as engine;
use pollux_engine::forward::tunnel::Encapsulation;
use pollux_engine::forwarding_table::{
    ForwardingTable, Interface, NeighbourSpec, PortSpec, RouteSpec, RouteTarget,
};
use pollux_engine::scheduler::{HashFlags, MaglevFlags, SchedulerKind};
use pollux_engine::service::{self, DestinationSpec, ServiceIdentity, ServiceSpec};
use pollux_engine::synchronisation::SyncSettings;
use pollux_engine::{Defence, SnapshotChange, SnapshotSpec, Tick};

use crate::kernel::{self, Egress, KernelView, MacAddress};
use crate::numbering::{DestinationNumber, Numbering};
use crate::state::State;

/// A port as the forwarding table needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortFacts {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet the device sends, bytes.
    pub mtu: u16,
    /// Whether the device fills in checksums of UDP.
    pub fills_udp_checksums: bool,
}

/// The services, and the removed destinations that connections may still refer to. `numbering` is the one assigned to
/// this configuration, `now` the workers' time; `edited` are the services of which a destination was edited just now.
pub fn services(
    configuration: &Configuration,
    ports: &[&str],
    numbering: &Numbering,
    (generation, now): (u64, Tick),
    edited: &BTreeSet<ServiceId>,
) -> SnapshotSpec {
    let settings_of_all = &configuration.settings;
    let compiled = configuration
        .services
        .iter()
        .filter_map(|entry| service_spec(entry, settings_of_all, numbering));
    let removed = numbering.trash();
    let removed = removed.map(|(number, _, id)| removed_destination(number, id));
    SnapshotSpec {
        generation,
        now,
        check_paths: Vec::new(),
        services: compiled.collect(),
        removed: removed.collect(),
        timeouts: timeouts(&configuration.settings),
        settings: settings(&configuration.settings),
        marks: configuration
            .marks
            .iter()
            .filter_map(|rule| mark_rule(rule, ports))
            .collect(),
        edited: edited
            .iter()
            .filter_map(|id| Some(numbering.service(*id)?.get()))
            .collect(),
        master: None,
        backup: None,
    }
}

/// What services that have changed make of a snapshot of another state. Of `freed` numbers, some may be given anew.
pub fn change(
    state: &State,
    changed: impl Iterator<Item = ServiceId>,
    freed: impl Iterator<Item = DestinationNumber>,
    (generation, now): (u64, Tick),
    edited: &BTreeSet<ServiceId>,
) -> SnapshotChange {
    let (configuration, numbering) = (&state.configuration, &state.numbering);
    let mut compiled = SnapshotChange {
        generation,
        now,
        freed: freed.map(DestinationNumber::get).collect(),
        edited: edited
            .iter()
            .filter_map(|id| Some(numbering.service(*id)?.get()))
            .collect(),
        check_paths: check_paths(configuration),
        ..SnapshotChange::default()
    };
    for id in changed {
        match configuration.service_in_force(id) {
            Some(entry) => {
                let spec = service_spec(&entry, &configuration.settings, numbering);
                compiled.services.extend(spec);
            }
            None => compiled.gone.push(identity(id)),
        }
        let numbered = numbering.destinations_of(id);
        let removed = numbered.filter(|(number, _)| numbering.is_in_trash(*number));
        let removed = removed.map(|(number, id)| removed_destination(number, id));
        compiled.removed.extend(removed);
    }
    compiled
}

fn service_spec(
    entry: &ServiceEntry,
    settings: &IpvsSettings,
    numbering: &Numbering,
) -> Option<ServiceSpec> {
    let id = entry.service.id;
    let destinations = entry.destinations.iter();
    Some(ServiceSpec {
        number: numbering.service(id)?.get(),
        identity: identity(id),
        persistence: persistence(&entry.service),
        one_packet: entry.service.one_packet,
        timeouts: own_timeouts(&entry.service.timeouts, settings),
        scheduler: scheduler(entry.service.scheduler, entry.service.scheduler_flags),
        destinations: destinations
            .filter_map(|found| destination(id, found, numbering))
            .collect(),
    })
}

/// One that connections may still refer to.
fn removed_destination(number: DestinationNumber, id: DestinationId) -> DestinationSpec {
    DestinationSpec {
        number: number.get(),
        address: id.address(),
        port: id.port(),
        method: engine::ForwardingMethod::Masquerade,
        encapsulation: Encapsulation::Ipip,
        weight: 0,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// The services of which a destination is edited, be it to what it was.
pub fn edited(changes: &[Change]) -> BTreeSet<ServiceId> {
    let edited = changes.iter().filter_map(|change| match change {
        Change::EditDestination { service, .. } | Change::PatchDestination { service, .. } => {
            Some(*service)
        }
        _ => None,
    });
    edited.collect()
}

fn identity(id: ServiceId) -> ServiceIdentity {
    match id {
        ServiceId::Address(id) => ServiceIdentity::Address {
            protocol: id.protocol.number(),
            address: id.endpoint.address(),
            port: id.endpoint.port(),
        },
        ServiceId::Fwmark(id) => ServiceIdentity::Fwmark {
            mark: id.fwmark.get(),
            family: family(id.family),
        },
    }
}

fn family(family: Family) -> engine::Family {
    match family {
        Family::Ipv4 => engine::Family::V4,
        Family::Ipv6 => engine::Family::V6,
    }
}

fn persistence(service: &VirtualService) -> Option<service::Persistence> {
    service.persistence.map(|persistence| service::Persistence {
        timeout: seconds(persistence.timeout_s),
        mask: persistence.netmask.map_or(u128::MAX, Netmask::bits),
        engine: service.persistence_engine.map(|engine| match engine {
            PersistenceEngine::Sip => service::PersistenceEngine::Sip,
        }),
    })
}

const _: () = assert!(
    *CHECK_PORTS.start() == *check_path::CHECK_PORTS.start()
        && *CHECK_PORTS.end() == *check_path::CHECK_PORTS.end()
);

/// The ways of health checks, of the whole configuration: servers that are off are asked, too.
pub fn check_paths(configuration: &Configuration) -> Vec<CheckPath> {
    let paths = CheckPaths::of(configuration);
    let compiled = paths.iter().filter_map(|(path, number)| {
        Some(CheckPath {
            protocol: path.protocol.number(),
            server: path.server,
            number,
            address: path.target.ip(),
            port: path.target.port(),
            tunnel: match path.tunnel {
                None => None,
                Some(tunnel) => Some(encapsulation(tunnel)?),
            },
        })
    });
    compiled.collect()
}

/// None for a rule about a port that is not there: no packet comes in by it.
fn mark_rule(rule: &MarkRule, ports: &[&str]) -> Option<service::MarkRule> {
    let network = |network: Option<IpNet>| network.map(|net| (net.addr(), net.prefix_len()));
    let range =
        |range: Option<PortRange>| range.map_or(0..=u16::MAX, |range| range.first()..=range.last());
    let ingress = match &rule.ingress {
        None => None,
        Some(name) => {
            let number = ports.iter().position(|port| port == name)?;
            Some(u16::try_from(number).ok()?)
        }
    };
    Some(service::MarkRule {
        source: network(rule.source),
        destination: network(rule.destination),
        protocol: rule.protocol.map(Protocol::number),
        source_ports: range(rule.source_ports),
        destination_ports: range(rule.destination_ports),
        ingress,
        mark: rule.mark.get(),
    })
}

fn timeouts(settings: &IpvsSettings) -> engine::Timeouts {
    let mut timeouts = engine::Timeouts::default();
    for (name, state) in [
        ("timeout_close", engine::State::Close),
        ("timeout_closewait", engine::State::CloseWait),
        ("timeout_established", engine::State::Established),
        ("timeout_finwait", engine::State::FinWait),
        ("timeout_lastack", engine::State::LastAck),
        ("timeout_listen", engine::State::Listen),
        ("timeout_synack", engine::State::SynAck),
        ("timeout_synrecv", engine::State::SynRecv),
        ("timeout_synsent", engine::State::SynSent),
        ("timeout_timewait", engine::State::TimeWait),
        ("timeout_udp", engine::State::Udp),
    ] {
        timeouts.set(state, seconds(settings.get(name)));
    }
    timeouts
}

/// Those of a service; none when it has none of its own.
fn own_timeouts(own: &ServiceTimeouts, settings: &IpvsSettings) -> Option<engine::Timeouts> {
    if own.is_default() {
        return None;
    }
    let mut all = timeouts(settings);
    for (value, state) in [
        (own.tcp_s, engine::State::Established),
        (own.tcp_fin_s, engine::State::FinWait),
        (own.udp_s, engine::State::Udp),
    ] {
        if let Some(value) = value {
            all.set(state, seconds(value));
        }
    }
    Some(all)
}

fn settings(settings: &IpvsSettings) -> pollux_engine::IpvsSettings {
    let is_set = |name| settings.get(name) != 0;
    let defence = |name| match settings.get(name) {
        0 => Defence::Never,
        3 => Defence::Always,
        _ => Defence::WhenFull,
    };
    pollux_engine::IpvsSettings {
        conn_reuse_mode: u8::try_from(settings.get("conn_reuse_mode")).unwrap_or(0),
        expire_nodest_conn: is_set("expire_nodest_conn"),
        expire_quiescent_template: is_set("expire_quiescent_template"),
        sloppy_tcp: is_set("sloppy_tcp"),
        sloppy_sctp: is_set("sloppy_sctp"),
        nat_icmp_send: is_set("nat_icmp_send"),
        schedule_icmp: is_set("schedule_icmp"),
        pmtu_disc: is_set("pmtu_disc"),
        drop_packet: defence("drop_packet"),
        am_droprate: settings.get("am_droprate").max(1),
        drop_entry: defence("drop_entry"),
        lblc_expiration: seconds(settings.get("lblc_expiration")),
        lblcr_expiration: seconds(settings.get("lblcr_expiration")),
        mh_tab_index: u8::try_from(settings.get("mh_tab_index")).unwrap_or(12),
        secure_tcp: defence("secure_tcp"),
        sync: SyncSettings {
            threshold: settings.get("sync_threshold"),
            period: settings.get("sync_period"),
            refresh: seconds(settings.get("sync_refresh_period")),
            retries: settings.get("sync_retries"),
            persist_mode: is_set("sync_persist_mode"),
        },
        backup_only: is_set("backup_only"),
    }
}

fn destination(
    service: ServiceId,
    found: &Destination,
    numbering: &Numbering,
) -> Option<DestinationSpec> {
    Some(DestinationSpec {
        number: numbering.destination(service, found.id)?.get(),
        address: found.id.address(),
        port: found.id.port(),
        method: method(found.method),
        encapsulation: encapsulation(found.tunnel)?,
        weight: found.weight.get(),
        upper_threshold: found.upper_threshold,
        lower_threshold: found.lower_threshold,
    })
}

fn scheduler(name: SchedulerName, flags: SchedulerFlags) -> SchedulerKind {
    let (fallback, port) = (flags.has_number(1), flags.has_number(2));
    match name {
        SchedulerName::RoundRobin => SchedulerKind::RoundRobin,
        SchedulerName::WeightedRoundRobin => SchedulerKind::WeightedRoundRobin,
        SchedulerName::LeastConnection => SchedulerKind::LeastConnection,
        SchedulerName::WeightedLeastConnection => SchedulerKind::WeightedLeastConnection,
        SchedulerName::LocalityBased => SchedulerKind::LocalityBased,
        SchedulerName::LocalityBasedReplicated => SchedulerKind::LocalityBasedReplicated,
        SchedulerName::DestinationHashing => SchedulerKind::DestinationHashing,
        SchedulerName::SourceHashing => SchedulerKind::SourceHashing(HashFlags { fallback, port }),
        SchedulerName::ShortestExpectedDelay => SchedulerKind::ShortestExpectedDelay,
        SchedulerName::NeverQueue => SchedulerKind::NeverQueue,
        SchedulerName::WeightedFailover => SchedulerKind::WeightedFailover,
        SchedulerName::WeightedOverflow => SchedulerKind::WeightedOverflow,
        SchedulerName::MaglevHashing => SchedulerKind::MaglevHashing(MaglevFlags {
            fallback,
            port,
            bounded: flags.bound_percent(),
        }),
        SchedulerName::TwoRandomChoices => SchedulerKind::TwoRandomChoices,
        SchedulerName::PowerOfTwoChoices => SchedulerKind::PowerOfTwoChoices,
        SchedulerName::FastestAnswer => SchedulerKind::FastestAnswer,
    }
}

fn method(method: ForwardingMethod) -> engine::ForwardingMethod {
    match method {
        ForwardingMethod::Nat => engine::ForwardingMethod::Masquerade,
        ForwardingMethod::Tunnel => engine::ForwardingMethod::Tunnel,
        ForwardingMethod::Direct => engine::ForwardingMethod::DirectRoute,
    }
}

/// None for a GUE tunnel without a port, which [`Configuration::apply`] lets nobody have.
fn encapsulation(tunnel: Tunnel) -> Option<Encapsulation> {
    // Linux sends a plain checksum for remcsum, too.
    let checksum = tunnel.checksum != TunnelChecksum::Nocsum;
    Some(match tunnel.tunnel_type {
        TunnelType::Ipip => Encapsulation::Ipip,
        TunnelType::Gre => Encapsulation::Gre { checksum },
        TunnelType::Gue => Encapsulation::Gue {
            port: tunnel.port?.get(),
            checksum,
        },
    })
}

/// The kernel's routes and neighbours as workers use them.
pub fn forwarding(generation: u32, ports: &[PortFacts], view: &KernelView) -> ForwardingTable {
    let specs = ports
        .iter()
        .zip(0..)
        .map(|(port, number)| port_spec(number, port, view))
        .collect();
    let routes: Vec<RouteSpec> = view
        .routes
        .iter()
        .map(|(prefix, route)| RouteSpec {
            address: prefix.network(),
            prefix_length: prefix.prefix_len(),
            target: route_target(&route.target),
            preferred_source: route.preferred_source,
        })
        .collect();
    let neighbours: Vec<NeighbourSpec> = view
        .neighbours
        .iter()
        .filter_map(|((egress, address), neighbour)| match neighbour {
            kernel::Neighbour::Usable(mac) => Some(NeighbourSpec {
                interface: interface(*egress),
                address: *address,
                mac: mac.0,
            }),
            kernel::Neighbour::Failed => None,
        })
        .collect();
    ForwardingTable::new(generation, specs, &routes, &neighbours)
}

/// The MACs beside the port's own whose frames are the director's: those of macvlan interfaces on its TAP, and that of the
/// TAP if the administrator gave it another one.
pub fn other_macs(number: u16, port: &PortFacts, view: &KernelView) -> BTreeSet<MacAddress> {
    let tap = kernel::TapIndex::new(number);
    let stacked = view.other_macs.iter().filter(|(of, _)| *of == tap);
    let own = view.link(tap).map(|link| link.mac);
    let all = stacked.map(|(_, mac)| *mac).chain(own);
    all.filter(|mac| mac.0 != port.mac && *mac != MacAddress::default())
        .collect()
}

/// The port with the director's addresses on it. The administrator may lower the MTU on the TAP, not raise it.
fn port_spec(number: u16, port: &PortFacts, view: &KernelView) -> PortSpec {
    let tap = kernel::TapIndex::new(number);
    let mtu = view.link(tap).map_or(port.mtu, |link| {
        u16::try_from(link.mtu).unwrap_or(u16::MAX).min(port.mtu)
    });
    let own = view
        .addresses
        .iter()
        .filter(|address| address.egress.is_some_and(|egress| egress.tap == tap));
    // Addresses for the wide world first: one of the others is a source only for its own network.
    let (global, local): (Vec<&kernel::Address>, Vec<&kernel::Address>) =
        own.partition(|address| address.global);
    let addresses = global
        .into_iter()
        .chain(local)
        .map(|address| (address.ip, address.prefix_length))
        .collect();
    PortSpec {
        mac: port.mac,
        other_macs: other_macs(number, port, view)
            .into_iter()
            .map(|mac| mac.0)
            .collect(),
        mtu,
        addresses,
        fills_udp_checksums: port.fills_udp_checksums,
    }
}

fn route_target(target: &kernel::RouteTarget) -> RouteTarget {
    match target {
        // Of several next hops the first is taken: all of a flow must go one way, and this is one.
        kernel::RouteTarget::Send(next_hops) => match next_hops.first() {
            Some(next_hop) => match next_hop.gateway {
                Some(gateway) => RouteTarget::Gateway(interface(next_hop.egress), gateway),
                None => RouteTarget::OnLink(interface(next_hop.egress)),
            },
            None => RouteTarget::Unreachable,
        },
        // The kernel can deliver both, the engine neither.
        kernel::RouteTarget::Local | kernel::RouteTarget::OtherInterface => RouteTarget::Local,
        kernel::RouteTarget::Discard(_) => RouteTarget::Unreachable,
    }
}

fn interface(egress: Egress) -> Interface {
    Interface {
        port: egress.tap.get(),
        vlan: egress.vlan,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_wrapped_as_configured() {
        let tunnel = |text: &str| -> Tunnel { serde_json::from_str(text).unwrap() };
        for (text, expected) in [
            ("{}", Encapsulation::Ipip),
            (r#"{"type":"gre"}"#, Encapsulation::Gre { checksum: false }),
            (
                r#"{"type":"gre","checksum":"csum"}"#,
                Encapsulation::Gre { checksum: true },
            ),
            (
                r#"{"type":"gue","port":5555}"#,
                Encapsulation::Gue {
                    port: 5555,
                    checksum: false,
                },
            ),
            (
                r#"{"type":"gue","port":65535,"checksum":"remcsum"}"#,
                Encapsulation::Gue {
                    port: 65535,
                    checksum: true,
                },
            ),
        ] {
            assert_eq!(encapsulation(tunnel(text)), Some(expected), "{text}");
        }
        assert_eq!(encapsulation(tunnel(r#"{"type":"gue"}"#)), None);
    }
}
