//! Any valid configuration, for property tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};

use ipnet::IpNet;
use pollux_api::configuration::{Change, Configuration, Destination, VirtualService};
use pollux_api::health::probe::ScriptProbe;
use pollux_api::health::{Check, CheckNames, CheckedService, OnFailure, Probe, Quorum};
use pollux_api::identity::Endpoint;
use pollux_api::ipvs_settings::SETTINGS;
use pollux_api::persistence::TIMEOUT_S;
use pollux_api::service_timeouts;
use pollux_api::{
    Family, ForwardingMethod, MarkRule, Netmask, Persistence, PersistenceEngine, Protocol,
    SchedulerName, ServiceId, ServiceTimeouts, SyncDaemon, SyncRole, Tunnel, TunnelChecksum,
    TunnelType, Weight,
};
use proptest::prelude::*;

/// Addresses and ports from small sets, so that two configurations often have something in common.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1..5_u8).prop_map(|host| IpAddr::V4(Ipv4Addr::new(203, 0, 113, host))),
        (1..5_u16).prop_map(|host| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host))),
    ]
}

fn service() -> impl Strategy<Value = VirtualService> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp),
    ];
    let scheduler = proptest::sample::select(&SchedulerName::ALL);
    let flags = proptest::sample::subsequence(
        &["fallback", "port", "bounded=0", "bounded=25", "flag-3"],
        0..3,
    );
    let family = prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)];
    let mark =
        (1..3_u32, family).prop_map(|(mark, family)| (NonZeroU32::new(mark).unwrap(), family));
    let mark = proptest::option::weighted(0.2, mark);
    let persistence = proptest::option::of((TIMEOUT_S, any::<bool>()));
    // Port 0 among them.
    let port = prop_oneof![9 => 80..83_u16, 1 => Just(0)];
    let identity = (protocol, address(), port, mark);
    let timeouts = proptest::option::weighted(0.3, service_timeouts::TIMEOUT_S);
    let timeouts = (timeouts.clone(), timeouts.clone(), timeouts);
    let settings = (scheduler, flags, persistence, any::<bool>(), timeouts);
    (identity, settings).prop_map(|((protocol, address, port, mark), settings)| {
        let (scheduler, flags, persistence, one_packet, timeouts) = settings;
        let endpoint = Endpoint::new(address, port).unwrap();
        let flags = flags.iter().filter_map(|flag| match (*flag, scheduler) {
            ("flag-3", _) => Some(flag.parse().unwrap()),
            ("fallback" | "port", SchedulerName::SourceHashing)
            | (_, SchedulerName::MaglevHashing) => {
                Some(format!("{scheduler}-{flag}").parse().unwrap())
            }
            _ => None,
        });
        let id = mark.map_or(ServiceId::address(protocol, endpoint), |(mark, family)| {
            ServiceId::fwmark(mark, family)
        });
        let persistence = persistence.map(|(timeout_s, masked)| Persistence {
            timeout_s,
            netmask: masked.then(|| match id.family() {
                Family::Ipv4 => Netmask::V4(Ipv4Addr::new(255, 255, 0, 0)),
                Family::Ipv6 => Netmask::V6(48),
            }),
        });
        VirtualService {
            id,
            scheduler,
            scheduler_flags: flags.collect(),
            persistence,
            persistence_engine: one_packet.then_some(PersistenceEngine::Sip),
            one_packet,
            timeouts: fitting(id, timeouts),
        }
    })
}

/// Those of the timeouts that the service can have.
fn fitting(
    id: ServiceId,
    (tcp_s, tcp_fin_s, udp_s): (Option<u32>, Option<u32>, Option<u32>),
) -> ServiceTimeouts {
    let has = |wanted| match id {
        ServiceId::Address(id) => id.protocol == wanted,
        ServiceId::Fwmark(_) => true,
    };
    let (tcp, udp) = (has(Protocol::Tcp), has(Protocol::Udp));
    ServiceTimeouts {
        tcp_s: tcp_s.filter(|_| tcp),
        tcp_fin_s: tcp_fin_s.filter(|_| tcp),
        udp_s: udp_s.filter(|_| udp),
    }
}

