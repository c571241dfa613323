//! Health checks: what is asked of servers, which services want it, and what came of it.
//!
//! A server that is off keeps its configured weight: commands edit that one, `pollux save` writes it, and a polluxd that
//! starts knows it. What schedulers and listings see is [`Configuration::in_force`].
//!
//! Whether a service has its quorum follows from who is off, and is known the moment that changes: the sorry server takes
//! over in the same transaction that takes the last server off.

mod check;
pub mod dns;
mod error;
mod in_force;
pub mod path;
pub mod probe;
mod quorum;
mod report;
mod status;

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

pub use check::{Check, CheckNames, JITTER_PERCENT, JITTER_PERCENT_MAX};
pub use error::CheckError;
pub use path::{CheckPath, CheckPaths};
pub use probe::{HttpProbe, Probe, ProbeError};
pub use quorum::Quorum;
pub use report::{ProbeResult, QuorumState, ServerHealth, ServerState, ServiceHealth};
pub use status::{StatusError, Statuses};

use crate::configuration::{ChangeError, Configuration, Destination, ServiceEntry};
use crate::identity::{DestinationId, Family, ServiceId, Weight};

/// A service whose servers are checked, and what is done about those that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedService {
    /// The service.
    pub service: ServiceId,
    /// The names of the checks. A server has to pass all of them.
    pub check: CheckNames,
    /// Whether a server that is new stays off until its checks are good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_down: bool,
    /// What becomes of a server that fails.
    #[serde(default, skip_serializing_if = "OnFailure::is_default")]
    pub on_failure: OnFailure,
    /// Seconds in which the weight of a server that returns rises to the configured one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slow_start_s: u32,
    /// How many have to be up.
    #[serde(default, skip_serializing_if = "Quorum::is_default")]
    pub quorum: Quorum,
    /// The server that takes the connections while the quorum is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sorry_server: Option<Destination>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl CheckedService {
    /// One with all defaults.
    pub fn new(service: ServiceId, check: CheckNames) -> Self {
        Self {
            service,
            check,
            start_down: false,
            on_failure: OnFailure::default(),
            slow_start_s: 0,
            quorum: Quorum::default(),
            sorry_server: None,
        }
    }
}

/// What becomes of a server that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Weight 0: it keeps its connections and gets no new ones.
    #[default]
    Drain,
    /// It is removed, as by `ipvsadm -d`: the settings of IPVS say what becomes of its connections.
    Remove,
}

impl OnFailure {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A server that gets no new connections of a service, whatever its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffServer {
    /// The service.
    pub service: ServiceId,
    /// The server.
    pub server: DestinationId,
}

/// A server that has another weight than the configured one for the time being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustedServer {
    /// The service.
    pub service: ServiceId,
    /// The server.
    pub server: DestinationId,
    /// Its weight for now; 0 drains it.
    pub weight: Weight,
}

/// Checks, who uses them, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The checks, each with a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Services whose servers are checked, in the order of their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<CheckedService>,
    /// Servers that are off; only servers of services that are checked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub off: BTreeSet<OffServer>,
    /// Servers with another weight than the configured one, each once; only servers of services that are checked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub adjusted: BTreeSet<AdjustedServer>,
    /// Services that lost their quorum.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost: BTreeSet<ServiceId>,
}

impl Health {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How a service is checked.
    pub fn checked(&self, service: ServiceId) -> Option<&CheckedService> {
        let services = &self.services;
        let place = services.binary_search_by_key(&service, |used| used.service);
        services.get(place.ok()?)
    }

    /// The checks of a service.
    pub fn checks_of(&self, service: ServiceId) -> impl Iterator<Item = &Check> {
        let used = self.checked(service).into_iter();
        used.flat_map(|used| self.checks_named(&used.check))
    }

    /// The checks of these names. Of a service that is judged, it is not known yet which it uses.
    fn checks_named<'a>(&'a self, names: &'a CheckNames) -> impl Iterator<Item = &'a Check> {
        let find = |name| self.checks.iter().find(move |check| check.name == name);
        names.iter().filter_map(find)
    }

