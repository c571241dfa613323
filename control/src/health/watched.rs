//! Services and servers that are watched, and what is to be switched because of what was found. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pollux_api::health::{CheckedService, Quorum};
use pollux_api::{Change, Check, Configuration, DestinationId, ServiceId, Weight};

use super::outcome::Share;

/// A slow start goes in so many steps.
const STEPS: u32 = 20;

/// A service that is checked.
#[derive(Debug)]
pub struct WatchedService {
    /// Which, and how.
    pub checked: CheckedService,
    /// Its servers.
    pub servers: std::ops::Range<usize>,
    /// Whether its quorum is lost.
    pub is_lost: bool,
    /// Since when.
    pub since: Instant,
}

/// A server of a service.
#[derive(Debug)]
pub struct WatchedServer {
    /// Of which of the services.
    pub service: usize,
    /// Which.
    pub id: DestinationId,
    configured: Weight,
    /// Whether it runs switched off.
    is_off: bool,
    /// The weight it runs with instead of its own.
    pub adjusted: Option<Weight>,
    /// Since when its weight rises.
    rises_since: Option<Instant>,
}

/// What the checks say of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whether it is to be off.
    pub off: bool,
    /// Whether it is not known to be up: if it is off, it stays so.
    pub is_unproven: bool,
    /// Which share of its weight it takes.
    pub share: Option<Share>,
}

/// A service's quorum was lost or is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumChange {
    /// Which service.
    pub service: ServiceId,
    /// Its quorum.
    pub quorum: Quorum,
    /// Whether it is lost now.
    pub is_lost: bool,
    /// Whether nothing is known of before.
    pub is_first: bool,
}

impl QuorumChange {
    /// What is to be run because of it; empty: nothing.
    pub fn command(&self) -> &[String] {
        if self.is_lost {
            &self.quorum.down
        } else {
            &self.quorum.up
        }
    }
}

/// All that is watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// The services.
    pub services: Vec<WatchedService>,
    /// Their servers, one service after the other.
    pub servers: Vec<WatchedServer>,
    /// Servers of which something may have changed.
    stale: HashSet<usize>,
    /// Servers whose weight rises.
    rising: HashSet<usize>,
    quorum_changes: Vec<QuorumChange>,
    /// The configuration that was followed last.
    followed: Configuration,
}

/// Of more services that changed than this, following everything costs no more.
const CHANGED_MAX: usize = 64;

impl Watched {
    /// Watches what a configuration says, if only what some services say of the servers that they had has changed: weights, and
    /// who is off. False, and nothing done, when it is more.
    pub fn follow_servers(&mut self, configuration: &Configuration, now: Instant) -> bool {
        let (before, after) = (&self.followed, configuration);
        let is_path = |check: &Check| check.service_path;
        if before.health.checks != after.health.checks
            || before.health.services != after.health.services
            || after.health.checks.iter().any(is_path)
        {
            return false;
        }
        let changed = after.changed_services(before);
        let servers = |of: &Configuration, id| -> Option<Vec<DestinationId>> {
            let entry = of.service(id)?;
            Some(entry.destinations.iter().map(|known| known.id).collect())
        };
        // Of services that nobody checks nothing is watched.
        let changed: Vec<ServiceId> = changed
            .into_iter()
            .filter(|id| after.health.checked(*id).is_some())
            .collect();
        let is_same = |id: &ServiceId| servers(before, *id) == servers(after, *id);
        if changed.len() > CHANGED_MAX || !changed.iter().all(is_same) {
            return false;
        }
        for id in changed {
            let mut services = self.services.iter_mut();
            let service = services.find(|service| service.checked.service == id);
            let (Some(service), Some(entry)) = (service, after.service(id)) else {
                continue;
            };
            let is_lost = after.health.lost.contains(&id);
            if is_lost != service.is_lost {
                service.is_lost = is_lost;
                service.since = now;
                self.quorum_changes.push(QuorumChange {
                    service: id,
                    quorum: service.checked.quorum.clone(),
                    is_lost,
                    is_first: false,
                });
            }
            for (index, destination) in service.servers.clone().zip(&entry.destinations) {
                if let Some(server) = self.servers.get_mut(index) {
                    server.configured = destination.weight;
                    server.is_off = after.health.is_off(id, destination.id);
                    server.adjusted = after.health.adjusted_weight(id, destination.id);
                    self.stale.insert(index);
                }
            }
        }
        self.followed = configuration.clone();
        true
    }

