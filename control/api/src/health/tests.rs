//! Servers that are off, and which checks are valid.

use super::*;
use crate::configuration::{Change, Destination, VirtualService};

fn check(name: &str, port: Option<u16>) -> Check {
    Check {
        name: name.to_owned(),
        probe: Probe::Tcp,
        port,
        interval_ms: 1000,
        timeout_ms: 100,
        rise: 2,
        fall: 3,
    }
}

fn destination(address: &str, weight: u64) -> Destination {
    Destination {
        id: address.parse().unwrap(),
        method: Default::default(),
        tunnel: Default::default(),
        weight: weight.try_into().unwrap(),
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// A service with two servers and a check, the first of which is off.
fn running() -> (Configuration, ServiceId, DestinationId) {
    let service = ServiceId::address(crate::Protocol::Tcp, "198.51.100.1:80".parse().unwrap());
    let server = "203.0.113.11:80".parse().unwrap();
    let changes = [
        Change::AddService {
            service: VirtualService::new(service),
        },
        Change::AddDestination {
            service,
            destination: destination("203.0.113.12:80", 2),
        },
        Change::AddDestination {
            service,
            destination: destination("203.0.113.11:80", 7),
        },
        Change::ReplaceChecks {
            checks: vec![check("connect", None)],
            services: vec![CheckedService {
                service,
                check: "connect".to_owned(),
            }],
        },
        Change::SwitchServer {
            service,
            id: server,
            off: true,
        },
    ];
    let configuration = Configuration::default().apply(&changes).unwrap();
    (configuration, service, server)
}

fn weights(configuration: &Configuration) -> Vec<u32> {
    let destinations = &configuration.services[0].destinations;
    destinations
        .iter()
        .map(|known| known.weight.get())
        .collect()
}

#[test]
fn a_server_that_is_off_keeps_its_weight_and_does_not_serve() {
    let (configuration, service, server) = running();
    assert_eq!(weights(&configuration), [7, 2]);
    assert_eq!(weights(&configuration.in_force()), [0, 2]);
    let edited = configuration
        .apply(&[Change::EditDestination {
            service,
            destination: destination("203.0.113.11:80", 9),
        }])
        .unwrap();
    assert_eq!(weights(&edited), [9, 2]);
    assert_eq!(weights(&edited.in_force()), [0, 2]);
    let back = edited
        .apply(&[Change::SwitchServer {
            service,
            id: server,
            off: false,
        }])
        .unwrap();
    assert_eq!(weights(&back.in_force()), [9, 2]);
}

#[test]
fn what_is_gone_is_forgotten() {
    let (configuration, service, server) = running();
    let removal = Change::RemoveDestination {
        service,
        id: server,
    };
    let removed = configuration.apply(&[removal]).unwrap();
    assert_eq!(removed.health.off, []);
    assert_eq!(removed.health.services.len(), 1);
    let added = removed
        .apply(&[Change::AddDestination {
            service,
            destination: destination("203.0.113.11:80", 5),
        }])
        .unwrap();
    assert_eq!(weights(&added.in_force()), [5, 2]);
    for change in [Change::RemoveService { id: service }, Change::Flush] {
        let gone = configuration.apply(&[change]).unwrap().health;
        assert_eq!((gone.services, gone.off), (vec![], vec![]));
        assert_eq!(gone.checks.len(), 1);
    }
    let unchecked = configuration
        .apply(&[Change::ReplaceChecks {
            checks: vec![],
            services: vec![],
        }])
        .unwrap();
    assert_eq!(weights(&unchecked.in_force()), [7, 2]);
}

#[test]
fn refusals() {
    let (configuration, service, server) = running();
    let replace = |checks: &[Check]| Change::ReplaceChecks {
        checks: checks.to_vec(),
        services: configuration.health.services.clone(),
    };
    let connect = check("connect", None);
    let slow = Check {
        timeout_ms: 1001,
        ..connect.clone()
    };
    let never = Check {
        fall: 0,
        ..connect.clone()
    };
    let refused = |change| configuration.apply(&[change]).unwrap_err();
    for (checks, error) in [
        (
            vec![connect.clone(), connect.clone()],
            CheckError::Exists("connect".to_owned()),
        ),
        (
            vec![check("other", None)],
            CheckError::NoCheck(service, "connect".to_owned()),
        ),
        (
            vec![slow],
            CheckError::TimeoutTooLong("connect".to_owned(), 1001, 1000),
        ),
        (vec![never], CheckError::Zero("connect".to_owned(), "fall")),
    ] {
        assert_eq!(refused(replace(&checks)), ChangeError::Check(error));
    }
    let unchecked = configuration
        .apply(&[Change::ReplaceChecks {
            checks: vec![],
            services: vec![],
        }])
        .unwrap();
    let off = Change::SwitchServer {
        service,
        id: server,
        off: true,
    };
    assert_eq!(
        unchecked.apply(&[off]),
        Err(CheckError::NotChecked(service, server).into())
    );
}

#[test]
fn travels_as_json() {
    let (mut configuration, ..) = running();
    configuration.health.checks.push(Check {
        probe: Probe::Http {
            path: "/".to_owned(),
            host: None,
            status: "200-404".parse().unwrap(),
        },
        ..check("web", Some(8080))
    });
    let json = serde_json::to_string(&configuration).unwrap();
    let read: Configuration = serde_json::from_str(&json).unwrap();
    assert_eq!(read, configuration);
    assert!(serde_json::from_str::<Check>(&json).is_err());
}

#[test]
fn ranges_of_status_codes() {
    let range: StatusRange = "200".parse().unwrap();
    assert!(range.contains(200) && !range.contains(201));
    assert_eq!(StatusRange::default().to_string(), "200-299");
    for wrong in [
        "", "20", "2000", "99", "600", "299-200", "200-", "-200", "+20", "2xx",
    ] {
        assert!(wrong.parse::<StatusRange>().is_err(), "{wrong}");
    }
}
