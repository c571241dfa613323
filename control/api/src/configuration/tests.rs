//! What changes do to a configuration, and which are refused.

use super::*;
use crate::tunnel::{TunnelPatch, TunnelType};

fn id(text: &str) -> ServiceId {
    ServiceId::address(Protocol::Tcp, text.parse().unwrap())
}

fn add_service(text: &str) -> Change {
    Change::AddService {
        service: VirtualService::new(id(text)),
    }
}

fn destination(text: &str, method: ForwardingMethod) -> Destination {
    Destination {
        id: text.parse().unwrap(),
        method,
        tunnel: Tunnel::default(),
        weight: Weight::default(),
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn add(service: &str, server: &str, method: ForwardingMethod) -> Change {
    Change::AddDestination {
        service: id(service),
        destination: destination(server, method),
    }
}

const VIP: &str = "198.51.100.1:80";

#[test]
fn a_new_destination_goes_to_the_front() {
    let changes = [
        add_service(VIP),
        add(VIP, "203.0.113.11:80", ForwardingMethod::Direct),
        add(VIP, "203.0.113.12:80", ForwardingMethod::Direct),
    ];
    let configuration = Configuration::default().apply(&changes).unwrap();
    let order: Vec<String> = configuration.services[0]
        .destinations
        .iter()
        .map(|known| known.id.to_string())
        .collect();
    assert_eq!(order, ["203.0.113.12:80", "203.0.113.11:80"]);
}

#[test]
fn a_bad_change_leaves_nothing_behind() {
    let before = Configuration::default().apply(&[add_service(VIP)]).unwrap();
    let untouched = before.clone();
    let error = before.apply(&[
        Change::Flush,
        add(VIP, "203.0.113.11:80", ForwardingMethod::Nat),
    ]);
    assert_eq!(error, Err(ChangeError::NoService(id(VIP))));
    assert_eq!(before, untouched);
}

/// As in Linux: packets keep their port whatever the server's is.
#[test]
fn a_server_by_direct_routing_or_tunnel_may_have_any_port() {
    for method in [ForwardingMethod::Direct, ForwardingMethod::Tunnel] {
        let changes = [add_service(VIP), add(VIP, "203.0.113.12:81", method)];
        assert!(Configuration::default().apply(&changes).is_ok());
    }
}

#[test]
fn every_error_says_how_to_mend_it() {
    let base = Configuration::default()
        .apply(&[
            add_service(VIP),
            add(VIP, "203.0.113.11:80", ForwardingMethod::Nat),
        ])
        .unwrap();
    let mut inverted = destination("203.0.113.12:80", ForwardingMethod::Nat);
    (inverted.lower_threshold, inverted.upper_threshold) = (5, 4);
    let cases = [
        (add_service(VIP), "pollux service edit"),
        (
            add(VIP, "203.0.113.11:80", ForwardingMethod::Nat),
            "pollux server edit",
        ),
        (
            add("198.51.100.9:80", "203.0.113.11:80", ForwardingMethod::Nat),
            "no such service: TCP 198.51.100.9:80",
        ),
        (
            add(VIP, "[2001:db8::1]:80", ForwardingMethod::Nat),
            "only method tunnel",
        ),
        (
            Change::AddDestination {
                service: id(VIP),
                destination: inverted,
            },
            "lower threshold 5 is above upper threshold 4",
        ),
        (
            Change::RemoveDestination {
                service: id(VIP),
                id: "203.0.113.19:80".parse().unwrap(),
            },
            "has no server 203.0.113.19:80",
        ),
    ];
    for (change, text) in cases {
        let error = base
            .apply(std::slice::from_ref(&change))
            .unwrap_err()
            .to_string();
        assert!(error.contains(text), "{change:?}: {error}");
    }
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let before = Configuration::default()
        .apply(&[
            add_service(VIP),
            add(VIP, "203.0.113.11:80", ForwardingMethod::Nat),
        ])
        .unwrap();
    let patch = |patch| Change::PatchDestination {
        service: id(VIP),
        id: "203.0.113.11:80".parse().unwrap(),
        patch,
    };
    let drained = before
        .apply(&[patch(DestinationPatch {
            weight: Some(Weight::try_from(0).unwrap()),
            ..DestinationPatch::default()
        })])
        .unwrap();
    let mut expected = before.clone();
    expected.services[0].destinations[0].weight = Weight::try_from(0).unwrap();
    assert_eq!(drained, expected);

    let only_lower = patch(DestinationPatch {
        lower_threshold: Some(1),
        ..DestinationPatch::default()
    });
    let error = before.apply(&[only_lower]).unwrap_err();
    assert!(matches!(error, ChangeError::Thresholds(..)), "{error}");
}

#[test]
fn flags_are_their_schedulers() {
    let service = |scheduler, flags: &str| VirtualService {
        scheduler,
        scheduler_flags: flags.parse().unwrap(),
        ..VirtualService::new(id(VIP))
    };
    let flags = |configuration: &Configuration| {
        configuration.services[0]
            .service
            .scheduler_flags
            .to_string()
    };
    let add = |service| Configuration::default().apply(&[Change::AddService { service }]);
    let error = add(service(SchedulerName::RoundRobin, "sh-port")).unwrap_err();
    let text = "scheduler flag sh-port is one of scheduler sh, and this one is rr";
    assert!(error.to_string().contains(text), "{error}");

    let added = add(service(SchedulerName::SourceHashing, "flag-2")).unwrap();
    assert_eq!(flags(&added), "sh-port");
    let patched = |scheduler, scheduler_flags| {
        let patch = ServicePatch {
            scheduler,
            scheduler_flags,
            ..ServicePatch::default()
        };
        added.apply(&[Change::PatchService { id: id(VIP), patch }])
    };
    let fallback = "sh-fallback".parse().unwrap();
    let all_new = patched(None, Some(fallback)).unwrap();
    assert_eq!(flags(&all_new), "sh-fallback");
    let other = patched(Some(SchedulerName::MaglevHashing), None).unwrap();
    assert_eq!(flags(&other), "", "flags do not pass to another scheduler");
    let error = patched(Some(SchedulerName::MaglevHashing), Some(fallback));
    assert!(
        matches!(error, Err(ChangeError::ForeignFlag(..))),
        "{error:?}"
    );
    let edit = Change::EditService {
        service: service(SchedulerName::MaglevHashing, "flag-1,mh-bounded=10"),
    };
    let edited = added.apply(&[edit]).unwrap();
    assert_eq!(flags(&edited), "mh-fallback,mh-bounded=10");
}

#[test]
fn only_a_tunnel_joins_families() {
    let changes = [
        add_service(VIP),
        add(VIP, "[2001:db8:2::11]:80", ForwardingMethod::Tunnel),
    ];
    assert!(Configuration::default().apply(&changes).is_ok());
}

#[test]
fn a_tunnel_is_the_methods() {
    let mut gre = destination("203.0.113.11:80", ForwardingMethod::Tunnel);
    gre.tunnel.tunnel_type = TunnelType::Gre;
    let add = |destination| Change::AddDestination {
        service: id(VIP),
        destination,
    };
    let base = Configuration::default().apply(&[add_service(VIP)]).unwrap();
    let added = base.apply(&[add(gre.clone())]).unwrap();
    assert_eq!(added.services[0].destinations[0], gre);

    let patch = |patch| {
        let change = Change::PatchDestination {
            service: id(VIP),
            id: gre.id,
            patch,
        };
        let changed = added.apply(&[change])?;
        Ok(changed.services[0].destinations[0].tunnel.to_string())
    };
    let drain = DestinationPatch {
        weight: Some(Weight::try_from(0).unwrap()),
        ..DestinationPatch::default()
    };
    assert_eq!(patch(drain).unwrap(), "gre:-c", "what is not named stays");
    let to_nat = DestinationPatch {
        method: Some(ForwardingMethod::Nat),
        ..DestinationPatch::default()
    };
    assert_eq!(
        patch(to_nat).unwrap(),
        "ipip",
        "the tunnel goes with its method"
    );
    let both = DestinationPatch {
        tunnel: TunnelPatch {
            tunnel_type: Some(TunnelType::Gre),
            ..TunnelPatch::default()
        },
        ..to_nat
    };
    let error: ChangeError = patch(both).unwrap_err();
    let text = "server 203.0.113.11:80 of service TCP 198.51.100.1:80: tunnel options on a server of method nat";
    assert!(error.to_string().starts_with(text), "{error}");
    assert_eq!(Failure::from(error).code, FailureCode::Invalid);

    gre.tunnel.tunnel_type = TunnelType::Gue;
    let error = base.apply(&[add(gre)]).unwrap_err();
    assert!(
        matches!(error, ChangeError::Tunnel(.., TunnelError::PortMissing)),
        "{error}"
    );
}

#[test]
fn configuration_survives_json() {
    let changes = [
        add_service(VIP),
        add(VIP, "203.0.113.11:8080", ForwardingMethod::Nat),
    ];
    let configuration = Configuration::default().apply(&changes).unwrap();
    let text = serde_json::to_string(&configuration).unwrap();
    assert_eq!(
        serde_json::from_str::<Configuration>(&text).unwrap(),
        configuration
    );
    // A file of a version that knew no tunnel types reads, and what needs none is written as then.
    assert!(!text.contains("tunnel"), "{text}");
}