    /// Whether a server is off.
    pub fn is_off(&self, service: ServiceId, server: DestinationId) -> bool {
        self.off.contains(&OffServer { service, server })
    }

    /// The weight that a server has instead of its configured one.
    pub fn adjusted_weight(&self, service: ServiceId, server: DestinationId) -> Option<Weight> {
        self.adjustment(service, server).map(|found| found.weight)
    }

    fn adjustment(&self, service: ServiceId, server: DestinationId) -> Option<AdjustedServer> {
        let least = AdjustedServer {
            service,
            server,
            weight: Weight::ZERO,
        };
        let next = self.adjusted.range(least..).next();
        let found = next.filter(|found| found.service == service && found.server == server);
        found.copied()
    }

    /// Services whose servers may be in force otherwise than with what was known before.
    pub(crate) fn changed_since(&self, before: &Self) -> HashSet<ServiceId> {
        let off = self.off.symmetric_difference(&before.off);
        let adjusted = self.adjusted.symmetric_difference(&before.adjusted);
        let lost = self.lost.symmetric_difference(&before.lost);
        let mut changed: HashSet<ServiceId> = lost.copied().collect();
        changed.extend(off.map(|server| server.service));
        changed.extend(adjusted.map(|server| server.service));
        if self.services != before.services {
            let differs = |of: &Self, used: &CheckedService| of.checked(used.service) != Some(used);
            let new = self.services.iter().filter(|used| differs(before, used));
            let old = before.services.iter().filter(|used| differs(self, used));
            changed.extend(new.chain(old).map(|used| used.service));
        }
        changed
    }

    /// The server that takes the connections of a service now, because its quorum is lost.
    pub fn sorry_server(&self, service: ServiceId) -> Option<&Destination> {
        let is_lost = self.lost.contains(&service);
        let checked = is_lost.then(|| self.checked(service)).flatten();
        checked?.sorry_server.as_ref()
    }

