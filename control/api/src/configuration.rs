//! The configuration that runs, the changes to it, and the one place that says which changes are valid.
//!
//! Order matters as in Linux: a new destination goes to the *front* of its service's list, and schedulers walk the
//! list from there (`ip_vs_ctl.c`, `__ip_vs_add_dest`).

mod change_reader;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::health::{Check, CheckError, CheckedService, Health};
use crate::identity::{DestinationId, Family, ForwardingMethod, Protocol, ServiceId, Weight};
use crate::ipvs_settings::{IpvsSettings, SettingError};
use crate::line::{Failure, FailureCode};
use crate::mark::MarkRule;
use crate::patch::{DestinationPatch, ServicePatch};
use crate::persistence::{Persistence, PersistenceEngine, PersistenceError};
use crate::scheduler::{SchedulerFlags, SchedulerName};
use crate::service_list::ServiceList;
use crate::service_timeouts::{ServiceTimeoutError, ServiceTimeouts};
use crate::synchronisation::{SyncDaemon, SyncDaemons, SyncError, SyncRole};
use crate::tunnel::{Tunnel, TunnelError};

/// A virtual service without its destinations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualService {
    /// Protocol, address, port.
    pub id: ServiceId,
    /// Who gets the next connection.
    #[serde(default)]
    pub scheduler: SchedulerName,
    /// Its flags.
    #[serde(default, skip_serializing_if = "is_without_flags")]
    pub scheduler_flags: SchedulerFlags,
    /// The flows of a client go to one server; none: each is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// What else tells clients of a persistent service apart; Linux keeps it for others too, where it means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<PersistenceEngine>,
    /// Each UDP datagram is scheduled, and no connection is kept: `ipvsadm --ops`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_packet: bool,
    /// How long its connections live, where that is not what the settings say.
    #[serde(default, skip_serializing_if = "ServiceTimeouts::is_default")]
    pub timeouts: ServiceTimeouts,
}

