//! Health checks: what is asked of servers, which services want it, and which servers are off because of it.
//!
//! A server that is off keeps its configured weight: commands edit that one, `pollux save` writes it, and a polluxd that
//! starts knows it. What schedulers and listings see is [`Configuration::in_force`]: weight 0.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::configuration::{ChangeError, Configuration};
use crate::identity::{DestinationId, ServiceId, Weight};

/// A check by its name. One that several services use for the same server is done once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What is asked, and which answer is good.
    #[serde(flatten)]
    pub probe: Probe,
    /// Where; none: the server's own port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// From the start of one probe to that of the next, at most.
    pub interval_ms: u32,
    /// How long an answer may take.
    pub timeout_ms: u32,
    /// Good results in a row that bring a server back.
    pub rise: u16,
    /// Bad results in a row that take a server off.
    pub fall: u16,
}

/// What is asked, and which answer is good.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Probe {
    /// The server takes a TCP connection.
    Tcp,
    /// `GET` over HTTP/1.1 gives one of these status codes.
    Http {
        /// What is asked for.
        path: String,
        /// The `Host` header; none: address and port.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// Which status is good.
        status: StatusRange,
    },
}

/// Status codes of HTTP, `200-299` or `200`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// Whether the code is in it.
    pub fn contains(self, code: u16) -> bool {
        (self.first..=self.last).contains(&code)
    }
}

impl Default for StatusRange {
    /// What HTTP calls success.
    fn default() -> Self {
        Self {
            first: 200,
            last: 299,
        }
    }
}

/// Not a range of status codes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bad status \"{0}\": write a code as in \"200\", or a range as in \"200-299\"")]
pub struct StatusError(String);

impl FromStr for StatusRange {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let wrong = || StatusError(text.to_owned());
        let code = |digits: &str| {
            let code = digits.parse().map_err(|_| wrong())?;
            let is_code = digits.len() == 3 && (100..=599).contains(&code);
            is_code.then_some(code).ok_or_else(wrong)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self {
            first: code(first)?,
            last: code(last)?,
        };
        let in_order = range.first <= range.last;
        in_order.then_some(range).ok_or_else(wrong)
    }
}

impl TryFrom<String> for StatusRange {
    type Error = StatusError;

    fn try_from(text: String) -> Result<Self, StatusError> {
        text.parse()
    }
}

impl From<StatusRange> for String {
    fn from(range: StatusRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last {
            return write!(f, "{first}");
        }
        write!(f, "{first}-{last}")
    }
}

/// A service whose servers are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedService {
    /// The service.
    pub service: ServiceId,
    /// The name of the check.
    pub check: String,
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

/// Checks, who uses them, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The checks, each with a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Services whose servers are checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<CheckedService>,
    /// Servers that are off; only servers of services that are checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<OffServer>,
}

/// Why checks are not valid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckError {
    /// Two checks of one name.
    #[error("check \"{0}\" is there twice: every check needs a name of its own")]
    Exists(String),
    /// A service uses a check that is not there.
    #[error("service {0}: no such check: \"{1}\"; write a [[check]] of that name")]
    NoCheck(ServiceId, String),
    /// A service is there twice.
    #[error("service {0} is checked already: one check a service")]
    ServiceTwice(ServiceId),
    /// Neither check nor server has a port.
    #[error("server {1} of service {0} has no port to check: write port = NUMBER in check \"{2}\"")]
    NoPort(ServiceId, DestinationId, String),
    /// Only checks take servers off.
    #[error("service {0} has no check, so that nothing would bring server {1} back")]
    NotChecked(ServiceId, DestinationId),
    /// The probes would overlap.
    #[error(
        "check \"{0}\": timeout {1} ms is longer than interval {2} ms: write one at most as long"
    )]
    TimeoutTooLong(String, u32, u32),
    /// A number that means nothing.
    #[error("check \"{0}\": {1} is 0: write at least 1")]
    Zero(String, &'static str),
    /// A text that would break the request.
    #[error(
        "check \"{0}\": bad {1} \"{2}\": write it without spaces and control characters, a path from its slash on"
    )]
    Text(String, &'static str, String),
}

impl Check {
    fn validate(&self) -> Result<(), CheckError> {
        let name = || self.name.clone();
        if self.timeout_ms > self.interval_ms {
            return Err(CheckError::TimeoutTooLong(
                name(),
                self.timeout_ms,
                self.interval_ms,
            ));
        }
        for (what, value) in [
            ("timeout_ms", self.timeout_ms),
            ("rise", self.rise.into()),
            ("fall", self.fall.into()),
            ("port", self.port.unwrap_or(1).into()),
        ] {
            if value == 0 {
                return Err(CheckError::Zero(name(), what));
            }
        }
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if let Probe::Http { path, host, .. } = &self.probe {
            if !is_word(path) || !path.starts_with('/') {
                return Err(CheckError::Text(name(), "path", path.clone()));
            }
            if let Some(host) = host.as_ref().filter(|host| !is_word(host)) {
                return Err(CheckError::Text(name(), "host", host.clone()));
            }
        }
        Ok(())
    }
}

