//! The stable numbers of services and destinations: what connections refer to instead of pointers. Pure.
//!
//! * A service or destination keeps its number as long as it is configured.
//! * A removed destination keeps its number, too, until it is said that no connection refers to it
//!   ([`Numbering::release`]). Added again before, it gets the same number and with it its connections, as with the
//!   destination trash of Linux IPVS (`ip_vs_trash_get_dest`).
//! * A removed service keeps its number as long as one of its destinations keeps one.
//! * New ones get the smallest free number, so that numbers stay dense enough to index arrays.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use pollux_api::{Configuration, DestinationId, ServiceEntry, ServiceId};
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

/// Which number everything has. A copy shares what neither of the two changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbering {
    services: Arc<BTreeMap<ServiceId, Arc<ServiceNumbers>>>,
    /// Destinations that are not configured any more and still have a number.
    trash: Arc<BTreeMap<DestinationNumber, (ServiceId, DestinationId)>>,
    free_services: Arc<FreeNumbers>,
    free_destinations: Arc<FreeNumbers>,
}

/// The numbers of a service and of its destinations, of removed ones too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ServiceNumbers {
    own: ServiceNumber,
    destinations: BTreeMap<DestinationId, DestinationNumber>,
}

/// What was numbered anew since another numbering: for storing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbered {
    /// Services.
    pub services: Vec<(ServiceNumber, ServiceId)>,
    /// Destinations.
    pub destinations: Vec<(DestinationNumber, ServiceId, DestinationId)>,
}

impl Numbering {
    /// Takes over a configuration: what is new gets a number, destinations that are gone go to the trash.
    pub fn assign(&mut self, configuration: &Configuration) {
        let configured = configuration.services.iter().map(|entry| entry.service.id);
        let mut all: Vec<ServiceId> = configured.collect();
        let gone = self.services.keys().copied();
        all.extend(gone.filter(|id| !configuration.services.contains(*id)));
        self.assign_services(&all, |id| configuration.service(id).map(Cow::Borrowed));
    }