impl VirtualService {
    /// A service of all defaults.
    pub fn new(id: ServiceId) -> Self {
        Self {
            id,
            scheduler: SchedulerName::default(),
            scheduler_flags: SchedulerFlags::default(),
            persistence: None,
            persistence_engine: None,
            one_packet: false,
            timeouts: ServiceTimeouts::default(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_without_flags(flags: &SchedulerFlags) -> bool {
    flags.is_empty()
}

/// A real server of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Address and port.
    pub id: DestinationId,
    /// How packets reach it.
    #[serde(default)]
    pub method: ForwardingMethod,
    /// How they are wrapped, with [`ForwardingMethod::Tunnel`]; others have the default.
    #[serde(default, skip_serializing_if = "Tunnel::is_default")]
    pub tunnel: Tunnel,
    /// Its share of new connections; 0 drains it.
    #[serde(default)]
    pub weight: Weight,
    /// No new connections at this many (active and inactive); 0: no limit. Exact, not per worker.
    #[serde(default)]
    pub upper_threshold: u32,
    /// New connections again below this many; 0: three quarters of the upper one.
    #[serde(default)]
    pub lower_threshold: u32,
}

/// A service with its destinations, the last added first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEntry {
    /// The service.
    pub service: VirtualService,
    /// Its destinations, the last added first.
    #[serde(default)]
    pub destinations: Vec<Destination>,
}

/// All services. The empty one is valid.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The services, in the order they were added.
    #[serde(default)]
    pub services: ServiceList,
    /// The settings of IPVS that differ from the kernel's.
    #[serde(default, skip_serializing_if = "IpvsSettings::is_default")]
    pub settings: IpvsSettings,
    /// Which packets have which firewall mark; the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MarkRule>,
    /// How servers are checked, and which are off.
    #[serde(default, skip_serializing_if = "Health::is_empty")]
    pub health: Health,
    /// Which daemons of connection synchronisation run.
    #[serde(default, skip_serializing_if = "SyncDaemons::is_empty")]
    pub sync: SyncDaemons,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    remote = "Self",
    rename_all = "snake_case",
    tag = "change",
    deny_unknown_fields
)]
pub enum Change {
    /// A new service without destinations.
    AddService {
        /// The service.
        service: VirtualService,
    },
    /// Replaces the settings of a service; its destinations and connections stay.
    EditService {
        /// The service with its new settings.
        service: VirtualService,
    },
    /// Removes a service with its destinations.
    RemoveService {
        /// Which.
        id: ServiceId,
    },
    /// A new destination, at the front of the list.
    AddDestination {
        /// Of which service.
        service: ServiceId,
        /// The destination.
        destination: Destination,
    },
    /// Replaces the settings of a destination; its place in the list and its connections stay.
    EditDestination {
        /// Of which service.
        service: ServiceId,
        /// The destination with its new settings.
        destination: Destination,
    },
    /// Changes some settings of a service; all else stays.
    PatchService {
        /// Which.
        id: ServiceId,
        /// What changes.
        patch: ServicePatch,
    },
    /// Changes some settings of a destination; all else stays.
    PatchDestination {
        /// Of which service.
        service: ServiceId,
        /// Which.
        id: DestinationId,
        /// What changes.
        patch: DestinationPatch,
    },
    /// Removes a destination.
    RemoveDestination {
        /// Of which service.
        service: ServiceId,
        /// Which.
        id: DestinationId,
    },
    /// Removes every service.
    Flush,
    /// Sets settings of IPVS, by name.
    Set {
        /// Names and values.
        settings: BTreeMap<String, u32>,
    },
    /// Adds a rule that gives a mark, behind the others.
    AddMark {
        /// The rule.
        rule: MarkRule,
    },
    /// Removes a rule.
    RemoveMark {
        /// The rule.
        rule: MarkRule,
    },
    /// Replaces all rules.
    ReplaceMarks {
        /// The rules.
        rules: Vec<MarkRule>,
    },
    /// Replaces all checks, and which services use them.
    ReplaceChecks {
        /// The checks.
        checks: Vec<Check>,
        /// The services.
        services: Vec<CheckedService>,
    },
    /// A check takes a server off, or brings it back; its configured weight stays.
    SwitchServer {
        /// Of which service.
        service: ServiceId,
        /// Which.
        id: DestinationId,
        /// Whether it is off from now on.
        off: bool,
    },
    /// A check gives a server another weight for the time being, or its own again; its configured weight stays.
    AdjustServer {
        /// Of which service.
        service: ServiceId,
        /// Which.
        id: DestinationId,
        /// The weight; none: the configured one.
        weight: Option<Weight>,
    },
    /// Starts a daemon of connection synchronisation.
    StartSync {
        /// Which.
        role: SyncRole,
        /// How.
        daemon: SyncDaemon,
    },
    /// Stops one.
    StopSync {
        /// Which.
        role: SyncRole,
    },
}

/// Changes that are done together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// The generation the changes were made against; another one running is a conflict. None: whichever runs.
    pub base_generation: Option<u64>,
    /// In order.
    pub changes: Vec<Change>,
}

