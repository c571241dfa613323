//! Who is asked for whom, and what is to be switched because of it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pollux_api::health::{OffServer, ServerHealth, ServerState};
use pollux_api::{Change, Check, Configuration};
use tokio::task::AbortHandle;

use super::history::{History, milliseconds};
use super::schedule::{Asking, Found};

/// All servers that are asked.
#[derive(Debug, Default)]
pub struct HealthTable(Mutex<Targets>);

/// What makes two checks of a server the same: all but the name.
type Identity = (SocketAddr, Check);

#[derive(Debug, Default)]
struct Targets {
    numbers: HashMap<Identity, u64>,
    targets: BTreeMap<u64, Target>,
    next: u64,
}

#[derive(Debug)]
struct Target {
    identity: Identity,
    history: History,
    asking: Option<AbortHandle>,
    /// Servers of services, in the order of the configuration, each with the name of the check.
    users: Vec<(OffServer, String)>,
}

impl HealthTable {
    /// Asks whom the configuration wants asked, and no others. Who is asked already goes on as before; a server that is
    /// new begins in the state it is in.
    pub fn follow(&self, configuration: &Configuration, asking: &Asking) {
        self.lock()
            .follow(configuration, |number, (server, check)| {
                Some(asking.start(number, *server, check.clone()))
            });
    }

    /// Takes what was found; true when a server's state changes.
    pub fn record(&self, found: Found) -> bool {
        self.lock().record(found, Instant::now())
    }

    /// What has to be switched.
    pub fn changes(&self, configuration: &Configuration) -> Vec<Change> {
        self.lock().changes(configuration)
    }

    /// What is known, in the order of the configuration within each server.
    pub fn report(&self) -> Vec<ServerHealth> {
        self.lock().report(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Targets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Targets {
    fn follow(
        &mut self,
        configuration: &Configuration,
        start: impl Fn(u64, &Identity) -> Option<AbortHandle>,
    ) {
        let now = Instant::now();
        for target in self.targets.values_mut() {
            target.users.clear();
        }
        let health = &configuration.health;
        for entry in &configuration.services {
            let service = entry.service.id;
            let Some(check) = health.check_of(service) else {
                continue;
            };
            for destination in &entry.destinations {
                let user = OffServer {
                    service,
                    server: destination.id,
                };
                let port = check.port.unwrap_or(destination.id.port());
                let settings = Check {
                    name: String::new(),
                    ..check.clone()
                };
                let identity = (SocketAddr::new(destination.id.address(), port), settings);
                let number = *self.numbers.entry(identity.clone()).or_insert_with(|| {
                    self.next += 1;
                    self.next
                });
                let target = self.targets.entry(number).or_insert_with(|| Target {
                    // Down only if it is off wherever it is used.
                    history: History::new(check.rise, check.fall, ServerState::Down, now),
                    asking: None,
                    identity,
                    users: Vec::new(),
                });
                if target.asking.is_none() && !health.is_off(service, destination.id) {
                    target.history = History::new(check.rise, check.fall, ServerState::Up, now);
                }
                target.users.push((user, check.name.clone()));
            }
        }
        self.targets.retain(|_, target| {
            if target.users.is_empty()
                && let Some(asking) = &target.asking
            {
                asking.abort();
            }
            !target.users.is_empty()
        });
        let targets = &self.targets;
        self.numbers
            .retain(|_, number| targets.contains_key(number));
        for (number, target) in &mut self.targets {
            if target.asking.is_none() {
                target.asking = start(*number, &target.identity);
            }
        }
    }

    fn record(&mut self, found: Found, now: Instant) -> bool {
        // None: it was found while the check was given up.
        let Some(target) = self.targets.get_mut(&found.target) else {
            return false;
        };
        let changed = target.history.record(found.outcome, now);
        if changed {
            let (server, _) = &target.identity;
            let (word, level) = match target.history.state() {
                ServerState::Up => ("up", log::Level::Info),
                ServerState::Down => ("down", log::Level::Warn),
            };
            let reason = target.history.reason();
            log::log!(level, "server {server} is {word}: {reason}");
        }
        changed
    }

    fn changes(&self, configuration: &Configuration) -> Vec<Change> {
        let mut changes = Vec::new();
        for target in self.targets.values() {
            let off = target.history.state() == ServerState::Down;
            for (user, _) in &target.users {
                let (service, id) = (user.service, user.server);
                if configuration.health.is_off(service, id) != off {
                    changes.push(Change::SwitchServer { service, id, off });
                }
            }
        }
        changes
    }

    fn report(&self, now: Instant) -> Vec<ServerHealth> {
        let targets = self.targets.values();
        let users = targets.flat_map(|target| target.users.iter().map(move |user| (target, user)));
        let mut report: Vec<ServerHealth> = users
            .map(|(target, (user, check))| ServerHealth {
                service: user.service,
                server: user.server,
                check: check.clone(),
                state: target.history.state(),
                since_ms: milliseconds(target.history.since(), now),
                against: target.history.against(),
                recent: target.history.recent(now),
            })
            .collect();
        report.sort_by_key(|server| (server.service, server.server));
        report
    }
}

#[cfg(test)]
mod tests;
