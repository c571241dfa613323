//! What schedulers and listings see of a configuration, given what the checks found.

use std::borrow::Cow;

use super::{CheckedService, Health, OffServer, OnFailure};
use crate::configuration::{Configuration, ServiceEntry};
use crate::identity::Weight;

impl Configuration {
    /// What schedulers and listings see: servers that are off have weight 0 or are not there, servers that are adjusted
    /// have that weight, and a service that lost its quorum has its sorry server.
    pub fn in_force(&self) -> Cow<'_, Self> {
        if self.health.changes_nothing() {
            return Cow::Borrowed(self);
        }
        let mut seen = self.clone();
        for entry in &mut seen.services {
            if let Some(checked) = self.health.checked(entry.service.id) {
                self.health.enforce(checked, entry);
            }
        }
        Cow::Owned(seen)
    }
}

impl Health {
    fn changes_nothing(&self) -> bool {
        let is_sorry = |service| self.sorry_server(service).is_some();
        self.off.is_empty()
            && self.adjusted.is_empty()
            && !self.lost.iter().any(|service| is_sorry(*service))
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