    /// Watches what a configuration says; what is known of servers and services that stay is kept.
    pub fn follow(&mut self, configuration: &Configuration, now: Instant) {
        self.followed = configuration.clone();
        let health = &configuration.health;
        let known_services: HashMap<ServiceId, (bool, Instant)> = self
            .services
            .iter()
            .map(|service| (service.checked.service, (service.is_lost, service.since)))
            .collect();
        let rising = self.rising.iter().filter_map(|index| {
            let server = self.servers.get(*index)?;
            let service = self.services.get(server.service)?.checked.service;
            Some(((service, server.id), server.rises_since?))
        });
        let rising: HashMap<(ServiceId, DestinationId), Instant> = rising.collect();
        self.services.clear();
        self.servers.clear();
        self.rising.clear();
        for entry in &configuration.services {
            let id = entry.service.id;
            let Some(checked) = health.checked(id) else {
                continue;
            };
            let first = self.servers.len();
            for destination in &entry.destinations {
                let rises_since = rising.get(&(id, destination.id)).copied();
                if rises_since.is_some() {
                    self.rising.insert(self.servers.len());
                }
                self.servers.push(WatchedServer {
                    service: self.services.len(),
                    id: destination.id,
                    configured: destination.weight,
                    is_off: health.is_off(id, destination.id),
                    adjusted: health.adjusted_weight(id, destination.id),
                    rises_since,
                });
            }
            let is_lost = health.lost.contains(&id);
            let known = known_services.get(&id).copied();
            let since = known.filter(|(was_lost, _)| *was_lost == is_lost);
            if since.is_none() {
                // Also of one that is new: what is done about it may have to be done still.
                self.quorum_changes.push(QuorumChange {
                    service: id,
                    quorum: checked.quorum.clone(),
                    is_lost,
                    is_first: known.is_none(),
                });
            }
            self.services.push(WatchedService {
                checked: checked.clone(),
                servers: first..self.servers.len(),
                is_lost,
                since: since.map_or(now, |(_, since)| since),
            });
        }
        self.stale = (0..self.servers.len()).collect();
    }

    /// A check says something else of a server.
    pub fn touch(&mut self, server: usize) {
        self.stale.insert(server);
    }

    /// The time at which a weight has to rise, if any does.
    pub fn next_step(&self, now: Instant) -> Option<Instant> {
        let pauses = self.rising.iter().filter_map(|index| {
            let server = self.servers.get(*index)?;
            Some(self.slow_start_of(server) / STEPS)
        });
        pauses.min().map(|pause| now + pause)
    }

    fn slow_start_of(&self, server: &WatchedServer) -> Duration {
        let service = self.services.get(server.service);
        let seconds = service.map_or(0, |service| service.checked.slow_start_s);
        Duration::from_secs(seconds.into())
    }

    /// What has to be switched, given what the checks say of each server. Nothing is taken for done before
    /// [`Watched::done`].
    pub fn changes(&mut self, now: Instant, wanted: impl Fn(usize) -> Wanted) -> Vec<Change> {
        let mut changes = Vec::new();
        self.stale.extend(&self.rising);
        let mut indices: Vec<usize> = self.stale.iter().copied().collect();
        indices.sort_unstable();
        for index in indices {
            let slow_start = self
                .servers
                .get(index)
                .map_or(Duration::ZERO, |server| self.slow_start_of(server));
            let Some(server) = self.servers.get_mut(index) else {
                continue;
            };
            let Some(service) = self.services.get(server.service) else {
                continue;
            };
            let (service, id) = (service.checked.service, server.id);
            let wanted = wanted(index);
            let share = wanted.share;
            let off = wanted.off || (wanted.is_unproven && server.is_off);
            if off {
                server.rises_since = None;
            } else if server.is_off && !slow_start.is_zero() {
                server.rises_since.get_or_insert(now);
            }
            let part = server.rises_since.map_or(1.0, |since| {
                let passed = now.saturating_duration_since(since);
                // By steps, so that a short one is not a change each millisecond.
                let steps = passed.as_secs_f64() / slow_start.as_secs_f64() * f64::from(STEPS);
                (steps.floor() / f64::from(STEPS)).max(f64::from(STEPS).recip())
            });
            if part >= 1.0 {
                server.rises_since = None;
            }
            let adjusted = adjusted(server.configured, share, part.min(1.0));
            if server.rises_since.is_some() {
                self.rising.insert(index);
            } else {
                self.rising.remove(&index);
            }
            let mut is_settled = true;
            // First the weight: a server that returns begins with a small one.
            if !off && server.adjusted != adjusted {
                is_settled = false;
                changes.push(Change::AdjustServer {
                    service,
                    id,
                    weight: adjusted,
                });
            }
            if server.is_off != off {
                is_settled = false;
                changes.push(Change::SwitchServer { service, id, off });
            }
            if is_settled {
                self.stale.remove(&index);
            }
        }
        changes
    }