/// Why a change is not valid. The configuration it was tried on is untouched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// Add of a service that is there.
    #[error("service {0} already exists: change it with `pollux service edit`")]
    ServiceExists(ServiceId),
    /// Edit, removal or use of a service that is not there.
    #[error("no such service: {0}; `pollux show services` lists those that run")]
    NoService(ServiceId),
    /// Add of a destination that is there.
    #[error("server {1} of service {0} already exists: change it with `pollux server edit`")]
    DestinationExists(ServiceId, DestinationId),
    /// Edit or removal of a destination that is not there.
    #[error("no such server: service {0} has no server {1}; `pollux show services` lists them")]
    NoDestination(ServiceId, DestinationId),
    /// A destination of the other address family with a method that cannot carry it.
    #[error(
        "server {1} is not of the address family of service {0}: only method tunnel (-i) can join IPv4 and IPv6, \
         {2} needs a server of the service's own family"
    )]
    WrongFamily(ServiceId, DestinationId, ForwardingMethod),
    /// A tunnel that the server cannot have.
    #[error("server {1} of service {0}: {2}")]
    Tunnel(ServiceId, DestinationId, TunnelError),
    /// A flag of another scheduler.
    #[error(
        "service {0}: scheduler flag {1} is one of scheduler {2}, and this one is {3}: leave it out, or write -s {2}"
    )]
    ForeignFlag(ServiceId, String, SchedulerName, SchedulerName),
    /// A port without meaning.
    #[error(
        "server {1} of service {0}: port 0 is the packet's own, for services of a mark or of all ports: write the server's \
         port"
    )]
    NoServerPort(ServiceId, DestinationId),
    /// A service of all ports that is not persistent.
    #[error(
        "service {0}: a service of all ports must be persistent, or what belongs together would part: make it so, or \
         write a port"
    )]
    AnyPortNotPersistent(ServiceId),
    /// Persistence that the service cannot have.
    #[error("service {0}: {1}")]
    Persistence(ServiceId, PersistenceError),
    /// One-packet scheduling of something else than datagrams.
    #[error("service {0}: one-packet scheduling is only for UDP services: leave it out")]
    OnePacket(ServiceId),
    /// A timeout that the service cannot have.
    #[error("service {0}: {1}")]
    Timeouts(ServiceId, ServiceTimeoutError),
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A health check.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A daemon of connection synchronisation.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// A rule that is there.
    #[error("the rule \"{0}\" is there already")]
    MarkExists(Box<MarkRule>),
    /// A rule that is not there.
    #[error("no such rule: \"{0}\"; `pollux mark list` lists them")]
    NoMark(Box<MarkRule>),
    /// A rule that no packet matches.
    #[error(
        "the rule \"{0}\" matches no packet: source and destination are of different IP versions"
    )]
    MarkFamilies(Box<MarkRule>),
    /// Lower above upper.
    #[error(
        "server {1} of service {0}: lower threshold {2} is above upper threshold {3}: write -y at most as large as -x"
    )]
    Thresholds(ServiceId, DestinationId, u32, u32),
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let code = match error {
            ChangeError::ServiceExists(_)
            | ChangeError::DestinationExists(..)
            | ChangeError::MarkExists(_)
            | ChangeError::Sync(SyncError::Runs(_)) => FailureCode::AlreadyExists,
            ChangeError::NoService(_)
            | ChangeError::NoDestination(..)
            | ChangeError::NoMark(_)
            | ChangeError::Sync(SyncError::DoesNotRun(_))
            | ChangeError::Setting(SettingError::Unknown(_)) => FailureCode::NotFound,
            ChangeError::NoServerPort(..)
            | ChangeError::AnyPortNotPersistent(_)
            | ChangeError::Persistence(..)
            | ChangeError::OnePacket(_)
            | ChangeError::Timeouts(..)
            | ChangeError::Setting(_)
            | ChangeError::Check(_)
            | ChangeError::Sync(_)
            | ChangeError::MarkFamilies(_)
            | ChangeError::WrongFamily(..)
            | ChangeError::ForeignFlag(..)
            | ChangeError::Tunnel(..)
            | ChangeError::Thresholds(..) => FailureCode::Invalid,
        };
        Self::new(code, error)
    }
}

fn is_of_other_family(service: ServiceId, server: DestinationId) -> bool {
    server.address().is_ipv4() != (service.family() == Family::Ipv4)
}

impl Configuration {
    /// The configuration after the changes; `self` is untouched, so a failed change leaves nothing half-applied.
    ///
    /// # Errors
    /// The first change that is not valid.
    pub fn apply(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        for change in changes {
            next.apply_one(change)?;
        }
        Ok(next)
    }

