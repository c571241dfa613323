//! Differences lead where they must and touch nothing else: on any two configurations.

use std::collections::BTreeSet;

use pollux_api::ServiceId;
use pollux_api::health::OffServer;
use proptest::prelude::*;

use super::*;
use crate::config::any_configuration::configuration;

/// The same services and servers, in whatever order, without what checks find.
fn sorted(mut configuration: Configuration) -> Configuration {
    let mut services: Vec<_> = configuration.services.iter().cloned().collect();
    for entry in &mut services {
        entry.destinations.sort_by_key(|known| known.id);
    }
    services.sort_by_key(|entry| entry.service.id);
    configuration.services = services.into_iter().collect();
    asked_for(configuration)
}

/// What a file can say: who is off and whose quorum is lost is found.
fn asked_for(mut configuration: Configuration) -> Configuration {
    configuration.health.off.clear();
    configuration.health.lost.clear();
    configuration
}

/// Whose servers that are new are to wait for their checks, all of them.
fn waiting_servers(from: &Configuration, to: &Configuration) -> BTreeSet<OffServer> {
    let is_known = |service, server| {
        let entry = from.service(service);
        let mut known = entry.into_iter().flat_map(|entry| &entry.destinations);
        known.any(|known| known.id == server)
    };
    let services = to.health.services.iter().filter(|used| used.start_down);
    let servers = services.flat_map(|used| {
        let service = used.service;
        let servers = &to.service(service).unwrap().destinations;
        servers.iter().map(move |server| OffServer {
            service,
            server: server.id,
        })
    });
    servers
        .filter(|found| !is_known(found.service, found.server))
        .collect()
}

/// By the rule, with nothing known of before.
fn lost_quorums(of: &Configuration) -> BTreeSet<ServiceId> {
    let lost = of.health.services.iter().filter(|used| {
        let servers = &of.service(used.service).unwrap().destinations;
        let up = servers
            .iter()
            .filter(|server| !of.health.is_off(used.service, server.id));
        let weight_up = up.map(|server| u64::from(server.weight.get())).sum();
        used.quorum.is_lost(false, weight_up)
    });
    lost.map(|used| used.service).collect()
}

proptest! {
    #[test]
    fn the_changes_lead_there(from in configuration(), to in configuration()) {
        let there = from.apply(&changes(&from, &to)).unwrap();
        prop_assert_eq!(&there.health.off, &waiting_servers(&from, &to));
        // Those of before may be lost still, within the hysteresis.
        prop_assert!(there.health.lost.is_superset(&lost_quorums(&there)));
        prop_assert_eq!(sorted(there), sorted(to));
    }

    #[test]
    fn from_nothing_the_order_is_the_same_too(to in configuration()) {
        let empty = Configuration::default();
        let there = empty.apply(&changes(&empty, &to)).unwrap();
        prop_assert_eq!(&there.health.off, &waiting_servers(&empty, &to));
        prop_assert_eq!(&there.health.lost, &lost_quorums(&there));
        prop_assert_eq!(asked_for(there), asked_for(to));
    }

    #[test]
    fn what_is_alike_is_not_touched(from in configuration(), to in configuration()) {
        for change in changes(&from, &to) {
            match change {
                Change::RemoveService { id } => prop_assert!(to.service(id).is_none()),
                Change::EditService { service } => {
                    prop_assert_ne!(&from.service(service.id).unwrap().service, &service);
                }
                Change::EditDestination { service, destination } => {
                    let known = &from.service(service).unwrap().destinations;
                    prop_assert!(!known.contains(&destination));
                }
                Change::RemoveDestination { service, id } => {
                    let wanted = &to.service(service).unwrap().destinations;
                    prop_assert!(wanted.iter().all(|known| known.id != id));
                }
                Change::Set { settings } => {
                    for (name, value) in settings {
                        prop_assert_ne!(from.settings.get(&name), value);
                        prop_assert_eq!(to.settings.get(&name), value);
                    }
                }
                Change::ReplaceMarks { rules } => {
                    prop_assert_ne!(&rules, &from.marks);
                    prop_assert_eq!(rules, to.marks.clone());
                }
                Change::ReplaceChecks { checks, services } => {
                    // The first of two makes room for servers.
                    let is_last = (&checks, &services) == (&to.health.checks, &to.health.services);
                    let is_first = checks.len() == from.health.checks.len()
                        && services.len() == from.health.services.len();
                    prop_assert!(is_last || is_first);
                    prop_assert_ne!((checks, services), (from.health.checks.clone(), from.health.services.clone()));
                }
                Change::SwitchServer { service, id, off } => {
                    prop_assert!(off);
                    let waiting = OffServer { service, server: id };
                    prop_assert!(waiting_servers(&from, &to).contains(&waiting));
                }
                Change::AddService { .. } | Change::AddDestination { .. } => {}
                Change::StartSync { role, daemon } => {
                    prop_assert_ne!(from.sync.get(role), Some(&daemon));
                }
                Change::StopSync { role } => prop_assert_ne!(from.sync.get(role), to.sync.get(role)),
                Change::AdjustServer { .. }
                | Change::AddMark { .. }
                | Change::RemoveMark { .. }
                | Change::Flush
                | Change::PatchService { .. } | Change::PatchDestination { .. } => {
                    prop_assert!(false, "a difference is never made of this");
                }
            }
        }
    }

    #[test]
    fn an_unchanged_configuration_changes_nothing(same in configuration()) {
        prop_assert_eq!(changes(&same, &same), []);
    }
}

/// A server of the other family cannot be asked by the service's path, which another check of the file gives up.
#[test]
fn a_server_that_no_path_leads_to_comes_before_the_checks_that_suit_it() {
    let read = |text: &str| {
        let read = crate::config::validate::parse("file", text).unwrap();
        read.configuration().clone()
    };
    let service = "protocol = \"tcp\"\naddress = \"198.51.100.1:80\"\n";
    let server = "server = [{ address = \"[2001:db8:2::11]:80\", method = \"tunnel\" }]\n";
    let by_path = read(&format!(
        "check = [{{ name = \"a\", kind = \"tcp\", service_path = true }}]\n[[service]]\n{service}check = \"a\"\n"
    ));
    let unchecked = read(&format!("[[service]]\n{service}{server}"));
    let by_address = read(&format!(
        "check = [{{ name = \"a\", kind = \"tcp\" }}]\n[[service]]\n{service}check = \"a\"\n{server}"
    ));
    for to in [unchecked, by_address] {
        let there = by_path.apply(&changes(&by_path, &to)).unwrap();
        assert_eq!(sorted(there), sorted(to));
    }
}