    /// Takes over these services, each as it is configured now, if it is; all others have stayed as they are. Returns what got
    /// a number.
    pub fn assign_services<'a>(
        &mut self,
        changed: &[ServiceId],
        configured: impl Fn(ServiceId) -> Option<Cow<'a, ServiceEntry>>,
    ) -> Numbered {
        let mut numbered = Numbered::default();
        // Services by their order, destinations by that of their ids, from the smallest number that is free.
        for id in changed {
            if !self.services.contains_key(id) && configured(*id).is_some() {
                let own = ServiceNumber(Arc::make_mut(&mut self.free_services).take());
                let numbers = Arc::new(ServiceNumbers {
                    own,
                    destinations: BTreeMap::new(),
                });
                Arc::make_mut(&mut self.services).insert(*id, numbers);
                numbered.services.push((own, *id));
            }
        }
        let mut in_order = changed.to_vec();
        in_order.sort_unstable();
        for id in in_order {
            let entry = configured(id);
            let servers = entry.as_ref().map(|entry| &entry.destinations);
            let servers: BTreeSet<DestinationId> = servers
                .into_iter()
                .flatten()
                .map(|known| known.id)
                .collect();
            self.assign_servers(id, &servers, &mut numbered);
            if entry.is_none() {
                self.forget_service(id);
            }
        }
        numbered
    }

    /// Gives these numbers, as they were given before.
    ///
    /// # Errors
    /// [`NumberingError`] when they are given already; some of them may have been given then.
    pub fn give(&mut self, numbered: &Numbered) -> Result<(), NumberingError> {
        for (own, id) in &numbered.services {
            let free = Arc::make_mut(&mut self.free_services);
            if self.services.contains_key(id) || !free.take_this(own.0) {
                return Err(NumberingError::Twice(own.0));
            }
            let numbers = Arc::new(ServiceNumbers {
                own: *own,
                destinations: BTreeMap::new(),
            });
            Arc::make_mut(&mut self.services).insert(*id, numbers);
        }
        for (number, service, id) in &numbered.destinations {
            let services = Arc::make_mut(&mut self.services);
            let Some(numbers) = services.get_mut(service).map(Arc::make_mut) else {
                return Err(NumberingError::ServiceMissing(*service));
            };
            let free = Arc::make_mut(&mut self.free_destinations);
            if numbers.destinations.contains_key(id) || !free.take_this(number.0) {
                return Err(NumberingError::Twice(number.0));
            }
            numbers.destinations.insert(*id, *number);
        }
        Ok(())
    }

    fn assign_servers(
        &mut self,
        id: ServiceId,
        servers: &BTreeSet<DestinationId>,
        numbered: &mut Numbered,
    ) {
        let Some(known) = self.services.get(&id) else {
            return;
        };
        let new: Vec<DestinationId> = servers
            .iter()
            .copied()
            .filter(|server| !known.destinations.contains_key(server))
            .collect();
        if !new.is_empty() {
            let services = Arc::make_mut(&mut self.services);
            let Some(numbers) = services.get_mut(&id).map(Arc::make_mut) else {
                return;
            };
            let free = Arc::make_mut(&mut self.free_destinations);
            for server in new {
                let number = DestinationNumber(free.take());
                numbers.destinations.insert(server, number);
                numbered.destinations.push((number, id, server));
            }
        }
        let Some(known) = self.services.get(&id) else {
            return;
        };
        for (server, number) in &known.destinations {
            let is_in_trash = self.trash.contains_key(number);
            if servers.contains(server) {
                if is_in_trash {
                    Arc::make_mut(&mut self.trash).remove(number);
                }
            } else if !is_in_trash {
                Arc::make_mut(&mut self.trash).insert(*number, (id, *server));
            }
        }
    }

    /// The number of a service that is configured or has destinations in the trash.
    pub fn service(&self, id: ServiceId) -> Option<ServiceNumber> {
        Some(self.services.get(&id)?.own)
    }

    /// The number of a destination that is configured or in the trash.
    pub fn destination(&self, service: ServiceId, id: DestinationId) -> Option<DestinationNumber> {
        let known = self.services.get(&service)?;
        known.destinations.get(&id).copied()
    }

    /// The destinations of a service that have a number, removed ones too.
    pub fn destinations_of(
        &self,
        service: ServiceId,
    ) -> impl Iterator<Item = (DestinationNumber, DestinationId)> {
        let known = self.services.get(&service).into_iter();
        let all = known.flat_map(|known| &known.destinations);
        all.map(|(id, number)| (*number, *id))
    }

    /// Whether a destination is not configured any more and still has a number.
    pub fn is_in_trash(&self, number: DestinationNumber) -> bool {
        self.trash.contains_key(&number)
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
        if !self.is_in_trash(number) {
            return false;
        }
        let Some((service, id)) = Arc::make_mut(&mut self.trash).remove(&number) else {
            return false;
        };
        let services = Arc::make_mut(&mut self.services);
        if let Some(numbers) = services.get_mut(&service).map(Arc::make_mut) {
            numbers.destinations.remove(&id);
        }
        Arc::make_mut(&mut self.free_destinations).give_back(number.0);
        if !configuration.services.contains(service) {
            self.forget_service(service);
        }
        true
    }

    /// All services with a number, for storing.
    pub fn services(&self) -> impl Iterator<Item = (ServiceNumber, ServiceId)> {
        self.services.iter().map(|(id, known)| (known.own, *id))
    }

    /// All destinations with a number, the trash included, for storing.
    pub fn destinations(
        &self,
    ) -> impl Iterator<Item = (DestinationNumber, ServiceId, DestinationId)> {
        self.services.iter().flat_map(|(service, known)| {
            let destinations = known.destinations.iter();
            destinations.map(|(id, number)| (*number, *service, *id))
        })
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
        let mut all: BTreeMap<ServiceId, ServiceNumbers> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (own, id) in services {
            let numbers = ServiceNumbers {
                own,
                destinations: BTreeMap::new(),
            };
            if !taken.insert(own.0) || all.insert(id, numbers).is_some() {
                return Err(NumberingError::Twice(own.0));
            }
        }
        let free_services = FreeNumbers::beside(&taken);
        taken.clear();
        for (number, service, id) in destinations {
            let Some(numbers) = all.get_mut(&service) else {
                return Err(NumberingError::ServiceMissing(service));
            };
            let before = numbers.destinations.insert(id, number);
            if !taken.insert(number.0) || before.is_some() {
                return Err(NumberingError::Twice(number.0));
            }
        }
        for entry in &configuration.services {
            let service = entry.service.id;
            let numbers = all.get(&service);
            let numbers = numbers.ok_or(NumberingError::ServiceMissing(service))?;
            let mut servers = entry.destinations.iter().map(|known| known.id);
            let missing = servers.find(|id| !numbers.destinations.contains_key(id));
            if let Some(id) = missing {
                return Err(NumberingError::DestinationMissing(service, id));
            }
        }
        let all = all.into_iter().map(|(id, known)| (id, Arc::new(known)));
        let mut numbering = Self {
            services: Arc::new(all.collect()),
            trash: Arc::default(),
            free_services: Arc::new(free_services),
            free_destinations: Arc::new(FreeNumbers::beside(&taken)),
        };
        // Nothing is new, so this sorts out the trash only.
        numbering.assign(configuration);
        Ok(numbering)
    }

    /// A service that is not configured keeps its number as long as a destination of it does.
    fn forget_service(&mut self, id: ServiceId) {
        let known = self.services.get(&id);
        let Some(own) = known.filter(|known| known.destinations.is_empty()) else {
            return;
        };
        let own = own.own;
        Arc::make_mut(&mut self.services).remove(&id);
        Arc::make_mut(&mut self.free_services).give_back(own.0);
    }
}

/// The numbers that nothing has, the smallest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct FreeNumbers {
    /// Those below `next`.
    below: BTreeSet<u32>,
    /// This one and all above are free.
    next: u32,
}

impl FreeNumbers {
    /// All but these.
    fn beside(taken: &BTreeSet<u32>) -> Self {
        let next = taken.last().map_or(0, |last| last.saturating_add(1));
        Self {
            below: (0..next).filter(|number| !taken.contains(number)).collect(),
            next,
        }
    }

    fn take(&mut self) -> u32 {
        self.below.pop_first().unwrap_or_else(|| {
            let number = self.next;
            self.next = number.saturating_add(1);
            number
        })
    }

    /// False when it is taken.
    fn take_this(&mut self, number: u32) -> bool {
        if number < self.next {
            return self.below.remove(&number);
        }
        self.below.extend(self.next..number);
        self.next = number.saturating_add(1);
        true
    }

    fn give_back(&mut self, number: u32) {
        self.below.insert(number);
        while self.next > 0 && self.below.remove(&(self.next - 1)) {
            self.next -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
