//! The stable numbers of services and destinations: what connections refer to instead of pointers. Pure.
//!
//! * A service or destination keeps its number as long as it is configured.
//! * A removed destination keeps its number, too, until it is said that no connection refers to it
//!   ([`Numbering::release`]). Added again before, it gets the same number and with it its connections, as with the
//!   destination trash of Linux IPVS (`ip_vs_trash_get_dest`).
//! * A removed service keeps its number as long as one of its destinations keeps one.
//! * New ones get the smallest free number, so that numbers stay dense enough to index arrays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pollux_api::{Configuration, DestinationId, ServiceId};
use thiserror::Error;

/// The number of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceNumber(u32);

/// The number of a destination, unique among those of all services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationNumber(u32);

impl ServiceNumber {
    /// The service with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl DestinationNumber {
    /// The destination with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ServiceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {}", self.0)
    }
}

impl fmt::Display for DestinationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "destination {}", self.0)
    }
}

/// Why stored numbers do not make a numbering.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NumberingError {
    /// Two services, or two destinations, with one number; or one of them with two.
    #[error("number {0} is given twice, or to something that has another number already")]
    Twice(u32),
    /// A service without a number.
    #[error("service {0} has no number")]
    ServiceMissing(ServiceId),
    /// A destination without a number.
    #[error("server {1} of service {0} has no number")]
    DestinationMissing(ServiceId, DestinationId),
}

/// Which number everything has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbering {
    services: BTreeMap<ServiceId, ServiceNumber>,
    destinations: BTreeMap<(ServiceId, DestinationId), DestinationNumber>,
    /// Destinations that are not configured any more and still have a number.
    trash: BTreeMap<DestinationNumber, (ServiceId, DestinationId)>,
}

impl Numbering {
    /// Takes over a configuration: what is new gets a number, destinations that are gone go to the trash.
    pub fn assign(&mut self, configuration: &Configuration) {
        let mut free_services = free(self.services.values().map(|number| number.0).collect());
        let mut free_destinations =
            free(self.destinations.values().map(|number| number.0).collect());
        let configured = configured(configuration);
        for entry in &configuration.services {
            let service = entry.service.id;
            if !self.services.contains_key(&service) {
                let number = free_services.next().map(ServiceNumber);
                self.services.extend(number.map(|number| (service, number)));
            }
        }
        for key in &configured {
            if !self.destinations.contains_key(key) {
                let number = free_destinations.next().map(DestinationNumber);
                self.destinations
                    .extend(number.map(|number| (*key, number)));
            }
        }
        let gone = self
            .destinations
            .iter()
            .filter(|(key, _)| !configured.contains(*key));
        self.trash = gone.map(|(key, number)| (*number, *key)).collect();
        self.forget_services(configuration);
    }

    /// The number of a service that is configured or has destinations in the trash.
    pub fn service(&self, id: ServiceId) -> Option<ServiceNumber> {
        self.services.get(&id).copied()
    }

    /// The number of a destination that is configured or in the trash.
    pub fn destination(&self, service: ServiceId, id: DestinationId) -> Option<DestinationNumber> {
        self.destinations.get(&(service, id)).copied()
    }

    /// The destinations that are not configured any more and still have a number.
    pub fn trash(&self) -> impl Iterator<Item = (DestinationNumber, ServiceId, DestinationId)> {
        self.trash
            .iter()
            .map(|(number, (service, id))| (*number, *service, *id))
    }

    /// No connection refers to this destination any more: its number, and perhaps that of its service, is free.
    /// False, and nothing done, when it is configured or unknown.
    pub fn release(&mut self, number: DestinationNumber, configuration: &Configuration) -> bool {
        let Some(key) = self.trash.remove(&number) else {
            return false;
        };
        self.destinations.remove(&key);
        self.forget_services(configuration);
        true
    }

    /// All services with a number, for storing.
    pub fn services(&self) -> impl Iterator<Item = (ServiceNumber, ServiceId)> {
        self.services.iter().map(|(id, number)| (*number, *id))
    }

    /// All destinations with a number, the trash included, for storing.
    pub fn destinations(
        &self,
    ) -> impl Iterator<Item = (DestinationNumber, ServiceId, DestinationId)> {
        self.destinations
            .iter()
            .map(|((service, id), number)| (*number, *service, *id))
    }

    /// The numbering that was stored with this configuration.
    ///
    /// # Errors
    /// [`NumberingError`] when it is none, or not that of the configuration.
    pub fn restore(
        services: impl IntoIterator<Item = (ServiceNumber, ServiceId)>,
        destinations: impl IntoIterator<Item = (DestinationNumber, ServiceId, DestinationId)>,
        configuration: &Configuration,
    ) -> Result<Self, NumberingError> {
        let mut numbering = Self::default();
        let mut taken = BTreeSet::new();
        for (number, id) in services {
            if !taken.insert(number.0) || numbering.services.insert(id, number).is_some() {
                return Err(NumberingError::Twice(number.0));
            }
        }
        taken.clear();
        for (number, service, id) in destinations {
            if !numbering.services.contains_key(&service) {
                return Err(NumberingError::ServiceMissing(service));
            }
            let before = numbering.destinations.insert((service, id), number);
            if !taken.insert(number.0) || before.is_some() {
                return Err(NumberingError::Twice(number.0));
            }
        }
        for entry in &configuration.services {
            let service = entry.service.id;
            if !numbering.services.contains_key(&service) {
                return Err(NumberingError::ServiceMissing(service));
            }
        }
        for (service, id) in configured(configuration) {
            if !numbering.destinations.contains_key(&(service, id)) {
                return Err(NumberingError::DestinationMissing(service, id));
            }
        }
        // Nothing is new, so this sorts out the trash only.
        numbering.assign(configuration);
        Ok(numbering)
    }

    fn forget_services(&mut self, configuration: &Configuration) {
        let mut kept: BTreeSet<ServiceId> =
            self.trash.values().map(|(service, _)| *service).collect();
        kept.extend(configuration.services.iter().map(|entry| entry.service.id));
        self.services.retain(|id, _| kept.contains(id));
    }
}

fn configured(configuration: &Configuration) -> BTreeSet<(ServiceId, DestinationId)> {
    let entries = configuration.services.iter();
    entries
        .flat_map(|entry| {
            let service = entry.service.id;
            entry
                .destinations
                .iter()
                .map(move |known| (service, known.id))
        })
        .collect()
}

/// The numbers that are not taken, from the smallest.
fn free(taken: BTreeSet<u32>) -> impl Iterator<Item = u32> {
    (0..=u32::MAX).filter(move |number| !taken.contains(number))
}

#[cfg(test)]
mod tests;