    /// Whether there is a port to check a server at.
    fn check_port(&self, used: &CheckedService, server: DestinationId) -> Result<(), CheckError> {
        let service = used.service;
        let mut checks = self.checks_named(&used.check);
        let has_none = |check: &&Check| check.port.is_none() && check.probe.has_port();
        match checks.find(has_none) {
            Some(check) if server.port() == 0 => {
                Err(CheckError::NoPort(service, server, check.name.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Why a service cannot be checked so: all that is wrong.
    fn errors_of(&self, used: &CheckedService, entry: &ServiceEntry) -> Vec<ChangeError> {
        let id = used.service;
        let mut wrong = Vec::new();
        let mut seen = HashSet::new();
        for name in used.check.iter() {
            if !self.checks.iter().any(|check| check.name == name) {
                wrong.push(CheckError::NoCheck(id, name.to_owned()));
            }
            let mut checks = self.checks.iter();
            let by_path = checks.any(|check| check.name == name && check.service_path);
            if by_path && matches!(id, ServiceId::Fwmark(_)) {
                wrong.push(CheckError::PathMark(id, name.to_owned()));
            }
            if !seen.insert(name) {
                wrong.push(CheckError::CheckTwice(id, name.to_owned()));
            }
        }
        let Quorum {
            weight,
            hysteresis,
            up,
            down,
            announce,
        } = &used.quorum;
        if *weight == 0 {
            wrong.push(CheckError::NoQuorum(id));
        } else if hysteresis >= weight {
            wrong.push(CheckError::Hysteresis(id, *hysteresis, *weight));
        }
        for (what, command) in [("quorum_up", up), ("quorum_down", down)] {
            let is_path = |program: &String| program.starts_with('/');
            if command.first().is_some_and(|program| !is_path(program)) {
                wrong.push(CheckError::Hook(id, what));
            }
        }
        if let Some(interface) = announce {
            if matches!(id, ServiceId::Fwmark(_)) {
                wrong.push(CheckError::NoAddress(id));
            }
            if !(1..=15).contains(&interface.len()) {
                wrong.push(CheckError::Announce(id, interface.clone()));
            }
        }
        let of_servers = entry.destinations.iter();
        wrong.extend(of_servers.filter_map(|server| self.check_server(used, server.id).err()));
        let mut wrong: Vec<ChangeError> = wrong.into_iter().map(Into::into).collect();
        let sorry_server = used.sorry_server.iter();
        wrong.extend(sorry_server.filter_map(|server| server.check(id).err()));
        wrong
    }

    /// Whether a server can be one of a service that is checked so.
    fn check_server(&self, used: &CheckedService, id: DestinationId) -> Result<(), CheckError> {
        if used
            .sorry_server
            .as_ref()
            .is_some_and(|sorry| sorry.id == id)
        {
            return Err(CheckError::SorryServerTwice(used.service, id));
        }
        self.check_port(used, id)?;
        self.check_path(used, id)
    }

    /// Whether a server can be asked by the path of its service, if a check wants that.
    fn check_path(&self, used: &CheckedService, server: DestinationId) -> Result<(), CheckError> {
        let service = used.service;
        let is_other_family = (service.family() == Family::Ipv4) != server.address().is_ipv4();
        let mut checks = self.checks_named(&used.check);
        match checks.find(|check| check.service_path) {
            Some(check) if is_other_family => {
                Err(CheckError::PathFamily(service, server, check.name.clone()))
            }
            _ => Ok(()),
        }
    }
}

impl Configuration {
    /// Why one more service cannot be checked as said, with the checks that are there: all that is wrong; nothing when it can.
    pub fn errors_of_checked(&self, used: &CheckedService) -> Vec<ChangeError> {
        match self.service(used.service) {
            Some(entry) => self.health.errors_of(used, entry),
            None => vec![ChangeError::NoService(used.service)],
        }
    }

    /// Replaces checks and who uses them. A server stays off while its service has a check.
    pub(crate) fn replace_checks(
        &mut self,
        checks: &[Check],
        services: &[CheckedService],
    ) -> Result<(), ChangeError> {
        let mut names = HashSet::new();
        for check in checks {
            if let Some(first) = check.errors().into_iter().next() {
                return Err(first.into());
            }
            if !names.insert(check.name.as_str()) {
                return Err(CheckError::Exists(check.name.clone()).into());
            }
        }
        let mut next = Health {
            checks: checks.to_vec(),
            services: services.to_vec(),
            ..Health::default()
        };
        next.services.sort_by_key(|used| used.service);
        for pair in next.services.windows(2) {
            if let [one, other] = pair
                && one.service == other.service
            {
                return Err(CheckError::ServiceTwice(one.service).into());
            }
        }
        let entries: std::collections::HashMap<ServiceId, &ServiceEntry> = self
            .services
            .iter()
            .map(|entry| (entry.service.id, entry))
            .collect();
        for used in &next.services {
            let id = used.service;
            let entry = entries.get(&id).ok_or(ChangeError::NoService(id))?;
            if let Some(first) = next.errors_of(used, entry).into_iter().next() {
                return Err(first);
            }
        }
        let known = std::mem::take(&mut self.health);
        let is_checked = |service| next.checked(service).is_some();
        let (mut off, mut adjusted, mut lost) = (known.off, known.adjusted, known.lost);
        off.retain(|server| is_checked(server.service));
        adjusted.retain(|server| is_checked(server.service));
        lost.retain(|service| is_checked(*service));
        let weights: Vec<(ServiceId, bool)> = next
            .services
            .iter()
            .filter_map(|used| {
                let id = used.service;
                let weight_up = weight_up(entries.get(&id)?, &off);
                Some((id, used.quorum.is_lost(lost.contains(&id), weight_up)))
            })
            .collect();
        let lost = weights.into_iter().filter(|(_, is_lost)| *is_lost);
        let lost = lost.map(|(service, _)| service).collect();
        self.health = Health {
            off,
            adjusted,
            lost,
            ..next
        };
        Ok(())
    }

    /// Takes a server off or brings it back; what is so already stays so.
    pub(crate) fn switch_server(
        &mut self,
        service: ServiceId,
        server: DestinationId,
        off: bool,
    ) -> Result<(), ChangeError> {
        self.find_server(service, server)?;
        if off && self.health.checked(service).is_none() {
            return Err(CheckError::NotChecked(service, server).into());
        }
        let switched = OffServer { service, server };
        if off {
            self.health.off.insert(switched);
        } else {
            self.health.off.remove(&switched);
        }
        self.settle_quorum(service);
        Ok(())
    }

    /// Gives a server another weight for the time being, or its own.
    pub(crate) fn adjust_server(
        &mut self,
        service: ServiceId,
        server: DestinationId,
        weight: Option<Weight>,
    ) -> Result<(), ChangeError> {
        self.find_server(service, server)?;
        if weight.is_some() && self.health.checked(service).is_none() {
            return Err(CheckError::NotChecked(service, server).into());
        }
        if let Some(known) = self.health.adjustment(service, server) {
            self.health.adjusted.remove(&known);
        }
        self.health
            .adjusted
            .extend(weight.map(|weight| AdjustedServer {
                service,
                server,
                weight,
            }));
        Ok(())
    }

    /// Services that lost their quorum before have not got it back by being read again, within the hysteresis.
    pub fn resume_lost_quorums(&mut self, lost: &BTreeSet<ServiceId>) {
        for service in lost {
            if self.health.checked(*service).is_some() {
                self.health.lost.insert(*service);
                self.settle_quorum(*service);
            }
        }
    }

    fn find_server(&self, service: ServiceId, server: DestinationId) -> Result<(), ChangeError> {
        let entry = self.service(service);
        let entry = entry.ok_or(ChangeError::NoService(service))?;
        let mut servers = entry.destinations.iter();
        let is_there = servers.any(|known| known.id == server);
        is_there
            .then_some(())
            .ok_or(ChangeError::NoDestination(service, server))
    }

    /// Whether a server may be added to a service, as its checks go.
    pub(crate) fn check_new_server(
        &self,
        service: ServiceId,
        server: DestinationId,
    ) -> Result<(), CheckError> {
        match self.health.checked(service) {
            Some(used) => self.health.check_server(used, server),
            None => Ok(()),
        }
    }

    /// A server was added.
    pub(crate) fn welcome_server(&mut self, service: ServiceId, server: DestinationId) {
        let checked = self.health.checked(service);
        if checked.is_some_and(|checked| checked.start_down) {
            self.health.off.insert(OffServer { service, server });
        }
        self.settle_quorum(service);
    }

    /// What is said of a server that is gone goes, too.
    pub(crate) fn forget_server(&mut self, service: ServiceId, server: DestinationId) {
        self.health.off.remove(&OffServer { service, server });
        if let Some(known) = self.health.adjustment(service, server) {
            self.health.adjusted.remove(&known);
        }
        self.settle_quorum(service);
    }

    /// The same of a service.
    pub(crate) fn forget_service(&mut self, service: ServiceId) {
        let health = &mut self.health;
        health.services.retain(|used| used.service != service);
        health.off.retain(|server| server.service != service);
        health.adjusted.retain(|server| server.service != service);
        health.lost.remove(&service);
    }

    /// The same of all services.
    pub(crate) fn forget_all_services(&mut self) {
        let checks = std::mem::take(&mut self.health.checks);
        self.health = Health {
            checks,
            ..Health::default()
        };
    }

    /// Servers or their weights have changed, or who is off.
    pub(crate) fn settle_quorum(&mut self, service: ServiceId) {
        let Some(checked) = self.health.checked(service) else {
            return;
        };
        let Some(entry) = self.service(service) else {
            return;
        };
        let weight_up = weight_up(entry, &self.health.off);
        let was_lost = self.health.lost.contains(&service);
        if checked.quorum.is_lost(was_lost, weight_up) {
            self.health.lost.insert(service);
        } else {
            self.health.lost.remove(&service);
        }
    }
}

/// The sum of the configured weights of servers that are not off.
fn weight_up(entry: &ServiceEntry, off: &BTreeSet<OffServer>) -> u64 {
    let service = entry.service.id;
    let is_up = |server| !off.contains(&OffServer { service, server });
    let up = entry.destinations.iter().filter(|known| is_up(known.id));
    up.map(|known| u64::from(known.weight.get())).sum()
}

#[cfg(test)]
mod tests;
