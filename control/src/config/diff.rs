//! The changes that lead from one configuration to another.
//!
//! What both have alike is not mentioned, so no connection of it is disturbed. That includes order: a service or server
//! that stays keeps its place, new ones are added as a command would add them. From the empty configuration the result
//! is exact, order and all.

use std::collections::BTreeMap;

use pollux_api::{
    Change, Check, Configuration, DestinationId, Family, IpvsSettings, ServiceEntry, SyncRole,
};

/// Nobody is ever asked there.
const ANY_PORT: u16 = 1;

/// The changes, to be applied in order, all or none.
pub fn changes(from: &Configuration, to: &Configuration) -> Vec<Change> {
    let gone = from
        .services
        .iter()
        .map(|entry| entry.service.id)
        .filter(|id| to.service(*id).is_none())
        .map(|id| Change::RemoveService { id });
    let rest = to
        .services
        .iter()
        .flat_map(|new| match from.service(new.service.id) {
            Some(old) => service_changes(old, new),
            None => service_added(new),
        });
    let settings = settings_changes(&from.settings, &to.settings);
    let marks = (from.marks != to.marks).then(|| Change::ReplaceMarks {
        rules: to.marks.clone(),
    });
    let (stops, starts) = sync_changes(from, to);
    // Servers of another family than their service come and go while no daemon runs.
    stops
        .into_iter()
        .chain(settings)
        .chain(marks)
        .chain(checks_in_between(from, to))
        .chain(gone)
        .chain(rest)
        .chain(check_changes(from, to))
        .chain(waiting(from, to))
        .chain(starts)
        .collect()
}

/// Daemons that run otherwise than they are to are stopped and started.
fn sync_changes(from: &Configuration, to: &Configuration) -> (Vec<Change>, Vec<Change>) {
    let differs = |role: &SyncRole| from.sync.get(*role) != to.sync.get(*role);
    let roles: Vec<SyncRole> = SyncRole::ALL.into_iter().filter(differs).collect();
    let stops = roles
        .iter()
        .filter(|role| from.sync.get(**role).is_some())
        .map(|role| Change::StopSync { role: *role });
    let starts = roles.iter().filter_map(|role| {
        Some(Change::StartSync {
            role: *role,
            daemon: to.sync.get(*role)?.clone(),
        })
    });
    (stops.collect(), starts.collect())
}

/// Checks that servers do not fit that are added before the checks are those of `to`. A service stays checked, so that who
/// is off stays off.
fn checks_in_between(from: &Configuration, to: &Configuration) -> Option<Change> {
    let mut services = from.health.services.clone();
    let mut checks = from.health.checks.clone();
    let mut is_any = false;
    for used in &mut services {
        let servers = to.service(used.service).map(|entry| &entry.destinations);
        let has = |wanted: &dyn Fn(DestinationId) -> bool| {
            servers.is_some_and(|servers| servers.iter().any(|new| wanted(new.id)))
        };
        // Sorry servers that become servers of their service cannot be both.
        let becomes = |id| has(&|new| new == id);
        if used
            .sorry_server
            .as_ref()
            .is_some_and(|sorry| becomes(sorry.id))
        {
            used.sorry_server = None;
            is_any = true;
        }
        // Servers that are added then would wait for their checks.
        let service = used.service;
        let waits = to.health.checked(service).is_some_and(|new| new.start_down);
        let known = from.service(service).map(|entry| &entry.destinations);
        let is_new = |id| known.is_none_or(|known| known.iter().all(|known| known.id != id));
        if used.start_down && !waits && has(&is_new) {
            used.start_down = false;
            is_any = true;
        }
        // A server of another family than its service cannot be asked by the service's path.
        let is_of_path =
            |id: DestinationId| id.address().is_ipv4() == (service.family() == Family::Ipv4);
        if has(&|new| !is_of_path(new)) {
            for check in &mut checks {
                let is_used = used.check.iter().any(|name| name == check.name);
                is_any |= is_used && check.service_path;
                check.service_path &= !is_used;
            }
        }
        // A server without a port has to be asked at the check's.
        if !has(&|new| new.port() == 0) {
            continue;
        }
        for check in &mut checks {
            let is_used = used.check.iter().any(|name| name == check.name);
            if is_used && check.port.is_none() && check.probe.has_port() {
                let mut new = to.health.checks.iter();
                let new = new.find(|new| new.name == check.name && new.port.is_some());
                *check = match new {
                    Some(new) => Check {
                        service_path: check.service_path && new.service_path,
                        ..new.clone()
                    },
                    // Another one takes its place before anyone is asked.
                    None => Check {
                        port: Some(ANY_PORT),
                        ..check.clone()
                    },
                };
                is_any = true;
            }
        }
    }
    is_any.then_some(Change::ReplaceChecks { checks, services })
}

