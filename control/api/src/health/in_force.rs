//! What schedulers and listings see of a configuration, given what the checks found.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{CheckedService, Health, OffServer, OnFailure};
use crate::configuration::{Configuration, Destination, ServiceEntry};
use crate::identity::{ServiceId, Weight};

impl Configuration {
    /// What schedulers and listings see: servers that are off have weight 0 or are not there, servers that are adjusted
    /// have that weight, and a service that lost its quorum has its sorry server.
    pub fn in_force(&self) -> Cow<'_, Self> {
        if self.health.changes_nothing() {
            return Cow::Borrowed(self);
        }
        let mut seen = self.clone();
        for service in self.health.services_otherwise_in_force() {
            if let Some(checked) = self.health.checked(service)
                && let Some(entry) = seen.services.get_mut(service)
            {
                self.health.enforce(checked, entry);
            }
        }
        Cow::Owned(seen)
    }

    /// The same of one service; none when there is no such service.
    pub fn service_in_force(&self, id: ServiceId) -> Option<Cow<'_, ServiceEntry>> {
        let configured = self.service(id)?;
        let Some(checked) = self.health.checked(id) else {
            return Some(Cow::Borrowed(configured));
        };
        if !self.health.is_otherwise_in_force(configured) {
            return Some(Cow::Borrowed(configured));
        }
        let mut entry = configured.clone();
        self.health.enforce(checked, &mut entry);
        Some(Cow::Owned(entry))
    }

    /// The servers of a service, and its sorry server: all that its packets may ever go to.
    pub fn servers_and_sorry_server<'a>(
        &'a self,
        entry: &'a ServiceEntry,
    ) -> impl Iterator<Item = &'a Destination> {
        let checked = self.health.checked(entry.service.id);
        let sorry_server = checked.and_then(|checked| checked.sorry_server.as_ref());
        entry.destinations.iter().chain(sorry_server)
    }
}

impl Health {
    fn changes_nothing(&self) -> bool {
        self.services_otherwise_in_force().is_empty()
    }

    /// Services of which schedulers see something else than is configured.
    fn services_otherwise_in_force(&self) -> BTreeSet<ServiceId> {
        let off = self.off.iter().map(|off| off.service);
        let adjusted = self.adjusted.iter().map(|adjusted| adjusted.service);
        let lost = self.lost.iter().copied();
        let sorry = lost.filter(|service| self.sorry_server(*service).is_some());
        off.chain(adjusted).chain(sorry).collect()
    }

    fn is_otherwise_in_force(&self, entry: &ServiceEntry) -> bool {
        let service = entry.service.id;
        let mut servers = entry.destinations.iter().map(|known| known.id);
        self.sorry_server(service).is_some()
            || servers.any(|server| {
                self.is_off(service, server) || self.adjusted_weight(service, server).is_some()
            })
    }

    fn enforce(&self, checked: &CheckedService, entry: &mut ServiceEntry) {
        let service = entry.service.id;
        let sorry_server = self.sorry_server(service);
        entry.destinations.retain_mut(|destination| {
            let server = destination.id;
            let is_off = self.off.contains(&OffServer { service, server });
            if is_off || sorry_server.is_some() {
                destination.weight = Weight::ZERO;
            } else if let Some(weight) = self.adjusted_weight(service, server)
                // An administrator who drains a server is not overruled.
                && destination.weight != Weight::ZERO
            {
                destination.weight = weight;
            }
            !(is_off && checked.on_failure == OnFailure::Remove)
        });
        if let Some(server) = sorry_server {
            entry.destinations.insert(0, server.clone());
        }
    }
}
