//! Both daemons number the ways of checks alike, whatever else is configured.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, that is how a wrong expectation shows"
)]

use std::collections::HashSet;

use pollux_api::health::{CheckNames, CheckPath, CheckPaths, CheckedService, Probe};
use pollux_api::{
    Change, Check, Configuration, Destination, ForwardingMethod, Protocol, ServiceId, Tunnel,
    VirtualService,
};

fn check() -> Check {
    Check {
        name: "path".to_owned(),
        probe: Probe::all_kinds().into_iter().next().unwrap(),
        port: None,
        service_path: true,
        interval_ms: 1000,
        timeout_ms: 1000,
        rise: 1,
        fall: 1,
        jitter_percent: 0,
    }
}

fn id(port: usize) -> ServiceId {
    let endpoint = format!("198.51.100.1:{port}").parse().unwrap();
    ServiceId::address(Protocol::Tcp, endpoint)
}

fn server(port: usize, method: ForwardingMethod) -> Destination {
    let server = format!("203.0.113.11:{port}").parse().unwrap();
    Destination {
        id: server,
        method,
        tunnel: Tunnel::default(),
        weight: 1_u64.try_into().unwrap(),
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// Services at these ports with one server, that all of them share.
fn configuration(ports: impl IntoIterator<Item = usize>) -> Configuration {
    let mut changes = Vec::new();
    let mut services = Vec::new();
    for port in ports {
        let service = id(port);
        changes.push(Change::AddService {
            service: VirtualService::new(service),
        });
        let method = [
            ForwardingMethod::Direct,
            ForwardingMethod::Tunnel,
            ForwardingMethod::Nat,
        ][port % 3];
        changes.push(Change::AddDestination {
            service,
            destination: server(port, method),
        });
        services.push(CheckedService::new(service, CheckNames::from("path")));
    }
    changes.push(Change::ReplaceChecks {
        checks: vec![check()],
        services,
    });
    Configuration::default().apply(&changes).unwrap()
}

#[test]
fn each_way_to_a_server_has_a_number_of_its_own_and_keeps_it() {
    let many = CheckPaths::of(&configuration(1..=3000));
    let numbers: HashSet<u16> = many.iter().map(|(_, number)| number).collect();
    // Under NAT there is none.
    assert_eq!((many.iter().count(), numbers.len()), (2000, 2000));
    assert!(!numbers.contains(&0));
    let few = CheckPaths::of(&configuration((1..=3000).step_by(100)));
    let same = few
        .iter()
        .filter(|(path, number)| many.number(path) == Some(*number));
    // But for those that met another one: one in thirty, with two thousand of 65,535.
    assert!(same.count() * 10 >= few.iter().count() * 8);
}

#[test]
fn what_is_asked_is_the_virtual_address_at_the_port_of_service_or_check() {
    let of = |check: &Check, method| CheckPath::of(check, id(80), &server(80, method));
    let direct = of(&check(), ForwardingMethod::Direct).unwrap();
    assert_eq!(direct.target, "198.51.100.1:80".parse().unwrap());
    assert_eq!((direct.tunnel, direct.protocol), (None, Protocol::Tcp));
    let other = Check {
        port: Some(8080),
        ..check()
    };
    let tunnel = of(&other, ForwardingMethod::Tunnel).unwrap();
    assert_eq!(tunnel.target, "198.51.100.1:8080".parse().unwrap());
    assert!(tunnel.tunnel.is_some());
    assert_eq!(of(&check(), ForwardingMethod::Nat), None);
    let own = Check {
        service_path: false,
        ..check()
    };
    assert_eq!(of(&own, ForwardingMethod::Direct), None);
    assert!(CheckPaths::of(&Configuration::default()).is_empty());
}
