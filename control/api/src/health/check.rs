//! A check: what is asked of a server, how often, and how many answers decide.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::CheckError;
use super::probe::Probe;

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
    /// Whether it asks for the virtual address, on the server, by the method of the service's connections.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub service_path: bool,
    /// From the start of one probe to that of the next, at most.
    pub interval_ms: u32,
    /// How long an answer may take.
    pub timeout_ms: u32,
    /// Good results in a row that bring a server back.
    pub rise: u16,
    /// Bad results in a row that take a server off.
    pub fall: u16,
    /// By up to how much of the interval a probe comes earlier, in percent, so that checks do not fall together.
    #[serde(
        default = "jitter_percent",
        skip_serializing_if = "is_default_jitter_percent"
    )]
    pub jitter_percent: u8,
}

/// The jitter of a check that says nothing of it, in percent.
pub const JITTER_PERCENT: u8 = 10;

/// Larger ones would ask most servers much more often than it says.
pub const JITTER_PERCENT_MAX: u8 = 50;

fn jitter_percent() -> u8 {
    JITTER_PERCENT
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_default_jitter_percent(percent: &u8) -> bool {
    *percent == JITTER_PERCENT
}

impl Check {
    /// All that is wrong with it.
    pub fn errors(&self) -> Vec<CheckError> {
        let name = || self.name.clone();
        let mut wrong = Vec::new();
        if self.timeout_ms > self.interval_ms {
            let (timeout_ms, interval_ms) = (self.timeout_ms, self.interval_ms);
            wrong.push(CheckError::TimeoutTooLong(name(), timeout_ms, interval_ms));
        }
        for (what, value) in [
            ("timeout_ms", self.timeout_ms),
            ("rise", self.rise.into()),
            ("fall", self.fall.into()),
            ("port", self.port.unwrap_or(1).into()),
        ] {
            if value == 0 {
                wrong.push(CheckError::Zero(name(), what));
            }
        }
        if self.jitter_percent > JITTER_PERCENT_MAX {
            wrong.push(CheckError::Jitter(name(), self.jitter_percent));
        }
        if self.port.is_some() && !self.probe.has_port() {
            wrong.push(CheckError::NeedlessPort(name(), self.probe.kind()));
        }
        if self.service_path && !self.probe.has_port() {
            wrong.push(CheckError::PathKind(name(), self.probe.kind()));
        }
        let of_probe = self.probe.validate().err();
        wrong.extend(of_probe.map(|error| CheckError::Probe(name(), error)));
        wrong
    }
}

/// The names of a service's checks: one or more, all of which a server has to pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "OneOrMore", into = "OneOrMore")]
pub struct CheckNames(Vec<String>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl CheckNames {
    /// These names; none if there is none.
    pub fn new(names: Vec<String>) -> Option<Self> {
        (!names.is_empty()).then_some(Self(names))
    }

    /// The names, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// How many there are: one at least.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl From<&str> for CheckNames {
    fn from(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }
}

impl TryFrom<OneOrMore> for CheckNames {
    type Error = &'static str;

    fn try_from(names: OneOrMore) -> Result<Self, Self::Error> {
        match names {
            OneOrMore::One(name) => Ok(Self(vec![name])),
            OneOrMore::More(names) => Self::new(names).ok_or("no check: write one name at least"),
        }
    }
}

impl From<CheckNames> for OneOrMore {
    fn from(CheckNames(mut names): CheckNames) -> Self {
        match names.pop() {
            Some(name) if names.is_empty() => Self::One(name),
            Some(name) => {
                names.push(name);
                Self::More(names)
            }
            None => Self::More(names),
        }
    }
}

impl fmt::Display for CheckNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}