/// New servers of services whose servers have to wait for their checks. Added to a service that has its checks already, they
/// do so anyway; others are checked by the change before.
fn waiting(from: &Configuration, to: &Configuration) -> impl Iterator<Item = Change> {
    let services = to.services.iter();
    services.flat_map(|entry| {
        let service = entry.service.id;
        let checked = to.health.checked(service);
        let waits = checked.is_some_and(|checked| checked.start_down);
        let old = from.service(service).map(|old| &old.destinations);
        let is_known = move |id| old.is_some_and(|old| old.iter().any(|known| known.id == id));
        let new = entry.destinations.iter().map(|server| server.id);
        let new = new.filter(move |id| waits && !is_known(*id));
        new.map(move |id| Change::SwitchServer {
            service,
            id,
            off: true,
        })
    })
}

/// Which servers are off is not asked for by a configuration, but found.
fn check_changes(from: &Configuration, to: &Configuration) -> Option<Change> {
    let (old, new) = (&from.health, &to.health);
    // Of services that go, the checks have gone by then.
    let left = old.services.iter();
    let left = left.filter(|used| to.service(used.service).is_some());
    let is_same = old.checks == new.checks && left.eq(&new.services);
    (!is_same).then(|| Change::ReplaceChecks {
        checks: new.checks.clone(),
        services: new.services.clone(),
    })
}

fn settings_changes(from: &IpvsSettings, to: &IpvsSettings) -> Option<Change> {
    let back = from.changed().map(|(name, _)| (name, to.get(name)));
    let settings: BTreeMap<String, u32> = back
        .chain(to.changed())
        .filter(|(name, value)| from.get(name) != *value)
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    (!settings.is_empty()).then_some(Change::Set { settings })
}

fn service_added(new: &ServiceEntry) -> Vec<Change> {
    let service = Change::AddService {
        service: new.service.clone(),
    };
    // Each destination goes to the front, so the last of the list is added first.
    let destinations = new.destinations.iter().rev();
    let destinations = destinations.map(|destination| Change::AddDestination {
        service: new.service.id,
        destination: destination.clone(),
    });
    std::iter::once(service).chain(destinations).collect()
}

fn service_changes(old: &ServiceEntry, new: &ServiceEntry) -> Vec<Change> {
    let service = new.service.id;
    let edited = (old.service != new.service).then(|| Change::EditService {
        service: new.service.clone(),
    });
    let gone = old
        .destinations
        .iter()
        .map(|known| known.id)
        .filter(|id| !new.destinations.iter().any(|kept| kept.id == *id))
        .map(|id| Change::RemoveDestination { service, id });
    let rest = new.destinations.iter().rev().filter_map(|destination| {
        let known = old
            .destinations
            .iter()
            .find(|known| known.id == destination.id);
        let destination = destination.clone();
        match known {
            None => Some(Change::AddDestination {
                service,
                destination,
            }),
            Some(known) if *known != destination => Some(Change::EditDestination {
                service,
                destination,
            }),
            Some(_) => None,
        }
    });
    edited.into_iter().chain(gone).chain(rest).collect()
}

#[cfg(test)]
mod tests;
