//! Any valid configuration, for property tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use pollux_api::configuration::{Change, Configuration, Destination, VirtualService};
use pollux_api::identity::Endpoint;
use pollux_api::{
    ForwardingMethod, Netmask, Persistence, Protocol, SchedulerName, ServiceId, Tunnel,
    TunnelChecksum, TunnelType, Weight,
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
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let scheduler = proptest::sample::select(&SchedulerName::ALL);
    let flags = proptest::sample::subsequence(
        &["fallback", "port", "bounded=0", "bounded=25", "flag-3"],
        0..3,
    );
    let kept = (
        proptest::option::of(1..=2_678_400_u32),
        any::<bool>(),
        any::<bool>(),
    );
    (protocol, address(), 80..83_u16, scheduler, flags, kept).prop_map(
        |(protocol, address, port, scheduler, flags, (timeout_s, is_masked, one_packet))| {
            let endpoint = Endpoint::new(address, port).unwrap();
            let flags = flags.iter().filter_map(|flag| match (*flag, scheduler) {
                ("flag-3", _) => Some(flag.parse().unwrap()),
                ("fallback" | "port", SchedulerName::SourceHashing)
                | (_, SchedulerName::MaglevHashing) => {
                    Some(format!("{scheduler}-{flag}").parse().unwrap())
                }
                _ => None,
            });
            VirtualService {
                id: ServiceId { protocol, endpoint },
                scheduler,
                scheduler_flags: flags.collect(),
                persistence: timeout_s.map(|timeout_s| Persistence {
                    timeout_s,
                    netmask: is_masked.then_some(match address {
                        IpAddr::V4(_) => Netmask::V4(Ipv4Addr::new(255, 255, 0, 255)),
                        IpAddr::V6(_) => Netmask::V6(64),
                    }),
                }),
                one_packet: one_packet && protocol == Protocol::Udp,
            }
        },
    )
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
    (address(), 80..83_u16, method, weight, thresholds).prop_map(
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

/// A configuration made as users make them: what would not be valid was refused.
pub fn configuration() -> impl Strategy<Value = Configuration> {
    let service = (service(), prop::collection::vec(destination(), 0..6));
    prop::collection::vec(service, 0..6).prop_map(|services| {
        let mut configuration = Configuration::default();
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
        configuration
    })
}