    /// The services that may be [in force](Configuration::in_force) otherwise than those of the configuration that this one was
    /// made from: in the order they are in here, then those that are gone.
    pub fn changed_services(&self, before: &Self) -> Vec<ServiceId> {
        let mut changed = self.services.changed_since(&before.services);
        changed.extend(self.health.changed_since(&before.health));
        if changed.is_empty() {
            return Vec::new();
        }
        let all = self.services.iter().map(|entry| entry.service.id);
        let mut ordered: Vec<ServiceId> = all.filter(|id| changed.remove(id)).collect();
        let mut gone: Vec<ServiceId> = changed.into_iter().collect();
        gone.sort_unstable();
        ordered.append(&mut gone);
        ordered
    }

    /// The service's entry.
    pub fn service(&self, id: ServiceId) -> Option<&ServiceEntry> {
        self.services.get(id)
    }

    fn service_mut(&mut self, id: ServiceId) -> Result<&mut ServiceEntry, ChangeError> {
        self.services.get_mut(id).ok_or(ChangeError::NoService(id))
    }

    /// Applies one change in place.
    ///
    /// # Errors
    /// Why the change is not valid; the configuration is as before then.
    pub fn apply_one(&mut self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::AddService { service } => {
                let is_new = !self.services.contains(service.id);
                let checked = is_new.then(|| service.checked());
                let service = checked.ok_or(ChangeError::ServiceExists(service.id))??;
                self.services.push(ServiceEntry {
                    service,
                    destinations: Vec::new(),
                });
            }
            Change::EditService { service } => {
                self.service_mut(service.id)?.service = service.checked()?;
            }
            Change::RemoveService { id } => {
                self.service(*id).ok_or(ChangeError::NoService(*id))?;
                self.services.remove(*id);
                self.forget_service(*id);
            }
            Change::AddDestination {
                service,
                destination,
            } => {
                self.service(*service)
                    .ok_or(ChangeError::NoService(*service))?;
                self.check_new_server(*service, destination.id)?;
                if !self.sync.is_empty() && is_of_other_family(*service, destination.id) {
                    return Err(SyncError::MixedFamilies(*service, destination.id).into());
                }
                let entry = self.service_mut(*service)?;
                destination.check(*service)?;
                if entry
                    .destinations
                    .iter()
                    .any(|known| known.id == destination.id)
                {
                    return Err(ChangeError::DestinationExists(*service, destination.id));
                }
                entry.destinations.insert(0, destination.clone());
                self.welcome_server(*service, destination.id);
            }
            Change::EditDestination {
                service,
                destination,
            } => {
                let known = self
                    .service_mut(*service)?
                    .destination_mut(destination.id)?;
                destination.check(*service)?;
                *known = destination.clone();
                self.settle_quorum(*service);
            }
            Change::PatchService { id, patch } => {
                let known = &mut self.service_mut(*id)?.service;
                *known = patch.applied_to(known).checked()?;
            }
            Change::PatchDestination { service, id, patch } => {
                let known = self.service_mut(*service)?.destination_mut(*id)?;
                let patched = patch.applied_to(known);
                patched.check(*service)?;
                *known = patched;
                self.settle_quorum(*service);
            }
            Change::RemoveDestination { service, id } => {
                let entry = self.service_mut(*service)?;
                entry.destination_mut(*id)?;
                entry.destinations.retain(|known| known.id != *id);
                self.forget_server(*service, *id);
            }
            Change::Flush => {
                self.services.clear();
                self.forget_all_services();
            }
            Change::Set { settings } => {
                let mut next = self.settings.clone();
                for (name, value) in settings {
                    next.set(name, *value)?;
                }
                next.check()?;
                self.settings = next;
            }
            Change::AddMark { rule } => {
                let mut next = self.marks.clone();
                next.push(rule.clone());
                self.marks = checked_marks(next)?;
            }
            Change::RemoveMark { rule } => {
                let place = self.marks.iter().position(|known| known == rule);
                let place = place.ok_or_else(|| ChangeError::NoMark(Box::new(rule.clone())))?;
                self.marks.remove(place);
            }
            Change::ReplaceMarks { rules } => self.marks = checked_marks(rules.clone())?,
            Change::ReplaceChecks { checks, services } => self.replace_checks(checks, services)?,
            Change::SwitchServer { service, id, off } => self.switch_server(*service, *id, *off)?,
            Change::AdjustServer {
                service,
                id,
                weight,
            } => self.adjust_server(*service, *id, *weight)?,
            Change::StartSync { role, daemon } => {
                let entries = self.services.iter();
                let mut servers = entries.flat_map(|entry| {
                    let servers = entry.destinations.iter();
                    servers.map(|server| (entry.service.id, server.id))
                });
                let mixed = servers.find(|(service, id)| is_of_other_family(*service, *id));
                if let Some((service, id)) = mixed {
                    return Err(SyncError::MixedFamilies(service, id).into());
                }
                self.sync.start(*role, daemon)?;
            }
            Change::StopSync { role } => self.sync.stop(*role)?,
        }
        Ok(())
    }
}

