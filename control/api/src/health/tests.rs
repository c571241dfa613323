//! Servers that are off, and which checks are valid.

use super::*;
use crate::configuration::{Change, Destination, VirtualService};

fn check(name: &str, port: Option<u16>) -> Check {
    Check {
        name: name.to_owned(),
        probe: Probe::Tcp(probe::TcpProbe::default()),
        port,
        interval_ms: 1000,
        timeout_ms: 100,
        rise: 2,
        fall: 3,
        service_path: false,
        jitter_percent: JITTER_PERCENT,
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
            services: vec![CheckedService::new(service, "connect".into())],
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
    assert!(removed.health.off.is_empty());
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
        assert!(gone.services.is_empty() && gone.off.is_empty());
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
        probe: Probe::Http(HttpProbe {
            status: "200-404".parse().unwrap(),
            ..HttpProbe::default()
        }),
        ..check("web", Some(8080))
    });
    for probe in Probe::all_kinds() {
        let port = probe.has_port().then_some(1);
        configuration.health.checks.push(Check {
            probe,
            ..check("other", port)
        });
    }
    let json = serde_json::to_string(&configuration).unwrap();
    let read: Configuration = serde_json::from_str(&json).unwrap();
    assert_eq!(read, configuration);
    assert!(serde_json::from_str::<Check>(&json).is_err());
}

/// The configuration with its service checked in another way.
fn checked_as(
    configuration: &Configuration,
    used: CheckedService,
) -> Result<Configuration, ChangeError> {
    let replaced = Change::ReplaceChecks {
        checks: configuration.health.checks.clone(),
        services: vec![used],
    };
    configuration.apply(&[replaced])
}

#[test]
fn a_server_that_fails_may_be_removed() {
    let (configuration, service, server) = running();
    let mut used = configuration.health.services[0].clone();
    used.on_failure = OnFailure::Remove;
    let removing = checked_as(&configuration, used).unwrap();
    assert_eq!(weights(&removing), [7, 2]);
    assert_eq!(weights(&removing.in_force()), [2]);
    let back = Change::SwitchServer {
        service,
        id: server,
        off: false,
    };
    assert_eq!(
        weights(&removing.apply(&[back]).unwrap().in_force()),
        [7, 2]
    );
}

#[test]
fn the_sorry_server_serves_while_the_quorum_is_lost() {
    let (configuration, service, server) = running();
    let mut used = configuration.health.services[0].clone();
    used.sorry_server = Some(destination("203.0.113.99:80", 1));
    used.quorum = Quorum {
        weight: 4,
        hysteresis: 2,
        ..Quorum::default()
    };
    // 2 of 9 are up: enough for 4 less 2.
    let kept = checked_as(&configuration, used).unwrap();
    assert_eq!(weights(&kept.in_force()), [0, 2]);
    let other: DestinationId = "203.0.113.12:80".parse().unwrap();
    let switch = |id, off| Change::SwitchServer { service, id, off };
    let lost = kept.apply(&[switch(other, true)]).unwrap();
    assert_eq!(weights(&lost.in_force()), [1, 0, 0]);
    assert_eq!(lost.in_force().services[0].destinations[0].id.port(), 80);
    // 2 would have been enough not to lose it, but not to get it back.
    let still = lost.apply(&[switch(other, false)]).unwrap();
    assert_eq!(weights(&still.in_force()), [1, 0, 0]);
    let back = still.apply(&[switch(server, false)]).unwrap();
    assert_eq!(weights(&back.in_force()), [7, 2]);
    // Weights that are edited count, too.
    let light = Change::EditDestination {
        service,
        destination: destination("203.0.113.11:80", 1),
    };
    let drained = back.apply(&[light, switch(other, true)]).unwrap();
    assert_eq!(weights(&drained.in_force()), [1, 0, 0]);
    let refused = drained.apply(&[Change::AddDestination {
        service,
        destination: destination("203.0.113.99:80", 1),
    }]);
    let sorry = "203.0.113.99:80".parse().unwrap();
    let twice = CheckError::SorryServerTwice(service, sorry);
    assert_eq!(refused, Err(twice.into()));
}

#[test]
fn a_new_server_may_have_to_wait_for_its_check() {
    let (configuration, service, _) = running();
    let mut used = configuration.health.services[0].clone();
    used.start_down = true;
    let waiting = checked_as(&configuration, used).unwrap();
    // Who serves already goes on.
    assert_eq!(weights(&waiting.in_force()), [0, 2]);
    let added = waiting.apply(&[Change::AddDestination {
        service,
        destination: destination("203.0.113.13:80", 3),
    }]);
    assert_eq!(weights(&added.unwrap().in_force()), [0, 0, 2]);
}

#[test]
fn a_server_may_have_another_weight_for_the_time_being() {
    let (configuration, service, _) = running();
    let id = "203.0.113.12:80".parse().unwrap();
    let adjust = |weight: Option<u64>| Change::AdjustServer {
        service,
        id,
        weight: weight.map(|weight| weight.try_into().unwrap()),
    };
    let slow = configuration
        .apply(&[adjust(Some(9)), adjust(Some(1))])
        .unwrap();
    assert_eq!(slow.health.adjusted.len(), 1);
    assert_eq!(weights(&slow.in_force()), [0, 1]);
    let edited = Change::EditDestination {
        service,
        destination: destination("203.0.113.12:80", 0),
    };
    let drained = slow.apply(&[edited]).unwrap();
    assert_eq!(
        weights(&drained.in_force()),
        [0, 0],
        "an administrator drains"
    );
    assert_eq!(slow.apply(&[adjust(None)]).unwrap(), configuration);
    let removal = Change::RemoveDestination { service, id };
    assert!(slow.apply(&[removal]).unwrap().health.adjusted.is_empty());
}

#[test]
fn what_a_service_says_of_its_checks_is_judged() {
    let (configuration, service, _) = running();
    let used = &configuration.health.services[0];
    let quorum = |quorum| CheckedService {
        quorum,
        ..used.clone()
    };
    let names = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        CheckNames::new(names).unwrap()
    };
    for (used, error) in [
        (
            CheckedService::new(service, names(&["connect", "connect"])),
            CheckError::CheckTwice(service, "connect".to_owned()),
        ),
        (
            quorum(Quorum {
                weight: 0,
                ..Quorum::default()
            }),
            CheckError::NoQuorum(service),
        ),
        (
            quorum(Quorum {
                weight: 2,
                hysteresis: 2,
                ..Quorum::default()
            }),
            CheckError::Hysteresis(service, 2, 2),
        ),
        (
            quorum(Quorum {
                down: vec!["ip".to_owned()],
                ..Quorum::default()
            }),
            CheckError::Hook(service, "quorum_down"),
        ),
        (
            quorum(Quorum {
                announce: Some(String::new()),
                ..Quorum::default()
            }),
            CheckError::Announce(service, String::new()),
        ),
        (
            CheckedService {
                sorry_server: Some(destination("203.0.113.11:80", 1)),
                ..used.clone()
            },
            CheckError::SorryServerTwice(service, "203.0.113.11:80".parse().unwrap()),
        ),
    ] {
        assert_eq!(checked_as(&configuration, used), Err(error.into()));
    }
}