    /// These changes run now.
    pub fn done(&mut self, changes: &[Change], now: Instant) {
        let places: HashMap<(ServiceId, DestinationId), usize> = self
            .stale
            .iter()
            .filter_map(|index| {
                let server = self.servers.get(*index)?;
                let service = self.services.get(server.service)?;
                Some(((service.checked.service, server.id), *index))
            })
            .collect();
        let mut services = HashSet::new();
        for change in changes {
            let (Change::SwitchServer { service, id, .. }
            | Change::AdjustServer { service, id, .. }) = change
            else {
                continue;
            };
            let place = places.get(&(*service, *id));
            let Some(server) = place.and_then(|index| self.servers.get_mut(*index)) else {
                continue;
            };
            match change {
                Change::SwitchServer { off, .. } => server.is_off = *off,
                Change::AdjustServer { weight, .. } => server.adjusted = *weight,
                _ => {}
            }
            services.insert(server.service);
        }
        for service in services {
            self.settle_quorum(service, now);
        }
    }

    /// The rule of the data plane, so that nobody has to ask it.
    fn settle_quorum(&mut self, index: usize, now: Instant) {
        let Some(service) = self.services.get(index) else {
            return;
        };
        let weight_up = self.weight_up(service);
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        let quorum = &service.checked.quorum;
        let is_lost = quorum.is_lost(service.is_lost, weight_up);
        if is_lost != service.is_lost {
            service.is_lost = is_lost;
            service.since = now;
            self.quorum_changes.push(QuorumChange {
                service: service.checked.service,
                quorum: quorum.clone(),
                is_lost,
                is_first: false,
            });
        }
    }

    /// The sum of the configured weights of a service's servers that are up.
    pub fn weight_up(&self, service: &WatchedService) -> u64 {
        let servers = self.servers.get(service.servers.clone());
        let up = servers.into_iter().flatten();
        let up = up.filter(|server| !server.is_off);
        up.map(|server| u64::from(server.configured.get())).sum()
    }

    /// The addresses that are announced, each with whether all services that announce it have their quorum.
    pub fn announced(&self) -> BTreeMap<(String, IpAddr), bool> {
        let mut announced = BTreeMap::new();
        for service in &self.services {
            if let (Some(interface), ServiceId::Address(id)) =
                (&service.checked.quorum.announce, service.checked.service)
            {
                let place = (interface.clone(), id.endpoint.address());
                *announced.entry(place).or_insert(true) &= !service.is_lost;
            }
        }
        announced
    }

    /// The quorums that changed since this was last asked.
    pub fn take_quorum_changes(&mut self) -> Vec<QuorumChange> {
        std::mem::take(&mut self.quorum_changes)
    }
}

/// The weight instead of the configured one; none if that is it.
fn adjusted(configured: Weight, share: Option<Share>, part: f64) -> Option<Weight> {
    // An administrator who drains a server is not overruled.
    if configured == Weight::ZERO {
        return None;
    }
    let whole = match share {
        None => f64::from(configured.get()),
        Some(Share::Percent(percent)) => {
            (f64::from(configured.get()) * f64::from(percent) / 100.0).ceil()
        }
        Some(Share::Weight(weight)) => f64::from(weight),
    };
    let weight = (whole * part).ceil().min(f64::from(Weight::MAX));
    // A whole number in the range of weights.
    let weight = Weight::try_from(weight as u64).unwrap_or_default();
    (weight != configured).then_some(weight)
}

#[cfg(test)]
mod tests;