impl Health {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The check of a service.
    pub fn check_of(&self, service: ServiceId) -> Option<&Check> {
        let mut services = self.services.iter();
        let used = services.find(|used| used.service == service)?;
        self.checks.iter().find(|check| check.name == used.check)
    }

    /// Whether a server is off.
    pub fn is_off(&self, service: ServiceId, server: DestinationId) -> bool {
        self.off.contains(&OffServer { service, server })
    }
}

impl Configuration {
    /// What schedulers and listings see: servers that are off have weight 0.
    pub fn in_force(&self) -> Cow<'_, Self> {
        if self.health.off.is_empty() {
            return Cow::Borrowed(self);
        }
        let off: HashSet<&OffServer> = self.health.off.iter().collect();
        let mut seen = self.clone();
        for entry in &mut seen.services {
            for destination in &mut entry.destinations {
                let this = OffServer {
                    service: entry.service.id,
                    server: destination.id,
                };
                if off.contains(&this) {
                    destination.weight = Weight::ZERO;
                }
            }
        }
        Cow::Owned(seen)
    }

    /// Replaces checks and who uses them. A server stays off while its service has a check.
    pub(crate) fn replace_checks(
        &mut self,
        checks: &[Check],
        services: &[CheckedService],
    ) -> Result<(), ChangeError> {
        let next = Health {
            checks: checks.to_vec(),
            services: services.to_vec(),
            off: self.health.off.clone(),
        };
        for (index, check) in checks.iter().enumerate() {
            check.validate()?;
            if checks
                .iter()
                .take(index)
                .any(|known| known.name == check.name)
            {
                return Err(CheckError::Exists(check.name.clone()).into());
            }
        }
        for (index, used) in services.iter().enumerate() {
            let id = used.service;
            let entry = self.service(id).ok_or(ChangeError::NoService(id))?;
            if services.iter().take(index).any(|known| known.service == id) {
                return Err(CheckError::ServiceTwice(id).into());
            }
            if next.check_of(id).is_none() {
                return Err(CheckError::NoCheck(id, used.check.clone()).into());
            }
            for destination in &entry.destinations {
                next.check_port(id, destination.id)?;
            }
        }
        self.health = next;
        self.forget_the_gone();
        Ok(())
    }

    /// Takes a server off or brings it back; what is so already stays so.
    pub(crate) fn switch_server(
        &mut self,
        service: ServiceId,
        server: DestinationId,
        off: bool,
    ) -> Result<(), ChangeError> {
        let entry = self
            .service(service)
            .ok_or(ChangeError::NoService(service))?;
        if !entry.destinations.iter().any(|known| known.id == server) {
            return Err(ChangeError::NoDestination(service, server));
        }
        if off && self.health.check_of(service).is_none() {
            return Err(CheckError::NotChecked(service, server).into());
        }
        let switched = OffServer { service, server };
        self.health.off.retain(|known| *known != switched);
        if off {
            self.health.off.push(switched);
        }
        Ok(())
    }

    /// What is said of services and servers that are gone goes, too.
    pub(crate) fn forget_the_gone(&mut self) {
        if self.health.is_empty() {
            return;
        }
        let mut health = std::mem::take(&mut self.health);
        let services = &mut health.services;
        services.retain(|used| self.service(used.service).is_some());
        let is_checked = |id| services.iter().any(|used| used.service == id);
        let has = |off: &OffServer| {
            let entry = self.service(off.service);
            entry.is_some_and(|entry| {
                entry
                    .destinations
                    .iter()
                    .any(|known| known.id == off.server)
            })
        };
        health.off.retain(|off| is_checked(off.service) && has(off));
        self.health = health;
    }
}

impl Health {
    /// Whether there is a port to check a server at.
    pub(crate) fn check_port(
        &self,
        service: ServiceId,
        server: DestinationId,
    ) -> Result<(), CheckError> {
        match self.check_of(service) {
            Some(check) if check.port.is_none() && server.port() == 0 => {
                Err(CheckError::NoPort(service, server, check.name.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a server serves, as far as its check knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It does.
    Up,
    /// It is off.
    Down,
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Whether the answer was good.
    pub good: bool,
    /// Why: `connected in 2 ms`, `status 500`, ...
    pub reason: String,
    /// Milliseconds since then.
    pub age_ms: u64,
}

/// A server of a service, as its check sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// The service.
    pub service: ServiceId,
    /// The server.
    pub server: DestinationId,
    /// The name of the check.
    pub check: String,
    /// What came of it.
    pub state: ServerState,
    /// Milliseconds since the state last changed, or since this polluxd began to check.
    pub since_ms: u64,
    /// Results in a row that speak for the other state.
    pub against: u16,
    /// The last results, the newest first.
    pub recent: Vec<ProbeResult>,
}

#[cfg(test)]
mod tests;