/// Tunnels for servers of that method.
fn tunnel(method: ForwardingMethod) -> BoxedStrategy<Tunnel> {
    let gre = proptest::sample::select(&[TunnelChecksum::Nocsum, TunnelChecksum::Csum]);
    let gre = gre.prop_map(|checksum| Tunnel {
        tunnel_type: TunnelType::Gre,
        port: None,
        checksum,
    });
    let gue = (1..=u16::MAX, proptest::sample::select(&TunnelChecksum::ALL));
    let gue = gue.prop_map(|(port, checksum)| Tunnel {
        tunnel_type: TunnelType::Gue,
        port: NonZeroU16::new(port),
        checksum,
    });
    match method {
        ForwardingMethod::Tunnel => prop_oneof![Just(Tunnel::default()), gre, gue].boxed(),
        _ => Just(Tunnel::default()).boxed(),
    }
}

fn destination() -> impl Strategy<Value = Destination> {
    let method = prop_oneof![
        Just(ForwardingMethod::Nat),
        Just(ForwardingMethod::Tunnel),
        Just(ForwardingMethod::Direct),
    ]
    .prop_flat_map(|method| (Just(method), tunnel(method)));
    let thresholds = prop_oneof![
        Just((0, 0)),
        (1..=u32::MAX).prop_flat_map(|upper| (Just(upper), 0..=upper)),
    ];
    let weight = prop_oneof![0..4_u32, Just(Weight::MAX)];
    let port = prop_oneof![3 => 80..83_u16, 1 => Just(0)];
    (address(), port, method, weight, thresholds).prop_map(
        |(address, port, (method, tunnel), weight, (upper_threshold, lower_threshold))| {
            Destination {
                id: Endpoint::new(address, port).unwrap(),
                method,
                tunnel,
                weight: u64::from(weight).try_into().unwrap(),
                upper_threshold,
                lower_threshold,
            }
        },
    )
}

fn mark_rule() -> impl Strategy<Value = MarkRule> {
    let network = || {
        let network = (address(), 0..=32_u8);
        proptest::option::of(
            network.prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc()),
        )
    };
    let ports = || proptest::option::of(prop_oneof![Just("80"), Just("8000-8999")]);
    let protocol = proptest::option::of(prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]);
    let ingress = proptest::option::of(Just("wan".to_owned()));
    (
        1..9_u32,
        network(),
        network(),
        protocol,
        (ports(), ports()),
        ingress,
    )
        .prop_map(
            |(mark, source, destination, protocol, (source_ports, destination_ports), ingress)| {
                MarkRule {
                    mark: NonZeroU32::new(mark).unwrap(),
                    source,
                    destination,
                    protocol,
                    source_ports: source_ports.map(|ports| ports.parse().unwrap()),
                    destination_ports: destination_ports.map(|ports| ports.parse().unwrap()),
                    ingress,
                }
            },
        )
}

/// Of every kind, and so seldom that none is asked twice while a test runs: who is off is not found, then.
fn check() -> impl Strategy<Value = Check> {
    let kinds = Probe::all_kinds().map(|kind| match kind {
        Probe::Script(_) => Probe::Script(ScriptProbe {
            command: vec!["/bin/true".to_owned(), "of course".to_owned()],
            exit_weight: true,
        }),
        kind => kind,
    });
    let kind = proptest::sample::select(kinds.to_vec());
    let name = proptest::sample::select(&["web", "agent", "a \"third\""]);
    let port = proptest::option::of(8080..8083_u16);
    let times = (80_000_000..=86_400_000_u32, 10..5000_u32, 0..=50_u8);
    let counts = (2..5_u16, 2..5_u16, proptest::bool::weighted(0.2));
    (name, kind, port, times, counts).prop_map(
        |(name, probe, port, (interval_ms, timeout_ms, jitter_percent), (rise, fall, by_path))| {
            Check {
                service_path: by_path && probe.has_port(),
                name: name.to_owned(),
                port: port.filter(|_| probe.has_port()),
                probe,
                interval_ms,
                timeout_ms,
                rise,
                fall,
                jitter_percent,
            }
        },
    )
}

/// What a service says of its checks, whichever it is.
#[derive(Debug, Clone)]
struct Checked {
    names: Vec<&'static str>,
    start_down: bool,
    on_failure: OnFailure,
    slow_start_s: u32,
    quorum: Quorum,
    sorry_server: Option<Destination>,
}