/// Rules that can match something, each there once.
fn checked_marks(rules: Vec<MarkRule>) -> Result<Vec<MarkRule>, ChangeError> {
    let mut seen = HashSet::new();
    for rule in &rules {
        let families = rule.source.zip(rule.destination);
        if families.is_some_and(|(from, to)| from.addr().is_ipv4() != to.addr().is_ipv4()) {
            return Err(ChangeError::MarkFamilies(Box::new(rule.clone())));
        }
        if !seen.insert(rule) {
            return Err(ChangeError::MarkExists(Box::new(rule.clone())));
        }
    }
    Ok(rules)
}

impl ServiceEntry {
    fn destination_mut(&mut self, id: DestinationId) -> Result<&mut Destination, ChangeError> {
        let service = self.service.id;
        self.destinations
            .iter_mut()
            .find(|known| known.id == id)
            .ok_or(ChangeError::NoDestination(service, id))
    }
}

impl VirtualService {
    /// The service as it is kept: flags by the names its scheduler has for them.
    fn checked(&self) -> Result<Self, ChangeError> {
        let scheduler = self.scheduler;
        if let Some((flag, of)) = self.scheduler_flags.foreign_to(scheduler) {
            return Err(ChangeError::ForeignFlag(self.id, flag, of, scheduler));
        }
        let is_udp = matches!(self.id, ServiceId::Address(id) if id.protocol == Protocol::Udp);
        if self.one_packet && matches!(self.id, ServiceId::Address(_)) && !is_udp {
            return Err(ChangeError::OnePacket(self.id));
        }
        if self.persistence.is_none()
            && self.id.port() == 0
            && matches!(self.id, ServiceId::Address(_))
        {
            return Err(ChangeError::AnyPortNotPersistent(self.id));
        }
        self.timeouts
            .check(self.id)
            .map_err(|error| ChangeError::Timeouts(self.id, error))?;
        let family = self.id.family();
        let persistence = self.persistence.map(|found| found.checked(family));
        let persistence = persistence
            .transpose()
            .map_err(|error| ChangeError::Persistence(self.id, error))?;
        Ok(Self {
            persistence,
            scheduler_flags: self.scheduler_flags.named_for(scheduler),
            ..self.clone()
        })
    }
}

impl Destination {
    /// What `ip_vs_add_dest` and `ipvsadm` refuse.
    pub(crate) fn check(&self, service: ServiceId) -> Result<(), ChangeError> {
        let same_family = self.id.address().is_ipv4() == (service.family() == Family::Ipv4);
        if !same_family && self.method != ForwardingMethod::Tunnel {
            return Err(ChangeError::WrongFamily(service, self.id, self.method));
        }
        // Of method direct or tunnel it may be any other: packets keep theirs, and checks go there.
        if self.id.port() == 0 && service.port() != 0 {
            return Err(ChangeError::NoServerPort(service, self.id));
        }
        self.tunnel
            .check(self.method)
            .map_err(|error| ChangeError::Tunnel(service, self.id, error))?;
        // Also with no upper threshold (0), as the kernel has it: a lower one alone would mean nothing.
        if self.lower_threshold > self.upper_threshold {
            return Err(ChangeError::Thresholds(
                service,
                self.id,
                self.lower_threshold,
                self.upper_threshold,
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