fn checked() -> impl Strategy<Value = Checked> {
    let names = proptest::sample::subsequence(&["web", "agent", "a \"third\""], 1..=2);
    let on_failure = prop_oneof![Just(OnFailure::Drain), Just(OnFailure::Remove)];
    let hook = || {
        let word = proptest::sample::select(&["", "up", "two words"]);
        let command = word.prop_map(|word| vec!["/bin/true".to_owned(), word.to_owned()]);
        prop_oneof![Just(Vec::new()), command]
    };
    let announce = proptest::option::of(Just("nowhere0".to_owned()));
    let quorum = (1..9_u32, 0..3_u32, hook(), hook(), announce).prop_map(
        |(weight, hysteresis, up, down, announce)| Quorum {
            weight,
            hysteresis,
            up,
            down,
            announce,
        },
    );
    let sorry_server = proptest::option::weighted(0.3, destination());
    (
        names,
        any::<bool>(),
        on_failure,
        prop_oneof![Just(0), Just(30_u32)],
        quorum,
        sorry_server,
    )
        .prop_map(
            |(names, start_down, on_failure, slow_start_s, quorum, sorry_server)| Checked {
                names,
                start_down,
                on_failure,
                slow_start_s,
                quorum,
                sorry_server,
            },
        )
}

/// Gives a configuration its checks, and services what they say of them; what would not be valid is left out.
fn add_checks(configuration: &mut Configuration, checks: Vec<Check>, uses: Vec<Option<Checked>>) {
    for check in checks {
        let mut checks = configuration.health.checks.clone();
        checks.push(check);
        let _ = configuration.apply_one(&Change::ReplaceChecks {
            checks,
            services: Vec::new(),
        });
    }
    let mut services = Vec::new();
    for (entry, checked) in configuration.services.iter().zip(uses) {
        let Some(checked) = checked else { continue };
        let names = checked.names.into_iter().map(str::to_owned).collect();
        let Some(check) = CheckNames::new(names) else {
            continue;
        };
        let mut used = CheckedService::new(entry.service.id, check);
        used.start_down = checked.start_down;
        used.on_failure = checked.on_failure;
        used.slow_start_s = checked.slow_start_s;
        used.quorum = checked.quorum;
        used.sorry_server = checked.sorry_server;
        if !configuration.errors_of_checked(&used).is_empty() {
            // Mostly because of these.
            used.quorum.announce = None;
            used.sorry_server = None;
        }
        if configuration.errors_of_checked(&used).is_empty() {
            services.push(used);
        }
    }
    let checks = configuration.health.checks.clone();
    let _ = configuration.apply_one(&Change::ReplaceChecks { checks, services });
}

/// A configuration made as users make them: what would not be valid was refused.
pub fn configuration() -> impl Strategy<Value = Configuration> {
    (unchecked(), checks()).prop_map(|(mut configuration, (checks, uses))| {
        add_checks(&mut configuration, checks, uses);
        configuration
    })
}

/// Checks, and what services in turn say of them.
fn checks() -> impl Strategy<Value = (Vec<Check>, Vec<Option<Checked>>)> {
    let uses = prop::collection::vec(proptest::option::weighted(0.6, checked()), 6);
    (prop::collection::vec(check(), 0..4), uses)
}

/// One without checks: what rules of `ipvsadm` can say.
pub fn unchecked() -> impl Strategy<Value = Configuration> {
    let service = (service(), prop::collection::vec(destination(), 0..6));
    let services = prop::collection::vec(service, 0..6);
    let settings = prop::collection::vec((proptest::sample::select(SETTINGS), 0..4_u32), 0..4);
    let marks = prop::collection::vec(mark_rule(), 0..4);
    let daemon = (1..4_u8, any::<bool>()).prop_map(|(id, is_v6)| {
        let mut daemon = SyncDaemon::new("lan", id);
        if is_v6 {
            daemon.group = "ff02::51".parse().unwrap();
            daemon.datagram_bytes = Some(1400);
        }
        daemon
    });
    let daemon = || proptest::option::weighted(0.3, daemon.clone());
    let daemons = (daemon(), daemon());
    (services, settings, marks, daemons).prop_map(|(services, settings, marks, daemons)| {
        let mut configuration = Configuration::default();
        for (known, value) in settings {
            let settings = BTreeMap::from([(known.name.to_owned(), value)]);
            let _ = configuration.apply_one(&Change::Set { settings });
        }
        for rule in marks {
            let _ = configuration.apply_one(&Change::AddMark { rule });
        }
        for (service, destinations) in services {
            let id = service.id;
            if configuration
                .apply_one(&Change::AddService { service })
                .is_err()
            {
                continue;
            }
            for destination in destinations {
                let change = Change::AddDestination {
                    service: id,
                    destination,
                };
                let _ = configuration.apply_one(&change);
            }
        }
        for (role, daemon) in SyncRole::ALL.into_iter().zip([daemons.0, daemons.1]) {
            if let Some(daemon) = daemon {
                let _ = configuration.apply_one(&Change::StartSync { role, daemon });
            }
        }
        configuration
    })
}
